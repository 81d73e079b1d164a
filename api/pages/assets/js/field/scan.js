// What a code says, and a camera that reads codes. The screen is at the end; typing the code always works.

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
