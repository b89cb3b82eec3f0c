"""Kill programs that enroll, merge and forget, at random moments, and see that nothing is lost or comes back.

    python benchmarks/crash.py --runs 500

Every run goes on with the gallery file that the run before left. After each kill (SIGKILL) the file must be
sound (`integrity_check`), and hold what was acknowledged and nothing else but, whole or not at all, what was
in hand; no byte may be left of the name of anybody whose deletion or merge was acknowledged. Exit code 1 if
one of this fails. POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sameface.gallery import Gallery
from sameface.manifest import Thresholds
from sameface.template import Template

People: TypeAlias = dict[str, int]  # how many faces each person has
Step: TypeAlias = tuple[str, ...]  # what to do, and with whom

LONGEST = 0.3  # seconds until a program is killed


class Pipeline:
    """What a gallery must know of who made its rows."""

    signature = "noise"
    thresholds = Thresholds((0.1, 0.01), (0.4, 0.2), (100, 10), 1000, "noise")


def choose(people: People, rng: random.Random, number: int) -> Step:
    """Return the next step: half of them enroll, as long as there are few people nearly all."""
    names = sorted(people)
    dice = rng.random() if len(names) > 5 else 0
    if dice < 0.5:
        return ("enroll", f"person-{number}-{rng.randrange(10**9):09d}")
    if dice < 0.75:
        return ("forget", rng.choice(names))
    return ("merge", *rng.sample(names, 2))


def apply(people: People, step: Step) -> People:
    """Return who is enrolled after a step."""
    match step:
        case ("enroll", name):
            return people | {name: 2}
        case ("forget", name):
            return {other: faces for other, faces in people.items() if other != name}
        case ("merge", source, into):
            merged = people | {into: people[into] + people[source]}
            return {name: faces for name, faces in merged.items() if name != source}
    raise ValueError(f"no step: {step}")


def hash_of(name: str, half: str) -> str:
    """Return the hash of a picture; it stays with the face when its person is merged, the name must not."""
    return hashlib.sha256(f"{name} {half}".encode()).hexdigest()


def take(gallery: Gallery, step: Step) -> None:
    """Do a step."""
    match step:
        case ("enroll", name):
            row, box = np.eye(1, 8, dtype=np.float32)[0], np.array([0, 0, 9, 9], np.float32)
            gallery.enroll(name, [Template(hash_of(name, half), box, 1.0, row) for half in "ab"])
        case ("forget", name):
            gallery.forget(name)
        case ("merge", source, into):
            gallery.merge(source, into)


def live(path: Path, people: People, seed: int, pipe: Connection) -> None:
    """Take steps until the end, and tell of each before and after."""
    rng = random.Random(seed)
    with Gallery.open(path, Pipeline()) as gallery:
        for number in range(10**6):
            step = choose(people, rng, number)
            pipe.send(("begin", step))
            take(gallery, step)
            pipe.send(("done", step))
            people = apply(people, step)


def kill_one(path: Path, people: People, seed: int) -> tuple[list[Step], Step | None]:
    """Let a program live for a while; return the steps it acknowledged, and the one in hand."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=live, args=(path, people, seed, theirs))
    process.start()
    theirs.close()
    assert process.pid is not None
    ours.poll(60)  # the first step begins
    time.sleep(random.Random(-seed).uniform(0, LONGEST))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    messages = list(receive(ours))
    done = [step for word, step in messages if word == "done"]
    return done, messages[-1][1] if messages and messages[-1][0] == "begin" else None


def receive(pipe: Connection) -> Iterator[tuple[str, Step]]:
    """Yield what a program has told until it ended."""
    try:
        while pipe.poll(0):
            yield pipe.recv()
    except EOFError:
        return


def find_faults(path: Path, allowed: list[People], gone: set[str]) -> list[str]:
    """Return what is wrong with the file after a kill."""
    with Gallery.open(path, Pipeline()) as gallery:
        found = {person.name: person.faces for person in gallery.people()}
    db = sqlite3.connect(path)
    checks = [row[0] for row in db.execute("PRAGMA integrity_check")]
    orphans = db.execute("PRAGMA foreign_key_check").fetchall()
    db.close()
    faults = [] if checks == ["ok"] and not orphans else [f"the file is not sound: {checks} {orphans}"]
    if found not in allowed:
        faults.append(f"enrolled are {found}, wanted one of {allowed}")
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    return faults + [f"a trace of {name}" for name in sorted(gone) if name.encode() in data]


def run(runs: int, folder: Path) -> tuple[list[str], Counter[str]]:
    """Kill so many programs; return every fault, and how many steps of each kind were done or cut."""
    path, gone = folder / "people.db", set[str]()
    people: People = {}
    faults: list[str] = []
    counts: Counter[str] = Counter()
    for seed in range(runs):
        done, cut = kill_one(path, people, seed)
        for step in done:
            people = apply(people, step)
        allowed = [people, *([apply(people, cut)] if cut else [])]
        gone |= {step[1] for step in done if step[0] != "enroll"}
        faults += [f"run {seed}: {fault}" for fault in find_faults(path, allowed, gone)]
        counts.update([*(step[0] for step in done), *([f"{cut[0]}, cut" if cut else "between steps"])])
        with Gallery.open(path, Pipeline()) as gallery:
            people = {person.name: person.faces for person in gallery.people()}
    return faults, counts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults, counts = run(given.runs, Path(folder))
    print("\n".join(faults))
    print(f"{given.runs} kills, {len(faults)} faults; steps: {dict(sorted(counts.items()))}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
