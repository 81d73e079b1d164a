// Who sends: this phone, known to the server by a key that never leaves it.
import { base64url, sha256, utf8 } from "./bytes.js";
import { keep, kept } from "./store.js";

const CURVE = { name: "ECDSA", namedCurve: "P-256" };
const SIGNED = { name: "ECDSA", hash: "SHA-256" };

// {id, name, person, registered_at, keys}; null before it is registered.
export const phone = async () => (await kept("phone")) ?? null;

// Needs a session. Throws a Refusal with the server's sentence.
export async function register(name, person) {
  const keys = await crypto.subtle.generateKey(CURVE, false, ["sign", "verify"]);
  const key = await crypto.subtle.exportKey("jwk", keys.publicKey);
  const answer = await fetch("/api/v1/field/phones", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name, key: { kty: key.kty, crv: key.crv, x: key.x, y: key.y } }),
  });
  if (!answer.ok) throw await refusal(answer);
  const made = await answer.json();
  await keep("phone", { id: made.id, name: made.name, registered_at: made.registered_at, person, keys });
  await keep("refused", undefined);
  return phone();
}

// The headers that say which phone sends these bytes; `more` is signed with them.
export async function signature(method, path, body, more = []) {
  const { id, keys } = await phone();
  const made = await crypto.subtle.sign(SIGNED, keys.privateKey, utf8([method, path, await sha256(body), ...more].join("\n")));
  return { "X-Phone": id, "X-Signature": base64url(new Uint8Array(made)) };
}

const PATIENCE_MS = 60e3;

// A signed request. `body`: Uint8Array. Rejects where there is no answer within a minute.
export async function signed(method, path, body = new Uint8Array(), headers = {}) {
  const ask = async () => {
    const sent = { ...headers, ...(await (method === "PUT" ? signature(method, path, body) : once(method, path, body))) };
    return patient(path, { method, headers: sent, body: method === "GET" ? undefined : body, credentials: "omit" });
  };
  const answer = await ask();
  const now = Number(answer.headers.get("X-Time"));
  if (answer.status !== 401 || !now) return answer;
  await keep("clock", { offset_ms: now - Date.now(), at: Date.now() }); // this clock is off by more than the server takes
  return ask();
}

// What a record may be sent for again and again must else count once: signed with the server's time and a word of its own.
async function once(method, path, body) {
  const time = String(Math.round(Date.now() + ((await kept("clock"))?.offset_ms ?? 0)));
  const nonce = crypto.randomUUID();
  return { ...(await signature(method, path, body, [time, nonce])), "X-Time": time, "X-Nonce": nonce };
}

// A request that ends: a window put to sleep with one open would hold the others up.
export async function patient(path, given) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PATIENCE_MS);
  try {
    return await fetch(path, { cache: "no-store", signal: stop.signal, ...given });
  } finally {
    clearTimeout(timer);
  }
}

// What the server said no to, in its words: {status, text}.
export class Refusal extends Error {
  constructor(status, text) {
    super(typeof text === "string" ? text : text.zh);
    Object.assign(this, { status, text });
  }
}

// Problems of the API carry both languages in `detail` ("中文。 / English."), or as {zh, en}.
export async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  const detail = said.detail ?? said.title ?? "";
  if (typeof detail === "object") return new Refusal(answer.status, detail);
  const [zh, en] = detail.split("。 / ");
  return new Refusal(answer.status, en ? { zh: `${zh}。`, en } : detail);
}
