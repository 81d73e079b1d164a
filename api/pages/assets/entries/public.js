// What a phone can add to the public form; without it the form works all the same.
const form = document.querySelector("#form");
const DRAFT = "riverchief-report";

// a ticket was given out: the draft has done its work
if ("ticket" in document.body.dataset) forget();

if (form) {
  keepDraft();
  offerPlace();
  form.photos.addEventListener("change", makeSmall);
  form.text.addEventListener("input", () => {
    document.getElementById("full").hidden = form.text.value.length < form.text.maxLength;
  });
  const send = document.querySelector("button[form=form]");
  form.addEventListener("submit", () =>
    setTimeout(() => {
      send.setAttribute("aria-disabled", "true");
      send.textContent = send.dataset.wait;
    }),
  );
  addEventListener("pageshow", () => (send.removeAttribute("aria-disabled")));
}

function forget() {
  try {
    localStorage.removeItem(DRAFT);
  } catch {} // a browser that keeps nothing
}

function keepDraft() {
  const fields = [...form.querySelectorAll("textarea, input[type=text], input[type=radio]")];
  try {
    const draft = JSON.parse(localStorage.getItem(DRAFT) ?? "{}");
    for (const field of fields) {
      if (field.type === "radio") field.checked ||= draft[field.name] === field.value;
      else field.value ||= draft[field.name] ?? "";
    }
  } catch {}
  form.addEventListener("input", () => {
    const typed = fields.filter((field) => field.type !== "radio" || field.checked).map((field) => [field.name, field.value]);
    try {
      localStorage.setItem(DRAFT, JSON.stringify(Object.fromEntries(typed)));
    } catch {}
  });
}

function offerPlace() {
  const where = document.getElementById("where");
  const said = document.getElementById("place");
  if (!navigator.geolocation || !window.isSecureContext) return;
  where.hidden = false;
  where.addEventListener("click", () => {
    said.textContent = where.dataset.wait;
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => {
        form.lon.value = coords.longitude.toFixed(6);
        form.lat.value = coords.latitude.toFixed(6);
        said.textContent = where.dataset.done.replace("{m}", Math.round(coords.accuracy));
      },
      () => (said.textContent = where.dataset.fail),
      { enableHighAccuracy: true, timeout: 15000 },
    );
  });
}

// 1,600 px are enough to see what is wrong, go through a slow network, and carry no place that nobody meant to tell
async function makeSmall() {
  const input = form.photos;
  try {
    const kept = new DataTransfer();
    for (const file of [...input.files].slice(0, Number(input.dataset.most))) {
      const picture = await createImageBitmap(file);
      const scale = Math.min(1, 1600 / Math.max(picture.width, picture.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(picture.width * scale);
      canvas.height = Math.round(picture.height * scale);
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      const small = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.82));
      kept.items.add(new File([small], `${file.name.replace(/\.[^.]*$/, "")}.jpg`, { type: "image/jpeg" }));
    }
    input.files = kept.files;
  } catch {} // what the browser cannot read goes as it is: the server says what is wrong with it
}
