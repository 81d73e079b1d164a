// What was just done: floats above the page, is read aloud, and goes after ten seconds, but not while it has the focus
// or the pointer. The address forgets it, so that going back or reloading does not say it again.
const STAYS_MS = 10e3;

export function toast() {
  const notice = document.querySelector("[data-toast]:not([data-toast=still])");
  if (!notice) return;
  const asked = new URLSearchParams(location.search);
  asked.delete("done");
  asked.delete("ids");
  history.replaceState(null, "", location.pathname + (`${asked}` && `?${asked}`) + location.hash);
  notice.classList.add("floats");
  const words = notice.querySelector("[role=status]");
  const text = words.textContent;
  words.textContent = "";
  setTimeout(() => (words.textContent = text), 100); // a live region is read when it changes
  const leave = () => (notice.matches(":hover, :focus-within") ? setTimeout(leave, 1000) : notice.remove());
  setTimeout(leave, STAYS_MS);
}
