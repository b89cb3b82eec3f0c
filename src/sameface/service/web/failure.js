// Errors in words: ours in the language of the page, and the words of the service for who wants to know more.
import { el } from "./dom.js";
import { knows } from "./i18n.js";
import { ApiError } from "./transport.js";

/** Return the key of the words for an error. */
export function errorKey(code) {
  return knows(`error.${code}`) ? `error.${code}` : "error.other";
}

/** Make a notice of an error; what is not the service's or the network's is a fault of this page, and thrown on. */
export function failure(error) {
  if (!(error instanceof ApiError)) throw error;
  return notice(error.code, error.message, error.retryAfter);
}

/** Make a notice of a code and the words of the service. */
export function notice(code, message, retryAfter = null) {
  const wait = retryAfter === null || Number.isNaN(retryAfter) ? null : retryAfter;
  return el(
    "div",
    { class: "failure", role: "alert" },
    el("p", { t: errorKey(code), args: { code } }),
    wait === null ? null : el("p", { t: "error.wait", args: { n: wait } }),
    message ? details(message) : null,
  );
}

function details(message) {
  return el("details", {}, el("summary", { t: "error.detail" }), el("p", { class: "server", lang: "en", text: message }));
}
