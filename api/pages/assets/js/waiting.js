// A list that holds still under the cursor: <div id="list" data-live-wait="news">. The live channel renews the block
// "news" alone; where its rows (data-rows, "number:what it shows" …) differ from those of the list, a bar says how many,
// and only a click replaces the list. Where nothing moves, words and remaining times of the list are renewed in place.
import { place } from "./live.js";

const RENEW_MS = 60e3;
const byNumber = (rows) => new Map((rows ?? "").split(" ").filter(Boolean).map((row) => [row.slice(0, row.indexOf(":")), row]));

async function renew(names) {
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragments": names }, cache: "no-store" });
    if (answer.ok && !answer.redirected) place(await answer.text());
  } catch {
    // the bar of the frame says that the connection is cut; the next mark or minute tries again
  }
}

export function holdStill() {
  const list = document.querySelector("[data-live-wait]");
  if (!list) return;
  const news = () => document.querySelector(`#${list.dataset.liveWait} [data-rows]`);
  let placing = false;

  function changes() {
    const before = byNumber(list.querySelector("[data-rows]")?.dataset.rows);
    const after = byNumber(news()?.dataset.rows);
    const fresh = [...after.keys()].filter((id) => !before.has(id)).length;
    const others = [...before.keys()].filter((id) => before.get(id) !== after.get(id)).length;
    return { fresh, others };
  }

  async function show() {
    const at = document.activeElement?.closest("[id]")?.id;
    placing = true;
    await renew([list.dataset.liveWait, list.id, ...(news()?.dataset.also ?? "").split(",").filter(Boolean)].join(","));
    placing = false;
    (document.getElementById(at) ?? list).focus({ preventScroll: true });
  }

  function announce() {
    const bar = news();
    if (!bar) return false;
    const { fresh, others } = changes();
    bar.replaceChildren();
    if (!fresh && !others) return false;
    const words = (fresh ? bar.dataset.new : bar.dataset.changed).replace("{n}", fresh || others);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn main";
    button.dataset.key = "r";
    button.dataset.testid = "wait-show";
    button.textContent = bar.dataset.show ? `${words} · ${bar.dataset.show}` : words;
    button.addEventListener("click", show);
    bar.append(button);
    if (bar.dataset.note) bar.append(Object.assign(document.createElement("span"), { className: "quiet", textContent: bar.dataset.note }));
    return true;
  }

  document.addEventListener("rc-placed", async () => {
    if (announce() || placing || list.querySelector("input:checked")) return;
    placing = true;
    await renew(list.id); // nothing moves: only words and times are new
    placing = false;
  });
  setInterval(() => !document.hidden && renew(list.dataset.liveWait), RENEW_MS);
}
