// The river's page: its button to print, which only a script can press; of its days the newest are in view.
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}
const days = document.querySelector(".rivers-heat")?.parentElement;
if (days) days.scrollLeft = days.scrollWidth;
