// A stretch is chosen by dragging over a chart: it goes into the form, and the page shows what a verdict would change.
const LEFT = 56; // of the plot in the drawing, as the server draws it
const RIGHT = 870;
const STEP = 5; // minutes
const LEAST = 6; // pixels: less is a click

const form = document.querySelector('[data-testid="review-form"]');
const two = (number) => String(number).padStart(2, "0");

function minute(svg, clientX) {
  const box = svg.getBoundingClientRect();
  const x = ((clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
  const share = Math.min(1, Math.max(0, (x - LEFT) / (RIGHT - LEFT)));
  return Math.round((share * 1440) / STEP) * STEP;
}

const moment = (svg, at) => (at >= 1440 ? `${svg.dataset.next}T00:00` : `${svg.dataset.day}T${two(Math.floor(at / 60))}:${two(at % 60)}`);

function choose(svg, from, to) {
  form.elements.since.value = moment(svg, Math.min(from, to));
  form.elements.until.value = moment(svg, Math.max(from, to));
  const { parameter } = svg.closest("[data-parameter]").dataset;
  for (const box of form.querySelectorAll('input[name="parameter"]')) box.checked = box.value === parameter;
  form.requestSubmit(form.querySelector('[data-testid="review-preview"]'));
}

function begin(event) {
  const svg = event.currentTarget;
  if (event.pointerType === "touch" || event.button) return;
  event.preventDefault();
  svg.setPointerCapture(event.pointerId);
  const from = minute(svg, event.clientX);
  const band = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  band.setAttribute("class", "chosen");
  svg.append(band);
  const move = ({ clientX }) => {
    const [a, b] = [from, minute(svg, clientX)].map((at) => LEFT + (at / 1440) * (RIGHT - LEFT));
    for (const [name, value] of Object.entries({ x: Math.min(a, b), width: Math.abs(b - a), y: 10, height: 110 })) band.setAttribute(name, value);
  };
  const end = ({ type, clientX }) => {
    for (const name of ["pointermove", "pointerup", "pointercancel"]) svg.removeEventListener(name, name === "pointermove" ? move : end);
    const to = minute(svg, clientX);
    if (type === "pointercancel" || Math.abs(clientX - event.clientX) < LEAST || to === from) return void band.remove();
    choose(svg, from, to);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
}

if (form) for (const svg of document.querySelectorAll("svg[data-day]")) svg.addEventListener("pointerdown", begin);
else document.querySelector(".rv-drag")?.remove();
