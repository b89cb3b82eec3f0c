// The challenge: somebody before the camera is asked to turn the head, and the service tells whether a head turned.
import { announce, el } from "./dom.js";
import { say } from "./i18n.js";

// The picture is shown like a mirror, so that the arrow points to where one looks.
const ARROWS = { straight: "•", left: "←", right: "→" };
const WANTED = { straight: "challenge.straight", left: "challenge.left", right: "challenge.right" };
const REASONS = {
  late: "challenge.late",
  lost: "challenge.lost",
  jumped: "challenge.lost",
  other_person: "challenge.other_person",
  wrong_way: "challenge.wrong_way",
};

/** Make the place where it is told what to do. */
export function createChallenge(app) {
  const arrow = el("span", { class: "challenge-arrow", "aria-hidden": "true" });
  const words = el("p", { class: "challenge-words" });
  const steps = el("progress", { value: 0, max: 1, label: "album.progress" });
  const meaning = el("p", { class: "soft small", t: "challenge.meaning" });
  const element = el("section", { class: "challenge panel", hidden: true, label: "challenge.start" }, arrow, words, steps, meaning);
  let id = null;
  let said = null;

  /** Begin one; the pictures of the camera go to `show` from now on. */
  async function begin() {
    const told = await app.api.beginChallenge();
    id = told.id;
    said = null;
    tell(WANTED[told.wanted], told);
  }

  /** Send a picture, and answer what the service says of it. */
  async function show(picture, signal) {
    const told = await app.api.showChallenge(id, picture, signal);
    if (signal.aborted) return told;
    if (told.state !== "running") id = null;
    if (told.state === "running") tell(told.too_fast ? "challenge.slower" : WANTED[told.wanted], told);
    else tell(told.state === "passed" ? "challenge.passed" : REASONS[told.reason], told);
    return told;
  }

  function tell(key, { wanted, met, total }) {
    element.hidden = false;
    arrow.textContent = ARROWS[wanted] ?? "";
    steps.max = total;
    steps.value = met;
    if (key === said) return;
    said = key;
    say(words, key);
    announce(key);
  }

  function clear() {
    id = null;
    element.hidden = true;
  }

  return { element, begin, show, clear, id: () => id };
}
