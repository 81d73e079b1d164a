// Hang a sensor or swap one, on one screen: place, photos, sensor, first reading. What is not there yet can
// follow later; only a record that names no sensor is not taken.
import { foot, h, icon, of, screen, tell, title } from "./app.js";
import { numberOf, plausibility } from "./judge.js";
import { waterMap } from "./map.js";
import { asPhotos, button, card, chip, deploymentOf, distanceText, isoOf, link, numberField, openDraft, parameters, photoField, placeCard, say, stationOf, textField, unitText, valueText } from "./parts.js";
import { placeNow } from "./place.js";
import { codeInto } from "./scan.js";
import * as store from "./store.js";
import { metresBetween, metresFromLine } from "./track.js";

const FAR_M = 200;
const ON_WATER_M = 50;

screen("/s/:station/hang", (place, { station }) => hang(place, station, null), { form: true });
screen("/s/:station/hang/:parameter", (place, { station, parameter }) => hang(place, station, parameter), { form: true });
screen("/new/:station", (place, { station }) => hang(place, station, null), { form: true });

async function hang(place, key, fixed) {
  const [station, known, bundle] = await Promise.all([stationOf(key), parameters(), store.bundle()]);
  const hash = location.hash.slice(1);
  const back = station ? `/s/${encodeURIComponent(key)}` : "/scan";
  const heading = say(fixed ? "swap_sensor" : station ? "hang_sensor" : "new_station");
  const begun = { parameter: fixed, name: "", place: null, photos: [], depth: null, serial: "", model: "", reading: "", since: null };
  const draft = await openDraft(`hang:${key}:${fixed ?? ""}`, begun, { hash, title: `${heading} ${of(station?.name) || key}` });
  const { value } = draft;
  let end = () => {};
  const before = () => deploymentOf(station, value.parameter);
  const rangeOf = () => before()?.plausible ?? bundle?.rules?.plausible?.[value.parameter] ?? null;
  const unitOf = () => before()?.unit ?? known.get(value.parameter)?.unit ?? "";

  function draw() {
    end();
    title(heading, of(station?.name) || key, back);
    place.replaceChildren(...whereParts(), photoField("hang-photo", say("photos_hang"), value.photos, (photos) => draft.set({ photos })), ...sensorParts(), ...readingParts());
    foot(button("hang-finish", say("finish"), finish, { main: true, mark: "done" }));
  }

  function whereParts() {
    const map = h("div", {});
    const line = bundle?.reaches?.find((one) => one.key === station?.reach)?.line ?? [];
    const words = (fix) => {
      if (!station) return say("place_of_new");
      const metres = metresBetween(fix, station);
      const parts = [say("from_registered", { far: distanceText(metres) })];
      if (line.length > 1 && metresFromLine(fix, line) <= ON_WATER_M) parts.push(say("on_water"));
      if (metres > FAR_M) parts.push(say("is_it_here"));
      return parts.join(" · ");
    };
    const shown = placeCard("hang-place", words, (fix) => {
      if (!value.place || fix.accuracy_m <= value.place.accuracy_m) value.place = placeNow(); // the best one; stored with the next input
      const doubtful = !station || metresBetween(fix, station) > FAR_M;
      map.replaceChildren(...(doubtful ? [waterMap({ lines: [line], here: fix, points: station ? [{ ...station, text: say("registered") }] : [] }, say("map_of", { name: of(station?.name) || key }))] : []));
    });
    end = shown.end;
    return [
      station ? null : card({ class: "fw-between" }, h("div", {}, h("h2", {}, key), h("p", { class: "f-small" }, say("unknown_why"))), chip("dev", say("is_new"))),
      station ? null : textField("hang-name", say("station_name"), value.name, (name) => draft.set({ name }), { hint: say("may_be_empty"), maxlength: 80 }),
      shown.element, map,
    ].filter(Boolean);
  }

  function sensorParts() {
    const old = before();
    const depth = numberField("hang-depth", say("depth"), value.depth ?? old?.depth_m ?? "", (text) => draft.set({ depth: text }), {
      hint: old?.depth_m ? say("depth_before", { n: old.depth_m }) : say("may_be_empty") });
    const input = depth.querySelector("input");
    const by = (step) => () => {
      const now = Math.max(0, (numberOf(input.value) ?? 0) + step);
      input.value = now.toFixed(2);
      draft.set({ depth: input.value });
    };
    const stepper = h("span", { class: "fw-stepper" });
    input.replaceWith(stepper);
    stepper.append(h("button", { type: "button", onclick: by(-0.05), "aria-label": say("less") }, "−"), input,
      h("button", { type: "button", onclick: by(0.05), "aria-label": say("more") }, "+"));
    const serial = textField("hang-serial", say("serial"), value.serial, (text) => draft.set({ serial: text.trim() }), {
      maxlength: 64, autocapitalize: "characters", spellcheck: "false",
      hint: old?.serial ? say("serial_before", { serial: old.serial, model: old.model ?? "" }) : null,
      after: button("hang-serial-scan", say("scan"), () => codeInto(serial.querySelector("input")), { mark: "scan" }) });
    const model = textField("hang-model", say("model"), value.model || old?.model || "", (text) => draft.set({ model: text.trim() }), { maxlength: 80 });
    const chosen = fixed
      ? null
      : h("label", { class: "f-field" }, h("span", {}, say("which_parameter")), h("select", { "data-testid": "hang-parameter", onchange: async (event) => (await draft.set({ parameter: event.target.value || null }), draw()) },
          h("option", { value: "" }, say("choose")), [...known].map(([key_, one]) => h("option", { value: key_, selected: key_ === value.parameter }, of(one.name)))));
    return [chosen, serial, depth, model].filter(Boolean);
  }

  function readingParts() {
    const range = rangeOf();
    const light = h("div", { "aria-live": "polite" });
    const show = () => light.replaceChildren(lightCard(numberOf(value.reading), range, unitOf()));
    const reading = numberField("hang-reading", say("first_reading", { name: of(known.get(value.parameter)?.name) || value.parameter || "", unit: unitText(unitOf()) }), value.reading,
      (text) => (draft.set({ reading: text, since: value.since ?? isoOf(Date.now()) }), show()), { hint: range ? say("usual", { low: range[0], high: range[1] }) : null });
    show();
    return [reading, light];
  }

  async function finish() {
    if (!value.parameter) return place.querySelector("select").focus();
    if (!value.serial && !value.photos.length) { // else one tap takes the serial of what hangs there away
      tell(say("hang_needs"));
      return place.querySelector('[data-testid="hang-serial"]').focus();
    }
    const old = before();
    const reading = numberOf(value.reading);
    const depth_m = numberOf(value.depth ?? String(old?.depth_m ?? ""));
    const record = {
      object: { station: key, name: of(station?.name) || value.name || key, parameter: value.parameter },
      base: old?.etag ?? null,
      old: old ? { serial: old.serial, model: old.model, unit: old.unit, depth_m: old.depth_m } : null,
      new: {
        parameter: value.parameter, serial: value.serial, model: value.model || old?.model || "", unit: unitOf() || null, depth_m, since: value.since ?? isoOf(Date.now()),
        place: placeNow() ?? value.place, reading, station_new: station ? null : { name: value.name || key },
      },
    };
    const id = await draft.finish("hang", record, asPhotos(value.photos, "hang"));
    title(heading, of(station?.name) || key, back);
    const parameter = encodeURIComponent(value.parameter);
    end();
    end = () => {};
    place.replaceChildren(
      card({ class: "fw-saved", "data-testid": "hang-saved" }, icon("done", 44), h("h2", {}, say("saved")), h("p", {}, say(station ? "saved_sends" : "saved_new"))),
      card({}, h("dl", { class: "f-facts" },
        ...fact(say("serial"), value.serial || "—", old?.serial), ...fact(say("depth"), valueText(depth_m, "m"), old && valueText(old.depth_m, "m")),
        ...fact(say("reading"), valueText(reading, unitOf())), ...fact(say("place"), record.new.place ? say("accuracy", { n: record.new.place.accuracy_m }) : say("no_place")))));
    foot(link("hang-back", station ? back : "/", say(station ? "to_station" : "home")), 
      station && link("hang-calibrate", `${back}/calibrate/${parameter}`, say("calibrate"), "probe"),
      !station && !record.new.place && link("hang-add-place", `/place/${id}`, say("add_place"), "pin"));
    scrollTo(0, 0);
  }

  draw();
  return () => end();
}

function fact(name, text, old = null) {
  return [h("dt", {}, name), h("dd", {}, h("b", {}, text), old && old !== text ? h("small", {}, say("old_value", { old })) : null)];
}

// The plausibility of a first reading in words; it never blocks.
function lightCard(reading, range, unit) {
  const found = plausibility(reading, range);
  if (reading === null) return card({ "data-testid": "hang-light", "data-light": "none" }, h("h2", {}, say("light_none")), h("p", {}, say("light_none_note")));
  const values = { value: valueText(reading, unit), low: range?.[0], high: range?.[1] };
  return card({ class: found === "ok" ? "fw-light" : "fw-light fw-dev", "data-testid": "hang-light", "data-light": found },
    icon({ ok: "done", unknown: "clock" }[found] ?? "help", 44), h("div", {}, h("h2", {}, say(`light_${found}`, values)), h("p", {}, say(`light_${found}_note`, values))));
}
