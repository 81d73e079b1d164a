// A small map without tiles: lines of water, a track, where one is, and points with a name.
import { projection } from "./track.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const GAP_MS = 60_000; // a longer time between two points is drawn dotted

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// lines: [[[lon, lat], …], …]; track: [{lon, lat, at}]; here: {lon, lat}|null; points: [{lon, lat, text, round}]
export function waterMap({ lines = [], track = [], here = null, points = [] }, label, height = 236, width = 360) {
  const places = [...track, ...(here ? [here] : []), ...points].map(({ lon, lat }) => [lon, lat]);
  const fitted = places.length ? places : lines.flat();
  const at = projection(fitted, width, height, 36);
  const map = svg("svg", { class: "fw-map", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (!at) return map;
  const path = (some) => some.map((one, i) => `${i ? "L" : "M"}${at(one).join(" ")}`).join("");
  for (const line of lines) if (line.length > 1) map.append(svg("path", { class: "fw-water", d: path(line) }));
  for (let i = 1; i < track.length; i++) {
    const two = [track[i - 1], track[i]];
    const d = path(two.map(({ lon, lat }) => [lon, lat]));
    map.append(svg("path", { class: two[1].at - two[0].at > GAP_MS ? "fw-track fw-gap" : "fw-track", d }));
  }
  if (track.length) map.append(dot(at, track[0], "fw-start", 6));
  if (here) map.append(dot(at, here, "fw-around", 20), dot(at, here, "fw-here", 8));
  for (const point of points) {
    const [x, y] = at([point.lon, point.lat]);
    map.append(dot(at, point, point.round ? "fw-number" : "fw-point", point.round ? 12 : 8));
    const words = point.round ? { x, y: y + 5, "text-anchor": "middle", class: "fw-number-text" } : { x: x + 13, y: y + 5, class: "fw-name" };
    map.append(svg("text", words, point.text));
  }
  return map;
}

function dot(at, { lon, lat }, name, r) {
  const [cx, cy] = at([lon, lat]);
  return svg("circle", { cx, cy, r, class: name });
}
