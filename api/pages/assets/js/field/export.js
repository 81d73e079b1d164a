// A file of what was not sent: records and photos with the phone's signatures, so that another computer can bring them to
// the server in the name of who recorded them, and a change in between is found. Sent twice, they count once.
import { base64, unbase64, utf8 } from "./bytes.js";
import { phone, patient, refusal, signature } from "./phone.js";
import { photoPath, pathOf, wire } from "./send.js";
import { photoOf, prepare } from "./store.js";

const FORMAT = "riverchief-field-export";
const JSON_TYPE = "application/json";

export async function exported(records) {
  const me = await phone();
  const [texts, photos, signatures] = [[], [], {}];
  const sign = async (path, body) => me && (signatures[path] = (await signature("PUT", path, body))["X-Signature"]);
  for (const { id } of records) {
    const record = await prepare(id);
    const text = JSON.stringify(wire(record));
    await sign(pathOf(id), utf8(text));
    texts.push(text);
    for (const entry of record.photos.filter((one) => one.sha256 && !one.stored)) {
      const blob = await photoOf(entry);
      if (!blob) continue;
      const bytes = new Uint8Array(await blob.arrayBuffer());
      await sign(photoPath(id, entry.sha256), bytes);
      photos.push(JSON.stringify({ record: id, sha256: entry.sha256, media_type: entry.media_type, base64: base64(bytes) }));
    }
  }
  const head = { format: FORMAT, version: 1, exported_at: new Date().toISOString(), phone: me?.id ?? "", name: me?.name ?? "", person: me?.person ?? "", signatures };
  const lines = (all) => all.flatMap((one, at) => (at ? [",\n", one] : [one]));
  const content = [JSON.stringify(head).slice(0, -1), ',"records":[\n', ...lines(texts), '\n],"photos":[\n', ...lines(photos), "\n]}\n"];
  const name = `riverchief-${(me?.person ?? "field").replace(/[^\p{L}\p{N}]+/gu, "-")}-${new Date().toISOString().slice(0, 10)}.json`;
  return new File(content, name, { type: JSON_TYPE });
}

// The requests that a file holds, as its phone would send them, and whose it is; throws where it is not one of ours.
export async function read(file) {
  const content = JSON.parse(await file.text());
  if (content.format !== FORMAT) throw new Error(FORMAT);
  const { name, person, exported_at, phone: sender, signatures } = content;
  const request = (path, media_type, body) => {
    const signed = signatures[path] ? { "X-Phone": sender, "X-Signature": signatures[path] } : {};
    return { path, body, headers: { "Content-Type": media_type, ...signed } };
  };
  const texts = content.records.map((one) => request(pathOf(one.id), JSON_TYPE, utf8(JSON.stringify(one))));
  const photos = content.photos.map((one) => request(photoPath(one.record, one.sha256), one.media_type, unbase64(one.base64)));
  return { name, person, exported_at, requests: [...texts, ...photos] };
}

const OURS = /^\/api\/v1\/field\/records\/[0-9a-f-]{36}(\/photos\/[0-9a-f]{64})?$/;

// Brings a file to the server, one request after the other; `step(done)`. Gives what was refused.
export async function bring({ requests }, step) {
  const refusals = [];
  for (const [at, { path, headers, body }] of requests.entries()) {
    try {
      if (!OURS.test(path)) throw new Error(path);
      const answer = await patient(path, { method: "PUT", headers, body });
      if (!answer.ok) throw await refusal(answer);
    } catch (error) {
      refusals.push({ path, text: error.text ?? null });
    }
    step(at + 1);
  }
  return refusals;
}
