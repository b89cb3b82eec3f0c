// Distances on a line: green up to the threshold, the distance as a mark.
import { el, place } from "./dom.js";
import { say, sayRaw } from "./i18n.js";
import { roundDistance } from "./thresholds.js";

/** Make a scale; `set` moves what is on it. */
export function createScale() {
  const zone = el("div", { class: "scale-zone" });
  const limit = el("div", { class: "scale-limit" }, el("span", { t: "scale.threshold" }));
  const mark = el("div", { class: "scale-mark" }, el("span"));
  const track = el("div", { class: "scale-track", role: "img" }, zone, limit, mark);
  const [start, end] = [el("span", { text: "0" }), el("span")];
  const ends = el("div", { class: "scale-ends", "aria-hidden": "true" });
  ends.append(start, el("span", { t: "scale.nearer" }), el("span", { t: "scale.farther" }), end);

  function set({ distance, threshold, to }) {
    const share = (value) => Math.min(1, value / to);
    const same = distance <= threshold;
    place(zone, { width: share(threshold) });
    place(limit, { left: share(threshold) });
    place(mark, { left: share(distance) });
    mark.classList.toggle("same", same);
    limit.classList.toggle("late", share(threshold) > 0.8);
    mark.classList.toggle("late", share(distance) > 0.8);
    sayRaw(mark.firstElementChild, roundDistance(distance));
    sayRaw(end, String(to));
    const args = { distance: roundDistance(distance), threshold: roundDistance(threshold), to };
    say(track, "scale.words", args, "aria-label");
  }

  return { element: el("div", { class: "scale" }, track, ends), set };
}

/** Make a scale of one line, for a list of candidates. */
export function smallScale(distance, threshold, to) {
  const share = (value) => Math.min(1, value / to);
  const zone = el("span", { class: "scale-zone" });
  const mark = el("span", { class: distance <= threshold ? "scale-mark same" : "scale-mark" });
  place(zone, { width: share(threshold) });
  place(mark, { left: share(distance) });
  return el("span", { class: "scale-small", "aria-hidden": "true" }, zone, mark);
}
