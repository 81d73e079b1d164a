// Pieces that the screens of work share: drafts, photos, numbers, choices, the place, the buttons.
import { h, icon, moment, say as word, tell } from "./app.js";
import { sha256 } from "./bytes.js";
import { judge, numberOf } from "./judge.js";
import { follow } from "./place.js";
import * as store from "./store.js";

export const say = (key, values) => word(`field_work.${key}`, values);

// -- drafts -----------------------------------------------------------------------------------------------------------

// What a person has entered so far in one form. Every change is on the disk at once, so that a killed browser loses
// nothing. `id` is that of the record it becomes: it is saved once. `seen` = {hash, title} lists the form
// on the first screen until it is finished.
export async function openDraft(key, begun, seen) {
  const before = await unsaved(key);
  const value = { id: crypto.randomUUID(), ...begun, ...before };
  let last = Promise.resolve();
  let listed = Boolean(before);
  let over = false;
  const write = (act) => (last = last.then(act).catch((error) => tell(say("not_kept", { error: error.name }), true)));
  return {
    value,
    set(changes) {
      if (over) return last; // a photo that became small after the form was finished
      Object.assign(value, changes);
      if (!listed && seen) write(() => list(key, seen));
      listed = true;
      return write(() => store.setDraft(key, value));
    },
    async finish(kind, record, photos) {
      await last;
      await store.save(kind, { ...record, id: value.id }, photos);
      await this.drop();
      return value.id;
    },
    async drop() {
      over = true;
      await last;
      await forget(key);
    },
  };
}

async function forget(key) {
  await store.dropDraft(key);
  await list(key, null);
}

// The draft of a form; one whose record was saved before the app was closed is forgotten.
async function unsaved(key) {
  const draft = await store.draft(key);
  if (!draft || !(await store.record(draft.id))) return draft;
  await forget(key);
  return undefined;
}

const OPEN = "open-forms";

async function list(key, seen) {
  const open = { ...(await store.draft(OPEN)) };
  if (seen) open[key] = { ...seen, at: Date.now() };
  else delete open[key];
  await store.setDraft(OPEN, open);
}

// Forms that were begun and not finished: [{hash, title, at}], the last one first.
export async function openForms() {
  const open = [];
  for (const [key, seen] of Object.entries((await store.draft(OPEN)) ?? {})) if (await unsaved(key)) open.push(seen);
  return open.sort((a, b) => b.at - a.at);
}

// -- what the phone has with it ---------------------------------------------------------------------------------------

export const stationOf = async (key) => (await store.bundle())?.stations?.find((one) => one.key === key) ?? null;
export const deploymentOf = (station, parameter) => station?.deployments.find((one) => one.parameter === parameter) ?? null;

// Parameters that the phone knows, by key: {name, unit}; those that hang somewhere in reach come first.
export async function parameters() {
  const bundle = await store.bundle();
  const found = new Map();
  const add = ({ parameter, name, unit }) => found.has(parameter) || found.set(parameter, { name, unit });
  for (const station of bundle?.stations ?? []) station.deployments.forEach(add);
  bundle?.parameters?.forEach(add);
  for (const parameter of Object.keys(bundle?.rules?.plausible ?? {})) add({ parameter, name: parameter, unit: null });
  return found;
}

// The records of this phone about something that the server has not applied yet.
export async function unsentAbout(test) {
  return (await store.list()).filter((one) => store.stateOf(one) !== "sent" && test(one));
}

// -- buttons and cards ------------------------------------------------------------------------------------------------

export function button(testid, text, act, { mark = null, main = false } = {}) {
  const made = h("button", { type: "button", class: `f-btn ${main ? "f-main" : "f-plain"}`, "data-testid": testid },
    mark && icon(mark, 22), text);
  made.addEventListener("click", async () => {
    if (made.getAttribute("aria-busy")) return; // a second tap is the same tap
    made.setAttribute("aria-busy", "true");
    try {
      await act();
    } catch (error) {
      console.error(error);
      tell(say("not_kept", { error: error.name }), true);
    } finally {
      made.removeAttribute("aria-busy");
    }
  });
  return made;
}

export const link = (testid, hash, text, mark = null) =>
  h("a", { class: "f-btn f-plain", href: `#${hash}`, "data-testid": testid }, mark && icon(mark, 22), text);

export const card = (attributes, ...children) => h("section", { ...attributes, class: `f-card ${attributes.class ?? ""}` }, ...children);

// state: ok, dev (a device is doubtful), no (it is not right), plain.
export const chip = (state, text, testid = null) =>
  h("span", { class: `f-chip f-${state}`, "data-testid": testid, "data-state": state },
    icon({ ok: "done", no: "cross", dev: "help" }[state] ?? "clock", 16), text);

// -- fields -----------------------------------------------------------------------------------------------------------

// A field of text whose every input goes to `typed`.
export function textField(testid, label, value, typed, { hint = null, rows = 0, after = null, ...more } = {}) {
  const input = h(rows ? "textarea" : "input", { "data-testid": testid, value: value ?? "", autocomplete: "off", ...(rows ? { rows } : { type: "text" }), ...more,
    oninput: () => typed(input.value) });
  return h("label", { class: "f-field" }, h("span", {}, label), after ? h("span", { class: "fw-beside" }, input, after) : input, hint && h("small", {}, hint));
}

export const numberField = (testid, label, value, typed, more = {}) =>
  textField(testid, label, value, typed, { inputmode: "decimal", maxlength: 12, ...more });

