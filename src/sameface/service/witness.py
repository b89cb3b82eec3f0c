"""A witness of the audit log: a place outside of it that keeps the hash of its last entry.

Whoever may write the log can make its whole chain anew. A place that only takes new lines, on another machine
or in a file that may only be appended to, shows that later.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sameface.service.access import Access
from sameface.service.errors import AccessFileError

SECONDS = 10.0  # for a URL to answer


@dataclass(frozen=True, slots=True)
class LogHead:
    """The last entry of the audit log at a moment.

    Attributes:
        number: Of the entry.
        hash: Of the entry.
        time: ISO 8601, UTC.
    """

    number: int
    hash: str
    time: str


def is_url(place: str) -> bool:
    """Return whether a place is reached over HTTP."""
    return place.startswith(("http://", "https://"))


def read_head(access: Access) -> LogHead:
    """Return the last entry of a log, as of now."""
    ends = access.ends()
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    return LogHead(ends.last, ends.head, now)


def write_head(place: str, head: LogHead) -> None:
    """Send a head to a witness: a line at the end of a file, or a POST of JSON to a URL.

    Raises:
        OSError: The witness cannot be reached, or refuses.
    """
    line = json.dumps(asdict(head)).encode()
    if is_url(place):
        request = urllib.request.Request(place, line, {"Content-Type": "application/json"})
        read_url(request)
        return
    file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(file, line + b"\n") <= len(line):
            raise OSError(f"{place}: the line was cut, the disk may be full")
        os.fsync(file)
    finally:
        os.close(file)


def read_heads(place: str) -> list[LogHead]:
    """Return what a witness keeps: the lines of a file, or of the answer to a GET of a URL.

    Raises:
        AccessFileError: It cannot be read, or holds something else.
    """
    try:
        data = read_url(urllib.request.Request(place)) if is_url(place) else Path(place).read_bytes()
    except OSError as error:
        raise AccessFileError(place, f"the witness cannot be read: {error}") from error
    return [parse_head(place, number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]


def parse_head(place: str, number: int, line: bytes) -> LogHead:
    """Return the head in a line of a witness."""
    try:
        facts: dict[str, Any] = json.loads(line)
        return LogHead(int(facts["number"]), str(facts["hash"]), str(facts["time"]))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"line {number} is not from a witness: it wants number, hash and time as JSON"
        raise AccessFileError(place, reason) from error


def read_url(request: urllib.request.Request) -> bytes:
    """Return the answer to a request.

    Raises:
        OSError: There is none, or it is an error.
    """
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found: bytes = answer.read()
    except HTTPException as error:
        raise OSError(f"{request.full_url}: {error!r}") from error
    return found
