// Forms are sent by script where it runs, so that a cut connection costs nobody the page: what was typed stays, and the
// same form is sent again by a button. Without script they are plain POSTs. An accepted form leads on (X-To); any other
// answer is a page, put in place of this one.
import { Idiomorph } from "idiomorph/dist/idiomorph.esm.js";
import { headersOf, pause, resume, wasAccepted } from "./drafts.js";
import { button, say } from "./words.js";

const PATIENCE_MS = 20000;
const ARRIVE = "form-sent";
const sending = new WeakSet();

// After an action the focus goes on where its form was, at the heading of that block.
function arrive() {
  let sent;
  try {
    sent = JSON.parse(sessionStorage.getItem(ARRIVE));
    sessionStorage.removeItem(ARRIVE);
  } catch {
    return;
  }
  if (!sent || document.activeElement !== document.body) return;
  const aimed = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const block = aimed || document.getElementById(sent.id) || document.querySelector(`[data-testid="${sent.testid}"]`);
  const heading = block?.querySelector("h1, h2, h3") ?? block?.closest("section, aside, main")?.querySelector("h1, h2, h3");
  const target = heading ?? document.querySelector("main h1") ?? document.getElementById("main");
  if (!target) return;
  if (!target.matches("a, button, input, select, textarea")) target.tabIndex = -1;
  target.focus({ preventScroll: !aimed });
}

export function forms(renewed) {
  arrive();
  renewing(renewed);
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const by = event.submitter;
    if (event.defaultPrevented || attribute(form, "method") !== "post" || form.dataset.plain !== undefined || form.hasAttribute("target")) return;
    if (!fetch || by?.hasAttribute("formmethod")) return;
    event.preventDefault();
    send(form, by, renewed);
  });
}

// A field may be called "action" or "method", which hides the form's own property.
const attribute = (form, name) => (form.getAttribute(name) ?? "").toLowerCase();
const hasFiles = (form) => attribute(form, "enctype") === "multipart/form-data";

function bodyOf(form, by) {
  const data = new FormData(form);
  if (by?.name) data.append(by.name, by.value);
  return hasFiles(form) ? data : new URLSearchParams(data);
}

async function send(form, by, renewed) {
  if (sending.has(form)) return;
  sending.add(form);
  const buttons = [...form.querySelectorAll("button:not([type=button])")];
  buttons.forEach((one) => one.setAttribute("aria-disabled", "true"));
  form.querySelector(".send-failed")?.remove();
  pause(form);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), hasFiles(form) ? 6 * PATIENCE_MS : PATIENCE_MS);
  try {
    const answer = await fetch(by?.getAttribute("formaction") ?? (form.getAttribute("action") || location.href), {
      method: "POST",
      body: bodyOf(form, by),
      headers: { Accept: "text/html", ...headersOf(form) },
      signal: patience.signal,
    });
    const to = answer.headers.get("X-To");
    if (answer.status >= 502 && answer.status <= 504) throw new Error(String(answer.status));
    if (to !== null) return void leave(form, to);
    if (answer.redirected) return void leave(form, answer.url);
    if (answer.status === 401) return void failed(form, by, renewed, true);
    if (!(answer.headers.get("Content-Type") ?? "").startsWith("text/html")) return void (await download(answer));
    place(await answer.text());
    resume(form);
    renewed();
  } catch {
    resume(form);
    failed(form, by, renewed);
  } finally {
    clearTimeout(timer);
    sending.delete(form);
    buttons.forEach((one) => one.removeAttribute("aria-disabled"));
  }
}

// A custom element that is asked for as before keeps what it drew.
function drawn(old, made) {
  return old.localName?.includes("-") && old.cloneNode(false).isEqualNode(made.cloneNode(false));
}

function leave(form, to) {
  wasAccepted(form);
  try {
    const block = form.closest("[data-testid]:not(form), [id]:not(form, #main)");
    sessionStorage.setItem(ARRIVE, JSON.stringify({ id: block?.id, testid: block?.dataset.testid }));
  } catch {
    // the page that follows begins at its top
  }
  const target = new URL(to, location.href);
  const here = target.pathname === location.pathname && target.search === location.search;
  if (!here) return location.assign(target);
  history.replaceState(null, "", target);
  location.reload();
}

async function download(answer) {
  const name = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60e3);
}

function failed(form, by, renewed, signedOut = false) {
  const line = document.createElement("p");
  line.className = "send-failed";
  line.dataset.testid = "send-failed";
  line.setAttribute("role", "alert");
  if (signedOut) {
    const link = document.createElement("a");
    Object.assign(link, { href: "/login", target: "_blank", textContent: say("signIn") });
    line.append(say("sendSignedOut"), " ", link);
  } else line.append(say("sendFailed"));
  line.append(" ", button(say("sendAgain"), () => form.reportValidity() && send(form, by, renewed), "btn main"));
  line.lastChild.dataset.testid = "send-again";
  form.append(line);
  if (form.contains(document.activeElement) || document.activeElement === document.body) line.lastChild.focus();
}

// A page that is read again every so many seconds (main[data-renew]), with the focus and what is typed kept.
function renewing(renewed) {
  const main = document.getElementById("main");
  const seconds = Number(main?.dataset.renew);
  if (!seconds) return;
  setTimeout(async () => {
    try {
      const answer = document.hidden ? null : await fetch(location.href, { cache: "no-store" });
      if (answer?.ok && !answer.redirected) {
        place(await answer.text());
        renewed();
      }
    } catch {
      // the next time
    }
    renewing(renewed);
  }, seconds * 1000);
}

// A page that takes the place of this one: its parts become ours; styles and scripts that it needs are added.
function place(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const main = document.getElementById("main");
  const theirs = parsed.getElementById("main");
  if (!main || !theirs) return;
  document.title = parsed.title;
  main.dataset.renew = theirs.dataset.renew ?? "";
  const known = new Set([...document.querySelectorAll("link[rel=stylesheet], script[src]")].map((one) => one.href || one.src));
  const scripts = [];
  for (const one of parsed.querySelectorAll("head link[rel=stylesheet], head script[src]")) {
    const address = new URL(one.getAttribute("href") ?? one.getAttribute("src"), location.href).href;
    if (known.has(address)) continue;
    const made = document.createElement(one.localName);
    for (const { name, value } of one.attributes) made.setAttribute(name, value);
    scripts.push(made);
  }
  document.body.className = parsed.body.className;
  document.body.dataset.marks = parsed.body.dataset.marks ?? "";
  Idiomorph.morph(main, theirs.innerHTML, {
    morphStyle: "innerHTML",
    ignoreActiveValue: true,
    callbacks: { beforeNodeMorphed: (old, made) => !drawn(old, made) },
  });
  document.head.append(...scripts);
  const wrong = main.querySelector('[role="alert"], [aria-invalid="true"], .wrong');
  if (wrong) {
    if (!wrong.matches("input, select, textarea, button, a")) wrong.tabIndex = -1;
    wrong.focus();
  } else if (document.activeElement === document.body) main.focus();
}
