"""A gallery under programs that are killed at random moments; `benchmarks/crash.py` does it 500 times."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import crash
from crashing import disk, faults, keys, model
from crashing.child import take
from sameface.gallery.errors import GalleryFileError
from sameface.service.access_file import Access

POSIX = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")


def kill_again_and_again(place: crash.Place, runs: int) -> tuple[list[str], Counter[str]]:
    """Return what was wrong after so many kills, and the steps."""
    wrong, counts = list[str](), Counter[str]()
    for seed in range(runs):
        found, steps = crash.run_one(place, seed)
        wrong += found
        counts += steps
    return wrong, counts


@pytest.fixture
def place(tmp_path: Path) -> crash.Place:
    """A folder in which a gallery can be made."""
    (tmp_path / "gallery").mkdir()
    return crash.Place(tmp_path / "gallery")


@pytest.fixture
def path(place: crash.Place) -> Path:
    """A gallery of two people with an audit log, in which a third was forgotten."""
    with crash.Gallery.open(place.path, model.Pipeline()) as gallery:
        for name in ("person-1-2-000000003", "Rosa", "Ann"):
            take(gallery, ("enroll", name))
        take(gallery, ("forget", "person-1-2-000000003"))
    access = Access.open(f"{place.path}.access")
    for _ in range(2):
        access.log.record(None, "enroll", [], {})
    access.close()
    return place.path


@POSIX
@pytest.mark.slow
def test_after_twelve_kills_nothing_is_lost_and_nobody_comes_back(place: crash.Place) -> None:
    wrong, counts = kill_again_and_again(place, 12)
    assert wrong == []
    assert counts["enroll"] > 0
    assert sum(count for kind, count in counts.items() if kind.endswith("cut")) > 0


@POSIX
@pytest.mark.slow
def test_on_a_disk_that_was_full_programs_go_on(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(disk.small_disk(tmp_path / "disk", crash.SMALL_DISK))
        except OSError as error:
            pytest.skip(str(error))
        wrong, counts = kill_again_and_again(crash.Place(folder, on_disk=True), 3)
    assert wrong == []
    assert counts["enroll"] > 0


@POSIX
def test_after_kills_one_key_opens_a_gallery_and_its_rows_are_right(tmp_path: Path) -> None:
    wrong, counts = list[str](), Counter[str]()
    with ExitStack() as stack:
        places = crash.make_key_places(tmp_path, stack)
        for seed in range(6):
            found, steps = crash.run_keys(places[seed % len(places)], seed)
            wrong += found
            counts += steps
    assert wrong == []
    assert sum(counts.values()) >= 6


def test_a_key_change_that_failed_and_is_done_is_a_fault() -> None:
    before, after = keys.State(0), keys.State(1)
    for seen, wrong in ((before, 0), (after, 1)):
        messages = [("begin", ("rotate-key", after)), ("failed", ("rotate-key", "full")), ("seen", seen)]
        record = keys.KeyRecord.replay(before, messages)
        assert (record.state, len(record.faults)) == (seen, wrong)


def test_a_gallery_in_neither_state_is_a_fault(tmp_path: Path) -> None:
    keys.make_gallery(tmp_path / "people.db")
    for state, wrong in ((keys.State(), 0), (keys.State(0), 1), (keys.State(None, 1), 1)):
        assert len(keys.find_state(tmp_path / "people.db", keys.KeyRecord(state))[1]) == wrong


def test_on_a_disk_that_is_read_only_the_error_says_what_is_wanted(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(disk.small_disk(tmp_path / "disk", crash.SMALL_DISK))
        except OSError as error:
            pytest.skip(str(error))
        place = crash.Place(folder, on_disk=True)
        crash.Gallery.open(place.path, model.Pipeline()).close()
        assert crash.try_read_only(place) == []
        with disk.read_only(folder), pytest.raises(GalleryFileError, match="folder must be writable"):
            crash.Gallery.open(place.path, model.Pipeline())


def test_a_gallery_as_it_must_be_has_no_faults(path: Path) -> None:
    people = {name: frozenset(model.pictures_of(name)) for name in ("Ann", "Rosa")}
    gone = {"person-1-2-000000003", *model.pictures_of("person-1-2-000000003")}
    assert faults.find_faults(path, [people], gone, gone) == (people, [])


def test_a_person_who_is_missing_and_one_who_came_back_are_faults(path: Path) -> None:
    people = {name: frozenset(model.pictures_of(name)) for name in ("Bob", "Rosa")}
    found, [wrong] = faults.find_faults(path, [{}, people], set(), set())
    assert found.keys() == {"Ann", "Rosa"}
    assert wrong.startswith("missing are {}, and there are {'Ann': [")


def test_every_trace_is_a_fault(path: Path) -> None:
    name = "person-1-2-000000003"
    picture = model.pictures_of(name)[0]
    kinds = {b"x" + name.encode(): f"a trace of {name}", picture.encode(): f"a trace of {picture}"}
    kinds[model.row_of(picture).tobytes()] = f"a row of {picture}"
    for data, wrong in kinds.items():
        (path.parent / "left").write_bytes(data)
        assert faults.find_traces(path.parent, {name}, {name, picture}) == [wrong]


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [
        ("UPDATE faces SET embedding = zeroblob(1024) WHERE id = 5", "torn"),
        ("INSERT INTO people (id, name) VALUES (99, 'Zoe')", "without faces"),
        ("INSERT INTO pictures (id, sha256) VALUES (99, 'x')", "without owners"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM people WHERE name = 'Ann'", "not sound"),
    ],
)
def test_rows_that_do_not_belong_together_are_a_fault(path: Path, harm: str, wrong: str) -> None:
    db = sqlite3.connect(path)
    db.executescript(harm)
    db.close()
    assert wrong in faults.check_file(path)[0]


def test_an_audit_log_with_a_gap_is_a_fault(path: Path) -> None:
    assert faults.check_log(path) == []
    db = sqlite3.connect(f"{path}.access")
    with db:
        db.execute("DELETE FROM audit WHERE id = 1")
    db.close()
    assert faults.check_log(path)[0].startswith("the audit log: entry 2 does not fit")


def test_a_failed_step_may_be_done_or_not_but_nothing_else() -> None:
    before, after = {"Ann": frozenset("a")}, dict[str, frozenset[str]]()
    for seen, wrong in ((before, 0), (after, 0), ({"Bob": frozenset("b")}, 1)):
        messages = [("begin", ("forget", "Ann")), ("failed", ("forget", "Ann", "full")), ("seen", seen)]
        told = faults.Told.replay(before, messages)
        assert (told.people, len(told.faults), told.gone) == (seen, wrong, set())
