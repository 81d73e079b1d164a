// A patrol while it goes on: a point each 15 s, on the disk at once, so that a crash takes nothing but the time it lasts.
import { follow, freshFix } from "./place.js";
import * as store from "./store.js";
import { takes } from "./track.js";

export const EACH_MS = 15_000;
const LEFT_MS = 60 * 60_000; // after so long without a point nobody is walking any more
const SOON_MS = 2_000; // what an end waits for its last point
const LONGEST_MS = 24 * 3600e3; // the server takes no longer one
const KEY = "patrol";
const PROBLEMS = "patrol-problems";

const listeners = new Set();
let timer = null;
let lock = null;
let unfollow = null;
let last = Promise.resolve();

// {id, reach, started_ms, ended_ms, paused, note, track: [{at, lon, lat}]}; null where none goes on.
export const current = async () => (await store.draft(KEY)) ?? null;
export const problems = async () => (await store.draft(PROBLEMS)) ?? [];

// Tell of each point and each change, until the function that is returned is called.
export function onPatrol(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function start(reach) {
  if (await current()) return;
  await store.setDraft(KEY, { id: crypto.randomUUID(), reach, started_ms: Date.now(), ended_ms: null, paused: false, note: "", track: [] });
  run();
}

// When the app opens: go on where it stopped. After an hour without a point it waits for the person.
export async function takeUp() {
  const patrol = await current();
  if (patrol && (await store.record(patrol.id))) return forget(); // it was saved before the app was closed
  if (!patrol || patrol.paused || patrol.ended_ms) return;
  if (Date.now() - lastMoment(patrol) > LEFT_MS) await change({ paused: true });
  else run();
}

export const pause = () => withPoint(() => change({ paused: true }));

export async function resume() {
  await change({ paused: false, ended_ms: null });
  run();
}

// The end, which can be taken back until it is saved. A patrol that was left alone ended at its last point.
export const end = () =>
  withPoint(async () => {
    const patrol = await current();
    const left = Date.now() - lastMoment(patrol) > LEFT_MS;
    const latest = patrol.started_ms + LONGEST_MS;
    return change({ ended_ms: Math.min(left ? lastMoment(patrol) : Date.now(), latest) });
  });

export const note = (text) => change({ note: text });

export async function addProblem(problem) {
  const found = (await problems()).filter((one) => one.id !== problem.id);
  await store.setDraft(PROBLEMS, [...found, problem]);
  point();
}

// The record; the patrol is forgotten once it is safe.
export async function finish(photosOf) {
  const patrol = await current();
  const seen = await problems();
  const track = patrol.track.filter(({ at }) => at <= patrol.ended_ms);
  const iso = (ms) => new Date(ms).toISOString();
  const body = {
    id: patrol.id, started_at: iso(patrol.started_ms), ended_at: iso(patrol.ended_ms), way: "walk", reach: patrol.reach, note: patrol.note,
    track: track.map(({ at, lon, lat }) => [iso(at), lon, lat]),
    problems: seen.map(({ text, at, lon, lat, matter, photos }) => ({ text, at: iso(at), lon, lat, matter, attachments: photos.map(({ sha256 }) => sha256) })),
  };
  await store.save("patrol", { id: patrol.id, object: patrol.reach ? { reach: patrol.reach } : {}, new: body }, photosOf(seen));
  stop();
  await forget();
  return patrol.id;
}

async function forget() {
  await store.dropDraft(PROBLEMS);
  await store.dropDraft(KEY);
}

const lastMoment = (patrol) => patrol.track.at(-1)?.at ?? patrol.started_ms;

async function change(changes) {
  const patrol = await current();
  if (!patrol) return;
  await store.setDraft(KEY, { ...patrol, ...changes });
  if (changes.paused || changes.ended_ms) stop();
  for (const listener of [...listeners]) listener();
}

// One point after the other; the draft is read anew each time, because another window may write it, too.
export function point() {
  last = last.then(takePoint).catch(() => undefined);
  return last;
}

async function takePoint() {
  const before = await current();
  if (!before || before.paused || before.ended_ms) return stop();
  const fix = await freshFix();
  const patrol = await current();
  if (!patrol || patrol.paused || patrol.ended_ms) return;
  const one = fix && { ...fix, at: Math.max(fix.at, patrol.started_ms) }; // one of a moment before the start is the start's
  if (takes(patrol.track, one)) {
    patrol.track.push({ at: one.at, lon: one.lon, lat: one.lat });
    await store.setDraft(KEY, patrol);
  }
  for (const listener of [...listeners]) listener();
}

// A last point, where one comes soon; then the change.
async function withPoint(act) {
  await Promise.race([point(), new Promise((done) => setTimeout(done, SOON_MS))]);
  return act();
}

function run() {
  if (timer) return;
  timer = setInterval(point, EACH_MS);
  unfollow = follow(() => undefined);
  point();
  keepAwake();
  document.addEventListener("visibilitychange", seenAgain);
}

function stop() {
  clearInterval(timer);
  timer = null;
  unfollow?.();
  lock?.release().catch(() => undefined);
  lock = null;
  document.removeEventListener("visibilitychange", seenAgain);
}

function seenAgain() {
  if (document.visibilityState !== "visible") return;
  point();
  keepAwake();
}

async function keepAwake() {
  try {
    lock = (await navigator.wakeLock?.request("screen")) ?? null;
  } catch {
    // no battery left for it: the track goes on while the screen is on
  }
}
