"""sameface album: from photographs to names, and the names back into the photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
import toy
from click.testing import Result

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer

Run = Callable[..., Result]
PEOPLE = {"red": toy.RED, "green": toy.GREEN, "blue": toy.BLUE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people with three pictures each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for note, (name, colour) in enumerate(PEOPLE.items()):
        for number in range(3):
            toy.save(folder / f"{name}-{number}.png", colour, note=10 * note + number)
    return folder


def lines(result: Result) -> list[dict[str, object]]:
    """Return the JSON lines of a command."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def album(run: Run, folder: Path, verb: str, *arguments: object) -> Result:
    return run("album", verb, folder, *arguments)


@pytest.fixture
def scanned(run: Run, folder: Path) -> Path:
    result = album(run, folder, "scan", "--min-quality", 0)
    assert result.exit_code == 0, result.output
    return folder


def test_a_scan_says_what_it_found(run: Run, folder: Path) -> None:
    result = album(run, folder, "scan", "--min-quality", 0)
    assert "9 pictures: 9 searched, 0 unchanged" in result.stdout
    assert "0 people with a name, 3 groups without; 0 faces in smaller groups, 0 faces left out" in result.stdout
    assert "9 pictures: 0 searched, 9 unchanged" in album(run, folder, "scan", "--min-quality", 0).stdout
    assert (folder.parent / "photos.sameface").stat().st_mode & 0o777 == 0o600


def test_a_bad_picture_is_listed_and_ends_the_scan_with_3(run: Run, folder: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"x")
    result = album(run, folder, "scan")
    assert (result.exit_code, "bad.jpg" in result.stderr) == (3, True)


def test_groups_get_names_in_one_command(run: Run, scanned: Path) -> None:
    assert album(run, scanned, "name", 1, "Rosa", 2, "Gus").exit_code == 0
    found = lines(album(run, scanned, "people", "--json"))
    assert [(each["group"], each["person"], each["faces"]) for each in found] == [
        (1, "Rosa", 3),
        (2, "Gus", 3),
        (3, None, 3),
    ]
    assert "Rosa" in album(run, scanned, "people").stdout
    wrong = album(run, scanned, "name", 1, "Rosa", 2)
    assert (wrong.exit_code, "number of a group and its name" in wrong.stderr) == (2, True)
    missing = album(run, scanned, "name", 17, "Rosa")
    assert (missing.exit_code, "no group 17" in missing.stderr) == (3, True)


def test_corrections_by_number(run: Run, scanned: Path) -> None:
    album(run, scanned, "name", 1, "Rosa")
    [first, *_] = lines(album(run, scanned, "faces", 1, "--json"))
    assert album(run, scanned, "not", first["face"], "Rosa").stdout == "group 4\n"
    assert lines(album(run, scanned, "faces", 4, "--json"))[0]["face"] == first["face"]
    album(run, scanned, "is", first["face"], "Rosa")
    assert len(lines(album(run, scanned, "faces", 1, "--json"))) == 3
    assert album(run, scanned, "split", first["face"]).stdout.startswith("group ")
    album(run, scanned, "undo")
    album(run, scanned, "merge", 3, 2)
    assert len(lines(album(run, scanned, "faces", 2, "--json"))) == 6
    album(run, scanned, "hide", 2)
    assert [each["group"] for each in lines(album(run, scanned, "people", "--json"))] == [1]
    assert [each["group"] for each in lines(album(run, scanned, "people", "--all", "--json"))] == [1, 2]
    album(run, scanned, "hide", "--show", 2)
    assert album(run, scanned, "undo").stdout == "undone: hide\n"
    reviewed = lines(album(run, scanned, "review", "--json"))
    assert first["face"] not in [each["face"] for each in reviewed]


