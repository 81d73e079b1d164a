// <river-map>: rivers, stations, incidents and points of a layer on one canvas over Leaflet. Without a script its content
// stands in its place. Attributes:
//   src       address of the waters as JSON: {mark, base, reaches, stations, incidents, points} (see api/pages/map.py);
//             asked again with ?since=MARK it answers what changed: {mark, delta: true, stations, reaches, incidents}
//   live      topics of the live channel, separated by spaces; when a mark of one changes, what changed is fetched
//   points    address of the points of layers; asked with ?layers=
//   layers    what is shown besides waters, stations and incidents, separated by commas: outfalls, signs, cases, …
//   selected  key of a station or a reach: it is ringed
//   focus     what is in view at first: "lon,lat,zoom", or the key of a reach, a station or a region; else everything
//   pick      names of two inputs of the form around, "lon lat": a click sets a pin and fills them
//   tiles     address of raster tiles ({z}/{x}/{y}) in WGS 84, attribution  whose they are; none: boundaries alone
//   plain     without search and legend, for small maps
//   data-words  texts as JSON (templates/parts/river_map.html writes the element)
// Events, both bubble: river-map-select {kind, key, href} (prevented: the address is not opened), river-map-pick {lon, lat}.
// Keys in the map: arrows move, + and - zoom, n goes to the next problem, Enter sets the pin in the middle.
import * as L from "leaflet/dist/leaflet-src.esm.js";

const SIGNS = ["—", "Ⅰ", "Ⅱ", "Ⅲ", "Ⅳ", "Ⅴ", "劣Ⅴ"];
const RANK = { red: 0, orange: 1, yellow: 2, blue: 3 };
const LETTERS_FROM = 13; // zoom
const NEAR = 34; // px: pennants so near are one, with their number
const REACHED = 14; // px around a mark that still hit it
const BESIDE = 9; // px beside a river that still hit it
const MOST_LABELS = 120;
const MOST_FOUND = 12;
const NARROW = 560; // px
const FONT = '"Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif';
const TOKENS = ["c-none", "class-edge", "class-glow", "on-class", "dev", "on-dev", "dev-ok", "dev-late", "surface", "ink", "ink-2", "line-2", "accent", "on-accent", "m-land", "m-line", "m-text", "m-halo"];

// A mark of any look: drawn by ``paint(ctx, x, y)`` within ``box`` [left, top, right, bottom] around its place.
const Mark = L.CircleMarker.extend({
  options: { interactive: false, radius: 14, weight: 1 },
  _updateBounds() {
    const [left, top, right, bottom] = this.options.box;
    this._pxBounds = L.bounds(this._point.add([left, top]), this._point.add([right, bottom]));
  },
  _updatePath() {
    if (!this._renderer._drawing || this._empty()) return;
    const ctx = this._renderer._ctx;
    if (this.options.copied) return void this.options.paint(ctx, this._point.x, this._point.y);
    ctx.save();
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
    this.options.paint(ctx, this._point.x, this._point.y);
    ctx.restore();
  },
});

const Line = L.Polyline.extend({
  options: { interactive: false, weight: 26, smoothFactor: 1.2 },
  _updatePath() {
    if (this._renderer._drawing && this._parts.length) this.options.paint(this._renderer._ctx, this._parts);
  },
});

class RiverMap extends HTMLElement {
  static observedAttributes = ["src", "selected", "focus", "layers"];

  connectedCallback() {
    this.words ??= JSON.parse(this.dataset.words || "{}");
    this.onMarks = (event) => this.topics().some((topic) => event.detail.has(topic)) && this.follow();
    document.addEventListener("rc-marks", this.onMarks);
    this.seen = new IntersectionObserver((found) => found.some((one) => one.isIntersecting) && this.start());
    this.seen.observe(this);
  }

  disconnectedCallback() {
    this.seen.disconnect();
    this.resized?.disconnect();
    document.removeEventListener("rc-marks", this.onMarks);
  }

  attributeChangedCallback(name, before) {
    if (!this.map || before === this.getAttribute(name)) return;
    if (name === "src") this.load();
    else if (name === "layers") this.fetchPoints();
    else if (name === "selected") this.redraw();
    else this.view();
  }

  topics() {
    return (this.getAttribute("live") ?? "").split(" ").filter(Boolean);
  }

  layerNames() {
    return (this.getAttribute("layers") ?? "").split(",").filter(Boolean);
  }

