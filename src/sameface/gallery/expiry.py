"""The expiry of people: moments in words, and when a deletion needs a confirmation."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sameface.gallery.backend import Backend, Transaction
from sameface.gallery.errors import BadExpiryError, MassExpiryError

NEVER = "never"
MOST_DAYS = 36_525  # a hundred years
DAY = 86_400  # seconds
LONGEST_JUMP = 30 * DAY  # of the clock, from one moment that the gallery has noted to the next
FEW = 20  # people may expire at once in a gallery of any size
PART = 10  # beyond them, one in so many people
# At a moment, in seconds since 1970. With the plus SQLite takes the index on `expires`: each search asks.
EXPIRED = "SELECT id FROM people WHERE expires <= ? ORDER BY +id"
WANTED = "give days such as '365d', or a date such as '2030-01-31'"


def parse_expiry(words: str, now: float) -> datetime | None:
    """Return a moment as `parse_moment` does; None for `never`."""
    return None if words.strip() == NEVER else parse_moment(words, now)


def show_expiry(expires: datetime | None) -> str | None:
    """Return a moment in ISO 8601; None for never."""
    return None if expires is None else expires.isoformat()


def parse_moment(words: str, now: float) -> datetime:
    """Return the moment that words name: `365d` from now, or `2030-01-31`, the beginning of that day in UTC.

    Raises:
        BadExpiryError: They are neither, or the moment has passed.
    """
    given = words.strip()
    if re.fullmatch(r"[0-9]{1,9}d", given):
        days = int(given[:-1])
        if not 1 <= days <= MOST_DAYS:
            raise BadExpiryError(words, f"there must be 1 to {MOST_DAYS:,} days")
        return datetime.fromtimestamp(int(now), UTC) + timedelta(days=days)
    try:
        day = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadExpiryError(words, WANTED) from error
    return datetime.fromtimestamp(to_seconds(day, now), UTC)


def to_seconds(expires: datetime, now: float) -> int:
    """Return a moment in whole seconds since 1970, as a gallery keeps it.

    Raises:
        BadExpiryError: It has passed, or is over a hundred years away.
        ValueError: It has no time zone.
    """
    if expires.tzinfo is None:
        raise ValueError(f"expires must have a time zone, got {expires!r}")
    seconds = int(expires.timestamp())
    if seconds <= now:
        raise BadExpiryError(expires.isoformat(), "it has passed: give a day to come, or forget the person")
    if seconds > now + (MOST_DAYS + 1) * DAY:
        raise BadExpiryError(expires.isoformat(), "it is over a hundred years away")
    return seconds


def check_expiry(database: Backend, now: float) -> None:
    """Raise if deleting everybody who has expired needs a confirmation.

    Raises:
        MassExpiryError: The clock has jumped ahead by over 30 days, or over 20 people and over a tenth of all
            would be deleted at once.
    """
    query = """SELECT (SELECT count(*) FROM people WHERE expires <= ?), (SELECT count(*) FROM people), clock
               FROM numbers"""
    [(gone, everybody, noted)] = database.read(query, now)
    if not gone:
        return
    if noted is not None and now - noted > LONGEST_JUMP:
        days = (now - noted) / DAY
        raise MassExpiryError(database.path, gone, f"the clock is {days:.0f} days after its last entry")
    if gone > FEW and PART * gone > everybody:
        raise MassExpiryError(database.path, gone, f"that is more than a tenth of {everybody}")


def note_clock(db: Transaction, now: float) -> None:
    """Note the moment of a change, unless the clock has jumped ahead past the expiry of somebody."""
    moment = int(now)
    query = """UPDATE numbers SET clock = ? WHERE clock IS NULL OR clock >= ?
               OR NOT EXISTS (SELECT 1 FROM people WHERE expires <= ?)"""
    db.execute(query, (moment, moment - LONGEST_JUMP, moment))


def needs_note(database: Backend, now: float) -> bool:
    """Return whether somebody will expire, and the clock was not noted during the last day."""
    query = """SELECT 1 FROM numbers WHERE (clock IS NULL OR clock < ? OR clock > ?)
               AND EXISTS (SELECT 1 FROM people WHERE expires IS NOT NULL)"""
    return bool(database.read(query, int(now) - DAY, int(now)))
