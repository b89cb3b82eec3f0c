"""What pytest hands to the tests of the page: a browser, and the service with an empty gallery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import page_world as world
import PIL.Image
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, Path]) -> Iterator[Browser]:
    """A headless Chromium whose camera shows a sample photograph."""
    path = world.find_browser()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    film = tmp_path_factory.mktemp("camera") / "camera.y4m"
    world.write_video(film, [PIL.Image.open(samples["barack-obama-1"])] * 2)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=world.show_to_camera(film))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def shared(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Gallery]]:
    """The service that the tests share, and its gallery."""
    path = tmp_path_factory.mktemp("gallery") / "people.db"
    with (
        Gallery.open(path, recognizer) as gallery,
        world.serve(recognizer, gallery, keep_crops=True, token=world.TOKEN) as base,
    ):
        yield base, gallery


@pytest.fixture
def gallery(shared: tuple[str, Gallery]) -> Gallery:
    """The gallery of the service, with nobody in it."""
    for person in shared[1].people():
        shared[1].forget(person.name)
    return shared[1]


@pytest.fixture
def context(browser: Browser, shared: tuple[str, Gallery], gallery: Gallery) -> Iterator[BrowserContext]:
    """A browser of its own in English; at the end nothing may have failed in it, or left the machine."""
    with world.watched(browser, shared[0], token=True) as fresh:
        yield fresh


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab."""
    return context.new_page()
