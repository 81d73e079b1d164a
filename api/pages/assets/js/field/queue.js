// What was recorded on this phone and how far each record is; two versions side by side; the file of what was not sent.
import { ago, go, h, icon, isOnline, knows, moment, of, say, foot, screen, tell, title } from "./app.js";
import { exported } from "./export.js";
import { following, refusedCard } from "./home.js";
import { parameters } from "./parts.js";
import { photosAgain, send } from "./send.js";
import { isUnsent, kept, list, record as recordOf, stateOf, update, tell as changed } from "./store.js";

const KINDS = { hang: "probe", calibrate: "wrench", visit: "wrench", report: "camera", patrol: "walk", done: "done", place: "pin", correct: "retry" };
const SIGNS = { waiting: "", photos: "", sent: "f-ok", conflict: "f-dev", office: "f-dev", refused: "f-no" };

let known = new Map(); // the parameters by key, as of the screen that is drawn

// What a record is, in a line: its kind and what it is about.
function about({ kind, object, new: fresh }) {
  const what = object.name ?? object.station ?? (object.incident ? say("field.task_number", { number: object.incident }) : "") ?? "";
  const text = fresh?.text ?? fresh?.comment ?? "";
  return [say(`field_queue.kind_${kind}`), of(what) || text.slice(0, 24), object.parameter && (of(known.get(object.parameter)?.name) || object.parameter)].filter(Boolean).join(" ");
}

const short = (id) => id.slice(0, 8).toUpperCase();
const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1000))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const bytesLeft = (records) => records.flatMap((one) => one.photos).filter((one) => !one.stored).reduce((sum, one) => sum + one.bytes, 0);

// The words of an error: the server's own, ours with values, or that there was no answer.
function words({ status, text }) {
  if (text?.key) return say(text.key, text.values);
  if (text) return of(text);
  return status ? say("field_queue.status", { status }) : say("field_queue.no_answer");
}

const line = (sign, ...content) => h("p", { class: "f-said" }, icon(sign, 18), h("span", {}, ...content));

function row(record) {
  const state = stateOf(record);
  const { receipt, error, photos, photos_lost: lost } = record;
  const stored = photos.filter((one) => one.stored).length;
  const failed = photos.filter((one) => one.given_up && !one.stored);
  const there = record.received > 0;
  return h("li", { class: "f-record", "data-testid": `field-record-${record.id}`, "data-state": state },
    h("div", { class: "f-record-head" },
      h("h3", {}, h("a", { href: `#/queue/${record.id}` }, about(record))),
      h("span", { class: `f-chip ${failed.length ? "f-no" : SIGNS[state]}` }, failed.length ? say("field_queue.photos_failed", { n: failed.length }) : say(`field_queue.state_${state}`))),
    h("p", { class: "f-small" }, say("field_queue.recorded", { at: moment(record.recorded_at) })),
    there ? line("done", say("field_queue.receipt", { number: short(receipt.id ?? record.id), at: moment(receipt.received_at) })) : line(error ? "retry" : "clock", say(isOnline() ? "field_queue.text_waits" : "field_queue.text_kept")),
    there && state === "waiting" && line("clock", say("field_queue.correction_waits")),
    photos.length > 0 && [line(stored === photos.length ? "done" : "up", say("field_queue.photos", { n: stored, of: photos.length })),
      stored < photos.length && h("progress", { class: "f-progress", max: photos.length, value: stored, "aria-label": say("field_queue.photos", { n: stored, of: photos.length }) })],
    lost > 0 && line("warn", say("field_queue.photos_lost", { n: lost })),
    receipt && state !== "sent" && of(receipt.message) && line(state === "refused" ? "cross" : "help", of(receipt.message)),
    error && line("cross", words(error)),
    failed.slice(0, 1).map((one) => line("cross", say("field_queue.photo_refused", { why: words(one.error) }))),
    failed.length > 0 && h("button", { class: "f-btn f-wide", type: "button", onclick: () => photosAgain(record.id), "data-testid": "field-photos-again" }, icon("retry"), say("field_queue.photos_again")),
    state === "conflict" && (record.decision
      ? line("clock", say(`field_queue.decided_${record.decision.keep}`))
      : h("a", { class: "f-btn f-wide", href: `#/conflict/${record.id}`, "data-testid": "field-compare" }, icon("compare"), say("field_queue.compare"))));
}