  say(key, values = {}) {
    return (this.words[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  }

  // -- setting up ------------------------------------------------------------------------------------------------------

  start() {
    if (this.map) return;
    this.seen.disconnect();
    const style = getComputedStyle(this);
    this.tokens = Object.fromEntries(TOKENS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.classes = [this.tokens["c-none"], ...[1, 2, 3, 4, 5, 6].map((i) => style.getPropertyValue(`--c${i}`).trim())];
    this.flags = Object.fromEntries(
      Object.keys(RANK).map((name) => [name, { fill: style.getPropertyValue(`--u-${name}`).trim(), text: style.getPropertyValue(`--on-u-${name}`).trim() }]),
    );
    this.sprites = new Map();
    this.stage = make("div", "map-stage", this);
    if (this.clientWidth < NARROW) this.querySelector(".map-legend")?.removeAttribute("open");
    this.stage.setAttribute("role", "application");
    this.stage.setAttribute("aria-label", this.say("help"));
    this.map = L.map(this.stage, {
      attributionControl: this.hasAttribute("tiles"),
      zoomControl: false,
      fadeAnimation: false,
      zoomSnap: 0.5,
      zoomDelta: 0.5,
      wheelPxPerZoomLevel: 120,
      minZoom: 3,
      maxZoom: 18,
      renderer: (this.paper = L.canvas({ padding: 0.2 })),
    }).setView([23, 113.1], 11);
    if (this.hasAttribute("tiles")) {
      this.map.attributionControl.setPrefix(false);
      L.tileLayer(this.getAttribute("tiles"), { attribution: escape(this.getAttribute("attribution") ?? "") }).addTo(this.map);
    }
    this.map.on("moveend", () => this.decorate());
    this.map.on("zoomend", () => this.rezoom());
    this.map.on("click", (event) => this.clicked(event));
    this.map.on("mousemove", (event) => this.hover(event.containerPoint));
    this.map.on("mouseout", () => this.hover(null));
    this.resized = new ResizeObserver(() => this.map.invalidateSize({ pan: false }));
    this.resized.observe(this.stage);
    this.controls();
    this.stage.addEventListener("keydown", (event) => this.key(event));
    document.fonts?.ready.then(() => this.redraw());
    this.load();
  }

  controls() {
    const bar = (this.bar = make("div", "map-controls", this));
    const button = (name, sign, act, key) => {
      const one = make("button", "", bar);
      one.type = "button";
      one.textContent = sign;
      one.title = this.say(name) + (key ? ` (${key})` : "");
      one.setAttribute("aria-label", this.say(name));
      one.dataset.testid = `map-${name}`;
      one.addEventListener("click", act);
      return one;
    };
    button("home", "⌂", () => this.home());
    button("zoom_in", "+", () => this.map.zoomIn());
    button("zoom_out", "−", () => this.map.zoomOut());
    if (!this.hasAttribute("pick")) button("next", "!", () => this.next(), "n").dataset.key = "n";
    else if (navigator.geolocation) button("here", "◎", () => this.here());
    L.control.scale({ position: "bottomright", imperial: false, maxWidth: 90 }).addTo(this.map);
    this.tip = make("div", "map-tip", this);
    this.tip.hidden = true;
    if (!this.hasAttribute("plain")) this.searchBox();
  }

  note(text, again) {
    this.noted?.remove();
    this.noted = null;
    if (!text) return;
    this.noted = make("div", "map-note", this);
    this.noted.setAttribute("role", "alert");
    make("p", "", this.noted).textContent = text;
    if (!again) return;
    const button = make("button", "btn", this.noted);
    button.type = "button";
    button.textContent = this.say("retry");
    button.addEventListener("click", again);
  }

  // -- data ------------------------------------------------------------------------------------------------------------

  async ask(address, more = {}) {
    const to = new URL(address, location.href);
    for (const [name, value] of Object.entries(more)) to.searchParams.set(name, value);
    const answer = await fetch(to, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  async load() {
    this.dataset.state ||= "loading";
    try {
      this.show(await this.ask(this.getAttribute("src")));
      this.note("");
    } catch (error) {
      console.warn("the map could not be fetched:", error);
      if (this.dataset.state !== "shown") this.dataset.state = "failed";
      this.note(this.say("failed", { since: beijing(Date.now()) }), () => this.load());
    }
  }

  // What changed since the picture that is shown; several changes while one is fetched are one.
  async follow() {
    if (!this.mark) return;
    if (this.following) return void (this.again = true);
    this.following = true;
    try {
      const found = await this.ask(this.getAttribute("src"), { since: this.mark });
      if (found.delta) this.change(found);
      else this.show(found);
    } catch {
      this.again = true; // the bar of the frame says that the connection is cut
      await new Promise((done) => setTimeout(done, 3000));
    }
    this.following = false;
    if (this.again) {
      this.again = false;
      this.follow();
    }
  }

  show(data) {
    const first = this.dataset.state !== "shown";
    this.mark = data.mark ?? "";
    this.base = data.base ?? [];
    this.reaches = new Map((data.reaches ?? []).map((one) => [one.key, one]));
    this.stations = new Map((data.stations ?? []).map((one) => [one.key, one]));
    this.incidents = data.incidents ?? [];
    this.fixed = data.points ?? [];
    this.spots ??= [];
    for (const layer of this.drawn ?? []) layer.remove();
    this.drawn = [];
    this.building = true; // decorated once, at the end
    this.rezoom();
    this.classList.toggle("without-outline", !this.base.some((one) => one.level === 1 && one.outline.length));
    for (const one of this.base) this.drawRegion(one);
    for (const one of this.reaches.values()) this.drawReach(one);
    for (const one of this.stations.values()) this.drawStation(one);
    if (first) this.view();
    this.building = false;
    this.rezoom();
    this.dataset.state = "shown";
    if (this.layerNames().length) this.fetchPoints();
    if (this.hasAttribute("pick")) this.pinFromForm();
  }

  change({ mark, stations = [], reaches = [], incidents }) {
    this.mark = mark;
    for (const one of stations) {
      const known = this.stations.get(one.key);
      if (!known) continue;
      Object.assign(known, one);
      known.mark.redraw();
    }
    for (const one of reaches) {
      const known = this.reaches.get(one.key);
      if (!known) continue;
      Object.assign(known, one);
      for (const line of known.lines) line.redraw();
    }
    if (incidents) this.incidents = incidents;
    if (reaches.length || incidents) this.decorate();
  }

  async fetchPoints() {
    const names = this.layerNames();
    const address = this.getAttribute("points");
    this.spots = names.length && address ? (await this.ask(address, { layers: names.join(",") }).catch(() => ({ points: this.spots }))).points : [];
    for (const track of this.tracks ?? []) track.remove();
    const walked = this.spots.filter((one) => one.track?.length > 1);
    this.tracks = walked.map((one) => new Line(one.track.map(latLng), { paint: (ctx, parts) => this.paintTrack(ctx, parts) }).addTo(this.map));
    this.decorate();
  }

  // -- what is drawn ---------------------------------------------------------------------------------------------------

  add(layer) {
    this.drawn.push(layer.addTo(this.map));
    return layer;
  }

  drawRegion(one) {
    const { tokens } = this;
    const tiled = this.hasAttribute("tiles");
    for (const rings of one.outline ?? []) {
      const places = rings.map((ring) => ring.map(latLng));
      const look = { interactive: false, color: tokens["m-line"], weight: one.level === 1 ? 1.6 : 1, dashArray: one.level === 1 ? "8 4 2 4" : "2 4" };
      const area = this.add(L.polygon(places, { ...look, fill: one.level === 1 && !tiled, fillColor: tokens["m-land"], fillOpacity: 1 }));
      one.bounds = one.bounds ? one.bounds.extend(area.getBounds()) : area.getBounds();
    }
  }

  drawReach(one) {
    const lines = one.line.length ? [one.line] : [];
    one.lines = lines.map((line) => this.add(new Line(line.map(latLng), { paint: (ctx, parts) => this.paintReach(ctx, parts, one) })));
    [one.middle, ...one.others] = lines.length ? places(one.line) : [null];
  }

  paintReach(ctx, parts, one) {
    const { tokens, classes } = this;
    const c = one.class ?? 0;
    const wide = this.wide;
    const stroke = (style, width, dash = []) => {
      ctx.strokeStyle = style;
      ctx.lineWidth = width;
      ctx.setLineDash(dash);
      ctx.stroke();
    };
    ctx.save();
    ctx.lineJoin = ctx.lineCap = "round";
    trace(ctx, parts);
    if (this.chosen === one.key) {
      ctx.globalAlpha = 0.35;
      stroke(tokens.accent, wide + 14);
      ctx.globalAlpha = 1;
    }
    if (!c) {
      stroke(tokens["m-halo"], wide + 1);
      stroke(tokens["c-none"], wide - 1, [0.1, 1.9 * wide]);
    } else {
      stroke(tokens["class-glow"], wide + 4.5);
      stroke(one.silent ? tokens["c-none"] : tokens["class-edge"], wide + (c === 6 ? 4 : 3));
      if (one.silent) {
        stroke(tokens.surface, wide);
        ctx.globalAlpha = 0.35; // what nobody measures any more is not shown at full strength
      }
      stroke(classes[c], wide);
      if (c === 6) stroke(this.hatch(ctx), wide);
    }
    ctx.restore();
  }

  // The way that a patrol took: dashes beside the solid lines of water.
  paintTrack(ctx, parts) {
    ctx.save();
    ctx.lineJoin = ctx.lineCap = "round";
    trace(ctx, parts);
    ctx.strokeStyle = this.tokens["m-halo"];
    ctx.lineWidth = 5;
    ctx.stroke();
    ctx.strokeStyle = this.tokens.accent;
    ctx.lineWidth = 2.5;
    ctx.setLineDash([7, 5]);
    ctx.stroke();
    ctx.restore();
  }

  hatch(ctx) {
    if (!this.hatched) {
      const tile = canvasOf(8, 8, 1);
      const paper = tile.getContext("2d");
      paper.strokeStyle = "rgba(0, 0, 0, .55)";
      paper.lineWidth = 2.4;
      paper.beginPath();
      for (const x of [-8, 0, 8]) {
        paper.moveTo(x, 8);
        paper.lineTo(x + 8, 0);
      }
      paper.stroke();
      this.hatched = ctx.createPattern(tile, "repeat");
    }
    return this.hatched;
  }

  drawStation(one) {
    const paint = (ctx, x, y) => this.paintStation(ctx, x, y, one);
    one.mark = this.add(new Mark([one.lat, one.lon], { paint, box: [-20, -20, 20, 20], copied: true }));
  }

  paintStation(ctx, x, y, one) {
    const sprite = this.sprite(one.state, one.class ?? 0, this.size);
    if (this.chosen === one.key) {
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.arc(x, y, this.size + 6, 0, 2 * Math.PI);
      ctx.fillStyle = this.tokens.surface;
      ctx.fill();
      ctx.strokeStyle = this.tokens.accent;
      ctx.lineWidth = 3;
      ctx.stroke();
    }
    ctx.drawImage(sprite, Math.round(x - sprite.half), Math.round(y - sprite.half), 2 * sprite.half, 2 * sprite.half);
  }

  // A mark drawn once and copied from then on: the class as a shape while the data are fresh; else the device's state.
  sprite(state, c, size) {
    const name = `${state} ${state === "normal" || state === "late" ? c : ""} ${size}`;
    let found = this.sprites.get(name);
    if (!found) {
      const half = Math.ceil(size + 4);
      const ratio = window.devicePixelRatio || 1;
      found = canvasOf(2 * half, 2 * half, ratio);
      found.half = half;
      const ctx = found.getContext("2d");
      ctx.scale(ratio, ratio);
      ctx.translate(half, half);
      if (state === "offline") this.paintOffline(ctx, size);
      else if (state === "never") this.paintRing(ctx, size, this.tokens.dev);
      else this.paintClass(ctx, c, size, state === "late");
      this.sprites.set(name, found);
    }
    return found;
  }

  paintClass(ctx, c, size, late, lettered = size >= 9) {
    const { tokens, classes } = this;
    if (!c) {
      this.paintRing(ctx, size, late ? tokens["dev-late"] : tokens["dev-ok"]);
      if (!late && size < 9) dot(ctx, size / 2.4, tokens["dev-ok"]);
    } else {
      shape(ctx, c, size);
      ctx.lineJoin = "round";
      ctx.strokeStyle = tokens["class-glow"];
      ctx.lineWidth = 4;
      ctx.stroke();
      ctx.fillStyle = tokens.surface;
      ctx.fill();
      ctx.globalAlpha = late ? 0.3 : 1;
      ctx.fillStyle = classes[c];
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = late ? tokens["dev-late"] : tokens["class-edge"];
      ctx.lineWidth = c === 6 ? 2.4 : 1.5;
      ctx.stroke();
    }
    if (late) {
      ctx.beginPath();
      ctx.arc(size * 0.75, size * 0.75, 3.4, 0, 2 * Math.PI);
      ctx.fillStyle = tokens.surface;
      ctx.fill();
      ctx.strokeStyle = tokens["dev-late"];
      ctx.lineWidth = 1.4;
      ctx.stroke();
      ctx.beginPath();
      ctx.arc(size * 0.75, size * 0.75, 3.4, Math.PI / 2, 1.5 * Math.PI);
      ctx.fillStyle = tokens["dev-late"];
      ctx.fill();
    }
    if (lettered) {
      const letter = c === 6 && size < 13 ? "劣" : SIGNS[c];
      ctx.font = `700 ${Math.max(11, Math.round(size * (letter.length > 1 ? 0.8 : c === 4 ? 0.85 : 1)))}px ${FONT}`;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillStyle = c && !late ? tokens["on-class"] : tokens["ink-2"];
      ctx.fillText(letter, 0, c === 4 ? size * 0.38 : 0.8);
    }
  }

  paintRing(ctx, size, colour) {
    ctx.beginPath();
    ctx.arc(0, 0, size - 0.5, 0, 2 * Math.PI);
    ctx.fillStyle = this.tokens.surface;
    ctx.fill();
    ctx.setLineDash([3, 2.4]);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.8;
    ctx.stroke();
    ctx.setLineDash([]);
  }

  paintOffline(ctx, size) {
    const side = Math.max(size, 7);
    ctx.beginPath();
    ctx.roundRect?.(-side, -side, 2 * side, 2 * side, 3);
    if (!ctx.roundRect) ctx.rect(-side, -side, 2 * side, 2 * side);
    ctx.fillStyle = this.tokens.dev;
    ctx.fill();
    ctx.strokeStyle = this.tokens.surface;
    ctx.lineWidth = 1.5;
    ctx.stroke();
    const part = side / 11;
    ctx.scale(part, part);
    ctx.translate(-12, -12.5);
    ctx.strokeStyle = this.tokens["on-dev"];
    ctx.lineWidth = 2.2;
    ctx.lineCap = ctx.lineJoin = "round";
    ctx.stroke(new Path2D("M9 3v5m6-5v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4"));
  }

  // -- badges, pennants, points and names: chosen anew for what is in view ---------------------------------------------

  decorate() {
    if (!this.stations || this.building) return;
    for (const layer of this.decor ?? []) layer.remove();
    this.decor = [];
    this.pennants = [];
    const box = this.map.getBounds().pad(0.15);
    const { offsetLeft: left, offsetTop: top, offsetWidth, offsetHeight } = this.bar;
    const taken = [[left, top, left + offsetWidth, top + offsetHeight]];
    const stations = [];
    const { x: wide, y: high } = this.map.getSize();
    const place = (latlng, area, paint, sure, beside = stations, whole = false) => {
      const at = this.map.latLngToContainerPoint(latlng);
      const [left, top, right, bottom] = area;
      const mine = [at.x + left, at.y + top, at.x + right, at.y + bottom];
      const meets = (one) => one[0] < mine[2] && mine[0] < one[2] && one[1] < mine[3] && mine[1] < one[3];
      if (whole && (mine[0] < 0 || mine[1] < 0 || mine[2] > wide || mine[3] > high)) return false;
      if (!sure && (taken.some(meets) || beside.some(meets))) return false;
      taken.push(mine);
      this.decor.push(new Mark(latlng, { paint, box: [left - 3, top - 3, right + 3, bottom + 3] }).addTo(this.map));
      return true;
    };
    this.placePennants(box, place);
    this.placeSpots(box, place);
    this.placeNames(box, place, stations);
    if (this.pin) this.pin.bringToFront();
  }

  placePennants(box, place) {
    const groups = [];
    for (const one of this.incidents) {
      if (one.lon === null || !box.contains([one.lat, one.lon])) continue;
      const at = this.map.latLngToContainerPoint([one.lat, one.lon]);
      const group = groups.find((other) => Math.hypot(other.at.x - at.x, other.at.y - at.y) < NEAR);
      if (group) group.of.push(one);
      else groups.push({ at, of: [one] });
    }
    for (const { of } of groups) {
      of.sort((a, b) => RANK[a.colour] - RANK[b.colour]);
      const [worst] = of;
      const text = this.say(`mark_${worst.colour}`) + (of.length > 1 ? of.length : "");
      const wide = 12 + 13 * 1 + (of.length > 1 ? 7.5 * String(of.length).length : 0);
      this.pennants.push({ latlng: L.latLng(worst.lat, worst.lon), wide, of });
      place([worst.lat, worst.lon], [-2, -34, wide, -2], (ctx, x, y) => this.paintPennant(ctx, x, y, worst.colour, text, wide), true);
    }
  }

  paintPennant(ctx, x, y, colour, text, wide) {
    const { fill, text: ink } = this.flags[colour];
    const [foot, high] = [12, 20];
    ctx.save();
    ctx.translate(Math.round(x), Math.round(y));
    ctx.lineJoin = "round";
    const path = () => {
      ctx.beginPath();
      ctx.moveTo(0, -2);
      ctx.lineTo(0, -foot - high);
      ctx.lineTo(wide, -foot - high);
      ctx.lineTo(wide - 5, -foot - high / 2);
      ctx.lineTo(wide, -foot);
      ctx.lineTo(0, -foot);
    };
    path();
    ctx.strokeStyle = this.tokens.surface;
    ctx.lineWidth = 4.5;
    ctx.stroke();
    path();
    ctx.fillStyle = fill;
    ctx.fill();
    ctx.strokeStyle = this.tokens["class-edge"];
    ctx.lineWidth = 1.4;
    ctx.stroke();
    ctx.font = `700 13px ${FONT}`;
    ctx.textBaseline = "middle";
    ctx.fillStyle = ink;
    ctx.fillText(text, 5, -foot - high / 2 + 0.5);
    ctx.restore();
  }

  shownSpots() {
    const names = new Set(this.layerNames());
    return [...this.fixed.filter((one) => !one.layer || names.has(one.layer)), ...this.spots];
  }

  placeSpots(box, place) {
    for (const one of this.shownSpots()) {
      if (!box.contains([one.lat, one.lon])) continue;
      const small = one.kind === "outfall";
      const half = small ? 6 : 10;
      place([one.lat, one.lon], [-half, -half, half, half], (ctx, x, y) => this.paintSpot(ctx, x, y, one, half), true);
    }
  }

  paintSpot(ctx, x, y, one, half) {
    const { tokens } = this;
    const moving = one.kind === "patrol";
    ctx.save();
    ctx.translate(Math.round(x), Math.round(y));
    ctx.beginPath();
    if (moving) ctx.arc(0, 0, half, 0, 2 * Math.PI);
    else ctx.rect(-half, -half, 2 * half, 2 * half);
    ctx.fillStyle = moving ? tokens.accent : tokens.surface;
    ctx.fill();
    ctx.strokeStyle = tokens.ink;
    ctx.lineWidth = 1.6;
    ctx.stroke();
    if (one.kind === "outfall") {
      ctx.beginPath();
      ctx.moveTo(-half - 5, 0);
      ctx.lineTo(-half, 0);
      ctx.stroke();
    } else {
      ctx.font = `700 12px ${FONT}`;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillStyle = moving ? tokens["on-accent"] : tokens.ink;
      ctx.fillText(this.say(`mark_${one.kind}`), 0, 0.5);
    }
    ctx.restore();
  }

  placeNames(box, place, stations) {
    const zoom = this.map.getZoom();
    const chosen = this.chosen;
    const size = this.size;
    const inside = [...this.stations.values()].filter((one) => box.contains([one.lat, one.lon]));
    const few = inside.length <= 400;
    if (few) for (const one of inside) {
      const at = this.map.latLngToContainerPoint([one.lat, one.lon]);
      stations.push([at.x - size, at.y - size, at.x + size, at.y + size]);
    }
    const badges = [...this.reaches.values()].filter((one) => one.middle && box.contains(one.middle)).sort((a, b) => (b.class ?? 0) - (a.class ?? 0));
    const small = zoom < 11.5;
    const half = small ? 9 : 13;
    let count = 0;
    for (const one of badges) {
      if (count++ > MOST_LABELS) break;
      const paint = (ctx, x, y) => {
        ctx.save();
        ctx.translate(Math.round(x), Math.round(y));
        this.paintClass(ctx, one.class ?? 0, half, Boolean(one.silent && one.class), true);
        ctx.restore();
      };
      const spots = [one.middle, ...one.others];
      const area = [-half, -half, half, half];
      const spot = spots.find((at) => place(at, area, paint)) ?? spots.find((at) => place(at, area, paint, false, []));
      if (!spot) continue;
      if (!small || badges.length < 40) this.label(place, spot, one.name, { gap: half + 3, bold: true });
    }
    const wanted = inside.filter((one) => one.key === chosen || one.reach === chosen || one.state !== "normal" || (few && zoom >= LETTERS_FROM));
    wanted.sort((a, b) => (b.key === chosen) - (a.key === chosen) || (b.reach === chosen) - (a.reach === chosen) || (a.state === "normal") - (b.state === "normal"));
    for (const one of wanted.slice(0, MOST_LABELS)) {
      const device = one.state === "offline" || one.state === "late";
      const text = device ? `${one.name} ${this.say(`state_${one.state}`)}${this.age(one)}` : one.name;
      this.label(place, [one.lat, one.lon], text, { gap: size + 3, colour: device ? (one.state === "late" ? "dev-late" : "dev") : "ink" });
    }
    for (const one of this.base) {
      if (one.bounds && one.level > 1 && box.contains(one.bounds.getCenter())) {
        const span = this.map.latLngToContainerPoint(one.bounds.getNorthEast()).x - this.map.latLngToContainerPoint(one.bounds.getSouthWest()).x;
        if (span > 90) this.label(place, one.bounds.getCenter(), one.name, { gap: 0, centred: true, colour: "m-text" });
      }
    }
  }

  // A name beside, below or above a place, where there is room.
  label(place, latlng, text, { gap, bold = false, colour = "ink", centred = false }) {
    const font = `${bold ? 700 : 400} ${centred ? 13 : 12}px ${FONT}`;
    this.ruler ??= document.createElement("canvas").getContext("2d");
    this.ruler.font = font;
    const wide = this.ruler.measureText(text).width;
    const sides = centred
      ? [[-wide / 2, -8]]
      : [[gap, -8], [-gap - wide, -8], [-wide / 2, gap], [-wide / 2, -gap - 16]];
    for (const [left, top] of sides) {
      const paint = (ctx, x, y) => {
        ctx.font = font;
        ctx.textAlign = "left";
        ctx.textBaseline = "middle";
        ctx.lineJoin = "round";
        ctx.lineWidth = 3.5;
        ctx.strokeStyle = this.tokens["m-halo"];
        ctx.strokeText(text, x + left, y + top + 8);
        ctx.fillStyle = this.tokens[colour];
        ctx.fillText(text, x + left, y + top + 8);
      };
      if (place(latlng, [left, top, left + wide, top + 16], paint, false, undefined, true)) return true;
    }
    return false;
  }

  rezoom() {
    const zoom = this.map.getZoom();
    const many = (this.stations?.size ?? 0) > 400;
    this.size = zoom >= LETTERS_FROM ? 10 : zoom >= 11 && !many ? 6.5 : zoom >= 12 ? 6 : 4.5;
    this.wide = zoom >= 15 ? 10 : zoom >= 13 ? 8 : zoom >= 11 ? 6.5 : 4;
    this.redraw();
  }

  redraw() {
    if (this.building) return;
    this.chosen = this.getAttribute("selected");
    for (const layer of this.drawn ?? []) layer.redraw();
    this.decorate();
  }

  // -- the view: it moves only when somebody asks for it ---------------------------------------------------------------

  view() {
    const focus = this.getAttribute("focus") ?? "";
    const [lon, lat, zoom] = focus.split(",").map(Number);
    if (Number.isFinite(lon) && Number.isFinite(lat)) return void this.map.setView([lat, lon], zoom || 14, { animate: false });
    const reach = this.reaches.get(focus);
    const station = this.stations.get(focus);
    const region = this.base.find((one) => one.code === focus);
    if (reach?.lines.length) this.map.fitBounds(reach.lines[0].getBounds(), { padding: [40, 40], maxZoom: 16, animate: false });
    else if (station) this.map.setView([station.lat, station.lon], 14, { animate: false });
    else if (region?.bounds) this.map.fitBounds(region.bounds, { animate: false });
    else this.home();
  }

  home() {
    const bounds = L.latLngBounds([]);
    for (const one of this.stations.values()) bounds.extend([one.lat, one.lon]);
    for (const one of this.reaches.values()) for (const line of one.lines) bounds.extend(line.getBounds());
    if (!bounds.isValid()) for (const one of this.base) if (one.bounds) bounds.extend(one.bounds);
    const large = !this.hasAttribute("plain") && this.stage.clientWidth > NARROW;
    const room = large ? { paddingTopLeft: [56, 48], paddingBottomRight: [40, 92] } : { paddingTopLeft: [24, this.bar.offsetWidth > this.bar.offsetHeight ? 64 : 24], paddingBottomRight: [24, 24] };
    if (bounds.isValid()) this.map.fitBounds(bounds, { ...room, maxZoom: 15, animate: false });
  }

  // The next open incident, most urgent first, then stations without fresh data.
  next() {
    const incidents = this.incidents.filter((one) => one.lon !== null);
    const blind = [...this.stations.values()].filter((one) => one.state === "offline");
    const found = [...incidents.sort((a, b) => RANK[a.colour] - RANK[b.colour] || a.id - b.id), ...blind];
    if (!found.length) return void this.showTip(this.say("no_problem"));
    this.turn = ((this.turn ?? -1) + 1) % found.length;
    const one = found[this.turn];
    this.map.setView([one.lat, one.lon], Math.max(this.map.getZoom(), 14));
    const station = one.id ? this.stations.get(one.stations[0]) : one;
    this.showTip(one.title ?? one.name);
    if (station) this.setAttribute("selected", station.key);
  }

  key(event) {
    if (event.key === "n" && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.stopPropagation();
      this.next();
    } else if (event.key === "Enter" && event.target === this.stage && this.hasAttribute("pick")) {
      event.preventDefault();
      this.setPin(this.map.getCenter());
    }
  }

  // -- choosing --------------------------------------------------------------------------------------------------------

  hit(point) {
    const near = (one) => {
      const at = this.map.latLngToContainerPoint([one.lat, one.lon]);
      return Math.hypot(at.x - point.x, at.y - point.y);
    };
    const pennant = this.pennants?.find(({ latlng, wide }) => {
      const at = this.map.latLngToContainerPoint(latlng);
      return point.x >= at.x - 3 && point.x <= at.x + wide && point.y >= at.y - 34 && point.y <= at.y - 10;
    });
    if (pennant) return { kind: "incident", one: pennant.of[0], of: pennant.of };
    const spot = this.shownSpots().find((one) => near(one) < 12);
    if (spot) return { kind: "point", one: spot };
    let best = null;
    let least = REACHED;
    const around = this.map.containerPointToLatLng([point.x - REACHED, point.y + REACHED]);
    const beyond = this.map.containerPointToLatLng([point.x + REACHED, point.y - REACHED]);
    for (const one of this.stations.values()) {
      if (one.lat < around.lat || one.lat > beyond.lat || one.lon < around.lng || one.lon > beyond.lng) continue;
      const distance = near(one);
      if (distance < least) [best, least] = [one, distance];
    }
    if (best) return { kind: "station", one: best };
    const layer = this.map.containerPointToLayerPoint(point);
    least = BESIDE + this.wide / 2;
    for (const one of this.reaches.values()) {
      for (const line of one.lines) {
        if (!line._pxBounds?.contains(layer)) continue;
        const closest = line.closestLayerPoint(layer);
        if (closest && closest.distance < least) [best, least] = [one, closest.distance];
      }
    }
    return best && { kind: "reach", one: best };
  }

  clicked(event) {
    if (this.hasAttribute("pick")) return this.setPin(event.latlng);
    const found = this.stations && this.hit(event.containerPoint);
    if (!found) return;
    const { kind, one, of } = found;
    if (of && of.length > 1 && this.map.getZoom() < 16) return void this.map.setView([one.lat, one.lon], this.map.getZoom() + 2);
    this.choose(kind, String(one.key ?? one.id), one.href ?? "");
  }

  choose(kind, key, href) {
    const event = new CustomEvent("river-map-select", { bubbles: true, cancelable: true, detail: { kind, key, href } });
    if (this.dispatchEvent(event) && href) location.assign(href);
  }

  hover(point) {
    const found = point && this.stations && !this.hasAttribute("pick") ? this.hit(point) : null;
    this.stage.style.cursor = found ? "pointer" : "";
    if (!found) return void (this.tip.hidden = true);
    const { kind, one, of } = found;
    const words = kind === "incident" ? (of.length > 1 ? `${one.title} +${of.length - 1}` : one.title) : one.name ?? one.title;
    const more = { station: () => ` · ${this.say(`state_${one.state}`)}${one.state === "normal" ? "" : this.age(one)} · ${this.word(one.class)}`, reach: () => ` · ${this.word(one.class)}` };
    this.showTip(words + (more[kind]?.() ?? ""), point);
  }

  age(one) {
    if (!one.at) return "";
    const minutes = Math.max(0, Math.round((Date.now() - one.at) / 60e3));
    const [key, n] = minutes < 60 ? ["minutes", minutes] : minutes < 1440 ? ["hours", Math.floor(minutes / 60)] : ["days", Math.floor(minutes / 1440)];
    return ` ${this.say(key, { n })}`;
  }

  word(c) {
    return c ? this.say("class", { sign: SIGNS[c] }) : this.say("no_class");
  }

  showTip(text, point) {
    this.tip.textContent = text;
    this.tip.hidden = false;
    const at = point ?? { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 };
    this.tip.style.left = `${Math.min(at.x + 12, this.stage.clientWidth - this.tip.offsetWidth - 6)}px`;
    this.tip.style.top = `${at.y + 16}px`;
    clearTimeout(this.hiding);
    if (!point) this.hiding = setTimeout(() => (this.tip.hidden = true), 4000);
  }

  // -- a place for a form ----------------------------------------------------------------------------------------------

  inputs() {
    const form = this.closest("form");
    return (this.getAttribute("pick") || "lon lat").split(/[ ,]+/).map((name) => form?.elements.namedItem(name));
  }

  pinFromForm() {
    const [lon, lat] = this.inputs();
    const set = () => {
      const place = [Number(lat?.value), Number(lon?.value)];
      if (lon?.value && lat?.value && place.every(Number.isFinite)) this.drawPin(L.latLng(place));
    };
    if (!this.bound) for (const field of [lon, lat]) field?.addEventListener("change", set);
    this.bound = true;
    set();
    if (this.pin && !this.hasAttribute("focus")) this.map.setView(this.pin.getLatLng(), 15, { animate: false });
  }

  setPin(latlng) {
    const at = latlng.wrap();
    const detail = { lon: Number(at.lng.toFixed(6)), lat: Number(at.lat.toFixed(6)) };
    const [lon, lat] = this.inputs();
    for (const [field, value] of [[lon, detail.lon], [lat, detail.lat]]) {
      if (!field) continue;
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    this.drawPin(at);
    this.dispatchEvent(new CustomEvent("river-map-pick", { bubbles: true, detail }));
  }

  drawPin(at) {
    this.pin?.remove();
    const paint = (ctx, x, y) => {
      ctx.beginPath();
      ctx.arc(x, y - 20, 11, 0.85 * Math.PI, 0.15 * Math.PI);
      ctx.lineTo(x, y);
      ctx.closePath();
      ctx.fillStyle = this.tokens.accent;
      ctx.fill();
      ctx.strokeStyle = this.tokens.surface;
      ctx.lineWidth = 2;
      ctx.stroke();
      ctx.beginPath();
      ctx.arc(x, y - 20, 4, 0, 2 * Math.PI);
      ctx.fillStyle = this.tokens["on-accent"];
      ctx.fill();
    };
    this.pin = new Mark(at, { paint, box: [-14, -34, 14, 3] }).addTo(this.map);
  }

  here() {
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => {
        const at = L.latLng(coords.latitude, coords.longitude);
        this.map.setView(at, 16);
        this.setPin(at);
      },
      () => this.showTip(this.say("no_position")),
      { enableHighAccuracy: true, timeout: 15e3 },
    );
  }

  // -- search ----------------------------------------------------------------------------------------------------------

  searchBox() {
    const box = make("div", "map-search", this);
    const field = make("input", "", box);
    field.type = "search";
    field.placeholder = this.say("search");
    field.setAttribute("aria-label", this.say("search"));
    field.dataset.testid = "map-search";
    if (!document.querySelector("[data-key-search]")) field.dataset.keySearch = "";
    const list = make("ul", "", box);
    list.dataset.testid = "map-found";
    list.hidden = true;
    field.addEventListener("input", () => this.find(field.value, list));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") list.hidden = true;
      if (event.key === "Enter") event.preventDefault();
      if (event.key === "Enter" || event.key === "ArrowDown") list.querySelector("button")?.[event.key === "Enter" ? "click" : "focus"]();
    });
    list.addEventListener("keydown", (event) => {
      const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const row = by && event.target.closest("li")[by];
      if (by) event.preventDefault();
      (row?.querySelector("button") ?? (by === "previousElementSibling" ? field : null))?.focus();
    });
    box.addEventListener("focusout", (event) => !box.contains(event.relatedTarget) && (list.hidden = true));
  }

  find(text, list) {
    const wanted = text.trim().toLowerCase();
    const all = [
      ["region", this.base, "code"],
      ["reach", [...this.reaches.values()], "key"],
      ["station", [...this.stations.values()], "key"],
      ["point", this.fixed, "key"],
    ];
    const found = wanted
      ? all.flatMap(([kind, many, key]) => many.filter((one) => `${one[key]} ${one.zh ?? one.name} ${one.en ?? ""}`.toLowerCase().includes(wanted)).map((one) => ({ kind, one, key: one[key] })))
      : [];
    list.replaceChildren();
    list.hidden = !wanted;
    for (const { kind, one, key } of found.slice(0, MOST_FOUND)) {
      const button = make("button", "", make("li", "", list));
      button.type = "button";
      make("b", "", button).textContent = one.name ?? one.title;
      make("span", "", button).textContent = this.say(`kind_${kind}`);
      button.addEventListener("click", () => {
        list.hidden = true;
        this.goTo(kind, one, key);
      });
    }
    if (wanted && !found.length) make("li", "none", list).textContent = this.say("nothing_found");
  }

  goTo(kind, one, key) {
    if (kind === "region") return void (one.bounds ? this.map.fitBounds(one.bounds) : this.showTip(this.say("no_outline")));
    if (kind === "reach" && one.lines.length) this.map.fitBounds(one.lines[0].getBounds(), { padding: [40, 40], maxZoom: 15 });
    else if (one.lat !== undefined) this.map.setView([one.lat, one.lon], Math.max(this.map.getZoom(), 14));
    if (kind !== "point") this.dispatchEvent(new CustomEvent("river-map-select", { bubbles: true, cancelable: true, detail: { kind, key, href: one.href ?? "", found: true } }));
    this.stage.focus({ preventScroll: true });
  }

  // Bring a station that something has come to cover into view; one that is in view stays where it is.
  reveal(key) {
    const one = this.stations?.get(key);
    this.map?.invalidateSize({ pan: false });
    if (one) this.map.panInside([one.lat, one.lon], { padding: [40, 40], animate: false });
  }

  // Where a station's mark stands in the map, in px.
  placeOf(key) {
    const { lat, lon } = this.stations.get(key);
    const { x, y } = this.map.latLngToContainerPoint([lat, lon]);
    return { x, y };
  }
}

function make(name, className, parent) {
  const element = document.createElement(name);
  if (className) element.className = className;
  parent.append(element);
  return element;
}

const latLng = ([lon, lat]) => [lat, lon];
const beijing = (ms) => new Date(ms + 8 * 3600e3).toISOString().slice(11, 16);
const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

function canvasOf(width, height, ratio) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(height * ratio);
  return canvas;
}

function trace(ctx, parts) {
  ctx.beginPath();
  for (const part of parts) part.forEach(({ x, y }, i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
}

function dot(ctx, radius, colour) {
  ctx.beginPath();
  ctx.arc(0, 0, radius, 0, 2 * Math.PI);
  ctx.fillStyle = colour;
  ctx.fill();
}

// Circle Ⅰ Ⅱ, rounded square Ⅲ, triangle Ⅳ, diamond Ⅴ, octagon 劣Ⅴ: the shape says the class without colours.
function shape(ctx, c, r) {
  ctx.beginPath();
  if (c <= 2) ctx.arc(0, 0, r, 0, 2 * Math.PI);
  else if (c === 3) {
    const a = 0.92 * r;
    ctx.moveTo(0, -a);
    for (const [x, y, u, v] of [[a, -a, a, 0], [a, a, 0, a], [-a, a, -a, 0], [-a, -a, 0, -a]]) ctx.arcTo(x, y, u, v, 0.4 * r);
  } else if (c === 4) polygon(ctx, [[0, -1.12], [1.16, 0.94], [-1.16, 0.94]], r);
  else if (c === 5) polygon(ctx, [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]], r);
  else polygon(ctx, [[-0.43, -1.04], [0.43, -1.04], [1.04, -0.43], [1.04, 0.43], [0.43, 1.04], [-0.43, 1.04], [-1.04, 0.43], [-1.04, -0.43]], r);
  ctx.closePath();
}

function polygon(ctx, corners, r) {
  corners.forEach(([x, y], i) => (i ? ctx.lineTo(x * r, y * r) : ctx.moveTo(x * r, y * r)));
}

// Where a line (lon, lat) may have its badge: in the middle by length, else nearer to an end.
function places(line) {
  const steps = line.slice(1).map(([x, y], i) => Math.hypot(x - line[i][0], y - line[i][1]));
  const whole = steps.reduce((a, b) => a + b, 0);
  const at = (share) => {
    let left = share * whole;
    for (let i = 0; i < steps.length; i++) {
      if (left <= steps[i] && steps[i]) {
        const part = left / steps[i];
        return [line[i][1] + part * (line[i + 1][1] - line[i][1]), line[i][0] + part * (line[i + 1][0] - line[i][0])];
      }
      left -= steps[i];
    }
    return latLng(line[line.length - 1]);
  };
  return [at(0.5), at(0.3), at(0.7)];
}

customElements.define("river-map", RiverMap);
