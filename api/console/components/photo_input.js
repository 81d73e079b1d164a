// Photos and papers for a case: each goes to the API by itself as soon as it is chosen, is shown, and says what became
// of it. What the server refuses is told in its own words; what is kept is known by its id.
import { h } from "vue";

const MOST_BYTES = 8_000_000;
const LONGEST_PX = 3000;

// A photo that would be refused for its size is made smaller: 3,000 px show what there is to see. Others go as they are.
async function smaller(file) {
  if (!file.type.startsWith("image/") || file.size <= MOST_BYTES) return file;
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_PX / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(picture.width * scale);
    canvas.height = Math.round(picture.height * scale);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return (await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85))) ?? file;
  } catch {
    return file; // what the browser cannot read goes as it is: the server says what is wrong with it
  }
}

export default {
  props: { words: Object, language: String, to: String },
  emits: ["brought"],
  data: () => ({ files: [] }),

  render() {
    const words = this.words;
    return h("div", { class: "rc-photos" }, [
      h("label", { class: "rc-button rc-photo-add" }, [
        h("input", {
          type: "file",
          accept: "image/jpeg,image/png,image/webp,application/pdf",
          multiple: true,
          class: "rc-only-heard",
          "aria-label": words.photo_add,
          "data-testid": "photo-input",
          onChange: (event) => this.bring(event.target),
        }),
        words.photo_add,
      ]),
      h(
        "ul",
        { class: "rc-photo-list", "aria-live": "polite" },
        this.files.map((file) =>
          h("li", { class: "rc-photo", "data-state": file.state, "data-testid": "photo-file" }, [
            file.picture ? h("img", { src: file.picture, alt: "" }) : h("span", { class: "rc-photo-paper" }, "PDF"),
            h("span", [file.name, h("small", file.state === "refused" ? file.why : words[`photo_${file.state}`])]),
            h("button", { class: "rc-button rc-quiet-button", type: "button", onClick: () => this.drop(file) }, words.photo_drop),
          ]),
        ),
      ),
    ]);
  },

  beforeUnmount() {
    for (const file of this.files) if (file.picture) URL.revokeObjectURL(file.picture);
  },

  methods: {
    async bring(input) {
      const chosen = [...input.files];
      input.value = "";
      for (const one of chosen) {
        const picture = one.type.startsWith("image/") ? URL.createObjectURL(one) : "";
        this.files.push({ name: one.name, picture, state: "sending", id: "", why: "" });
        const file = this.files[this.files.length - 1];
        try {
          const small = await smaller(one);
          const answer = await fetch(`${window.path_prefix ?? ""}${this.to}?name=${encodeURIComponent(one.name.slice(0, 200))}`, {
            method: "POST",
            headers: { "Content-Type": small.type || "application/octet-stream" },
            body: small,
          });
          const said = await answer.json();
          if (!answer.ok) throw new Error(said.detail ?? said.title ?? String(answer.status));
          file.id = said.id;
          file.state = "kept";
        } catch (error) {
          const [zh, en] = String(error.message).split(" / ");
          file.why = this.language === "en" && en ? en : zh;
          file.state = "refused";
        }
        this.tell();
      }
    },

    drop(file) {
      if (file.picture) URL.revokeObjectURL(file.picture);
      this.files = this.files.filter((one) => one !== file);
      this.tell();
    },

    tell() {
      this.$emit("brought", { ids: this.files.filter((file) => file.id).map((file) => file.id), sending: this.files.filter((file) => file.state === "sending").length });
    },
  },
};
