// The dispatch board: its lanes hold still (waiting.js), what others did to the selected incident is named, keys act on
// the card in focus.
// What others did to the selected incident since its form was drawn.
function meanwhile() {
  const note = document.querySelector("#meanwhile [data-version]");
  const form = document.querySelector('.sheet input[name="version"]');
  if (note && form) note.hidden = note.dataset.version === form.value;
}

document.addEventListener("rc-placed", meanwhile);

// a, d and c on a card that is not open yet open it with that form.
const ACTIONS = { a: "accept", d: "dispatch", c: "comment" };
addEventListener(
  "keydown",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !ACTIONS[event.key]) return;
    if (document.body.classList.contains("keys-off")) return;
    const card = document.activeElement?.closest(".case:not(.on)");
    if (!card) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    const to = new URL(card.href);
    to.searchParams.set("act", ACTIONS[event.key]);
    location.assign(to);
  },
  true,
);

if (document.querySelector("[data-toast]")) document.querySelector(".case.on")?.focus({ preventScroll: true });

// The first j or k goes on from the selected card.
addEventListener(
  "keydown",
  (event) => {
    if (!["j", "k"].includes(event.key) || document.activeElement?.closest("[data-step], input, textarea, select")) return;
    document.querySelector(".case.on")?.focus({ preventScroll: true });
  },
  true,
);

// A card that is dragged to a lane, or to a person of an open dispatch form, opens its dispatch form with them; the form
// is what dispatches. A lane that cannot take it says why while the card is over it.
const note = document.querySelector(".drag-note");
const page = document.querySelector(".board-page");
let dragged = null;

// What lies under the pointer: what to ask of the dispatch form, or why it cannot be asked.
function target(at) {
  const lane = at.closest("tr.lane");
  const person = at.closest("#action-dispatch .candidate")?.querySelector("input[value]:not([value=''], [value='*'])");
  if (!lane && !person) return null;
  if (dragged.dataset.fixed) return { at: lane ?? person, why: dragged.dataset.fixed };
  if (person) return { at: person.closest(".candidate"), words: note.dataset.person.replace("{name}", person.value), ask: { to: person.value } };
  const { none, take } = lane.closest("table").dataset;
  const level = lane.querySelector("th b").textContent;
  if (!dragged.dataset.to.split(" ").includes(lane.dataset.lane)) return { at: lane, why: none.replace("{level}", level) };
  return { at: lane, words: take.replace("{level}", level), ask: { lane: lane.dataset.lane } };
}

function mark(found, x = 0, y = 0) {
  const words = found ? (found.why ?? found.words) : "";
  if (note.textContent !== words) note.textContent = words;
  note.classList.toggle("refuses", Boolean(found?.why));
  note.style.transform = `translate(${Math.min(x + 16, innerWidth - note.offsetWidth - 8)}px, ${Math.min(y + 20, innerHeight - note.offsetHeight - 8)}px)`;
  for (const one of document.querySelectorAll(".takes, .refuses-it")) if (one !== found?.at) one.classList.remove("takes", "refuses-it");
  found?.at.classList.add(found.why ? "refuses-it" : "takes");
}

document.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.("a.case");
  if (!dragged) return;
  const box = dragged.getBoundingClientRect();
  event.dataTransfer.setDragImage(dragged, event.clientX - box.left, event.clientY - box.top);
  event.dataTransfer.effectAllowed = "move";
  page.classList.add("dragging");
});
document.addEventListener("dragover", (event) => {
  if (!dragged) return;
  const found = target(event.target);
  if (found?.ask) event.preventDefault();
  mark(found, event.clientX, event.clientY);
});
document.addEventListener("drop", (event) => {
  const found = dragged && target(event.target);
  if (!found?.ask) return;
  event.preventDefault();
  const to = new URL(dragged.href);
  for (const [name, value] of Object.entries({ act: "dispatch", ...found.ask })) to.searchParams.set(name, value);
  location.assign(to);
});
document.addEventListener("dragend", () => {
  dragged = null;
  page.classList.remove("dragging");
  mark(null);
});
