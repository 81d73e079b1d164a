// The screens of work at the water, and what of it is not finished on the first screen.
import { h, here, icon, report } from "./app.js";
import "./calibrate.js";
import "./hang.js";
import { openForms, say } from "./parts.js";
import "./patrol.js";
import { followIfGranted } from "./place.js";
import * as recorder from "./recorder.js";
import "./report.js";
import "./scan.js";
import "./station.js";
import "./task.js";
import "./visit.js";

followIfGranted(({ state, fix }) => {
  if (fix) report({ gps: { accuracy_m: fix.accuracy_m } });
  else report({ gps: state === "denied" ? { problem: say("gps_denied") } : null });
});
recorder.takeUp();

addEventListener("field-drawn", async () => {
  document.getElementById("fw-unfinished")?.remove();
  if (here() !== "/") return;
  const [patrol, forms] = await Promise.all([recorder.current(), openForms()]);
  if (here() !== "/" || (!patrol && !forms.length) || document.getElementById("fw-unfinished")) return;
  const entry = (hash, name, mark, text) => h("a", { class: "fw-open", href: `#${hash}`, "data-testid": name }, icon(mark, 26), h("span", { class: "f-grow" }, text), h("b", {}, say("go_on")));
  document.getElementById("field-main").prepend(h("section", { id: "fw-unfinished", "aria-label": say("unfinished") },
    patrol && entry("/patrol", "field-patrol-on", "walk", say(patrol.ended_ms ? "patrol_not_saved" : patrol.paused ? "patrol_paused" : "patrolling")),
    forms.slice(0, 3).map(({ hash, title }) => entry(hash, "field-form-open", "file", title))));
});
