// Two pictures: the same person, or different people?
import { el } from "./dom.js";
import { failure } from "./failure.js";
import { createSlot } from "./slot.js";
import { startRow } from "./thresholds.js";
import { createVerdict } from "./verdict.js";

/** Make the view. */
export function createCompare(app) {
  const slots = ["compare.first", "compare.second"].map((title, side) =>
    createSlot(app, title, { changed: () => update(), spill: (file) => slots[1 - side].take(file) }),
  );
  const verdict = createVerdict(app.thresholds, app.model.population);
  const waiting = el("p", { class: "soft waiting", t: "compare.waiting", hidden: true });
  const problem = el("div");
  let work = new AbortController();
  let pasted = 0; // into which slot the next pasted picture goes, if both are full

  async function update() {
    work.abort();
    work = new AbortController();
    verdict.clear();
    problem.replaceChildren();
    const [a, b] = slots.map((slot) => slot.choice());
    waiting.hidden = a === null || b === null;
    if (!waiting.hidden) await compare(a, b, work.signal);
  }

  async function compare(a, b, signal) {
    try {
      const { far } = app.thresholds[startRow(app.thresholds)];
      const fields = { far, a: a.file, b: b.file, face_a: a.face, face_b: b.face };
      const answer = await app.api.verify(fields, signal);
      if (!signal.aborted) verdict.show(answer);
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(failure(error));
    } finally {
      if (!signal.aborted) waiting.hidden = true;
    }
  }

  /** Take pasted pictures: into the empty places first, then in turn. */
  function take(files) {
    for (const file of files.slice(0, 2)) {
      const empty = slots.find((slot) => slot.isEmpty());
      (empty ?? slots[pasted++ % 2]).take(file);
    }
  }

  const element = el(
    "section",
    { class: "view" },
    el("h1", { t: "compare.title", tabindex: "-1" }),
    el("p", { class: "lead", t: "compare.lead" }),
    el("div", { class: "pair" }, ...slots.map((slot) => slot.element)),
    el("div", { class: "result" }, waiting, problem, verdict.element),
  );
  return { element, take };
}
