"""The challenge of the page: a real browser whose camera sees a photograph, or a head that turns."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the page's tests need the package playwright")
pytest.importorskip("fastapi", reason="the page's tests need the extra 'serve'")

import numpy as np
import page_world as world
import PIL.Image
from axe_core_python.sync_playwright import Axe
from heads import turn_portrait
from playwright.sync_api import Browser, Page, expect

import sameface.challenge
from sameface import read_image
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service import challenges

pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow

# Half-seconds for which the head is shown turned so far; the machine may be so busy that it sees few of them.
FILM = ((0, 8), (0.6, 5), (0.8, 5), (1, 8), (0.8, 2), (0.6, 2))
PATIENCE = 300_000  # milliseconds


class AlwaysLeft(random.Random):
    """Dice that fall as the film was made."""

    def choice(self, given):
        return given[0]


@pytest.fixture(scope="module")
def portraits(recognizer: Recognizer, samples: dict[str, Path]) -> dict[float, np.ndarray]:
    """Portraits of one head, by how far it is turned."""
    image = read_image(samples["barack-obama-2"])
    face, _ = recognizer.embed_face(image)
    return {part: turn_portrait(image, face, part) for part, _ in FILM}


@pytest.fixture
def head(browser: Browser, tmp_path: Path, portraits: dict[float, np.ndarray]) -> Iterator[Browser]:
    """A browser whose camera sees a head that turns to its left, again and again."""
    frames = [PIL.Image.fromarray(portraits[part]) for part, number in FILM for _ in range(number)]
    world.write_video(tmp_path / "head.y4m", frames, rate=2)
    chromium = browser.browser_type.launch(
        executable_path=world.find_browser(), args=world.show_to_camera(tmp_path / "head.y4m")
    )
    yield chromium
    chromium.close()


def start(page: Page) -> None:
    """Switch the camera on and begin a challenge, with the keyboard only."""
    world.open_view(page, "who").get_by_role("button", name="Use the camera").press("Enter")
    page.get_by_role("button", name="Check that somebody is there").press("Enter")


def test_a_photograph_before_the_camera_does_not_pass(
    page: Page, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sameface.challenge, "SECONDS", 6.0)
    start(page)
    told = page.locator(".challenge-words")
    expect(told).to_have_text(re.compile("Turn your head to your (left|right)"), timeout=PATIENCE)
    expect(page.locator("#announcer")).to_have_text(re.compile("Turn your head"))
    expect(told).to_have_text("Not passed: the time is over.", timeout=PATIENCE)
    expect(page.locator(".name-card")).to_be_visible()  # the camera goes on to name
    expect(page.get_by_text("turned the head", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Check that somebody is there")).to_be_enabled()


def test_a_head_that_turns_passes_and_is_named(
    head: Browser,
    gallery: Gallery,
    recognizer: Recognizer,
    portraits: dict[float, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(challenges.random, "SystemRandom", AlwaysLeft)
    monkeypatch.setattr(sameface.challenge, "TURNS", 1)
    gallery.enroll("Barack Obama", [recognizer.template(portraits[0])])
    with world.serve(recognizer, gallery) as base, world.watched(head, base) as context:
        page = context.new_page()
        start(page)
        told = page.locator(".challenge-words")
        expect(told).to_have_text("Turn your head to your left", timeout=PATIENCE)
        answer = Axe().run(page)
        assert [rule["id"] for rule in answer["violations"]] == []
        world.shoot(page, "challenge")
        page.get_by_role("button", name="한국어").click()
        expect(told).to_have_text(re.compile("[가-힣]"))
        page.get_by_role("button", name="English").click()
        expect(told).to_have_text("A head turned as it was asked to.", timeout=PATIENCE)
        card = page.locator(".name-card")
        expect(card.get_by_role("heading")).to_have_text("Barack Obama")
        expect(card.get_by_text("turned the head", exact=True)).to_be_visible()
        expect(page.locator("video")).to_have_count(0)
        world.shoot(page, "challenge-passed")
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Strangers who").select_option("0.1")
        expect(card.get_by_text("turned the head", exact=True)).to_have_count(0)  # it holds once


def test_stopping_the_camera_ends_the_challenge(page: Page, gallery: Gallery) -> None:
    start(page)
    expect(page.locator(".challenge")).to_be_visible()
    page.get_by_role("button", name="Stop the camera").press("Enter")
    expect(page.locator(".challenge")).to_be_hidden()
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
