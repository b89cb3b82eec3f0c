// Pictures looked at before they are enrolled: each has one face, one to be chosen, or a reason why it is left out.
import { button, el, nameOf } from "./dom.js";
import { failure } from "./failure.js";
import { say } from "./i18n.js";
import { cutFace, drawPicture } from "./picture.js";

/** Make the list; `changed` is called when a picture comes, goes, or its face is chosen. */
export function createInspection(app, changed) {
  const element = el("ul", { class: "inspection" });
  const rows = new Map(); // element of the row -> {file, face: number or null, looking}
  let turn = Promise.resolve(); // one picture is looked at after the other

  function add(files) {
    for (const file of files) {
      const row = makeRow(file, null);
      turn = turn.then(() => inspect(row));
    }
    changed();
  }

  /** Add faces that are chosen already. */
  function addReady(items) {
    for (const { file, face, cut } of items) {
      const row = makeRow(file, face);
      row.picture.replaceChildren(cut);
      say(row.words, "enroll.ready");
    }
    changed();
  }

  function makeRow(file, face) {
    const picture = el("div", { class: "thumb", "aria-hidden": "true" });
    const words = el("p", { class: "soft small", t: "slot.looking" });
    const body = el("div", {}, nameOf(file.name, { class: "file-name" }), words);
    const remove = button("enroll.leave_out", () => drop(row), { class: "quiet small", label: "enroll.leave_out_label", args: { name: file.name } });
    const row = { file, face, name: null, looking: face === null, picture, words, body, element: el("li", {}, picture, body, remove) };
    rows.set(row.element, row);
    element.append(row.element);
    return row;
  }

  function drop(row) {
    rows.delete(row.element);
    row.element.remove();
    changed();
  }

  async function inspect(row) {
    if (!rows.has(row.element)) return;
    const canvas = await drawPicture(row.file);
    if (canvas !== null) row.picture.replaceChildren(canvas);
    try {
      offer(row, canvas, await app.api.identify({ picture: row.file }));
    } catch (error) {
      reject(row, failure(error));
    }
    row.looking = false;
    changed();
  }

  function offer(row, canvas, found) {
    if (found.faces.length === 0) reject(row, el("p", { t: "error.no_face" }));
    else if (found.faces.length === 1) choose(row, canvas, found, 0);
    else offerSeveral(row, canvas, found);
  }

  function choose(row, canvas, found, number) {
    row.face = number;
    row.name = found.faces[number].name;
    row.picture.replaceChildren(cutFace(canvas, found, found.faces[number].box));
    say(row.words, "enroll.ready");
  }

  function offerSeveral(row, canvas, found) {
    say(row.words, "enroll.several", { n: found.faces.length });
    const choices = found.faces.map((face, number) => {
      const pick = () => {
        choose(row, canvas, found, number);
        for (const one of choices) one.setAttribute("aria-pressed", String(one === picked));
        changed();
      };
      const words = { label: "frame.choose", args: { n: number + 1 } };
      const picked = el("button", { type: "button", class: "pick", "aria-pressed": "false", ...words, on: { click: pick } });
      picked.append(cutFace(canvas, found, face.box, 56));
      return picked;
    });
    row.body.append(el("div", { class: "picks" }, ...choices));
  }

  function reject(row, why) {
    row.element.classList.add("bad");
    say(row.words, "enroll.left_out");
    row.body.append(why);
  }

  const chosen = () => [...rows.values()].filter((row) => row.face !== null).map(({ file, face }) => ({ file, face }));
  /** The enrolled people that the chosen faces look like. */
  const names = () => [...new Set([...rows.values()].map(({ name }) => name).filter((name) => name !== null))];
  const isLooking = () => [...rows.values()].some((row) => row.looking);
  const isUndecided = () => element.querySelector(".picks:not(:has([aria-pressed=true]))") !== null;
  return { element, add, addReady, chosen, names, isLooking, isUndecided };
}
