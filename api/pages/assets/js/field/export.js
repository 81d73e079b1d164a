// A file of what was not sent: the signed requests as the phone would send them, so that another computer can bring them
// to the server and a change in between is found. Sent twice, they count once.
import { base64, unbase64, utf8 } from "./bytes.js";
import { phone, patient, refusal, signature } from "./phone.js";
import { photoPath, pathOf, wire } from "./send.js";
import { photoOf, prepare } from "./store.js";

const FORMAT = "riverchief-field-export";

export async function exported(records) {
  const me = await phone();
  const parts = [];
  for (const { id } of records) {
    const record = await prepare(id);
    parts.push(await request(pathOf(id), "application/json", utf8(JSON.stringify(wire(record)))));
    for (const entry of record.photos.filter((one) => one.sha256 && !one.stored)) {
      const blob = await photoOf(entry);
      if (blob) parts.push(await request(photoPath(id, entry.sha256), entry.media_type, new Uint8Array(await blob.arrayBuffer())));
    }
  }
  const head = { format: FORMAT, version: 1, made_at: new Date().toISOString(), phone: me?.name ?? "", person: me?.person ?? "" };
  const text = [JSON.stringify(head).slice(0, -1), ',"requests":[\n', ...parts.flatMap((one, at) => (at ? [",\n", one] : [one])), "\n]}\n"];
  const name = `riverchief-${(me?.person ?? "field").replace(/[^\p{L}\p{N}]+/gu, "-")}-${new Date().toISOString().slice(0, 10)}.json`;
  return new File(text, name, { type: "application/json" });
}

async function request(path, media_type, body) {
  const headers = (await phone()) ? await signature("PUT", path, body) : {};
  return JSON.stringify({ method: "PUT", path, media_type, ...headers, body: base64(body) });
}

// What a file holds; throws where it is not one of ours.
export async function read(file) {
  const content = JSON.parse(await file.text());
  if (content.format !== FORMAT || !Array.isArray(content.requests)) throw new Error(FORMAT);
  return content;
}

const OURS = /^\/api\/v1\/field\/records\/[0-9a-f-]{36}(\/photos\/[0-9a-f]{64})?$/;

// Brings a file to the server, one request after the other; `step(done, all, refusals)`.
export async function bring({ requests }, step) {
  const refusals = [];
  for (const [at, one] of requests.entries()) {
    try {
      if (!OURS.test(one.path)) throw new Error(one.path);
      const headers = { "Content-Type": one.media_type, ...(one["X-Phone"] ? { "X-Phone": one["X-Phone"], "X-Signature": one["X-Signature"] } : {}) };
      const answer = await patient(one.path, { method: "PUT", headers, body: unbase64(one.body) });
      if (!answer.ok) throw await refusal(answer);
    } catch (error) {
      refusals.push({ path: one.path, text: error.text ?? null });
    }
    step(at + 1, requests.length, refusals);
  }
  return refusals;
}
