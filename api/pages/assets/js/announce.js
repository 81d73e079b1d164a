// What a screen reader hears without being asked: new incidents, red ones at once, others when it is quiet, never more
// than one announcement a minute; and what an action said, once, when its page arrives.
import { say } from "./words.js";

const EVERY_MS = 60e3;
const regions = {};
let waiting = [];
let spoke = -EVERY_MS;
let timer = 0;

function region(kind) {
  if (!regions[kind]) {
    regions[kind] = document.createElement("div");
    regions[kind].className = "heard";
    regions[kind].dataset.testid = `heard-${kind}`;
    regions[kind].setAttribute("aria-live", kind);
    document.body.append(regions[kind]);
  }
  return regions[kind];
}

function speak() {
  timer = 0;
  if (!waiting.length) return;
  const red = waiting.filter((one) => one.colour === "red");
  const first = red[0] ?? waiting[0];
  const rest = waiting.length - 1;
  const words = say(red.length ? "newRed" : "newIncident", { title: first.title }) + (rest ? say("newMore", { count: rest }) : "");
  waiting = [];
  spoke = performance.now();
  region(red.length ? "assertive" : "polite").textContent = words;
}

export function announcements() {
  region("assertive");
  region("polite");
  document.addEventListener("rc-news", ({ detail }) => {
    waiting.push(...detail);
    if (!timer) timer = setTimeout(speak, Math.max(0, spoke + EVERY_MS - performance.now()));
  });
}
