"""Kill programs that change a gallery, at random moments and on a full disk: nothing is lost or comes back.

    python benchmarks/crash.py --runs 500

A program enrolls, forgets, renames, merges and groups people as fast as it can, makes backups and restores
the last of them, in a gallery that the run before left: a small one, or one of over 20,000 faces. Every fifth
run is on a small disk, which is filled to the last page, then freed, so that the program must go on, and is
made read-only in the end; that takes Linux and root, and is left out elsewhere. The program's clock jumps up to
a century at every step, and the program is halted now and then. Then it is killed (SIGKILL).

After each kill the file must be sound (`integrity_check`), hold what was acknowledged and nothing else but,
whole or not at all, what was in hand, and answer as a comparison with every face does; the audit log must be a
whole chain; every backup must be whole, and after a restore nobody may be back who was deleted since; and no
byte may be left of the name, the hash of a picture or the row of anybody whose deletion was acknowledged.

Other programs encrypt and decrypt a gallery, change its keys and move it to other pipelines (`--only keys`).
After each kill exactly one key opens it and all rows are right; a step that was told as a failure must not be
done. Exit code 1 if one of this fails. POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from crashing import disk
from crashing.child import live, make_templates, take
from crashing.faults import Told, check_copies, find_faults, words_of
from crashing.keys import KeyRecord, State, find_state, live_with_keys, make_gallery
from crashing.model import CROWD, CROWDS, EACH, Copy, People, Pipeline, pictures_of
from report import print_table
from sameface.errors import SamefaceError
from sameface.gallery import Gallery

LONGEST = 1.0  # seconds until a program is killed
LARGE_LONGEST = 4.0  # where a step takes longer
PATIENCE = 60.0  # seconds in which a program has begun, and goes on once there is room
LEAST_FREE = 300_000  # bytes that a full disk may have left at most
HALT = 0.2  # seconds
SMALL_DISK, LARGE_DISK = (16, 160)  # megabytes; a log of SQLite's may reach 4 before it is emptied, and there are two

Message = tuple[str, Any]


@dataclass
class Place:
    """A gallery that programs are killed over, again and again.

    Attributes:
        folder: Where nothing else is.
        longest: Seconds until a program is killed.
        on_disk: The folder is a disk of its own.
        people: Who is enrolled.
        gone: Of whom no byte may be left.
        copy: The last backup; None without one.
    """

    folder: Path
    longest: float = LONGEST
    on_disk: bool = False
    people: People = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    copy: Copy | None = None

    @property
    def path(self) -> Path:
        """The gallery."""
        return self.folder / "people.db"


@dataclass
class KeyPlace:
    """A gallery whose keys are changed and which is moved to other pipelines, as `Place`.

    Attributes:
        folder: Where nothing else is.
        longest: Seconds until a program is killed.
        on_disk: The folder is a disk of its own.
        state: The key that opens it, and its pipeline.
    """

    folder: Path
    longest: float = LONGEST
    on_disk: bool = False
    state: State = field(default_factory=State)

    @property
    def path(self) -> Path:
        """The gallery."""
        return self.folder / "people.db"


class Life:
    """A program that is alive, and what it tells."""

    def __init__(self, place: Place | KeyPlace, seed: int) -> None:
        context = multiprocessing.get_context("forkserver")  # which forks before any thread is started
        context.set_forkserver_preload(
            ["crashing.child", "crashing.keys", "fastcluster"]
        )  # which takes longer than a life
        self._pipe, theirs = context.Pipe(duplex=False)
        target: Callable[..., None] = live_with_keys if isinstance(place, KeyPlace) else live
        known = (place.state,) if isinstance(place, KeyPlace) else (place.people, place.copy)
        self._process = context.Process(target=target, args=(place.path, *known, seed, theirs))
        self._process.start()
        theirs.close()
        self.messages: list[Message] = []
        self._pipe.poll(PATIENCE)  # the first step begins

    def hear(self) -> None:
        """Take in what it has told."""
        self.messages += receive(self._pipe)

    def goes_on(self) -> bool:
        """Return whether it acknowledges another step in time."""
        self.hear()
        before, end = len(self.messages), time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.is_alive():
            self.hear()
            if any(word == "done" for word, _ in self.messages[before:]):
                return True
            self._pipe.poll(0.05)
        return False

    def halt(self) -> None:
        """Let it stand still for a moment, as a machine that sleeps does."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        time.sleep(HALT)
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> list[str]:
        """End it, and take in its last words; return a fault if it ended by itself."""
        self._process.kill()
        self._process.join()
        self.hear()
        code = self._process.exitcode
        return [] if code == -signal.SIGKILL else [f"it ended by itself with {code}"]


def receive(pipe: Connection) -> Iterator[Message]:
    """Yield what is in a pipe; a message in the middle of which the program was killed was not told."""
    try:
        while pipe.poll(0):
            yield pipe.recv()
    except (EOFError, OSError):
        return


def kill_one(place: Place | KeyPlace, seed: int) -> tuple[list[Message], list[str]]:
    """Let a program live for a while; return what it told, and what was wrong meanwhile."""
    rng, faults = random.Random(-seed), list[str]()
    life = Life(place, seed)
    if place.on_disk:
        time.sleep(rng.uniform(0, place.longest))
        disk.fill(place.folder, rng.randrange(LEAST_FREE))
        time.sleep(rng.uniform(0, place.longest))
        disk.free(place.folder)
        if not life.goes_on():
            faults.append(f"it does not go on after {PATIENCE:.0f} s with room again")
    time.sleep(rng.uniform(0, place.longest))
    if rng.random() < 0.1:
        life.halt()
    return life.messages, faults + life.kill()


