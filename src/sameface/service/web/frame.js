// A picture with its faces outlined. The outlines are buttons where one can be chosen.
import { el, place } from "./dom.js";
import { say } from "./i18n.js";

/** Make a frame: `show` a canvas or video in it, `outline` the faces on it. */
export function createFrame() {
  const media = el("div", { class: "frame-media" });
  const marks = el("div", { class: "frame-marks", role: "group", label: "frame.faces" });
  const element = el("div", { class: "frame" }, media, marks);

  /** Show a canvas or a video; null stands for a picture that this browser cannot show. */
  function show(picture, alt, args) {
    marks.replaceChildren();
    if (picture === null) {
      media.replaceChildren(el("p", { class: "frame-blind", t: "frame.blind" }));
      return;
    }
    if (picture instanceof HTMLCanvasElement) {
      picture.setAttribute("role", "img");
      say(picture, alt, args, "aria-label");
    }
    media.replaceChildren(picture);
  }

  /**
   * Outline faces; `size` is the picture's as the service saw it. `mark(face, number)` answers
   * `{t, text, kind}`: words or a text to write on the outline, and its class. With `choose` each outline is a button.
   */
  function outline(size, faces, { mark = () => ({}), choose = null, chosen = null } = {}) {
    element.classList.toggle("blind", media.querySelector(".frame-blind") !== null);
    const made = faces.map((face, number) => {
      const { t, text, kind = "" } = mark(face, number);
      const label = t || text ? [el("span", { class: "mark-label", dir: "auto", t, text })] : [];
      const outlined = choose === null ? still(kind, label) : choosable(kind, label, number, chosen, choose);
      const shares = toShares(face.box, size);
      place(outlined, shares);
      outlined.classList.toggle("right", shares.left > 0.5); // so that no label leaves the picture
      outlined.classList.toggle("top", shares.top < 0.1);
      return outlined;
    });
    marks.replaceChildren(...made);
  }

  return { element, show, outline };
}

function still(kind, label) {
  return el("span", { class: `mark ${kind}` }, ...label);
}

function choosable(kind, label, number, chosen, choose) {
  const options = { type: "button", class: `mark ${kind}`, "aria-pressed": String(number === chosen) };
  const words = { label: "frame.choose", args: { n: number + 1 } };
  return el("button", { ...options, ...words, on: { click: () => choose(number) } }, ...label);
}

function toShares([left, top, right, bottom], { width, height }) {
  const [x, y] = [Math.max(0, left / width), Math.max(0, top / height)];
  return { left: x, top: y, width: Math.min(1, right / width) - x, height: Math.min(1, bottom / height) - y };
}
