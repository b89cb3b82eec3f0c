// Questions in a dialog. The browser keeps the focus inside, closes on Escape, and gives the focus back.
import { button, el } from "./dom.js";

let count = 0;

/** Open a dialog with a title and a body; `closed` is settled when it is gone. */
export function openDialog({ title, args, body, kind = "" }) {
  const id = `dialog-title-${++count}`;
  const heading = el("h2", { id, t: title, args });
  const shut = button(undefined, () => element.close(), { class: "quiet square", label: "dialog.close", text: "✕" });
  const head = el("div", { class: "dialog-head" }, heading, shut);
  const element = el("dialog", { class: kind, "aria-labelledby": id }, head, ...body);
  const closed = new Promise((resolve) => element.addEventListener("close", resolve, { once: true }));
  closed.then(() => element.remove());
  document.body.append(element);
  element.showModal();
  return { element, closed, close: () => element.close() };
}

/** Ask for a yes; answers true or false. */
export async function confirm({ title, args, body, action, danger = false }) {
  let answer = false;
  const yes = () => {
    answer = true;
    dialog.close();
  };
  const buttons = el(
    "div",
    { class: "actions end" },
    button("dialog.cancel", () => dialog.close(), { autofocus: danger }),
    button(action, yes, { class: danger ? "danger" : "primary" }),
  );
  const dialog = openDialog({ title, args, body: [...body, buttons] });
  await dialog.closed;
  return answer;
}

/** Ask for a field to be filled in; answers its value, or null. */
export async function ask({ title, args, body = [], field, action }) {
  let answer = null;
  const submit = (event) => {
    event.preventDefault();
    answer = field.value;
    dialog.close();
  };
  const buttons = el(
    "div",
    { class: "actions end" },
    button("dialog.cancel", () => dialog.close()),
    el("button", { type: "submit", class: "primary", t: action }),
  );
  const dialog = openDialog({ title, args, body: [el("form", { on: { submit } }, ...body, buttons)] });
  field.focus();
  await dialog.closed;
  return answer;
}

/** Show something that only needs to be read. */
export async function tell({ title, args, body }) {
  const dialog = openDialog({ title, args, body: [...body, closing(() => dialog.close())] });
  await dialog.closed;
}

/** Make the row with the one button that closes. */
export function closing(close) {
  return el("div", { class: "actions end" }, button("dialog.close", close, { class: "primary" }));
}

/** Make a field with its label. */
export function labelled(t, field, args = {}) {
  return el("label", { class: "field" }, el("span", { t, args }), field);
}
