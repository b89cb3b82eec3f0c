// What stands behind the answers: weights, licences, thresholds, limits, health and speed.
import { button, el } from "./dom.js";
import { failure } from "./failure.js";
import { createIntake } from "./intake.js";
import { forgetKey, hasKey } from "./transport.js";
import { rateArgs, roundDistance } from "./thresholds.js";

const FIRST = { name: "about.name", licence: "about.licence", training_data: "about.training_data" };
const PLAIN = { width: 640, height: 480 };

/** Make the view. */
export function createAbout(app) {
  const { model, api } = app;
  const health = createHealth(api);
  const element = el(
    "section",
    { class: "view" },
    el("h1", { t: "about.title", tabindex: "-1" }),
    el("p", { class: "lead", t: "about.lead" }),
    el("div", { class: "columns" }, manifestCard("about.embedder", model.embedder), manifestCard("about.detector", model.detector)),
    thresholdsCard(app),
    el("div", { class: "columns" }, health.element, createSpeed(api)),
    serviceCard(model),
    keyCard(),
  );
  return { element, show: health.refresh };
}

function panel(title, ...children) {
  return el("section", { class: "panel" }, el("h2", { t: title }), ...children);
}

/** What matters first; the rest of the manifest as it is written in its file. */
function manifestCard(title, manifest) {
  const rows = Object.entries(FIRST).flatMap(([name, t]) => [el("dt", { t }), el("dd", { text: inWords(manifest[name]) })]);
  const rest = flatten(manifest).filter(([name]) => !(name in FIRST) && !/thresholds|curve/.test(name));
  const all = el("details", {}, el("summary", { t: "about.rest" }), factList(rest));
  return panel(title, el("dl", { class: "facts" }, ...rows), all);
}

function factList(facts) {
  const rows = facts.flatMap(([name, value]) => [el("dt", {}, el("code", { text: name })), el("dd", { text: inWords(value) })]);
  return el("dl", { class: "facts" }, ...rows);
}

/** Return the names and values of a table of tables, without what is empty. */
function flatten(table, before = "") {
  return Object.entries(table).flatMap(([name, value]) => {
    if (value === null) return [];
    const nested = typeof value === "object" && !Array.isArray(value);
    return nested ? flatten(value, `${before}${name}.`) : [[before + name, value]];
  });
}

function inWords(value) {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  return Number.isInteger(value) ? value.toLocaleString("en") : String(value);
}

function thresholdsCard({ thresholds, model }) {
  const rows = thresholds.map(({ far, distance, extrapolated }) => {
    const note = extrapolated ? [el("br"), el("span", { class: "soft small", t: "far.estimated" })] : [];
    const rate = el("td", {}, el("span", { t: "far.rate", args: rateArgs(far) }), ...note);
    return el("tr", {}, rate, el("td", { class: "number", text: roundDistance(distance) }));
  });
  const head = el("tr", {}, el("th", { scope: "col", t: "about.far" }), el("th", { scope: "col", class: "number", t: "about.distance" }));
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
  const calibrated = model.embedder.embedding.thresholds?.calibrated_on;
  return panel(
    "about.thresholds",
    el("p", { class: "soft", t: "about.thresholds_words" }),
    calibrated ? el("p", { class: "soft small", t: "about.calibrated", args: { calibrated } }) : null,
    table,
  );
}

function createHealth(api) {
  const lines = el("ul", { class: "plain" });
  const state = el("div", { role: "status" }, lines);

  async function refresh() {
    const checks = [["about.health", api.health], ["about.ready", api.ready]];
    lines.replaceChildren(...(await Promise.all(checks.map(([t, check]) => line(t, check)))));
  }

  async function line(t, check) {
    try {
      await check();
      return el("li", { class: "state good" }, el("span", { t }), el("strong", { t: "about.yes" }));
    } catch (error) {
      return el("li", { class: "state" }, el("span", { t }), failure(error));
    }
  }

  return { element: panel("about.state", state, button("about.refresh", refresh)), refresh };
}

function createSpeed(api) {
  const result = el("div", { role: "status" });

  async function time(words, args, request) {
    result.replaceChildren(el("p", { class: "soft waiting", t: "about.timing" }));
    const start = performance.now();
    try {
      const answer = await request();
      const took = Math.round(performance.now() - start);
      result.replaceChildren(el("p", { class: "big", t: "about.took", args: { took } }));
      result.append(el("p", { class: "soft small", t: words, args: { ...args, n: answer.faces.length } }));
    } catch (error) {
      result.replaceChildren(failure(error));
    }
  }

  const timePlain = async () => {
    const picture = await plainPicture();
    await time("about.timed_plain", PLAIN, () => api.detect(picture));
  };
  const timeFile = ([file]) => time("about.timed_file", { name: file.name }, () => api.embed(file));
  const intake = createIntake({ hint: "about.speed_file", take: timeFile });
  const card = panel("about.speed", el("p", { class: "soft", t: "about.speed_words" }), button("about.time", timePlain), intake, result);
  card.classList.add("speed");
  return card;
}

async function plainPicture() {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, PLAIN);
  const context = canvas.getContext("2d");
  context.fillStyle = "#888";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg"));
  return new File([blob], "plain.jpg", { type: "image/jpeg" });
}

function serviceCard({ signature, version, dimension, gallery, limits }) {
  const people = gallery === null ? [["gallery", null]] : [["people", gallery.people], ["faces", gallery.faces]];
  const facts = [["version", version], ["signature", signature], ["dimension", dimension], ...people, ...Object.entries(limits)];
  return panel("about.service", factList(facts));
}

function keyCard() {
  if (!hasKey()) return null;
  const forget = button("about.forget_key", () => {
    forgetKey();
    location.reload();
  });
  return panel("about.key", el("p", { class: "soft", t: "key.kept" }), forget);
}
