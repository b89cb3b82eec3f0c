// One row for each group. Tiles are made once and moved, so that a thousand faces stay quick.
import { button, el } from "./dom.js";
import { say } from "./i18n.js";

const DRAGGED = "application/x-sameface-faces";

/** Make the list; `act` holds what a row or a face can ask for (`enroll` is null without a gallery). */
export function createGroups(act) {
  const tiles = act.faces.map((face, number) => makeTile(face, number, act));
  const rows = new Map(); // id of the group -> its row
  const list = el("ol", { class: "groups" });
  const fresh = el("div", { class: "new-group" }, el("span", { t: "board.drop_new" }));
  takeFaces(fresh, (faces) => act.move(faces, null));
  const element = el("div", {}, list, fresh);

  function draw(board, { selected, enrolled }) {
    const focused = document.activeElement;
    board.groups.forEach((group, index) => {
      if (!rows.has(group.id)) rows.set(group.id, makeRow(group.id, act));
      fillRow(rows.get(group.id), group, index, { tiles, enrolled });
    });
    arrange(list, board.groups.map((group) => rows.get(group.id).element));
    tiles.forEach((tile, number) => tile.setAttribute("aria-pressed", String(selected.has(number))));
    if (focused?.isConnected && element.contains(focused)) focused.focus({ preventScroll: true });
  }

  const focus = (face) => tiles[face].focus();
  return { element, draw, focus, option, picture: (face) => tiles[face].firstElementChild.cloneNode() };
}

/** Make the choice of a group in a list of groups. */
function option(board, group) {
  const words = group.name ? "board.option_named" : "board.option";
  const args = { number: board.groups.indexOf(group) + 1, name: group.name, n: group.faces.length };
  return el("option", { value: group.id, t: words, args });
}

function makeTile({ thumbnail, filename }, number, act) {
  const tile = el("button", { type: "button", class: "tile", draggable: "true", "aria-pressed": "false" });
  say(tile, "board.face", { number: number + 1, name: filename }, "aria-label");
  tile.title = filename;
  tile.append(el("img", { src: thumbnail, alt: "", draggable: "false", loading: "lazy" }));
  tile.addEventListener("click", () => act.toggle(number));
  tile.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(DRAGGED, JSON.stringify(act.pick(number)));
    event.dataTransfer.effectAllowed = "move";
  });
  return tile;
}

function makeRow(id, act) {
  const name = el("input", { class: "group-name", maxlength: 200, autocomplete: "off", placeholder: "board.name_hint" });
  name.addEventListener("change", () => act.rename(id, name.value));
  const count = el("span", { class: "soft small" });
  const done = el("span", { class: "chip known", hidden: true });
  const buttons = [button("board.merge", () => act.merge(id), { class: "quiet" })];
  if (act.enroll !== null) buttons.unshift(button("board.enroll", () => act.enroll(id)));
  const head = el("div", { class: "group-head" }, name, count, done, el("div", { class: "actions" }, ...buttons));
  const faces = el("div", { class: "tiles" });
  const element = el("li", { class: "group panel" }, head, faces);
  takeFaces(element, (moved) => act.move(moved, id));
  return { element, name, count, done, faces };
}

function fillRow(row, group, index, { tiles, enrolled }) {
  const words = { number: index + 1, n: group.faces.length };
  row.name.value = group.name;
  say(row.name, "board.name", words, "aria-label");
  say(row.count, "board.count", words);
  arrange(row.faces, group.faces.map((face) => tiles[face]));
  const stored = group.faces.filter((face) => enrolled.has(face)).length;
  row.done.hidden = stored === 0;
  if (stored > 0) say(row.done, "board.enrolled", { n: stored });
}

/** Put children in order. What is in order is not touched: a click begun on it must find it there at its end. */
function arrange(parent, wanted) {
  const inOrder = parent.children.length === wanted.length && wanted.every((child, index) => parent.children[index] === child);
  if (!inOrder) parent.replaceChildren(...wanted);
}

function takeFaces(element, take) {
  const wants = (event) => event.dataTransfer.types.includes(DRAGGED);
  element.addEventListener("dragover", (event) => {
    if (!wants(event)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", (event) => {
    if (!element.contains(event.relatedTarget)) element.classList.remove("over");
  });
  element.addEventListener("drop", (event) => {
    if (!wants(event)) return;
    event.preventDefault();
    element.classList.remove("over");
    take(JSON.parse(event.dataTransfer.getData(DRAGGED)));
  });
}
