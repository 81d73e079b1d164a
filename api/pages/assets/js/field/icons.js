// Line drawings on 24 × 24, by name.
const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  back: "M15 5l-7 7 7 7",
  camera: "M4 8h4l1.5-3h5L16 8h4v11H4zM15.5 13.2a3.5 3.5 0 1 1-7 0 3.5 3.5 0 0 1 7 0",
  clock: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0M12 7v5l3.5 2",
  compare: "M4 5h6v14H4zM14 5h6v14h-6",
  cross: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0M9 9l6 6M15 9l-6 6",
  done: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0M8 12.5l2.7 2.7L16 9.5",
  download: "M12 4v12M6 11l6 6 6-6M4 21h16",
  field: "M12 3v10M8 7l4-4 4 4M4 15c2 2 4 2 5.3 0 1.4 2 4 2 5.4 0 1.3 2 3.3 2 5.3 0M4 20c2 2 4 2 5.3 0 1.4 2 4 2 5.4 0 1.3 2 3.3 2 5.3 0",
  file: "M6 3h8l5 5v13H6zM14 3v5h5M9 13h7M9 17h7",
  help: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 17v.01",
  inbox: "M6 4h12a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2M8 12l3 3 5-6",
  map: "M3 6l6-2 6 2 6-2v14l-6 2-6-2-6 2zM9 4v14M15 6v14",
  more: "M6.5 12a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0M13.5 12a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0M20.5 12a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0",
  network: "M3 9a13 13 0 0 1 18 0M6.5 13a8 8 0 0 1 11 0M10 16.5a3 3 0 0 1 4 0",
  phone: "M7 3h10v18H7zM11 18h2",
  pin: "M12 21c4-5 6-8 6-11a6 6 0 1 0-12 0c0 3 2 6 6 11M14 10a2 2 0 1 1-4 0 2 2 0 0 1 4 0",
  plug: "M9 3v5M15 3v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4",
  probe: "M12 3v9M9 12h6v5a3 3 0 0 1-6 0zM4 6h16",
  retry: "M20 11a8 8 0 1 0-1.5 6M20 4v7h-7",
  scan: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 14h2v2M14 18h2v2M18 20h2v-2",
  share: "M12 15V4M8 7l4-4 4 4M5 12v8h14v-8",
  tasks: "M8 4h8v3H8zM8 5H5v16h14V5h-3M9 12h6M9 16h4",
  up: "M12 20V5M6 11l6-6 6 6",
  walk: "M14.8 4.5a1.8 1.8 0 1 1-3.6 0 1.8 1.8 0 0 1 3.6 0M13 8l-3 6 4 2 1 5M10 14l-3 7M13 8l3 3 3 1M13 8l-4 1-2 4",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.01",
  wrench: "M14.5 6.5a4.5 4.5 0 0 1 5.8-1.3l-3 3 1.5 1.5 3-3a4.5 4.5 0 0 1-5.8 5.8L8 20.5a2.1 2.1 0 0 1-3-3l8-8a4.5 4.5 0 0 1 1.5-3",
};

export function icon(name, size = 24) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? PATHS.help);
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true", class: `f-icon f-icon-${name}` })) svg.setAttribute(key, value);
  svg.append(path);
  return svg;
}
