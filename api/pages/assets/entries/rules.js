// A changed rule is checked while it is typed: the same page reads the form from its address, and says what it means.
const WAIT_MS = 300;
const check = document.getElementById("check");
let timer = 0;
let running = new AbortController();

async function ask(form) {
  running.abort();
  running = new AbortController();
  const query = new URLSearchParams(new FormData(form));
  for (const name of ["rule", "form", "days"]) query.delete(name);
  const language = new URLSearchParams(location.search).get("lang");
  if (language) query.set("lang", language);
  const here = document.querySelector('[name="rule"]').value.split("/").map(encodeURIComponent).join("/");
  try {
    const answer = await fetch(`/rules/${here}?${query}`, { headers: { "X-Fragments": "check" }, signal: running.signal });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    check.replaceChildren(...page.querySelector("[data-fragment]").childNodes);
    for (const place of document.querySelectorAll("[data-wrong-of]")) {
      const said = check.querySelector(`[data-wrong="${place.dataset.wrongOf}"]`)?.textContent ?? "";
      if (place.textContent !== said) place.textContent = said;
      place.parentElement.querySelector("input, textarea").toggleAttribute("aria-invalid", false);
      if (said) place.parentElement.querySelector("input, textarea").setAttribute("aria-invalid", "true");
    }
  } catch (error) {
    if (error.name !== "AbortError") check.textContent = "";
  }
}

for (const form of document.querySelectorAll("form[data-check]")) {
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => ask(form), WAIT_MS);
  });
}
