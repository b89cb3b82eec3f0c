"""Sorting an album: the folders, the page, the list, and the command that makes them."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import toy
from click.testing import Result

import sameface.cli.cluster
from sameface.album_folders import GROUPS, SHOWN, PictureFace, folder_name, free_name, thumbnail, write_album
from sameface.cli.cluster import name_groups
from sameface.face import Face
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer

Run = Callable[..., Result]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Red is in three pictures, Blue in two, Green in one; one picture has no face, one is none."""
    album = tmp_path / "album"
    toy.save(album / "a.png", toy.RED, toy.BLUE)
    toy.save(album / "b.png", toy.RED, note=1)
    toy.save(album / "trip" / "a.png", toy.RED, toy.GREEN, note=2)
    toy.save(album / "trip" / "c.png", toy.BLUE, note=3)
    toy.save(album / "trip" / "empty.png", note=4)
    return album


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Return content and time of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


def tree(folder: Path) -> dict[str, set[str]]:
    """Return the files of each folder."""
    return {place.name: {file.name for file in place.iterdir()} for place in folder.iterdir() if place.is_dir()}


class Sources(html.parser.HTMLParser):
    """Gathers the titles of the images, the headings, and everything that a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.titles: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.titles += [value or "" for name, value in attrs if name == "title"]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "h2":
            self.headings.append(data.strip())


def face_in(picture: Path, colour: tuple[int, int, int] = toy.RED) -> PictureFace:
    crop = np.full((8, 8, 3), colour, np.uint8)
    marks = np.zeros((5, 2), np.float32)
    return PictureFace(picture, Face(np.array([1, 2, 3.126, 4], np.float32), marks, 0.9), thumbnail(crop))


# The command


def test_there_is_a_folder_with_links_for_each_person(run: Run, album: Path, tmp_path: Path) -> None:
    result = run("cluster", album, "-o", "sorted")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "6 faces of 3 people in 5 pictures: sorted" in result.stderr
    assert tree(tmp_path / "sorted") == {
        "person-001": {"a.png", "b.png", "a-2.png"},
        "person-002": {"a.png", "c.png"},
        "person-003": {"a.png"},
    }
    links = [tmp_path / "sorted" / "person-001" / name for name in ("a.png", "b.png", "a-2.png")]
    assert all(link.is_symlink() for link in links)
    wanted = [album / "a.png", album / "b.png", album / "trip" / "a.png"]
    assert [link.readlink() for link in links] == wanted


def test_copies_are_whole_files(run: Run, album: Path, tmp_path: Path) -> None:
    assert run("cluster", album, "-o", "sorted", "--copy").exit_code == 0
    copy = tmp_path / "sorted" / "person-001" / "a-2.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (album / "trip" / "a.png").read_bytes()


@pytest.mark.parametrize("options", [[], ["--copy"]])
def test_the_album_is_not_touched(run: Run, album: Path, options: list[str]) -> None:
    before = snapshot(album)
    assert run("cluster", album, "-o", "sorted", *options).exit_code == 0
    assert snapshot(album) == before


def test_the_list_says_who_is_where(run: Run, album: Path, tmp_path: Path) -> None:
    run("cluster", album, "-o", "sorted")
    people = json.loads((tmp_path / "sorted" / "clusters.json").read_text("utf-8"))["people"]
    assert [(person["name"], len(person["faces"])) for person in people] == [
        ("person-001", 3),
        ("person-002", 2),
        ("person-003", 1),
    ]
    assert people[2]["faces"] == [
        {"picture": str(album / "trip" / "a.png"), "file": "a.png", "box": [80, 16, 112, 48]}
    ]


def test_json_lines_tell_the_sizes(run: Run, album: Path) -> None:
    lines = [json.loads(line) for line in run("cluster", album, "-o", "sorted", "--json").stdout.splitlines()]
    assert lines == [
        {"name": "person-001", "faces": 3},
        {"name": "person-002", "faces": 2},
        {"name": "person-003", "faces": 1},
    ]


def test_far_makes_larger_or_smaller_groups(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "album" / "a.png", toy.RED)
    toy.save(tmp_path / "album" / "b.png", toy.REDDISH)
    for far, people in (("0.01", "1 person"), ("0.001", "2 people")):
        assert f"of {people} in" in run("cluster", "album", "-o", f"at-{far}", "--far", far).stderr


def test_faces_of_one_picture_are_never_one_person(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "album" / "twins.png", toy.RED, toy.RED)
    assert "2 faces of 2 people" in run("cluster", "album", "-o", "sorted").stderr


def test_bad_pictures_are_listed_and_the_rest_is_sorted(run: Run, album: Path) -> None:
    (album / "bad.png").write_bytes(b"no picture")
    result = run("cluster", album, "-o", "sorted")
    assert result.exit_code == 3
    assert f"skipped: cannot read '{album / 'bad.png'}'" in result.stderr
    assert "6 faces of 3 people in 5 pictures" in result.stderr


def test_an_album_without_a_face_gives_an_empty_list(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "album" / "empty.png")
    result = run("cluster", "album", "-o", "sorted")
    assert result.exit_code == 0
    assert "0 faces of 0 people in 1 picture" in result.stderr
    assert {path.name for path in (tmp_path / "sorted").iterdir()} == {"clusters.json", "contact-sheet.html"}
    assert json.loads((tmp_path / "sorted" / "clusters.json").read_text()) == {"people": []}


def test_an_album_without_pictures_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    result = run("cluster", "album", "-o", "sorted")
    assert (result.exit_code, "no pictures in the folder 'album'" in result.stderr) == (2, True)


@pytest.mark.parametrize("output", ["album/sorted", "album", "album/../album/x", "link/x"])
def test_a_place_inside_the_album_is_refused(run: Run, album: Path, output: str) -> None:
    (album.parent / "link").symlink_to(album)
    before = snapshot(album)
    result = run("cluster", "album", "-o", output)
    assert result.exit_code == 2
    assert "lies inside the album: choose a place beside it" in result.stderr
    assert snapshot(album) == before


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_place_that_is_taken_is_refused(run: Run, album: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "sorted"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to("nowhere")
    result = run("cluster", album, "-o", "sorted")
    assert (result.exit_code, "exists: choose a new folder" in result.stderr) == (2, True)
    assert kind != "file" or target.read_text() == "mine"


def test_too_many_faces_are_told_and_nothing_is_left(
    run: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sameface.cli.cluster, "MOST_FACES", 5)
    result = run("cluster", album, "-o", "sorted")
    assert result.exit_code == 3
    assert "the album holds over 5 faces: take a part of it at a time, or" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["album"]


def test_a_failure_while_writing_leaves_what_is_done_and_no_half_folder(
    run: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", fail)
        result = run("cluster", album, "-o", "sorted")
    assert result.exit_code == 3
    assert "No space left on device" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "sorted.unfinished"]
    again = run("cluster", album, "-o", "sorted")
    assert (again.exit_code, "5 pictures searched in an earlier run" in again.stderr) == (0, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "sorted"]


# Names from a gallery


@pytest.fixture
def known(tmp_path: Path, toy_recognizer: Recognizer) -> Path:
    """A gallery that knows Red and Blue."""
    with Gallery.open(tmp_path / "known.db", toy_recognizer) as gallery:
        gallery.enroll("Rosa", [toy_recognizer.template(toy.paint(toy.RED, note=90))])
        gallery.enroll("Bo", [toy_recognizer.template(toy.paint(toy.BLUE, note=91))])
    return tmp_path / "known.db"


def test_who_is_enrolled_gets_their_name(run: Run, album: Path, known: Path, tmp_path: Path) -> None:
    result = run("cluster", album, "-o", "sorted", "--gallery", known, "--json")
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == ["Rosa", "Bo", "person-001"]
    assert set(tree(tmp_path / "sorted")) == {"Rosa", "Bo", "person-001"}


def test_groups_of_one_name_share_a_folder(run: Run, known: Path, tmp_path: Path) -> None:
    toy.save(tmp_path / "album" / "twins.png", toy.RED, toy.RED, toy.GREEN)
    result = run("cluster", "album", "-o", "sorted", "--gallery", known, "--json")
    assert "3 faces of 2 people" in result.stderr
    assert json.loads(result.stdout.splitlines()[0]) == {"name": "Rosa", "faces": 2}
    assert tree(tmp_path / "sorted") == {"Rosa": {"twins.png"}, "person-001": {"twins.png"}}


def test_a_number_is_never_the_name_of_somebody_else(run: Run, album: Path, known: Path, tmp_path: Path) -> None:
    run("rename", "Rosa", "person-001", "--gallery", known)
    run("cluster", album, "-o", "sorted", "--gallery", known)
    assert {name: len(files) for name, files in tree(tmp_path / "sorted").items()} == {
        "person-001": 3,
        "Bo": 2,
        "person-002": 1,
    }


def test_a_gallery_that_is_not_there_is_told_before_the_work(run: Run, album: Path, tmp_path: Path) -> None:
    result = run("cluster", album, "-o", "sorted", "--gallery", "missing.db")
    assert (result.exit_code, "there is no such file" in result.stderr) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["album"]


def answers(*names: str | None) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name) for name in names]


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (["Ann", "Ann", None], "Ann"),
        (["Ann", None], "person-001"),
        (["Ann", "Ann", "Bob", "Bob"], "person-001"),
        (["Ann", "Bob", "Cat"], "person-001"),
        ([None, None, "Ann"], "person-001"),
        ([None], "person-001"),
    ],
)
def test_a_group_has_the_name_of_more_than_half_of_its_faces(known: list[str | None], wanted: str) -> None:
    assert name_groups(np.zeros(len(known), np.int64), answers(*known)) == [wanted]  # type: ignore[arg-type]


def test_groups_without_a_name_are_counted() -> None:
    assert name_groups(np.array([0, 1, 0, 2]), []) == ["person-001", "person-002", "person-003"]
    assert name_groups(np.zeros(0, np.int64), []) == []


# The folders


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Ann", "Ann"),
        ("../x", "_x"),
        ("a/b\\c", "a_b_c"),
        ("CON?", "CON_"),
        ("con", "_con"),
        ("Lpt1.txt", "_Lpt1.txt"),
        ("Conrad", "Conrad"),
        (".", "_"),
        ("..", "_"),
        (" . ", "_"),
        ("///", "___"),
        (".hidden", "hidden"),
        ("Jr.", "Jr"),
        ("名前 👩‍🚀", "名前 👩‍🚀"),
        ("名" * 200, "名" * 80),
    ],
)
def test_a_folder_name_is_safe_everywhere(name: str, wanted: str) -> None:
    assert folder_name(name) == wanted


def test_no_cut_name_ends_in_a_space() -> None:
    assert folder_name("x" * 239 + " y") == "x" * 239


NAMES = ["../x", "a/b", "a\\b", "CON?", ".", "", "clusters.json", "Contact-Sheet.html", "名" * 200, "ann", "Ann"]


def test_no_name_leaves_the_new_folder_or_meets_another(tmp_path: Path) -> None:
    picture = toy.save(tmp_path / "album" / "a.png", toy.RED)
    target = tmp_path / "sorted"
    write_album(target, [face_in(picture) for _ in NAMES], np.arange(len(NAMES)), NAMES, copy=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "sorted"]
    assert len(tree(target)) == len(NAMES)
    assert set(map(frozenset, tree(target).values())) == {frozenset({"a.png"})}
    people = json.loads((target / "clusters.json").read_text("utf-8"))["people"]
    assert [person["name"] for person in people] == NAMES


def test_equal_file_names_are_told_apart(tmp_path: Path) -> None:
    places = ["one/a.png", "two/A.png", "three/a.png", "four/a-2.png", f"five/{'x' * 251}.png", f"six/{'x' * 251}.png"]
    pictures = [toy.save(tmp_path / "album" / place, toy.RED, note=n) for n, place in enumerate(places)]
    write_album(
        tmp_path / "sorted", [face_in(picture) for picture in pictures], np.zeros(6, np.int64), ["Ann"], copy=True
    )
    copied = [path.read_bytes() for path in (tmp_path / "sorted" / "Ann").iterdir()]
    assert sorted(copied) == sorted(picture.read_bytes() for picture in pictures)


def test_a_free_name_counts_up() -> None:
    taken: set[str] = set()
    found = [free_name(name, taken) for name in ("a.png", "A.png", "a.png", "b.png", "a-2.png")]
    assert found == ["a.png", "A-2.png", "a-3.png", "b.png", "a-2-2.png"]


def test_a_picture_with_two_faces_of_one_person_stands_in_the_folder_once(tmp_path: Path) -> None:
    picture = toy.save(tmp_path / "album" / "a.png", toy.RED)
    write_album(tmp_path / "sorted", [face_in(picture)] * 2, np.zeros(2, np.int64), ["Ann"], copy=False)
    assert tree(tmp_path / "sorted") == {"Ann": {"a.png"}}


def test_a_file_name_that_is_no_text_is_written(run: Run, tmp_path: Path) -> None:
    picture = toy.save(tmp_path / "album" / "a.png", toy.RED)
    odd = picture.rename(picture.with_name(os.fsdecode(b"caf\xe9.png")))
    assert run("cluster", "album", "-o", "sorted", "--copy").exit_code == 0
    assert tree(tmp_path / "sorted") == {"person-001": {odd.name}}
    listed = json.loads((tmp_path / "sorted" / "clusters.json").read_text("utf-8"))["people"][0]["faces"]
    assert listed[0]["picture"] == os.path.join("album", odd.name)
    assert "caf\\udce9.png" in (tmp_path / "sorted" / "contact-sheet.html").read_text("utf-8")


# The page


def test_the_page_shows_every_face_and_loads_nothing(run: Run, album: Path, tmp_path: Path) -> None:
    run("cluster", album, "-o", "sorted")
    text = (tmp_path / "sorted" / "contact-sheet.html").read_text("utf-8")
    page = Sources(text)
    assert page.headings == ["person-001", "person-002", "person-003"]
    assert len(page.titles) == len(page.loads) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.loads)
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(page.tags)
    assert re.search(r"url\(|@import|https?:", text) is None


def test_the_page_shows_a_hundred_faces_of_a_person_and_the_list_all(tmp_path: Path) -> None:
    picture = toy.save(tmp_path / "album" / "a.png", toy.RED)
    faces = [face_in(picture)] * (SHOWN + 1)
    write_album(tmp_path / "sorted", faces, np.zeros(len(faces), np.int64), ["Ann"], copy=False)
    page = (tmp_path / "sorted" / "contact-sheet.html").read_text("utf-8")
    assert len(Sources(page).titles) == SHOWN
    assert "Ann <span>101</span>" in page
    listed = json.loads((tmp_path / "sorted" / "clusters.json").read_text("utf-8"))["people"][0]["faces"]
    assert len(listed) == 101


def test_names_and_paths_are_escaped_on_the_page(tmp_path: Path) -> None:
    name = "<script>alert('&amp;')</script>"
    picture = toy.save(tmp_path / "album" / '"><img onerror=x>&lt;.png', toy.RED)
    write_album(tmp_path / "sorted", [face_in(picture)], np.zeros(1, np.int64), [name], copy=False)
    page = Sources((tmp_path / "sorted" / "contact-sheet.html").read_text("utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert page.titles == [str(picture)]
    assert page.headings == [name]


def test_a_thumbnail_shows_the_face(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "album" / "a.png", toy.RED)
    run("cluster", "album", "-o", "sorted")
    [source] = Sources((tmp_path / "sorted" / "contact-sheet.html").read_text("utf-8")).loads
    with PIL.Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        assert picture.size == (96, 96)
        np.testing.assert_allclose(picture.getpixel((48, 48)), toy.RED, atol=8)


def test_many_groups_take_several_pages_with_names_first(tmp_path: Path) -> None:
    picture = toy.save(tmp_path / "album" / "holiday.png", toy.RED)
    count = GROUPS + 1
    names = [f"person-{number:03d}" for number in range(1, count)] + ["Zoe"]
    labels = np.array([0, 0, *range(count)], np.int64)
    write_album(tmp_path / "sorted", [face_in(picture)] * len(labels), labels, names, copy=False)
    first, second = (
        Sources((tmp_path / "sorted" / name).read_text("utf-8"))
        for name in ("contact-sheet.html", "contact-sheet-2.html")
    )
    assert (first.headings[:2], len(first.headings), len(second.headings)) == (["Zoe", "person-001"], GROUPS, 1)
    assert first.loads.count("contact-sheet-2.html") == second.loads.count("contact-sheet.html") == 2
    assert "<figcaption>holiday.png</figcaption>" in (tmp_path / "sorted" / "contact-sheet-2.html").read_text("utf-8")
    assert {(tmp_path / "sorted" / name).stat().st_mode & 0o777 for name in ("contact-sheet-2.html",)} == {0o600}
