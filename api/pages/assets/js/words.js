// Sentences of the catalogue that scripts show; the server puts them on the page in its language.
const words = document.getElementById("page-words")?.dataset ?? {};

export function say(name, values = {}) {
  const said = words[`say${name[0].toUpperCase()}${name.slice(1)}`] ?? name;
  return said.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

export function clock(ms, seconds = false) {
  return new Date(ms + 8 * 3600e3).toISOString().slice(11, seconds ? 19 : 16);
}

// Beijing time, with the date where it is not today.
export function moment(ms) {
  const day = (at) => new Date(at + 8 * 3600e3).toISOString().slice(5, 10);
  return (day(ms) === day(Date.now()) ? "" : `${day(ms)} `) + clock(ms);
}

export function button(text, act, name = "btn") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}
