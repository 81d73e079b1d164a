// <series-chart>: one or several parameters over one span of time, drawn as SVG from the columns that ``base`` answers.
// The axis is divided by class, gaps are never joined, flags lie on the axis. Drag to zoom; the span stands in the address.
import { place } from "../js/live.js";

const NS = "http://www.w3.org/2000/svg";
const SIGNS = ["—", "Ⅰ", "Ⅱ", "Ⅲ", "Ⅳ", "Ⅴ", "劣Ⅴ"];
const SUSPECT = 3;
const BAD = 4;
const WORST_STEP = 1.7; // steps of the axis that belong to 劣Ⅴ; the other classes have one each
const MINUTE = 60e3;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const BEIJING = 8 * HOUR;
const STEPS = [MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];
const DRAG_PX = 8;
const ROWS = ["incident", "visit", "check", "swap"];
const ROW_PX = 22;
const SPARE_PX = 14; // behind the newest reading, so that a ring around it stays clear of the scale
const RAIN_PX = 64;
let count = 0;

const beijing = (ms) => new Date(ms + BEIJING).toISOString();
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const widthOf = (text) => [...(text ?? "")].reduce((px, sign) => px + (sign.charCodeAt(0) > 255 ? 12 : 7), 0); // at 12 px

function svg(name, attributes, parent, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

// The axis: knots [value, place] between which places are linear, ticks, and bands [from, to, class] by value.
export function axisOf(panel, linear) {
  const { columns, compared, limits } = panel;
  const drawn = [columns, compared?.columns].filter(Boolean).flatMap((c) => [...c.value, ...c.low, ...c.high]);
  const found = [...drawn, ...(panel.ringed ?? []).map(([, value]) => value)].filter((x) => x !== null);
  const none = limits?.direction === "within" ? limits.classes : [0, 1];
  const low = Math.min(...(found.length ? found : none));
  const high = Math.max(...(found.length ? found : none));
  const bands = limits ? bandsOf(limits) : [];
  if (!limits || limits.direction === "within" || linear) return { ...linearAxis(low, high, limits), bands };
  const ascending = [...new Set(limits.classes)].sort((a, b) => a - b);
  const worstBelow = limits.direction === "at_least";
  const knots = [[Math.min(0, low), 0]];
  ascending.forEach((limit, i) => knots.push([limit, knots[i][1] + (i === 0 && worstBelow ? WORST_STEP : 1)]));
  const last = ascending[ascending.length - 1];
  const top = worstBelow ? Math.max(1.3 * last, 1.03 * high) : Math.max(1.25 * last, 1.08 * high);
  knots.push([top, knots[knots.length - 1][1] + (worstBelow ? 1 : WORST_STEP)]);
  return { knots, bands, ticks: ascending };
}

function bandsOf({ direction, classes }) {
  if (direction === "within") return [[-Infinity, classes[0], 6], [classes[1], Infinity, 6]];
  const sign = direction === "at_most" ? 1 : -1;
  const edges = [-Infinity, ...classes.map((x) => sign * x), Infinity];
  return edges.slice(1).map((edge, i) => (sign > 0 ? [edges[i], edge, i + 1] : [-edge, -edges[i], i + 1])).filter(([a, b]) => a < b);
}

function linearAxis(low, high, limits) {
  const marks = !limits ? [] : limits.direction === "within" ? limits.classes : limits.limit === null ? [] : [limits.limit];
  const least = Math.min(low, ...marks);
  const most = Math.max(high, ...marks);
  const rough = Math.max(most - least, Math.abs(most) * 0.02, 1e-6) / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough);
  let bottom = Math.floor(least / step) * step;
  if (bottom === least && least !== 0) bottom -= step;
  if (low >= 0) bottom = Math.max(0, bottom);
  const top = Math.ceil(most / step) * step === most ? most + step : Math.ceil(most / step) * step;
  const ticks = [];
  for (let tick = bottom; tick <= top + step / 2; tick += step) ticks.push(Number(tick.toFixed(6)));
  return { knots: [[bottom, 0], [top, 1]], ticks };
}

export function classOf(value, limits) {
  if (!limits) return 0;
  const { direction, classes } = limits;
  if (direction === "within") return value >= classes[0] && value <= classes[1] ? 1 : 6;
  const at = classes.findIndex((limit) => (direction === "at_most" ? value <= limit : value >= limit));
  return at < 0 ? 6 : at + 1;
}

