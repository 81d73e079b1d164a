// The live channel: marks of what the page shows; what differs is fetched as fragments and put in place of the old.
// Islands name their topics in ``live`` and hear of changes by the event rc-marks (a Set of topics).
import { Idiomorph } from "idiomorph/dist/idiomorph.esm.js";

const SILENT_MS = 16000; // three beats: then the connection counts as cut
const STALE_MS = 80000; // older than this a picture must not pass for the present
const WAIT_MS = [1000, 2000, 5000, 10000];
let held = {};
let source = null;
let heard = Date.now();
let behind = 0; // ms by which the picture was behind at the last beat
let tries = 0;
let fetching = false;
let again = new Set();

const blocks = () => [...document.querySelectorAll("[data-live]")];
const topicsOf = (block) => block.dataset.live.split(" ");
const islands = () => [...document.querySelectorAll("[live]")].flatMap((one) => one.getAttribute("live").split(" ").filter(Boolean));

const wanted = () => [...new Set([...blocks().flatMap(topicsOf), ...islands()])];

export function start() {
  let topics = wanted();
  if (!topics.length) return;
  held = JSON.parse(document.body.dataset.marks || "{}");
  open(topics);
  document.addEventListener("rc-topics", () => {
    // a block shows something else than before, and asks to follow it
    const now = wanted();
    if (now.join() !== topics.join()) open((topics = now));
  });
  setInterval(watch, 1000);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && open(topics));
}

function open(topics) {
  source?.close();
  source = new EventSource(`/live?topics=${encodeURIComponent(topics.join(","))}`);
  source.addEventListener("marks", (event) => changed(JSON.parse(event.data)));
  source.addEventListener("beat", (event) => beat(JSON.parse(event.data)));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(() => open(topics), WAIT_MS[Math.min(tries++, WAIT_MS.length - 1)]);
  };
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
    if (answer.redirected || answer.status === 401) return void location.reload(); // signed out: the server shows the way
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

export function place(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  for (const fragment of parsed.querySelectorAll("[data-fragment]")) {
    const target = document.getElementById(fragment.dataset.fragment);
    if (target) Idiomorph.morph(target, fragment.innerHTML, { morphStyle: "innerHTML", ignoreActiveValue: true });
  }
  document.dispatchEvent(new CustomEvent("rc-placed"));
}

export function clock(ms, seconds = false) {
  return new Date(ms + 8 * 3600e3).toISOString().slice(11, seconds ? 19 : 16);
}
