// Many pictures: sent, sorted into people by a job of the service, and then put right by hand.
import { announce, button, el, nameOf } from "./dom.js";
import { createBoard } from "./board.js";
import { errorKey, failure } from "./failure.js";
import { say } from "./i18n.js";
import { createIntake } from "./intake.js";
import { confirm, labelled } from "./dialog.js";
import { rateArgs } from "./thresholds.js";
import { ApiError } from "./transport.js";

const PAUSE = 400; // milliseconds between two questions after the job
const FAR = 0.0003; // as the service has it when nothing is said
const MEGABYTE = 1e6;

/** Make the view. */
export function createAlbum(app) {
  const { api } = app;
  const far = rateSelect(app.thresholds.filter((row) => !row.extrapolated));
  const intake = createIntake({ title: "album.intake", args: { n: app.model.limits.album_pictures }, hint: "album.hint", multiple: true, folder: true, take });
  const before = el("div", { class: "album-start" }, intake, labelled("album.far", far));
  const words = el("p");
  const bar = el("progress", { max: 1, label: "album.progress" });
  const cancel = button("album.cancel", () => work.abort());
  const progress = el("div", { class: "panel progress", hidden: true }, words, bar, cancel);
  const problem = el("div");
  const place = el("div");
  const again = button("album.again", startAgain, { class: "quiet album-again" });
  const element = el(
    "section",
    { class: "view" },
    el("h1", { t: "album.title", tabindex: "-1" }),
    el("p", { class: "lead", t: "album.lead" }),
    before,
    progress,
    problem,
    place,
  );
  let work = new AbortController();

  async function take(files) {
    if (!progress.hidden) return;
    if (place.childElementCount > 0 && !(await startAgain())) return;
    const trouble = beyondLimits(files, app.model.limits);
    problem.replaceChildren(...trouble);
    if (trouble.length === 0) await sort(files);
  }

  async function sort(files) {
    work = new AbortController();
    place.replaceChildren();
    toggle(true);
    try {
      const result = await runJob(files, work.signal);
      showResult(result, files);
    } catch (error) {
      if (error.code === "aborted") problem.replaceChildren(el("p", { class: "note", role: "status", t: "album.cancelled" }));
      else problem.replaceChildren(failure(error));
    } finally {
      toggle(false);
    }
  }

  function toggle(busy) {
    progress.hidden = !busy;
    before.hidden = busy || place.childElementCount > 0;
    if (busy) cancel.focus();
  }

  /** Send the pictures, follow the job, and answer its result, which the service then forgets. */
  async function runJob(files, signal) {
    const sent = (part) => step("album.sending", { n: files.length }, part);
    sent(0);
    announce("album.sending", { n: files.length });
    const { id } = await api.cluster(files, far.value, { progress: sent, signal });
    try {
      return await follow(id, signal);
    } finally {
      await api.forgetJob(id).catch(() => null); // it may be gone already
    }
  }

  async function follow(id, signal) {
    for (;;) {
      if (signal.aborted) throw new ApiError("aborted");
      const job = await api.job(id);
      if (job.state === "done") return job.result;
      if (job.state === "failed") throw new ApiError(job.error.code, job.error.message);
      if (job.state === "cancelled") throw new ApiError("aborted");
      step("album.working", { done: job.done, total: job.total }, job.total ? job.done / job.total : 0);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  function step(key, args, part) {
    say(words, key, args);
    bar.value = part;
  }

  function showResult(result, files) {
    const nothing = el("p", { class: "note", t: "album.nothing" });
    const board = result.faces.length === 0 ? nothing : createBoard(app, result, files).element;
    place.replaceChildren(again, board, ...unusedList(result, files));
    announce("album.found", { n: result.faces.length, groups: result.groups.length });
  }

  /** Make room for other pictures, if that is wanted; answers whether it is. */
  async function startAgain() {
    const words = [el("p", { t: "album.replace_words" })];
    const yes = await confirm({ title: "album.replace", body: words, action: "album.replace_yes" });
    if (yes) {
      place.replaceChildren();
      before.hidden = false;
      intake.querySelector("button").focus();
    }
    return yes;
  }

  return { element, take };
}

function rateSelect(rows) {
  const select = el("select");
  select.append(...rows.map(({ far }) => el("option", { value: far, t: "far.rate", args: rateArgs(far), selected: far === FAR })));
  return select;
}

/** Say what is too much for one request, before it is sent. */
function beyondLimits(files, limits) {
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const say = (t, args) => [el("p", { class: "failure", role: "alert", t, args })];
  if (files.length > limits.album_pictures) return say("album.too_many", { given: files.length, most: limits.album_pictures });
  const megabytes = { given: Math.ceil(bytes / MEGABYTE), most: Math.floor(limits.album_bytes / MEGABYTE) };
  return bytes > limits.album_bytes ? say("album.too_large", megabytes) : [];
}

/** List the pictures that could not be read, and those without a face. */
function unusedList({ skipped, faces }, files) {
  const unread = new Set(skipped.map(({ number }) => number));
  const shown = new Set(faces.map(({ picture }) => picture));
  const faceless = files.filter((_, number) => !unread.has(number) && !shown.has(number));
  const unused = [...skipped.map(({ picture, error }) => [picture, error.code]), ...faceless.map(({ name }) => [name, "no_face"])];
  if (unused.length === 0) return [];
  const lines = unused.map(([name, code]) =>
    el("li", {}, nameOf(name, { class: "file-name" }), el("span", { class: "soft small", t: errorKey(code), args: { code } })),
  );
  const summary = el("summary", { t: "album.skipped", args: { n: lines.length } });
  return [el("details", { class: "panel skipped", open: true }, summary, el("ul", { class: "plain" }, ...lines))];
}
