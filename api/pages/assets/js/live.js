// The live channel: marks of what the page shows; what differs is fetched as fragments and put in place of the old.
// Islands name their topics in ``live`` and hear of changes by the event rc-marks (a Set of topics).
import { Idiomorph } from "idiomorph/dist/idiomorph.esm.js";
import { clock } from "./words.js";

export { clock };

const SILENT_MS = 16000; // three beats: then the connection counts as cut
const STALE_MS = 80000; // older than this a picture must not pass for the present
const SPREAD_MS = 1000; // all who watch learn of a change at once and must not ask at once
const QUICK_MS = 300; // the shortest pause between two fetches of a block, of cases and of water
const SLOW_MS = 8000; // stations report once a minute or more seldom
const SLOW = new Set(["stations", "classes", "counts"]);
const AGAIN_MS = 3000;
const MINUTE_MS = 60e3; // blocks with data-minute name the time that is left
const WAIT_MS = [1000, 2000, 5000, 10000];
const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
let held = {};
let source = null;
let heard = Date.now();
let behind = 0; // ms by which the picture was behind at the last beat
let tries = 0;
let fetching = false;
const due = new Map(); // block → when it is fetched
const fetched = new Map(); // block → when it was fetched last
let timer = 0;
let topics = [];
let running = false;

const blocks = () => [...document.querySelectorAll("[data-live]")];
const topicsOf = (block) => block.dataset.live.split(" ");
const islands = () => [...document.querySelectorAll("[live]")].flatMap((one) => one.getAttribute("live").split(" ").filter(Boolean));

const wanted = () => [...new Set([...blocks().flatMap(topicsOf), ...islands()])];

export function start() {
  topics = wanted();
  if (!topics.length) return;
  held = JSON.parse(document.body.dataset.marks || "{}");
  open();
  if (running) return;
  running = true;
  document.addEventListener("rc-topics", renew); // a block shows something else than before, and asks to follow it
  setInterval(watch, 1000);
  setInterval(minute, MINUTE_MS);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && open());
}

// The page was replaced by another: follow what it shows.
export function renew() {
  const before = topics.join();
  held = { ...held, ...JSON.parse(document.body.dataset.marks || "{}") };
  if (wanted().join() !== before) start();
}

function open() {
  source?.close();
  const query = new URLSearchParams({ topics: topics.join(","), lang: document.documentElement.lang.slice(0, 2) });
  source = new EventSource(`/live?${query}`);
  source.addEventListener("marks", (event) => changed(JSON.parse(event.data)));
  source.addEventListener("beat", (event) => beat(JSON.parse(event.data)));
  source.addEventListener("news", (event) => {
    document.dispatchEvent(new CustomEvent("rc-news", { detail: JSON.parse(event.data) }));
  });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    showSignIn();
    setTimeout(open, WAIT_MS[Math.min(tries++, WAIT_MS.length - 1)]);
  };
}

// Signed out: the way to sign in and back here. What was typed stays in the browser as a draft.
export async function showSignIn() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store", headers: { Accept: "*/*" } });
    const asked = new URLSearchParams({ next: location.pathname + location.search });
    const language = new URLSearchParams(location.search).get("lang");
    if (language) asked.set("lang", language);
    if (answer.status === 401) location.assign(`/login?${asked}`);
  } catch {
    // cut off, not signed out
  }
}

function beat(said) {
  heard = Date.now();
  tries = 0;
  behind = said.now - said.as_of;
  document.body.classList.toggle("is-failing", said.failed_since !== null);
  for (const element of document.querySelectorAll("[data-as-of]")) {
    element.textContent = clock(said.as_of, element.dataset.asOf === "seconds");
    element.setAttribute("datetime", new Date(said.as_of).toISOString());
  }
  document.dispatchEvent(new CustomEvent("rc-beat", { detail: said }));
}

function watch() {
  const silent = Date.now() - heard;
  document.body.classList.toggle("is-cut", silent > SILENT_MS);
  document.body.classList.toggle("is-stale", behind + silent > STALE_MS);
}

function minute() {
  if (document.hidden) return;
  const at = Date.now() + Math.random() * SPREAD_MS;
  for (const block of blocks()) if ("minute" in block.dataset) due.set(block.id, Math.min(at, due.get(block.id) ?? Infinity));
  plan();
}

function changed(marks) {
  const now = Date.now();
  const spread = Math.random() * SPREAD_MS;
  for (const block of blocks()) {
    const news = topicsOf(block).filter((topic) => topic in marks && marks[topic] !== held[topic]);
    if (!news.length) continue;
    const pause = news.every((topic) => SLOW.has(topic)) ? SLOW_MS : QUICK_MS;
    const at = Math.max(now + spread, (fetched.get(block.id) ?? 0) + pause);
    due.set(block.id, Math.min(at, due.get(block.id) ?? Infinity));
  }
  const differ = new Set(Object.keys(marks).filter((topic) => marks[topic] !== held[topic]));
  held = { ...held, ...marks };
  if (differ.size) document.dispatchEvent(new CustomEvent("rc-marks", { detail: differ }));
  plan();
}

function plan() {
  clearTimeout(timer);
  if (due.size && !fetching) timer = setTimeout(fetchBlocks, Math.max(0, Math.min(...due.values()) - Date.now()));
}

async function fetchBlocks() {
  fetching = true;
  const until = Date.now() + QUICK_MS;
  const names = [...due.keys()].filter((name) => due.get(name) <= until).sort();
  for (const name of names) {
    due.delete(name);
    fetched.set(name, Date.now());
  }
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": names.join(",") }, cache: "no-store" });
    if (answer.redirected || answer.status === 401) return void showSignIn();
    if (!answer.ok) throw new Error(String(answer.status));
    place(await answer.text());
  } catch {
    names.forEach((name) => due.set(name, Date.now() + AGAIN_MS));
  } finally {
    fetching = false;
    plan();
  }
}

// What has the focus keeps it; where that is gone, its block's heading takes it.
export function place(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const active = document.activeElement;
  for (const fragment of parsed.querySelectorAll("[data-fragment]")) {
    const target = document.getElementById(fragment.dataset.fragment);
    if (!target) continue;
    const within = target.contains(active);
    const at = [...target.querySelectorAll(FOCUSABLE)].indexOf(active);
    Idiomorph.morph(target, fragment.innerHTML, { morphStyle: "innerHTML", ignoreActiveValue: true });
    if (within && document.activeElement !== active) refocus(target, active, at);
  }
  document.dispatchEvent(new CustomEvent("rc-placed"));
}

function refocus(target, gone, at) {
  const same = gone.id ? document.getElementById(gone.id) : target.querySelectorAll(FOCUSABLE)[at];
  const like = same?.localName === gone.localName ? same : null;
  const heading = like ?? target.querySelector("h1, h2, h3") ?? target.closest("section, main")?.querySelector("h1, h2, h3") ?? target;
  if (!like) heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}
