// Keys: "/" search, "g m" map, "g i" inbox, "j k" through rows, "x" selects, what bears data-key by its own, "?" help,
// "Esc" closes or goes back. Single keys are off inside fields, and where the person switched them off.
import { begin } from "./actions.js";
import { button, say } from "./words.js";

const GO = { m: "/", i: "/incidents" };
const OFF = "keys-off";
let waiting = "";

const off = () => {
  try {
    return localStorage.getItem(OFF) === "1";
  } catch {
    return false;
  }
};
const typing = (target) => target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable], dialog");
const visible = (element) => element.getClientRects().length > 0;
const find = (selector) => [...document.querySelectorAll(selector)].find(visible);
const goTo = (path) => document.querySelector(`.top nav a[data-path="${path}"]`);
const rows = () => [...document.querySelectorAll("[data-step]")].filter(visible);
const rowNow = () => document.activeElement?.closest("[data-step]");
const boxOf = (row) => row?.querySelector("input[type=checkbox]");

export function keys() {
  document.body.classList.toggle("keys-off", off());
  addEventListener("keydown", key);
  const opener = document.querySelector("[data-keys-help]");
  if (!opener) return;
  opener.hidden = false;
  opener.addEventListener("click", help);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") return void escape(event);
  if (off() || typing(event.target) || event.key.length > 1) return;
  if (waiting === "g") {
    waiting = "";
    const link = GO[event.key] && goTo(GO[event.key]);
    if (link) link.click();
    return;
  }
  if (event.key === "g") waiting = "g";
  else if (event.key === "?") help();
  else if (event.key === "/") search(event);
  else if (event.key === "j" || event.key === "k") step(event, event.key === "j" ? 1 : -1);
  else press(event);
}

function press(event) {
  const own = find(`[data-key="${CSS.escape(event.key)}"]`);
  const target = own ?? (event.key === "x" ? boxOf(rowNow()) : null);
  if (!target) return;
  event.preventDefault();
  if (target === own) target.focus();
  target.click();
  if (target.matches("summary") && target.parentElement.open) begin(target.parentElement);
}

function search(event) {
  const field = find("[data-key-search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select?.();
}

function step(event, by) {
  const all = rows();
  if (!all.length) return;
  event.preventDefault();
  const row = all[Math.min(all.length - 1, Math.max(0, all.indexOf(rowNow()) + by))];
  (row.matches("a, button") ? row : row.querySelector("a, button") ?? row).focus();
  row.scrollIntoView({ block: "nearest" });
}

function escape(event) {
  if (event.defaultPrevented || event.target.closest?.("dialog")) return;
  const menu = document.querySelector(".top details[open]");
  if (menu) {
    menu.open = false;
    return void menu.querySelector("summary").focus();
  }
  if (typing(event.target)) {
    const within = event.target.closest("[data-step], details[open], form");
    const to = within?.querySelector("summary, button, a") ?? document.getElementById("main");
    return void to?.focus();
  }
  const close = find('[data-key="Escape"]');
  if (close) return void close.click();
  if (document.referrer.startsWith(`${location.origin}/`) && history.length > 1) history.back();
}

// The keys of this page, by what it has.
function list() {
  const found = [];
  if (find("[data-key-search]")) found.push(["/", say("keySearch")]);
  for (const [letter, path] of Object.entries(GO)) {
    const link = goTo(path);
    if (link) found.push([`g ${letter}`, link.textContent.trim()]);
  }
  if (rows().length) found.push(["j k", say("keyStep")], ["Enter", say("keyOpen")]);
  if (rows().some(boxOf)) found.push(["x", say("keySelect")]);
  for (const one of document.querySelectorAll("[data-key]")) {
    if (one.dataset.key === "Escape" || !visible(one) || found.some(([letter]) => letter === one.dataset.key)) continue;
    const named = one.cloneNode(true);
    named.querySelectorAll("kbd, .heard").forEach((part) => part.remove());
    found.push([one.dataset.key, one.getAttribute("aria-label") ?? named.textContent.trim().replace(/\s+/g, " ")]);
  }
  found.push(["?", say("keyHelp")], ["Esc", say("keyEscape")]);
  return found;
}

function help() {
  document.querySelector("dialog.keys")?.remove();
  const dialog = document.createElement("dialog");
  dialog.className = "keys";
  dialog.dataset.testid = "keys-help";
  const title = document.createElement("h2");
  title.id = "keys-title";
  title.textContent = say("keys");
  dialog.setAttribute("aria-labelledby", title.id);
  const table = document.createElement("dl");
  table.className = "facts";
  for (const [letter, what] of list()) {
    const term = document.createElement("dt");
    for (const one of letter.split(" ")) {
      const cap = document.createElement("kbd");
      cap.textContent = one;
      term.append(cap, " ");
    }
    const words = document.createElement("dd");
    words.textContent = what;
    table.append(term, words);
  }
  const label = document.createElement("label");
  label.className = "tick";
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = !off();
  box.dataset.testid = "keys-on";
  box.addEventListener("change", () => {
    localStorage.setItem(OFF, box.checked ? "0" : "1");
    document.body.classList.toggle("keys-off", !box.checked);
  });
  label.append(box, " ", say("keysOn"));
  dialog.append(title, table, label, button(say("close"), () => dialog.close(), "btn main"));
  dialog.addEventListener("close", () => {
    dialog.remove();
    // the browser has given the focus back by now, and a key pressed since may have moved it on
    if (document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  dialog.showModal();
}
