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