screen("/queue", async (place) => {
  title(say("field_queue.title"));
  const draw = async () => {
    const [records, refused, names] = await Promise.all([list(), kept("refused"), parameters()]);
    known = names;
    const unsent = records.filter(isUnsent);
    const texts = unsent.filter((one) => stateOf(one) === "waiting").length;
    const photos = records.flatMap((one) => one.photos).filter((one) => !one.stored && !one.given_up).length;
    const head = !unsent.length ? "all_sent" : !texts ? "texts_sent" : photos ? "texts_wait" : "only_texts_wait";
    foot(
      h("a", { class: "f-btn f-plain", href: "#/export", "data-testid": "field-export" }, icon("download"), say("field_queue.export")),
      h("button", { class: "f-btn f-main", type: "button", disabled: !unsent.length, onclick: now, "data-testid": "field-send" }, icon("retry"), say("field_queue.now")),
    );
    const attention = records.filter((one) => ["conflict", "refused"].includes(stateOf(one)) && !isUnsent(one));
    const rest = records.filter((one) => !unsent.includes(one) && !attention.includes(one));
    return [
      refused && refusedCard(refused),
      h("section", { class: "f-head-card", "data-testid": "field-queue-head", role: "status" },
        h("h2", {}, say(`field_queue.${head}`, { texts, photos, n: unsent.length })),
        h("p", { class: "f-quiet" }, [photos > 0 && size(bytesLeft(records)), say("field_queue.kept_until")].filter(Boolean).join(" · "))),
      !records.length && h("section", { class: "f-card", "data-testid": "field-queue-empty" }, h("p", { class: "f-quiet" }, say("field_queue.empty"))),
      part(null, [...attention, ...unsent]),
      part("field_queue.sent", rest),
    ];
  };
  return following(place, ["records", "receipts", "refused"], draw);
});

const part = (key, records) => records.length > 0 && [key && h("h2", {}, say(key)), h("ul", { class: "f-card f-list" }, records.map(row))];

async function now() {
  await send(true);
  if (!isOnline()) tell(say("field_queue.still_offline"));
}

// -- one record -------------------------------------------------------------------------------------------------------

screen("/queue/:id", async (place, { id }) => {
  const draw = async () => {
    const record = await recordOf(id);
    if (!record) return [h("section", { class: "f-card" }, h("p", { class: "f-quiet" }, say("field_queue.gone")))];
    known = await parameters();
    title(about(record), "", "/queue");
    return [h("ul", { class: "f-card f-list" }, row(record)), h("section", { class: "f-card" }, h("h2", {}, say("field_queue.content")), table([["", record.new]]))];
  };
  return following(place, ["records", "receipts"], draw);
});

// -- two versions side by side ----------------------------------------------------------------------------------------

const label = (name) => (knows(`field_queue.value_${name}`) ? say(`field_queue.value_${name}`) : name.replaceAll("_", " "));

function shown(value) {
  if (value === null || value === undefined || value === "") return "—";
  if (Array.isArray(value)) return value.every((one) => typeof one !== "object") ? value.join("、") : say("field_queue.items", { n: value.length });
  if (typeof value === "object") {
    if ("lon" in value) return `${Number(value.lat).toFixed(5)}, ${Number(value.lon).toFixed(5)}${value.accuracy_m ? ` ${say("field.metres", { n: Math.round(value.accuracy_m) })}` : ""}`;
    return "zh" in value ? of(value) : Object.values(value).map(shown).join(" · ");
  }
  if (typeof value === "boolean") return say(value ? "field_queue.yes" : "field_queue.no");
  return /^\d{4}-\d\d-\d\dT/.test(value) ? moment(value) : String(value);
}

// Values beside each other; rows that differ are marked. `sides`: [heading, values].
function table(sides) {
  const names = [...new Set(sides.flatMap(([, values]) => Object.keys(values ?? {})))];
  const texts = names.map((name) => sides.map(([, values]) => shown(values?.[name]))).map((row, at) => ({ name: names[at], row })).filter(({ row }) => row.some((one) => one !== "—"));
  return h("table", { class: "f-sides" },
    sides.length > 1 && h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "f-heard" }, say("field_queue.value"))), sides.map(([heading]) => h("th", { scope: "col" }, heading)))),
    h("tbody", {}, texts.map(({ name, row }) => {
      const differs = new Set(row).size > 1;
      return h("tr", { class: differs ? "f-diff" : null }, h("th", { scope: "row" }, label(name), differs && h("span", { class: "f-heard" }, say("field_queue.differs"))), row.map((one) => h("td", {}, one)));
    })));
}

