// Who the faces of a picture are, as a list beside it.
import { button, el, nameOf } from "./dom.js";
import { openEnroll } from "./enroll.js";
import { cutFace } from "./picture.js";
import { smallScale } from "./scale.js";
import { percentOf, roundDistance, scaleEnd } from "./thresholds.js";

/** Return what is written on the outline of an identified face. */
export function markOf(face) {
  if (face.name === null) return { t: "who.unknown", kind: "unknown" };
  return { text: face.name, kind: face.ambiguous ? "ambiguous" : "known" };
}

/** Make the list. */
export function createNames(app) {
  const list = el("ol", { class: "names" });
  const foot = el("p", { class: "soft small rule" });
  const element = el("section", { class: "panel", label: "who.faces", hidden: true }, list, foot);

  /** Show what the service said; `file` is the picture if it can still be sent to be enrolled. */
  function show(found, { canvas, file }) {
    element.hidden = false;
    if (found.faces.length === 0) {
      list.replaceChildren(el("li", { class: "soft", t: "error.no_face" }));
      foot.replaceChildren();
      return;
    }
    const to = scaleEnd(app.thresholds, Math.max(...found.faces.flatMap((face) => face.matches.map((m) => m.distance)), 0));
    list.replaceChildren(...found.faces.map((face, number) => card(face, number, found, canvas, file, to)));
    foot.replaceChildren(...ruleWords(found.faces[0]));
  }

  function card(face, number, found, canvas, file, to) {
    const cut = el("div", { class: "thumb", "aria-hidden": "true" }, cutFace(canvas, found, face.box));
    const title = face.name === null ? el("h2", { t: "who.unknown" }) : el("h2", {}, nameOf(face.name));
    const kind = markOf(face).kind;
    const enroll = () => openEnroll(app, { items: [{ file, face: number, cut: cutFace(canvas, found, face.box) }] });
    return el(
      "li",
      { class: "name-card" },
      cut,
      el(
        "div",
        {},
        el("div", { class: "name-head" }, title, el("span", { class: `chip ${kind}`, t: `who.is_${kind}` }), liveness(face)),
        face.ambiguous ? el("p", { class: "soft small", t: "who.ambiguous_words" }) : null,
        face.matches.length > 0 ? candidates(face, to) : el("p", { class: "soft small", t: "who.nobody" }),
        file !== null && face.name === null ? button("who.enroll", enroll, { class: "small" }) : null,
      ),
    );
  }

  return { element, show, clear: () => (element.hidden = true) };
}

/** Return by what rule, threshold and rate a face was decided, and a mark if the rate is not what was asked for. */
function ruleWords(face) {
  const { far, asked, size } = face;
  const args = { threshold: roundDistance(face.threshold), percent: percentOf(far), asked: percentOf(asked), n: size };
  const words = [el("span", { t: `who.rule_${face.rule}`, args })];
  if (face.closed_set) return [...words, el("span", { t: "who.closed_words" })];
  words.push(el("span", { t: `who.threshold_${face.population}`, args }));
  if (size > 0 && far > asked) words.push(el("span", { class: "note", t: "who.promise", args }));
  if (size > 0 && face.extrapolated) words.push(el("span", { class: "note", t: "who.extrapolated" }));
  return words;
}

function liveness({ live }) {
  if (live === null) return null;
  return el("span", { class: live ? "chip known" : "chip ambiguous", t: live ? "challenge.live" : "challenge.not_live" });
}

function candidates({ matches, threshold }, to) {
  const rows = matches.map(({ name, distance }) =>
    el(
      "li",
      {},
      nameOf(name),
      smallScale(distance, threshold, to),
      el("span", { class: "number", text: roundDistance(distance) }),
      el("span", { class: "unseen", t: distance <= threshold ? "who.near" : "who.far_away" }),
    ),
  );
  return el("ol", { class: "candidates", label: "who.candidates" }, ...rows);
}
