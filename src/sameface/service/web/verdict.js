// Same or different: the distance, the threshold, and the slider over false-accept rates that moves it.
import { announce, el } from "./dom.js";
import { say } from "./i18n.js";
import { createScale } from "./scale.js";
import { isSame, rateArgs, rateKey, roundDistance, scaleEnd, startRow } from "./thresholds.js";

/** Make a verdict over a table of thresholds, the most lenient first, that hold for a population. */
export function createVerdict(rows, population) {
  const symbol = el("span", { class: "verdict-symbol", "aria-hidden": "true" });
  const title = el("p", { class: "verdict-title" });
  const words = el("p", { class: "soft" });
  const chance = el("p", { class: "soft" });
  const scale = createScale();
  const rate = el("output", { class: "rate", for: "far" });
  const tail = el("p", { class: "note small", t: "far.extrapolated", hidden: true });
  const slider = el("input", { type: "range", id: "far", min: 0, max: rows.length - 1, step: 1 });
  const whole = el("input", { type: "checkbox" });
  const element = el(
    "section",
    { class: "verdict panel", hidden: true, label: "compare.result" },
    el("div", { class: "verdict-head" }, symbol, el("div", {}, title, words, chance)),
    scale.element,
    el("label", { class: "check" }, whole, el("span", { t: "scale.whole" })),
    strictness(slider, rate, tail),
  );
  let answer = null;
  slider.value = startRow(rows);
  slider.addEventListener("input", () => decide());
  whole.addEventListener("change", () => decide());

  function decide() {
    const row = rows[Number(slider.value)];
    const args = rateArgs(row.far);
    say(rate, rateKey(population), args);
    say(slider, rateKey(population), args, "aria-valuetext");
    tail.hidden = !row.extrapolated;
    if (answer === null) return;
    const { distance } = answer;
    const same = isSame(distance, row);
    element.classList.toggle("same", same);
    symbol.textContent = same ? "=" : "≠";
    say(title, same ? "verdict.same" : "verdict.different");
    const facts = { distance: roundDistance(distance), threshold: roundDistance(row.distance) };
    say(words, same ? "verdict.within" : "verdict.beyond", facts);
    scale.set({ distance, threshold: row.distance, to: whole.checked ? 4 : scaleEnd(rows, distance) });
  }

  /** Show an answer of the service. */
  function show(given) {
    answer = given;
    element.hidden = false;
    chance.hidden = given.probability === null;
    if (given.probability !== null) {
      const percent = Number((100 * given.probability).toPrecision(3));
      say(chance, given.in_range ? "verdict.probability" : "verdict.probability_edge", { percent });
    }
    decide();
    announce(isSame(given.distance, rows[Number(slider.value)]) ? "verdict.same" : "verdict.different");
  }

  function clear() {
    answer = null;
    element.hidden = true;
  }

  decide();
  return { element, show, clear };
}

function strictness(slider, rate, tail) {
  return el(
    "div",
    { class: "strictness" },
    el("label", { for: "far", t: "far.label" }),
    rate,
    slider,
    el("div", { class: "scale-ends soft", "aria-hidden": "true" }, el("span", { t: "far.lenient" }), el("span", { t: "far.strict" })),
    tail,
    el("p", { class: "soft small", t: "far.meaning" }),
  );
}
