// Where pictures come in: dropped, chosen, or a whole folder.
import { button, el, icon } from "./dom.js";
import { isPicture, onlyPictures } from "./picture.js";

/**
 * Make a place that takes pictures.
 *
 * Options: `title` (filled with `args`), `hint` and `choose` keys of words, `multiple`, `folder`: offer to take a folder, `take(files)`.
 */
export function createIntake({ title, args, hint, choose, multiple = false, folder = false, take }) {
  const pass = (files) => {
    const pictures = onlyPictures(files);
    if (pictures.length > 0) take(multiple ? pictures : pictures.slice(0, 1));
  };
  const files = fileInput({ multiple, accept: "image/*,.heic,.heif,.avif" }, pass);
  const words = choose ?? (multiple ? "intake.choose_many" : "intake.choose");
  const buttons = [button(words, () => files.click(), { class: "primary" })];
  const inputs = [files];
  if (folder) {
    const whole = fileInput({ webkitdirectory: true, multiple: true }, pass);
    buttons.push(button("intake.choose_folder", () => whole.click()));
    inputs.push(whole);
  }
  const element = el(
    "div",
    { class: "intake" },
    icon("picture"),
    title ? el("p", { class: "intake-title", t: title, args }) : null,
    el("p", { class: "soft", t: hint ?? "intake.hint" }),
    el("div", { class: "actions" }, ...buttons),
    ...inputs,
  );
  takeDrops(element, pass);
  return element;
}

function fileInput(attributes, pass) {
  const input = el("input", { type: "file", hidden: true, ...attributes });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    pass(files);
  });
  return input;
}

/** Let an element take dropped files and folders. */
export function takeDrops(element, pass) {
  const wants = (event) => event.dataTransfer.types.includes("Files");
  element.addEventListener("dragover", (event) => {
    if (!wants(event)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", async (event) => {
    if (!wants(event)) return;
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    pass(await droppedFiles(event.dataTransfer));
  });
}

async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files];
  const found = await Promise.all(entries.map(filesUnder));
  return found.flat();
}

/** Return the files under an entry; a folder tells them a hundred at a time. */
async function filesUnder(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found.filter(isPicture);
    for (const child of some) found.push(...(await filesUnder(child)));
  }
}

/** A file dropped beside every intake must not replace the page. */
export function guardPage() {
  for (const name of ["dragover", "drop"]) {
    window.addEventListener(name, (event) => {
      if (event.dataTransfer.types.includes("Files")) event.preventDefault();
    });
  }
}
