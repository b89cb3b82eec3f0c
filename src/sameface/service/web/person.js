// One person: faces, and what can be done to them.
import { announce, button, el, nameOf } from "./dom.js";
import { ask, confirm, labelled, tell } from "./dialog.js";
import { openEnroll } from "./enroll.js";
import { failure } from "./failure.js";
import { allFaces, allPeople } from "./gallery.js";
import { portrait } from "./portrait.js";

/** Make the part of the view that shows one person. */
export function createPerson(app) {
  const { api } = app;
  const element = el("div", { hidden: true });
  const title = el("h1", { tabindex: "-1" });
  const count = el("p", { class: "lead" });
  const consent = el("p", { class: "soft small consent-note" });
  const faces = el("ul", { class: "faces" });
  const problem = el("div");
  const actions = el(
    "div",
    { class: "actions" },
    button("person.add", () => add([]), { class: "primary" }),
    button("person.rename", () => attempt(rename)),
    button("person.note", () => attempt(note)),
    button("person.merge", () => attempt(merge)),
    button("person.delete", () => attempt(forget), { class: "danger-quiet" }),
  );
  const back = el("a", { class: "back", href: "#/people", t: "person.back" });
  const shown = el("div", {}, el("div", { class: "title-row" }, title, actions), count, consent);
  element.append(back, shown, problem, faces);
  let person = null;

  async function show(id) {
    person = null;
    title.replaceChildren();
    faces.replaceChildren();
    problem.replaceChildren();
    shown.hidden = true;
    await attempt(async () => {
      person = await api.person(id);
      draw(await allFaces(api, id));
    });
  }

  function draw(found) {
    shown.hidden = false;
    title.replaceChildren(nameOf(person.name));
    count.replaceChildren(el("span", { t: "people.faces", args: { n: found.length } }));
    const noted = person.consent === null ? { t: "person.no_consent" } : { t: "person.consent", args: { note: person.consent } };
    const over = person.expires === null ? [] : [" ", el("span", { t: "person.expires", args: { day: person.expires.slice(0, 10) } })];
    consent.replaceChildren(el("span", noted), ...over);
    faces.replaceChildren(...found.map((face, index) => tile(face, index, found.length)));
  }

  function tile(face, index, total) {
    const find = async () => (face.crop ? [person.id, face.id] : null);
    const args = { n: index + 1, name: person.name };
    const remove = button("person.delete_face", () => attempt(() => forgetFace(face, total)), {
      class: "quiet small",
      label: "person.delete_face_label",
      args,
    });
    return el("li", { class: "face-tile" }, portrait(api, person.name, find), el("div", { class: "tile-foot" }, score(face), remove));
  }

  /** Do something to the person, and show what went wrong. */
  async function attempt(action) {
    problem.replaceChildren();
    try {
      await action();
    } catch (error) {
      problem.replaceChildren(failure(error));
    }
  }

  async function add(files) {
    const result = await openEnroll(app, { files, person });
    if (result !== null) await show(person.id);
  }

  async function rename() {
    const field = el("input", { value: person.name, maxlength: 200, required: true, autocomplete: "off" });
    const name = await ask({ title: "person.rename_title", body: [labelled("person.name", field)], field, action: "person.rename" });
    if (name === null) return;
    await api.rename(person.id, name);
    await show(person.id);
    announce("person.renamed", { name });
  }

  async function note() {
    const field = el("input", { value: person.consent ?? "", maxlength: 500, required: true, autocomplete: "off" });
    const words = await ask({ title: "person.note_title", args: { name: person.name }, body: [labelled("person.note_field", field)], field, action: "person.note_yes" });
    if (words === null) return;
    await api.noteConsent(person.id, words);
    await show(person.id);
    announce("person.noted");
  }

  async function merge() {
    const others = (await allPeople(api)).filter((other) => other.id !== person.id);
    if (others.length === 0) return tell({ title: "person.merge_title", args: { name: person.name }, body: [el("p", { t: "person.merge_nobody" })] });
    const field = el("select", { required: true });
    field.append(...others.map((other) => el("option", { value: other.id, text: other.name })));
    const body = [labelled("person.merge_into", field), el("p", { class: "soft", t: "person.merge_words", args: { name: person.name } })];
    const into = await ask({ title: "person.merge_title", args: { name: person.name }, body, field, action: "person.merge" });
    if (into === null) return;
    const merged = await api.merge(person.id, into);
    location.hash = `#/people/${merged.id}`;
    announce("person.merged", { name: merged.name });
  }

  async function forget() {
    const { name } = person;
    const now = await api.person(person.id); // what is there at this moment, not when the page was loaded
    const body = [el("p", { t: "person.delete_words", args: { n: now.faces } }), el("p", { class: "soft", t: "person.delete_copies" })];
    if (!(await confirm({ title: "person.delete_title", args: { name }, body, action: "person.delete", danger: true }))) return;
    const gone = await api.forget(person.id);
    location.hash = "#/people";
    const facts = [el("li", { t: "person.gone_faces", args: { n: gone.faces } }), el("li", { t: "person.gone_pictures", args: { n: gone.pictures } })];
    await tell({ title: "person.gone_title", args: { name }, body: [el("ul", {}, ...facts)] });
  }

  async function forgetFace(face, total) {
    if (total === 1) return tell({ title: "person.last_title", body: [el("p", { t: "person.last_words" })] });
    const body = [el("p", { t: "person.delete_face_words", args: { name: person.name, n: total - 1 } })];
    if (!(await confirm({ title: "person.delete_face_title", body, action: "person.delete_face", danger: true }))) return;
    await api.forgetFace(person.id, face.id);
    await show(person.id);
    title.focus(); // the button that was pressed is gone
    announce("person.face_gone", { n: total - 1 });
  }

  return { element, show, add };
}

function score({ score }) {
  return el("span", { class: "soft small", t: "person.score", args: { score: score.toFixed(2) } });
}
