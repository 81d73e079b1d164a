// The map page: choosing on the map or in a list changes the address and fetches the drawer; the map stays where it is.
import { place } from "../js/live.js";

const BLOCKS = "drawer,bar,mix,open,blind,list"; // their links hold the choice
const map = document.querySelector("river-map");
const drawer = document.getElementById("drawer");

function chosen() {
  const query = new URLSearchParams(location.search);
  return query.get("station") ?? query.get("reach") ?? "";
}

function choose(kind, key) {
  const to = new URL(location.href);
  to.searchParams.delete("station");
  to.searchParams.delete("reach");
  if (kind) to.searchParams.set(kind, key);
  history.pushState(null, "", to);
  return show();
}

async function show() {
  const key = chosen();
  const station = new URLSearchParams(location.search).get("station");
  if (map) {
    if (key) map.setAttribute("selected", key);
    else map.removeAttribute("selected");
  }
  drawer.dataset.live = ["stations", "classes", "incidents", ...(station ? [`station-${station}`] : [])].join(" ");
  document.dispatchEvent(new CustomEvent("rc-topics"));
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": BLOCKS }, cache: "no-store" });
    if (!answer.ok || answer.redirected) return location.reload();
    place(await answer.text());
  } catch {
    location.reload();
  }
  if (key) drawer.querySelector("h2")?.scrollIntoView({ block: "nearest" });
  map?.reveal?.(key);
}

document.addEventListener("river-map-select", (event) => {
  const { kind, key } = event.detail;
  if (kind !== "station" && kind !== "reach") return;
  event.preventDefault();
  choose(kind, key);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-choose]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  const [kind, key] = link.dataset.choose.split(/:(.*)/s);
  choose(kind, key);
});

addEventListener("popstate", show);

const slider = document.getElementById("map-at");
if (slider) {
  const output = slider.form.querySelector("output");
  slider.addEventListener("input", () => {
    output.textContent = slider.value === "0" ? output.dataset.now : output.dataset.ago.replace("{n}", slider.value);
  });
  slider.addEventListener("change", () => {
    const to = new URL(location.href);
    if (slider.value === "0") to.searchParams.delete("at");
    else to.searchParams.set("at", slider.value);
    location.assign(to);
  });
}
