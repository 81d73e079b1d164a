// The app on the phone: its service worker and updates, being installed, and storage that the browser may not clear.
import { formIsOpen, h, icon, say } from "./app.js";
import { tell } from "./store.js";

let offered = null; // the browser's own way to install
let ready = null; // a new version that waits: its registration
let had = Boolean(navigator.serviceWorker?.controller);

addEventListener("beforeinstallprompt", (event) => {
  event.preventDefault();
  offered = event;
  tell("install");
});

export const isInstalled = () => matchMedia("(display-mode: standalone)").matches || navigator.standalone === true;
export const inWeChat = () => /MicroMessenger/i.test(navigator.userAgent);
export const canInstall = () => Boolean(offered);
export const isApple = () => /iPhone|iPad/.test(navigator.userAgent);

export async function install() {
  await offered?.prompt();
  offered = null;
}

export const isPersisted = () => navigator.storage?.persisted?.().catch(() => false) ?? Promise.resolve(false);
export const persist = () => navigator.storage?.persist?.().catch(() => false) ?? Promise.resolve(false);

export async function keepApp() {
  if (!navigator.serviceWorker) return;
  addEventListener("field-drawn", offer);
  navigator.serviceWorker.addEventListener("controllerchange", () => {
    if (had) renew();
    had = true;
  });
  const registration = await navigator.serviceWorker.register("/field/worker.js", { scope: "/field/", updateViaCache: "none" }).catch(() => null);
  if (!registration) return;
  const watch = () => {
    if (!registration.waiting || !had) return;
    ready = registration;
    offer();
  };
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", watch));
  watch();
  document.addEventListener("visibilitychange", () => document.hidden || registration.update().catch(() => null));
}

// A form that is open keeps the new version waiting, unless the person takes it.
function offer() {
  if (!ready && !renew.due) return;
  if (!formIsOpen()) return take();
  const place = document.getElementById("field-update");
  const button = h("button", { class: "f-btn", type: "button", onclick: take, "data-testid": "field-update" }, icon("retry"), say("field.update"));
  place.replaceChildren(h("p", { class: "f-card f-row" }, h("span", { class: "f-grow f-quiet" }, say("field.update_waits")), button));
}

function take() {
  if (renew.due) location.reload();
  ready?.waiting?.postMessage("take over");
  document.getElementById("field-update").replaceChildren();
  if (formIsOpen()) renew.taken = true;
}

// Another window may have taken the new version while a form is open here.
function renew() {
  if (formIsOpen() && !renew.taken) renew.due = true;
  else location.reload();
}
