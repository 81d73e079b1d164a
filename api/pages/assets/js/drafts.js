// Drafts of forms (form[data-draft]): each change is kept in the browser at once and on the server a second later, until
// the server has accepted the form. A draft names the tab that typed it; one that another tab or device typed meanwhile
// is kept beside it, so that nothing is overwritten unseen.
import { button, moment, say } from "./words.js";

const SEND_AFTER_MS = 1000;
const AGAIN_MS = 4000;
const KEPT_MS = 14 * 24 * 3600e3;
const tab = Math.random().toString(36).slice(2);
const forms = new Map(); // form → {key, begun, draft, timer, sending, dirty}
const page = location.pathname.slice(1);
const prefix = `draft:${document.body.dataset.who ?? ""}:`;

const written = (field) => field.name && !["hidden", "file", "submit", "button", "password"].includes(field.type);
const fieldsOf = (form) =>
  [...form.elements]
    .filter((field) => written(field) && (!["radio", "checkbox"].includes(field.type) || field.checked))
    .flatMap((field) =>
      field.multiple && field.selectedOptions
        ? [...field.selectedOptions].map((one) => [field.name, one.value])
        : [[field.name, field.value]],
    );
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function fill(form, fields) {
  const used = fields.map(() => false);
  const take = (name) => {
    const at = fields.findIndex(([one], i) => one === name && !used[i]);
    if (at < 0) return null;
    used[at] = true;
    return fields[at][1];
  };
  for (const field of [...form.elements].filter(written)) {
    if (["radio", "checkbox"].includes(field.type)) {
      field.checked = fields.some(([name, value]) => name === field.name && value === field.value);
    } else if (field.multiple && field.options) {
      for (const one of field.options) one.selected = fields.some(([n, v]) => n === field.name && v === one.value);
    } else {
      const value = take(field.name);
      if (value !== null) field.value = value;
    }
  }
  form.dispatchEvent(new CustomEvent("rc-filled", { bubbles: true }));
}

function read(key) {
  try {
    const kept = JSON.parse(localStorage.getItem(prefix + key));
    return kept && Array.isArray(kept.fields) && Date.now() - kept.at < KEPT_MS ? kept : null;
  } catch {
    return null;
  }
}

function write(key, draft) {
  try {
    if (draft) localStorage.setItem(prefix + key, JSON.stringify(draft));
    else localStorage.removeItem(prefix + key);
  } catch {
    // no room or no storage: the server keeps it
  }
}

export function drafts() {
  for (const form of document.querySelectorAll("form[data-draft]")) {
    if (forms.has(form)) continue;
    const state = { key: `${page}:${form.dataset.draft}`, begun: fieldsOf(form), draft: null };
    forms.set(form, state);
    const local = read(state.key);
    if (local) restore(form, state, local);
    form.addEventListener("input", () => typed(form, state));
    form.addEventListener("change", () => typed(form, state));
  }
  for (const form of forms.keys()) if (!form.isConnected) forms.delete(form);
  if (forms.size) fetchKept();
}

function restore(form, state, draft) {
  state.draft = draft;
  if (same(draft.fields, fieldsOf(form)) && !draft.other) return;
  const page = fieldsOf(form);
  fill(form, draft.fields);
  if (!same(page, fieldsOf(form)) || draft.other) note(form, state);
}

async function fetchKept() {
  let found;
  try {
    const answer = await fetch(`/drafts?page=${encodeURIComponent(page)}`, { cache: "no-store" });
    if (!answer.ok || answer.redirected) return;
    found = (await answer.json()).drafts;
  } catch {
    return void setTimeout(fetchKept, AGAIN_MS);
  }
  for (const [form, state] of forms) if (state.key in found) meet(form, state, found[state.key]);
  for (const [form, state] of forms) if (state.draft && state.draft.version === 0) later(form, state, 0);
}

// What the server has meets what this browser has: the newer fills the form, unless somebody typed in it here; the other
// one stays at hand.
function meet(form, state, kept) {
  const local = state.draft;
  if (local && local.version === kept.version) return;
  if (kept.fields === null) {
    if (!local) return void (state.version = kept.version);
    if (local.at <= kept.at) return void forget(form, state, kept.version); // it was accepted: the browser missed it
    state.draft = { ...local, version: kept.version };
    return void save(form, state);
  }
  const theirs = { fields: kept.fields, at: kept.at };
  if (!local || same(local.fields, kept.fields)) {
    const draft = { ...theirs, tab, version: kept.version, ...(local?.other && { other: local.other }) };
    write(state.key, draft);
    return restore(form, state, draft);
  }
  const mine = { fields: local.fields, at: local.at };
  const [first, other] = kept.at > local.at && !state.typed ? [theirs, mine] : [mine, theirs];
  state.draft = { ...first, tab, version: kept.version, other };
  if (first === theirs) fill(form, theirs.fields);
  save(form, state);
  note(form, state);
}

