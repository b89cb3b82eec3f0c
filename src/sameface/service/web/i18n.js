// Words in two languages. An element remembers which words it shows, so that a switch rewrites the page in place.
import en from "./en.js";
import ko from "./ko.js";

export const DICTIONARIES = { en, ko };
const ATTRIBUTES = ["aria-label", "title", "placeholder", "aria-valuetext"];

/** Return the language of the page. */
export function language() {
  return document.documentElement.lang === "ko" ? "ko" : "en";
}

/** Switch the language, keep the choice, and rewrite all that is on the page. */
export function setLanguage(code) {
  document.documentElement.lang = code;
  localStorage.setItem("sameface.language", code);
  translate(document.documentElement);
  document.dispatchEvent(new CustomEvent("languagechange"));
}

/** Return the words of `key`; `{n}` chooses between "one | many", and any `{name}` is filled in. */
export function t(key, args = {}) {
  const words = DICTIONARIES[language()][key];
  if (words === undefined) throw new Error(`no words for ${key}`);
  const forms = words.split(" | ");
  const form = forms.length > 1 && args.n !== 1 ? forms[1] : forms[0];
  return form.replace(/\{(\w+)\}/g, (_, name) => show(args[name]));
}

/** Return whether there are words for a key. */
export function knows(key) {
  return key in en;
}

/** Numbers with the separators of the language; text from outside kept apart from the direction of ours. */
function show(value) {
  if (typeof value === "number") return value.toLocaleString(language(), { maximumSignificantDigits: 7 });
  return /^[\d.]*$/.test(value) ? value : `\u2068${value}\u2069`;
}

/** Let an element show words; or, with `attribute`, let one of its attributes hold them. */
export function say(element, key, args = {}, attribute = "") {
  element.setAttribute(attribute ? `data-t-${attribute}` : "data-t", key);
  element.setAttribute(attribute ? `data-args-${attribute}` : "data-args", JSON.stringify(args));
  apply(element, attribute);
}

/** Let an element show text as it is, in no language. */
export function sayRaw(element, text) {
  delete element.dataset.t;
  element.textContent = text;
}

function apply(element, attribute) {
  const suffix = attribute && `-${attribute}`;
  const args = element.getAttribute(`data-args${suffix}`);
  const words = t(element.getAttribute(`data-t${suffix}`), args ? JSON.parse(args) : {});
  if (attribute) element.setAttribute(attribute, words);
  else element.textContent = words;
}

/** Write again all words under an element. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) apply(element, "");
  for (const attribute of ATTRIBUTES) {
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) apply(element, attribute);
  }
}
