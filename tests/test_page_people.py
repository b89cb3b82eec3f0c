"""The page in a real browser: enroll, rename, merge and delete people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import PIL.Image
import pytest

pytest.importorskip("playwright", reason="the page's tests need the package playwright")
pytest.importorskip("fastapi", reason="the page's tests need the extra 'serve'")

import page_world as world
from playwright.sync_api import Page, expect

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer

pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def test_bad_pictures_are_explained_one_by_one_before_anybody_is_enrolled(
    page: Page, gallery: Gallery, samples: dict[str, Path]
) -> None:
    two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
    grey = world.file("grey.jpg", world.to_jpeg(PIL.Image.new("RGB", (300, 200))))
    good = world.file(world.EVIL + ".jpg", samples["barack-obama-1"].read_bytes())
    world.open_view(page, "people")
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    world.choose(page, "Choose pictures", [good, two, grey, world.file("broken.jpg", b"no")], dialog)
    rows = dialog.locator(".inspection > li")
    expect(rows.nth(0)).to_contain_text("Ready")
    expect(rows.nth(0)).to_contain_text(world.EVIL)
    expect(rows.nth(1)).to_contain_text("2 faces: choose the right one")
    expect(rows.nth(2)).to_contain_text("No face was found")
    expect(rows.nth(3)).to_contain_text("This is not a picture that can be read")
    dialog.get_by_label("Name", exact=True).fill(world.EVIL)
    submit = dialog.get_by_role("button", name=re.compile("^Enroll"))
    expect(submit).to_be_disabled()  # one face is not chosen yet
    rows.nth(1).get_by_role("button", name="Choose face 1").click()
    expect(submit).to_have_text("Enroll 2 faces")
    submit.click()
    assert gallery.people() == []  # nobody has said that the person agreed
    dialog.get_by_label("This person has agreed").check()
    dialog.get_by_label("How they agreed").fill(world.EVIL)
    submit.click()
    expect(dialog.get_by_text("2 faces were enrolled as")).to_contain_text(world.EVIL)
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.locator(".card")).to_contain_text(world.EVIL)
    expect(page.locator(".card img")).to_be_visible()
    [person] = gallery.people()
    assert (person.name, person.faces) == (world.EVIL, 2)
    sentence = "This person has agreed that their face is stored here and recognized."
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d · {sentence} · {re.escape(world.EVIL)}", person.consent or "")
    page.locator(".card").click()
    expect(page.get_by_text(f"Consent: \u2068{person.consent}\u2069")).to_be_visible()
    page.get_by_role("button", name="Consent", exact=True).click()
    page.get_by_label("How and when they agreed").fill("form 7")
    page.keyboard.press("Enter")
    expect(page.get_by_text("form 7")).to_be_visible()
    assert gallery.people()[0].consent == "form 7"


def test_pictures_go_to_a_person_who_is_enrolled_already(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"])
    world.open_view(page, "people")
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    world.choose(page, "Choose pictures", [samples["barack-obama-1"], samples["barack-obama-2"]], dialog)
    warning = dialog.get_by_text("This looks like \u2068Barack Obama\u2069, who is enrolled. Is it the same person?")
    expect(warning).to_be_visible()
    dialog.get_by_label("Name", exact=True).fill("Barack Obama")
    expect(warning).to_be_hidden()
    expect(dialog.get_by_text("is enrolled already, with one face")).to_be_visible()
    dialog.get_by_label("This person has agreed").check()
    dialog.get_by_role("button", name="Enroll 2 faces").click()
    expect(dialog.get_by_text("One face was enrolled")).to_be_visible()
    expect(dialog.get_by_text("Faces that were enrolled before were not added again.")).to_be_visible()
    expect(dialog.get_by_text("There are now 2 faces of this person.")).to_be_visible()


def test_a_picture_that_the_service_refuses_is_explained_afterwards(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"])
    world.open_view(page, "people")
    page.get_by_role("button", name="Add a person").click()
    dialog = page.get_by_role("dialog")
    pictures = [samples["barack-obama-1"], samples["joe-biden"]]
    world.choose(page, "Choose pictures", pictures, dialog)
    dialog.get_by_label("Name", exact=True).fill("Joe Biden")
    dialog.get_by_label("This person has agreed").check()
    dialog.get_by_role("button", name="Enroll 2 faces").click()
    expect(dialog.get_by_text("One picture was left out:")).to_be_visible()
    expect(dialog.get_by_role("listitem")).to_contain_text("This very face is enrolled under another name.")
    assert [(person.name, person.faces) for person in gallery.people()] == [("Barack Obama", 1), ("Joe Biden", 1)]


def test_a_person_is_renamed_and_merged(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Obama", samples["barack-obama-1"])
    world.enroll(gallery, recognizer, "Joe Biden", samples["joe-biden"])
    world.open_view(page, "people").get_by_role("link", name="Obama").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("Joe Biden")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Somebody has this name already")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("עברית 🙂")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="עברית 🙂")).to_be_visible()
    page.get_by_role("button", name="Merge").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("This cannot be undone.")).to_be_visible()
    dialog.get_by_label("Merge into").select_option("Joe Biden")
    dialog.get_by_role("button", name="Merge").click()
    expect(page.get_by_role("heading", name="Joe Biden")).to_be_visible()
    expect(page.locator(".face-tile")).to_have_count(2)
    assert [(person.name, person.faces) for person in gallery.people()] == [("Joe Biden", 2)]


def test_a_person_who_expires_is_shown_with_the_day(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Joe Biden", samples["joe-biden"])
    gallery.expire("Joe Biden", datetime(2100, 1, 31, tzinfo=UTC))
    world.open_view(page, "people").locator(".card").click()
    expect(page.get_by_text("To be deleted on \u20682100-01-31\u2069.")).to_be_visible()


def test_deleting_says_before_and_after_what_is_gone(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, world.EVIL, samples["barack-obama-1"], samples["barack-obama-2"])
    world.open_view(page, "people").locator(".card").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The name and all 2 faces")
    dialog.get_by_role("button", name="Cancel").click()
    assert len(gallery.people()) == 1
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog).to_contain_text("2 faces were erased.")
    expect(dialog).to_contain_text("The fingerprints of 2 pictures")
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.get_by_text("Nobody is enrolled yet")).to_be_visible()
    assert gallery.people() == []


def test_a_face_can_be_deleted_but_not_the_last(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    world.enroll(gallery, recognizer, "Barack Obama", samples["barack-obama-1"], samples["barack-obama-2"])
    world.open_view(page, "people").locator(".card").click()
    page.get_by_role("button", name="Delete face 1 of").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete face").click()
    expect(page.locator(".face-tile")).to_have_count(1)
    page.get_by_role("button", name="Delete face 1 of").click()
    expect(page.get_by_role("dialog")).to_contain_text("This is the only face")
    assert gallery.people()[0].faces == 1


def test_people_are_found_by_name(
    page: Page, gallery: Gallery, recognizer: Recognizer, samples: dict[str, Path]
) -> None:
    face = recognizer.template(samples["barack-obama-1"])
    for number in range(60):
        picture = f"{number:064x}"
        gallery.enroll(f"Person {number:02}", [type(face)(picture, face.box, face.score, face.embedding, None)])
    world.open_view(page, "people")
    expect(page.locator(".card")).to_have_count(48)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".card")).to_have_count(60)
    page.get_by_label("Search by name").fill("person 59")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".portrait")).to_have_text("P")


def test_enrolments_are_cut_to_the_limits(page: Page) -> None:
    page.goto("/")
    script = """(albums) => import("/web/batches.js").then(({ inBatches }) => {
        const limits = { request_pictures: 3, request_bytes: 1_000_000 };
        const items = (sizes) => sizes.map((size) => ({ file: { size } }));
        return albums.map((sizes) => inBatches(items(sizes), limits).map((batch) => batch.length));
    })"""
    albums = [[], [1], [1] * 3, [1] * 5, [400_000] * 3, [2_000_000, 1]]
    assert page.evaluate(script, albums) == [[], [1], [3], [3, 2], [2, 1], [1, 1]]
