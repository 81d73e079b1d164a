// What all pages do: live fragments, keys, drafts of forms, remembered theme. Every page works without it.
import { actions } from "./actions.js";
import { start } from "./live.js";
import { toast } from "./toast.js";
import { holdStill } from "./waiting.js";

const KEYS = { m: "/", i: "/incidents" };
let waiting = "";

function typing(target) {
  return target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable], dialog");
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (waiting === "g" && KEYS[event.key]) {
    const link = document.querySelector(`.top nav a[data-path="${KEYS[event.key]}"]`);
    if (link) link.click();
    waiting = "";
    return;
  }
  waiting = event.key === "g" ? "g" : "";
  if (event.key === "/") focus(event, "[data-key-search]");
  else if (event.key === "j" || event.key === "k") step(event, event.key === "j" ? 1 : -1);
  else document.querySelector(`[data-key="${CSS.escape(event.key)}"]`)?.click();
}

function focus(event, selector) {
  const field = document.querySelector(selector);
  if (!field) return;
  event.preventDefault();
  field.focus();
}

function step(event, by) {
  const rows = [...document.querySelectorAll("[data-step]")].filter((row) => row.offsetParent);
  if (!rows.length) return;
  event.preventDefault();
  const at = rows.indexOf(document.activeElement?.closest("[data-step]"));
  const row = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  (row.matches("a, button") ? row : row.querySelector("a, button") ?? row).focus();
}

// Drafts: what was typed stays in the browser until the server has it.
const ticked = (field) => field.type === "radio" || field.type === "checkbox";

function drafts() {
  for (const form of document.querySelectorAll("form[data-draft]")) {
    const name = `draft:${location.pathname}:${form.dataset.draft}`;
    const fields = () => [...form.elements].filter((field) => field.name && !["hidden", "file", "submit"].includes(field.type));
    try {
      const kept = JSON.parse(localStorage.getItem(name) || "{}");
      for (const field of fields()) {
        if (!(field.name in kept)) continue;
        if (ticked(field)) field.checked ||= kept[field.name].includes(field.value);
        else if (!field.value) field.value = kept[field.name];
      }
    } catch {
      localStorage.removeItem(name);
    }
    form.addEventListener("input", () => {
      const typed = {};
      for (const field of fields()) {
        if (!ticked(field)) typed[field.name] = field.value;
        else if (field.checked) typed[field.name] = [...(typed[field.name] ?? []), field.value];
      }
      localStorage.setItem(name, JSON.stringify(typed));
    });
    form.addEventListener("submit", () => {
      for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
      if (navigator.onLine) localStorage.removeItem(name);
    });
  }
}

function theme() {
  const chosen = new URLSearchParams(location.search).get("theme");
  if (chosen) document.cookie = `theme=${chosen === "dark" ? "dark" : "light"};path=/;max-age=31536000;samesite=lax`;
}

addEventListener("keydown", key);
document.querySelector(".top nav a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
drafts();
actions();
theme();
toast();
holdStill();
start();
