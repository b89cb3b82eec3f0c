// Puts the page together: asks for the model, then shows the view that the address names.
import { createAbout } from "./about.js";
import { createAlbum } from "./album.js";
import { createApi } from "./api.js";
import { createCompare } from "./compare.js";
import { button } from "./dom.js";
import { failure } from "./failure.js";
import { language, say, setLanguage, t, translate } from "./i18n.js";
import { guardPage } from "./intake.js";
import { askKey } from "./key.js";
import { createPeople } from "./people.js";
import { onlyPictures } from "./picture.js";
import { startTheme } from "./theme.js";
import { sortRows } from "./thresholds.js";
import { createWho } from "./who.js";

const VIEWS = { compare: createCompare, who: createWho, people: createPeople, album: createAlbum, about: createAbout };
const main = document.getElementById("main");
const trouble = document.getElementById("failure");
const made = {};
let current = null;

async function start() {
  trouble.replaceChildren();
  const api = createApi(askKey);
  try {
    const model = await api.model();
    const app = { api, model, thresholds: sortRows(model.thresholds) };
    window.addEventListener("hashchange", () => open(app, true));
    open(app, false);
  } catch (error) {
    trouble.replaceChildren(failure(error), button("app.again", start, { class: "primary" }));
  }
}

/** Show the view of the address; views are made once and keep what they hold. */
function open(app, moved) {
  const [wanted, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const name = Object.hasOwn(VIEWS, wanted) ? wanted : "compare";
  if (!(name in made)) {
    made[name] = VIEWS[name](app);
    main.append(made[name].element);
  }
  if (current !== null && current !== name) made[current].hide?.();
  current = name;
  for (const [other, { element }] of Object.entries(made)) element.hidden = other !== name;
  made[name].show?.(rest);
  markTab();
  if (moved) focusView();
}

function markTab() {
  for (const tab of document.querySelectorAll("[data-view]")) {
    if (tab.dataset.view === current) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${t(`nav.${current}`)} · sameface`;
}

function focusView() {
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function startLanguage(switcher) {
  const show = () => {
    const other = language() === "ko" ? "en" : "ko";
    switcher.lang = other;
    switcher.textContent = other === "ko" ? "한국어" : "English";
  };
  switcher.addEventListener("click", () => setLanguage(switcher.lang));
  document.addEventListener("languagechange", () => {
    show();
    if (current !== null) markTab();
  });
  show();
}

/** Give pasted pictures to the view, or to the dialog that stands before it. */
function takePaste(event) {
  if (event.clipboardData.files.length === 0 || current === null) return;
  if (document.querySelector("dialog[open]") !== null) return;
  event.preventDefault();
  const pictures = onlyPictures(event.clipboardData.files);
  if (pictures.length > 0) made[current].take?.(pictures);
}

say(document.querySelector("footer"), "app.footer");
translate(document.documentElement);
startLanguage(document.getElementById("language"));
startTheme(document.getElementById("theme"));
guardPage();
document.addEventListener("paste", takePaste);
start();
