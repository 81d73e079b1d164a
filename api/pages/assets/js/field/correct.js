// Correct what is in effect at the server: a record of its own that names the earlier one, with what was said and what is right.
import { foot, go, h, of, screen, tell, title } from "./app.js";
import { button, card, placeCard, say, textField } from "./parts.js";
import { placeNow } from "./place.js";
import * as store from "./store.js";

const FIELDS = { patrol: "note", done: "comment", place: "place" };

// What a record says by now, with the corrections that this phone sent; null for one that cannot be corrected.
export async function inEffect(record) {
  if (!record || !(record.kind in FIELDS) || store.stateOf(record) !== "sent") return null;
  const later = (await store.list()).filter((one) => one.kind === "correct" && one.object.record === record.id && store.stateOf(one) !== "refused").reverse();
  const said = Object.assign({}, record.new, ...later.map((one) => one.new));
  return said.undone ? null : said;
}

screen("/correct/:id", async (place, { id }) => {
  const record = await store.record(id);
  const said = await inEffect(record);
  title(say("correct"), "", `/queue/${id}`);
  if (!said) return void place.append(card({ "data-testid": "correct-not" }, h("p", {}, say("correct_not"))));
  const name = FIELDS[record.kind];
  let right = said[name];
  const follower = name === "place" ? placeCard("correct-place", () => say("place_kept")) : null;
  place.append(
    card({}, h("p", {}, say("correct_note"))),
    follower ? follower.element : textField("correct-text", say("correct_to"), right, (text) => (right = text), { rows: 3, maxlength: 1000 }));
  const send = (changes) => async () => {
    const fresh = changes ?? { [name]: follower ? placeNow() : right.trim() };
    if (!changes && !fresh[name]) return tell(say(follower ? "place_not_yet" : "correct_empty"));
    const made = await store.save("correct", { object: { record: id, name: of(record.object.name) || null }, old: { [name]: said[name] }, new: fresh });
    tell(say("saved"));
    go(`/queue/${made}`);
  };
  foot(button("correct-undo", say("take_back"), send({ undone: true })), button("correct-save", say("correct"), send(null), { main: true, mark: "done" }));
  return () => follower?.end();
}, { form: true });