screen("/conflict/:id", async (place, { id }) => {
  const record = await recordOf(id);
  if (!record?.receipt) return go("/queue");
  known = await parameters();
  title(about(record), say("field_queue.two"), "/queue");
  const { mine, theirs, message } = record.receipt;
  const decide = async (keep) => {
    await update(id, (one) => (one.decision = { keep, at: Date.now(), done: false }));
    changed("records");
    tell(say(`field_queue.decided_${keep}`));
    go("/queue");
  };
  const heading = (key, at) => [say(key), at && h("small", {}, moment(at))];
  const their = theirs?.by ?? theirs?.person;
  place.append(
    h("p", { class: "f-quiet" }, say("field_queue.conflict_text")),
    h("section", { class: "f-card", "data-testid": "field-conflict" }, table([
      [heading("field_queue.mine", record.recorded_at), mine ?? record.new],
      [their ? [of(their), theirs.at && h("small", {}, moment(theirs.at))] : heading("field_queue.theirs", theirs?.at), theirs?.new ?? theirs]])),
    of(message) ? h("section", { class: "f-card f-row" }, icon("help"), h("p", { class: "f-quiet f-grow" }, of(message))) : "");
  foot(
    h("button", { class: "f-btn", type: "button", onclick: () => decide("theirs"), "data-testid": "field-keep-theirs" }, say("field_queue.keep_theirs")),
    h("button", { class: "f-btn", type: "button", onclick: () => decide("mine"), "data-testid": "field-keep-mine" }, say("field_queue.keep_mine")));
});

// -- the file of what was not sent ------------------------------------------------------------------------------------

screen("/export", async (place) => {
  known = await parameters();
  title(say("field_queue.export_title"), "", "/queue");
  const records = (await list()).filter((one) => isUnsent(one) || one.photos.some((entry) => !entry.stored));
  if (!records.length) {
    place.append(h("section", { class: "f-card", "data-testid": "field-export-empty" }, h("h2", {}, say("field_queue.all_sent")), h("p", { class: "f-quiet" }, say("field_queue.export_empty"))));
    return;
  }
  const photos = records.flatMap((one) => one.photos).filter((one) => !one.stored);
  const oldest = Math.min(...records.map((one) => one.recorded_at));
  const file = h("p", { class: "f-quiet", role: "status" }, say("field_queue.export_making"));
  place.append(
    h("section", { class: "f-card" }, h("h2", {}, say("field_queue.export_count", { n: records.length, photos: photos.length })),
      h("p", { class: "f-small" }, say("field_queue.export_oldest", { at: moment(oldest), ago: ago(Date.now() - oldest) })),
      h("ul", { class: "f-list" }, records.map((one) => h("li", { class: "f-line" }, icon(KINDS[one.kind], 22),
        h("span", { class: "f-grow" }, about(one), one.photos.length > 0 && h("small", {}, say("field_queue.export_photos", { n: one.photos.length }))), h("span", { class: "f-small f-number" }, moment(one.recorded_at)))))),
    h("section", { class: "f-card f-stack" }, file, h("p", { class: "f-quiet" }, say("field_queue.export_text"))),
    h("p", { class: "f-small" }, say("field_queue.export_keeps")));
  const made = await exported(records);
  file.replaceChildren(icon("file", 22), " ", h("b", {}, made.name), ` · ${size(made.size)} · ${say("field_queue.export_signed")}`);
  const address = URL.createObjectURL(made);
  const share = navigator.canShare?.({ files: [made] }) && h("button", { class: "f-btn", type: "button", onclick: () => navigator.share({ files: [made] }).catch(() => null) }, icon("share"), say("field_queue.share"));
  foot(share, h("a", { class: "f-btn f-main", href: address, download: made.name, "data-testid": "field-export-save" }, icon("download"), say("field_queue.export_save")));
  return () => URL.revokeObjectURL(address);
});
