// The groups of an album as pure functions: a board goes in, a new board comes out. Faces are numbers.

/** Return the board of the groups that the service found. */
export function startBoard(groups) {
  return { groups: groups.map((faces, id) => ({ id, name: "", faces })), next: groups.length };
}

/** Move faces to the group `target`; null makes a new group of them, after the one they came from. */
export function moveFaces(board, faces, target) {
  const moving = new Set(faces);
  const from = board.groups.findIndex((group) => group.faces.some((face) => moving.has(face)));
  const left = board.groups.map((group) => {
    const staying = group.faces.filter((face) => !moving.has(face));
    return { ...group, faces: group.id === target ? [...staying, ...faces] : staying };
  });
  if (target === null) left.splice(from + 1, 0, { id: board.next, name: "", faces: [...faces] });
  return { groups: left.filter((group) => group.faces.length > 0), next: board.next + (target === null ? 1 : 0) };
}

/** Move all of a group to another; the name of the target stays unless it has none. */
export function mergeGroups(board, source, target) {
  const gone = groupOf(board, source);
  const moved = moveFaces(board, gone.faces, target);
  return groupOf(moved, target).name ? moved : renameGroup(moved, target, gone.name);
}

/** Give a group a name. */
export function renameGroup(board, id, name) {
  return { ...board, groups: board.groups.map((group) => (group.id === id ? { ...group, name } : group)) };
}

/** Return a group by its id. */
export function groupOf(board, id) {
  return board.groups.find((group) => group.id === id);
}

/** Return for each face its number among the faces of its picture, by which the service knows it. */
export function numbersInPictures(faces) {
  const seen = new Map();
  return faces.map(({ picture }) => {
    const number = seen.get(picture) ?? 0;
    seen.set(picture, number + 1);
    return number;
  });
}

/** Return whether two boards show the same. */
function isEqual(a, b) {
  return JSON.stringify(a.groups) === JSON.stringify(b.groups);
}

/** What was, what is, and what was undone. */
export class History {
  #past = [];
  #future = [];

  constructor(board) {
    this.board = board;
  }

  /** Go on to another board, which can be undone. A board that shows the same is no step. */
  push(board) {
    if (isEqual(board, this.board)) return;
    this.#past.push(this.board);
    this.#future = [];
    this.board = board;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  undo() {
    if (!this.canUndo) return;
    this.#future.push(this.board);
    this.board = this.#past.pop();
  }

  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.board);
    this.board = this.#future.pop();
  }
}
