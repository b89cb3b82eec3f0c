"""People whose time is over: set, listed, not named, deleted with a receipt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import toy
from click.testing import Result
from gallery_world import enroll_turned, face, identify_one

from sameface.gallery import Gallery
from sameface.gallery.errors import (
    BadExpiryError,
    GalleryBusyError,
    GalleryFileError,
    MassExpiryError,
    UnknownPersonError,
)
from sameface.gallery.expiry import parse_expiry, to_seconds
from sameface.gallery.sqlite import database
from sameface.gallery.upgrade import Upgrade
from sameface.recognizer import Recognizer

Run = Callable[..., Result]
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("1d", NOW + timedelta(days=1)),
        (" 365d ", NOW + timedelta(days=365)),
        ("36525d", NOW + timedelta(days=36525)),
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("never", None),
    ],
)
def test_words_stand_for_a_moment(words: str, moment: datetime | None) -> None:
    assert parse_expiry(words, NOW.timestamp() + 0.9) == moment


@pytest.mark.parametrize(
    "words",
    ["", "0d", "-1d", "36526d", "9999999999d", "1.5d", "365", "1y", "d", "2026-13-01", "2026-02-30", "soon",
     "2026-01-31", "1999-01-01", "9999-12-31", "2026-02-01T12:00", "Never", "٣d"],
)  # fmt: skip
def test_other_words_and_days_that_have_passed_are_refused(words: str) -> None:
    with pytest.raises(BadExpiryError, match="nobody can expire at"):
        parse_expiry(words, NOW.timestamp())


def test_a_moment_is_kept_in_whole_seconds_whatever_its_zone() -> None:
    there = datetime(2026, 2, 1, 9, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=9)))
    assert to_seconds(there, NOW.timestamp()) == datetime(2026, 2, 1, tzinfo=UTC).timestamp()


def test_a_moment_without_a_zone_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="must have a time zone"):
        to_seconds(datetime(2030, 1, 1), NOW.timestamp())


# In a gallery


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now

    def move(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time).total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gallery(place: str, toy_recognizer: Recognizer, clock: Clock) -> Iterator[Gallery]:
    with Gallery.open(place, toy_recognizer, clock=clock) as gallery:
        yield gallery


def in_days(days: float) -> datetime:
    """Return a moment so many days from the clock's beginning."""
    return NOW + timedelta(days=days)


def test_who_is_enrolled_for_a_time_is_listed_with_it(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")], expires=in_days(7))
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    assert [person.expires for person in gallery.people()] == [None, in_days(7)]
    assert gallery.person("Red").expires == in_days(7)
    gallery.enroll("Red", [face(toy.REDDISH, "c")])
    assert gallery.person("Red").expires == in_days(7)


def test_the_day_can_be_changed_and_taken_back(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.expire("Red", in_days(1))
    gallery.expire("Red", in_days(2))
    assert gallery.person("Red").expires == in_days(2)
    gallery.expire(gallery.person("Red").number, None)
    assert gallery.person("Red").expires is None


def test_a_day_that_has_passed_changes_nothing(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)], expires=in_days(1))
    with pytest.raises(BadExpiryError, match="it has passed"):
        gallery.expire("Red", in_days(0))
    with pytest.raises(BadExpiryError, match="it has passed"):
        gallery.enroll("Blue", [face(toy.BLUE, "b")], expires=in_days(-1))
    with pytest.raises(UnknownPersonError):
        gallery.expire("Nobody", in_days(1))
    assert [(person.name, person.expires) for person in gallery.people()] == [("Red", in_days(1))]


def test_who_has_expired_is_not_named_and_others_are(gallery: Gallery, clock: Clock) -> None:
    gallery.enroll("Red", [face(toy.RED, f"a{number}") for number in range(6)], expires=in_days(1))
    gallery.enroll("Robin", [face((255, 20, 0), "b")])
    assert identify_one(gallery, toy.row_of(toy.RED), k=3).name == "Red"
    clock.move(days=1)
    answer = identify_one(gallery, toy.row_of(toy.RED), k=3)
    assert (answer.name, answer.ambiguous, [match.name for match in answer.matches]) == ("Robin", False, ["Robin"])
    assert gallery.person("Red").faces == 6


def test_when_all_have_expired_everybody_is_a_stranger(gallery: Gallery, clock: Clock) -> None:
    gallery.enroll("Red", [face(toy.RED)], expires=in_days(1))
    clock.move(days=1)
    for closed_set in (False, True):
        answer = identify_one(gallery, toy.row_of(toy.RED), closed_set=closed_set)
        assert (answer.name, answer.matches) == (None, ())


