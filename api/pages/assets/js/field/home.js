// The first screen: four big buttons, what is going on, and the tasks. Before the phone is registered: how to begin.
import { ago, go, h, icon, moment, of, say, screen, tell, title } from "./app.js";
import { canInstall, install, inWeChat, isApple, isInstalled, persist } from "./install.js";
import { phone, register } from "./phone.js";
import { fetchBundle, send } from "./send.js";
import { amend, bundle, isUnsent, kept, list, on } from "./store.js";

const HOUR_MS = 3600e3;
const LONG_UNSENT_MS = 3 * 24 * HOUR_MS;

// Draws anew when what is kept changed; gives the cleanup of the screen.
export async function following(place, names, draw) {
  let number = 0;
  const again = async () => {
    const mine = ++number;
    const made = await draw();
    if (mine !== number) return;
    const held = place.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
    place.replaceChildren(...made.flat(Infinity).filter(Boolean));
    if (held) place.querySelector(`[data-testid="${CSS.escape(held)}"]`)?.focus();
  };
  await again();
  return on((what) => names.includes(what) && again());
}

screen("/", async (place) => {
  const me = await phone();
  if (!me) return start(place);
  title(say("field.title"), me.person ?? "", null);
  return following(place, ["records", "receipts", "bundle", "refused", "install"], home);
}, { nav: true });

async function home() {
  const [records, known, refused, app] = await Promise.all([list(), bundle(), kept("refused"), kept("app")]);
  const tasks = open(known, records);
  const next = tasks[0];
  const due = next?.due_at ? Date.parse(next.due_at) - Date.now() : null;
  const left = due === null ? say("field.tasks_text") : due < 0 ? say("field.task_over", { ago: ago(-due) }) : say("field.task_left", { left: ago(due) });
  return [
    refused && refusedCard(refused),
    h("nav", { class: "f-tiles", "aria-label": say("field.title") },
      tile("scan", "scan", "field.scan", say("field.scan_text"), { main: true }),
      tile("patrol", "walk", "field.patrol", say("field.patrol_text")),
      tile("tasks", "tasks", "field.tasks", next ? left : say("field.tasks_text"), { count: tasks.length }),
      tile("report", "camera", "field.report", say("field.report_text"))),
    unsentCard(records),
    records.filter(isOpenVisit).map(visitCard),
    next && [h("h2", {}, say("field.next_task")), taskCard(next)],
    !app?.quiet && installCard(),
  ];
}

function tile(to, name, key, text, { main = false, count = 0 } = {}) {
  return h("a", { class: `f-tile${main ? " f-main" : ""}`, href: `#/${to}`, "data-testid": `field-go-${to}` },
    icon(name, 56), h("span", {}, say(key)), h("small", {}, text), count > 0 && h("em", {}, h("span", { class: "f-heard" }, say("field.open")), String(count)));
}

export function refusedCard({ text }) {
  return h("section", { class: "f-card f-row f-device", role: "alert", "data-testid": "field-refused" }, icon("warn", 28),
    h("div", { class: "f-grow" }, h("h3", {}, say("field.refused")), h("p", { class: "f-quiet" }, of(text), " ", say("field.refused_kept"))),
    h("a", { class: "f-btn f-plain", href: "#/start", "data-testid": "field-register-again" }, say("field.register_again")));
}

function unsentCard(records) {
  const waiting = records.filter(isUnsent).map((one) => one.recorded_at);
  const waited = waiting.length ? Date.now() - Math.min(...waiting) : 0;
  if (waited < HOUR_MS) return null;
  const long = waited > LONG_UNSENT_MS;
  return h("section", { class: `f-card f-row ${long ? "f-warn" : "f-device"}`, role: long ? "alert" : null, "data-testid": "field-unsent" }, icon(long ? "warn" : "clock", 28),
    h("div", { class: "f-grow" }, h("h3", {}, say("field.oldest", { ago: ago(waited) })), h("p", { class: "f-quiet" }, say(long ? "field.oldest_long" : "field.oldest_text"))),
    h("a", { class: "f-btn f-plain", href: "#/export" }, say("field.export")));
}

const isOpenVisit = ({ kind, new: fresh }) => kind === "visit" && fresh && !fresh.ended_at;

