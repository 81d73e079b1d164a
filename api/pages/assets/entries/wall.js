// The large screen: its clock, the age of the picture, a heart that beats with each sign of life, a reload every night.
import { clock } from "../js/live.js";

const RELOAD_MS = 24 * 3600e3;
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
