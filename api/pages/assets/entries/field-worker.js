// The service worker of the field app: it opens without a network. The server puts `FIELD = {build, files}` before this:
// every file of the app, each named by its content. A new version waits until a window says that no form is open.
const { build, files } = self.FIELD;
const SHELL = "/field/";
const PREFIX = "riverchief-field-";
const CACHE = PREFIX + build;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll([SHELL, ...files].map((path) => new Request(path, { cache: "reload" })))));
});

// The version before stays: a window that still runs it may load a part of it later.
self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const names = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
    await Promise.all(names.slice(0, -1).map((name) => caches.delete(name)));
    await self.clients.claim();
  })());
});

self.addEventListener("message", ({ data }) => data === "take over" && self.skipWaiting());

self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== "GET" || origin !== location.origin) return;
  const kept = mode === "navigate" && pathname === SHELL ? SHELL : pathname.startsWith("/assets/") || pathname.startsWith(`${SHELL}icon`) ? pathname : "";
  if (kept) event.respondWith(found(kept).then((answer) => answer ?? fetch(event.request)));
});

async function found(path) {
  const own = await (await caches.open(CACHE)).match(path);
  return own ?? (path === SHELL ? undefined : caches.match(path));
}
