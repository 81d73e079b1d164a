// What people see at the water, in five pictures, and the process that fits (api/pages/models/public.py).
import { say } from "./parts.js";

const MATTERS = { smell: "discharge", litter: "litter", outfall: "discharge", shore: "occupation", other: "" };
const DRAWINGS = {
  smell: "M7 3c-2 2 2 3 0 6m5-6c-2 2 2 3 0 6m5-6c-2 2 2 3 0 6M3 20v-4c3-3 6 2 9 0s6-3 9 0v4z",
  litter: "M3 17c3-2 6 2 9 0s6-2 9 0M3 21c3-2 6 2 9 0s6-2 9 0M8 13l-2-6 4-2 2 8m3 0l1-7 4 1-1 6",
  outfall: "M3 5h11v6H3zM14 6h4v4h-4m4-2c3 0 3 3 3 5m-3 2v3m3-2v4m-6-4v3",
  shore: "M3 17V9l9-4v12m0-6h5l4 4v2M6 17a2 2 0 1 0 .1 0m11 0a2 2 0 1 0 .1 0M8 18h6",
  other: "M3 6h18v12H3zM8 12h.01m4 0h.01m4 0h.01",
};
const NAMESPACE = "http://www.w3.org/2000/svg";

function drawing(name) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  const path = document.createElementNS(NAMESPACE, "path");
  path.setAttribute("d", DRAWINGS[name]);
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: 34, height: 34, "aria-hidden": "true", class: "f-icon" })) svg.setAttribute(key, value);
  svg.append(path);
  return svg;
}

export const kinds = () => Object.keys(MATTERS).map((value) => ({ value, text: say(`kind_${value}`), drawing: drawing(value) }));

export function matterOf(kind, bundle) {
  const matter = MATTERS[kind] ?? "";
  return (bundle?.matters ?? []).some((one) => (one.key ?? one) === matter) ? matter : "";
}

// What kind of thing it is, in words, and what was typed.
export function wordsOf(kind, text) {
  const typed = text.trim();
  const named = kind && (kind !== "other" || !typed) ? say(`kind_${kind}`) : "";
  return [named, typed].filter(Boolean).join(say("colon")) || say("photo_only");
}
