// The question for an API key.
import { ask, labelled } from "./dialog.js";
import { el } from "./dom.js";

/** Ask for a key; `refused` says that the one given before was not accepted. Answers it, or null. */
export async function askKey(refused) {
  const field = el("input", { type: "password", required: true, autocomplete: "off", spellcheck: "false" });
  const words = el("p", { class: refused ? "warn" : "soft", t: refused ? "key.refused" : "key.words" });
  const body = [words, labelled("key.label", field), el("p", { class: "soft small", t: "key.kept" })];
  const answer = await ask({ title: "key.title", body, field, action: "key.use" });
  return answer === null ? null : answer.trim();
}
