// What all pages do: live fragments, keys, drafts, forms that survive a cut, announcements. Every page works without it.
import { actions } from "./actions.js";
import { announcements } from "./announce.js";
import { drafts } from "./drafts.js";
import { forms } from "./forms.js";
import { keys } from "./keys.js";
import { renew, start } from "./live.js";

document.querySelector(".top nav a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
keys();
drafts();
forms(() => {
  drafts();
  actions();
  renew();
});
actions();
announcements();
start();