function typed(form, state) {
  const fields = fieldsOf(form);
  const before = read(state.key);
  if (same(fields, state.draft?.fields ?? state.begun)) return;
  state.typed = true;
  let other = state.draft?.other ?? null;
  if (before && before.tab !== tab && before.at > (state.draft?.at ?? 0) && !same(before.fields, fields)) {
    other = { fields: before.fields, at: before.at };
  }
  const version = Math.max(before?.version ?? 0, state.draft?.version ?? state.version ?? 0);
  state.draft = { fields, at: Date.now(), tab, version, ...(other && { other }) };
  save(form, state);
  if (other) note(form, state);
}

function save(form, state) {
  write(state.key, state.draft);
  state.dirty = true;
  later(form, state, SEND_AFTER_MS);
}

function later(form, state, ms) {
  clearTimeout(state.timer);
  state.timer = setTimeout(() => send(form, state), ms);
}

async function send(form, state, leaving = false) {
  if (!state.draft || (state.sending && !leaving)) return;
  const { fields, at, version } = state.draft;
  state.sending = true;
  state.dirty = false;
  try {
    const answer = await fetch(`/drafts/${encodeURIComponent(state.key)}`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ fields, at, version }),
      keepalive: leaving,
    });
    if (answer.redirected || answer.status < 500) {
      const said = answer.ok && !answer.redirected ? await answer.json() : {};
      if (said.draft && state.draft) meet(form, state, said.draft);
      else if (said.kept && state.draft) {
        state.draft = { ...state.draft, version: said.version };
        const stored = read(state.key);
        if (!stored || stored.tab === tab) write(state.key, state.draft);
      }
    } else throw new Error(String(answer.status));
  } catch {
    state.dirty = true;
  } finally {
    state.sending = false;
  }
  if (state.dirty) later(form, state, AGAIN_MS);
}

// The line above a form that says where its words come from.
function note(form, state) {
  form.querySelector(".draft-note")?.remove();
  if (!state.draft) return;
  const line = document.createElement("p");
  line.className = "draft-note";
  line.dataset.testid = "draft-note";
  line.setAttribute("role", "status");
  line.append(say("draftRestored", { at: moment(state.draft.at) }), " ", button(say("draftDiscard"), () => discard(form, state)));
  line.lastChild.dataset.testid = "draft-discard";
  if (state.draft.other) {
    line.append(" ", button(say("draftOther", { at: moment(state.draft.other.at) }), () => swap(form, state)));
    line.lastChild.dataset.testid = "draft-other";
  }
  form.prepend(line);
}

function swap(form, state) {
  const { fields, at, other, version } = state.draft;
  state.draft = { fields: other.fields, at: Date.now(), tab, version, other: { fields, at } };
  fill(form, other.fields);
  save(form, state);
  note(form, state);
  form.querySelector('[data-testid="draft-other"]')?.focus();
}

function discard(form, state) {
  fill(form, state.begun);
  state.draft = { fields: state.begun, at: Date.now(), tab, version: state.draft.version };
  save(form, state); // so that other tabs and devices learn of it
  note(form, state);
  form.querySelector(".draft-note")?.remove();
  [...form.elements].find(written)?.focus();
}

function forget(form, state, version = 0) {
  clearTimeout(state.timer);
  write(state.key, null);
  state.dirty = false;
  if (state.draft && same(state.draft.fields, fieldsOf(form))) fill(form, state.begun);
  state.draft = null;
  state.version = version;
  form.querySelector(".draft-note")?.remove();
}

// What a form is sent with, so that the server deletes its draft when it accepts it.
export function headersOf(form) {
  const state = forms.get(form);
  return { "X-Form": state ? state.key : "", ...(state && { "X-Typed": String(state.draft?.at ?? Date.now()) }) };
}

// Hold the draft back while its form is on its way.
export function pause(form) {
  clearTimeout(forms.get(form)?.timer);
}

export function resume(form) {
  const state = forms.get(form);
  if (state?.draft) later(form, state, SEND_AFTER_MS);
}

export function wasAccepted(form) {
  const state = forms.get(form);
  if (!state) return;
  clearTimeout(state.timer);
  write(state.key, null);
  forms.delete(form);
}

addEventListener("storage", (event) => {
  for (const [form, state] of forms) {
    if (event.key !== prefix + state.key) continue;
    const kept = read(state.key);
    if (!kept || kept.tab === tab || same(kept.fields, fieldsOf(form))) continue;
    if (!state.draft) restore(form, state, kept);
    else {
      state.draft = { ...state.draft, version: kept.version, other: { fields: kept.fields, at: kept.at } };
      note(form, state);
    }
  }
});
addEventListener("online", () => forms.forEach((state, form) => state.dirty && later(form, state, 0)));
document.addEventListener("rc-beat", () => forms.forEach((state, form) => state.dirty && !state.sending && later(form, state, 0)));
addEventListener("pagehide", () => forms.forEach((state, form) => state.dirty && send(form, state, true)));
