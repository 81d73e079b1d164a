// Rivers and stations on one canvas over Leaflet. Positions come once from the API; the server then sends codes, and
// classes[code] says what each means. The list beside the canvas is the same information for keyboard and ear.
import { h } from "vue";
import { leaflet as L } from "nicegui-leaflet";

const FILL = { red: "#c62828", orange: "#f57c00", yellow: "#f9c80e", blue: "#1565c0" };
const TEXT = { red: "#fff", orange: "#000", yellow: "#000", blue: "#fff" };
const RANK = { red: 0, orange: 1, yellow: 2, blue: 3, "": 4 };
const DARK = "#22363a"; // outlines, casing of the rivers, a station that reports
const GREY = "#7d898c"; // device state: never an urgency colour
const WATER = "#b4cbcd";
const WATER_WIDTH = { river: 8, creek: 4.5, lake: 13 };
const FLAG = { width: 21, height: 18, foot: 8 };
const REACH = 15; // px around a mark that still hit it
const BESIDE = 9; // px beside a river that still hit it
const FONT = '"Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif';
const FIELD = ["report", "hotline", "patrol"];
const FIELD_EVERY = 60_000; // ms
const LABELS_FROM_ZOOM = 13;
const FEW = 60; // so few stations are always labelled

export default {
  props: {
    words: Object,
    classes: Array,
    language: String,
    stations: String,
    reaches: String,
    field: String, // "" for who may not see it
    resourcePath: String,
  },
  emits: ["ready", "station", "reach"],
  data: () => ({ open: false, state: "loading", since: "" }),

  render() {
    const words = this.words;
    const overlay = {
      loading: () => [h("div", { class: "rc-skeleton" }), h("p", words.loading_map)],
      empty: () => [h("p", words.no_stations), h("p", { class: "rc-quiet" }, words.no_stations_next)],
      error: () => [
        h("p", words.map_failed.replace("{since}", this.since)),
        h("button", { class: "rc-button", type: "button", onClick: () => this.load() }, words.retry),
      ],
    }[this.state];
    return h("div", { class: "rc-map", "data-map-state": this.state }, [
      h("div", { ref: "map", class: "rc-map-canvas", role: "application", "aria-label": words.map_help }),
      h(
        "button",
        {
          class: "rc-button rc-map-toggle",
          type: "button",
          "aria-expanded": String(this.open),
          "aria-controls": "start-station-list",
          "data-testid": "start-list-toggle",
          title: "/",
          onClick: () => this.toggle(!this.open),
        },
        words.stations,
      ),
      h("div", { id: "start-station-list", class: ["rc-map-list", this.open ? "" : "rc-only-heard"] }, [
        h("input", {
          ref: "search",
          type: "search",
          placeholder: words.search,
          "aria-label": words.search,
          tabindex: this.open ? 0 : -1,
          "data-testid": "start-search",
          onInput: () => this.filter(),
          onKeydown: (event) => this.inSearch(event),
        }),
        h("ul", {
          ref: "list",
          role: "listbox",
          tabindex: this.open ? 0 : -1,
          "aria-label": words.list_help,
          "data-testid": "start-stations",
          onClick: (event) => this.choose(event.target.closest("li")?.dataset.station),
          onKeydown: (event) => this.inList(event),
        }),
        h("p", { ref: "nothing", class: "rc-quiet", hidden: true }, words.nothing_found),
      ]),
      overlay ? h("div", { class: "rc-map-note", "data-testid": `start-map-${this.state}` }, overlay()) : null,
    ]);
  },

  created() {
    // plain fields on purpose: Vue would make thousands of watched objects of them
    this.marks = [];
    this.lines = [];
    this.selected = "";
    this.hovered = null;
    this.sprites = new Map();
  },

  async mounted() {
    this.$el.colourAt = (key) => this.colourAt(key);
    this.$el.placeOf = (key) => this.placeOf(key);
    this.early = Promise.all([this.fetched(this.stations), this.fetched(this.reaches)]); // while the map is being set up
    this.early.catch(() => {}); // load() says so
    await this.$nextTick();
    await this.style();
    this.map = L.map(this.$refs.map, {
      attributionControl: false,
      zoomControl: false,
      zoomAnimation: false,
      fadeAnimation: false,
      zoomSnap: 0.25,
      zoomDelta: 0.5,
      minZoom: 3,
      maxZoom: 18,
    }).setView([23.0, 113.1], 11);
    L.control.zoom({ position: "bottomright", zoomInTitle: this.words.zoom_in, zoomOutTitle: this.words.zoom_out }).addTo(this.map);
    L.control.scale({ position: "bottomleft", imperial: false }).addTo(this.map);
    this.canvas = L.DomUtil.create("canvas", "rc-map-paper", this.$refs.map);
    this.canvas.setAttribute("aria-hidden", "true");
    this.map.on("move zoom viewreset resize", () => this.soon());
    this.map.on("click", (event) => this.clicked(event.containerPoint));
    this.map.on("mousemove", (event) => {
      this.hover(this.hit(event.containerPoint));
      this.$refs.map.style.cursor = this.hovered || this.river(event.containerPoint) ? "pointer" : "";
    });
    this.map.on("mouseout", () => this.hover(null));
    this.watcher = new ResizeObserver(() => this.map.invalidateSize({ pan: false }));
    this.watcher.observe(this.$refs.map);
    this.keys = (event) => this.key(event);
    window.addEventListener("keydown", this.keys);
    document.fonts?.ready.then(() => this.fresh());
    await this.load();
    if (this.field) {
      this.showField();
      this.again = setInterval(() => this.showField(), FIELD_EVERY);
    }
  },

  beforeUnmount() {
    clearInterval(this.again);
    window.removeEventListener("keydown", this.keys);
    this.watcher?.disconnect();
    this.map?.remove();
  },

  methods: {
    style() {
      return new Promise((done) => {
        const link = document.createElement("link");
        link.rel = "stylesheet";
        link.href = `${window.path_prefix ?? ""}${this.resourcePath}/leaflet/leaflet.css`;
        link.onload = link.onerror = done;
        document.head.append(link);
      });
    },

    // -- what the server asks for ------------------------------------------------------------------------------------

    async load() {
      const first = !this.marks.length;
      if (first) this.state = "loading";
      try {
        const [stations, reaches] = await (this.early ?? Promise.all([this.fetched(this.stations), this.fetched(this.reaches)]));
        this.early = null;
        this.lines = reaches.flatMap(lines);
        const known = new Map(this.marks.map((mark) => [mark.key, mark.code]));
        this.marks = stations
          .filter((feature) => feature.geometry?.type === "Point")
          .map((feature) => mark(feature, known.get(feature.properties.key)))
          .sort((a, b) => (a.key < b.key ? -1 : 1)); // the order the server counts by
        this.at = new Map(this.marks.map((m, i) => [m.key, i]));
        this.state = this.marks.length ? "shown" : "empty";
      } catch (error) {
        console.warn("the map could not be fetched:", error);
        this.early = null;
        this.since = new Date(Date.now() + 8 * 3600e3).toISOString().slice(11, 16);
        this.state = "error";
        return;
      }
      this.fillList();
      if (first) this.fit();
      this.soon();
      this.$emit("ready", this.marks.length);
    },

    async fetched(path) {
      const features = [];
      for (let cursor = null; ; ) {
        const page = cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path;
        const answer = await fetch(`${window.path_prefix ?? ""}${page}`, { headers: { Accept: "application/geo+json" } });
        if (!answer.ok) throw new Error(`${page}: ${answer.status}`);
        const collection = await answer.json();
        features.push(...collection.features);
        if (!(cursor = collection.next_cursor)) return features;
      }
    },

    // What people found and do out there. A failure leaves the last picture: the incident list has the cases as well.
    async showField() {
      const found = await this.fetched(this.field).catch(() => null);
      if (!found || !this.map) return;
      this.points?.remove();
      this.points = L.layerGroup().addTo(this.map);
      for (const { geometry, properties: p } of found.filter((one) => one.geometry)) {
        const icon = L.divIcon({ className: `rc-spot rc-spot-${p.kind}`, html: this.words[`field_mark_${p.kind}`], iconSize: [22, 22] });
        const at = new Date(Date.parse(p.at) + 8 * 3600e3).toISOString().slice(5, 16).replace("T", " ");
        const title = `${this.words[`field_${p.kind}`]} · ${at} · ${p.title[this.language]}`;
        const point = L.marker([...geometry.coordinates].reverse(), { icon, title, alt: title, keyboard: p.kind !== "patrol" });
        const open = () => window.location.assign(`${window.path_prefix ?? ""}${p.link}`);
        if (p.kind !== "patrol") point.on("click", open).on("keypress", (event) => event.originalEvent.key === "Enter" && open());
        this.points.addLayer(point);
      }
      this.legend ??= L.control({ position: "bottomleft" });
      this.legend.onAdd = () => {
        const list = L.DomUtil.create("ul", "rc-spot-legend");
        list.dataset.testid = "start-field";
        for (const kind of FIELD) {
          const row = L.DomUtil.create("li", "", list);
          L.DomUtil.create("i", `rc-spot rc-spot-${kind}`, row).textContent = this.words[`field_mark_${kind}`];
          const many = found.filter((one) => one.properties.kind === kind).length;
          row.append(`${this.words[`field_${kind}`]} ${many}`);
        }
        return list;
      };
      this.legend.remove().addTo(this.map);
    },

    paint(codes) {
      if (codes.length !== this.marks.length) return void setTimeout(() => this.load(), 1000);
      codes.forEach((code, i) => this.recode(i, code));
      this.soon();
    },

    patch(indices, codes) {
      indices.forEach((i, n) => this.marks[i] && this.recode(i, codes[n]));
      this.soon();
    },

    select(key) {
      this.selected = key;
      for (const row of this.$refs.list.querySelectorAll("[aria-selected=true]")) row.setAttribute("aria-selected", "false");
      const row = this.marks[this.at?.get(key)]?.row;
      row?.setAttribute("aria-selected", "true");
      this.soon();
    },

    recode(i, code) {
      const mark = this.marks[i];
      mark.code = code;
      describe(mark, this.classes[code]);
    },

    // -- the list ----------------------------------------------------------------------------------------------------

    fillList() {
      const rows = document.createDocumentFragment();
      for (const mark of this.marks) {
        const row = document.createElement("li");
        row.id = `start-station-${mark.key}`;
        row.role = "option";
        row.dataset.station = mark.key;
        row.setAttribute("aria-selected", String(mark.key === this.selected));
        const name = document.createElement("span");
        name.textContent = this.name(mark);
        row.append(document.createElement("i"), name, document.createElement("small"));
        mark.row = row;
        if (mark.code !== null) describe(mark, this.classes[mark.code]);
        rows.append(row);
      }
      this.$refs.list.replaceChildren(rows);
      this.filter();
    },

    filter() {
      const wanted = this.$refs.search.value.trim().toLowerCase();
      let shown = 0;
      for (const { key, zh, en, row } of this.marks) {
        row.hidden = !`${key} ${zh} ${en}`.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      this.$refs.nothing.hidden = shown > 0 || !this.marks.length;
    },

    async toggle(open) {
      this.open = open;
      await this.$nextTick();
      if (open) this.$refs.search.focus();
    },

    inSearch(event) {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        this.step(1, true);
        if (event.key === "Enter") this.choose(this.active?.dataset.station);
        else this.$refs.list.focus();
      }
    },

    inList(event) {
      const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      if (by) this.step(by);
      else if (event.key === "Enter" || event.key === " ") this.choose(this.active?.dataset.station);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },

    step(by, fromTop = false) {
      const rows = this.marks.map((mark) => mark.row).filter((row) => !row.hidden);
      if (!rows.length) return;
      const at = fromTop ? -1 : rows.indexOf(this.active);
      this.active?.classList.remove("rc-active");
      this.active = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
      this.active.classList.add("rc-active");
      this.active.scrollIntoView({ block: "nearest" });
      this.$refs.list.setAttribute("aria-activedescendant", this.active.id);
    },

    key(event) {
      if (event.key === "Escape" && this.open) return void this.toggle(false);
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, [role=dialog]")) return;
      if (event.key === "/") {
        event.preventDefault();
        this.toggle(true);
      } else if (event.key === "n") this.next();
    },

    next() {
      const rank = (mark) => RANK[this.classes[mark.code ?? 0].colour];
      const worst = this.marks.filter((mark) => rank(mark) < RANK[""]).sort((a, b) => rank(a) - rank(b));
      if (worst.length) this.choose(worst[(worst.findIndex((mark) => mark.key === this.selected) + 1) % worst.length].key);
    },

    choose(key) {
      if (!key) return;
      this.select(key);
      this.$emit("station", key);
    },

    name(mark) {
      return this.language === "en" ? mark.en : mark.zh;
    },

    // -- the canvas --------------------------------------------------------------------------------------------------

    fit() {
      const bounds = L.latLngBounds(this.marks.map((mark) => mark.place));
      for (const line of this.lines) line.places.forEach((place) => bounds.extend(place));
      const narrow = this.map.getSize().x < 600;
      const paddingTopLeft = narrow ? [28, 56] : [40, 52];
      const paddingBottomRight = narrow ? [28, 20] : [56, 36];
      if (bounds.isValid()) this.map.fitBounds(bounds, { paddingTopLeft, paddingBottomRight, maxZoom: 15 });
    },

    fresh() {
      this.sprites.clear();
      this.soon();
    },

    soon() {
      if (!this.map || this.waiting) return;
      this.waiting = requestAnimationFrame(() => this.draw());
    },

    draw() {
      cancelAnimationFrame(this.waiting);
      this.waiting = 0;
      const { x: width, y: height } = this.map.getSize();
      const ratio = window.devicePixelRatio || 1;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      const paper = this.canvas.getContext("2d");
      paper.setTransform(ratio, 0, 0, ratio, 0, 0);
      paper.clearRect(0, 0, width, height);
      const scale = 2 ** this.map.getZoom();
      const corner = this.map.getPixelBounds().min;
      const wide = Math.min(1.4, Math.max(0.6, this.map.getZoom() / 13));
      const taken = [];
      this.drawWater(paper, scale, corner, wide);
      const size = this.marks.length <= FEW ? 6.5 : Math.min(6.5, Math.max(2.5, this.map.getZoom() - 7));
      const layers = [[], [], [], [], [], []]; // the most urgent on top, the selected one above all
      for (const mark of this.marks) {
        mark.x = mark.u * scale - corner.x;
        mark.y = mark.v * scale - corner.y;
        if (mark.x > -40 && mark.x < width + 40 && mark.y > -40 && mark.y < height + 40)
          layers[mark.key === this.selected ? 5 : 4 - RANK[this.classes[mark.code ?? 0].colour]].push(mark);
      }
      const seen = layers.flat();
      const all = this.marks.length <= FEW || this.map.getZoom() >= LABELS_FROM_ZOOM;
      const labelled = (mark) => all || mark.key === this.selected || this.classes[mark.code].colour !== "";
      for (const mark of seen) {
        if (mark.code === null) continue;
        if (mark.key === this.selected) ring(paper, mark, size);
        const sprite = this.sprite(mark.code, size, ratio);
        const left = Math.round((mark.x - sprite.left) * ratio) / ratio; // whole pixels: sharp, and copied without smoothing
        const top = Math.round((mark.y - sprite.top) * ratio) / ratio;
        paper.drawImage(sprite.canvas, left, top, sprite.width, sprite.height);
        if (!labelled(mark)) continue;
        taken.push([mark.x - size - 2, mark.y - size - 2, mark.x + size + 2, mark.y + size + 2, 1]);
        if (this.classes[mark.code].colour)
          taken.push([mark.x - 2, mark.y - FLAG.foot - FLAG.height - 2, mark.x + FLAG.width + 2, mark.y - FLAG.foot, 5]);
      }
      this.drawLabels(paper, seen.reverse().filter((mark) => mark === this.hovered || (mark.code !== null && labelled(mark))), size, taken, width);
      this.drawWaterNames(paper, scale, corner, taken, width);
    },

    drawWater(paper, scale, corner, wide) {
      paper.lineJoin = paper.lineCap = "round";
      const path = (line) => {
        paper.beginPath();
        line.points.forEach(([u, v]) => paper.lineTo(u * scale - corner.x, v * scale - corner.y));
        paper.stroke();
      };
      for (const [colour, more] of [[DARK, 3], [WATER, 0]]) {
        paper.strokeStyle = colour;
        for (const line of this.lines) {
          paper.lineWidth = WATER_WIDTH[line.water] * wide + more;
          path(line);
        }
      }
    },

    drawLabels(paper, marks, size, taken, width) {
      paper.font = `500 12px ${FONT}`;
      paper.textBaseline = "middle";
      let drawn = 0;
      for (const mark of marks) {
        const must = mark.key === this.selected || mark === this.hovered;
        if (mark.code === null || (!must && drawn > 250)) continue;
        const text = this.name(mark);
        const long = (mark.long ??= paper.measureText(text).width);
        const sides = [
          [mark.x + size + 5, mark.y],
          [mark.x - size - 5 - long, mark.y],
          [mark.x - long / 2, mark.y + size + 11],
          [mark.x - long / 2, mark.y - size - 11 - (this.classes[mark.code].colour ? FLAG.height + FLAG.foot : 0)],
        ];
        const covered = ([x, y]) => {
          if (x < 2 || x + long > width - 2) return Infinity;
          const under = taken.filter((box) => x < box[2] && x + long > box[0] && y - 8 < box[3] && y + 8 > box[1]);
          return under.reduce((sum, box) => sum + box[4], 0);
        };
        const best = sides.map((side) => [covered(side), side]).reduce((a, b) => (b[0] < a[0] ? b : a));
        if (best[0] > 0 && !must) continue;
        const [x, y] = best[0] < Infinity ? best[1] : [Math.max(2, width - long - 2), mark.y + size + 11];
        halo(paper, text, x, y, "#14262a");
        taken.push([x, y - 8, x + long, y + 8, 1]);
        drawn += 1;
      }
    },

    drawWaterNames(paper, scale, corner, taken, width) {
      if (this.map.getZoom() < 11) return;
      paper.font = `italic 400 12px ${FONT}`;
      paper.textBaseline = "middle";
      for (const line of this.lines) {
        const text = this.language === "en" ? line.en : line.zh;
        const long = (line.long ??= paper.measureText(text).width);
        for (const part of [0.5, 0.3, 0.7, 0.15, 0.85]) {
          const [u, v] = line.points[Math.floor((line.points.length - 1) * part)];
          const x = u * scale - corner.x + 12;
          const y = v * scale - corner.y - 14;
          if (x + long > width - 4 || x < 4 || taken.some((box) => x < box[2] && x + long > box[0] && y - 8 < box[3] && y + 8 > box[1])) continue;
          halo(paper, text, x, y, "#3d6468");
          taken.push([x, y - 8, x + long, y + 8, 1]);
          break;
        }
      }
    },

    sprite(code, size, ratio) {
      const key = `${code}/${size}/${ratio}`;
      let sprite = this.sprites.get(key);
      if (!sprite) {
        if (this.sprites.size > 400) this.sprites.clear();
        this.sprites.set(key, (sprite = drawnMark(this.classes[code], size, ratio)));
      }
      return sprite;
    },

    hit(point) {
      let best = null;
      let nearest = REACH;
      for (const mark of this.marks) {
        if (mark.code === null || mark.x === undefined) continue;
        const flag = this.classes[mark.code].colour;
        const away = Math.hypot(mark.x - point.x, mark.y - point.y);
        const over = flag && Math.hypot(mark.x + FLAG.width / 2 - point.x, mark.y - FLAG.foot - FLAG.height / 2 - point.y);
        const distance = Math.min(away, flag ? over : away);
        if (distance < nearest) [best, nearest] = [mark, distance];
      }
      return best;
    },

    clicked(point) {
      const mark = this.hit(point);
      if (mark) return this.choose(mark.key);
      const river = this.river(point);
      if (river) this.$emit("reach", river.key);
    },

    river(point) {
      const scale = 2 ** this.map.getZoom();
      const corner = this.map.getPixelBounds().min;
      const away = (line) =>
        Math.min(...line.points.slice(1).map(([u, v], i) => {
          const [ax, ay] = [line.points[i][0] * scale - corner.x, line.points[i][1] * scale - corner.y];
          const [bx, by] = [u * scale - corner.x - ax, v * scale - corner.y - ay];
          const part = Math.max(0, Math.min(1, ((point.x - ax) * bx + (point.y - ay) * by) / (bx * bx + by * by || 1)));
          return Math.hypot(point.x - ax - part * bx, point.y - ay - part * by);
        }));
      let best = null;
      let nearest = BESIDE;
      for (const line of this.lines) {
        const distance = away(line);
        if (distance < nearest) [best, nearest] = [line, distance];
      }
      return best;
    },

    hover(mark) {
      if (mark === this.hovered) return;
      this.hovered = mark;
      this.soon();
    },

    // -- for tests: what is really on the canvas ---------------------------------------------------------------------

    placeOf(key) {
      this.draw();
      const mark = this.marks[this.at.get(key)];
      return { x: mark.x, y: mark.y };
    },

    colourAt(key) {
      const mark = this.marks[this.at?.get(key)];
      if (!mark || mark.code === null) return "";
      this.draw();
      const flag = this.classes[mark.code].colour;
      const ratio = window.devicePixelRatio || 1;
      const [x, y] = flag ? [mark.x + 2.5, mark.y - FLAG.foot - 2.5] : [mark.x, mark.y];
      const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      probe.drawImage(this.canvas, Math.round(x * ratio), Math.round(y * ratio), 1, 1, 0, 0, 1, 1);
      const pixel = probe.getImageData(0, 0, 1, 1).data;
      return "#" + [...pixel.slice(0, 3)].map((part) => part.toString(16).padStart(2, "0")).join("");
    },
  },
};

