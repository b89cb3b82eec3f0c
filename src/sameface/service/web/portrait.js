// The kept crop of a face, or a letter where none was kept; loaded when it comes into view.
import { el } from "./dom.js";
import { ApiError } from "./transport.js";

/** Make a portrait; `find()` answers `[person, face]` of a crop, or null. */
export function portrait(api, name, find) {
  const letter = [...name.trim()][0] ?? "?";
  const element = el("div", { class: "portrait", "aria-hidden": "true" }, el("span", { text: letter }));
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    fill(api, element, find);
  });
  observer.observe(element);
  return element;
}

async function fill(api, element, find) {
  try {
    const found = await find();
    if (found === null) return;
    const address = URL.createObjectURL(await api.crop(...found));
    const image = el("img", { src: address, alt: "" });
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    element.replaceChildren(image);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // without its crop a face keeps its letter
  }
}
