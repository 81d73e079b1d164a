// Messages to this browser: shows the form where the browser can, asks for leave, subscribes and hands it to the server.

const form = document.querySelector("form[data-push]");

function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

async function subscribe() {
  const worker = await navigator.serviceWorker.register(form.dataset.worker, { scope: "/push/" });
  await activated(worker);
  const options = { userVisibleOnly: true, applicationServerKey: bytes(form.dataset.push) };
  // One that was made with another key of the server is of no use any more.
  const made = await worker.pushManager.subscribe(options).catch(async () => {
    await (await worker.pushManager.getSubscription())?.unsubscribe();
    return worker.pushManager.subscribe(options);
  });
  const { endpoint, keys } = made.toJSON();
  form.elements.endpoint.value = endpoint;
  form.elements.p256dh.value = keys.p256dh;
  form.elements.auth.value = keys.auth;
}

function activated(registration) {
  const worker = registration.active ?? registration.waiting ?? registration.installing;
  if (!worker || worker.state === "activated") return undefined;
  return new Promise((done) => worker.addEventListener("statechange", () => worker.state === "activated" && done()));
}

if (form && "serviceWorker" in navigator && "PushManager" in window && "Notification" in window) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    if (form.elements.endpoint.value) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    try {
      if ((await Notification.requestPermission()) !== "granted") throw new Error("no leave");
      await subscribe();
      form.submit();
    } catch {
      form.querySelector("[role=status]").textContent = form.dataset.no;
    }
  }, { capture: true });
}