// One of several, as radio buttons that look like what they are for; `options` = [{value, text, drawing}].
export function choices(testid, label, options, chosen, pick, look = "chips") {
  const name = `c${Math.random().toString(36).slice(2)}`;
  return h("fieldset", { class: `fw-choices fw-${look}`, "data-testid": testid }, h("legend", {}, label),
    options.map(({ value, text, drawing }) =>
      h("label", {}, h("input", { type: "radio", name, value, checked: value === chosen, "data-testid": `${testid}-${value}`, onchange: () => pick(value) }),
        drawing, h("span", {}, text))));
}

// A reading beside its verdict, which follows the typing: {element, update}.
export function verdictField(testid, label, limitOf, standardOf, value, typed, more = () => null) {
  const verdict = h("div", { class: "fw-verdict", "aria-live": "polite" });
  const below = h("div", { "aria-live": "polite" });
  const input = h("input", { type: "text", inputmode: "decimal", maxlength: 12, autocomplete: "off", value: value ?? "", "aria-label": label, "data-testid": testid,
    oninput: () => (typed(input.value), update()) });
  const mark = h("span", {});
  function update() {
    const limit = limitOf();
    const found = judge(limit, numberOf(input.value), numberOf(standardOf()));
    mark.replaceChildren(...(found ? [chip(found.passed ? "ok" : "no", say(found.passed ? "passed" : "failed"), `${testid}-verdict`)] : []));
    verdict.replaceChildren(h("span", {}, say("error")), h("b", {}, found ? errorText(found.error, limit) : "—"),
      h("span", {}, limit ? say("allowed", { limit: limitText(limit) }) : say("no_limit")));
    below.replaceChildren(...[more(found)].filter(Boolean));
  }
  update();
  return { element: card({ class: "fw-reading" }, h("div", { class: "fw-between" }, h("h2", {}, label), mark), h("div", { class: "fw-two" }, input, verdict), below), update };
}

const decimalsOf = (limit) => Math.max(2, String(limit.most).split(".")[1]?.length ?? 0);
const limitText = (limit) => (limit.kind === "relative" ? `±${limit.most}%` : `±${limit.most.toFixed(decimalsOf(limit))}`);

function errorText(error, limit) {
  const text = Math.abs(error).toFixed(limit.kind === "relative" ? 1 : decimalsOf(limit));
  const sign = Number(text) === 0 ? "" : error < 0 ? "−" : "+";
  return sign + text + (limit.kind === "relative" ? "%" : "");
}

// -- photos -----------------------------------------------------------------------------------------------------------

// Make a photo of a draft small, and name it by its content.
async function prepare(entry) {
  if (entry.sha256) return entry;
  Object.assign(entry, await store.shrunk(entry.blob));
  entry.sha256 = await sha256(await entry.blob.arrayBuffer());
  return entry;
}

export const asPhotos = (photos, kind) => photos.map(({ blob, original }) => ({ blob, original, kind }));
export const prepared = (photos) => Promise.all(photos.map((one) => prepare({ ...one })));

// Photos of a draft: kept as taken at once, then made small. `value` is [{blob, at, sha256}]; `keep(photos)` stores it.
export function photoField(testid, label, value, keep, most = 4) {
  const photos = [...(value ?? [])];
  const addresses = [];
  const input = h("input", { type: "file", accept: "image/*", capture: "environment", class: "fw-file", "data-testid": testid, "aria-label": say("take_photo"),
    onchange: () => take(input.files[0]) });
  const shown = h("div", { class: "fw-photos" });
  async function take(file) {
    if (!file) return;
    const entry = { blob: file, at: Date.now() };
    photos.push(entry);
    input.value = "";
    await keep([...photos]);
    draw();
    await prepare(entry);
    if (photos.includes(entry)) await keep([...photos]);
  }
  function picture(entry, i) {
    const src = URL.createObjectURL(entry.blob);
    addresses.push(src);
    const drop = () => (photos.splice(i, 1), keep([...photos]), draw());
    return h("figure", {}, h("img", { src, alt: say("photo_n", { n: i + 1 }) }), h("figcaption", {}, say("on_phone", { at: moment(entry.at) })),
      h("button", { type: "button", onclick: drop, "aria-label": say("drop_photo", { n: i + 1 }) }, icon("cross")));
  }
  function draw() {
    for (const one of addresses.splice(0)) URL.revokeObjectURL(one);
    const add = photos.length < most && h("label", { class: "fw-add" }, input, icon("camera", 34), h("span", {}, say(photos.length ? "another_photo" : "take_photo")));
    shown.replaceChildren(...photos.map(picture), ...(add ? [add] : []));
  }
  draw();
  return h("div", { class: "f-field" }, h("span", {}, label), shown);
}

// -- the place --------------------------------------------------------------------------------------------------------

// A card that follows the receiver: {element, end}. `words(fix)` is what stands beside the accuracy, `found(fix)` hears.
export function placeCard(testid, words, found) {
  const heading = h("b", {});
  const note = h("p", {});
  const element = card({ class: "fw-place", "data-testid": testid }, icon("pin", 26), h("div", { class: "f-grow", "aria-live": "polite" }, heading, note));
  const end = follow(({ state, fix }) => {
    element.dataset.state = fix ? "ok" : state;
    heading.textContent = fix ? say("accuracy", { n: fix.accuracy_m }) : say(`place_${state}`);
    note.textContent = fix ? words(fix) : say("place_later");
    if (fix) found?.(fix);
  });
  return { element, end };
}

export function distanceText(metres) {
  return metres < 1000 ? say("metres", { n: Math.round(metres) }) : say("kilometres", { n: (metres / 1000).toFixed(2) });
}

// "1" is the unit of what has none.
export const unitText = (unit) => (unit && unit !== "1" ? unit : "");

export function valueText(value, unit) {
  return value === null || value === undefined ? "—" : `${value} ${unitText(unit)}`.trim();
}

export const isoOf = (ms) => new Date(ms).toISOString();
