"""The chain of the audit log: what it finds, what it lets go, and what it cannot see."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sameface.gallery import hash_chain
from sameface.service.access_file import APPLICATION_ID, MIGRATIONS, Access
from sameface.service.errors import AccessFileError

KEY = "reception"


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    """A log of six entries."""
    with contextlib.closing(Access.open(str(tmp_path / "people.db.access"))) as access:
        access.log.record(KEY, "enroll", [("origin", 1)], {"faces": 2})
        access.log.record(KEY, "identify", [("origin", 1), ("origin", 2)], {"faces": 2, "named": 2})
        access.log.record(KEY, "merge", [("origin", 2)], {"into": 1, "faces": 1})
        access.log.record(KEY, "verify", [], {"same": True})
        access.log.record(KEY, "delete_person", [("origin", 1)], {"faces": 3})
        yield access


def test_an_empty_log_holds() -> None:
    with contextlib.closing(Access.open()) as access:
        assert access.log.verify() == hash_chain.ChainCheck(0, hash_chain.START, None, frozenset())


def test_what_was_written_holds(access: Access) -> None:
    verdict = access.log.verify()
    assert (verdict.entries, verdict.fault) == (6, None)
    assert verdict.head == access.log.entries(1)[0].hash


def test_the_hash_is_sha_256_over_the_one_before_and_all_that_an_entry_says() -> None:
    facts = {"b": None, "a": "ü", "c": 1.5}
    words = hash_chain.START + '\n{"a":"\\u00fc","b":null,"c":1.5,"number":7}'
    assert hash_chain.hash_link(hash_chain.START, 7, facts) == hash_chain.hashlib.sha256(words.encode()).hexdigest()


# What somebody with the file may do to it, and the entry at which that shows.
TAMPERING = {
    "time": ("UPDATE audit SET time = time + 1 WHERE id = 3", "entry 3 does not fit"),
    "key": ("UPDATE audit SET key = 'somebody' WHERE id = 1", "entry 1 does not fit"),
    "action": ("UPDATE audit SET action = 'detect' WHERE id = 6", "entry 6 does not fit"),
    "gallery": ("UPDATE audit SET gallery = 'other' WHERE id = 2", "entry 2 does not fit"),
    "person": ("UPDATE audit SET person = 3 WHERE id = 2", "entry 2 does not fit"),
    "detail": ("UPDATE audit SET detail = '{\"faces\": 1}' WHERE id = 1", "entry 1 does not fit"),
    "a value of another kind": ("UPDATE audit SET detail = x'00ff' WHERE id = 1", "entry 1 does not fit"),
    "hash": (f"UPDATE audit SET hash = '{'a' * 64}' WHERE id = 4", "entry 4 does not fit"),
    "removed": ("DELETE FROM audit WHERE id = 3", "entry 4 does not fit: before it some are missing"),
    "removed at the start": ("DELETE FROM audit WHERE id = 1", "entry 2 does not fit"),
    "removed at the end": ("DELETE FROM audit WHERE id = 6", "entry 6, the last, is not where"),
    "all removed": ("DELETE FROM audit", "entry 6, the last, is not where"),
    "inserted": (
        "UPDATE audit SET id = -id; UPDATE audit SET id = 1 - id WHERE id < -2; UPDATE audit SET id = -id"
        " WHERE id < 0; INSERT INTO audit SELECT 3, time, key, action, detail, gallery, person, hash"
        " FROM audit WHERE id = 2",
        "entry 3 does not fit",
    ),
    "put in at the end": (
        "INSERT INTO audit SELECT 7, time, key, action, detail, gallery, person, hash FROM audit WHERE id = 6",
        "entry 7 does not fit",
    ),
    "reordered": (
        "UPDATE audit SET id = 100 WHERE id = 2; UPDATE audit SET id = 2 WHERE id = 3;"
        "UPDATE audit SET id = 3 WHERE id = 100",
        "entry 2 does not fit",
    ),
    "the end moved": ("UPDATE chain SET last = 5", "entry 5, the last, is not where"),
    "the start moved": (f"UPDATE chain SET first = 1, anchor = '{'b' * 64}'", "entry 1 does not fit"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_every_kind_of_tampering_is_found_at_its_entry(access: Access, how: str) -> None:
    statements, fault = TAMPERING[how]
    with contextlib.closing(sqlite3.connect(access.path)) as db:
        db.executescript(statements)
    found = access.log.verify().fault
    assert found is not None
    assert found.startswith(fault)


@pytest.mark.parametrize("statement", ["DELETE FROM chain", "UPDATE chain SET head = x'00'"])
def test_a_log_that_does_not_say_where_it_ends_is_damaged(access: Access, statement: str) -> None:
    access.run(statement)
    for act in (access.log.verify, lambda: access.log.record(KEY, "verify", [], {})):
        with pytest.raises(AccessFileError, match="damaged: it does not say where its log ends"):
            act()
    assert len(access.log.entries(9)) == 6


def test_old_entries_go_and_the_rest_still_holds(access: Access) -> None:
    with contextlib.closing(Access.open()) as fresh:
        for number in range(5):
            fresh.log.record(KEY, "identify", [("origin", number)], {})
        anchor = fresh.log.entries(5)[3].hash
        fresh.run("UPDATE audit SET time = 0 WHERE id <= 2")
        fresh.log.forget_entries(1)
        fresh.log.record(KEY, "verify", [], {})
        verdict = fresh.log.verify([anchor])
    assert (verdict.entries, verdict.fault, verdict.unseen) == (4, None, frozenset())


def test_an_old_entry_behind_a_younger_one_stays_so_that_nothing_is_missing() -> None:
    with contextlib.closing(Access.open()) as access:
        for _ in range(3):
            access.log.record(KEY, "verify", [], {})
        access.run("UPDATE audit SET time = 0 WHERE id = 2")
        access.log.forget_entries(1)
        assert [entry.number for entry in access.log.entries(9)] == [3, 2, 1]


def test_a_log_of_which_everything_went_by_age_goes_on(access: Access) -> None:
    access.run("UPDATE audit SET time = 0")
    access.log.forget_entries(1)
    assert access.log.verify().fault is None
    access.log.record(KEY, "verify", [], {})
    assert (access.log.verify().entries, access.log.verify().fault) == (1, None)
    assert access.log.entries(1)[0].number == 7


def test_a_chain_that_was_made_anew_shows_only_against_a_hash_kept_elsewhere(access: Access, tmp_path: Path) -> None:
    witness = access.log.verify().head
    access.log.record(KEY, "verify", [], {})
    assert access.log.verify([witness]).unseen == frozenset()
    forged = tmp_path / "forged.access"
    with contextlib.closing(Access.open(str(forged))) as other:
        other.log.record(KEY, "enroll", [("origin", 1)], {"faces": 2})
    access.close()
    shutil.copyfile(forged, access.path)
    with contextlib.closing(Access.open(access.path)) as opened:
        assert opened.log.verify().fault is None
        assert opened.log.verify([witness]).unseen == {witness}


def test_programs_that_write_at_once_make_one_chain(access: Access) -> None:
    with contextlib.closing(Access.open(access.path)) as other:
        for _ in range(5):
            access.log.record(KEY, "verify", [], {})
            other.log.record(KEY, "verify", [], {})
        assert access.log.verify().entries == 16
        assert other.log.verify().fault is None


@pytest.mark.parametrize("entries", [0, 3])
def test_the_entries_of_an_earlier_version_become_a_chain(tmp_path: Path, entries: int) -> None:
    path = tmp_path / "people.db.access"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"{MIGRATIONS[0]}; {MIGRATIONS[1]}; PRAGMA user_version = 2")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for number in range(3):
            values = (2 * number + 5, number, "reception", "verify", '{"same": true}')
            db.execute("INSERT INTO audit (id, time, key, action, detail) VALUES (?, ?, ?, ?, ?)", values)
        db.execute("DELETE FROM audit WHERE id > ?", (9 if entries else 0,))
        db.commit()
    with contextlib.closing(Access.open(str(path))) as access:
        assert (access.log.verify().entries, access.log.verify().fault) == (entries, None)
        access.log.record(KEY, "verify", [], {})
        assert (access.log.verify().entries, access.log.verify().fault) == (entries + 1, None)
        assert access.log.entries(1)[0].number == 10
