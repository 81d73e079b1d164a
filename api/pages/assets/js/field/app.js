// The frame of the field app: elements, words, screens by the address's hash, and the bar that is always there.
import { icon } from "./icons.js";
import { bundle, kept, list, isUnsent, on } from "./store.js";

export { icon };

const MINUTE_MS = 60e3;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const BEIJING_MS = 8 * HOUR_MS;

// -- elements ---------------------------------------------------------------------------------------------------------

// h("button", { class: "f-btn", onclick: act, disabled: false, "aria-label": "…" }, icon("up"), "text", [more])
// Children that are null, false or "" are left out. Nothing is ever read as HTML.
export function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false && one !== ""));
  return made;
}

// -- words ------------------------------------------------------------------------------------------------------------

const words = JSON.parse(document.getElementById("field-words").dataset.words);
export const LANGUAGES = ["zh", "en"];
const asked = new URLSearchParams(location.search).get("lang") ?? localStorage.getItem("field-language") ?? document.documentElement.lang.slice(0, 2);
export const language = LANGUAGES.includes(asked) ? asked : "zh";
document.documentElement.lang = language === "en" ? "en" : "zh-CN";

// The sentence of a key ("field.home") with its values. The shell has both languages, so the choice needs no network.
export function say(key, values = {}) {
  return (words[key]?.[language] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
export const knows = (key) => key in words;

// What the server sends in both languages: {zh, en}, or one text.
export const of = (text) => (typeof text === "string" ? text : (text?.[language] ?? text?.zh ?? ""));

export function speak(chosen) {
  localStorage.setItem("field-language", chosen);
  location.reload();
}

// A span of time in words.
export function ago(ms) {
  const span = Math.max(0, ms);
  if (span < MINUTE_MS) return say("field.moments");
  if (span < HOUR_MS) return say("field.minutes", { n: Math.floor(span / MINUTE_MS) });
  const hours = Math.floor(span / HOUR_MS);
  if (span < DAY_MS) return say("field.hours", { n: hours });
  return say("field.days", { n: Math.floor(hours / 24), hours: hours % 24 });
}

// Beijing time, with the date where it is not today.
export function moment(at) {
  const text = (ms) => new Date(ms + BEIJING_MS).toISOString();
  const ms = typeof at === "string" ? Date.parse(at) : at;
  const day = text(ms).slice(5, 10);
  return (day === text(Date.now()).slice(5, 10) ? "" : `${day} `) + text(ms).slice(11, 16);
}

// -- screens ----------------------------------------------------------------------------------------------------------

const place = document.getElementById("field-main");
const lower = document.getElementById("field-foot");
const head = document.getElementById("field-head");
const screens = [];
let leave = null;
let drawn = 0;
let form = false;

// screen("/s/:station", (place, { station }) => cleanup, { form: true }). `draw` may be async. While a screen with
// `form` is shown, a new version of the app waits.
export function screen(pattern, draw, { form: fills = false, nav = false } = {}) {
  const expression = new RegExp(`^${pattern.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
  screens.push({ expression, draw, fills, nav });
}

export const go = (hash) => (location.hash = hash);
export const here = () => decodeURI(location.hash.slice(1)) || "/";
export const formIsOpen = () => form;

// The title of the screen; `small` stands beside it. Home has no way back.
export function title(text, small = "", back = "/") {
  document.title = `${text} · ${say("field.title")}`;
  const way = back === null ? null : h("a", { class: "f-back", href: `#${back}`, "aria-label": say("field.back"), "data-testid": "field-back" }, icon("back"));
  const more = h("a", { class: "f-help", href: "#/help", "data-testid": "field-help" }, icon("help", 22), h("span", {}, say("field.help")));
  head.replaceChildren(...[way, h("h1", { tabindex: "-1" }, text, small ? h("small", {}, small) : null), more].filter(Boolean));
}

// The buttons at the lower edge, the main one last.
export function foot(...children) {
  lower.className = "f-foot";
  lower.replaceChildren(...children.flat().filter(Boolean));
}

// Before the phone is registered the bar leads to what everybody may open: it may be a citizen's.
function nav(path, registered) {
  const entry = (to, name, key) =>
    h("a", { href: to, "aria-current": to === `#${path}` ? "page" : null, "data-testid": `field-nav-${name}` }, icon(name, 26), say(key));
  lower.className = "f-nav";
  lower.replaceChildren(
    ...(registered
      ? [entry("/incidents", "inbox", "field.inbox"), entry("/", "map", "field.map")]
      : [entry("/report", "camera", "field.report_form"), entry("/public", "map", "field.map")]),
    entry("#/", "field", "field.title"),
    entry("#/settings", "more", "field.more"),
  );
}

export async function draw() {
  const number = ++drawn;
  const path = here().split("?")[0];
  leave?.();
  leave = null;
  const found = screens.find(({ expression }) => expression.test(path)) ?? screens.find(({ expression }) => expression.test("/"));
  if (!found) return;
  form = found.fills;
  const inside = h("div", { class: "f-screen" });
  place.replaceChildren(inside);
  lower.replaceChildren();
  if (found.nav) nav(path, Boolean(await kept("phone")));
  if (number !== drawn) return;
  title(say("field.title"), "", found.nav ? null : "/");
  scrollTo(0, 0);
  const args = Object.fromEntries(Object.entries(found.expression.exec(path)?.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]));
  try {
    const cleanup = await found.draw(inside, args);
    if (number !== drawn) cleanup?.();
    else leave = cleanup ?? null;
  } catch (error) {
    console.error(error);
    inside.replaceChildren(failure(error));
  }
  if (number === drawn && number > 1) head.querySelector("h1")?.focus();
  dispatchEvent(new Event("field-drawn"));
}

function failure(error) {
  return h("section", { class: "f-card f-failed", role: "alert", "data-testid": "field-failed" },
    h("h2", {}, say("field.broken")), h("p", {}, say("field.broken_safe")), h("p", { class: "f-quiet" }, String(error)),
    h("button", { class: "f-btn", type: "button", onclick: () => location.reload() }, icon("retry"), say("field.again")));
}

// A sentence over the lower edge, read aloud; `strong` stays until it is closed.
export function tell(text, strong = false) {
  const box = document.getElementById("field-said");
  const close = h("button", { type: "button", class: "f-link", onclick: () => box.replaceChildren() }, say("field.close"));
  box.replaceChildren(h("p", { class: "f-toast", "data-testid": "field-said" }, h("span", {}, text), close));
  clearTimeout(tell.timer);
  if (!strong) tell.timer = setTimeout(() => box.replaceChildren(), 6000);
}

// -- the bar ----------------------------------------------------------------------------------------------------------

const bar = document.getElementById("field-bar");
const shown = { online: navigator.onLine, gps: null, sending: false };

// What sending and place know: {online}, {sending}, {gps: {accuracy_m} | {problem: "…"} | null}.
export function report(change) {
  const before = JSON.stringify(shown);
  Object.assign(shown, change);
  if (JSON.stringify(shown) !== before) drawBar();
}
export const isOnline = () => shown.online;

export async function drawBar() {
  const [records, synced] = await Promise.all([list(), kept("synced")]);
  const count = records.filter(isUnsent).length;
  const { online, gps } = shown;
  const cell = (name, value, label, link) => {
    const content = [h("b", {}, value), h("span", {}, label)];
    return link ? h("a", { href: link, "data-testid": `field-${name}` }, content) : h("div", { "data-testid": `field-${name}` }, content);
  };
  bar.classList.toggle("f-off", !online);
  bar.replaceChildren(
    cell("network", [icon(online ? "network" : "plug", 20), say(online ? "field.online" : "field.offline")], say(online ? "field.network" : "field.offline_works")),
    cell("waiting", say("field.records", { n: count }), say("field.to_send"), "#/queue"),
    cell("synced", synced ? moment(synced) : "—", say("field.synced")),
    cell("gps", gps?.accuracy_m ? say("field.metres", { n: Math.round(gps.accuracy_m) }) : gps?.problem ?? say("field.gps_none"), say(gps?.accuracy_m ? "field.gps" : "field.gps_later")),
  );
}

export async function begin() {
  on((what) => ["records", "receipts", "synced"].includes(what) && drawBar());
  on((what) => what === "full" && tell(say("field.full_text_saved"), true));
  addEventListener("hashchange", draw);
  await Promise.all([drawBar(), bundle()]);
  await draw();
}