def run_one(place: Place, seed: int) -> tuple[list[str], Counter[str]]:
    """Kill one program; return what is wrong then, and how many steps of each kind were done or cut."""
    messages, faults = kill_one(place, seed)
    told = Told.replay(place.people, messages, place.copy)
    place.gone |= told.gone
    if place.on_disk:
        faults += try_read_only(place)
    place.people, found = find_faults(place.path, told.allowed, place.gone, told.gone)
    told.settle(place.people)
    place.copy = told.copy
    place.gone -= words_of(place.people)
    found += check_copies(place.path.parent / "copies", place.copy)
    return faults + told.faults + found, told.counts


def run_keys(place: KeyPlace, seed: int) -> tuple[list[str], Counter[str]]:
    """Kill one program that changes keys; return as `run_one` does."""
    messages, faults = kill_one(place, seed)
    record = KeyRecord.replay(place.state, messages)
    place.state, found = find_state(place.path, record)
    return faults + record.faults + found, record.counts


def try_read_only(place: Place) -> list[str]:
    """Return what is wrong with what a gallery does on a disk that is read-only: one error, no change."""
    before, faults = digest(place.folder), list[str]()
    with disk.read_only(place.folder):
        try:
            with Gallery.open(place.path, Pipeline()) as gallery:
                take(gallery, ("enroll", "nobody"))
            faults.append("somebody was enrolled on a disk that is read-only")
        except SamefaceError:
            pass
    return faults + ["a read-only disk was written to"] * (digest(place.folder) != before)


def digest(folder: Path) -> dict[str, str]:
    """Return what stands for the content of each file."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


def make_crowd(path: Path) -> People:
    """Make a gallery with many people, and return who is in it."""
    people = {}
    with Gallery.open(path, Pipeline()) as gallery:
        for number in range(CROWDS):
            pictures = [each for turn in range(EACH // 2) for each in pictures_of(f"{number} {turn}")]
            people[f"{CROWD}-{number}"] = frozenset(pictures)
            gallery.enroll(f"{CROWD}-{number}", make_templates(pictures))
    return people


def make_key_places(folder: Path, stack: ExitStack) -> list[KeyPlace]:
    """Return where programs that change keys are killed, in turn; without small disks only the first."""
    places = [KeyPlace(folder / "keys")]
    places[0].folder.mkdir()
    try:
        where = stack.enter_context(disk.small_disk(folder / "keys-disk", SMALL_DISK))
        places.append(KeyPlace(where, on_disk=True))
    except OSError as error:
        print(f"without full disks: {error}", flush=True)
    for place in places:
        make_gallery(place.path)
    return places


def make_places(folder: Path, stack: ExitStack) -> list[Place]:
    """Return where programs are killed, in turn; without small disks those on them are left out."""
    places = [Place(folder / name) for name in ("small", "large")]
    places[1].longest = LARGE_LONGEST
    for place in places:
        place.folder.mkdir()
    places[1].people = make_crowd(places[1].path)
    try:
        for place, megabytes in zip(list(places), (SMALL_DISK, LARGE_DISK), strict=True):
            where = stack.enter_context(disk.small_disk(folder / f"{place.folder.name}-disk", megabytes))
            places.append(Place(where, place.longest, on_disk=True, people=place.people))
        shutil.copy(places[1].path, places[3].path)
    except OSError as error:
        print(f"without full and read-only disks: {error}", flush=True)
        return places[:2]
    return places


def run(runs: int, folder: Path, only: str) -> tuple[list[str], dict[str, Counter[str]]]:
    """Kill so many programs; return every fault, and what was done and cut in each place."""
    faults: list[str] = []
    counts: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        turns: list[Place | KeyPlace] = []
        if only != "keys":
            places = make_places(folder, stack)
            turns += [*[places[0]] * 7, *places[1:]]
        if only != "people":
            turns += make_key_places(folder, stack) * 2
        for seed in range(runs):
            place = turns[seed % len(turns)]
            wrong, steps = run_keys(place, seed) if isinstance(place, KeyPlace) else run_one(place, seed)
            counts.setdefault(place.folder.name, Counter()).update(steps)
            counts[place.folder.name]["kills"] += 1
            faults += wrong
            for fault in wrong:
                print(f"run {seed} ({place.folder.name}): {fault[:600]}", flush=True)
            if (seed + 1) % 50 == 0:
                print(f"{seed + 1} of {runs} kills, {len(faults)} faults", file=sys.stderr, flush=True)
    return faults, counts


def print_counts(counts: dict[str, Counter[str]]) -> None:
    """Print what became of the steps in each place."""
    kinds = sorted({kind.partition(",")[0] for steps in counts.values() for kind in steps})
    rows = []
    for name, steps in counts.items():
        for kind in kinds:
            cells = [str(steps[f"{kind}{end}"]) for end in ("", ", cut", ", failed")]
            rows.append([f"{name}: {kind}", *cells])
    print_table(["steps", "done", "cut", "failed"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", default="", choices=["", "people", "keys"], help="Kill only these programs.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults, counts = run(given.runs, Path(folder), given.only)
    print_counts(counts)
    print(f"{given.runs} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
