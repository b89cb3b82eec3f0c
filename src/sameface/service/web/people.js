// Everybody who is enrolled, as cards; one person, when the address names one.
import { button, el, nameOf } from "./dom.js";
import { openEnroll } from "./enroll.js";
import { failure } from "./failure.js";
import { allPeople } from "./gallery.js";
import { createPerson } from "./person.js";
import { portrait } from "./portrait.js";
import { say } from "./i18n.js";

const SHOWN = 48; // cards at first, and with every "more"

/** Make the view. */
export function createPeople(app) {
  if (app.model.gallery === null) return withoutGallery();
  const cards = el("ul", { class: "cards" });
  const count = el("p", { class: "soft", role: "status" });
  const problem = el("div");
  const search = el("input", { type: "search", label: "people.search", placeholder: "people.search" });
  const more = button("people.more", () => draw((limit += SHOWN)), { hidden: true });
  const add = button("people.add", () => addPerson([]), { class: "primary" });
  const empty = el("div", { class: "empty panel", hidden: true });
  empty.append(el("p", { class: "intake-title", t: "people.empty" }), el("p", { class: "soft", t: "people.empty_hint" }));
  const list = el(
    "div",
    {},
    el("div", { class: "title-row" }, el("h1", { t: "people.title", tabindex: "-1" }), add),
    el("p", { class: "lead", t: "people.lead" }),
    el("div", { class: "search-row" }, search, count),
    problem,
    empty,
    cards,
    more,
  );
  const person = createPerson(app);
  const element = el("section", { class: "view" }, list, person.element);
  let people = [];
  let limit = SHOWN;
  search.addEventListener("input", () => draw((limit = SHOWN)));

  async function addPerson(files) {
    const result = await openEnroll(app, { files });
    if (result !== null) await refresh();
  }

  async function refresh() {
    problem.replaceChildren();
    try {
      people = await allPeople(app.api);
      draw();
    } catch (error) {
      problem.replaceChildren(failure(error));
    }
  }

  function draw() {
    const wanted = search.value.trim().toLocaleLowerCase();
    const found = people.filter((one) => one.name.toLocaleLowerCase().includes(wanted));
    cards.replaceChildren(...found.slice(0, limit).map((one) => card(app.api, one)));
    more.hidden = found.length <= limit;
    empty.hidden = people.length > 0;
    search.hidden = people.length === 0;
    say(count, "people.count", { n: found.length });
    count.hidden = people.length === 0;
  }

  async function show([id]) {
    list.hidden = id !== undefined;
    person.element.hidden = id === undefined;
    await (id === undefined ? refresh() : person.show(id));
  }

  const take = (files) => (list.hidden ? person.add(files) : addPerson(files));
  return { element, show, take };
}

function card(api, { id, name, faces }) {
  const firstCrop = async () => {
    const page = await api.faces(id, 1);
    return page.faces.length > 0 && page.faces[0].crop ? [id, page.faces[0].id] : null;
  };
  return el(
    "li",
    {},
    el(
      "a",
      { class: "card", href: `#/people/${id}` },
      portrait(api, name, firstCrop),
      nameOf(name, { class: "card-name" }),
      el("span", { class: "soft small", t: "people.faces", args: { n: faces } }),
    ),
  );
}

function withoutGallery() {
  const element = el(
    "section",
    { class: "view" },
    el("h1", { t: "people.title", tabindex: "-1" }),
    el("p", { class: "note", t: "people.no_gallery" }),
  );
  return { element };
}