def test_who_has_expired_is_deleted_with_a_receipt_and_nobody_else(gallery: Gallery, clock: Clock) -> None:
    gallery.enroll("Red", [face(toy.RED, "a"), face(toy.REDDISH, "c")], expires=in_days(1))
    gallery.enroll("Green", [face(toy.GREEN, "g")], expires=in_days(1))
    gallery.enroll("Blue", [face(toy.BLUE, "b")], expires=in_days(2))
    gallery.enroll("Yellow", [face(toy.YELLOW, "y")])
    numbers = {name: gallery.person(name).number for name in ("Red", "Green")}
    assert gallery.forget_expired() == []
    clock.move(days=1)
    gone = gallery.forget_expired()
    assert [(each.reason, each.person, each.faces) for each in gone] == [
        ("expire", numbers["Red"], 2),
        ("expire", numbers["Green"], 1),
    ]
    assert all(each.erasure is not None for each in gone)
    assert gone[0].time == in_days(1)
    assert [person.name for person in gallery.people()] == ["Blue", "Yellow"]
    assert gallery.receipts() == gone
    assert gallery.forget_expired() == []


def test_traces_that_a_reader_kept_go_with_the_next_try(
    tmp_path: Path, toy_recognizer: Recognizer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    path = tmp_path / "people.db"
    with Gallery.open(path, toy_recognizer, clock=clock) as gallery:
        gallery.enroll("Red", [face(toy.RED)], expires=in_days(1))
        clock.move(days=1)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM people").fetchone()
        with pytest.raises(GalleryBusyError):
            gallery.forget_expired()
        assert [receipt.erasure for receipt in gallery.receipts()] == [None]
        reader.close()
        assert gallery.forget_expired() == []
        [receipt] = gallery.receipts()
        assert receipt.erasure is not None


def test_nobody_is_deleted_after_the_clock_has_jumped_until_it_is_confirmed(gallery: Gallery, clock: Clock) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")], expires=in_days(31))
    gallery.enroll("Blue", [face(toy.BLUE, "b")], expires=in_days(400))
    clock.move(days=31)
    with pytest.raises(MassExpiryError, match=r"1 of its people .* the clock is 31 days after its last entry"):
        gallery.forget_expired()
    gallery.enroll("Green", [face(toy.GREEN, "g")])  # what is done at a wrong moment is no proof that it is right
    with pytest.raises(MassExpiryError):
        gallery.forget_expired()
    assert [person.name for person in gallery.people()] == ["Blue", "Green", "Red"]
    assert len(gallery.forget_expired(confirmed=True)) == 1
    clock.move(days=30)
    assert gallery.forget_expired() == []


def test_a_clock_that_is_looked_at_every_day_may_go_on_for_years(gallery: Gallery, clock: Clock) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")], expires=in_days(100))
    for _ in range(50):
        clock.move(days=1.9)
        assert gallery.forget_expired() == []
    clock.move(days=5)
    assert [receipt.reason for receipt in gallery.forget_expired()] == ["expire"]


def test_a_clock_that_is_right_again_is_believed(gallery: Gallery, clock: Clock) -> None:
    clock.move(days=4000)
    gallery.enroll("Red", [face(toy.RED, "a")])
    clock.move(days=-4000)
    gallery.enroll("Blue", [face(toy.BLUE, "b")], expires=in_days(1))
    clock.move(days=4000)
    with pytest.raises(MassExpiryError):
        gallery.forget_expired()


@pytest.mark.parametrize(("gone", "others", "refused"), [(20, 0, False), (21, 189, False), (21, 188, True)])
def test_many_people_are_deleted_at_once_only_if_it_is_confirmed(
    tmp_path: Path, toy_recognizer: Recognizer, clock: Clock, gone: int, others: int, refused: bool
) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer, clock=clock) as gallery:
        with gallery._db.write() as db:
            rows = [(number, f"person {number}", int(clock.now) + 60) for number in range(gone)]
            db.executemany("INSERT INTO people (id, name, expires) VALUES (?, ?, ?)", rows)
            rest = [(number, f"person {number}") for number in range(gone, gone + others)]
            db.executemany("INSERT INTO people (id, name) VALUES (?, ?)", rest)
        clock.move(minutes=1)
        if refused:
            with pytest.raises(MassExpiryError, match=f"that is more than a tenth of {gone + others}"):
                gallery.forget_expired()
            assert gallery.count() == (gone + others, 0)
        assert len(gallery.forget_expired(confirmed=refused)) == gone


@pytest.mark.parametrize(("source", "into", "left"), [(1, 2, 1), (2, 1, 1), (None, 1, 1), (1, None, 1)])
def test_of_two_days_the_earlier_holds_after_a_merge(
    gallery: Gallery, source: int | None, into: int | None, left: int
) -> None:
    for name, colour, days in (("Red", toy.RED, source), ("Blue", toy.BLUE, into)):
        gallery.enroll(name, [face(colour, name)], expires=None if days is None else in_days(days))
    gallery.merge("Red", "Blue")
    assert gallery.person("Blue").expires == in_days(left)


