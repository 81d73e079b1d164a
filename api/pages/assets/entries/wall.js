// The large screen: its clock, the age of the picture, a heart that beats with each sign of life, a reload every day; map
// and table in turn, by the keys 1 and 2; the space bar holds, and so does a red incident.
import { clock } from "../js/live.js";

const RELOAD_MS = 24 * 3600e3;
const SCENE_MS = 30e3;
const age = document.querySelector(".wall-age");
let heard = Date.now();
let behind = 0;

document.addEventListener("rc-beat", ({ detail }) => {
  heard = Date.now();
  behind = detail.now - detail.as_of;
  const heart = document.querySelector(".heart");
  heart.classList.remove("beat");
  requestAnimationFrame(() => heart.classList.add("beat"));
});

setInterval(() => {
  document.querySelector(".wall-clock").textContent = clock(Date.now());
  age.textContent = age.dataset.zh.replace("{s}", Math.max(0, Math.round((Date.now() - heard + behind) / 1000)));
}, 1000);
setTimeout(() => location.reload(), RELOAD_MS);

const scenes = ["map", "reaches"].map((id) => document.getElementById(id));
let scene = 0;
let held = false;

function show(number) {
  scene = number % scenes.length;
  scenes.forEach((element, i) => (element.hidden = i !== scene));
}

setInterval(() => {
  const red = document.querySelector("#urgent .pennant.red");
  if (!held) show(red ? 0 : scene + 1);
}, SCENE_MS);
addEventListener("keydown", (event) => {
  if (event.key === "1" || event.key === "2") show(Number(event.key) - 1);
  else if (event.key === " ") held = !held;
  else return;
  event.preventDefault();
});
