// The staff's report: a place that was chosen or marked shows at once what is open near it, and which water it is.
import { place } from "../js/live.js";

const form = document.querySelector("form.report");
const { where, lon, lat } = form.elements;
const go = form.querySelector(".report-do button");
form.querySelector(".report-check").hidden = true;
let asked = 0;

async function look() {
  const number = ++asked;
  const query = new URLSearchParams({ where: where.value, lon: lon.value, lat: lat.value });
  const language = new URLSearchParams(location.search).get("lang");
  if (language) query.set("lang", language);
  try {
    const answer = await fetch(`${location.pathname}?${query}`, { headers: { "X-Fragments": "near" }, cache: "no-store" });
    if (!answer.ok || number !== asked) return;
    place(await answer.text());
  } catch {
    return; // without a connection the server shows it when the form is sent
  }
  const near = form.querySelector("#near [data-reach]");
  go.textContent = form.elements.seen.value ? go.dataset.anyway : go.dataset.go;
  if (near?.dataset.reach && !where.value) where.value = `reach:${near.dataset.reach}`;
}

document.addEventListener("river-map-pick", () => {
  where.value = ""; // the place decides which water it is
  look();
});
for (const field of [where, lon, lat]) field.addEventListener("change", look);
if (where.value || lon.value) look();