// The pieces of a curve: rows that follow each other without a gap.
export function runsOf({ value, breaks }) {
  const broken = new Set(breaks);
  const runs = [];
  let run = [];
  value.forEach((one, i) => {
    if (one === null || broken.has(i)) {
      if (run.length) runs.push(run);
      run = [];
    }
    if (one !== null) run.push(i);
  });
  if (run.length) runs.push(run);
  return runs;
}

class SeriesChart extends HTMLElement {
  connectedCallback() {
    this.id ||= `series-chart-${++count}`;
    this.words = JSON.parse(this.dataset.words);
    this.addEventListener("keydown", (event) => this.key(event));
    this.resized = new ResizeObserver(() => this.answer && this.clientWidth !== this.width && this.draw());
    this.resized.observe(this);
    this.onPop = () => this.fromAddress();
    this.onPlaced = () => !this.hasAttribute("from") && this.load();
    if (this.hasAttribute("follow")) addEventListener("popstate", this.onPop);
    document.addEventListener("rc-placed", this.onPlaced);
    this.load();
  }

  disconnectedCallback() {
    this.resized.disconnect();
    removeEventListener("popstate", this.onPop);
    document.removeEventListener("rc-placed", this.onPlaced);
  }

  async load() {
    this.dataset.state ||= "loading";
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const query = new URLSearchParams({ parameter: this.getAttribute("parameters"), lang: this.getAttribute("language") });
    for (const name of ["from", "to", "range", "compare"]) if (this.hasAttribute(name)) query.set(name, this.getAttribute(name));
    try {
      const answer = await fetch(`${this.getAttribute("base")}?${query}`, { signal: asked.signal, headers: { Accept: "application/json" } });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.error);
      this.answer = body;
      this.draw();
      this.dataset.state = body.panels.some((p) => p.columns.at.length) ? "ready" : "empty";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.dataset.state = "failed";
      this.say(error.message && !(error instanceof TypeError) && !(error instanceof SyntaxError) ? error.message : this.words.chart_failed);
    }
  }

  // Why there is no picture, or why it is still that of before.
  say(text) {
    this.querySelector(".chart-failed")?.remove();
    const box = document.createElement("p");
    box.className = "chart-failed";
    box.setAttribute("role", "alert");
    box.textContent = text;
    this.prepend(box);
  }

  get linear() {
    return this.getAttribute("axis") === "linear";
  }

  draw() {
    const { panels, start, end } = this.answer;
    const width = (this.width = Math.max(280, this.clientWidth));
    const narrow = width < 600;
    const ringed = panels.some((panel) => panel.ringed?.length);
    const box = { left: narrow ? 38 : 64, right: width - (narrow ? 30 : 36), start, end, spare: ringed ? SPARE_PX : 0 };
    const tall = this.hasAttribute("compact") ? 150 : panels.length === 1 ? (narrow ? 260 : 330) : narrow ? 170 : panels.length < 3 ? 190 : 150;
    const gap = 16;
    const { rain } = this.answer;
    let y = 8 + (rain ? RAIN_PX : 0);
    const rows = ROWS.filter((kind) => this.answer.happened.some((one) => one.kind === kind));
    const height = y + panels.length * (tall + gap) + 22 + rows.length * ROW_PX;
    const focused = this.root?.matches(":focus-visible");
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "group", "aria-label": panels.map((p) => p.sentence).join(" ") });
    this.hatch(root);
    this.box = box;
    if (rain) this.rain(root, rain, box, 8, RAIN_PX - 8);
    this.drawn = panels.map((panel) => {
      const one = this.panel(root, panel, box, y, y + tall);
      y += tall + gap;
      return one;
    });
    this.bottom = y - gap;
    this.times(root, box, this.bottom);
    rows.forEach((kind, i) => this.row(root, kind, box, this.bottom + 26 + i * ROW_PX));
    this.over = svg("g", { "pointer-events": "none" }, root);
    root.addEventListener("pointermove", (event) => this.move(event));
    root.addEventListener("pointerleave", () => !this.drag && this.over.replaceChildren());
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointerup", (event) => this.up(event));
    root.addEventListener("pointercancel", () => this.cancel());
    root.addEventListener("dblclick", () => history.state?.zoomed && history.back());
    this.root = root;
    this.voice = document.createElement("output");
    this.voice.className = "heard";
    if (this.answer.since) this.since(root, this.answer.since);
    this.replaceChildren(root, ...(this.hasAttribute("compact") ? [] : [this.legend()]), this.voice);
    if (history.state?.zoomed && this.hasAttribute("follow")) this.append(this.backButton());
    if (focused) root.focus();
  }

  // Since when what the page is about goes on.
  since(root, ms) {
    const x = this.x(ms);
    if (x < this.box.left || x > this.box.right) return;
    svg("path", { class: "since", d: `M${x} 8V${this.bottom}`, "data-testid": "series-since" }, root);
  }

  backButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn back";
    button.dataset.testid = "series-back";
    button.textContent = this.words.reset;
    button.addEventListener("click", () => history.back());
    return button;
  }

  hatch(root) {
    const pattern = svg("pattern", { id: `${this.id}-hatch`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("defs", {}, root));
    svg("rect", { class: "hatch-back", width: 6, height: 6 }, pattern);
    svg("path", { class: "hatch-line", d: "M1 0V6" }, pattern);
  }

  x(ms) {
    const { left, right, start, end, spare } = this.box;
    return left + ((ms - start) / (end - start)) * (right - spare - left);
  }

  panel(root, panel, box, top, bottom) {
    const axis = axisOf(panel, this.linear);
    const { knots } = axis;
    const whole = knots[knots.length - 1][1];
    const y = (value) => {
      let i = knots.findIndex(([at]) => value <= at);
      i = clamp(i < 0 ? knots.length - 1 : i, 1, knots.length - 1);
      const [[v0, p0], [v1, p1]] = [knots[i - 1], knots[i]];
      return bottom - (clamp(p0 + ((value - v0) / (v1 - v0)) * (p1 - p0), 0, whole) / whole) * (bottom - top);
    };
    const group = svg("g", { "data-testid": `series-${panel.parameter}` }, root);
    const { left, right } = box;
    if (!panel.limits || panel.limits.direction === "within") svg("rect", { class: "plot", x: left, y: top, width: right - left, height: bottom - top }, group);
    const [low, high] = [knots[0][0], knots[knots.length - 1][0]];
    for (const [from, to, water] of axis.bands) {
      const [a, b] = [y(clamp(to, low, high)), y(clamp(from, low, high))];
      if (b - a < 0.5) continue;
      svg("rect", { class: `band b${water}`, "data-class": water, x: left, y: a, width: right - left, height: b - a }, group);
      svg("rect", { class: `strip k${water}`, x: right, y: a, width: box.left < 50 ? 28 : 30, height: b - a }, group);
      if (b - a >= 13) svg("text", { class: "strip-letter", x: right + (box.left < 50 ? 14 : 15), y: (a + b) / 2 + 4.5 }, group, SIGNS[water]);
    }
    this.ticks(group, panel, axis, y, left, top, right);
    if (panel.limits && panel.limits.limit !== null) this.limitLine(group, panel, y, left, right, top);
    const x = (ms) => this.x(ms);
    if (panel.compared) svg("path", { class: "other", d: pathOf(panel.compared.columns, x, y), "data-testid": "series-other" }, group);
    this.curve(group, panel.columns, x, y);
    svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }, group);
    this.marks(group, panel.columns, x, bottom, left, right);
    for (const [at, value] of panel.ringed ?? []) svg("circle", { class: "ring", cx: x(at), cy: y(value), r: 6.5, "data-testid": "series-ring" }, group);
    const title = svg("text", { class: "title halo", x: left + 8, y: top + 17 }, group, panel.name);
    const note = [panel.unit, !panel.limits ? this.words.no_bands : panel.limits.direction === "at_least" ? this.words.lower_worse : ""].filter(Boolean).join(" · ");
    svg("tspan", { class: "note", dx: 6 }, title, note);
    if (!panel.columns.at.length) svg("text", { class: "halo", x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" }, group, this.words.no_data);
    return { panel, y, top, bottom };
  }

  // Rain hangs from the top, as hydrologists draw it; the axis grows downward.
  rain(root, rain, box, top, tall) {
    const group = svg("g", { "data-testid": "series-rain" }, root);
    const wettest = Math.max(1, ...rain.mm);
    const size = 10 ** Math.floor(Math.log10(wettest));
    const most = [1, 2, 5, 10].map((m) => m * size).find((m) => m >= wettest);
    svg("rect", { class: "plot", x: box.left, y: top, width: box.right - box.left, height: tall }, group);
    rain.at.forEach((at, i) => {
      const [a, b] = [at, at + rain.bar_ms].map((ms) => clamp(this.x(ms), box.left, box.right));
      if (!rain.mm[i] || b <= a) return;
      svg("rect", { class: "rain", x: a, y: top, width: Math.max(1, b - a - (b - a > 3 ? 1 : 0)), height: (rain.mm[i] / most) * tall }, group);
    });
    svg("path", { class: "axis", d: `M${box.left} ${top}H${box.right}` }, group);
    svg("text", { x: box.left - 6, y: top + 10, "text-anchor": "end" }, group, "0");
    svg("text", { x: box.left - 6, y: top + tall, "text-anchor": "end" }, group, String(most));
    let room = box.right - box.left - 24;
    const fits = [...rain.title].filter((letter) => (room -= letter > "\u2e7f" ? 12 : 6.6) > 0);
    const title = fits.length < [...rain.title].length ? fits.join("") + "…" : rain.title;
    svg("text", { class: "halo", x: box.left + 8, y: top + tall - 6 }, group, title);
  }

  ticks(group, panel, axis, y, left, top, right) {
    let last = Infinity;
    for (const tick of axis.ticks) {
      const at = y(tick);
      if (last - at < 13 || at < top - 1) continue;
      last = at;
      svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, group, String(tick));
      if (!panel.limits) svg("path", { class: "grid", d: `M${left} ${at}H${right}` }, group);
    }
  }

  limitLine(group, panel, y, left, right, top) {
    const at = y(panel.limits.limit);
    svg("path", { class: "limit", d: `M${left} ${at}H${right}`, "data-testid": "series-limit" }, group);
    const narrow = right - left < 500;
    const place = narrow ? { x: right - 6, "text-anchor": "end" } : { x: left + (right - left) * 0.58 };
    svg("text", { class: "limit-text halo", ...place, y: at - 5 < top + 12 ? at + 15 : at - 5 }, group, panel.limit_text);
  }

  curve(group, columns, x, y) {
    const runs = runsOf(columns);
    if (columns.low.length) {
      const area = runs.map((run) => {
        const up = run.map((i) => `${x(columns.at[i]).toFixed(1)} ${y(columns.high[i]).toFixed(1)}`);
        const back = [...run].reverse().map((i) => `${x(columns.at[i]).toFixed(1)} ${y(columns.low[i]).toFixed(1)}`);
        return `M${up.join("L")}L${back.join("L")}Z`;
      });
      svg("path", { class: "envelope", d: area.join("") }, group);
    }
    svg("path", { class: "line", d: pathOf(columns, x, y), "data-testid": "series-line" }, group);
    for (const run of runs) {
      if (run.length === 1) svg("circle", { class: "dot", r: 2.2, cx: x(columns.at[run[0]]), cy: y(columns.value[run[0]]) }, group);
    }
  }

  marks(group, columns, x, bottom, left, right) {
    for (const [from, to] of columns.missing) {
      const [a, b] = [clamp(x(from), left, right), clamp(x(to), left, right)];
      svg("rect", { class: "missing", fill: `url(#${this.id}-hatch)`, x: a, y: bottom - 5, width: Math.max(2, b - a), height: 10, "data-testid": "series-missing" }, group);
    }
    columns.flag.forEach((flag, i) => {
      const at = x(columns.at[i]);
      if (flag === SUSPECT) svg("circle", { class: "suspect", cx: at, cy: bottom, r: 4.5 }, group);
      if (flag === BAD) svg("path", { class: "bad", d: `M${at - 4} ${bottom - 4}l8 8m0-8l-8 8` }, group);
    });
  }

  // A row of what happened: incidents as pennants, visits as bars, checks as ticks, swaps as lines through all panels.
  row(root, kind, box, top) {
    const middle = top + ROW_PX / 2 - 2;
    const group = svg("g", { "data-testid": `series-row-${kind}` }, root);
    svg("rect", { class: "ribbon", x: box.left, y: top, width: box.right - box.left, height: ROW_PX - 4 }, group);
    const found = this.answer.happened.filter((one) => one.kind === kind).sort((a, b) => a.since_ms - b.since_ms);
    const name = this.words[`row_${kind}`];
    const beside = box.left > 50;
    let taken = beside ? box.left : box.left + 8 + widthOf(name); // up to where the row is written on
    const label = beside ? { x: box.left - 6, "text-anchor": "end" } : { x: box.left + 4 };
    if (beside || !found.length || this.x(found[0].since_ms) > taken) svg("text", { ...label, y: middle + 4 }, group, name);
    found.forEach((one, i) => {
      const [a, b] = [one.since_ms, one.until_ms ?? one.since_ms].map((ms) => clamp(this.x(ms), box.left, box.right));
      const mark = one.href ? svg("a", { href: one.href }, group) : svg("g", {}, group);
      svg("title", {}, mark, `${beijing(one.since_ms).slice(5, 16).replace("T", " ")} ${one.text}`);
      const wide = this.mark(mark, one, a, b, middle);
      const start = kind === "incident" ? Math.min(a, box.right - 24) : a;
      const next = found[i + 1] ? clamp(this.x(found[i + 1].since_ms), box.left, box.right - 24) : box.right;
      const left = start + wide + 4;
      const needs = widthOf(one.text);
      const fits = one.text && left + needs < next;
      if (fits) svg("text", { x: left, y: middle + 4 }, mark, one.text);
      else if (one.text && i === found.length - 1 && start - 5 - needs > taken) {
        svg("text", { x: start - 5, y: middle + 4, "text-anchor": "end" }, mark, one.text);
      }
      taken = Math.max(taken, fits ? left + needs : start + wide);
    });
  }

  mark(parent, one, a, b, middle) {
    if (one.kind === "incident") {
      const x = Math.min(a, this.box.right - 24);
      svg("rect", { class: "lasting", x: a, y: middle + 6, width: Math.max(2, b - a), height: 2 }, parent);
      svg("path", { class: `flag ${one.colour}`, d: `M${x} ${middle - 8}h24l-5 7 5 7H${x}z` }, parent);
      svg("text", { class: `flag-sign ${one.colour}`, x: x + 10, y: middle + 3.5 }, parent, one.sign);
      return 24;
    }
    if (one.kind === "visit") {
      svg("rect", { class: "visit", x: a, y: middle - 7, width: Math.max(6, b - a), height: 14, rx: 2 }, parent);
      return Math.max(6, b - a);
    }
    if (one.kind === "check") {
      const sure = one.passed === false ? `M${a - 5} ${middle - 5}l10 10m0-10l-10 10` : `M${a - 5} ${middle}l4 4 7-8`;
      svg("path", { class: one.passed === false ? "bad" : "tick", d: sure }, parent);
      return 8;
    }
    svg("path", { class: "swap", d: `M${a} 8V${middle + 8}`, "pointer-events": "none" }, parent);
    return 2;
  }

  times(root, box, bottom) {
    const room = (box.right - box.left) / (box.left < 50 ? 62 : 84);
    const step = STEPS.find((s) => (box.end - box.start) / s <= room) ?? STEPS[STEPS.length - 1];
    const first = Math.ceil((box.start + BEIJING) / step) * step - BEIJING;
    for (let at = first; at <= box.end; at += step) {
      const x = this.x(at);
      if (x < box.left + 12 || x > box.right - 12) continue;
      const text = beijing(at);
      svg("path", { class: "axis", d: `M${x} ${bottom}v4` }, root);
      const label = step >= 90 * DAY ? text.slice(0, 7) : (at + BEIJING) % DAY === 0 ? text.slice(5, 10) : text.slice(11, 16);
      svg("text", { x, y: bottom + 19, "text-anchor": "middle" }, root, label);
    }
  }

  legend() {
    const box = document.createElement("div");
    box.className = "legend";
    const { panels } = this.answer;
    const sum = (name) => panels.reduce((total, p) => total + p.columns[name], 0);
    const entry = (draw, text, testid) => {
      const item = document.createElement("span");
      item.dataset.testid = `series-legend-${testid}`;
      const picture = svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" });
      draw(picture);
      item.append(picture, text);
      box.append(item);
    };
    const thinned = panels.some((p) => p.thinned);
    const own = this.words.this_station + (thinned ? (this.getAttribute("language") === "en" ? " (" + this.words.envelope + ")" : "（" + this.words.envelope + "）") : "");
    entry((p) => svg("path", { class: "line", d: "M0 7H26" }, p), own, "line");
    const other = panels.find((p) => p.compared)?.compared;
    if (other) entry((p) => svg("path", { class: "other", d: "M0 7H26" }, p), other.columns.at.length ? other.name : `${other.name} · ${this.words.no_data}`, "other");
    if (panels.some((p) => p.ringed?.length)) entry((p) => svg("circle", { class: "ring", cx: 13, cy: 7, r: 5.5 }, p), this.words.ringed, "ring");
    if (sum("suspect")) entry((p) => svg("circle", { class: "suspect", cx: 13, cy: 7, r: 4.5 }, p), this.words.suspect.replace("{count}", sum("suspect")), "suspect");
    if (sum("bad")) entry((p) => svg("path", { class: "bad", d: "M9 3l8 8m0-8l-8 8" }, p), this.words.bad.replace("{count}", sum("bad")), "bad");
    if (sum("missing_count")) {
      entry((p) => svg("rect", { class: "missing", fill: `url(#${this.id}-hatch)`, x: 2, y: 2, width: 22, height: 10 }, p), this.words.missing.replace("{count}", sum("missing_count")), "missing");
    }
    const hint = document.createElement("span");
    hint.className = "hint";
    hint.textContent = (!this.linear && panels.some((p) => p.limits && p.limits.direction !== "within") ? this.words.split_by_class + " · " : "") + this.words.help;
    box.append(hint);
    return box;
  }

  // -- the cursor ------------------------------------------------------------------------------------------------------

  at(event) {
    const bounds = this.root.getBoundingClientRect();
    return clamp(((event.clientX - bounds.left) / bounds.width) * this.width, this.box.left, this.box.right);
  }

  ms(x) {
    const { left, right, start, end, spare } = this.box;
    return start + Math.min(1, (x - left) / (right - spare - left)) * (end - start);
  }

  move(event) {
    const x = this.at(event);
    if (this.drag !== undefined && Math.abs(x - this.drag) > DRAG_PX) return void this.selection(x);
    this.cursor(this.ms(x));
  }

  cursor(ms) {
    this.cursorMs = ms;
    this.over.replaceChildren();
    const spoken = [];
    let at = ms;
    const found = this.drawn.map((one) => [one, nearest(one.panel.columns.at, ms)]);
    const tolerance = ((this.box.end - this.box.start) / (this.box.right - this.box.left)) * 24;
    for (const [one, i] of found) {
      if (i >= 0 && Math.abs(one.panel.columns.at[i] - ms) <= tolerance) {
        at = one.panel.columns.at[i];
        break;
      }
    }
    const x = this.x(at);
    svg("path", { class: "cursor", d: `M${x} 8V${this.bottom}` }, this.over);
    for (const [{ panel, y, top }, i] of found) {
      const { columns, limits, decimals } = panel;
      if (i < 0 || Math.abs(columns.at[i] - at) > tolerance || columns.value[i] === null) continue;
      const value = columns.value[i];
      const water = classOf(value, limits);
      const words = `${value.toFixed(decimals)}${water && limits.direction !== "within" ? ` ${SIGNS[water]}` : ""}`;
      svg("circle", { class: "cursor-dot", cx: this.x(columns.at[i]), cy: y(value), r: 4 }, this.over);
      const right = x > this.width - 130;
      svg("text", { class: "cursor-value halo", x: right ? x - 10 : x + 10, y: top + 36, "text-anchor": right ? "end" : "start", "data-testid": "series-reading" }, this.over, words);
      spoken.push(`${panel.name} ${words} ${panel.unit}`);
    }
    const { rain } = this.answer;
    const bar = rain ? rain.at.findIndex((from) => from <= at && at < from + rain.bar_ms) : -1;
    if (bar >= 0) {
      const right = x > this.width - 130;
      svg("text", { class: "cursor-value halo", x: right ? x - 10 : x + 10, y: 8 + 24, "text-anchor": right ? "end" : "start" }, this.over, `${rain.mm[bar].toFixed(1)} mm`);
      spoken.push(`${rain.name} ${rain.mm[bar].toFixed(1)} mm`);
    }
    const text = beijing(at);
    const middle = clamp(x, 52, this.width - 52);
    svg("rect", { class: "cursor-time", x: middle - 46, y: this.bottom + 5, width: 92, height: 18, rx: 4 }, this.over);
    svg("text", { class: "cursor-time-text", x: middle, y: this.bottom + 18.5 }, this.over, `${text.slice(5, 10)} ${text.slice(11, 16)}`);
    return `${text.slice(5, 16).replace("T", " ")} ${spoken.join(", ")}`;
  }

  key(event) {
    if (event.target !== this.root || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    const times = this.drawn.find((one) => one.panel.columns.at.length)?.panel.columns.at;
    if (!times) return;
    const i = nearest(times, this.cursorMs ?? this.box.end);
    this.voice.textContent = this.cursor(times[clamp(i + (event.key === "ArrowRight" ? 1 : -1), 0, times.length - 1)]);
  }

  // -- zoom ------------------------------------------------------------------------------------------------------------

  down(event) {
    if (event.button || event.target.closest("a") || (event.pointerType === "touch" && !event.isPrimary)) return;
    this.drag = this.at(event);
    this.root.setPointerCapture(event.pointerId);
  }

  selection(x) {
    const [a, b] = [Math.min(x, this.drag), Math.max(x, this.drag)];
    this.over.replaceChildren();
    svg("rect", { class: "selection", x: a, y: 8, width: b - a, height: this.bottom - 8 }, this.over);
  }

  up(event) {
    if (this.drag === undefined) return;
    const [from, to] = [this.drag, this.at(event)].sort((a, b) => a - b);
    this.cancel();
    if (to - from > DRAG_PX) this.zoom(this.ms(from), this.ms(to));
  }

  cancel() {
    this.drag = undefined;
    this.over.replaceChildren();
  }

  zoom(from, to) {
    const minutes = to - from > HOUR / 2; // a minute is fine enough for an address that people read
    const text = (ms) => (minutes ? beijing(Math.round(ms / MINUTE) * MINUTE).slice(0, 16) : new Date(Math.round(ms / 1000) * 1000).toISOString().replace(".000", ""));
    this.setAttribute("from", text(from));
    this.setAttribute("to", text(to));
    this.removeAttribute("range");
    if (this.hasAttribute("follow")) {
      const address = new URL(location.href);
      address.searchParams.delete("range");
      address.searchParams.set("from", text(from));
      address.searchParams.set("to", text(to));
      history.pushState({ zoomed: true }, "", address);
      this.others();
    }
    this.load();
  }

  fromAddress() {
    const query = new URL(location.href).searchParams;
    for (const name of ["from", "to", "range"]) {
      if (query.get(name)) this.setAttribute(name, query.get(name));
      else this.removeAttribute(name);
    }
    this.load();
    this.others();
  }

  // The blocks of the page that speak of the span.
  async others() {
    const names = this.getAttribute("follow").split(" ").join(",");
    const asked = location.href;
    const answer = await fetch(asked, { headers: { "X-Fragments": names }, cache: "no-store" }).catch(() => null);
    if (answer?.ok && asked === location.href) place(await answer.text());
  }
}

function pathOf(columns, x, y) {
  return runsOf(columns)
    .filter((run) => run.length > 1)
    .map((run) => "M" + run.map((i) => `${x(columns.at[i]).toFixed(1)} ${y(columns.value[i]).toFixed(1)}`).join("L"))
    .join("");
}

function nearest(times, ms) {
  let low = 0;
  let high = times.length - 1;
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < ms) low = middle + 1;
    else high = middle;
  }
  return low && ms - times[low - 1] < times[low] - ms ? low - 1 : low;
}

customElements.define("series-chart", SeriesChart);

// A link that may be copied; without a clipboard (plain http) it opens, and the address bar holds it.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-copy]");
  if (!link || !navigator.clipboard || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  try {
    await navigator.clipboard.writeText(link.href);
    link.textContent = link.dataset.copy;
  } catch {
    location.href = link.href;
  }
});
