// The groups as a file to keep.

/** Return the groups as JSON. */
export function toJson(board, faces, { threshold, far }) {
  const groups = board.groups.map(({ name, faces: members }) => ({
    name,
    faces: members.map((number) => ({ picture: faces[number].filename, box: faces[number].box, score: faces[number].score })),
  }));
  return JSON.stringify({ threshold, far, groups }, null, 1);
}

/** Return the groups as CSV, one face a line. */
export function toCsv(board, faces) {
  const lines = board.groups.flatMap(({ name, faces: members }, group) =>
    members.map((number) => [group + 1, name, faces[number].filename, ...faces[number].box, faces[number].score]),
  );
  const head = ["group", "name", "picture", "left", "top", "right", "bottom", "score"];
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

/** A text that a spreadsheet would take for a formula gets an apostrophe; numbers stay as they are. */
function cell(value) {
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Let the browser save a text as a file. */
export function save(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
