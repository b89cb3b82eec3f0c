"""Feed sameface with damaged files and count what becomes of them: no crash, no hang, no error but ours.

    python benchmarks/fuzz.py pictures --cases 100000 --keep found/
    python benchmarks/fuzz.py pictures --first 4711 --cases 1 --keep found/

The second line reads one file again. Every file follows from its number, with the same versions of Pillow
and NumPy. A process of its own reads them and is watched: a crash, more than 5 seconds of the processor or
more than 1 GB of memory for one file, or an error that is none of ours, is a failure; its file and what is
known of it are kept. Exit code 1 if there is one. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from fuzzing.child import Told, make_case, work
from fuzzing.targets import TARGETS
from report import print_table

SECONDS = 5.0  # of the processor, for one file
WALL_SECONDS = 600.0  # in which a busy machine gets to the end of a file too: over it the process waits for nothing
MEGABYTES = 1000.0
LOOK = 0.5  # seconds between two looks at a process that is silent
LIFE = 5000  # files until a fresh process goes on
FAILURES = ("bug", "crash", "hang", "memory")


class Reader:
    """A process that reads files, watched."""

    def __init__(self, name: str, numbers: range) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(name, numbers, theirs))
        self._process.start()
        theirs.close()
        self._current = numbers.start
        self._since = (0.0, time.monotonic())  # the processor's seconds, and the clock, when it began
        self._killed = False

    def next_told(self) -> Told | None:
        """Return what became of the next file, or None at the end."""
        while True:
            if self._pipe.poll(LOOK):
                try:
                    message = self._pipe.recv()
                except EOFError:
                    return None
                if isinstance(message, Told):
                    return message
                self._current, self._since = message, (self._processor_seconds(), time.monotonic())
            elif self._is_over():
                self._killed = True
                self._process.kill()

    def last_words(self) -> Told | None:
        """Return what became of the file at which the process ended, or None if it ended well."""
        self._process.join()
        if self._process.exitcode == 0:
            return None
        outcome = "hang" if self._killed else "crash"
        reason = f"the process ended with {self._process.exitcode}"
        return Told(self._current, "?", outcome, 0.0, 0.0, reason)

    def _is_over(self) -> bool:
        """Return whether the file has had its time."""
        used, clock = self._since
        return self._processor_seconds() - used > SECONDS or time.monotonic() - clock > WALL_SECONDS

    def _processor_seconds(self) -> float:
        """Return the seconds that the processor has worked for the process."""
        try:
            words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def feed(name: str, numbers: range) -> Iterator[Told]:
    """Yield what becomes of each file, in order, in as many processes as it takes."""
    while numbers:
        reader = Reader(name, numbers[:LIFE])
        last = numbers.start - 1
        while (told := reader.next_told()) is not None:
            last = told.number
            yield judge(told)
        if (told := reader.last_words()) is not None:
            last = told.number
            yield told
        numbers = numbers[last + 1 - numbers.start :]


def judge(told: Told) -> Told:
    """Return what became of a file, with a limit that was passed as the outcome."""
    if told.outcome == "bug":
        return told
    if told.seconds > SECONDS:
        return replace(told, outcome="hang", fault=f"{told.outcome} after {told.seconds:.1f} s")
    if told.megabytes > MEGABYTES:
        return replace(told, outcome="memory", fault=f"{told.outcome} with {told.megabytes:,.0f} MB")
    return told


def keep(told: Told, name: str, folder: Path) -> None:
    """Write down a failure and its file."""
    kind, data = make_case(TARGETS[name](), told.number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{told.number}").write_bytes(data)
    facts = asdict(replace(told, kind=kind))
    (folder / f"{name}-{told.number}.json").write_text(json.dumps(facts, indent=1))


def print_counts(name: str, counts: Counter[tuple[str, str]]) -> None:
    """Print how many files of each kind had each outcome."""
    kinds = sorted({kind for kind, _ in counts})
    outcomes = sorted({outcome for _, outcome in counts})
    rows = [[kind, *(f"{counts[kind, outcome]:,}" for outcome in outcomes)] for kind in kinds]
    sums = [sum(counts[kind, outcome] for kind in kinds) for outcome in outcomes]
    print_table([name, *outcomes], [*rows, ["all", *(f"{number:,}" for number in sums)]])


def run(name: str, numbers: range, folder: Path) -> int:
    """Feed files with these numbers, print the counts and return how many failed."""
    counts: Counter[tuple[str, str]] = Counter()
    slowest, largest = 0.0, 0.0
    for told in feed(name, numbers):
        counts[told.kind, told.outcome] += 1
        slowest, largest = max(slowest, told.seconds), max(largest, told.megabytes)
        if told.outcome in FAILURES:
            keep(told, name, folder)
            print(f"{told.number}: {told.kind} {told.outcome} {told.fault}", file=sys.stderr, flush=True)
        if counts.total() % 1000 == 0:
            print(f"{counts.total():,} of {len(numbers):,}", file=sys.stderr, flush=True)
    print_counts(name, counts)
    failed = sum(count for (_, outcome), count in counts.items() if outcome in FAILURES)
    print(f"{counts.total():,} files, {failed} failures; slowest {slowest:.2f} s, most memory {largest:,.0f} MB")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="where failures are kept")
    given = parser.parse_args()
    return 1 if run(given.target, range(given.first, given.first + given.cases), given.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
