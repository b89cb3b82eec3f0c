"""The page in a real browser: sort an album, and put it right."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import PIL.Image
import pytest

pytest.importorskip("playwright", reason="the page's tests need the package playwright")
pytest.importorskip("fastapi", reason="the page's tests need the extra 'serve'")

import page_world as world
from playwright.sync_api import Locator, Page, expect

from sameface.gallery import Gallery

pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def sort(page: Page, files: object) -> Locator:
    """Sort an album, and return its groups."""
    world.choose(page, "Choose pictures", files, world.open_view(page, "album"))
    groups = page.locator(".group")
    expect(groups.first).to_be_visible()
    return groups


def sizes(groups: Locator) -> list[int]:
    """Return how many faces are in each group."""
    return [group.locator(".tile").count() for group in groups.all()]


def test_an_album_is_sorted_and_what_cannot_be_used_is_listed(page: Page, samples: dict[str, Path]) -> None:
    grey = world.file("grey.jpg", world.to_jpeg(PIL.Image.new("RGB", (300, 200))))
    good = [world.file(path.name, path.read_bytes()) for path in samples.values()]
    with page.expect_response(lambda response: response.request.method == "DELETE") as forgotten:
        groups = sort(page, [*good, grey, world.file("x.png", b"x")])
    assert sizes(groups) == [3, 1, 1]
    assert forgotten.value.status == 204  # the service forgets the album once the page has it
    skipped = page.locator(".skipped")
    expect(skipped).to_contain_text("2 pictures show no face or cannot be read")
    expect(skipped).to_contain_text("grey.jpg")
    expect(skipped).to_contain_text("x.png")


def test_a_folder_can_be_given(page: Page, samples: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "album" / "inside").mkdir(parents=True)
    (tmp_path / "album" / "notes.txt").write_text("no picture")
    for place, name in (("", "barack-obama-1"), ("inside", "barack-obama-2")):
        (tmp_path / "album" / place / f"{name}.jpg").write_bytes(samples[name].read_bytes())
    world.choose(page, "Choose a folder", tmp_path / "album", world.open_view(page, "album"))
    expect(page.locator(".tile")).to_have_count(2)
    expect(page.locator(".skipped")).to_have_count(0)


def test_faces_are_moved_with_the_keyboard_and_moves_are_undone(page: Page, samples: dict[str, Path]) -> None:
    groups = sort(page, list(samples.values()))
    tile = groups.first.locator(".tile").first
    tile.focus()
    page.keyboard.press("Space")
    expect(tile).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="New group").click()
    expect(groups).to_have_count(4)
    assert sizes(groups) == [2, 1, 1, 1]
    groups.nth(1).locator(".tile").click()
    page.get_by_role("button", name="Move to…").click()
    page.get_by_role("dialog").get_by_label("To").select_option(index=0)
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Move").click()
    expect(groups).to_have_count(3)
    page.get_by_role("button", name="Undo").click()
    expect(groups).to_have_count(4)
    groups.first.locator(".tile").first.focus()
    page.keyboard.press("Control+z")
    expect(groups).to_have_count(3)
    page.get_by_role("button", name="Redo").click()
    expect(groups).to_have_count(4)


def test_a_face_is_dragged_to_another_group_and_to_a_new_one(page: Page, samples: dict[str, Path]) -> None:
    groups = sort(page, list(samples.values()))
    groups.nth(1).locator(".tile").drag_to(groups.first)
    expect(groups).to_have_count(2)
    assert sizes(groups) == [4, 1]
    groups.first.locator(".tile").first.drag_to(page.locator(".new-group"))
    expect(groups).to_have_count(3)
    assert sizes(groups) == [3, 1, 1]


def test_groups_are_merged_and_the_whole_picture_is_shown(page: Page, samples: dict[str, Path]) -> None:
    groups = sort(page, list(samples.values()))
    groups.nth(2).get_by_role("button", name="Merge…").click()
    page.get_by_role("dialog").get_by_label("To").select_option(label="Group 2, one face")
    page.get_by_role("dialog").get_by_role("button", name="Move").click()
    expect(groups).to_have_count(2)
    groups.nth(1).locator(".tile").first.click()
    page.get_by_role("button", name="Show picture").click()
    expect(page.get_by_role("dialog").locator("canvas")).to_be_visible()
    expect(page.get_by_role("dialog").locator(".mark.chosen")).to_be_visible()


def test_a_group_is_named_and_enrolled(page: Page, gallery: Gallery, samples: dict[str, Path]) -> None:
    two = world.file("two.jpg", world.join([samples["joe-biden"], samples["barack-obama-2"]]))
    groups = sort(page, [two, world.file("1.jpg", samples["barack-obama-1"].read_bytes())])
    assert sizes(groups) == [2, 1]
    groups.first.get_by_label("Name of group 1").fill("Barack Obama")
    groups.first.get_by_role("button", name="Enroll…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("Barack Obama")
    dialog.get_by_label("This person has agreed").check()
    dialog.get_by_role("button", name="Enroll 2 faces").click()
    expect(dialog.get_by_text("2 faces were enrolled as")).to_be_visible()
    dialog.get_by_role("button", name="Close").last.click()
    expect(groups.first.get_by_text("2 enrolled")).to_be_visible()
    people = gallery.people()
    assert [(person.name, person.faces) for person in people] == [("Barack Obama", 2)]
    # The face that was enrolled is the one of the group, not another of its picture.
    world.choose(page, "Choose a picture", samples["joe-biden"], world.open_view(page, "who"))
    expect(page.locator(".name-card").get_by_role("heading", name="Unknown")).to_be_visible()


def test_groups_are_exported(page: Page, samples: dict[str, Path]) -> None:
    groups = sort(page, [world.file("=1+1.jpg", samples["joe-biden"].read_bytes()), samples["barack-obama-1"]][:1])
    groups.first.get_by_label("Name of group 1").fill('Joe, "B"')
    exported = {}
    for kind in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Export {kind}").click()
        exported[kind] = Path(download.value.path()).read_text("utf-8")
    [group] = json.loads(exported["JSON"])["groups"]
    assert (group["name"], group["faces"][0]["picture"]) == ('Joe, "B"', "=1+1.jpg")
    [line] = csv.DictReader(io.StringIO(exported["CSV"]))
    assert (line["name"], line["picture"]) == ('Joe, "B"', "'=1+1.jpg")  # no formula for a spreadsheet
    assert [float(line[side]) for side in ("left", "top", "right", "bottom")] == group["faces"][0]["box"]


def test_an_album_can_be_cancelled(page: Page, samples: dict[str, Path]) -> None:
    many = [world.file(f"{n}.jpg", samples["joe-biden"].read_bytes()) for n in range(30)]
    world.choose(page, "Choose pictures", many, world.open_view(page, "album"))
    expect(page.get_by_text(re.compile("Looking at picture .* of 30"))).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "DELETE") as cancelled:
        page.get_by_role("button", name="Cancel").click()
    assert cancelled.value.status == 204
    expect(page.get_by_text("Cancelled. Nothing is kept.")).to_be_visible()
    expect(page.get_by_role("button", name="Choose a folder")).to_be_visible()


def test_too_many_pictures_are_refused_before_they_are_sent(page: Page) -> None:
    many = [world.file(f"{n}.jpg", b"x") for n in range(1001)]
    world.choose(page, "Choose pictures", many, world.open_view(page, "album"))
    expect(page.get_by_role("alert")).to_have_text("These are 1,001 pictures; the limit is 1,000 at a time.")


def test_boards_change_as_groups_do(page: Page) -> None:
    page.goto("/")
    script = """import("/web/groups.js").then((groups) => {
        const { startBoard, moveFaces, mergeGroups, renameGroup } = groups;
        const plain = (board) => board.groups.map(({ name, faces }) => [name, faces]);
        const start = startBoard([[0, 1, 2], [3], [4]]);
        const named = renameGroup(start, 1, "Rosa");
        const history = new groups.History(start);
        history.push(moveFaces(start, [3], 1)); // where it is already: no step
        const idle = history.canUndo;
        history.push(named);
        history.undo();
        return {
            move: plain(moveFaces(start, [0, 3], 2)),
            split: plain(moveFaces(start, [1], null)),
            split_all: plain(moveFaces(start, [3], null)),
            merge: plain(mergeGroups(named, 1, 0)),
            keep_name: plain(mergeGroups(renameGroup(named, 0, "Ana"), 1, 0)),
            idle, undone: plain(history.board), redo: history.canRedo,
        };
    })"""
    assert page.evaluate(script) == {
        "move": [["", [1, 2]], ["", [4, 0, 3]]],
        "split": [["", [0, 2]], ["", [1]], ["", [3]], ["", [4]]],
        "split_all": [["", [0, 1, 2]], ["", [3]], ["", [4]]],
        "merge": [["Rosa", [0, 1, 2, 3]], ["", [4]]],
        "keep_name": [["Ana", [0, 1, 2, 3]], ["", [4]]],
        "idle": False,
        "undone": [["", [0, 1, 2]], ["", [3]], ["", [4]]],
        "redo": True,
    }
