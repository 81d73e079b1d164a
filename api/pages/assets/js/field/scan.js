// What a code says, and a camera that reads codes. Typing the code always works.
import { go, h, of, screen, title } from "./app.js";
import { button, card, link, say, textField } from "./parts.js";
import * as store from "./store.js";


// {station} of a label, {sign} of a public board, {serial} of anything else; null for nothing.
export function meaning(text) {
  const code = String(text ?? "").trim();
  if (!code) return null;
  const label = code.match(/\/field\/?#\/s\/([^/?#]+)/);
  if (label) return { station: decoded(label[1]) };
  const sign = code.match(/\/r\/([^/?#]+)/);
  if (sign) return { sign: decoded(sign[1]) };
  return { serial: code.slice(0, 64) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// The reader of this browser: a function of a canvas or video that gives the text of a code, or "".
export async function reader() {
  if ("BarcodeDetector" in globalThis) {
    try {
      const formats = await BarcodeDetector.getSupportedFormats();
      if (formats.includes("qr_code")) {
        const wanted = ["qr_code", "code_128", "code_39", "data_matrix"].filter((one) => formats.includes(one));
        const detector = new BarcodeDetector({ formats: wanted });
        return async (video) => (await detector.detect(video))[0]?.rawValue ?? "";
      }
    } catch {
      // it is there and does not work: read the picture ourselves
    }
  }
  const { default: jsQR } = await import("jsqr");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return async (source) => {
    const wide = source.videoWidth || source.naturalWidth || source.width;
    const high = source.videoHeight || source.naturalHeight || source.height;
    if (!wide) return "";
    const scale = Math.min(1, 640 / Math.max(wide, high));
    canvas.width = Math.round(wide * scale);
    canvas.height = Math.round(high * scale);
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
    return jsQR(data, width, height)?.data ?? "";
  };
}

const EACH_MS = 200;

// Show the camera in `video` and give each code to `found` until the function that comes back is called.
// Raises what getUserMedia raises: no camera, or no leave.
export async function look(video, found) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  let timer = null;
  let stopped = false;
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    for (const track of stream.getTracks()) track.stop();
  };
  try {
    video.srcObject = stream;
    await video.play();
    const read = await reader();
    const again = async () => {
      if (stopped) return;
      const text = await read(video).catch(() => "");
      if (stopped) return;
      if (text) found(text);
      else timer = setTimeout(again, EACH_MS);
    };
    again();
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}

// -- the screen -------------------------------------------------------------------------------------------------------

// Where a code leads, null where the phone does not know it.
export function target(found, bundle) {
  const same = (one, other) => one.toLowerCase() === other.toLowerCase();
  if (!found) return null;
  const named = found.station ?? found.sign ?? found.serial;
  const station = bundle?.stations?.find((one) => same(one.key, named));
  if (station) return `/s/${encodeURIComponent(station.key)}`;
  if (found.serial) {
    const carrier = bundle?.stations?.find((one) => one.deployments.some(({ serial }) => serial && same(serial, found.serial)));
    if (carrier) return `/s/${encodeURIComponent(carrier.key)}`;
  }
  const reach = bundle?.reaches?.find((one) => same(one.key, named));
  return reach ? `/report/${encodeURIComponent(reach.key)}` : null;
}

// A camera in `place` that gives the first code to `found`; says why where there is none. Gives what ends it.
export function camera(place, found) {
  const video = h("video", { class: "fw-video", playsinline: true, muted: true, "aria-label": say("camera") });
  const note = h("p", { class: "fw-camera-note", role: "status" }, say("camera_starts"));
  video.muted = true;
  place.replaceChildren(video, note);
  let stop = null;
  let ended = false;
  look(video, found).then(
    (end) => {
      if (ended) return end();
      stop = end;
      note.textContent = say("camera_on");
    },
    (error) => {
      video.remove();
      note.textContent = say(error.name === "NotAllowedError" ? "camera_denied" : "camera_none");
    },
  );
  return () => {
    ended = true;
    stop?.();
  };
}

// A code from the camera, into a field of a form: a sheet over the form, and what ends it.
export function codeInto(input) {
  const dialog = h("dialog", { class: "fw-dialog", "aria-label": say("scan"), "data-testid": "scan-dialog" });
  const place = h("div", {});
  const close = button("scan-close", say("type_instead"), () => dialog.close());
  dialog.append(place, close);
  document.body.append(dialog);
  dialog.showModal();
  const end = camera(place, (text) => {
    const found = meaning(text);
    input.value = found?.serial ?? found?.station ?? found?.sign ?? "";
    input.dispatchEvent(new Event("input"));
    dialog.close();
  });
  dialog.addEventListener("close", () => (end(), dialog.remove(), input.focus()));
}

screen("/scan", async (place) => {
  title(say("scan"));
  const bundle = await store.bundle();
  const seen = h("div", { class: "fw-camera" });
  const answer = h("div", { "aria-live": "polite" });
  let typed = "";
  let end = () => {};
  const begin = () => (end = camera(seen, open));
  function open(text) {
    const found = meaning(text);
    if (!found) return;
    const to = target(found, bundle);
    if (to) return go(to);
    const code = found.station ?? found.sign ?? found.serial;
    answer.replaceChildren(card({ class: "fw-dev", "data-testid": "scan-unknown" },
      h("h2", {}, say("unknown_code", { code })), h("p", {}, say(bundle ? "unknown_why" : "no_bundle")),
      h("div", { class: "fw-choices" },
        link("scan-new", `/new/${encodeURIComponent(code)}`, say("hang_new"), "probe"),
        link("scan-report", "/report", say("report"), "camera"),
        button("scan-again", say("scan_again"), () => (answer.replaceChildren(), end(), begin())))));
    answer.firstChild.scrollIntoView({ block: "nearest" });
  }
  const field = textField("scan-code", say("type_code"), "", (text) => (typed = text), { hint: say("type_hint"), autocapitalize: "off", spellcheck: "false", enterkeyhint: "go", maxlength: 200 });
  const form = h("form", { class: "fw-code", onsubmit: (event) => (event.preventDefault(), open(typed)) }, field,
    h("button", { class: "f-btn f-main", "data-testid": "scan-open" }, say("open")));
  place.append(seen, form, answer, near(bundle));
  begin();
  return () => end();
});

// Stations of today's way, for who has no code at hand.
function near(bundle) {
  const route = (bundle?.route ?? []).map(({ station }) => bundle.stations.find((one) => one.key === station)).filter(Boolean).slice(0, 5);
  if (!route.length) return "";
  return card({}, h("h2", {}, say("on_route")), h("ul", { class: "f-list" }, route.map((one) =>
    h("li", {}, h("a", { class: "f-line", href: `#/s/${encodeURIComponent(one.key)}` }, h("span", { class: "f-grow" }, of(one.name), h("small", {}, one.key)))))));
}
