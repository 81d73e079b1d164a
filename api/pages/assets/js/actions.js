// The action bar: an opened form takes the focus, and so does one that the page was asked for (?act=); naming somebody
// else chooses them.
export function begin(details) {
  (details.querySelector("input:checked") ?? details.querySelector("textarea, select, form button"))?.focus();
}

export function actions() {
  for (const details of document.querySelectorAll("details.action")) {
    details.addEventListener("toggle", () => details.open && document.activeElement?.closest("summary") && details.contains(document.activeElement) && begin(details));
  }
  for (const select of document.querySelectorAll('.candidate select[name="other"]')) {
    select.addEventListener("change", () => (select.closest(".candidate").querySelector("input").checked = true));
  }
  if (!new URLSearchParams(location.search).has("act")) return;
  const opened = document.querySelector("details.action[open]");
  if (opened) begin(opened);
  else document.querySelector(".action-bar button.main")?.focus();
}
