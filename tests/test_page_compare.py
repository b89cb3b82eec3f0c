"""The page in a real browser: compare two pictures, and say who somebody is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import PIL.Image
import pytest

pytest.importorskip("playwright", reason="the page's tests need the package playwright")
pytest.importorskip("fastapi", reason="the page's tests need the extra 'serve'")

import page_world as world
from playwright.sync_api import Browser, Page, expect

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.thresholds import Tail, Thresholds

pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def test_two_pictures_of_one_person_are_the_same(page: Page, samples: dict[str, Path]) -> None:
    verdict = world.compare(page, samples["barack-obama-1"], samples["barack-obama-2"])
    expect(verdict.get_by_text("Same person", exact=True)).to_be_visible()
    expect(verdict.get_by_role("img", name=re.compile(r"Distance 0\.\d{4}, threshold 1\.1801"))).to_be_visible()
    expect(page.get_by_text("One face found.").first).to_be_visible()


def test_the_slider_moves_threshold_and_verdict_without_a_request(
    page: Page, samples: dict[str, Path], recognizer: Recognizer
) -> None:
    near = world.compare(page, samples["barack-obama-1"], samples["barack-obama-3"])
    rates = recognizer.thresholds
    distance = recognizer.verify(samples["barack-obama-1"], samples["barack-obama-3"]).distance
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    rows = sorted(zip(*rates.rates, strict=True), reverse=True)
    among = {"alike": "among people alike", "mixed": "among people of all kinds"}[rates.population]
    for far, threshold in rows:
        expect(near.get_by_text(f"{threshold:.4f}.").first).to_be_visible()
        expect(page.locator("output")).to_contain_text(f"1 in {round(1 / far):,} {among} (")
        expect(near.get_by_text("Extrapolated")).to_be_visible(visible=rates.is_extrapolated(far))
        words = "Same person" if distance <= threshold else "Different people"
        expect(near.get_by_text(words, exact=True)).to_be_visible()
        page.keyboard.press("ArrowRight")
    assert distance <= rows[0][1]
    assert asked == []


def test_the_whole_scale_can_be_shown(page: Page, samples: dict[str, Path]) -> None:
    verdict = world.compare(page, samples["barack-obama-1"], samples["joe-biden"])
    expect(verdict.get_by_text("Different people", exact=True)).to_be_visible()
    expect(verdict.get_by_role("img", name=re.compile("from 0 to 2.5"))).to_be_visible()
    verdict.get_by_label("Show the whole scale, 0 to 4").check()
    expect(verdict.get_by_role("img", name=re.compile("from 0 to 4"))).to_be_visible()


def test_of_several_faces_one_can_be_chosen(page: Page, samples: dict[str, Path]) -> None:
    two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
    verdict = world.compare(page, two, samples["barack-obama-1"])
    faces = page.get_by_role("region", name="First picture").get_by_role("button", name=re.compile("Choose face"))
    expect(faces).to_have_count(2)
    said = set()
    for number in range(2):
        faces.nth(number).focus()
        page.keyboard.press("Enter")
        expect(faces.nth(number)).to_have_attribute("aria-pressed", "true")
        expect(faces.nth(number)).to_be_focused()
        expect(verdict).to_be_visible()
        said.add(verdict.locator(".verdict-title").inner_text())
    assert said == {"Same person", "Different people"}


def test_pictures_can_be_dropped_and_pasted(page: Page, samples: dict[str, Path]) -> None:
    world.open_view(page, "compare")
    world.hand_over(
        page.locator(".slot .intake").nth(1), "drop", "dropped.jpg", samples["barack-obama-1"].read_bytes()
    )
    expect(page.get_by_role("region", name="Second picture").get_by_text("dropped.jpg")).to_be_visible()
    world.hand_over(page.locator("body"), "paste", "pasted.jpg", samples["barack-obama-2"].read_bytes())
    expect(page.get_by_role("region", name="First picture").get_by_text("pasted.jpg")).to_be_visible()
    expect(page.get_by_text("Same person", exact=True).last).to_be_visible()


def test_two_pictures_can_be_given_at_once(page: Page, samples: dict[str, Path]) -> None:
    world.open_view(page, "compare")
    pair = [samples["barack-obama-1"], samples["joe-biden"]]
    world.choose(page, "Choose a picture", pair, page.get_by_role("region", name="Second picture"))
    expect(page.get_by_role("region", name="Second picture").get_by_text("barack-obama-1")).to_be_visible()
    expect(page.get_by_role("region", name="First picture").get_by_text("joe-biden")).to_be_visible()


def test_a_probability_is_shown_with_what_it_rests_on(page: Page, samples: dict[str, Path]) -> None:
    answer = {"distance": 0.1, "probability": 0.9871, "in_range": False}
    page.route("**/v1/verify", lambda route: route.fulfill(json=answer))
    verdict = world.compare(page, samples["barack-obama-1"], samples["joe-biden"])
    expect(verdict.get_by_text(re.compile(r"two: 98\.7 %\. The calibration saw no such"))).to_be_visible()


def test_a_picture_without_a_face_and_one_that_cannot_be_read_are_told_apart(page: Page) -> None:
    world.open_view(page, "compare")
    first, second = (page.get_by_role("region", name=f"{which} picture") for which in ("First", "Second"))
    grey = world.to_jpeg(PIL.Image.new("RGB", (300, 200), (120, 120, 120)))
    world.choose(page, "Choose a picture", world.file("grey.jpg", grey), first)
    expect(first.get_by_text("No face was found.")).to_be_visible()
    world.choose(page, "Choose a picture", world.file("broken.jpg", grey[:200]), second)
    alert = second.get_by_role("alert")
    expect(alert).to_contain_text("This is not a picture that can be read")
    alert.get_by_text("What the server said").click()
    expect(alert.get_by_text("broken.jpg")).to_be_visible()


def test_a_large_picture_is_scaled_down_for_the_screen_but_sent_as_it_is(
    page: Page, samples: dict[str, Path], tmp_path: Path
) -> None:
    large = tmp_path / "large.jpg"
    PIL.Image.open(samples["barack-obama-1"]).resize((2048, 2560)).save(large)
    sizes: list[str] = []
    page.on("request", lambda request: sizes.append(request.headers.get("content-length", "")))
    world.open_view(page, "compare")
    with page.expect_request("**/v1/detect") as sent:
        world.choose(page, "Choose a picture", large, page.get_by_role("region", name="First picture"))
    expect(page.get_by_text("One face found.").first).to_be_visible()
    assert page.locator(".slot canvas").evaluate("(canvas) => [canvas.width, canvas.height]") == [1024, 1280]
    assert sent.value.response() is not None
    assert int(sent.value.all_headers()["content-length"]) > large.stat().st_size


def test_faces_are_named_or_unknown(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"])
    two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
    world.choose(page, "Choose a picture", two, world.open_view(page, "who"))
    cards = page.locator(".name-card")
    expect(cards).to_have_count(2)
    expect(cards.filter(has=page.get_by_role("heading", name="Unknown"))).to_contain_text("not enrolled")
    known = cards.filter(has=page.get_by_role("heading", name="Barack Obama"))
    expect(known).to_contain_text("known")
    expect(known.locator(".candidates .number")).to_have_text(re.compile(r"0\.\d{4}"))
    assert sorted(page.locator(".mark-label").all_inner_texts()) == ["Barack Obama", "Unknown"]
    page.get_by_text("Options").click()
    page.get_by_label("Everybody in the picture is enrolled").check()
    expect(cards.get_by_role("heading", name="Barack Obama")).to_have_count(2)


def test_two_people_within_the_threshold_are_ambiguous(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"])
    world.enroll(gallery, recognizer, world.EVIL, samples["barack-obama-2"])
    world.choose(page, "Choose a picture", samples["barack-obama-3"], world.open_view(page, "who"))
    expect(page.locator(".name-card .chip")).to_have_text("ambiguous")
    expect(page.locator(".candidates").get_by_text(world.EVIL)).to_be_visible()


def test_rule_and_rate_of_an_answer_are_shown(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"])
    view = world.open_view(page, "who")
    world.choose(page, "Choose a picture", samples["barack-obama-3"], view)
    rule = view.locator(".rule")
    expect(rule).to_contain_text("Compared with one template per person, the mean of their faces (1).")
    expect(rule).to_contain_text(re.compile(r"a stranger is given a name in 1 % of cases, among people"))
    expect(rule.locator(".note")).to_have_count(0)


@pytest.mark.parametrize(("width", "height", "language"), [(1200, 900, "en"), (390, 844, "en"), (390, 844, "ko")])
def test_what_the_calibration_does_not_hold_is_marked(
    browser: Browser, samples: dict[str, Path], tmp_path: Path, width: int, height: int, language: str
) -> None:
    real = Recognizer.load()
    smallest = Thresholds((0.1, 0.05), real.thresholds.rates[1][:2], (10, 5), 100, "few", "alike")
    tail = Tail((0.01,), (smallest.distance[1] / 2,), (0.0,), (1.0,))
    with (
        Gallery.open(tmp_path / "two.db", real) as gallery,
        world.serve(real, gallery) as base,
        world.watched(browser, base, viewport={"width": width, "height": height}) as context,
    ):
        for name in ("barack-obama-1", "joe-biden"):
            world.enroll(gallery, real, name, samples[name])
        gallery.keep_thresholds(dataclasses.replace(smallest, tail=tail))
        page = context.new_page()
        page.add_init_script(f"localStorage.setItem('sameface.language', '{language}')")
        page.goto("/#/compare")
        with page.expect_file_chooser() as chooser:
            page.locator(".intake button:visible").first.click()
        chooser.value.set_files([samples["barack-obama-1"], samples["joe-biden"]])
        verdict = page.locator(".verdict")
        output = verdict.locator("output")
        words = {"en": "1 in 100 among people alike (1 %)", "ko": "서로 닮은 사람들 사이에서 100번에 1번(1%)"}
        page.get_by_role("slider").focus()
        page.keyboard.press("End")
        expect(output).to_have_text(words[language])
        mark = {"en": "Extrapolated", "ko": "추정값"}[language]
        expect(verdict.get_by_text(mark)).to_be_visible()
        label = page.locator("label[for=far]").bounding_box()
        assert label is not None
        assert label["height"] < 40  # on one line
        world.shoot(page, f"tail-{width}-{language}")
        page.goto("/#/who")
        with page.expect_file_chooser() as chooser:
            page.locator(".intake button:visible").first.click()
        chooser.value.set_files(samples["barack-obama-2"])
        notes = world.shown(page).locator(".rule .note")
        held = {"en": "the calibration holds only 1.99 %", "ko": "보정이 보장하는 비율은 1.99%"}[language]
        expect(notes).to_have_text([re.compile(held), re.compile(mark)])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        notes.first.scroll_into_view_if_needed()
        world.shoot(page, f"promise-{width}-{language}")


def test_an_unknown_face_can_be_enrolled_from_there(page: Page, gallery: Gallery, samples: dict[str, Path]) -> None:
    two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
    world.choose(page, "Choose a picture", two, world.open_view(page, "who"))
    expect(page.get_by_role("button", name="Add this person")).to_have_count(2)
    page.get_by_role("button", name="Add this person").nth(1).click()
    page.get_by_label("Name", exact=True).fill("Somebody")
    page.get_by_label("This person has agreed").check()
    page.get_by_role("button", name="Enroll one face").click()
    expect(page.get_by_text(re.compile("One face was enrolled as .*Somebody"))).to_be_visible()
    assert [(person.name, person.faces) for person in gallery.people()] == [("Somebody", 1)]


def test_the_camera_names_who_is_before_it_until_it_is_stopped(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-2"])
    world.open_view(page, "who")
    expect(page.get_by_text("Camera pictures go to this server only")).to_be_visible()
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator(".mark-label")).to_have_text("Barack Obama")
    expect(page.get_by_role("heading", name="Barack Obama")).to_be_visible()
    track = "document.querySelector('video').srcObject.getTracks()[0].readyState"
    assert page.evaluate(track) == "live"
    page.evaluate("window.film = document.querySelector('video').srcObject.getTracks()[0]")
    page.get_by_role("link", name="People").click()
    page.wait_for_function("window.film.readyState === 'ended'")


@pytest.mark.parametrize(
    ("name", "words"), [("NotAllowedError", "does not let this page"), ("NotFoundError", "No camera was found")]
)
def test_a_camera_that_cannot_be_used_is_explained(page: Page, name: str, words: str) -> None:
    page.add_init_script(
        f"""navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException("", "{name}"); }}"""
    )
    world.open_view(page, "who").get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()


def test_a_service_without_a_gallery_says_so(browser: Browser, recognizer: Recognizer) -> None:
    with world.serve(recognizer, None) as base, world.watched(browser, base) as context:
        page = context.new_page()
        for view in ("who", "people"):
            expect(world.open_view(page, view).get_by_text("started without a gallery")).to_be_visible()
