"""The gallery in a SQLite file: what is on the disk, and what may be wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from gallery_world import face, identify_one

from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.errors import GalleryBusyError, GalleryFileError, UnknownPersonError
from sameface.gallery.sqlite import database
from sameface.gallery.sqlite.schema import APPLICATION_ID, MIGRATIONS
from sameface.recognizer import Recognizer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(path: Path, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(path, toy_recognizer) as gallery:
        yield gallery


SECRET_CROP = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def bytes_on_disk(path: Path) -> bytes:
    """Return everything that the gallery's files hold."""
    files = [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))]
    return b"".join(file.read_bytes() for file in files if file.exists())


def traces(path: Path, *secrets: bytes) -> list[bytes]:
    """Return which of the secrets stand in the gallery's files."""
    data = bytes_on_disk(path)
    return [secret for secret in secrets if secret in data]


def enroll_secret(gallery: Gallery, name: str = "Zacharias") -> list[bytes]:
    """Enroll someone among others, and return the bytes that must not outlive them."""
    picture, row = "5ec2e7" * 10, toy.row_of((77, 99, 11))
    for number in range(40):
        gallery.enroll(f"Someone {number}", [face((number + 1, 9, 9), f"{number}", crop=SECRET_CROP // 2)])
        if number == 20:
            gallery.enroll(name, [face((77, 99, 11), picture, crop=SECRET_CROP)])
    [kept] = gallery._db.read("SELECT crop FROM faces JOIN people ON people.id = person_id WHERE name = ?", name)
    return [name.encode(), picture.encode(), row.tobytes(), kept[0]]


def test_the_traces_that_forget_must_remove_are_there_before(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    assert traces(path, *secrets) == secrets


def test_forget_leaves_no_byte(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.forget("Zacharias")
    assert traces(path, *secrets) == []
    assert len(gallery.people()) == 40


def test_forget_leaves_no_byte_of_a_former_name(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.rename("Zacharias", "Quentin")
    gallery.forget("Quentin")
    assert traces(path, *secrets, b"Quentin") == []


def test_forget_leaves_no_byte_of_who_was_merged(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.enroll("Quentin", [face((12, 34, 56), "c0ffee")])
    gallery.merge("Zacharias", "Quentin")
    gallery.forget("Quentin")
    assert traces(path, *secrets, b"Quentin", b"c0ffee") == []


def test_forget_leaves_no_byte_after_the_file_was_closed_and_opened(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        secrets = enroll_secret(gallery)
    with Gallery.open(path) as gallery:
        gallery.forget("Zacharias")
        assert traces(path, *secrets) == []
    assert traces(path, *secrets) == []


def test_forget_leaves_no_byte_while_another_has_the_file_open(
    gallery: Gallery, path: Path, toy_recognizer: Recognizer
) -> None:
    secrets = enroll_secret(gallery)
    with Gallery.open(path, toy_recognizer) as other:
        assert identify_one(other, toy.row_of((77, 99, 11))).name == "Zacharias"
        gallery.forget("Zacharias")
        assert traces(path, *secrets) == []
        assert identify_one(other, toy.row_of((77, 99, 11))).matches[0].name != "Zacharias"
    assert traces(path, *secrets) == []


def test_forget_makes_the_file_smaller(gallery: Gallery, path: Path) -> None:
    gallery.enroll("Ann", [face(toy.RED, str(number)) for number in range(2000)])
    gallery.forget_traces()
    before = path.stat().st_size
    gallery.forget("Ann")
    assert path.stat().st_size < before / 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for other programs a tenth of a second only."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)


@pytest.mark.parametrize("log", ["full", "empty"])
def test_forget_while_another_reads_says_that_traces_stay_and_can_be_repeated(
    impatient: None, path: Path, toy_recognizer: Recognizer, log: str
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        secrets = enroll_secret(gallery)
        if log == "empty":
            gallery.forget_traces()
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM people").fetchone()
        with pytest.raises(GalleryBusyError, match="forget again"):
            gallery.forget("Zacharias")
        assert "Zacharias" not in [person.name for person in gallery.people()]
        reader.close()
        with pytest.raises(UnknownPersonError):
            gallery.forget("Zacharias")
        assert traces(path, *secrets) == []


def test_forget_while_another_writes_deletes_nothing(impatient: None, path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryBusyError, match=r"waited 0 s for another program") as caught:
            gallery.forget("Red")
        assert caught.value.path == str(path)
        writer.close()
        assert gallery.forget("Red").faces == 1


def test_without_a_pipeline_no_file_is_made(path: Path) -> None:
    with pytest.raises(GalleryFileError, match="there is no such file: enroll someone first"):
        Gallery.open(path)
    assert not path.exists()


def test_a_missing_file_is_not_made_if_that_is_not_wanted(path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="there is no such file") as caught:
        Gallery.open(path, toy_recognizer, create=False)
    assert caught.value.path == str(path)
    assert not path.exists()


def test_a_missing_folder_is_an_error(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="cannot make it: No such file or directory"):
        Gallery.open(tmp_path / "missing" / "people.db", toy_recognizer)


def test_a_folder_is_no_gallery(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="unable to open database file"):
        Gallery.open(tmp_path, toy_recognizer)


def test_a_file_of_something_else_is_refused_and_kept(path: Path, toy_recognizer: Recognizer) -> None:
    path.write_bytes(b"My diary. " * 1000)
    with pytest.raises(GalleryFileError, match="is it a gallery file"):
        Gallery.open(path, toy_recognizer)
    assert path.read_bytes() == b"My diary. " * 1000


def test_another_programs_database_is_refused_and_kept(path: Path, toy_recognizer: Recognizer) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE people (name TEXT)")
    db.close()
    with pytest.raises(GalleryFileError, match="a SQLite file, but not a gallery"):
        Gallery.open(path, toy_recognizer)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("people",)]
    db.close()


def test_an_empty_file_becomes_a_gallery(path: Path, toy_recognizer: Recognizer) -> None:
    path.touch()  # as a program leaves it that was killed at once
    with Gallery.open(path, toy_recognizer) as gallery:
        assert gallery.enroll("Red", [face(toy.RED)]) == 1


def test_a_gallery_of_a_later_version_is_refused(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery._db.read(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(GalleryFileError, match="made by a later sameface"):
        Gallery.open(path, toy_recognizer)


def test_a_truncated_file_is_an_error(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        enroll_secret(gallery)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def use() -> None:
        with Gallery.open(path, toy_recognizer) as gallery:
            gallery.identify(np.zeros((1, 3), np.float32))

    with pytest.raises(GalleryFileError, match="malformed: is it a gallery file"):
        use()


DAMAGES = {
    "an embedding that is text": "UPDATE faces SET embedding = 'text'",
    "an embedding that is too short": "UPDATE faces SET embedding = x'00000000' WHERE id = 2",
    "a box of text": """UPDATE faces SET "left" = '{}'""",
    "a box without end": "UPDATE faces SET top = 1e300",
    "a score of bytes": "UPDATE faces SET score = x'00'",
    "a crop of text": "UPDATE faces SET crop = 'text'",
    "half a crop": "UPDATE faces SET crop = substr(crop, 1, length(crop) - 30)",
    "thresholds that are no JSON": "INSERT INTO calibration VALUES (1, '')",
    "thresholds that are a list": "INSERT INTO calibration VALUES (1, '[]')",
    "thresholds that are a number": "INSERT INTO calibration VALUES (1, 7)",
    "nested thresholds": f"INSERT INTO calibration VALUES (1, '{'[' * 100_000}')",
    "a width of bytes": "UPDATE pipeline SET dimension = x'00'",
    "an impossible width": "UPDATE pipeline SET dimension = -1",
    "a last number without end": "UPDATE numbers SET last = 9e999",
    "no last number": "DELETE FROM numbers",
    "a version below nothing": "PRAGMA user_version = -5",
}


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES)
def test_values_that_do_not_belong_into_a_gallery_are_its_error(
    path: Path, toy_recognizer: Recognizer, statement: str
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED, crop=SECRET_CROP), face(toy.GREEN, "other")])
        gallery._db.read(statement)

    def use() -> None:
        with Gallery.open(path, toy_recognizer) as gallery:
            for each in gallery.faces("Red"):
                gallery.crop("Red", each.number)
            gallery.identify(np.eye(1, 3, dtype=np.float32))

    with pytest.raises(GalleryFileError, match="damaged: "):
        use()


DAMAGED_RECEIPTS = {
    "an origin of bytes": "UPDATE numbers SET origin = x'00'",
    "a last entry of text": "UPDATE chain SET last = 'text'",
    "a last entry of bytes": "UPDATE chain SET last = x'00'",
    "no ends": "DELETE FROM chain",
}


@pytest.mark.parametrize("statement", DAMAGED_RECEIPTS.values(), ids=DAMAGED_RECEIPTS)
def test_receipts_that_do_not_belong_into_a_gallery_are_its_error(
    path: Path, toy_recognizer: Recognizer, statement: str
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery.enroll("Green", [face(toy.GREEN, "other")])
        gallery.forget("Red")
        gallery._db.read(statement)
        with pytest.raises(GalleryFileError):
            gallery.forget("Green")


def test_a_schema_that_is_no_text_is_an_error(path: Path, toy_recognizer: Recognizer) -> None:
    Gallery.open(path, toy_recognizer).close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE ", b"CREATE T\xb7BLE "))
    with pytest.raises(GalleryFileError, match="is it a gallery file"):
        Gallery.open(path, toy_recognizer)


def test_text_that_is_none_is_an_error(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery._db.read("UPDATE people SET name = CAST(x'ff' AS TEXT)")
        with pytest.raises(GalleryFileError, match="Could not decode to UTF-8"):
            gallery.people()


def test_a_commit_is_on_the_disk_and_faces_belong_to_people(gallery: Gallery) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert {name: gallery._db.read(f"PRAGMA {name}")[0][0] for name in wanted} == wanted


def test_a_failed_write_leaves_the_gallery_usable(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        [(pages,)] = gallery._db.read("PRAGMA page_count")
        gallery._db.read(f"PRAGMA max_page_count = {pages}")
        crop = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
        with pytest.raises(GalleryFileError, match="full"):
            gallery.enroll("Red", [face(toy.RED, crop=crop)])
        gallery._db.read("PRAGMA max_page_count = 1000")
        assert gallery.enroll("Red", [face(toy.RED, crop=crop)]) == 1


def test_only_the_owner_may_read_the_files(gallery: Gallery, path: Path) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_may_have_any_name(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    place = tmp_path / os.fsdecode(b"a?mode=memory#%41 \xff'.db")
    with Gallery.open(place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    assert place.stat().st_size > 0
    with Gallery.open(str(place)) as gallery:
        assert gallery.people() == [Person("Red", 1)]


def test_the_file_says_which_version_it_is(gallery: Gallery) -> None:
    assert gallery._db.read("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert gallery._db.read("PRAGMA application_id") == [(APPLICATION_ID,)]


def test_an_older_file_gets_the_migrations_it_lacks(
    path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    more = ("CREATE TABLE second (x); CREATE TABLE also (x)", "ALTER TABLE second ADD COLUMN third")
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, *more))
    for _ in range(2):
        with Gallery.open(path, toy_recognizer) as gallery:
            assert gallery._db.read("PRAGMA user_version") == [(len(MIGRATIONS) + 2,)]
            assert gallery._db.read("SELECT name FROM pragma_table_info('second')") == [("x",), ("third",)]
            assert gallery.people() == [Person("Red", 1)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE second (x); NONSENSE"))
        with pytest.raises(GalleryFileError, match="syntax error"):
            Gallery.open(path, toy_recognizer)
    with Gallery.open(path, toy_recognizer) as gallery:
        assert gallery._db.read("SELECT count(*) FROM sqlite_master WHERE name = 'second'") == [(0,)]
        assert gallery.people() == [Person("Red", 1)]


def test_numbers_go_on_where_an_older_gallery_ended(path: Path, toy_recognizer: Recognizer) -> None:
    db = sqlite3.connect(path)
    for statement in ";".join(MIGRATIONS[:3]).split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {3}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("INSERT INTO people VALUES (41, 'Old')")
    db.commit()
    db.close()
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("New", [face(toy.RED)])
        assert gallery.person("New").number == 42


def test_one_face_is_forgotten_without_a_trace(gallery: Gallery, path: Path) -> None:
    gallery.enroll("Rosa", [face(toy.RED, "picture one"), face(toy.RED, "picture two")])
    first, second = [each.number for each in gallery.faces("Rosa")]
    gallery.forget_face("Rosa", first)
    assert [each.number for each in gallery.faces("Rosa")] == [second]
    data = bytes_on_disk(path)
    assert (b"picture one" in data, b"picture two" in data) == (False, True)


def test_faces_are_found_by_their_person_without_reading_the_others(gallery: Gallery) -> None:
    db = database.connect(gallery.path)
    plan = db.execute("EXPLAIN QUERY PLAN SELECT id FROM faces WHERE person_id = 1 AND id > 0").fetchall()
    db.close()
    assert "USING" in plan[0][3]


def test_a_killed_forget_leaves_no_byte_once_the_file_was_used_again(
    tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    path = tmp_path / "people.db"
    code = """
import os, signal, sys
from sameface import Gallery
gallery = Gallery.open(sys.argv[1])
gallery.forget_traces = lambda: os.kill(os.getpid(), signal.SIGKILL)
gallery.forget("Zacharias")
"""
    row = toy.row_of(toy.ORANGE)
    box = np.array([0, 0, 9, 9], np.float32)
    with Gallery.open(path, toy_recognizer) as gallery:
        for name in ("Ann", "Zacharias", "Bob"):
            gallery.enroll(name, [Template(f"picture of {name}", box, 1, row if name[0] == "Z" else row[::-1])])
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    with Gallery.open(path) as gallery:
        assert [person.name for person in gallery.people()] == ["Ann", "Bob"]
    assert [file.name for file in tmp_path.iterdir()] == ["people.db"]
    data = path.read_bytes()
    assert b"Ann" in data
    assert [secret for secret in (b"Zacharias", row.tobytes()) if secret in data] == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed")
def test_a_gallery_that_cannot_be_opened_is_not_left_open(path: Path) -> None:
    path.write_bytes(b"a letter " * 1000)
    with pytest.raises(GalleryFileError) as caught:
        Gallery.open(path)
    assert caught.value.path == str(path)  # whose traceback keeps what was open alive
    assert path not in {file.readlink() for file in Path("/proc/self/fd").iterdir() if file.exists()}
