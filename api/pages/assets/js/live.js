// The live channel: marks of what the page shows; what differs is fetched as fragments and put in place of the old.
// Islands name their topics in ``live`` and hear of changes by the event rc-marks (a Set of topics).
import { Idiomorph } from "idiomorph/dist/idiomorph.esm.js";
import { clock } from "./words.js";

export { clock };

const SILENT_MS = 16000; // three beats: then the connection counts as cut
const STALE_MS = 80000; // older than this a picture must not pass for the present
const WAIT_MS = [1000, 2000, 5000, 10000];
const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
let held = {};
let source = null;
let heard = Date.now();
let behind = 0; // ms by which the picture was behind at the last beat
let tries = 0;
let fetching = false;
let again = new Set();
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
    if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
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

function changed(marks) {
  for (const block of blocks()) {
    if (topicsOf(block).some((topic) => topic in marks && marks[topic] !== held[topic])) again.add(block.id);
  }
  const differ = new Set(Object.keys(marks).filter((topic) => marks[topic] !== held[topic]));
  held = { ...held, ...marks };
  if (differ.size) document.dispatchEvent(new CustomEvent("rc-marks", { detail: differ }));
  fetchBlocks();
}

async function fetchBlocks() {
  if (fetching || !again.size) return;
  fetching = true;
  const names = [...again];
  again = new Set();
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": names.join(",") }, cache: "no-store" });
    if (answer.redirected || answer.status === 401) return void showSignIn();
    if (!answer.ok) throw new Error(String(answer.status));
    place(await answer.text());
  } catch {
    names.forEach((name) => again.add(name));
    setTimeout(fetchBlocks, 3000);
  } finally {
    fetching = false;
  }
  if (again.size) setTimeout(fetchBlocks, 300);
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