function mark(feature, code) {
  const [lon, lat] = feature.geometry.coordinates;
  const { key, zh, en } = feature.properties;
  const point = L.CRS.EPSG3857.latLngToPoint(L.latLng(lat, lon), 0);
  return { key, zh, en, code: code ?? null, place: [lat, lon], u: point.x, v: point.y };
}

function lines(feature) {
  const { key, zh, en, water } = feature.properties;
  const shapes = { LineString: (c) => [c], MultiLineString: (c) => c, Polygon: (c) => c }[feature.geometry?.type];
  if (!shapes) return [];
  return shapes(feature.geometry.coordinates).map((coordinates) => {
    const places = coordinates.map(([lon, lat]) => [lat, lon]);
    const points = places.map((place) => L.CRS.EPSG3857.latLngToPoint(L.latLng(place), 0)).map(({ x, y }) => [x, y]);
    return { key, zh, en, water: water in WATER_WIDTH ? water : "river", places, points };
  });
}

function describe(mark, { state, colour, words }) {
  if (!mark.row) return;
  mark.row.dataset.state = state;
  mark.row.dataset.colour = colour;
  mark.row.lastChild.textContent = words;
}

function halo(paper, text, x, y, colour) {
  paper.lineJoin = "round";
  paper.lineWidth = 3.5;
  paper.strokeStyle = "rgba(240, 244, 243, 0.95)";
  paper.strokeText(text, x, y);
  paper.fillStyle = colour;
  paper.fillText(text, x, y);
}

