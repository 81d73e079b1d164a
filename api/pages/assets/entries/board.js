// The dispatch board holds still under the cursor: what is new waits behind a bar until it is wanted. Remaining times
// are renewed each minute where no card moves. Keys act on the card in focus.
import { place } from "../js/live.js";

const RENEW_MS = 60e3;
const lanes = document.getElementById("lanes");
const shown = () => lanes?.querySelector("[data-cards]")?.dataset.cards ?? "";
const news = () => document.querySelector("#news .board-news");

const byNumber = (cards) => new Map(cards.split(" ").filter(Boolean).map((card) => [card.split(":")[0], card]));

function changes() {
  const [before, after] = [byNumber(shown()), byNumber(news()?.dataset.cards ?? "")];
  return [...new Set([...before.keys(), ...after.keys()])].filter((id) => before.get(id) !== after.get(id)).length;
}

async function renew(names) {
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": names }, cache: "no-store" });
    if (answer.ok && !answer.redirected) place(await answer.text());
  } catch {
    // the bar of the frame says that the connection is cut; the next mark or minute tries again
  }
}

function look() {
  const bar = news();
  if (!bar) return;
  const count = changes();
  bar.replaceChildren();
  if (!count) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn main";
  button.dataset.testid = "board-show-new";
  button.textContent = bar.dataset.words.replace("{n}", count);
  button.addEventListener("click", show);
  bar.append(button);
}

async function show() {
  const at = document.activeElement?.id;
  await renew("news,lanes,summary,levels");
  (document.getElementById(at) ?? lanes).focus({ preventScroll: true });
}

// What others did to the selected incident since its form was drawn.
function meanwhile() {
  const note = document.querySelector("#meanwhile [data-version]");
  const form = document.querySelector('.sheet input[name="version"]');
  if (note && form) note.hidden = note.dataset.version === form.value;
}

let placing = false;
document.addEventListener("rc-placed", async () => {
  meanwhile();
  look();
  if (placing || changes()) return;
  placing = true;
  await renew("lanes"); // nothing moves: only words and times are new
  placing = false;
});
setInterval(() => !document.hidden && renew("news"), RENEW_MS);

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

const asked = new URLSearchParams(location.search);
if (asked.has("done")) {
  asked.delete("done");
  history.replaceState(null, "", `${location.pathname}?${asked}`);
  setTimeout(() => document.querySelector(".toast")?.remove(), 10e3);
  document.querySelector(".case.on")?.focus({ preventScroll: true });
}

// The first j or k goes on from the selected card.
addEventListener(
  "keydown",
  (event) => {
    if (!["j", "k"].includes(event.key) || document.activeElement?.closest("[data-step], input, textarea, select")) return;
    document.querySelector(".case.on")?.focus({ preventScroll: true });
  },
  true,
);
