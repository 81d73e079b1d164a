// About this phone and the app on it; a file from another phone is brought to the server here.
import { h, icon, language, LANGUAGES, moment, of, say, screen, speak, tell, title } from "./app.js";
import { bring, read } from "./export.js";
import { canInstall, install, isInstalled, isPersisted, persist } from "./install.js";
import { phone } from "./phone.js";
import { fetchBundle } from "./send.js";
import { BUILD, kept, list } from "./store.js";
import { following } from "./home.js";

screen("/settings", async (place) => {
  title(say("field.settings"), "", null);
  return following(place, ["phone", "bundle", "receipts", "install"], settings);
}, { nav: true });

async function settings() {
  const [me, persisted, records, had, clock] = await Promise.all([phone(), isPersisted(), list(), kept("bundle"), kept("clock")]);
  const off = Math.round((clock?.offset_ms ?? 0) / 60e3);
  const fact = (key, value, testid) => [h("dt", {}, say(key)), h("dd", { "data-testid": testid }, value)];
  return [
    h("section", { class: "f-card" }, h("dl", { class: "f-facts" },
      fact("field.phone_name", me ? me.name : say("field.not_registered"), "field-phone"),
      me && fact("field.person", me.person ?? "—"),
      me && fact("field.registered_at", moment(me.registered_at)),
      fact("field.installed", say(isInstalled() ? "field.yes" : "field.no_browser")),
      fact("field.storage", say(persisted ? "field.persisted" : "field.not_persisted"), "field-persisted"),
      fact("field.kept", say("field.records", { n: records.length })),
      fact("field.bundle", had ? `${moment(had.at)} · ${say("field.stations", { n: had.content.stations.length })}` : say("field.no_bundle")),
      Math.abs(off) >= 2 && fact("field.clock", say("field.clock_off", { n: Math.abs(off) })),
      fact("field.version", BUILD || "—", "field-version"))),
    h("div", { class: "f-stack" },
      !isInstalled() && canInstall() && h("button", { class: "f-btn", type: "button", onclick: install }, icon("download"), say("field.install")),
      !persisted && h("button", { class: "f-btn", type: "button", onclick: askKeep }, icon("file"), say("field.ask_persist")),
      h("button", { class: "f-btn", type: "button", onclick: renew, "data-testid": "field-renew" }, icon("retry"), say("field.renew")),
      h("a", { class: "f-btn f-plain", href: "#/start" }, icon("phone"), say(me ? "field.register_again" : "field.register")),
      h("a", { class: "f-btn f-plain", href: "#/import", "data-testid": "field-go-import" }, icon("file"), say("field.import"))),
    h("fieldset", { class: "f-card f-row" }, h("legend", { class: "f-heard" }, say("field.language")), h("span", { class: "f-grow" }, say("field.language")),
      LANGUAGES.map((one) => h("button", { class: `f-btn${one === language ? " f-main" : " f-plain"}`, type: "button", "aria-pressed": String(one === language), onclick: () => speak(one), "data-testid": `field-language-${one}` }, say(`field.language_${one}`)))),
  ];
}

async function askKeep() {
  tell(say((await persist()) ? "field.persisted" : "field.not_persisted_why"));
}

async function renew() {
  try {
    await fetchBundle();
    tell(say("field.renewed"));
  } catch (error) {
    tell(error.text ? of(error.text) : say("field.no_answer_text"));
  }
}

screen("/import", (place) => {
  title(say("field.import"), "", "/settings");
  const said = h("div", { role: "status", class: "f-stack", "data-testid": "field-import-said" });
  const input = h("input", { type: "file", accept: "application/json,.json", class: "f-heard", id: "field-file", onchange: chosen, "data-testid": "field-import-file" });
  function chosen() {
    const [file] = input.files;
    input.value = ""; // the same file may be chosen again
    if (file) take(file);
  }
  async function take(file) {
    said.replaceChildren();
    try {
      const content = await read(file);
      const bar = h("progress", { class: "f-progress", max: content.requests.length, value: 0, "aria-label": say("field.import") });
      said.replaceChildren(h("p", {}, say("field.import_from", { person: content.person, phone: content.name, at: moment(content.exported_at) })), bar);
      const refusals = await bring(content, (done) => (bar.value = done));
      said.append(h("p", { "data-testid": "field-import-done" }, say("field.import_done", { n: content.requests.length - refusals.length, of: content.requests.length })),
        ...refusals.slice(0, 10).map(({ path, text }) => h("p", { class: "f-wrong" }, `${path.split("/")[5]}: ${text ? of(text) : say("field.no_answer")}`)));
    } catch {
      said.replaceChildren(h("p", { class: "f-wrong", role: "alert" }, say("field.import_wrong")));
    }
  }
  place.append(h("p", { class: "f-quiet" }, say("field.import_text")), input, h("label", { class: "f-btn f-main", for: "field-file" }, icon("file"), say("field.import_choose")), said);
});
