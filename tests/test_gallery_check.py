"""Rows that no search can use are left out, and `gallery check` finds what must not be in a gallery."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import Result
from gallery_world import OneThreshold, enroll_turned, face, identify_one, turned

from sameface.gallery import Gallery
from sameface.gallery.check import check_gallery
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.keys import Key, KeyFile, Keys, write_key
from sameface.recognizer import Recognizer

Run = Callable[..., Result]
BAD = {
    "too long": 1.3 * turned(0),
    "too short": 0.7 * turned(0),
    "zeros": np.zeros(3, np.float32),
    "not a number": np.array([np.nan, 1, 0], np.float32),
    "infinite": np.array([np.inf, 0, 0], np.float32),
}


def put_row(gallery: Gallery, number: int, row: np.ndarray) -> None:
    """Put a row into a gallery past every check, as an earlier version did."""
    with gallery._db.write() as db:
        values = gallery._db.encode_row(number, row.astype(np.float32), "s")
        db.execute("UPDATE faces SET embedding = ? WHERE id = ?", (values["embedding"], number))


def add_bad_face(gallery: Gallery, row: np.ndarray) -> int:
    """Enroll Red, who lies at 0 degrees, with a second face that has this row; return its number."""
    enroll_turned(gallery, {"Blue": [30, 31], "Red": [40, 41]})
    number = gallery.faces("Red")[1].number
    put_row(gallery, number, row)
    return number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery.open(path, OneThreshold(0.5)) as gallery:
        yield gallery


# Rows that no search can use


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_a_row_that_is_not_of_length_1_names_nobody(gallery: Gallery, row: np.ndarray) -> None:
    number = add_bad_face(gallery, row)
    for closed_set in (False, True):
        answer = identify_one(gallery, turned(0), closed_set=closed_set, rule="rows")
        assert [match.name for match in answer.matches] == ["Blue", "Red"]
        assert answer.matches[0].distance == pytest.approx(2 - 2 * np.cos(np.radians(30)), abs=1e-5)
    assert [each.number for each in gallery.faces("Red")][1] == number
    assert len(gallery.templates("Red")) == 2
    gallery.forget_face("Red", number)
    assert check_gallery(gallery.path).faults == ()
    assert identify_one(gallery, turned(40), rule="rows").name == "Red"


def test_a_row_that_is_too_long_names_nobody_in_any_back_end(place: str) -> None:
    with Gallery.open(place, OneThreshold(0.5)) as gallery:
        number = add_bad_face(gallery, 1.3 * turned(0))
        assert identify_one(gallery, turned(0), closed_set=True, rule="rows").name == "Blue"
        [fault] = check_gallery(place).faults
        assert (fault.check, fault.face, fault.person) == ("row", number, gallery.person("Red").number)
        gallery.forget_face("Red", number)
        assert check_gallery(place).faults == ()


def test_with_bad_rows_only_everybody_is_a_stranger(gallery: Gallery) -> None:
    enroll_turned(gallery, {"Red": [0]})
    put_row(gallery, gallery.faces("Red")[0].number, 1.3 * turned(0))
    for closed_set in (False, True):
        assert identify_one(gallery, turned(0), closed_set=closed_set, rule="rows").matches == ()


def test_a_search_that_leaves_rows_out_says_so_in_the_log(gallery: Gallery, caplog: pytest.LogCaptureFixture) -> None:
    add_bad_face(gallery, 1.3 * turned(0))
    identify_one(gallery, turned(0), rule="rows")
    assert "1 embeddings are not of length 1" in caplog.text


# What a check finds


def test_a_gallery_as_it_must_be_has_no_faults(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED), face(toy.REDDISH, "r")])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        gallery.forget("Blue")
        report = check_gallery(place)
    assert (report.people, report.faces, report.faults, report.unchecked) == (1, 2, (), ())


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_every_bad_row_is_named_with_its_person(gallery: Gallery, row: np.ndarray) -> None:
    number = add_bad_face(gallery, row)
    [fault] = check_gallery(gallery.path).faults
    assert fault.text.startswith(f"face {number} of person {gallery.person('Red').number} ('Red'): its embed")


HARM = {
    "references": "PRAGMA foreign_keys = OFF; DELETE FROM people WHERE name = 'Red'",
    "schema": "DROP TRIGGER face_deleted",
    "numbers": "UPDATE numbers SET last = 1",
    "row": "UPDATE faces SET embedding = x'00' WHERE id = 2",
    "receipts": "UPDATE receipts SET facts = '{}' WHERE number = 1",
}


@pytest.mark.parametrize("check", HARM)
def test_every_kind_of_harm_is_found_by_its_check(gallery: Gallery, path: Path, check: str) -> None:
    enroll_turned(gallery, {"Red": [0], "Green": [60], "Blue": [90]})
    gallery.forget("Blue")
    gallery.close()
    with sqlite3.connect(path) as db:
        db.executescript(HARM[check])
    db.close()
    assert {fault.check for fault in check_gallery(path).faults} == {check}


def test_a_damaged_page_is_found_without_opening_the_gallery(gallery: Gallery, path: Path) -> None:
    enroll_turned(gallery, {"Red": [0], "Green": [60]})
    [(page,)] = gallery._db.read("SELECT rootpage FROM sqlite_master WHERE name = 'faces'")
    gallery.close()
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 100)
    assert {fault.check for fault in check_gallery(path).faults} == {"integrity"}


def test_a_foreign_table_and_one_that_was_changed_are_faults(gallery: Gallery) -> None:
    with gallery._db.write() as db:
        db.execute("CREATE TABLE notes (id)")
        db.execute("ALTER TABLE people ADD COLUMN phone TEXT")
    words = [fault.text for fault in check_gallery(gallery.path).faults]
    assert words == ["table 'notes' is not one that sameface makes", "table 'people' is not as sameface makes it"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_files_that_others_may_read_are_faults(gallery: Gallery, path: Path) -> None:
    enroll_turned(gallery, {"Red": [0]})
    path.chmod(0o640)
    Path(f"{path}-wal").chmod(0o604)
    assert [fault.check for fault in check_gallery(path).faults] == ["mode", "mode"]


def test_encrypted_rows_are_checked_with_the_key_only(tmp_path: Path, path: Path) -> None:
    write_key(tmp_path / "key", Key.generate())
    keys = Keys(KeyFile(str(tmp_path / "key")))
    with Gallery.open(path, OneThreshold(0.5), keys=keys) as gallery:
        number = add_bad_face(gallery, 1.3 * turned(0))
        assert identify_one(gallery, turned(0), rule="rows").name == "Blue"
        with gallery._db.write() as db:
            db.execute("UPDATE faces SET embedding = (SELECT embedding FROM faces WHERE id = 3) WHERE id = 2")
    without, opened = check_gallery(path), check_gallery(path, keys)
    assert (without.faults, len(without.unchecked)) == ((), 1)
    assert [(fault.check, fault.face) for fault in opened.faults] == [("row", 2), ("row", number)]


def test_a_missing_gallery_is_not_made_by_a_check(path: Path) -> None:
    with pytest.raises(GalleryFileError, match="there is no such file"):
        check_gallery(path)
    assert not path.exists()


# The command line


def test_the_command_lists_faults_and_ends_with_1(run: Run, path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        number = add_bad_face(gallery, 1.3 * turned(0))
        person = gallery.person("Red").number
    result = run("gallery", "check", "people.db")
    assert result.exit_code == 1
    assert result.stdout == (
        f"row: face {number} of person {person} ('Red'): its embedding has length 1.3, wanted 1; "
        f"no search finds it: delete it with forget --face\n"
    )
    facts = json.loads(run("gallery", "check", "people.db", "--json").stdout)
    assert (facts["check"], facts["person"], facts["face"]) == ("row", person, number)
    assert run("forget", "Red", "--face", number, "--yes").exit_code == 0
    fine = run("gallery", "check", "people.db")
    assert (fine.exit_code, fine.stdout) == (0, "people.db: 2 people, 3 faces, no faults\n")


def test_the_only_face_of_a_person_is_not_deleted_alone_by_the_command(
    run: Run, path: Path, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        number = gallery.faces("Red")[0].number
    result = run("forget", "Red", "--face", number, "--yes")
    assert (result.exit_code, "is the only one" in result.stderr) == (3, True)
    assert run("forget", "--expired", "--face", number).exit_code == 2


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_every_command_warns_of_a_gallery_that_others_may_read(
    run: Run, path: Path, toy_recognizer: Recognizer
) -> None:
    Gallery.open(path, toy_recognizer).close()
    assert run("people").stderr == ""
    path.chmod(0o644)
    for words in (["people"], ["gallery", "compact", "people.db"]):
        result = run(*words)
        assert result.exit_code == 0
        assert "others than you may read or write 'people.db': chmod 600 people.db" in result.stderr
