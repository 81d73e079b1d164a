// A station's upkeep: the verdict of a check while it is typed, and photos made small. Both forms work without.
import { smaller } from "../js/shrink.js";

const WAIT_MS = 250;
const DECIDE = ["parameter", "kind", "standard", "reading", "after", "before", "span", "limit"];

for (const form of document.querySelectorAll("form[data-verdict]")) follow(form);
for (const input of document.querySelectorAll("input[data-shrink]")) input.addEventListener("change", () => shrink(input));

function follow(form) {
  const box = form.querySelector(".care-verdict");
  const button = form.querySelector("[data-judge]");
  const drift = form.querySelector("[data-drift]");
  let waiting = 0;
  let asked = 0;

  async function ask() {
    const number = ++asked;
    const address = new URL(form.dataset.verdict, location.href);
    for (const name of DECIDE) address.searchParams.set(name, form.elements[name].value);
    const answer = await fetch(address).then((got) => (got.ok ? got.json() : null)).catch(() => null);
    if (number === asked && answer) show(answer);
  }

  function show({ text, passed, next, mark }) {
    const line = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });
    box.className = `care-verdict${passed === null ? "" : passed ? " passed" : " failed"}`;
    box.replaceChildren(text ? line("b", text) : box.dataset.empty);
    if (text && next) box.append(line("span", next));
    if (passed === false) box.append(line("span", box.dataset.failed));
    form.elements.seen.value = passed === null ? "" : mark;
    button.textContent = passed === null ? button.dataset.judge : button.dataset.keep;
  }

  form.addEventListener("input", (event) => {
    if (!DECIDE.includes(event.target.name)) return;
    if (event.target.name === "parameter") form.elements.kind.value = event.target.selectedOptions[0].dataset.kind;
    if (drift.dataset.drift.split(" ").includes(form.elements.kind.value)) drift.open = true;
    asked++;
    form.elements.seen.value = "";
    clearTimeout(waiting);
    waiting = setTimeout(ask, WAIT_MS);
  });
}

async function shrink(input) {
  const file = input.files[0];
  if (!file) return;
  const blob = await smaller(file);
  if (blob === file || !input.files.length) return;
  const files = new DataTransfer();
  files.items.add(new File([blob], "photo.jpg", { type: blob.type }));
  input.files = files.files;
}
