// Photos made small enough for a weak line: the orientation is applied, what the browser cannot read stays as it is.
const LONGEST = 1600; // pixels of the longer side
export const MOST_BYTES = 400 * 1024;
const TRIES = [[1, 0.8], [1, 0.65], [0.8, 0.65], [0.6, 0.6], [0.4, 0.6]]; // of the longest side, and quality

export async function smaller(blob) {
  if (blob.size <= MOST_BYTES) return blob;
  try {
    const picture = await createImageBitmap(blob, { imageOrientation: "from-image" });
    let best = blob;
    for (const [share, quality] of TRIES) {
      const made = await drawn(picture, LONGEST * share, quality);
      if (made && made.size < best.size) best = made;
      if (best.size <= MOST_BYTES) break;
    }
    picture.close();
    return best;
  } catch {
    return blob;
  }
}

function drawn(picture, longest, quality) {
  const scale = Math.min(1, longest / Math.max(picture.width, picture.height));
  const size = { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) };
  const canvas = Object.assign(document.createElement("canvas"), size);
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", quality));
}
