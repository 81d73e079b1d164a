// Report something seen: photo, kind, a sentence, send. The place comes by itself, or later.
import { foot, go, h, icon, of, screen, tell, title } from "./app.js";
import { kinds, matterOf, wordsOf } from "./kinds.js";
import { asPhotos, button, card, choices, distanceText, link, openDraft, photoField, placeCard, say, textField } from "./parts.js";
import { placeNow } from "./place.js";
import * as store from "./store.js";
import { nearest } from "./track.js";

const ROOM = { maxlength: 1000, rows: 2 };

screen("/report", (place) => reportScreen(place, ""), { form: true });
screen("/report/:reach", (place, { reach }) => reportScreen(place, reach), { form: true });

async function reportScreen(place, reachKey) {
  const bundle = await store.bundle();
  const reach = bundle?.reaches?.find((one) => one.key === reachKey);
  const draft = await openDraft(`report:${reachKey}`, { photos: [], kind: "", text: "", place: null }, { hash: location.hash.slice(1), title: say("report") });
  const { value } = draft;
  title(say("report"), of(reach?.name));
  const words = (fix) => {
    const near = nearest(fix, bundle?.stations ?? []);
    return near && near.metres < 2000 ? say("near", { name: of(near.thing.name), far: distanceText(near.metres) }) : say("place_kept");
  };
  const shown = placeCard("report-place", words, (fix) => {
    if (!value.place || fix.accuracy_m <= value.place.accuracy_m) value.place = placeNow(); // the best one; stored with the next input
  });
  place.append(
    photoField("report-photo", say("photos"), value.photos, (photos) => draft.set({ photos })),
    choices("report-kind", say("what"), kinds(), value.kind, (kind) => draft.set({ kind }), "pictures"),
    shown.element,
    textField("report-text", say("say_something"), value.text, (text) => draft.set({ text }), { ...ROOM, placeholder: say("for_example") }));
  async function finish() {
    if (!value.kind && !value.text.trim() && !value.photos.length) return tell(say("report_needs"));
    const known = placeNow() ?? value.place;
    const record = {
      object: {},
      new: { text: wordsOf(value.kind, value.text), matter: matterOf(value.kind, bundle), place: known, reach: reach?.key ?? null },
    };
    const id = await draft.finish("report", record, asPhotos(value.photos, "report"));
    shown.end();
    title(say("report"), of(reach?.name));
    place.replaceChildren(
      card({ class: "fw-saved", "data-testid": "report-saved" }, icon("done", 44), h("h2", {}, say("saved")), h("p", {}, say("saved_sends"))),
      known ? "" : card({ class: "fw-dev", "data-testid": "report-no-place" }, h("h2", {}, say("no_place")), h("p", {}, say("no_place_note")), link("report-add-place", `/place/${id}`, say("add_place"), "pin")));
    foot(link("report-queue", `/queue/${id}`, say("see_record")), link("report-home", "/", say("home")));
  }
  foot(button("report-send", say("send"), finish, { main: true, mark: "done" }));
  return () => shown.end();
}

// Records that still want a place: reports without a place or a water, new stations without a place.
export async function withoutPlace() {
  const records = await store.list();
  const added = new Set(records.filter(({ kind }) => kind === "place").map(({ object }) => object.record));
  return records.filter((one) => {
    if (one.new.place || added.has(one.id) || store.stateOf(one) === "refused") return false;
    if (one.kind === "hang") return one.new.station_new && one.receipt?.outcome !== "applied";
    return one.kind === "report" && !one.new.reach;
  });
}

// Part of the record itself while the server has not acted on it, else a record of its own.
async function addPlace(id, place, reach) {
  const record = await store.record(id);
  const open = record.kind === "hang" || (!record.tries && !record.received);
  if (open) return store.amend(id, { new: { ...record.new, place, ...(record.kind === "report" && { reach: reach || null }) } });
  return store.save("place", { object: { record: id }, new: { place } });
}

screen("/place/:record", async (place, { record: id }) => {
  const [record, bundle] = await Promise.all([store.record(id), store.bundle()]);
  title(say("add_place"), "", `/queue/${id}`);
  if (!record) return void place.append(card({}, h("p", {}, say("no_record"))));
  const shown = placeCard("place-here", () => say("place_kept"));
  place.append(card({}, h("h2", {}, record.new.text ?? record.new.station_new?.name ?? ""), h("p", { class: "f-small" }, say("place_which"))), shown.element);
  const reaches = record.kind === "report" && !record.received ? (bundle?.reaches ?? []) : [];
  const select = h("select", { "data-testid": "place-reach" }, h("option", { value: "" }, say("no_reach")), reaches.map((one) => h("option", { value: one.key }, of(one.name))));
  if (reaches.length) place.append(h("label", { class: "f-field" }, h("span", {}, say("or_reach")), select));
  foot(button("place-save", say("put_place"), async () => {
    const found = placeNow();
    if (!found && !select.value) return tell(say("place_not_yet"));
    await addPlace(id, found, select.value);
    tell(say("place_put"));
    go(`/queue/${id}`);
  }, { main: true, mark: "pin" }));
  return () => shown.end();
}, { form: true });
