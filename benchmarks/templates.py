"""Search people by one template each: the times, beside a search of all their faces.

    python benchmarks/templates.py FOLDER [--people 200000] [--each 5]

FOLDER keeps a gallery of made-up people: directions drawn at random, each with faces about it. Per probe: the
templates, and all faces. Known people and strangers take turns.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from report import print_table
from sameface.arrays import Embeddings
from sameface.embed import unit_rows
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.records import Rule
from sameface.thresholds import Thresholds
from timing import alternate

WIDTH, SPREAD = 128, 0.05
BOX = np.array([0, 0, 9, 9], np.float32)
ROUNDS = 7


class Pipeline:
    """What a gallery asks of a recognizer."""

    signature = "made-up"
    thresholds = Thresholds((0.1, 1e-9), (1.6, 0.3), (1000, 1), 10**9, "made-up people")


def make_people(count: int, each: int, seed: int) -> Embeddings:
    """Return `(count, each, WIDTH) float32` unit rows, those of a person about one direction."""
    rng = np.random.default_rng(seed)
    middle = unit_rows(rng.standard_normal((count, WIDTH), np.float32))
    noise = SPREAD * rng.standard_normal((count, each, WIDTH), np.float32)
    return unit_rows((middle[:, None] + noise).reshape(-1, WIDTH)).reshape(count, each, WIDTH)


def fill(path: Path, count: int, each: int) -> None:
    """Enroll the people, in one transaction for speed; the gallery's own code makes the templates."""
    with Gallery.open(path, Pipeline()) as gallery:
        gallery.enroll("first", [Template("first", BOX, 1.0, np.eye(1, WIDTH, dtype=np.float32)[0])])
        with gallery._db.write() as db:
            db.execute("INSERT INTO pictures (id, sha256) VALUES (9000000, 'made-up')")
            face = 10
            for start in range(0, count, 10_000):
                rows = make_people(min(10_000, count - start), each, start)
                people = range(10_000_000 + start, 10_000_000 + start + len(rows))
                db.executemany(  # type: ignore[attr-defined]
                    "INSERT INTO people (id, name) VALUES (?, ?)", [(n, f"person {n}") for n in people]
                )
                values = []
                for person, own in zip(people, rows, strict=True):
                    for row in own:
                        face += 1
                        values.append((face, person, row.tobytes()))
                db.executemany(  # type: ignore[attr-defined]
                    """INSERT INTO faces (id, person_id, picture_id, "left", top, "right", bottom, score,
                       embedding) VALUES (?, ?, 9000000, 0, 0, 1, 1, 1, ?)""",
                    values,
                )
            db.execute("UPDATE numbers SET last = 100000000")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--each", type=int, default=5)
    given = parser.parse_args()
    path = given.folder / f"people-{given.people}-{given.each}.db"
    if not path.exists():
        fill(path, given.people, given.each)
    probes = make_people(64, 1, 0)[:, 0]
    strangers = make_people(64, 1, 10**6)[:, 0]
    rows = []
    with Gallery.open(path, Pipeline()) as gallery:
        for rule in ("template", "rows"):
            rows.append((rule, *time_rule(gallery, rule, probes, strangers)))
    columns = ("compared with", "first ms", "one probe ms", "a stranger ms", "64 probes ms", "memory MB")
    print_table(columns, rows)
    print("times: " + ", ".join(f"{float(b) / float(a):.1f}" for a, b in zip(rows[0][1:5], rows[1][1:5], strict=True)))


def time_rule(gallery: Gallery, rule: Rule, probes: Embeddings, strangers: Embeddings) -> tuple[str, ...]:
    """Return the milliseconds of the first search, one probe, a stranger, 64 probes, and the memory."""
    start = time.perf_counter()
    gallery.identify(probes[:1], rule=rule)
    first = time.perf_counter() - start
    numbers = iter(range(10**6))
    steps = {
        "one": lambda: gallery.identify(probes[(n := next(numbers) % 64) : n + 1], rule=rule),
        "stranger": lambda: gallery.identify(strangers[(n := next(numbers) % 64) : n + 1], rule=rule),
        "many": lambda: gallery.identify(probes, rule=rule),
    }
    medians = [float(np.median(times)) for times in alternate(steps, rounds=ROUNDS).values()]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (*(f"{1000 * each:.1f}" for each in (first, *medians)), f"{memory:.0f}")


if __name__ == "__main__":
    main()