def test_several_people_who_have_expired_are_passed_over(
    tmp_path: Path, toy_recognizer: Recognizer, clock: Clock
) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer, clock=clock) as gallery:
        enroll_turned(gallery, {f"person {degrees}": [degrees] for degrees in range(0, 90, 3)})
        for degrees in (0, 3, 6, 9):
            gallery.expire(f"person {degrees}", in_days(1))
        clock.move(days=1)
        names = [match.name for match in identify_one(gallery, toy.row_of(toy.RED), closed_set=True).matches]
        assert names == [f"person {degrees}" for degrees in (12, 15, 18, 21, 24)]


def test_a_trial_of_other_weights_passes_over_who_has_expired(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    path = tmp_path / "people.db"
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)], expires=datetime(2100, 1, 1, tzinfo=UTC))
    Upgrade.open(path, "another pipeline").close()
    with Gallery.open(f"{path}.upgraded") as trial:
        assert trial.person("Red").expires == datetime(2100, 1, 1, tzinfo=UTC)


def test_a_damaged_day_is_an_error_of_the_gallery(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        with gallery._db.write() as db:
            db.execute("UPDATE people SET expires = 'soon'")
        with pytest.raises(GalleryFileError, match="damaged: when a person expires cannot be read"):
            gallery.people()


# The command line


def test_people_are_enrolled_for_a_time_and_expire(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "red.png", toy.RED)
    toy.save(tmp_path / "blue.png", toy.BLUE)
    assert run("enroll", "Rosa", "red.png", "--expire-after", "2100-01-01").exit_code == 0
    run("enroll", "Bo", "blue.png")
    assert "2100-01-01T00:00:00+00:00" in run("people").stdout
    assert json.loads(run("people", "--json").stdout.splitlines()[0])["expires"] is None
    changed = run("expire", "2100-01-02", "--everyone")
    assert changed.stdout == "1 person expires: 2100-01-02T00:00:00+00:00\n"
    assert run("expire", "never", "Rosa").stdout == "1 person expires: never\n"
    with Gallery.open(tmp_path / "people.db", clock=lambda: NOW.timestamp()) as gallery:
        gallery.expire("Bo", in_days(1))
    bo = gallery_number(tmp_path / "people.db", "Bo")
    result = run("forget", "--expired", "--yes", "--json")
    receipt = json.loads(result.stdout)
    assert (receipt["reason"], receipt["person"], receipt["faces"]) == ("expire", bo, 1)
    assert [json.loads(line)["name"] for line in run("people", "--json").stdout.splitlines()] == ["Rosa"]
    assert run("forget", "--expired", "--yes").stdout == ""


def test_the_command_deletes_nobody_after_a_jump_until_it_is_told_yes(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "red.png", toy.RED)
    run("embed", "red.png", "-o", "rows.npz")
    with Gallery.open(tmp_path / "people.db", toy.make_recognizer(), clock=lambda: 1e9) as gallery:
        gallery.enroll("Red", [face(toy.RED)], expires=datetime(2001, 12, 1, tzinfo=UTC))
    refused = run("forget", "--expired")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "days after its last entry; if the clock is right, confirm with" in refused.stderr
    assert json.loads(run("people", "--json").stdout)["name"] == "Red"
    assert run("forget", "--expired", "--yes").exit_code == 0
    assert run("people", "--json").stdout == ""


def gallery_number(path: Path, name: str) -> int:
    """Return the number of a person in a file."""
    with Gallery.open(path) as gallery:
        return gallery.person(name).number


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["enroll", "Rosa", "red.png", "--expire-after", "soon"], 3, "nobody can expire at 'soon': give days"),
        (["enroll", "Rosa", "red.png", "--expire-after", "never"], 3, "give days such as '365d'"),
        (["expire", "1999-01-01", "Rosa"], 3, "it has passed"),
        (["expire", "0d", "Rosa"], 3, "there must be 1 to 36,525 days"),
        (["expire", "1d", "Nobody"], 3, "nobody named 'Nobody' is enrolled"),
        (["expire", "1d"], 2, "give NAMES, or --everyone"),
        (["expire", "1d", "Rosa", "--everyone"], 2, "give NAMES, or --everyone"),
    ],
)
def test_what_cannot_be_said_of_a_time_changes_nothing(
    run: Run, tmp_path: Path, words: list[str], code: int, reason: str
) -> None:
    toy.save(tmp_path / "red.png", toy.RED)
    run("enroll", "Rosa", "red.png")
    result = run(*words)
    assert (result.exit_code, reason in result.stderr) == (code, True)
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert gallery.person("Rosa").expires is None
