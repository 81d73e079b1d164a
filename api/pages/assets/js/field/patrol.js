// Patrol: the local rule before, one tap, the track, problems on the way, and what came of it. A short one is kept as a
// fact; nobody is ranked.
import { foot, go, h, moment, of, screen, tell, title } from "./app.js";
import { kinds, matterOf, wordsOf } from "./kinds.js";
import { waterMap } from "./map.js";
import { asPhotos, button, card, chip, choices, distanceText, link, openDraft, photoField, placeCard, prepared, say, textField } from "./parts.js";
import { follow, placeNow, where } from "./place.js";
import * as recorder from "./recorder.js";
import * as store from "./store.js";
import { lacking, measure, nearest } from "./track.js";

const SECOND_MS = 1000;

screen("/patrol", async (place) => {
  const patrol = await recorder.current();
  if (patrol?.ended_ms) return void go("/patrol/end");
  return patrol ? going(place) : before(place);
});

async function before(place) {
  title(say("patrol"));
  const bundle = await store.bundle();
  const reaches = bundle?.reaches ?? [];
  const last = await store.draft("patrol-reach");
  let reach = reaches.some((one) => one.key === last) ? last : reaches.length === 1 ? reaches[0].key : "";
  let chosen = Boolean(reach);
  const select = h("select", { "data-testid": "patrol-reach", onchange: () => ((reach = select.value), (chosen = true)) },
    h("option", { value: "" }, say("no_reach")), reaches.map((one) => h("option", { value: one.key, selected: one.key === reach }, of(one.name))));
  const shown = placeCard("patrol-place", () => say("place_track"), (fix) => {
    const near = chosen ? null : nearest(fix, (bundle?.stations ?? []).filter((one) => one.reach));
    if (near && near.metres < 3000) select.value = reach = near.thing.reach;
  });
  const helps = bundle?.person.helps ?? [];
  if (helps.length) place.append(card({ "data-testid": "patrol-for" }, h("h2", {}, say("patrol_for", { names: helps.join(say("comma")) })), h("p", { class: "f-small" }, say("patrol_for_note"))));
  place.append(
    card({}, h("label", { class: "f-field" }, h("span", {}, say("patrol_reach")), select)),
    ruleCard(bundle?.rules?.patrol), shown.element);
  foot(button("patrol-start", say("patrol_start"), async () => {
    await store.setDraft("patrol-reach", reach);
    await recorder.start(reach);
    dispatchEvent(new Event("hashchange"));
  }, { main: true, mark: "walk" }));
  return () => shown.end();
}

function ruleCard(rule) {
  const row = (name, text) => h("div", {}, h("dt", {}, name), h("dd", {}, text));
  return card({ "data-testid": "patrol-rule" }, h("h2", {}, say("rule")),
    rule ? h("dl", { class: "fw-rows" }, row(say("duration"), say("at_least_minutes", { n: rule.minutes })), row(say("distance"), say("at_least", { far: distanceText(rule.metres) })), row(say("track"), say("each_15_s"))) : h("p", {}, say("no_bundle")),
    h("p", { class: "f-small" }, say("short_is_kept")));
}

async function going(place) {
  const bundle = await store.bundle();
  const rule = bundle?.rules?.patrol;
  const time = h("b", { "data-testid": "patrol-time" });
  const far = h("b", { "data-testid": "patrol-distance" });
  const map = h("div", {});
  const state = h("p", { class: "fw-between", "aria-live": "polite" });
  const box = (name, value) => card({}, h("p", { class: "f-small" }, name), h("p", { class: "fw-big" }, value));
  place.append(h("div", { class: "fw-two" }, box(say("duration"), time), box(say("distance"), far)), map, state,
    link("patrol-problem", "/patrol/problem", say("problem"), "camera"));
  place.lastChild.classList.add("fw-ink", "fw-tall");
  let patrol = null;
  const tick = () => patrol && (time.textContent = clockOf((patrol.paused ? lastMoment(patrol) : Date.now()) - patrol.started_ms));
  async function draw() {
    patrol = await recorder.current();
    if (!patrol) return;
    const seen = await recorder.problems();
    const reach = bundle?.reaches?.find((one) => one.key === patrol.reach);
    title(say(patrol.paused ? "patrol_paused" : "patrolling"), of(reach?.name));
    tick();
    const done = measure(patrol.track, rule ?? {});
    far.textContent = distanceText(done.metres);
    const { fix } = where();
    const points = seen.filter((one) => one.lon !== null).map((one, i) => ({ ...one, text: String(i + 1), round: true }));
    map.replaceChildren(waterMap({ lines: reach ? [reach.line] : [], track: patrol.track, here: fix, points }, say("track_of", { far: distanceText(done.metres), n: seen.length }), 300));
    state.replaceChildren(ruleChip(done, rule), h("span", { class: "f-small", "data-testid": "patrol-points", "data-points": patrol.track.length },
      say("points_kept", { n: patrol.track.length }), fix ? ` · ${say("accuracy", { n: fix.accuracy_m })}` : ""));
    foot(
      patrol.paused ? button("patrol-resume", say("resume"), recorder.resume, { mark: "walk", main: true }) : button("patrol-pause", say("pause"), recorder.pause),
      button("patrol-end", say("end"), async () => (await recorder.end(), go("/patrol/end"))));
  }
  const timer = setInterval(tick, SECOND_MS);
  const ends = [recorder.onPatrol(draw), follow(() => {})];
  await draw();
  return () => (clearInterval(timer), ends.forEach((one) => one()));
}

