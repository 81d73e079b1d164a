// Sending: one sender among all windows, the text of every record first, then each photo alone, again and again until the
// server has it. What fails or is refused waits on its own and holds up nothing else.
import { report } from "./app.js";
import { utf8 } from "./bytes.js";
import { patient, phone, refusal, signed } from "./phone.js";
import { isUnsent, keep, kept, list, on, originalOf, originalsOf, originalStored, photoOf, photoStored, prepare, record as recordOf, stateOf, tell, tidy, update } from "./store.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60e3;
const REFUSED_WAIT_MS = 10 * 60e3; // what the server refused may pass after a change there
const RENEW_MS = 5 * 60e3; // of the bundle, and of receipts that may change
const IN_A_ROW = 3; // failures after which the line, not the record, is at fault
const DATE_LENGTH = "Wed, 02 Dec 2026 07:19:57 GMT".length;
const JSON_TYPE = { "Content-Type": "application/json" };

let running = false;
let wanted = null; // a pass asked for while one runs: {eager}
let timer = 0;
let stops = 0;

export function start() {
  addEventListener("online", () => send(true));
  addEventListener("offline", () => report({ online: false }));
  addEventListener("focus", () => send(true));
  document.addEventListener("visibilitychange", () => document.hidden || send(true));
  on((what) => ["records", "phone"].includes(what) && send());
  setInterval(send, LONGEST_WAIT_MS);
  send(true);
}

// `eager`: also what waits after a failure.
export async function send(eager = false) {
  wanted = { eager: eager === true || wanted?.eager };
  if (running) return;
  running = true;
  try {
    if (navigator.locks) await navigator.locks.request("riverchief-field-send", { ifAvailable: true }, (held) => held && passes());
    else await passes();
  } finally {
    running = false;
    report({ sending: false });
  }
}

async function passes() {
  while (wanted) {
    const { eager } = wanted;
    wanted = null;
    report({ sending: true });
    await pass(eager);
  }
  await plan();
}

class Stopped extends Error {}

async function pass(eager) {
  const line = { failures: 0 };
  if (!(await contact())) {
    stops += 1;
    return;
  }
  if (!(await phone())) return;
  try {
    const due = ({ next_at }) => eager || next_at <= Date.now();
    for (const one of (await list()).reverse()) if (stateOf(one) === "waiting" && due(one)) await attempt(line, one.id, () => text(one.id));
    for (const one of (await list()).reverse()) await rest(line, one, due);
    await renew();
    await originals().catch(() => null);
    stops = 0;
    await keep("synced", Date.now());
    await tidy();
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    stops += 1;
  }
}

// What comes after a record's text: its photos, and what was decided in a conflict.
async function rest(line, record, due) {
  if (record.received < record.version) return;
  const waiting = record.photos.filter((entry) => entry.sha256 && !entry.stored && !entry.given_up && due(entry));
  for (const entry of waiting) await attempt(line, record.id, () => photo(record, entry), entry.id);
  if (waiting.length && stateOf(await recordOf(record.id)) === "office") await attempt(line, record.id, () => text(record.id)); // it may have waited for them
  if (record.decision && !record.decision.done && due(record)) await attempt(line, record.id, () => decided(record));
}

// Answers are counted: a server that says no to one thing is there, one that does not answer is not.
async function attempt(line, id, act, entry = null) {
  try {
    await act();
    line.failures = 0;
  } catch (error) {
    const { status = 0, text = null } = error;
    await update(id, (record) => {
      const one = entry ? record.photos.find((photo) => photo.id === entry) : record;
      one.tries += 1;
      one.error = { status, text, at: Date.now() };
      one.next_at = Date.now() + (isFinal(status) ? REFUSED_WAIT_MS : wait(one.tries));
      if (entry && status === 404) record.received = 0;
      else if (entry && isFinal(status)) one.given_up = true;
    });
    tell("receipts");
    if ([401, 403].includes(status)) await keep("refused", { status, text, at: Date.now() });
    if (![0, 401, 403].includes(status)) line.failures = 0;
    else if (++line.failures >= IN_A_ROW) throw new Stopped();
  }
}

const isFinal = (status) => status >= 400 && status < 500 && ![401, 403, 404, 408, 425, 429].includes(status);
const wait = (tries) => Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries - 1, 6)) * (0.75 + Math.random() / 4);

// What a record is on the wire. The server knows it by id, version and content, `sent_at` aside.
export function wire(record) {
  const { id, kind, version, base, object, old, new: fresh, recorded_at, offset_ms, app } = record;
  const photos = record.photos.map(({ sha256, bytes, media_type, taken_at, kind: of }) => ({ sha256, bytes, media_type, taken_at: time(taken_at), kind: of }));
  return { id, kind, version, base, object, old, new: fresh, recorded_at: time(recorded_at), offset_ms, photos, app, sent_at: time(Date.now()) };
}

const time = (ms) => new Date(ms).toISOString();
export const pathOf = (id) => `/api/v1/field/records/${id}`;
export const photoPath = (id, hash) => `${pathOf(id)}/photos/${hash}`;

