// The inbox: ticks (a storm at once, all), what the bulk buttons name, keys on the row in focus, filters at once.
document.body.classList.add("has-script");
const list = document.getElementById("list");
const boxes = () => [...list.querySelectorAll('input[name="row"]')];
const row = () => document.activeElement?.closest("tr[data-step]");

function show() {
  const count = boxes().filter((box) => box.checked).reduce((sum, box) => sum + Number(box.dataset.count), 0);
  const bulk = document.querySelector(".inbox-bulk");
  for (const one of boxes()) one.closest("tr").classList.toggle("on", one.checked);
  if (!bulk) return;
  bulk.classList.toggle("active", count > 0);
  for (const part of bulk.querySelectorAll("[data-words]")) {
    part.dataset.plain ??= part.textContent;
    part.textContent = count ? part.dataset.words.replace("{n}", count) : part.dataset.plain;
  }
  bulk.querySelector("[data-untick]").hidden = !count;
}

function tick(some, checked) {
  for (const box of some) box.checked = checked;
  show();
}

const members = (box) => ("tickGroup" in box.dataset ? boxes().filter((one) => one.closest("tr").dataset.of === box.dataset.tickGroup) : boxes());

list.addEventListener("change", (event) => {
  const box = event.target;
  if ("tickAll" in box.dataset || "tickGroup" in box.dataset) tick(members(box), box.checked);
  else show();
});
document.querySelector("[data-untick]")?.addEventListener("click", () => tick([...list.querySelectorAll("input")], false));
document.addEventListener("rc-placed", show);

function clicked(selector) {
  const found = row()?.querySelector(selector);
  found?.click();
  return Boolean(found);
}

const KEYS = {
  a() {
    if (!boxes().some((box) => box.checked)) return clicked("[data-accept]");
    document.querySelector('.inbox-bulk [value="accept"]').click();
    return true;
  },
  d: () => clicked("[data-dispatch]"),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
  if (KEYS[event.key]()) event.preventDefault();
});

const filter = document.getElementById("filter");
filter?.addEventListener("change", (event) => event.target.matches("select") && filter.requestSubmit());
filter?.addEventListener("submit", () => {
  for (const field of filter.elements) if (field.name && !field.value) field.disabled = true; // a short address
});
addEventListener("pageshow", () => {
  for (const field of filter?.elements ?? []) field.disabled = false;
  show();
});
