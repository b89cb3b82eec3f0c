// One picture of two: taken in, shown with its faces, one of them chosen.
import { announce, button, el, nameOf } from "./dom.js";
import { failure } from "./failure.js";
import { createFrame } from "./frame.js";
import { createIntake, takeDrops } from "./intake.js";
import { drawPicture, largestFace, onlyPictures } from "./picture.js";

/** Make a slot; `changed` is called when another face is chosen, or none is, `spill` with a second picture. */
export function createSlot(app, title, { changed, spill }) {
  const frame = createFrame();
  const intake = createIntake({ title, choose: "intake.choose", multiple: true, take: takeAll });
  const name = nameOf("", { class: "file-name" });
  const remove = button("slot.remove", () => clear(), { class: "quiet" });
  const hint = el("p", { class: "soft small" });
  const problem = el("div");
  const filled = el("div", { class: "slot-filled", hidden: true }, frame.element, problem);
  filled.append(el("div", { class: "slot-foot" }, name, remove), hint);
  const element = el("section", { class: "slot panel", label: title }, intake, filled);
  takeDrops(filled, (files) => takeAll(onlyPictures(files)));
  let work = new AbortController();
  let choice = null; // {file, face}

  function takeAll([file, second]) {
    if (file !== undefined) take(file);
    if (second !== undefined) spill(second);
  }

  async function take(file) {
    work.abort();
    work = new AbortController();
    const { signal } = work;
    reset(file);
    const picture = await drawPicture(file);
    if (signal.aborted) return;
    frame.show(picture, "slot.alt", { name: file.name });
    try {
      const found = await app.api.detect(file, signal);
      if (!signal.aborted) offer(file, found);
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(failure(error));
    }
  }

  function reset(file) {
    choice = null;
    changed();
    intake.hidden = true;
    filled.hidden = false;
    name.textContent = file.name;
    problem.replaceChildren();
    hint.replaceChildren(el("span", { t: "slot.looking" }));
    frame.show(document.createElement("canvas"), "slot.looking");
  }

  function offer(file, found) {
    const several = found.faces.length > 1;
    if (found.faces.length === 0) {
      hint.replaceChildren(el("span", { class: "warn", t: "error.no_face" }));
      announce("error.no_face");
      return;
    }
    const say = several ? "slot.several" : "slot.one";
    hint.replaceChildren(el("span", { t: say, args: { n: found.faces.length } }));
    const choose = (number) => {
      choice = { file, face: number };
      frame.outline(found, found.faces, several ? { choose: pick, chosen: number } : { mark: () => ({ kind: "chosen" }) });
      changed();
    };
    const pick = (number) => {
      choose(number);
      frame.element.querySelector("[aria-pressed=true]").focus({ preventScroll: true });
    };
    choose(largestFace(found.faces));
    announce(say, { n: found.faces.length });
  }

  function clear() {
    work.abort();
    choice = null;
    filled.hidden = true;
    intake.hidden = false;
    intake.querySelector("button").focus();
    changed();
  }

  return { element, take, choice: () => choice, isEmpty: () => filled.hidden };
}
