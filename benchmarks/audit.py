"""What an audit log of a million entries costs who writes into it.

    python benchmarks/audit.py FOLDER [--entries N] [--seconds S]

FOLDER keeps the log, which is made anew. An entry is written every 10 ms, for S seconds (5 unless given):
while nothing else happens, while a thread or another process verifies the log, while the entries of a person
and all entries are listed, and while half of the log goes by age. Printed is how long it all took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from report import print_table
from sameface.gallery import hash_chain
from sameface.service import app
from sameface.service.access_file import Access
from sameface.service.audit import COLUMNS, FACTS

PEOPLE = 1000
GALLERY = "a" * 32
PAUSE = 0.01
VERIFY = """import sys
from sameface.service.access_file import Access
assert Access.open(sys.argv[1]).log.verify().fault is None"""


def make_rows(entries: int) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a chain of entries, the first half of them two days old."""
    head, now = hash_chain.START, time.time()
    detail = json.dumps({"faces": 1, "named": 1})
    for number in range(1, entries + 1):
        when = now - 2 * 86_400 if number <= entries // 2 else now
        values = (when, None, "identify", GALLERY, number % PEOPLE, detail)
        head = hash_chain.hash_link(head, number, dict(zip(FACTS, values, strict=True)))
        yield (number, *values, head)


def fill(access: Access, entries: int) -> None:
    """Write many entries in one transaction."""
    with access._write() as db:
        db.executemany(f"INSERT INTO audit ({COLUMNS}) VALUES ({', '.join('?' * 8)})", make_rows(entries))
        db.execute("UPDATE chain SET (last, head) = (SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1)")


def write_while(access: Access, reading: Callable[[], bool], seconds: float) -> list[float]:
    """Return the milliseconds that each write took, made while `reading` and for `seconds` at most."""
    took, end = [], time.perf_counter() + seconds
    while reading() and time.perf_counter() < end:
        start = time.perf_counter()
        access.log.record(None, "verify", [], {"same": True})
        took.append(1000 * (time.perf_counter() - start))
        time.sleep(PAUSE)
    return took


def beside_thread(access: Access, act: Callable[[], object], seconds: float) -> tuple[list[float], float]:
    """Return what writes took while a thread did something, and how many seconds that took."""
    start, ended = time.perf_counter(), []

    def run() -> None:
        act()
        ended.append(time.perf_counter() - start)

    thread = threading.Thread(target=run)
    thread.start()
    took = write_while(access, thread.is_alive, seconds)
    thread.join()
    return took, ended[0]


def beside_process(access: Access, seconds: float) -> tuple[list[float], float]:
    """Return what writes took while another process verified the log, and how many seconds that took."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", VERIFY, access.path]) as process:
        took = write_while(access, lambda: process.poll() is None, seconds)
        assert process.wait() == 0
    return took, time.perf_counter() - start


def forget(access: Access) -> None:
    """Delete what is older than a day, as the service does."""
    while access.log.forget_entries(1):
        time.sleep(app.PAUSE_SECONDS)


def measure(access: Access, seconds: float) -> dict[str, tuple[list[float], float]]:
    """Return what writes took beside each reader."""
    return {
        "nothing else": (write_while(access, lambda: True, seconds), 0.0),
        "verify in a thread": beside_thread(access, access.log.verify, seconds),
        "verify in another process": beside_process(access, seconds),
        "the entries of a person": beside_thread(access, lambda: access.log.entries_of((GALLERY, 7)), seconds),
        "all entries": beside_thread(access, lambda: access.log.entries(10**9), seconds),
        "half of the log goes by age": beside_thread(access, lambda: forget(access), seconds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for file in given.folder.glob("people.db.access*"):
        file.unlink()
    access = Access.open(str(given.folder / "people.db.access"))
    start = time.perf_counter()
    fill(access, given.entries)
    print(f"{given.entries:,} entries in {time.perf_counter() - start:.1f} s")
    found = measure(access, given.seconds)
    print_table(
        ["beside", "reader, s", "writes", "median, ms", "99 %, ms", "longest, ms"],
        [
            [name, f"{reader:.2f}", str(len(took)), *(f"{x:.1f}" for x in np.percentile(took, [50, 99, 100]))]
            for name, (took, reader) in found.items()
        ],
    )


if __name__ == "__main__":
    main()