function ring(paper, mark, size) {
  paper.beginPath();
  paper.arc(mark.x, mark.y, size + 6, 0, 2 * Math.PI);
  paper.fillStyle = "rgba(255, 255, 255, 0.7)";
  paper.fill();
  paper.lineWidth = 2.5;
  paper.strokeStyle = "#0b5a5e";
  paper.stroke();
}

// One mark, drawn once and copied from then on: the device's state as a shape, the incident as a pennant over it.
function drawnMark({ state, colour, letter }, size, ratio) {
  const left = size + 4;
  const top = (colour ? FLAG.foot + FLAG.height : size) + 4;
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil((left + (colour ? FLAG.width : size) + 4) * ratio);
  canvas.height = Math.ceil((top + size + 4) * ratio);
  const width = canvas.width / ratio;
  const height = canvas.height / ratio;
  const paper = canvas.getContext("2d");
  paper.scale(ratio, ratio);
  paper.translate(left, top);
  device(paper, state, size);
  if (colour) pennant(paper, colour, letter);
  return { canvas, left, top, width, height };
}

function device(paper, state, size) {
  const circle = (radius) => {
    paper.beginPath();
    paper.arc(0, 0, radius, 0, 2 * Math.PI);
  };
  circle(size + 1.5);
  paper.fillStyle = "#fff";
  paper.fill();
  if (state === "normal") {
    circle(size);
    paper.fillStyle = DARK;
    paper.fill();
  } else if (state === "late") {
    circle(size - 1);
    paper.lineWidth = 2;
    paper.strokeStyle = DARK;
    paper.stroke();
    paper.beginPath();
    paper.moveTo(0, 0);
    paper.arc(0, 0, size, Math.PI / 2, 1.5 * Math.PI);
    paper.fillStyle = DARK;
    paper.fill();
  } else if (state === "offline") {
    circle(size + 1.5);
    paper.fillStyle = GREY;
    paper.fill();
    plug(paper, size);
  } else {
    circle(size - 0.5);
    paper.lineWidth = 1.8;
    paper.strokeStyle = GREY;
    paper.stroke();
  }
}

