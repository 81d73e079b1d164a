// Where the phone is: one watch of its receiver for all screens. Nothing waits for it.
const OPTIONS = { enableHighAccuracy: true, maximumAge: 5_000, timeout: 30_000 };
const OLDEST_MS = 120_000;

const listeners = new Set();
let watching = null;
let fix = null; // {lon, lat, accuracy_m, at (ms, when it came)}
let state = "off"; // off | waiting | ok | denied | unavailable

// Tell `listener` of each change until the function that is returned is called. Asks the person for leave, once.
export function follow(listener) {
  listeners.add(listener);
  start();
  listener(where());
  return () => listeners.delete(listener);
}

// {state, fix, age_ms}: what is known now, without asking anybody.
export function where() {
  return { state, fix, age_ms: fix ? Date.now() - fix.at : null };
}

// The place to write into a record, null where none is known that is fresh enough.
export function placeNow(oldest_ms = OLDEST_MS) {
  if (!isFresh(oldest_ms)) return null;
  return { lon: fix.lon, lat: fix.lat, accuracy_m: fix.accuracy_m };
}

// A fix of the future is from before the phone's clock was put back: its age is not known.
function isFresh(oldest_ms) {
  const age_ms = fix ? Date.now() - fix.at : -1;
  return age_ms >= 0 && age_ms <= oldest_ms;
}

// A fix of now, after some seconds the last one or null: a receiver that stands still need not report by itself.
export function freshFix(timeout = 5_000) {
  if (isFresh(OPTIONS.maximumAge)) return Promise.resolve(fix);
  if (!navigator.geolocation) return Promise.resolve(null);
  return new Promise((done) => {
    const options = { ...OPTIONS, timeout };
    navigator.geolocation.getCurrentPosition((one) => (found(one), done(fix)), () => done(isFresh(OLDEST_MS) ? fix : null), options);
  });
}

// For the top bar: begins only where leave was given before, so that opening the app asks nothing.
export async function followIfGranted(listener) {
  listeners.add(listener);
  listener(where());
  try {
    const leave = await navigator.permissions.query({ name: "geolocation" });
    if (leave.state === "granted") start();
    leave.addEventListener("change", () => (leave.state === "granted" ? restart() : undefined));
  } catch {
    // a browser that cannot say: the first screen that needs a place asks
  }
  return () => listeners.delete(listener);
}

function start() {
  if (watching !== null) return;
  if (!navigator.geolocation) return change("unavailable");
  change("waiting");
  watching = navigator.geolocation.watchPosition(found, missed, OPTIONS);
}

function restart() {
  if (watching !== null) navigator.geolocation.clearWatch(watching);
  watching = null;
  start();
}

function found({ coords }) {
  const round = (degrees) => Math.round(degrees * 1e6) / 1e6;
  fix = { lon: round(coords.longitude), lat: round(coords.latitude), accuracy_m: Math.round(coords.accuracy), at: Date.now() };
  change("ok");
}

function missed(error) {
  if (error.code === error.PERMISSION_DENIED) {
    watching = null; // asked again when a screen needs a place again
    return change("denied");
  }
  if (!fix) change(error.code === error.POSITION_UNAVAILABLE ? "unavailable" : "waiting");
}

function change(now) {
  state = now;
  for (const listener of [...listeners]) listener(where());
}
