"""Batch work: pictures per second of one process and of two, on the same pictures in turn.

    python benchmarks/batch.py [FOLDER_OR_TAR ...]

Without sources the samples are taken, again and again with another content each. The whole run counts:
starting the processes, reading, searching, keeping the journal. Three ways take turns: one process on one
core, one process on all cores, which is the default of the commands, and a process for each of two cores.
The target is on the first and the last. Exit code 1 if it is missed, or if the three do not find the same
to the byte. Run it while nothing else runs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from peer import ROOT, describe
from report import Target, print_table, print_targets
from sameface.batch import Finder, Journal, embed_pictures, open_pictures
from sameface.recognizer import Recognizer
from timing import alternate

WORKERS = 2


def write_copies(folder: Path, count: int) -> list[str]:
    """Write so many pictures, the samples in turn, each with a content of its own."""
    samples = sorted((ROOT / "samples").glob("*.jpg"))
    for number in range(count):
        data = samples[number % len(samples)].read_bytes() + number.to_bytes(4, "big")
        (folder / f"{number:05d}.jpg").write_bytes(data)
    return [str(folder)]


def run_batch(sources: list[str], count: int, finder: Finder, workers: int, digests: set[str]) -> None:
    """Search every picture, with a journal on disk, and note the digest of all that is found."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder, "journal")) as journal:
        pictures = islice(open_pictures(sources), count)
        for result in embed_pictures(pictures, finder, workers=workers, journal=journal):
            digest.update(result.sha256.encode())
            digest.update(b"" if result.found is None else result.found.rows.tobytes())
    digests.add(digest.hexdigest())


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", nargs="*", help="Folders, tar files or Parquet files.")
    parser.add_argument("--count", type=int, default=400, help="How many pictures.")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    single, default = Finder(Recognizer.load(threads=1)), Finder(Recognizer.load())
    digests: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        sources = given.sources or write_copies(Path(folder), given.count)
        count = sum(1 for _ in islice(open_pictures(sources), given.count))
        ways: dict[str, tuple[Finder, int]] = {
            "1 process, 1 core": (single, 1),
            "1 process, all cores": (default, 1),
            f"{WORKERS} processes, 1 core each": (single, WORKERS),
        }
        steps: dict[str, Callable[[], object]] = {
            name: partial(run_batch, sources, count, *way, digests) for name, way in ways.items()
        }
        seconds = alternate(steps, rounds=given.rounds)
    rates = {name: count / median(times) for name, times in seconds.items()}
    first, _, last = rates
    rows = [[name, f"{rate:.1f}", f"{rate / rates[first]:.2f}"] for name, rate in rates.items()]
    print_table(["way", "pictures/s", "times the first"], rows)
    print(f"{count} pictures, median of {given.rounds} rounds; {os.cpu_count()} cores; {describe()}\n")
    return print_targets(
        [
            Target("two processes to one, on one core each", rates[last] / rates[first], 1.7, at_least=True),
            Target("different results among the ways", len(digests) - 1, 1),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