def test_only_people_with_a_name_are_enrolled(
    run: Run, scanned: Path, tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    album(run, scanned, "name", 1, "Rosa", 2, "Gus")
    result = album(run, scanned, "enroll", "--gallery", tmp_path / "people.db")
    assert result.stdout == f"2 people: 6 faces added to {tmp_path / 'people.db'}\n"
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        assert [person.name for person in gallery.people()] == ["Gus", "Rosa"]
    again = album(run, scanned, "enroll", "--gallery", tmp_path / "people.db")
    assert "0 faces added" in again.stdout


def test_a_gallery_names_people_in_new_pictures(run: Run, scanned: Path, tmp_path: Path) -> None:
    album(run, scanned, "name", 1, "Rosa", 2, "Gus", 3, "Bo")
    album(run, scanned, "enroll", "--gallery", tmp_path / "people.db")
    other = tmp_path / "other"
    other.mkdir()
    toy.save(other / "new.png", toy.BLUE, note=70)
    assert album(run, other, "scan", "--min-quality", 0, "--gallery", tmp_path / "people.db").exit_code == 0
    [group] = lines(album(run, other, "people", "--json"))
    assert group["person"] in ("Rosa", "Gus", "Bo")
    assert "0 people: 0 faces" in album(run, other, "enroll", "--gallery", tmp_path / "people.db").stdout


def test_names_go_into_the_photographs_and_come_back(run: Run, scanned: Path, tmp_path: Path) -> None:
    album(run, scanned, "name", 1, "Rosa", 2, "Gus")
    assert album(run, scanned, "write-tags").stdout == "6 photographs written\n"
    assert album(run, scanned, "write-tags").stdout == "0 photographs written\n"
    assert len(list(scanned.glob("*.png.xmp"))) == 6
    state = tmp_path / "second.sameface"
    album(run, scanned, "scan", "--min-quality", 0, "--state", state)
    assert album(run, scanned, "read-tags", "--state", state).stdout == "6 photographs with names of faces\n"
    found = lines(album(run, scanned, "people", "--json", "--state", state))
    assert sorted(str(each["person"]) for each in found) == ["Gus", "None", "Rosa"]


def test_photographs_that_were_written_to_are_not_searched_again(run: Run, scanned: Path) -> None:
    pixels = {path: PIL.Image.open(path).tobytes() for path in scanned.glob("*.png")}
    album(run, scanned, "name", 1, "Rosa")
    assert album(run, scanned, "write-tags", "--in-place").stdout == "3 photographs written\n"
    assert {path: PIL.Image.open(path).tobytes() for path in scanned.glob("*.png")} == pixels
    assert "9 pictures: 0 searched, 9 unchanged" in album(run, scanned, "scan", "--min-quality", 0).stdout
    assert [each["person"] for each in lines(album(run, scanned, "people", "--json"))] == ["Rosa", None, None]


def test_an_export_has_a_folder_for_each_person(run: Run, scanned: Path, tmp_path: Path) -> None:
    album(run, scanned, "name", 1, "Rosa")
    album(run, scanned, "hide", 3)
    result = album(run, scanned, "export", "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, f"6 faces of 2 people: {tmp_path / 'out'}\n")
    assert sorted(place.name for place in (tmp_path / "out").iterdir()) == [
        "Rosa", "clusters.json", "contact-sheet.html", "group 2",
    ]  # fmt: skip


def test_a_folder_that_was_never_scanned_says_what_to_do(run: Run, folder: Path) -> None:
    result = album(run, folder, "people")
    assert (result.exit_code, "sameface album scan" in result.stderr) == (3, True)


def make_sorted_album(run: Run, tmp_path: Path) -> Path:
    """Sort an album of three people, one of whom is only in pictures with another."""
    source = tmp_path / "source"
    source.mkdir()
    colours = {
        "red": [toy.RED],
        "rose": [toy.RED],
        "both": [toy.RED, toy.BLUE],
        "blue": [toy.GREEN, toy.BLUE],
        "green": [toy.GREEN],
    }
    for note, (name, faces) in enumerate(colours.items()):
        toy.save(source / f"{name}.png", *faces, note=100 + note)
    assert run("cluster", source, "-o", tmp_path / "sorted").exit_code == 0
    return tmp_path / "sorted"


def folder_of(place: Path, files: set[str]) -> Path:
    """Return the folder that holds these pictures."""
    return next(each for each in place.iterdir() if each.is_dir() and {file.name for file in each.iterdir()} == files)


def test_a_sorted_album_is_enrolled_by_its_list_without_unnamed_groups(
    run: Run, tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    place = make_sorted_album(run, tmp_path)
    folder_of(place, {"red.png", "rose.png", "both.png"}).rename(place / "Rosa")
    folder_of(place, {"both.png", "blue.png"}).rename(place / "Bo")
    result = run("enroll", "--people", place, "--gallery", tmp_path / "people.db")
    assert (result.exit_code, result.stdout) == (0, "Bo: 2 added\nRosa: 3 added\n")
    assert result.stderr == "1 folder without a person's name left out: rename a folder to enroll it\n"
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        _, rows = toy_recognizer.embed(tmp_path / "source" / "both.png")
        assert sorted(str(answer.name) for answer in gallery.identify(rows)) == ["Bo", "Rosa"]
        assert {tuple(face.box) for face in gallery.faces("Bo")} == {(80.0, 16.0, 112.0, 48.0)}


def test_a_picture_that_was_moved_to_another_folder_needs_one_face_only(run: Run, tmp_path: Path) -> None:
    place = make_sorted_album(run, tmp_path)
    rosa = folder_of(place, {"red.png", "rose.png", "both.png"}).rename(place / "Rosa")
    green = folder_of(place, {"green.png", "blue.png"})
    (green / "green.png").rename(rosa / "green.png")
    result = run("enroll", "--people", place, "--gallery", tmp_path / "people.db")
    assert (result.exit_code, result.stdout) == (0, "Rosa: 4 added\n")
    (folder_of(place, {"both.png", "blue.png"}) / "blue.png").rename(rosa / "blue.png")
    result = run("enroll", "--people", place, "--gallery", tmp_path / "people.db")
    assert (result.exit_code, "2 faces" in result.stderr) == (3, True)


def test_a_damaged_list_of_an_album_is_refused(run: Run, tmp_path: Path) -> None:
    place = make_sorted_album(run, tmp_path)
    for text in ("{", '{"people": [{"faces": [{"picture": 3}]}]}', "[]"):
        (place / "clusters.json").write_text(text)
        result = run("enroll", "--people", place, "--gallery", tmp_path / "people.db")
        assert (result.exit_code, "clusters.json" in result.stderr) == (3, True)
    assert not (tmp_path / "people.db").exists()


def test_the_quality_gate_holds_for_a_sorted_album_too(run: Run, tmp_path: Path) -> None:
    place = make_sorted_album(run, tmp_path)
    folder_of(place, {"red.png", "rose.png", "both.png"}).rename(place / "Rosa")
    result = run("enroll", "--people", place, "--gallery", tmp_path / "people.db", "--min-quality", 0.9)
    assert (result.exit_code, "3 skipped" in result.stderr) == (3, True)
