// The groups on the screen: select, drag, move, merge, name, undo, export.
import { announce, button, el } from "./dom.js";
import { ask, labelled } from "./dialog.js";
import { openEnroll } from "./enroll.js";
import { save, toCsv, toJson } from "./export.js";
import { failure } from "./failure.js";
import { createGroups } from "./grouplist.js";
import { groupOf, History, mergeGroups, moveFaces, numbersInPictures, renameGroup, startBoard } from "./groups.js";
import { say } from "./i18n.js";
import { showPicture } from "./viewer.js";

/** Make the board of a result; `files` are the pictures that were sent. */
export function createBoard(app, result, files) {
  const history = new History(startBoard(result.groups));
  const numbers = numbersInPictures(result.faces);
  const selected = new Set();
  const enrolled = new Map(); // face -> the person it was enrolled as
  const summary = el("p", { class: "soft", role: "status" });
  const undo = button("board.undo", () => travel("undo"), { "aria-keyshortcuts": "Control+Z" });
  const redo = button("board.redo", () => travel("redo"), { "aria-keyshortcuts": "Control+Y" });
  const exports = [button("board.json", exportJson), button("board.csv", exportCsv)];
  const tools = el("div", { class: "board-tools" }, summary, el("div", { class: "actions" }, undo, redo, ...exports));
  const count = el("span", { role: "status" });
  const look = button("board.look", () => viewFace([...selected][0]));
  const selection = el(
    "div",
    { class: "selection", role: "group", label: "board.selection", hidden: true },
    count,
    button("board.move", () => moveSelected(), { class: "primary" }),
    button("board.split", () => move([...selected], null)),
    look,
    button("board.clear", () => select(new Set())),
  );
  const list = createGroups({ faces: result.faces, toggle, move, rename, merge, enroll: app.model.gallery && enroll, pick: draggedFaces });
  const problem = el("div");
  const element = el("div", { class: "board", on: { keydown: onKey } }, tools, el("p", { class: "soft small", t: "board.help" }), problem, list.element, selection);
  draw();

  function draw() {
    const { board } = history;
    const faces = board.groups.reduce((sum, group) => sum + group.faces.length, 0);
    list.draw(board, { selected, enrolled });
    say(summary, "album.found", { n: faces, groups: board.groups.length });
    undo.disabled = !history.canUndo;
    redo.disabled = !history.canRedo;
    selection.hidden = selected.size === 0;
    look.hidden = selected.size !== 1;
    say(count, "board.selected", { n: selected.size });
  }

  function go(board) {
    history.push(board);
    draw();
  }

  function travel(way) {
    history[way]();
    selected.clear();
    draw();
    announce(way === "undo" ? "board.undone" : "board.redone");
  }

  function onKey(event) {
    if (!(event.ctrlKey || event.metaKey) || event.target.matches("input")) return;
    const key = event.key.toLowerCase();
    const way = key === "z" && !event.shiftKey ? "undo" : key === "y" || key === "z" ? "redo" : null;
    if (way === null) return;
    event.preventDefault();
    travel(way);
  }

  function select(faces) {
    selected.clear();
    for (const face of faces) selected.add(face);
    draw();
  }

  function toggle(face) {
    if (!selected.delete(face)) selected.add(face);
    draw();
  }

  /** Which faces go along when one is dragged: all that are selected, if it is one of them. */
  function draggedFaces(face) {
    return selected.has(face) ? [...selected] : [face];
  }

  function move(faces, target) {
    selected.clear();
    go(moveFaces(history.board, faces, target));
    list.focus(faces[0]);
    announce("board.moved", { n: faces.length });
  }

  async function moveSelected() {
    const target = await askGroup("board.move_title", { n: selected.size }, history.board.groups);
    if (target !== null) move([...selected], target);
  }

  async function merge(id) {
    const others = history.board.groups.filter((group) => group.id !== id);
    const target = await askGroup("board.merge_title", { n: groupOf(history.board, id).faces.length }, others);
    if (target === null) return;
    go(mergeGroups(history.board, id, target));
    announce("board.merged");
  }

  async function askGroup(title, args, groups) {
    const field = el("select", { required: true });
    field.append(...groups.map((group) => list.option(history.board, group)));
    const answer = await ask({ title, args, body: [labelled("board.to", field)], field, action: "board.move_yes" });
    return answer === null ? null : Number(answer);
  }

  function rename(id, name) {
    go(renameGroup(history.board, id, name.trim()));
  }

  async function enroll(id) {
    const group = groupOf(history.board, id);
    const items = group.faces.map((face) => ({ file: files[result.faces[face].picture], face: numbers[face], cut: list.picture(face) }));
    problem.replaceChildren();
    try {
      const answer = await openEnroll(app, { items, name: group.name });
      if (answer === null) return;
      for (const face of group.faces) enrolled.set(face, answer.person.name);
      go(renameGroup(history.board, id, answer.person.name));
    } catch (error) {
      problem.replaceChildren(failure(error));
    }
  }

  function viewFace(face) {
    const { picture, filename, box } = result.faces[face];
    return showPicture(files[picture], filename, box);
  }

  function exportJson() {
    save(toJson(history.board, result.faces, result), "album.json", "application/json");
  }

  function exportCsv() {
    save(toCsv(history.board, result.faces), "album.csv", "text/csv");
  }

  return { element };
}