const lastMoment = (patrol) => patrol.track.at(-1)?.at ?? patrol.started_ms;

// What the local rule says of what was walked so far.
function ruleChip(done, rule) {
  if (!rule) return h("span", {}, "");
  const { minutes, metres } = lacking(done, rule);
  if (!minutes && !metres) return chip("ok", say("rule_met"), "patrol-verdict");
  const parts = [minutes && say("minutes_left", { n: Math.ceil(minutes) }), metres && say("metres_left", { far: distanceText(Math.ceil(metres)) })];
  return chip("plain", parts.filter(Boolean).join(say("comma")), "patrol-verdict");
}

export function clockOf(ms) {
  const seconds = Math.max(0, Math.floor(ms / SECOND_MS));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours ? `${hours}:` : ""}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

screen("/patrol/problem", async (place) => {
  const patrol = await recorder.current();
  if (!patrol) return void go("/patrol");
  const bundle = await store.bundle();
  const number = (await recorder.problems()).length + 1;
  const draft = await openDraft(`problem:${patrol.id}:${number}`, { photos: [], kind: "", text: "", at: null, place: null });
  const { value } = draft;
  title(say("problem"), say("patrol_goes_on"), "/patrol");
  if (!value.at) await draft.set({ at: Date.now() });
  const words = (fix) => {
    const near = nearest(fix, bundle?.stations ?? []);
    return near && near.metres < 2000 ? say("near", { name: of(near.thing.name), far: distanceText(near.metres) }) : say("place_kept");
  };
  const shown = placeCard("problem-place", words, () => (value.place ??= placeNow()));
  place.append(
    photoField("problem-photo", say("photos"), value.photos, (photos) => draft.set({ photos })),
    choices("problem-kind", say("what"), kinds(), value.kind, (kind) => draft.set({ kind }), "pictures"),
    shown.element,
    textField("problem-text", say("say_something"), value.text, (text) => draft.set({ text }), { rows: 2, maxlength: 1000 }));
  foot(button("problem-save", say("save_go_on"), async () => {
    if (!value.kind && !value.text.trim() && !value.photos.length) return tell(say("report_needs"));
    const known = value.place ?? placeNow();
    await recorder.addProblem({ id: value.id, text: wordsOf(value.kind, value.text), matter: matterOf(value.kind, bundle), at: value.at, lon: known?.lon ?? null, lat: known?.lat ?? null, photos: await prepared(value.photos) });
    await draft.drop();
    go("/patrol");
  }, { main: true, mark: "done" }));
  return () => shown.end();
}, { form: true });

screen("/patrol/end", async (place) => {
  const patrol = await recorder.current();
  if (!patrol) return void go("/patrol");
  if (!patrol.ended_ms) return void go("/patrol");
  const bundle = await store.bundle();
  const rule = bundle?.rules?.patrol;
  const done = measure(patrol.track, rule ?? {});
  const seen = await recorder.problems();
  const reach = bundle?.reaches?.find((one) => one.key === patrol.reach);
  const left = rule ? lacking(done, rule) : { minutes: 0, metres: 0 };
  const enough = !left.minutes && !left.metres;
  title(say("patrol_ended"), of(reach?.name), "/patrol");
  const row = (name, text) => h("div", {}, h("dt", {}, name), h("dd", {}, text));
  place.append(
    card({ "data-testid": "patrol-result", "data-valid": rule ? String(enough) : "unknown" },
      h("h2", {}, say(!rule ? "rule_unknown" : enough ? "rule_met" : "patrol_short")), enough ? null : h("p", {}, say("patrol_short_note")),
      h("dl", { class: "fw-rows" }, row(say("when"), `${moment(patrol.started_ms)}–${moment(patrol.ended_ms)}`), row(say("duration"), say("minutes", { n: Math.floor(done.minutes) })), row(say("distance"), distanceText(done.metres)),
        row(say("problems"), String(seen.length)), done.jumps ? row(say("jumps"), String(done.jumps)) : null)),
    waterMap({ lines: reach ? [reach.line] : [], track: patrol.track }, say("track_of", { far: distanceText(done.metres), n: seen.length }), 220),
    textField("patrol-note", say(enough ? "note" : "short_why"), patrol.note, recorder.note, { rows: 2, maxlength: 1000 }));
  foot(button("patrol-go-on", say("resume"), async () => (await recorder.resume(), go("/patrol"))),
    button("patrol-save", say("patrol_save"), async () => {
      const id = await recorder.finish((all) => all.flatMap(({ photos }) => asPhotos(photos, "problem")));
      tell(say("saved_patrol"));
      go(`/queue/${id}`);
    }, { main: true, mark: "done" }));
}, { form: true });

