// One picture, or the camera: every face named, or unknown.
import { announce, button, el } from "./dom.js";
import { createCamera } from "./camera.js";
import { createChallenge } from "./challenge.js";
import { failure } from "./failure.js";
import { createFrame } from "./frame.js";
import { createIntake, takeDrops } from "./intake.js";
import { createNames, markOf } from "./names.js";
import { labelled } from "./dialog.js";
import { drawPicture, onlyPictures } from "./picture.js";

/** Make the view. */
export function createWho(app) {
  const frame = createFrame();
  const names = createNames(app);
  const problem = el("div");
  const intake = createIntake({ title: "who.intake", take: ([file]) => take(file) });
  const challenge = createChallenge(app);
  const lookLive = (still) => (challenge.id() === null ? look(still) : tryStill(still));
  const camera = createCamera({ frame, look: lookLive, stopped: () => showButtons(false) });
  const start = button("who.camera", startCamera);
  const stop = button("who.camera_stop", () => camera.stop(), { class: "primary", hidden: true });
  const check = button("challenge.start", startChallenge, { hidden: true });
  const options = createOptions(() => file !== null && identifyFile());
  intake.querySelector(".actions").append(start);
  intake.append(el("p", { class: "soft small", t: "who.camera_words" }));
  const again = createIntake({ take: ([other]) => take(other) });
  const actions = el("div", { class: "actions" }, stop, check, again);
  const stage = el("div", { class: "stage", hidden: true }, challenge.element, frame.element, actions);
  takeDrops(stage, (files) => onlyPictures(files).slice(0, 1).forEach(take));
  let file = null;
  let canvas = null;
  let passed = null; // the challenge that the next look uses up
  let work = new AbortController();

  async function take(given) {
    file = given;
    camera.stop();
    if (passed === null) challenge.clear();
    names.clear();
    stage.hidden = false;
    intake.hidden = true;
    canvas = null;
    const drawn = await drawPicture(given);
    if (file !== given) return;
    canvas = drawn;
    frame.show(canvas, "slot.alt", { name: given.name });
    await identifyFile();
  }

  async function identifyFile() {
    const found = await look(file);
    if (found === null) return;
    names.show(found, { canvas, file });
    announce("who.found", { n: found.faces.length });
  }

  /** Ask the service who is in a picture, outline the faces, and answer what it said; null if that failed. */
  async function look(picture) {
    work.abort();
    work = new AbortController();
    const { signal } = work;
    problem.replaceChildren();
    try {
      const used = passed;
      passed = null;
      const found = await app.api.identify({ picture, ...options.fields(), challenge: used }, signal);
      if (signal.aborted) return null;
      frame.outline(found, found.faces, { mark: markOf });
      return found;
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(failure(error));
      return null;
    }
  }

  async function startChallenge() {
    problem.replaceChildren();
    try {
      await challenge.begin();
      names.clear();
      mirror(true);
    } catch (error) {
      problem.replaceChildren(failure(error));
    }
  }

  /** Send a still to the challenge. When it is passed, the same still tells who it is; else the camera goes on. */
  async function tryStill(still) {
    work = new AbortController();
    const id = challenge.id();
    try {
      const told = await challenge.show(still, work.signal);
      names.clear();
      frame.outline(told, told.face === null ? [] : [told.face]);
      if (told.state === "running") return told;
      mirror(false);
      if (told.state === "failed") return told;
      passed = id;
      take(still);
    } catch (error) {
      problem.replaceChildren(failure(error));
    }
    return null;
  }

  function mirror(on) {
    check.disabled = on;
    frame.element.classList.toggle("mirrored", on);
  }

  async function startCamera() {
    file = null;
    challenge.clear();
    names.clear();
    problem.replaceChildren();
    stage.hidden = false;
    intake.hidden = true;
    const trouble = await camera.start((found, still) => {
      if ("faces" in found) names.show(found, { canvas: still, file: null });
    });
    if (trouble === null) return showButtons(true);
    stage.hidden = true;
    intake.hidden = false;
    problem.replaceChildren(el("p", { class: "failure", role: "alert", t: trouble }));
  }

  function showButtons(live) {
    stop.hidden = check.hidden = !live;
    mirror(false);
    if (live) stop.focus();
    else if (file !== null) again.querySelector("button").focus();
    else {
      challenge.clear();
      names.clear();
      stage.hidden = true;
      intake.hidden = false;
      start.focus();
    }
  }

  const body = el("div", { class: "who" }, el("div", {}, intake, stage, problem), names.element);
  const element = el(
    "section",
    { class: "view" },
    el("h1", { t: "who.title", tabindex: "-1" }),
    el("p", { class: "lead", t: "who.lead" }),
    ...(app.model.gallery === null ? [el("p", { class: "note", t: "people.no_gallery" })] : [body, options.element]),
  );
  return { element, take: ([first]) => take(first), hide: () => camera.stop() };
}

function createOptions(changed) {
  const rates = [0.1, 0.03, 0.01, 0.003, 0.001];
  const percent = (far) => ({ percent: 100 * far });
  const far = el("select", {}, el("option", { value: "", t: "who.far_default" }));
  far.append(...rates.map((rate) => el("option", { value: rate, t: "who.far_percent", args: percent(rate) })));
  const closed = el("input", { type: "checkbox" });
  for (const field of [far, closed]) field.addEventListener("change", changed);
  const element = el(
    "details",
    { class: "options" },
    el("summary", { t: "who.options" }),
    labelled("who.far", far),
    el("label", { class: "check" }, closed, el("span", { t: "who.closed" })),
  );
  const fields = () => ({ far: far.value || null, closed_set: closed.checked ? "true" : null });
  return { element, fields };
}