function visitCard(record) {
  const end = () => amend(record.id, { new: { ...record.new, ended_at: new Date().toISOString() } });
  return h("section", { class: "f-card f-row f-device f-on", "data-testid": "field-visit" }, icon("wrench", 28),
    h("div", { class: "f-grow" }, h("h3", {}, say("field.at_work", { station: record.object.name ?? record.object.station })),
      h("p", { class: "f-quiet" }, say("field.muted_since", { at: moment(record.new.began_at) }))),
    h("button", { class: "f-btn f-plain", type: "button", onclick: end }, say("field.end")));
}

// Urged at first, and until the person puts it aside.
function installCard() {
  if (isInstalled()) return null;
  const way = canInstall() ? h("button", { class: "f-btn", type: "button", onclick: install, "data-testid": "field-install" }, say("field.install"))
    : h("a", { class: "f-btn", href: "#/help" }, say("field.install_how"));
  return h("section", { class: "f-card f-row", "data-testid": "field-install-card" }, icon("download", 26), h("p", { class: "f-quiet f-grow" }, say("field.install_why")), way);
}

// -- tasks ------------------------------------------------------------------------------------------------------------

// The tasks of the bundle that this phone has not reported as done; the most urgent first.
function open(known, records) {
  const done = new Set(records.filter(({ kind }) => kind === "done").map(({ object }) => object.incident));
  const far = Number.MAX_SAFE_INTEGER;
  return (known?.tasks ?? []).filter(({ number }) => !done.has(number)).sort((one, other) => (Date.parse(one.due_at) || far) - (Date.parse(other.due_at) || far));
}

function taskCard(task) {
  const due = task.due_at ? Date.parse(task.due_at) : null;
  const over = due !== null && due < Date.now();
  return h("a", { class: "f-card f-row f-task", href: `#/tasks/${task.number}`, "data-testid": `field-task-${task.number}` },
    h("span", { class: `f-pennant ${task.colour}` }, say(`field.colour_${task.colour}`)),
    h("div", { class: "f-grow" }, h("h3", {}, of(task.title)),
      h("p", { class: "f-quiet" }, say("field.task_number", { number: task.number }),
        due !== null && ` · ${over ? say("field.task_over", { ago: ago(Date.now() - due) }) : say("field.task_due", { at: moment(due) })}`,
        task.needs_photo && ` · ${say("field.needs_photo")}`)));
}

screen("/tasks", async (place) => {
  const draw = async () => {
    const [known, records] = await Promise.all([bundle(), list()]);
    const tasks = open(known, records);
    title(say("field.tasks"), known ? say("field.as_of", { at: moment(known.as_of) }) : "");
    const reported = records.filter(({ kind }) => kind === "done").slice(0, 10);
    return [
      tasks.map(taskCard),
      !tasks.length && h("section", { class: "f-card f-empty", "data-testid": "field-no-tasks" }, h("h2", {}, say(known ? "field.no_tasks" : "field.no_bundle")), h("p", { class: "f-quiet" }, say("field.no_tasks_text"))),
      reported.length > 0 && [h("h2", {}, say("field.tasks_reported")), h("ul", { class: "f-card f-list" }, reported.map((one) =>
        h("li", {}, h("a", { class: "f-line", href: `#/queue/${one.id}` }, h("span", { class: "f-grow" }, say("field.task_number", { number: one.object.incident })), moment(one.recorded_at)))))],
    ];
  };
  return following(place, ["bundle", "records", "receipts"], draw);
});

// -- to begin ---------------------------------------------------------------------------------------------------------

screen("/start", (place) => start(place));

// Sign in, register this phone, take along stations and tasks; each step says what it is for.
async function start(place) {
  title(say("field.begin"), "", null);
  if (inWeChat()) place.append(h("section", { class: "f-card f-warn", role: "alert", "data-testid": "field-wechat" }, h("h2", {}, say("field.wechat")), h("p", {}, say("field.wechat_text"))));
  const steps = h("section", { class: "f-card f-steps" });
  place.append(h("p", { class: "f-quiet" }, say("field.begin_text")), steps);
  const draw = (...made) => steps.replaceChildren(...made.flat().filter(Boolean));
  draw(h("p", { class: "f-quiet", role: "status" }, say("field.looking")));
  try {
    askName(draw, (await fetchBundle({ session: true })).person.name);
  } catch (error) {
    draw(error.status === 401 ? signIn() : nothing(error));
  }
}