async function text(id) {
  const record = await prepare(id);
  await belongs(record);
  const answer = await signed("PUT", pathOf(id), utf8(JSON.stringify(wire(record))), JSON_TYPE);
  if (!answer.ok) throw await refusal(answer);
  await received(record, await answer.json());
}

// A record is sent in the name of who made it, also where the phone is another's by now.
async function belongs(record) {
  const { person } = await phone();
  if (record.person && person && record.person !== person) throw Object.assign(new Error(), { status: 409, text: { key: "field_queue.of_another", values: { person: record.person } } });
}

// The person may have corrected the record while its older version was on the way.
async function received(sent, receipt) {
  const missing = receipt.missing_photos;
  await update(sent.id, (record) => {
    Object.assign(record, { receipt, received: Math.max(record.received, sent.version), received_at: Date.now(), error: null, tries: 0, next_at: 0 });
  });
  if (missing) for (const entry of sent.photos) if (entry.sha256 && !entry.stored && !missing.includes(entry.sha256)) await photoStored(sent.id, entry);
  if (await kept("refused")) await keep("refused", undefined);
  tell("receipts");
}

async function photo(record, entry) {
  const blob = await photoOf(entry);
  const answer = await signed("PUT", photoPath(record.id, entry.sha256), new Uint8Array(await blob.arrayBuffer()), { "Content-Type": entry.media_type || "application/octet-stream" });
  if (!answer.ok) throw await refusal(answer);
  if (!(await answer.json()).stored) throw new Error("not stored");
  await photoStored(record.id, entry);
}

// What the cameras wrote goes last, and not over a line that is paid by its bytes.
async function originals() {
  const { saveData = false, type = "" } = navigator.connection ?? {};
  if (saveData || type === "cellular") return;
  for (const record of await list()) {
    for (const entry of originalsOf(record)) {
      const blob = await originalOf(entry);
      const answer = blob && (await signed("PUT", `${photoPath(record.id, entry.sha256)}/original`, new Uint8Array(await blob.arrayBuffer()), { "Content-Type": "application/octet-stream" }));
      if (!answer || answer.ok || isFinal(answer.status)) await originalStored(record.id, entry);
      else return;
    }
  }
}

async function decided(record) {
  const body = utf8(JSON.stringify({ keep: record.decision.keep }));
  const answer = await signed("POST", `${pathOf(record.id)}/decision`, body, JSON_TYPE);
  if (!answer.ok) throw await refusal(answer);
  const receipt = await answer.json();
  await update(record.id, (now) => {
    Object.assign(now, { decision: { ...now.decision, done: true }, error: null, tries: 0, next_at: 0 });
    if (receipt.outcome) now.receipt = receipt;
  });
  tell("receipts");
}

// Photos that the server refused are tried once more.
export async function photosAgain(id) {
  await update(id, (record) => record.photos.forEach((one) => Object.assign(one, { given_up: false, next_at: 0 })));
  tell("receipts");
  await send(true);
}

// -- contact with the server ------------------------------------------------------------------------------------------

// Whether the server answers; its date gives how far this phone's clock is off.
async function contact() {
  const began = Date.now();
  try {
    const answer = await patient("/field/ping", { credentials: "omit" });
    const there = answer.ok;
    const date = Date.parse((answer.headers.get("Date") ?? "").slice(-DATE_LENGTH)); // a server before it may add its own
    const now = Date.now();
    if (there && date && now - began < 10e3) await keep("clock", { offset_ms: Math.round(date + 500 - (began + now) / 2), at: now });
    report({ online: there });
    return there;
  } catch {
    report({ online: false });
    return false;
  }
}

// The bundle, and receipts that may have changed since: of conflicts, and of what waits for the office.
async function renew() {
  const before = await kept("renewed");
  if (before && Date.now() - before < RENEW_MS) return;
  for (const one of await list()) if (["office", "conflict"].includes(stateOf(one)) && !one.decision) await text(one.id).catch(() => null);
  await fetchBundle().catch(() => null);
  await keep("renewed", Date.now());
}

// Stations, tasks and rules, for work without a network. `session`: for who is signed in here, before the phone counts.
// Throws a Refusal, or where there is no answer.
export async function fetchBundle({ session = false } = {}) {
  const path = "/api/v1/field/bundle";
  const had = session ? null : await kept("bundle");
  const headers = had ? { "If-None-Match": had.etag } : {};
  const answer = session ? await patient(path, {}) : await signed("GET", path, new Uint8Array(), headers);
  if (answer.status === 304) return had.content;
  if (!answer.ok) throw await refusal(answer);
  const content = await answer.json();
  if (session) return content;
  await keep("bundle", { etag: answer.headers.get("ETag") ?? "", content, at: Date.now() });
  return content;
}

async function plan() {
  clearTimeout(timer);
  const left = (await list()).filter(isUnsent);
  if (!left.length) return;
  const at = left.flatMap((one) => [one.next_at, ...one.photos.filter((entry) => !entry.stored).map((entry) => entry.next_at)]).filter((one) => one > 0);
  const soonest = at.length ? Math.min(...at) - Date.now() : 0;
  timer = setTimeout(send, Math.max(stops ? wait(stops) : FIRST_WAIT_MS, Math.min(soonest, LONGEST_WAIT_MS)));
}
