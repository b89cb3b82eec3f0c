"""Receipts for what was deleted: what they say, what they never hold, and how tampering shows."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import Result
from gallery_world import face, identify_one

from sameface.evaluation.cache import EmbeddingCache
from sameface.gallery import Gallery, Receipt
from sameface.gallery.errors import GalleryBusyError, GalleryFileError, UnknownPersonError
from sameface.gallery.hash_chain import START
from sameface.gallery.keys import Keys, KeyText
from sameface.gallery.receipts import receipt_to_dict
from sameface.gallery.sqlite import database
from sameface.gallery.upgrade import Upgrade
from sameface.recognizer import Recognizer

Run = Callable[..., Result]
CROP = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
NAME, PICTURE, NOTE = "Zacharias", "5ec2e7" * 10, "signed by Zach"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(path: Path, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(path, toy_recognizer) as gallery:
        yield gallery


def enroll_secret(gallery: Gallery) -> int:
    """Enroll somebody with two faces, one from a picture that shows another person too; return the number."""
    gallery.enroll("Ann", [face(toy.BLUE, "both")])
    faces = [face(toy.RED, PICTURE, crop=CROP), face(toy.REDDISH, "both", left=50)]
    gallery.enroll(NAME, faces, consent=NOTE)
    return gallery.person(NAME).number


def words_of(receipt: Receipt) -> str:
    """Return a receipt as it is printed."""
    return json.dumps(receipt_to_dict(receipt))


def numbers_in(value: object) -> list[float]:
    """Return every number of a receipt that could be one of an embedding: those with a fraction."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers_in(each)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_a_receipt_says_what_was_deleted_and_where(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        person = enroll_secret(gallery)
        assert gallery.receipts() == []
        gone = gallery.forget(NAME)
        assert (gone.reason, gone.person, gone.face) == ("forget", person, None)
        assert (gone.faces, gone.crops, gone.pictures) == (2, 1, 1)
        assert gone.gallery == gallery.origin
        assert gone.erasure is not None
        in_a_file = {"table": True, "log": True}
        assert gone.erasure.places == (in_a_file if place.endswith(".db") else in_a_file | {"log": False})
        assert gone.erasure.time >= gone.time
        assert gallery.receipts() == [gone]
        verdict = gallery.verify_receipts([gone.hash, gone.erasure.hash])
        assert (verdict.entries, verdict.fault, verdict.unseen) == (2, None, frozenset())
        assert verdict.head == gone.erasure.hash


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_a_receipt_of_one_face_says_which(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        person = enroll_secret(gallery)
        first, second = gallery.faces(NAME)
        gone = gallery.forget_face(NAME, first.number)
        assert (gone.reason, gone.person, gone.face) == ("forget_face", person, first.number)
        assert (gone.faces, gone.crops, gone.pictures) == (1, 1, 1)
        assert [each.number for each in gallery.faces(NAME)] == [second.number]
        assert gallery.receipts(after=gone.number) == []


def test_no_receipt_holds_a_name_a_note_a_picture_or_a_row(gallery: Gallery, path: Path) -> None:
    enroll_secret(gallery)
    first, _ = gallery.faces(NAME)
    receipts = [gallery.forget_face(NAME, first.number), gallery.forget(NAME)]
    row = toy.row_of(toy.RED)
    for words in map(words_of, receipts):
        for secret in (NAME, NOTE, PICTURE, row.tobytes().hex()):
            assert secret not in words
        assert row[0] not in numbers_in(json.loads(words))
    gallery.close()
    kept = path.read_bytes()
    assert b"forget_face" in kept
    assert [secret for secret in (NAME, NOTE, PICTURE) if secret.encode() in kept] == []
    assert row.tobytes() not in kept


def test_who_was_never_there_gets_no_receipt(gallery: Gallery) -> None:
    with pytest.raises(UnknownPersonError):
        gallery.forget("Nobody")
    gallery.forget_traces()
    assert gallery.receipts() == []
    assert gallery.verify_receipts().head == START


def test_a_receipt_without_erasure_gets_it_when_the_traces_go(
    gallery: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch, toy_recognizer: Recognizer
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    with Gallery.open(path, toy_recognizer) as impatient:
        enroll_secret(impatient)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM people").fetchone()
        with pytest.raises(GalleryBusyError, match="forget again"):
            impatient.forget(NAME)
        [kept] = impatient.receipts()
        assert (kept.faces, kept.erasure, receipt_to_dict(kept)["complete"]) == (2, None, False)
        reader.close()
        impatient.forget_traces()
        [later] = impatient.receipts()
        assert later.hash == kept.hash
        assert later.erasure is not None
        assert later.erasure.complete
        impatient.forget_traces()
        assert impatient.verify_receipts().entries == 2  # what is known is not written again


def test_a_program_that_is_killed_after_the_deletion_leaves_the_receipt(
    path: Path, toy_recognizer: Recognizer
) -> None:
    code = """
import os, signal, sys
from sameface import Gallery
gallery = Gallery.open(sys.argv[1])
gallery.forget_traces = lambda: os.kill(os.getpid(), signal.SIGKILL)
gallery.forget("Zacharias")
"""
    with Gallery.open(path, toy_recognizer) as gallery:
        person = enroll_secret(gallery)
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    with Gallery.open(path) as gallery:
        [kept] = gallery.receipts()
        assert (kept.person, kept.faces, kept.erasure) == (person, 2, None)
        gallery.forget_traces()
        [kept] = gallery.receipts()
        assert kept.erasure is not None
        assert gallery.verify_receipts().fault is None


def test_the_places_of_an_erasure_are_the_table_and_the_log(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        enroll_secret(gallery)
        identify_one(gallery, toy.row_of(toy.RED), rule="rows")
        gone = gallery.forget(NAME)
        assert gone.erasure is not None
        assert gone.erasure.places == {"table": True, "log": True}


def test_an_encrypted_gallery_gives_receipts_without_its_key(path: Path, toy_recognizer: Recognizer) -> None:
    pytest.importorskip("cryptography", reason="encryption needs the extra 'encrypt'")
    keys = Keys(encryption=KeyText(base64.b64encode(bytes(32)).decode(), "KEY"))
    with Gallery.open(path, toy_recognizer, keys=keys) as gallery:
        enroll_secret(gallery)
    with Gallery.open(path) as gallery:
        gone = gallery.forget(NAME)
        assert (gone.faces, gone.crops) == (2, 1)
        assert gallery.verify_receipts([gone.hash]).unseen == frozenset()


# What somebody with the file may do to it, and the entry at which that shows.
TAMPERING = {
    "changed": ("UPDATE receipts SET facts = replace(facts, '\"faces\": 2', '\"faces\": 1')", "entry 1 "),
    "no JSON": ("UPDATE receipts SET facts = 'nothing' WHERE number = 2", "entry 2 "),
    "a list": ("UPDATE receipts SET facts = '[]' WHERE number = 2", "entry 2 "),
    "hash": (f"UPDATE receipts SET hash = '{'a' * 64}' WHERE number = 1", "entry 1 "),
    "removed": ("DELETE FROM receipts WHERE number = 2", "entry 3 "),
    "removed at the end": ("DELETE FROM receipts WHERE number = 4", "entry 4, the last, "),
    "inserted": ("INSERT INTO receipts SELECT 5, facts, hash FROM receipts WHERE number = 1", "entry 5 "),
    "reordered": (
        "UPDATE receipts SET number = 9 WHERE number = 1; UPDATE receipts SET number = 1 WHERE number = 3;"
        "UPDATE receipts SET number = 3 WHERE number = 9",
        "entry 1 ",
    ),
    "all removed": ("DELETE FROM receipts", "entry 4, the last, "),
}


@pytest.mark.parametrize("how", TAMPERING)
@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_tampering_with_receipts_is_found(place: str, how: str, toy_recognizer: Recognizer) -> None:
    statements, fault = TAMPERING[how]
    with Gallery.open(place, toy_recognizer) as gallery:
        enroll_secret(gallery)
        gallery.forget(NAME)
        gallery.forget("Ann")
        assert gallery.verify_receipts().fault is None
        with gallery._db.write() as db:
            for statement in statements.split(";"):
                db.execute(statement)
        found = gallery.verify_receipts().fault
        assert found is not None
        assert found.startswith(fault)


def test_receipts_that_do_not_say_where_they_end_are_damaged(gallery: Gallery) -> None:
    gallery._db.read("DELETE FROM chain")
    with pytest.raises(GalleryFileError, match="damaged: where the receipts end cannot be read"):
        gallery.verify_receipts()


def test_an_upgrade_that_was_begun_loses_who_is_forgotten(
    gallery: Gallery, path: Path, toy_recognizer: Recognizer
) -> None:
    person = enroll_secret(gallery)
    Upgrade.open(path, "another pipeline").close()
    trial = path.with_name("people.db.upgraded")
    row = toy.row_of(toy.RED).tobytes()
    assert [secret for secret in (NAME.encode(), PICTURE.encode(), row) if secret not in trial.read_bytes()] == []
    gone = gallery.forget(person)
    assert gone.erasure is not None
    assert gone.erasure.places == {"table": True, "log": True, "upgrade": True}
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert [secret for secret in (NAME.encode(), PICTURE.encode(), NOTE.encode(), row) if secret in left] == []
    with contextlib.closing(sqlite3.connect(trial)) as db:
        assert db.execute("SELECT name FROM people").fetchall() == [("Ann",)]
        assert db.execute("SELECT count(*) FROM faces").fetchone() == (1,)


def test_a_gallery_beside_that_is_no_upgrade_is_left_alone(
    gallery: Gallery, path: Path, toy_recognizer: Recognizer
) -> None:
    enroll_secret(gallery)
    with Gallery.open(f"{path}.upgraded", toy_recognizer) as other:
        other.enroll(NAME, [face(toy.RED, PICTURE)])
        gone = gallery.forget(NAME)
        assert gone.erasure is not None
        assert "upgrade" not in gone.erasure.places
        assert other.person(NAME).faces == 1


# The command line


@pytest.fixture
def team(run: Run, tmp_path: Path) -> Path:
    toy.save(tmp_path / "red.png", toy.RED)
    toy.save(tmp_path / "blue.png", toy.BLUE)
    run("enroll", "Rosa", "red.png", "--keep-crops")
    run("enroll", "Bo", "blue.png")
    return tmp_path / "people.db"


def test_forget_prints_the_receipt(run: Run, team: Path) -> None:
    result = run("forget", "Rosa", "--yes", "--json")
    receipt = json.loads(result.stdout)
    with Gallery.open(team) as gallery:
        [kept] = gallery.receipts()
    assert receipt == json.loads(words_of(kept))
    assert (receipt["faces"], receipt["crops"], receipt["complete"]) == (1, 1, True)
    assert "backups and other copies of the gallery" in receipt["not_covered"]
    assert "Rosa" not in result.stdout
    listed = run("audit", "receipts", "--json").stdout
    assert json.loads(listed) == receipt
    assert run("audit", "receipts").stdout.split()[-1] == "True"


def test_forget_deletes_the_rows_of_the_same_pictures_from_the_cache(run: Run, team: Path) -> None:
    with Gallery.open(team) as gallery:
        [picture] = gallery.pictures("Rosa")
        [other] = gallery.pictures("Bo")
    row, box = np.full(3, 0.12345, np.float32), np.zeros(4, np.float32)
    with EmbeddingCache.open("sameface-cache.db") as cache:
        for key in (picture, f"{picture}/blurred", other):
            cache.put("pipeline", key, row, box)
    result = run("forget", "Rosa", "--yes")
    assert "2 rows of their pictures deleted from sameface-cache.db" in result.stderr
    assert picture.encode() not in Path("sameface-cache.db").read_bytes()
    with EmbeddingCache.open("sameface-cache.db") as cache:
        assert cache.get("pipeline", picture) is None
        assert cache.get("pipeline", other) is not None


@pytest.mark.parametrize("words", [["forget", "--yes"], ["forget", "Rosa", "--expired", "--yes"]])
def test_forget_wants_a_name_or_expired(run: Run, team: Path, words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, "give a NAME, or --expired" in result.stderr) == (2, True)


def test_verify_says_that_the_chains_hold_and_how_long_they_are(run: Run, team: Path) -> None:
    run("forget", "Rosa", "--yes")
    run("keys", "add", "reception")
    result = run("audit", "verify")
    log, receipts = result.stdout.splitlines()
    assert result.exit_code == 0
    assert log.startswith("audit log people.db.access: 1 entry, chain holds; last hash ")
    assert receipts.startswith("receipts in people.db: 2 entries, chain holds; last hash ")
    heads = [line.rpartition(" ")[2] for line in (log, receipts)]
    assert run("audit", "verify", "--expect", heads[0], "--expect", heads[1]).exit_code == 0
    listed = json.loads(run("audit", "list", "--json").stdout)
    assert (listed["action"], listed["hash"]) == ("add_key", heads[0])
    assert "add_key" in run("audit", "list").stdout


def test_verify_names_the_entry_that_does_not_fit(run: Run, team: Path) -> None:
    for name in ("reception", "door"):
        run("keys", "add", name)
    with contextlib.closing(sqlite3.connect("people.db.access")) as db:
        db.execute("UPDATE audit SET time = time - 60 WHERE id = 2")
        db.commit()
    result = run("audit", "verify")
    assert result.exit_code == 1
    assert "people.db.access: entry 2 does not fit" in result.stdout
    [log, receipts] = map(json.loads, run("audit", "verify", "--json").stdout.splitlines())
    assert (log["holds"], log["entries"], receipts["holds"]) == (False, 1, True)


def test_a_chain_without_the_expected_hash_is_code_1(run: Run, team: Path) -> None:
    result = run("audit", "verify", "--expect", "a" * 64)
    assert (result.exit_code, f"in none of the chains: {'a' * 64}" in result.stderr) == (1, True)
    assert "chain holds" in result.stdout


def test_a_copy_of_the_log_is_verified_without_its_gallery(run: Run, team: Path, tmp_path: Path) -> None:
    run("keys", "add", "reception")
    (tmp_path / "copy.access").write_bytes(Path("people.db.access").read_bytes())
    result = run("audit", "verify", "gone.db", "--access", "copy.access")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


def test_looking_for_a_log_does_not_make_one(run: Run, tmp_path: Path) -> None:
    for words in (["list"], ["verify"], ["verify", "--access", "none.access"], ["receipts"]):
        result = run("audit", *words)
        assert (result.exit_code, "there is no such file" in result.stderr) == (3, True)
    assert list(tmp_path.iterdir()) == []
