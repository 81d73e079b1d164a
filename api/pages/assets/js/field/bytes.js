// Bytes as text: what signatures and file names are made of.
export const utf8 = (text) => new TextEncoder().encode(text);

export async function sha256(bytes) {
  const made = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...made].map((one) => one.toString(16).padStart(2, "0")).join("");
}

export function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

export const base64url = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

export const unbase64 = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
