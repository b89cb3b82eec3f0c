"""The page in a real browser, before the real service with the shipped weights: words, looks, trouble."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the page's tests need the package playwright")
pytest.importorskip("fastapi", reason="the page's tests need the extra 'serve'")

import page_world as world
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

import sameface.errors
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access

pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow

WEB = Path(sameface.errors.__file__).parent / "service" / "web"
CODE = {path.name: path.read_text("utf-8") for path in [*WEB.glob("*.js"), *WEB.glob("*.html")]}
VIEWS = ("compare", "who", "people", "album", "about")
NOT_SERVED = (
    "TrainingError",
    "EvaluationError",
    "AdapterError",
    "AlbumError",
    "TagError",
    "ClientError",
    "BatchError",
    "VideoError",
    "BackupError",
    "MassExpiryError",
)
BRANCHES = ("SamefaceError", "FaceError", "GalleryError", "ServiceError")  # only their leaves are raised


def test_both_dictionaries_hold_the_same_words_with_the_same_gaps(page: Page) -> None:
    page.goto("/")
    script = 'import("/web/i18n.js").then((module) => module.DICTIONARIES)'
    words = page.evaluate(script)
    gaps = {
        language: {key: set(re.findall(r"\{\w+\}", text)) for key, text in entries.items()}
        for language, entries in words.items()
    }
    forms = {key: {"{n}"} for key, text in words["en"].items() if " | " in text}
    different = [key for key in gaps["en"] | gaps["ko"] if gaps["en"].get(key) != gaps["ko"].get(key)]
    assert different == []
    assert [key for key in forms if "{n}" not in gaps["en"][key]] == []
    assert [key for key, text in words["ko"].items() if not re.search(r"[가-힣]|^\W*\{\w+\}\W*(ms)?$", text)] == []


BUILT = ("error.", "nav.", "who.is_", "who.rule_", "who.threshold_", "far.rate_")


def test_every_word_that_is_asked_for_is_there_and_none_is_idle() -> None:
    keys = set(re.findall(r'^  "([a-z]+\.[a-z_]+)":', CODE["en.js"], re.MULTILINE))
    code = "\n".join(text for name, text in CODE.items() if name not in ("en.js", "ko.js"))
    spaces = "|".join(sorted({key.partition(".")[0] for key in keys}))
    used = set(re.findall(rf'"((?:{spaces})\.[a-z_]+)"', code)) - {"camera.jpg", "album.json", "album.csv"}
    built = {key for key in keys if key.startswith(BUILT)}
    assert used - keys == set()
    assert keys - used - built == set()


def test_every_error_that_the_service_may_answer_has_words() -> None:
    tree = [
        kind
        for kind in (getattr(sameface.errors, name) for name in dir(sameface.errors))
        if isinstance(kind, type) and issubclass(kind, sameface.errors.SamefaceError)
    ]
    unserved = tuple(getattr(sameface.errors, name) for name in NOT_SERVED)
    codes = {k.code for k in tree if not issubclass(k, unserved) and k.__name__ not in BRANCHES}
    assert codes | {"internal", "offline"} <= set(re.findall(r'"error\.([a-z_]+)"', CODE["en.js"]))


def test_the_switch_changes_every_word_at_once_and_is_remembered(page: Page, samples: dict[str, Path]) -> None:
    world.compare(page, samples["barack-obama-1"], samples["barack-obama-2"])
    page.get_by_role("button", name="한국어").click()
    expect(page.locator(".verdict-title")).to_have_text("같은 사람")
    among = re.compile(r"^(서로 닮은|다양한) 사람들 사이에서 1,000번에 1번\(0\.1%\)$")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", among)
    text = page.evaluate("document.body.innerText")
    assert re.findall(r"[A-Za-z]{2,}", re.sub(r"\S+\.jpg|sameface|English", "", text)) == []
    page.reload()
    expect(page.get_by_role("heading", name="같은 사람일까요?")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Are these the same person?")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(
    browser: Browser, shared: tuple[str, Gallery], scheme: str
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with world.watched(browser, shared[0], token=True, color_scheme=scheme) as context:
        page = context.new_page()
        world.open_view(page, "compare")
        first = page.evaluate(ground)
        page.get_by_role("button", name="Switch between light and dark").click()
        second = page.evaluate(ground)
        page.reload()
        assert (first == "rgb(18, 20, 23)") == (scheme == "dark")
        assert second != first
        assert page.evaluate(ground) == second


def test_a_phone_gets_its_language_and_nothing_scrolls_sideways(
    browser: Browser, shared: tuple[str, Gallery], gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "W" * 150, samples["barack-obama-1"])
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    wide = "document.documentElement.scrollWidth"
    for locale in ("en-US", "ko-KR"):
        with world.watched(browser, shared[0], token=True, locale=locale, **phone) as context:
            page = context.new_page()
            widths = {}
            for view in VIEWS:
                world.open_view(page, view)
                widths[view] = page.evaluate(wide)
                expect(page.locator("html")).to_have_attribute("lang", locale[:2])
                world.shoot(page, f"phone-{locale[:2]}-{view}")
            world.open_view(page, "people").locator(".card").click()
            page.locator(".face-tile").scroll_into_view_if_needed()
            expect(page.locator(".face-tile img")).to_be_visible()
            widths["person"] = page.evaluate(wide)
            assert widths == dict.fromkeys(widths, 360)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_view(
    browser: Browser,
    shared: tuple[str, Gallery],
    gallery: Gallery,
    recognizer: Recognizer,
    samples: dict[str, Path],
    scheme: str,
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"], samples["barack-obama-2"])
    found: dict[str, list[str]] = {}
    # Light and dark differ in their colours only.
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    with world.watched(browser, shared[0], token=True, color_scheme=scheme) as context:
        page = context.new_page()

        def check(name: str) -> None:
            world.shoot(page, f"{scheme}-{name}")
            answer = Axe().run(page, options=rules)
            found[name] = [
                f"{rule['id']}: {node['html'][:150]}" for rule in answer["violations"] for node in rule["nodes"]
            ]

        world.open_view(page, "compare")
        check("empty")
        two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
        bad = world.file("bad.jpg", b"bad")
        world.compare(page, two, samples["barack-obama-3"])
        check("compare")
        world.choose(page, "Choose a picture", two, world.open_view(page, "who"))
        expect(page.locator(".name-card")).to_have_count(2)
        check("who")
        world.open_view(page, "people")
        expect(page.locator(".card img")).to_be_visible()
        check("people")
        page.get_by_role("button", name="Add a person").click()
        world.choose(page, "Choose pictures", [two, bad], page.get_by_role("dialog"))
        expect(page.locator(".pick")).to_have_count(2)
        expect(page.get_by_role("dialog").get_by_text("Left out")).to_be_visible()
        check("enroll")
        page.keyboard.press("Escape")
        page.locator(".card").click()
        expect(page.locator(".face-tile img")).to_have_count(2)
        check("person")
        page.get_by_role("button", name="Delete", exact=True).click()
        check("delete")
        page.keyboard.press("Escape")
        world.choose(page, "Choose pictures", list(samples.values()), world.open_view(page, "album"))
        page.locator(".tile").first.click()
        check("album")
        world.open_view(page, "about").get_by_text("The rest of the manifest").first.click()
        expect(page.get_by_text("It is ready for work")).to_be_visible()
        check("about")
    assert found == {name: [] for name in found}


def test_the_page_can_be_walked_with_the_keyboard(page: Page) -> None:
    world.open_view(page, "compare")
    reached = []
    for _ in range(11):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.evaluate("(element) => getComputedStyle(element).outlineStyle") != "none"
        reached.append(focused.inner_text().strip())
    assert reached[0] == "Skip to the content"
    assert {"Who is it", "People", "Album", "Model", "한국어", "Choose a picture"} <= set(reached)
    page.get_by_role("link", name="People").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="People")).to_be_visible()
    expect(page.locator("main")).to_be_focused()


def test_the_model_tells_what_it_is_and_how_fast(page: Page, recognizer: Recognizer, samples: dict[str, Path]) -> None:
    view = world.open_view(page, "about")
    manifest = recognizer.embedder.model.manifest
    expect(view.get_by_text(manifest.licence, exact=True).first).to_be_visible()
    served = page.evaluate("async () => (await (await fetch('/v1/model')).json()).thresholds")
    assert [row["far"] for row in served if not row["extrapolated"]] == sorted(recognizer.thresholds.far, reverse=True)
    expect(view.get_by_role("row")).to_have_count(1 + len(served))
    estimated = sum(row["extrapolated"] for row in served)
    assert estimated
    expect(view.get_by_text("estimated, not counted")).to_have_count(estimated)
    view.get_by_text("The rest of the manifest").first.click()
    expect(view.get_by_text(manifest.sha256)).to_be_visible()
    expect(view.get_by_text("The server answers")).to_be_visible()
    view.get_by_role("button", name="Time a plain picture").click()
    expect(view.get_by_text(re.compile(r"^\d+ ms$"))).to_be_visible()
    world.choose(page, "Choose a picture", samples["joe-biden"], view)
    expect(view.get_by_text(re.compile("To find and embed one face in .*joe-biden.jpg"))).to_be_visible()


def test_a_key_is_asked_for_kept_in_the_tab_and_not_beyond(
    browser: Browser, recognizer: Recognizer, samples: dict[str, Path], tmp_path: Path
) -> None:
    access = Access.open()
    key = access.make_key("page", "read")
    with (
        Gallery.open(tmp_path / "people.db", recognizer) as gallery,
        world.serve(recognizer, gallery, access, keys_required=True) as base,
        world.watched(browser, base) as context,
    ):
        page = context.new_page()
        page.goto("/#/people")
        page.get_by_label("API key").fill("sf_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_text("That key was not accepted.")).to_be_visible()
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        page.get_by_role("button", name="Add a person").click()
        dialog = page.get_by_role("dialog")
        world.choose(page, "Choose pictures", samples["joe-biden"], dialog)
        dialog.get_by_label("Name", exact=True).fill("Joe Biden")
        dialog.get_by_label("This person has agreed").check()
        dialog.get_by_role("button", name="Enroll one face").click()
        expect(dialog.get_by_role("alert")).to_contain_text("This key may not do that.")
        assert page.evaluate("[JSON.stringify(localStorage), document.cookie]") == ["{}", ""]
        page.reload()
        expect(page.get_by_role("button", name="Add a person")).to_be_visible()
        world.open_view(page, "about").get_by_role("button", name="Forget the key").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert")).to_contain_text("A valid key is needed.")


def test_trouble_with_the_network_is_told_in_words(
    page: Page, context: BrowserContext, samples: dict[str, Path]
) -> None:
    verdict = world.compare(page, samples["barack-obama-1"], samples["joe-biden"])
    context.set_offline(True)
    page.get_by_role("button", name="Remove").first.click()
    world.choose(page, "Choose a picture", samples["barack-obama-2"], page.get_by_role("region", name="First picture"))
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    expect(verdict).to_be_hidden()


def test_a_busy_service_says_when_to_try_again(page: Page, samples: dict[str, Path]) -> None:
    body = {"error": {"code": "rate_limited", "message": "over 600 requests in a minute", "detail": {}}}
    answer = {"status": 429, "headers": {"Retry-After": "7"}, "json": body}
    page.route("**/v1/detect", lambda route: route.fulfill(**answer))  # type: ignore[arg-type]
    world.open_view(page, "compare")
    world.choose(page, "Choose a picture", samples["joe-biden"], page.get_by_role("region", name="First picture"))
    expect(page.get_by_role("alert")).to_contain_text("Too many requests in a short time.")
    expect(page.get_by_role("alert")).to_contain_text("Try again in 7 seconds.")


def test_no_file_of_the_page_makes_markup_of_text_or_is_long() -> None:
    for name, text in CODE.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=", text), name
        assert len(text.splitlines()) < (400 if name in ("en.js", "ko.js") else 300), name  # words are no code


def test_the_printed_address_lets_the_page_in_and_no_other_does(browser: Browser, shared: tuple[str, Gallery]) -> None:
    with world.watched(browser, shared[0]) as context:
        page = context.new_page()
        page.goto("/?token=not-the-start-up-token#/people")
        expect(page.get_by_label("API key")).to_be_visible()
        page.goto(f"/?token={world.TOKEN}#/people")
        expect(page.get_by_role("button", name="Add a person")).to_be_visible()
        assert world.TOKEN not in page.url
        assert page.evaluate("document.cookie") == ""
        [cookie] = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.reload()
        expect(page.get_by_role("button", name="Add a person")).to_be_visible()
