// The screens of work at the water, and what of it is not finished on the first screen.
import { ago, h, here, icon, report } from "./app.js";
import "./calibrate.js";
import { inEffect } from "./correct.js";
import "./hang.js";
import { link, openForms, say } from "./parts.js";
import "./patrol.js";
import { followIfGranted } from "./place.js";
import * as recorder from "./recorder.js";
import { withoutPlace } from "./report.js";
import "./scan.js";
import "./station.js";
import { record } from "./store.js";
import "./task.js";
import { openVisits, overrun } from "./visit.js";

const MOST = 4;

followIfGranted(({ state, fix }) => {
  if (fix) report({ gps: { accuracy_m: fix.accuracy_m } });
  else report({ gps: state === "denied" ? { problem: say("gps_denied") } : null });
});
recorder.takeUp();

const entry = (name, hash, mark, text) =>
  h("a", { class: "fw-open", href: `#${hash}`, "data-testid": name }, icon(mark, 26), h("span", { class: "f-grow" }, text), h("b", {}, say("go_on")));

// A patrol, visits that were forgotten, forms, and records that want a place.
async function unfinished() {
  const [patrol, visits, forms, placeless] = await Promise.all([recorder.current(), openVisits(), openForms(), withoutPlace()]);
  const found = patrol ? [entry("field-patrol-on", "/patrol", "walk", say(patrol.ended_ms ? "patrol_not_saved" : patrol.paused ? "patrol_paused" : "patrolling"))] : [];
  for (const one of visits.filter(overrun)) {
    found.push(entry("field-visit-late", `/s/${encodeURIComponent(one.object.station)}/visit`, "wrench", say("visit_late_at", { name: one.object.name || one.object.station, time: ago(overrun(one)) })));
  }
  for (const { hash, title } of forms) found.push(entry("field-form-open", hash, "file", title));
  for (const one of placeless) found.push(entry("field-place-wanted", `/place/${one.id}`, "pin", `${say("add_place")}${say("colon")}${one.new.text ?? one.new.station_new.name}`));
  return found.slice(0, MOST);
}

async function extra(path) {
  if (path === "/") return unfinished();
  const [, id] = path.match(/^\/queue\/([0-9a-f-]+)$/) ?? [];
  if (!id) return [];
  if (await inEffect(await record(id))) return [link("queue-correct", `/correct/${id}`, say("correct"), "retry")];
  if (!(await withoutPlace()).some((one) => one.id === id)) return [];
  return [link("queue-add-place", `/place/${id}`, say("add_place"), "pin")];
}

addEventListener("field-drawn", async () => {
  const path = here();
  document.getElementById("fw-extra")?.remove();
  const found = await extra(path);
  if (here() !== path || !found.length || document.getElementById("fw-extra")) return;
  document.getElementById("field-main").prepend(h("section", { id: "fw-extra", "aria-label": say("unfinished") }, found));
});
