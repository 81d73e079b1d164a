// My task: see it, take the photo afterwards, done. Three steps.
import { ago, foot, go, h, icon, moment, of, say as word, screen, tell, title } from "./app.js";
import { asPhotos, button, card, openDraft, photoField, say, textField } from "./parts.js";
import * as store from "./store.js";

screen("/tasks/:number", async (place, { number: text }) => {
  const number = Number(text);
  const [bundle, records] = await Promise.all([store.bundle(), store.list()]);
  const task = bundle?.tasks?.find((one) => one.number === number);
  title(say("task_n", { number }), "", "/tasks");
  const sent = records.find((one) => one.kind === "done" && one.object.incident === number);
  if (!task && !sent) return void place.append(card({ "data-testid": "task-unknown" }, h("h2", {}, say("no_task")), h("p", {}, say("no_task_note"))));
  if (sent) return void place.append(doneCard(sent));
  const draft = await openDraft(`done:${number}`, { photos: [], comment: "" }, { hash: location.hash.slice(1), title: of(task.title) });
  const { value } = draft;
  place.append(
    taskCard(task),
    photoField("task-photo", say(task.needs_photo ? "after_photo_needed" : "after_photo"), value.photos, (photos) => draft.set({ photos })),
    textField("task-comment", say("what_was_done"), value.comment, (comment) => draft.set({ comment }), { rows: 2, maxlength: 1000 }));
  async function finish() {
    if (task.needs_photo && !value.photos.length) {
      tell(say("task_needs_photo"));
      return place.querySelector("[data-testid=task-photo]").focus();
    }
    await draft.finish("done", { object: { incident: number }, new: { comment: value.comment.trim() || say("done_text") } }, asPhotos(value.photos, "after"));
    tell(say("saved_task"));
    go("/tasks");
  }
  foot(
    task.phone && h("a", { class: "f-btn f-plain", href: `tel:${task.phone}`, "data-testid": "task-call" }, icon("phone", 22), say("call_desk")),
    button("task-done", say("done"), finish, { main: true, mark: "done" }));
}, { form: true });

function taskCard(task) {
  const due = task.due_at ? Date.parse(task.due_at) : null;
  const left = due === null ? null : due - Date.now();
  const place = task.place?.lon ?? null;
  return card({ "data-testid": "task" },
    h("div", { class: "f-row fw-top" }, h("span", { class: `f-pennant ${task.colour}` }, word(`field.colour_${task.colour}`)), h("h2", { class: "f-grow" }, of(task.title))),
    left === null ? null : h("p", {}, h("b", {}, say(left < 0 ? "over" : "left", { time: ago(Math.abs(left)) })), ` · ${say("until", { at: moment(due) })}`),
    place === null ? null : h("p", { class: "f-small" }, h("a", { href: `geo:${task.place.lat},${task.place.lon}` }, say("show_way"))));
}

function doneCard(record) {
  const state = store.stateOf(record);
  const text = of(record.receipt?.message) || say(state === "sent" ? "is_sent" : "is_waiting");
  return card({ class: "fw-saved", "data-testid": "task-reported", "data-state": state }, icon(state === "sent" ? "done" : "clock", 44), h("h2", {}, say("task_reported", { at: moment(record.recorded_at) })), h("p", {}, text),
    h("a", { class: "f-btn f-plain", href: `#/queue/${record.id}` }, say("see_record")));
}