const signIn = () => [h("h2", {}, say("field.step_sign_in")), h("p", { class: "f-quiet" }, say("field.step_sign_in_text")),
  h("a", { class: "f-btn f-main f-wide", href: `/login?next=${encodeURIComponent("/field/")}`, "data-testid": "field-sign-in" }, say("field.sign_in"))];

const nothing = (error) => error.status === 403 ? forAnother() : [h("h2", {}, say(error.text ? "field.not_possible" : "field.no_answer")), h("p", { class: "f-quiet" }, error.text ? of(error.text) : say("field.no_answer_text")),
  h("button", { class: "f-btn f-main f-wide", type: "button", onclick: () => location.reload() }, icon("retry"), say("field.again"))];

// Somebody of the public signed in: who the app is for, and the form that they can use.
const forAnother = () => [h("h2", {}, say("field.not_yours")), h("p", { class: "f-quiet", "data-testid": "field-not-yours" }, say("field.not_yours_text")),
  h("a", { class: "f-btn f-main f-wide", href: "/report" }, say("field.report_form")),
  h("button", { class: "f-btn f-wide", type: "button", onclick: () => location.reload() }, icon("retry"), say("field.again"))];

function askName(draw, person) {
  const input = h("input", { name: "name", maxlength: 60, autocomplete: "off", value: deviceName(), "data-testid": "field-phone-name" });
  const wrong = h("p", { class: "f-wrong", role: "alert" });
  const button = h("button", { class: "f-btn f-main f-wide", "data-testid": "field-register" }, icon("phone"), say("field.register"));
  const act = async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      await register(input.value.trim() || deviceName(), person);
      await persist();
      await fetchBundle();
      tell(say("field.registered"));
      send(true);
      if (location.hash.length > 2) go("/");
      else dispatchEvent(new Event("hashchange"));
    } catch (error) {
      wrong.textContent = error.text ? of(error.text) : say("field.no_answer_text");
      button.disabled = false;
    }
  };
  draw(h("h2", {}, say("field.step_register", { person })), h("p", { class: "f-quiet" }, say("field.step_register_text")),
    h("form", { class: "f-form", onsubmit: act }, h("label", { class: "f-field" }, h("span", {}, say("field.phone_name")), input), wrong, button));
}

// What a person calls it by: the browser and the system.
function deviceName() {
  const agent = navigator.userAgent;
  const first = (names) => names.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = first([[/HuaweiBrowser/, "Huawei"], [/MiuiBrowser/, "MIUI"], [/Edg/, "Edge"], [/Firefox/, "Firefox"], [/Chrome/, "Chrome"], [/Safari/, "Safari"]]) ?? "Web";
  const system = first([[/HarmonyOS|OpenHarmony/, "HarmonyOS"], [/Android/, "Android"], [/iPhone/, "iPhone"], [/iPad/, "iPad"], [/Windows/, "Windows"], [/Mac/, "Mac"], [/Linux/, "Linux"]]) ?? "";
  return [browser, system].filter(Boolean).join(" · ");
}

// -- help -------------------------------------------------------------------------------------------------------------

screen("/help", async (place) => {
  title(say("field.help"));
  const known = await bundle();
  const desk = (known?.tasks ?? []).map((task) => task.phone).find(Boolean);
  const steps = ["install", "offline", "photos", "lost", "reading"];
  place.append(
    inWeChat() && h("section", { class: "f-card f-warn" }, h("h2", {}, say("field.wechat")), h("p", {}, say("field.wechat_text"))) || "",
    ...steps.map((name) => h("section", { class: "f-card" }, h("h2", {}, say(`field.help_${name}`)),
      h("p", { class: "f-quiet" }, say(name === "install" && isApple() ? "field.help_install_apple" : `field.help_${name}_text`)))),
    desk ? h("a", { class: "f-btn f-main f-wide", href: `tel:${desk}` }, icon("phone"), say("field.call_desk", { phone: desk })) : "");
});
