// A visit: while it goes on, the sensors worked on raise no alarm. It is one record, sent when it begins and when it ends.
import { ago, h, moment, of, screen, tell, title, foot, go } from "./app.js";
import { asPhotos, button, card, isoOf, photoField, say, stationOf, textField } from "./parts.js";
import * as store from "./store.js";

const OVERRUN_MS = 2 * 3600e3;
const LONG_MS = 90 * 24 * 3600e3;

export async function openVisits() {
  const records = await store.list();
  return records.filter((one) => one.kind === "visit" && !one.new.ended_at && one.recorded_at > Date.now() - LONG_MS);
}

// How long a visit is over the time that most take; 0 while it is not.
export const overrun = (visit) => Math.max(0, Date.now() - Date.parse(visit.new.began_at) - OVERRUN_MS);

// Begins a visit, unless one goes on there; the id of the new one, or null.
export async function startVisit(station, parameters, id) {
  if ((await openVisits()).some((one) => one.object.station === station)) return null;
  const name = of((await stationOf(station))?.name);
  return store.save("visit", { id, object: { station, name }, new: { began_at: isoOf(Date.now()), ended_at: null, note: "", parameters } });
}

export async function endVisit(visit, note = visit.new.note, ended_at = isoOf(Date.now())) {
  await store.amend(visit.id, { new: { ...visit.new, ended_at, note } });
  await store.dropDraft(`visit:${visit.id}`);
}

screen("/s/:station/visit", async (place, { station: key }) => {
  const station = await stationOf(key);
  const back = `/s/${encodeURIComponent(key)}`;
  title(say("visit"), of(station?.name) || key, back);
  const visit = (await openVisits()).find((one) => one.object.station === key);
  if (!visit) {
    place.append(card({ "data-testid": "visit-none" }, h("p", {}, say("visit_none"))));
    foot(button("visit-start", say("visit_start"), async () => (await startVisit(key, []), go(back)), { main: true, mark: "wrench" }));
    return;
  }
  const draftKey = `visit:${visit.id}`;
  const value = (await store.draft(draftKey)) ?? { note: visit.new.note, photos: [] };
  const set = (changes) => store.setDraft(draftKey, Object.assign(value, changes));
  const late = overrun(visit);
  const names = visit.new.parameters.map((one) => of(station?.deployments.find(({ parameter }) => parameter === one)?.name) || one);
  place.append(
    card({ class: "fw-dev", "data-testid": "visit-muted" }, h("h2", {}, say("visiting", { at: moment(visit.new.began_at) })),
      h("p", {}, names.length ? say("muted_sensors", { names: names.join(say("comma")) }) : say("muted_station")),
      late ? h("p", { "data-testid": "visit-overrun" }, h("b", {}, say("visit_late", { time: ago(late) }))) : null),
    photoField("visit-photo", say("photos"), value.photos, (photos) => set({ photos })),
    textField("visit-note", say("note"), value.note, (note) => set({ note }), { rows: 3, maxlength: 1000 }));
  foot(button("visit-end", say("visit_end"), async () => {
    while (value.photos.length) {
      await store.addPhoto(visit.id, asPhotos(value.photos, "visit")[0]);
      await set({ photos: value.photos.slice(1) });
    }
    await endVisit(visit, value.note);
    tell(say("visit_ended"));
    go(back);
  }, { main: true, mark: "done" }));
}, { form: true });
