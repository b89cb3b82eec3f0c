"""Backups of a gallery that is in use, and what a restored gallery remembers of what was done since."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import Result
from gallery_world import OneThreshold, enroll_turned, face, identify_one, turned

from sameface.cli.gallery import read_history
from sameface.face import Template
from sameface.gallery import Gallery, backup
from sameface.gallery.backup import SPARE, Change, History, backup_gallery, restore_gallery
from sameface.gallery.check import check_gallery
from sameface.gallery.errors import BackupError, GalleryBusyError, GalleryFileError, MassExpiryError
from sameface.gallery.file_encryption import encrypt_gallery
from sameface.gallery.keys import Key, KeyFile, Keys, write_key
from sameface.gallery.upgrade import Upgrade
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access
from sameface.service.audit import AuditAction

Run = Callable[..., Result]
PIPELINE = OneThreshold(0.1)
BOX = np.array([0, 0, 9, 9], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "gallery").mkdir()
    return tmp_path / "gallery" / "people.db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery.open(path, PIPELINE) as gallery:
        enroll_turned(gallery, {"Ann": [0, 5], "Bo": [60, 65], "Cy": [120]})
        yield gallery


def names_in(path: Path) -> list[str]:
    """Return who is enrolled in a file."""
    with Gallery.open(path, PIPELINE, create=False) as gallery:
        return [person.name for person in gallery.people()]


# Backups


def test_a_backup_of_a_gallery_in_use_is_one_private_file_that_holds_the_same(gallery: Gallery, copy: Path) -> None:
    gallery.forget("Cy")
    made = backup_gallery(gallery.path, copy)
    assert (made.people, made.faces, made.encrypted, made.faults) == (2, 4, False, ())
    assert made.head == gallery.receipts()[-1].erasure.hash  # type: ignore[union-attr]
    assert [file.name for file in copy.parent.iterdir() if file.is_file()] == ["copy.db"]
    if os.name == "posix":
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with Gallery.open(copy, PIPELINE) as again:
        assert again.people() == gallery.people()
        assert again.receipts() == gallery.receipts()
        assert identify_one(again, turned(5), rule="rows").name == "Ann"


def test_a_backup_is_of_one_moment_whoever_writes_meanwhile(gallery: Gallery, tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        with Gallery.open(gallery.path, PIPELINE) as other:
            for number in range(10_000):
                if done.is_set():
                    return
                row = np.random.default_rng(number).normal(size=3).astype(np.float32)
                row /= np.linalg.norm(row)
                faces = [Template(f"{number} {turn}", BOX, 0.9, row) for turn in range(3)]
                other.enroll(f"person {number}", faces)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            made = backup_gallery(gallery.path, tmp_path / f"copy-{number}.db")
            assert made.faults == ()
            assert made.faces == 5 + 3 * (made.people - 3)
    finally:
        done.set()
        writer.join()


def test_a_backup_of_an_encrypted_gallery_stays_encrypted(gallery: Gallery, copy: Path) -> None:
    gallery.close()
    key = KeyFile(str(copy.parent / "key"))
    write_key(copy.parent / "key", Key.generate())
    encrypt_gallery(gallery.path, key)
    for keys in (Keys(), Keys(key)):
        copy.unlink(missing_ok=True)
        made = backup_gallery(gallery.path, copy, keys)
        assert (made.encrypted, made.faults) == (True, ())
    assert turned(0).tobytes() not in copy.read_bytes()
    with Gallery.open(copy, PIPELINE, keys=Keys(key)) as again:
        assert identify_one(again, turned(5), rule="rows").name == "Ann"


def test_a_backup_replaces_nothing_and_is_not_made_of_a_damaged_gallery(gallery: Gallery, copy: Path) -> None:
    copy.write_text("a letter")
    with pytest.raises(BackupError, match="there is something here already"):
        backup_gallery(gallery.path, copy)
    assert copy.read_text() == "a letter"
    copy.unlink()
    [(page,)] = gallery._db.read("SELECT rootpage FROM sqlite_master WHERE name = 'faces_by_person'")
    gallery.close()
    with Path(gallery.path).open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 100)
    with pytest.raises(BackupError, match=r"the gallery is damaged .* keep the backups you have"):
        backup_gallery(gallery.path, copy)
    assert [file for file in copy.parent.iterdir() if file.is_file()] == []


def test_a_copy_that_does_not_hold_what_the_gallery_does_is_thrown_away(
    gallery: Gallery, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(path: str, part: Path, copy_file: Callable[..., object] = backup.copy_file) -> object:
        counts = copy_file(path, part)
        with sqlite3.connect(part) as db:
            db.execute("DELETE FROM faces WHERE id = 2")
        db.close()
        return counts

    monkeypatch.setattr(backup, "copy_file", lose)
    with pytest.raises(BackupError, match="the disk may be failing"):
        backup_gallery(gallery.path, copy)
    assert [file for file in copy.parent.iterdir() if file.is_file()] == []


def test_a_backup_of_a_gallery_with_a_bad_row_is_made_and_says_so(gallery: Gallery, copy: Path) -> None:
    with gallery._db.write() as db:
        db.execute("UPDATE faces SET embedding = ? WHERE id = 2", ((1.3 * turned(0)).tobytes(),))
    made = backup_gallery(gallery.path, copy)
    assert [(fault.check, fault.face) for fault in made.faults] == [("row", 2)]


@pytest.mark.parametrize(
    ("place", "way_out"),
    [
        ("postgresql://one/faces", "use pg_dump and pg_restore"),
        ("milvus://one/faces?people=postgresql://one/faces", "use pg_dump and pg_restore"),
        ("milvus://one/faces?people=people.db", "its people in 'people.db'"),
    ],
)
def test_a_gallery_in_a_database_is_backed_up_by_its_own_means(copy: Path, place: str, way_out: str) -> None:
    with pytest.raises(BackupError, match=way_out):
        backup_gallery(place, copy)
    with pytest.raises(BackupError, match=way_out):
        restore_gallery(copy, place)


# Restored galleries


def test_a_restored_gallery_is_as_it_was(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    gallery.rename("Ann", "Anna")
    enroll_turned(gallery, {"Di": [90]})
    gallery.close()
    before = copy.read_bytes()
    done = restore_gallery(copy, path)
    assert (done.people, done.faces, done.faults, done.notes) == (3, 5, (), ())
    assert names_in(path) == ["Ann", "Bo", "Cy"]
    assert copy.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_was_deleted_since_the_backup_stays_deleted(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    ann, [_, second] = gallery.person("Ann").number, gallery.faces("Bo")
    gone = gallery.forget("Ann")
    gallery.forget_face("Bo", second.number)
    receipts = gallery.receipts()
    gallery.close()
    done = restore_gallery(copy, path)
    assert (done.applied.people, done.applied.faces) == ([ann], [second.number])
    with Gallery.open(path, PIPELINE) as again:
        assert [(person.name, person.faces) for person in again.people()] == [("Bo", 1), ("Cy", 1)]
        assert again.verify_receipts([gone.hash]).unseen == frozenset()
        assert again.verify_receipts().fault is None
        assert [receipt.hash for receipt in again.receipts()] == [receipt.hash for receipt in receipts]
        assert all(receipt.erasure.complete for receipt in again.receipts() if receipt.erasure)
    data = path.read_bytes()
    assert b"Ann" not in data
    assert turned(0).tobytes() not in data


def test_who_was_deleted_after_being_merged_stays_deleted(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    ann, bo = gallery.person("Ann").number, gallery.person("Bo").number
    gallery.merge("Ann", "Bo")
    gallery.forget("Bo")
    origin = gallery.origin
    gallery.close()
    asked = []

    def read_log(of: str) -> History:
        asked.append(of)
        return History((Change("forget", bo), Change("merge", ann, into=bo)), bo)

    for _ in range(2):  # first the receipts tell it, then the log alone
        done = restore_gallery(copy, path, read_log=read_log)
        assert done.applied.people == [ann, bo]
        assert names_in(path) == ["Cy"]
        path.unlink()
    assert asked == [origin, origin]


def test_who_was_merged_since_the_backup_is_merged(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    ann, bo, cy = (gallery.person(name).number for name in ("Ann", "Bo", "Cy"))
    gallery.merge("Bo", "Cy")
    gallery.close()
    merges = (Change("merge", ann, into=bo), Change("merge", bo, into=cy), Change("merge", 77, into=ann))
    done = restore_gallery(copy, path, read_log=lambda _: History(merges, 77))
    assert done.applied.merged == [(ann, cy), (bo, cy)]
    with Gallery.open(path) as again:
        assert [(person.name, person.faces) for person in again.people()] == [("Cy", 5)]
        receipts = [(receipt.reason, receipt.person, receipt.into) for receipt in again.receipts()]
        assert receipts == [("merge", bo, cy), ("merge", ann, cy)]


def test_who_was_merged_into_somebody_new_is_merged_as_far_as_the_backup_knows_them(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    enroll_turned(gallery, {"Di": [90]})
    gallery.merge("Ann", "Bo")
    gallery.merge("Bo", "Di")
    gallery.merge("Cy", "Di")
    gallery.close()
    restore_gallery(copy, path)
    assert names_in(path) == ["Bo", "Cy"]


def test_who_came_back_from_a_lost_merge_and_was_deleted_then_stays_deleted(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    enroll_turned(gallery, {"Di": [90]})
    gallery.merge("Ann", "Di")  # who is in no backup
    gallery.close()
    restore_gallery(copy, path)
    with Gallery.open(path) as again:
        again.forget("Ann")
    restore_gallery(copy, path)
    assert names_in(path) == ["Bo", "Cy"]


def test_who_has_lost_the_only_face_that_the_backup_knows_is_deleted(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    enroll_turned(gallery, {"Cy": [125]})
    [first, _] = gallery.faces("Cy")
    gallery.forget_face("Cy", first.number)
    gallery.close()
    restore_gallery(copy, path)
    assert names_in(path) == ["Ann", "Bo"]


def test_a_number_is_never_given_twice(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    enroll_turned(gallery, {"Di": [90]})
    last = gallery.faces("Di")[0].number
    gallery.forget("Di")
    gallery.close()
    assert restore_gallery(copy, path).last == last
    with Gallery.open(path, PIPELINE) as again:
        enroll_turned(again, {"Ed": [30]})
        assert again.person("Ed").number == last + 1


def test_without_the_gallery_the_audit_log_tells_who_is_gone_and_which_numbers_were_given(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    ann, [_, second] = gallery.person("Ann").number, gallery.faces("Bo")
    gallery.close()
    path.unlink()
    changes = (Change("expire", ann), Change("forget_face", 3, second.number))
    done = restore_gallery(copy, path, read_log=lambda _: History(changes, 4711), clock=lambda: 1e9)
    assert (done.applied.people, done.applied.faces, done.last) == ([ann], [second.number], 4711 + SPARE)
    assert "only those in the audit log are known" in done.notes[0]
    with Gallery.open(path) as again:
        told = [(receipt.reason, receipt.person, receipt.face) for receipt in again.receipts()]
        assert told == [("expire", ann, None), ("forget_face", again.person("Bo").number, second.number)]
        assert again.verify_receipts().fault is None
    [note] = restore_gallery(copy, path.with_name("other.db")).notes
    assert "no audit log found" in note


def test_a_chain_that_is_another_gives_deletions_but_no_receipts(gallery: Gallery, path: Path, copy: Path) -> None:
    gallery.forget("Cy")
    backup_gallery(path, copy)
    ann = gallery.person("Ann").number
    gallery.forget("Ann")
    with gallery._db.write() as db:
        db.execute("UPDATE receipts SET hash = 'x' WHERE number = 1")
    gallery.close()
    done = restore_gallery(copy, path)
    assert (done.applied.people, done.applied.receipts) == ([ann], 0)
    with Gallery.open(path) as again:
        assert again.verify_receipts().fault is None
        assert [receipt.person for receipt in again.receipts()][-1] == ann


def test_a_gallery_that_somebody_has_open_is_not_replaced(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    with pytest.raises(GalleryBusyError, match="a program has it open"):
        restore_gallery(copy, path)
    enroll_turned(gallery, {"Di": [90]})
    assert len(gallery.people()) == 4


def test_another_program_that_has_it_open_is_noticed(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    gallery.close()
    code = """if True:
        import sys
        from sameface.gallery import Gallery
        gallery = Gallery.open(sys.argv[1])
        input(gallery.path + "\\n")
    """
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(GalleryBusyError, match="a program has it open"):
            restore_gallery(copy, path)
        process.communicate("\n")
    restore_gallery(copy, path)


def test_who_opens_a_gallery_while_it_is_replaced_gets_an_error_or_the_new_one(
    gallery: Gallery, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_gallery(path, copy)
    gallery.close()
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(names_in(path))
        except GalleryBusyError as error:
            seen.append(error.reason)

    def slow(part: str, place: str, swap: Callable[[str, str], None] = backup.swap) -> None:
        threads.append(threading.Thread(target=look))
        threads[0].start()
        time.sleep(0.3)
        swap(part, place)

    threads: list[threading.Thread] = []
    monkeypatch.setattr(backup, "swap", slow)
    restore_gallery(copy, path)
    threads[0].join()
    assert seen[0] in (["Ann", "Bo", "Cy"], "a backup has just taken its place: open it again")


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_the_log_and_the_index_of_a_killed_program_do_not_get_into_the_backup(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    gallery.close()
    code = """if True:
        import os, sys
        sys.path.insert(0, "tests")
        from gallery_world import OneThreshold, enroll_turned, identify_one, turned
        from sameface.gallery import Gallery
        gallery = Gallery.open(sys.argv[1], OneThreshold(0.1))
        enroll_turned(gallery, {f"Di {n}": [70 + n] for n in range(20)})
        identify_one(gallery, turned(0), rule="rows")
        gallery.forget("Ann")
        enroll_turned(gallery, {"Ed": [30]})
        os.kill(os.getpid(), 9)
    """
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", code.replace('"tests"', repr(tests)), str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert {file.name for file in path.parent.iterdir()} > {"people.db-wal"}
    Path(f"{path}-codes").write_bytes(b"an index of an earlier version")
    restore_gallery(copy, path)
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]
    assert names_in(path) == ["Bo", "Cy"]  # that Ann was forgotten stood in the log
    with Gallery.open(path, PIPELINE) as again:
        assert [match.name for match in identify_one(again, turned(60), rule="rows").matches] == ["Bo", "Cy"]
    assert check_gallery(path).faults == ()


def test_what_a_killed_restore_left_goes_when_the_gallery_is_opened(gallery: Gallery, path: Path) -> None:
    gallery.close()
    for ending in ("", "-wal", "-journal"):
        Path(f"{path}.restoring{ending}").write_bytes(b"Ann")
    names_in(path)
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]


def test_a_log_without_its_file_is_not_taken_for_that_of_a_restored_one(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    enroll_turned(gallery, {"Di": [90]})
    log = Path(f"{path}-wal").read_bytes()
    gallery.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    restore_gallery(copy, path)
    assert names_in(path) == ["Ann", "Bo", "Cy"]


def test_what_is_no_backup_or_no_gallery_is_refused_and_nothing_is_changed(
    gallery: Gallery, path: Path, copy: Path, toy_recognizer: Recognizer
) -> None:
    backup_gallery(path, copy)
    gallery.close()
    text, damaged = copy.with_name("text"), copy.with_name("damaged.db")
    text.write_text("a letter " * 1000)
    damaged.write_bytes(copy.read_bytes()[:12_000])
    other = copy.with_name("other.db")
    with sqlite3.connect(other) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE notes (id)")
    db.close()
    before = other.read_bytes()
    strange = path.with_name("strange.db")
    with Gallery.open(strange, PIPELINE) as again:
        enroll_turned(again, {"Di": [90]})
    for source, place, reason in (
        (copy.with_name("missing"), path, "there is no such file"),
        (text, path, "it cannot be read"),
        (damaged, path, "damaged|cannot be read|malformed"),
        (other, path, "it is no gallery"),
        (copy, text, "what is there cannot be replaced"),
        (copy, other, "what is there is no gallery"),
        (copy, strange, "not the gallery that the backup is of"),
    ):
        with pytest.raises((BackupError, GalleryFileError), match=reason):
            restore_gallery(source, place)
    assert names_in(path) == ["Ann", "Bo", "Cy"]
    assert text.read_text() == "a letter " * 1000
    assert other.read_bytes() == before
    assert names_in(strange) == ["Di"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["people.db", "strange.db"]
    with pytest.raises(BackupError):
        restore_gallery(damaged, path.with_name("new.db"))
    assert not path.with_name("new.db").exists()


def test_a_new_and_empty_gallery_may_be_replaced_by_that_of_another_origin(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    gallery.close()
    path.unlink()
    Gallery.open(path, PIPELINE).close()  # as a service makes it that is started without its file
    restore_gallery(copy, path)
    assert names_in(path) == ["Ann", "Bo", "Cy"]


def test_beside_an_upgrade_nothing_is_restored(gallery: Gallery, path: Path, copy: Path) -> None:
    backup_gallery(path, copy)
    gallery.close()
    Upgrade.open(path, "another pipeline").close()
    with pytest.raises(BackupError, match="an upgrade was begun"):
        restore_gallery(copy, path)
    with pytest.raises(BackupError, match="an upgrade that is not confirmed"):
        backup_gallery(f"{path}.upgraded", copy.with_name("other"))


def test_a_backup_from_before_the_encryption_is_restored_with_a_warning(
    gallery: Gallery, path: Path, copy: Path
) -> None:
    backup_gallery(path, copy)
    gallery.close()
    write_key(copy.parent / "key", Key.generate())
    encrypt_gallery(path, KeyFile(str(copy.parent / "key")))
    [note] = restore_gallery(copy, path).notes
    assert "this one is not: say `sameface gallery encrypt`" in note


def test_who_has_expired_by_the_day_of_the_restore_is_deleted_only_if_it_is_confirmed(path: Path, copy: Path) -> None:
    with Gallery.open(path, PIPELINE, clock=lambda: 1e9) as gallery:
        enroll_turned(gallery, {"Ann": [0]})
        gallery.expire("Ann", datetime.fromtimestamp(1e9 + 60, UTC))
        backup_gallery(path, copy)
    restore_gallery(copy, path)
    with Gallery.open(path, PIPELINE) as again, pytest.raises(MassExpiryError):
        again.forget_expired()


# The command line


def test_what_the_audit_log_says_of_deletions(tmp_path: Path) -> None:
    place = str(tmp_path / "log")
    access = Access.open(place)
    for action, person, detail in (
        ("delete_person", 1, {"faces": 2}),
        ("delete_person", 2, {"failed": "unknown_person"}),
        ("delete_person", 3, {"failed": "gallery_busy", "traces": True}),
        ("delete_face", 4, {"face": 40}),
        ("expire", 5, {"failed": "gallery_busy", "receipt": 7}),
        ("merge", 6, {"into": 60, "faces": 1}),
        ("merge", 7, {"into": 70, "failed": "unknown_person"}),
        ("enroll", 8, {"faces": 1}),
    ):
        access.log.record(None, action, [("here", person)], detail)
    access.log.record(None, "delete_person", [("there", 9)], {})
    access.log.begin(AuditAction(None, "delete_person", ("here", 10)))
    access.log.begin(AuditAction(None, "merge", ("here", 11), {"into": 1}))
    access.close()
    history = read_history("people.db", place, "here")
    assert history is not None
    assert history.last == 70
    assert set(history.changes) == {
        Change("forget", 1),
        Change("forget", 3),
        Change("forget_face", 4, face=40),
        Change("expire", 5),
        Change("merge", 6, into=60),
        Change("forget", 10),
    }


def test_the_commands_back_up_and_restore(run: Run, tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        red, origin = gallery.person("Red").number, gallery.origin
    made = run("gallery", "backup", "people.db", "-o", "copy.db")
    assert (made.exit_code, made.stdout) == (
        0,
        f"copy.db: 2 people, 2 faces, not encrypted; last receipt {'0' * 64}\n",
    )
    access = Access.open(str(tmp_path / "people.db.access"))
    access.log.record(None, "delete_person", [(origin, red)], {"faces": 1})
    access.log.record(None, "enroll", [(origin, 77)], {"faces": 1})
    access.log.record(None, "delete_person", [("another", 3)], {"faces": 1})
    access.close()
    assert run("gallery", "restore", "copy.db", "people.db", stdin="n\n").exit_code == 1
    done = run("gallery", "restore", "copy.db", "people.db", "--yes")
    assert done.stdout == (
        f"people.db: 1 person, 1 face\ndeleted again: people {red}; faces none\n"
        "merged again: none; receipts taken over: 0\nthe next number is 78\n"
    )
    assert [json.loads(line)["name"] for line in run("people", "--json").stdout.splitlines()] == ["Blue"]
    (tmp_path / "people.db").unlink()
    facts = json.loads(run("gallery", "restore", "copy.db", "people.db", "--json").stdout)
    assert (facts["applied"]["people"], facts["last"]) == ([red], 77 + SPARE)
    refused = run("gallery", "restore", "copy.db", "people.db", "--yes", "--access", "missing")
    assert (refused.exit_code, "there is no such file" in refused.stderr) == (3, True)
