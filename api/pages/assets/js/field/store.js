// What the phone keeps (IndexedDB): records with their photos until the server has them, drafts, the bundle of stations
// and tasks, and the phone's own key. A record is safe when `save` resolves: its transaction is on the disk by then.
import { openDB } from "idb";
import { sha256 } from "./bytes.js";
import { smaller } from "../shrink.js";

const NAME = "riverchief-field";
const ORIGINALS_BYTES = 200 * 1024 * 1024; // kept free of originals: text and small photos come first
const MOST_ORIGINAL_BYTES = 10 * 1024 * 1024;
const STRICT = { durability: "strict" };
export const KEPT_SENT_MS = 14 * 24 * 3600e3; // how long what the server has stays in the list
export const RESERVE_BYTES = 8 * 1024 * 1024; // kept free of photos, so that text can always be saved
export const BUILD = document.documentElement.dataset.build ?? "";

const opened = openDB(NAME, 1, {
  upgrade(db) {
    db.createObjectStore("records", { keyPath: "id" });
    db.createObjectStore("photos"); // key: the photo's id in its record
    db.createObjectStore("drafts");
    db.createObjectStore("kept"); // bundle, phone, clock, settings, by name
  },
  blocking: (_current, _blocked, event) => event.target.close(),
});

// -- what changed, in this window and the others ----------------------------------------------------------------------

const listeners = new Set();
const others = new BroadcastChannel(NAME);
others.addEventListener("message", ({ data }) => listeners.forEach((one) => one(data, true)));

// `change(what, elsewhere)`: what = "records" (by the person), "receipts" (by the sender) or the name of something kept. Gives the function that ends it.
export function on(change) {
  listeners.add(change);
  return () => listeners.delete(change);
}

function changed(what) {
  listeners.forEach((one) => one(what, false));
  others.postMessage(what);
}

// -- records ----------------------------------------------------------------------------------------------------------

// Photos: Blobs, or {blob, kind}. Resolves with the record's id once all is on the disk. Where the storage is full the
// text is saved alone and the record's `photos_lost` says how many photos found no room.
export async function save(kind, { id, object = {}, base = null, old = null, new: fresh }, photos = []) {
  const now = Date.now();
  const taken = photos.map((one) => photo(one, now));
  const [phone, clock] = await Promise.all([kept("phone"), kept("clock")]);
  const record = {
    id: id ?? crypto.randomUUID(), kind, version: 1, object, base, old, new: fresh,
    recorded_at: now, offset_ms: clock?.offset_ms ?? null, person: phone?.person ?? null, app: BUILD,
    photos: taken.map(({ entry }) => entry), photos_lost: 0,
    receipt: null, received: 0, decision: null, error: null, tries: 0, next_at: 0,
  };
  try {
    if (taken.length && !(await room()).photos) throw new DOMException("", "QuotaExceededError");
    await write(record, taken);
  } catch (error) {
    if (!isFull(error) || !taken.length) throw error;
    await write({ ...record, photos: [], photos_lost: taken.length }, []);
    changed("full");
  }
  changed("records");
  return record.id;
}

async function write(record, taken) {
  const writing = (await opened).transaction(["records", "photos"], "readwrite", STRICT);
  const asked = taken.flatMap((one) => putPhoto(writing, one));
  await settled([...asked, writing.objectStore("records").add(record)], writing);
}

// The photo itself, and what the camera wrote where a small one was made of it.
const originalKey = (entry) => `${entry.id}/original`;
function putPhoto(writing, { entry, blob, original }) {
  const photos = writing.objectStore("photos");
  return [photos.put(blob, entry.id), ...(entry.original ? [photos.put(original, originalKey(entry))] : [])];
}

// Waits for the transaction; a request that failed is the reason where there is one.
async function settled(asked, transaction) {
  const results = await Promise.allSettled([...asked, transaction.done]);
  const failed = results.find(({ status }) => status === "rejected");
  if (failed) throw failed.reason;
}

// A corrected record is a higher version and is sent again. `changes`: new, old, object, base.
export async function amend(id, changes) {
  const record = await update(id, (one) => {
    Object.assign(one, changes);
    renewed(one);
  });
  changed("records");
  return record;
}

// Throws QuotaExceededError where there is no room for photos.
export async function addPhoto(id, given) {
  const taken = photo(given, Date.now());
  const { entry } = taken;
  if (!(await room()).photos) throw new DOMException("", "QuotaExceededError");
  const writing = (await opened).transaction(["records", "photos"], "readwrite", STRICT);
  const records = writing.objectStore("records");
  const record = await records.get(id);
  record.photos.push(entry);
  renewed(record);
  await settled([records.put(record), ...putPhoto(writing, taken)], writing);
  changed("records");
  return entry.id;
}

function renewed(record) {
  Object.assign(record, { version: record.version + 1, error: null, next_at: 0 });
}

function photo(given, now) {
  const { blob, kind = null, original = null } = given instanceof Blob ? { blob: given } : given;
  const id = crypto.randomUUID();
  const taken_at = blob.lastModified && Math.abs(now - blob.lastModified) < KEPT_SENT_MS ? blob.lastModified : now;
  return { blob, original, entry: { id, sha256: null, bytes: blob.size, media_type: blob.type, taken_at, kind, stored: 0, error: null, tries: 0, next_at: 0, original: original ? { stored: 0 } : null } };
}

// Change one record in one transaction, so that a window never overwrites what another wrote meanwhile.
export async function update(id, change) {
  const writing = (await opened).transaction("records", "readwrite", STRICT);
  const record = await writing.store.get(id);
  if (record) {
    change(record);
    await settled([writing.store.put(record)], writing);
  }
  return record;
}