function plug(paper, size) {
  const part = size / 5.4;
  paper.strokeStyle = paper.fillStyle = "#fff";
  paper.lineWidth = 1.3 * part;
  paper.beginPath();
  for (const x of [-1.4, 1.4]) {
    paper.moveTo(x * part, -4 * part);
    paper.lineTo(x * part, -1.2 * part);
  }
  paper.moveTo(0, 2 * part);
  paper.lineTo(0, 4.4 * part);
  paper.stroke();
  paper.beginPath();
  paper.roundRect(-2.8 * part, -1.6 * part, 5.6 * part, 4 * part, [0, 0, 2 * part, 2 * part]);
  paper.fill();
}

function pennant(paper, colour, letter) {
  const { width, height, foot } = FLAG;
  paper.lineJoin = "round";
  paper.lineWidth = 4;
  paper.strokeStyle = "#fff";
  const pole = () => {
    paper.beginPath();
    paper.moveTo(0, -2);
    paper.lineTo(0, -foot - height);
    paper.stroke();
  };
  pole();
  paper.lineWidth = 2;
  paper.strokeStyle = DARK;
  pole();
  paper.beginPath();
  paper.moveTo(0, -foot - height);
  paper.lineTo(width, -foot - height);
  paper.lineTo(width - 4, -foot - height / 2);
  paper.lineTo(width, -foot);
  paper.lineTo(0, -foot);
  paper.closePath();
  paper.fillStyle = FILL[colour];
  paper.fill();
  paper.lineWidth = 1;
  paper.stroke();
  paper.fillStyle = TEXT[colour];
  paper.font = `700 12px ${FONT}`;
  paper.textAlign = "center";
  paper.textBaseline = "middle";
  paper.fillText(letter, width / 2 - 1.5, -foot - height / 2 + 0.5);
}
