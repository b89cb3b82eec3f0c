// Elements made without HTML text, so that no name or file name can ever become markup.
import { say } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const WORDS = { label: "aria-label", hint: "title", placeholder: "placeholder" };

/**
 * Make an element.
 *
 * Options: `t` words to show, `label`, `hint`, `placeholder` words for attributes, `args` what those words
 * are filled with, `text` text as it is, `on` listeners; all others are attributes (true: without value).
 */
export function el(tag, options = {}, ...children) {
  const { t, args, text, on = {}, ...rest } = options;
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) setAttribute(element, name, value, args);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  if (t !== undefined) say(element, t, args);
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null));
  return element;
}

function setAttribute(element, name, value, args) {
  if (value === null || value === false) return;
  if (name in WORDS) say(element, value, args, WORDS[name]);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Make a button. */
export function button(t, listener, options = {}) {
  return el("button", { type: "button", t, on: { click: listener }, ...options });
}

/** Make one of the drawings in icons.svg. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `/web/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Make a name from outside: shown as it is, whichever way it is written. */
export function nameOf(text, options = {}) {
  return el("bdi", { text, ...options });
}

/** Place an element in its parent, all in parts of 1. */
export function place(element, { left, top, width, height }) {
  const share = (value) => `${(100 * value).toFixed(3)}%`;
  if (left !== undefined) element.style.left = share(left);
  if (top !== undefined) element.style.top = share(top);
  if (width !== undefined) element.style.width = share(width);
  if (height !== undefined) element.style.height = share(height);
}

/** Tell a screen reader what happened. */
export function announce(key, args = {}) {
  say(document.getElementById("announcer"), key, args);
}