// Newest first.
export async function list() {
  const found = await (await opened).getAll("records");
  return found.sort((one, other) => other.recorded_at - one.recorded_at);
}

export const record = async (id) => (await opened).get("records", id);
export const photoOf = async (entry) => (await opened).get("photos", entry.id);
export const originalOf = async (entry) => (await opened).get("photos", originalKey(entry));
const hasOriginal = (entry) => entry.original && !entry.original.stored;

// Of what is small at the server, the originals that are not there.
export const originalsOf = (record) => record.photos.filter((entry) => entry.stored && hasOriginal(entry));

// What the camera wrote and the small one made of it: {blob, original}; null where they are the same or there is no room.
export async function shrunk(taken) {
  const blob = await smaller(taken);
  const keeps = blob !== taken && taken.size <= MOST_ORIGINAL_BYTES && (await room()).free > ORIGINALS_BYTES;
  return { blob, original: keeps ? taken : null };
}

// How far a record is: "waiting" (text not there), "photos" (photos are missing), "sent", "conflict", "office" (the
// server keeps it until somebody or something it needs comes), "refused".
export function stateOf(record) {
  if (record.received < record.version) return "waiting";
  const outcome = record.receipt?.outcome;
  if (outcome === "conflict" && !record.decision?.done) return "conflict";
  if (outcome === "refused") return "refused";
  if (record.photos.some((one) => !one.stored && !one.given_up)) return "photos";
  return outcome === "waiting" ? "office" : "sent";
}

// Records that are not complete at the server.
export const isUnsent = (record) => ["waiting", "photos"].includes(stateOf(record)) || Boolean(record.decision && !record.decision.done);
export const waiting = async () => (await list()).filter(isUnsent).length;

// The photos of a record as they will be sent: small, and known by their content. What a browser cannot read is sent as
// it is.
export async function prepare(id) {
  const before = await record(id);
  for (const entry of before.photos.filter((one) => !one.sha256)) {
    const taken = await photoOf(entry);
    if (!taken) continue;
    const { blob: small, original } = await shrunk(taken);
    const hash = await sha256(await small.arrayBuffer());
    const writing = (await opened).transaction(["records", "photos"], "readwrite", STRICT);
    const records = writing.objectStore("records");
    const now = await records.get(id);
    const known = now.photos.find((one) => one.id === entry.id);
    Object.assign(known, { sha256: hash, bytes: small.size, media_type: small.type }, original && { original: { stored: 0 } });
    const asked = original ? putPhoto(writing, { entry: known, blob: small, original }) : [writing.objectStore("photos").put(small, entry.id)];
    await settled([records.put(now), ...asked], writing);
  }
  return record(id);
}

export async function photoStored(id, entry) {
  const writing = (await opened).transaction(["records", "photos"], "readwrite", STRICT);
  const records = writing.objectStore("records");
  const now = await records.get(id);
  Object.assign(now.photos.find((one) => one.id === entry.id), { stored: Date.now(), error: null });
  await settled([records.put(now), writing.objectStore("photos").delete(entry.id)], writing);
  changed("receipts");
}

// `stored`: when the server got it, or said that it will not have it.
export async function originalStored(id, entry) {
  const writing = (await opened).transaction(["records", "photos"], "readwrite", STRICT);
  const records = writing.objectStore("records");
  const now = await records.get(id);
  now.photos.find((one) => one.id === entry.id).original.stored = Date.now();
  await settled([records.put(now), writing.objectStore("photos").delete(originalKey(entry))], writing);
}

// What the server has had for fourteen days leaves the list.
export async function tidy(now = Date.now()) {
  for (const one of await list()) {
    if (["sent", "refused"].includes(stateOf(one)) && !isUnsent(one) && !originalsOf(one).length && one.received_at < now - KEPT_SENT_MS) {
      const writing = (await opened).transaction(["records", "photos"], "readwrite");
      const asked = one.photos.flatMap((entry) => [entry.id, originalKey(entry)].map((key) => writing.objectStore("photos").delete(key)));
      await settled([...asked, writing.objectStore("records").delete(one.id)], writing);
    }
  }
}

// -- drafts, the bundle and what else is kept by name -----------------------------------------------------------------

export const draft = async (key) => (await opened).get("drafts", key);
export const dropDraft = async (key) => (await opened).delete("drafts", key);
export async function setDraft(key, value) {
  const writing = (await opened).transaction("drafts", "readwrite", STRICT);
  await settled([writing.store.put(value, key)], writing);
}

export const kept = async (name) => (await opened).get("kept", name);
export async function keep(name, value) {
  const writing = (await opened).transaction("kept", "readwrite", STRICT);
  await settled([value === undefined ? writing.store.delete(name) : writing.store.put(value, name)], writing);
  changed(name);
}

// What the phone has with it; null before the first fetch.
export const bundle = async () => (await kept("bundle"))?.content ?? null;

// -- room -------------------------------------------------------------------------------------------------------------

export const isFull = (error) => error?.name === "QuotaExceededError" || error?.inner?.name === "QuotaExceededError";

// {free, photos}: bytes that are left as far as the browser says, and whether photos may still be taken.
export async function room() {
  const { quota, usage } = (await navigator.storage?.estimate?.().catch(() => null)) ?? {};
  const free = quota ? quota - usage : Infinity;
  return { free, photos: free > RESERVE_BYTES };
}

export const tell = changed;
