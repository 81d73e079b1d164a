// The ledger's calendar: the arrow keys move from one day to the next, Enter opens it (it is a link).
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

document.querySelector(".heat")?.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  let cell = event.target.closest("td");
  if (!step || !cell) return;
  event.preventDefault();
  const rows = cell.closest("tbody").rows;
  let row = cell.parentElement.sectionRowIndex;
  let column = cell.cellIndex;
  while ((cell = rows[(row += step[0])]?.cells[(column += step[1])])) {
    const link = cell.querySelector("a.day");
    if (link) return link.focus();
  }
});
