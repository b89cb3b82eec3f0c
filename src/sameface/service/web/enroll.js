// Enrolling: a name, pictures that are looked at one by one, and the word that the person agreed.
import { inBatches } from "./batches.js";
import { closing, labelled, openDialog } from "./dialog.js";
import { el, nameOf } from "./dom.js";
import { errorKey, failure } from "./failure.js";
import { allPeople } from "./gallery.js";
import { say, t } from "./i18n.js";
import { createInspection } from "./inspect.js";
import { createIntake } from "./intake.js";
import { ApiError } from "./transport.js";

/**
 * Ask for everything, enroll, and say what came of it.
 *
 * `files` are pictures to look at, `items` faces that are chosen already (`{file, face, cut}`), `person` whom to add
 * them to; without it there is a field for the name. Answers what the service answered, or null.
 */
export async function openEnroll(app, { files = [], items = [], name = "", person = null }) {
  const known = person === null ? await allPeople(app.api).catch(() => []) : [];
  const field = nameField(name);
  const note = el("p", { class: "soft small", hidden: true });
  const warning = el("div", { role: "status" });
  const inspection = createInspection(app, () => refresh());
  const consent = el("input", { type: "checkbox", required: true });
  const how = el("input", { maxlength: 200, autocomplete: "off" });
  const submit = el("button", { type: "submit", class: "primary" });
  const problem = el("div");
  const intake = createIntake({ multiple: true, hint: "enroll.hint", take: inspection.add });
  const form = el(
    "form",
    { on: { submit: send } },
    person === null ? labelled("enroll.name", field.input) : null,
    field.list,
    note,
    inspection.element,
    warning,
    items.length > 0 ? null : intake,
    el(
      "div",
      { class: "consent" },
      el("label", { class: "check" }, consent, el("span", { t: "enroll.consent" })),
      labelled("enroll.consent_how", how),
      el("p", { class: "soft small", t: "enroll.consent_kept" }),
    ),
    problem,
    el("div", { class: "actions end" }, submit),
  );
  const heading = person === null ? { title: "enroll.title" } : { title: "enroll.add_title", args: { name: person.name } };
  const dialog = openDialog({ ...heading, body: [form], kind: "wide" });
  let result = null;
  field.list.append(...known.map((one) => el("option", { value: one.name })));
  for (const input of [field.input, consent]) input.addEventListener("input", () => refresh());
  inspection.addReady(items);
  inspection.add(files);
  refresh();

  /** Whom the faces go to, if it is somebody who is enrolled. */
  function owner() {
    return person ?? known.find((one) => one.name === field.input.value.trim().normalize("NFC")) ?? null;
  }

  function refresh() {
    const count = inspection.chosen().length;
    say(submit, "enroll.submit", { n: count });
    submit.disabled = count === 0 || inspection.isLooking() || inspection.isUndecided();
    note.hidden = person !== null || owner() === null;
    if (!note.hidden) say(note, "enroll.known", { name: owner().name, n: owner().faces });
    const others = inspection.names().filter((one) => one !== owner()?.name);
    warning.replaceChildren(...others.map((one) => el("p", { class: "note", t: "enroll.looks_like", args: { name: one } })));
  }

  async function send(event) {
    event.preventDefault();
    submit.disabled = true;
    problem.replaceChildren(el("p", { class: "soft waiting", role: "status", t: "enroll.sending" }));
    const chosen = inspection.chosen();
    try {
      const to = owner();
      result = await enrollAll(app, { to, name: field.input.value, chosen, consent: noteOf(how.value.trim(), to) });
      report(result, chosen.length);
    } catch (error) {
      problem.replaceChildren(failure(error));
      submit.disabled = false;
    }
  }

  function report({ person: { name: whom, faces }, enrolled, skipped }, sent) {
    const left = skipped.map(({ picture, error }) =>
      el("li", {}, nameOf(picture, { class: "file-name" }), el("span", { class: "soft", t: errorKey(error.code), args: { code: error.code } })),
    );
    const done = el(
      "div",
      { role: "status" },
      el("p", { class: "done", t: "enroll.done", args: { n: enrolled, name: whom } }),
      el("p", { class: "soft", t: "enroll.total", args: { n: faces } }),
      enrolled + left.length < sent ? el("p", { class: "soft", t: "enroll.same" }) : null,
      left.length > 0 ? el("p", { t: "enroll.skipped", args: { n: left.length } }) : null,
      el("ul", { class: "plain" }, ...left),
    );
    form.replaceWith(done, closing(dialog.close));
    dialog.element.querySelector(".actions .primary").focus();
  }

  await dialog.closed;
  return result;
}

/** The note on the consent that is kept: what was agreed to, when, and how if that was said; null leaves the one before. */
function noteOf(how, person) {
  if (how === "" && person !== null && person.consent !== null) return null;
  const day = new Date().toLocaleDateString("sv"); // year-month-day
  return [day, t("enroll.consent"), how].filter(Boolean).join(" · ");
}

/** Enroll in as many requests as the limits ask for; the first makes the person, the others add to them. */
async function enrollAll({ api, model }, { to, name, chosen, consent }) {
  const total = { person: to, enrolled: 0, skipped: [] };
  for (const batch of inBatches(chosen, model.limits)) {
    try {
      const { person } = total;
      const answer = await (person === null ? api.enroll(name, batch, consent) : api.addFaces(person.id, batch, consent));
      total.person = answer.person;
      total.enrolled += answer.enrolled;
      total.skipped.push(...answer.skipped);
    } catch (error) {
      if (total.enrolled === 0 || !(error instanceof ApiError)) throw error;
      total.skipped.push(...batch.map(({ file }) => ({ picture: file.name, error }))); // what was enrolled stays
    }
  }
  return total;
}

function nameField(value) {
  const list = el("datalist", { id: "enrolled-names" });
  const input = el("input", { value, required: true, maxlength: 200, autocomplete: "off", list: "enrolled-names" });
  return { input, list };
}
