// A station: what hangs there, what is due, and what can be done.
import { ago, h, icon, language, moment, of, screen, tell, title } from "./app.js";
import { button, card, chip, link, say, stationOf, unsentAbout, valueText } from "./parts.js";
import { endVisit, openVisits, overrun, startVisit } from "./visit.js";
import * as store from "./store.js";

screen("/s/:station", async (place, { station: key }) => {
  const station = await stationOf(key);
  if (!station) return unknown(place, key);
  title(of(station.name), key);
  const end = store.on((what, elsewhere) => what === "records" || elsewhere ? draw() : null);
  async function draw() {
    const visit = (await openVisits()).find((one) => one.object.station === key);
    const unsent = await unsentAbout((one) => one.object.station === key && one.id !== visit?.id);
    const path = `/s/${encodeURIComponent(key)}`;
    place.replaceChildren(...[
      station.retired && card({ class: "fw-dev", "data-testid": "station-retired" }, h("p", {}, say("retired"))),
      visit ? visitCard(visit, path) : null,
      unsent.length && card({ "data-testid": "station-unsent" }, h("p", {}, icon("up", 20), " ", say("unsent_here", { n: unsent.length })), h("a", { href: "#/queue" }, say("see_queue"))),
      ...(station.deployments.length ? station.deployments.map((one) => deployment(one, path)) : [card({ "data-testid": "station-empty" }, h("p", {}, say("nothing_hangs")))]),
      h("div", { class: "f-row" },
        link("station-hang", `${path}/hang`, say("hang"), "probe"),
        visit ? link("station-visit", `${path}/visit`, say("visit_on"), "wrench") : button("station-start", say("visit_start"), () => startVisit(key, []), { mark: "wrench" })),
    ].filter(Boolean));
  }
  await draw();
  return end;
});

function unknown(place, key) {
  title(key);
  place.append(card({ class: "fw-dev", "data-testid": "station-unknown" }, h("h2", {}, say("unknown_code", { code: key })), h("p", {}, say("unknown_why")),
    h("div", { class: "f-row" }, link("station-new", `/new/${encodeURIComponent(key)}`, say("hang_new"), "probe"), link("station-report", "/report", say("report"), "camera"))));
}

function visitCard(visit, path) {
  const late = overrun(visit);
  const what = visit.new.parameters.length ? say("visit_sensor") : say("visit_station");
  return card({ class: "fw-dev fw-between", "data-testid": "station-visiting" },
    h("div", {}, h("h2", {}, say("visiting", { at: moment(visit.new.began_at) })), h("p", {}, what, late ? ` ${say("visit_late", { time: ago(late) })}` : "")),
    h("div", { class: "f-row" }, button("station-end", say("visit_end"), async () => (await endVisit(visit), tell(say("visit_ended")))), link("station-visit-photo", `${path}/visit`, say("photo"), "camera")));
}

function deployment(one, path) {
  const now = Date.now();
  const due = one.due_at ? Date.parse(one.due_at) : null;
  const late = due !== null && due < now;
  const said = [one.model, one.serial && say("serial_n", { serial: one.serial }), one.depth_m !== null && one.depth_m !== undefined && say("deep", { n: one.depth_m }), one.since && say("since", { at: dayOf(Date.parse(one.since)) })];
  const to = encodeURIComponent(one.parameter);
  return card({ "data-testid": `station-sensor-${one.parameter}` },
    h("div", { class: "fw-between" }, h("h2", {}, of(one.name)),
      h("p", { class: "fw-value" }, h("b", {}, valueText(one.latest?.value, one.unit)), h("small", {}, one.latest ? say("ago", { time: ago(now - Date.parse(one.latest.at)) }) : say("no_reading")))),
    h("p", { class: "f-small" }, said.filter(Boolean).join(" · ") || say("no_details")),
    h("div", { class: "fw-between" }, due === null ? h("span", { class: "f-small" }, say("no_interval")) : chip(late ? "dev" : "plain", say(late ? "due_late" : "due", { at: dayOf(due) })),
      h("div", { class: "f-row" }, link(`station-swap-${one.parameter}`, `${path}/hang/${to}`, say("swap")), link(`station-calibrate-${one.parameter}`, `${path}/calibrate/${to}`, say("calibrate")))));
}

export function dayOf(ms) {
  const day = new Date(ms + 8 * 3600e3);
  return language === "en" ? day.toISOString().slice(5, 10) : `${day.getUTCMonth() + 1}月${day.getUTCDate()}日`;
}

