// Calibrate a sensor: the verdict while typing, and the visit that mutes this sensor only while it lasts.
import { foot, go, h, icon, moment, of, screen, tell, title } from "./app.js";
import { judge, numberOf } from "./judge.js";
import { asPhotos, button, card, choices, deploymentOf, isoOf, openDraft, photoField, say, stationOf, textField, numberField, unitText, verdictField } from "./parts.js";
import { codeInto } from "./scan.js";
import { dayOf } from "./station.js";
import * as store from "./store.js";
import { endVisit, openVisits, startVisit } from "./visit.js";

const DAY_MS = 24 * 3600e3;
const STANDARDS = { ph: ["4.00", "6.86", "9.18"], do: ["8.25", "0.00"] }; // buffers at 25 °C; saturated water at 25 °C, zero

screen("/s/:station/calibrate/:parameter", async (place, { station: key, parameter }) => {
  const [station, bundle] = await Promise.all([stationOf(key), store.bundle()]);
  const back = `/s/${encodeURIComponent(key)}`;
  const hangs = deploymentOf(station, parameter);
  const name = of(hangs?.name) || parameter;
  const heading = say("calibrate_n", { name });
  const last = (await store.draft(`last-calibration:${parameter}`)) ?? {};
  const begun = { began_at: null, standard: last.standard ?? "", before: "", after: "", lot: last.lot ?? "", note: "", photos: [] };
  const draft = await openDraft(`calibrate:${key}:${parameter}`, begun, { hash: location.hash.slice(1), title: `${heading} ${of(station?.name) || key}` });
  const { value } = draft;
  const limitOf = () => limitFor(bundle, parameter);
  title(heading, of(station?.name) || key, back);

  // The first input begins the work: a visit of this sensor, unless the station is being visited already.
  const set = async (changes) => {
    const begins = !value.began_at;
    if (begins) Object.assign(changes, { began_at: isoOf(Date.now()), visit: crypto.randomUUID() });
    await draft.set(changes);
    if (begins && !(await startVisit(key, [parameter], value.visit))) await draft.set({ visit: null });
  };
  const before = verdictField("calibrate-before", say("before_reading"), limitOf, () => value.standard, value.before, (text) => set({ before: text }), (found) => {
    if (!found || found.passed) return null;
    const since = hangs?.last_calibration_at;
    return h("p", { class: "fw-consequence", "data-testid": "calibrate-suspect" }, since ? say("suspect_since", { at: moment(since), name }) : say("suspect_all", { name }));
  });
  const after = verdictField("calibrate-after", say("after_reading"), limitOf, () => value.standard, value.after, (text) => (set({ after: text }), next()), (found) =>
    !found || found.passed ? null : h("p", { class: "fw-consequence" }, say("still_wrong")));
  const due = h("p", { class: "fw-next", "data-testid": "calibrate-next", role: "status" });
  function next() {
    const days = bundle?.rules?.next_due_days?.[parameter];
    due.replaceChildren(icon("clock"), h("span", {}, h("b", {}, days ? say("next_due", { at: dayOf(Date.now() + days * DAY_MS) }) : say("no_interval"))));
  }
  next();

  const input = numberField("calibrate-standard", say("standard", { unit: unitText(hangs?.unit) }), value.standard, (text) => standardIs(text), { hint: limitOf() ? null : say("no_limit") });
  function standardIs(text) {
    set({ standard: text });
    for (const radio of place.querySelectorAll("[type=radio]")) radio.checked = radio.value === text;
    before.update();
    after.update();
  }
  const chips = STANDARDS[parameter]?.map((one) => ({ value: one, text: one }));
  const pick = (one) => {
    input.querySelector("input").value = one;
    standardIs(one);
  };
  const lot = textField("calibrate-lot", say("lot"), value.lot, (text) => set({ lot: text.trim() }), {
    maxlength: 64, after: button("calibrate-lot-scan", say("scan"), () => codeInto(lot.querySelector("input")), { mark: "scan" }) });
  place.append(
    h("p", { class: "fw-mute", "data-testid": "calibrate-mute" }, icon("wrench", 20), say("mutes_only", { name })),
    chips ? choices("calibrate-standards", say("common_standards"), chips, value.standard, pick) : "",
    input, lot, before.element, after.element, due,
    photoField("calibrate-photo", say("photo_optional"), value.photos, (photos) => set({ photos }), 2),
    textField("calibrate-note", say("note"), value.note, (note) => set({ note }), { rows: 2, maxlength: 500 }));

  async function finish() {
    const [standard, found, left] = [value.standard, value.before, value.after].map(numberOf);
    if (standard === null || found === null) {
      tell(say("calibrate_needs"));
      place.querySelector(`[data-testid="calibrate-${standard === null ? "standard" : "before"}"]`).focus();
      return false;
    }
    const at = isoOf(Date.now());
    const visit = value.visit && (await openVisits()).find((one) => one.id === value.visit);
    if (visit) await endVisit(visit, visit.new.note, at);
    const record = {
      object: { station: key, name: of(station?.name) || key, parameter }, base: hangs?.etag ?? null, old: hangs ? { serial: hangs.serial, last_calibration_at: hangs.last_calibration_at } : null,
      new: { at, began_at: null, parameter, standard, before: found, after: left, lot: value.lot, note: value.note },
    };
    await draft.finish("calibrate", record, asPhotos(value.photos, "calibrate"));
    await store.setDraft(`last-calibration:${parameter}`, { standard: value.standard, lot: value.lot });
    const verdict = judge(limitOf(), left ?? found, standard);
    tell(say(verdict && !verdict.passed ? "saved_failed" : "saved_calibration", { name }));
    return true;
  }
  const following = await nextSensor(station, parameter);
  foot(
    following && button("calibrate-following", say("following", { name: of(following.name) }), async () => (await finish()) && go(`${back}/calibrate/${encodeURIComponent(following.parameter)}`)),
    button("calibrate-finish", say("end_work"), async () => (await finish()) && go(back), { main: true, mark: "done" }));
}, { form: true });

// The limit in force: {kind: "absolute" | "relative", most}, null where none is known.
function limitFor(bundle, parameter) {
  return bundle?.rules?.calibration?.[parameter] ?? null;
}

// The sensor that is due next at this station and has no calibration waiting.
async function nextSensor(station, parameter) {
  const waiting = new Set((await store.list()).filter((one) => one.kind === "calibrate" && one.object.station === station?.key && one.recorded_at > Date.now() - DAY_MS).map((one) => one.object.parameter));
  const soon = Date.now() + 7 * DAY_MS;
  return (station?.deployments ?? []).find((one) => one.parameter !== parameter && !waiting.has(one.parameter) && one.due_at && Date.parse(one.due_at) < soon);
}
