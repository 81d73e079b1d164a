// What all pages do: live fragments, keys, drafts, forms that survive a cut, announcements. Every page works without it.
import { actions } from "./actions.js";
import { announcements } from "./announce.js";
import { drafts } from "./drafts.js";
import { forms } from "./forms.js";
import { keys } from "./keys.js";
import { renew, start } from "./live.js";
import { toast } from "./toast.js";
import { holdStill } from "./waiting.js";

// "auto" follows the system; who asks for data-theme finds what it is now.
const root = document.documentElement;
if (root.dataset.theme === "auto") {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => (root.dataset.theme = dark.matches ? "dark" : "light");
  dark.addEventListener("change", follow);
  follow();
}

// A menu of the bar closes when one goes on elsewhere.
const menus = [...document.querySelectorAll(".top details")];
document.addEventListener("click", ({ target }) => menus.forEach((one) => one.contains(target) || (one.open = false)));
document.addEventListener("focusin", ({ target }) => menus.forEach((one) => one.contains(target) || (one.open = false)));

keys();
drafts();
forms(() => {
  drafts();
  actions();
  toast();
  renew();
});
actions();
announcements();
toast();
holdStill();
start();
