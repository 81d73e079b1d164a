// The page of an incident: what others did while a form is open is said beside it and never takes the form away; a bar
// nobody has touched is renewed. Chosen photos are shown before they are sent.
import { place } from "../js/live.js";

// Folded on a phone, each part under its line; open on a desk.
const desk = matchMedia("(min-width: 721px)");
function unfold() {
  if (desk.matches) for (const one of document.querySelectorAll(".fold")) one.open = true;
  document.body.classList.add("folds");
}
desk.addEventListener("change", unfold);
unfold();

const bar = document.getElementById("actions");
const shown = () => Number(bar.dataset.version);
let touched = false;

bar.addEventListener("input", () => (touched = true));
bar.addEventListener("change", (event) => event.target.type === "file" && preview(event.target));

const busy = () => touched || bar.querySelector("details.action[open]") || bar.querySelector(".action-refused");

async function renew() {
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": "actions" }, cache: "no-store" });
    if (!answer.ok || answer.redirected || busy()) return;
    place(await answer.text());
    bar.dataset.version = bar.querySelector(".stale-note").dataset.version;
  } catch {
    // the frame says that the connection is cut; the next mark tries again
  }
}

document.addEventListener("rc-placed", () => {
  const note = bar.querySelector(".stale-note");
  if (!note || Number(note.dataset.version) === shown()) return;
  if (busy()) note.hidden = false;
  else renew();
});

function preview(input) {
  const box = input.closest(".proof").querySelector("[data-chosen]");
  for (const image of box.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  const parts = [...input.files].map((file) => {
    const part = document.createElement("figure");
    if (file.type.startsWith("image/")) {
      const image = document.createElement("img");
      image.src = URL.createObjectURL(file);
      image.alt = file.name;
      part.append(image);
    }
    const name = document.createElement("figcaption");
    name.textContent = `${file.name} · ${(file.size / 1048576).toFixed(1)} MB`;
    part.append(name);
    return part;
  });
  box.replaceChildren(...parts);
  box.hidden = !parts.length;
}

// A link to a form of the bar opens it where it stands.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-open]");
  const details = link && document.getElementById(`action-${link.dataset.open}`);
  if (!details) return;
  event.preventDefault();
  open(details);
  const reason = details.querySelector('select[name="reason"]');
  if (reason && link.dataset.reason && !reason.value) reason.value = link.dataset.reason;
});

function open(details) {
  const around = details.parentElement.closest("details");
  if (around) around.open = true;
  details.open = true;
}

// However a form was opened, by click, key or link, one types on in it.
bar.addEventListener(
  "toggle",
  ({ target: details }) => {
    const form = details.matches("details.action") && details.querySelector("form");
    if (!form || !details.open || form.contains(document.activeElement)) return;
    (form.querySelector("input:checked") ?? form.querySelector("input:not([type=hidden], [type=file]), textarea, select, button")).focus();
  },
  true,
);

document.addEventListener("click", (event) => {
  if (bar.contains(event.target) || event.target.closest("a[data-open]")) return;
  for (const details of bar.querySelectorAll("details[open]:not(.proof, .joint)")) details.open = false;
});

addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const opened = [...bar.querySelectorAll("details[open]:not(.proof, .joint)")].pop();
  if (!opened) return;
  opened.open = false;
  opened.querySelector("summary").focus();
});

if (document.querySelector("[data-toast]")) bar.focus({ preventScroll: true });
