"""People whose time is over: set, listed, not named, deleted with a receipt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sameface.errors import BadExpiryError
from sameface.gallery.expiry import parse_expiry, to_seconds

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
