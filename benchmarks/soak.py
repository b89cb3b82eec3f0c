"""Hours of mixed requests to a real `sameface serve`: is every answer right, and does it stay small?

    python benchmarks/soak.py --minutes 120
    python benchmarks/soak.py --minutes 10          # for every change

Clients enroll, identify, verify, detect, embed, rename, merge, forget, sort albums, send broken pictures
and wrong bodies, and hang up in the middle, so many a second as long as no more than 16 are waiting. The
pictures are made from the samples. Every answer is compared with what the library said of the same pictures
beforehand and with a plain record of who is enrolled. Beside them 1,000 idle clients, 150
that read slowly and 64 that ask for small things hold connections. Memory, file handles and threads of the
service are looked at every few seconds; of six equal parts of the time, the last must be like the second.
In the end the
service is stopped, and its gallery file must hold who is on record, and no trace of a name that is not.
Exit code 1 if something
was wrong. Ctrl-C ends it early, with what there is. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from report import Target, print_table, print_targets
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from service import resident, service
from soaking import acts, changes, rude
from soaking.acts import Act, World
from soaking.crowd import Crowd
from soaking.pictures import Album
from soaking.truth import Truth, expect

PARTS = 6  # of the time
HOUR = 3600.0
GROWTH = 5.0  # percent that memory may grow from the second part to the last
EARLY_GROWTH = 10.0  # in less than an hour, when the largest batches are still to come
HANDLES, THREADS = 4, 1  # that may come on top; connections of clients come and go
HEALTH = 1.0  # seconds that /health may take beside the crowd
BUSY = 16  # acts at once
SHOWN = 50  # wrong answers that are printed
VARIANTS, DAMAGED = 14, 40  # pictures of each sample photograph, and files that are damaged
WORD = 60.0  # seconds between two lines of progress

ACTS: dict[Act, int] = {  # how often each comes
    acts.identify: 24,
    acts.detect: 10,
    acts.embed: 8,
    acts.verify: 8,
    acts.list_people: 5,
    acts.read_person: 5,
    acts.read_service: 4,
    acts.cluster: 2,
    changes.enroll: 8,
    changes.add_faces: 4,
    changes.rename: 4,
    changes.note: 3,
    changes.merge: 3,
    changes.forget: 4,
    changes.forget_face: 4,
    rude.ask_wrongly: 8,
    rude.send_broken: 5,
    rude.hang_up: 5,
    rude.hang_up_enrolling: 2,
    rude.enroll_deaf: 1,
    rude.stall: 1,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service took at one moment.

    Attributes:
        at: Seconds since the start.
        megabytes: Resident memory.
        handles: Open files and connections.
        threads: Of its process.
        processor: Seconds of the processor since it started.
    """

    at: float
    megabytes: float
    handles: int
    threads: int
    processor: float

    @classmethod
    def take(cls, process: int, at: float) -> Sample:
        """Look at a process."""
        place = Path(f"/proc/{process}")
        words = (place / "stat").read_text().rpartition(")")[2].split()
        processor = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        handles, threads = (len(list((place / kind).iterdir())) for kind in ("fd", "task"))
        return cls(at, resident(process), handles, threads, processor)


@dataclass
class Record:
    """What came of a soak so far.

    Attributes:
        samples: Of the service.
        seconds: Of every act, by its name.
        faults: What was wrong.
        crowd: Idle, slow and small clients beside the acts.
    """

    samples: list[Sample] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)
    crowd: Crowd | None = None

    @property
    def acts(self) -> int:
        """How many were done."""
        return sum(map(len, self.seconds.values()))

    def blame(self, fault: str) -> None:
        """Keep what was wrong, and print it at once."""
        self.faults.append(fault)
        if len(self.faults) <= SHOWN:
            print(f"WRONG {time.strftime('%H:%M:%S')} {fault}", flush=True)

    def parts(self) -> list[list[Sample]]:
        """Return the samples of each part of the time."""
        length = self.samples[-1].at / PARTS or 1
        found: list[list[Sample]] = [[] for _ in range(PARTS)]
        for sample in self.samples:
            found[min(int(sample.at / length), PARTS - 1)].append(sample)
        return found


async def do(world: World, act: Act, record: Record) -> None:
    """Do one act and keep what came of it."""
    start = time.perf_counter()
    try:
        faults = await act(world)
    except Exception as error:  # noqa: BLE001, no answer is a wrong answer
        faults = [f"{type(error).__name__}: {error}"]
    record.seconds[act.__name__].append(time.perf_counter() - start)
    for fault in faults:
        record.blame(f"{act.__name__}: {fault}")


async def keep_asking(world: World, record: Record, seconds: float, rate: float) -> None:
    """Begin so many acts a second until the time is over, and wait for the last of them."""
    places, begun = asyncio.Semaphore(BUSY), set[asyncio.Task[None]]()
    start = time.monotonic()
    number = 0
    while time.monotonic() < start + seconds:
        await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
        await places.acquire()
        [act] = world.rng.choices(list(ACTS), list(ACTS.values()))
        task = asyncio.create_task(do(world, act, record))
        begun.add(task)
        task.add_done_callback(begun.discard)
        task.add_done_callback(lambda _: places.release())
        number += 1
    await asyncio.gather(*begun)


async def watch(world: World, record: Record, process: int, every: float) -> None:
    """Look at the service again and again, and say now and then how far it is."""
    start, said = time.monotonic(), 0.0
    while True:
        sample = Sample.take(process, time.monotonic() - start)
        record.samples.append(sample)
        if sample.at >= said:
            said += WORD
            print(
                f"{sample.at / 60:6.1f} min  {record.acts:6} acts  {len(record.faults)} wrong  "
                f"{sample.megabytes:.0f} MB  {sample.handles} handles  {sample.threads} threads  "
                f"{sample.processor:.0f} s of the processor  {len(world.truth.now)} people",
                flush=True,
            )
        await asyncio.sleep(every)


async def soak(world: World, record: Record, process: int, seconds: float, rate: float) -> None:
    """Ask and watch until the time is over."""
    watching = [asyncio.create_task(watch(world, record, process, min(5, seconds / 60)))]
    if record.crowd is not None:
        watching.append(asyncio.create_task(record.crowd.run()))
    try:
        await keep_asking(world, record, seconds, rate)
    finally:
        ended = [task.exception() for task in watching if task.done() and not task.cancelled()]
        record.faults += [f"the crowd or the watch ended: {fault!r}" for fault in ended]
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)
        await world.client.aclose()


def check_end(path: Path, truth: Truth) -> list[str]:
    """Return what is wrong with the gallery of a service that has ended."""
    with Gallery.open(path) as gallery:
        found = {person.name: (person.number, person.faces, person.consent) for person in gallery.people()}
        gallery.forget_traces()
    wanted = {name: (each.number, len(each.faces), each.consent) for name, each in truth.now.items()}
    db = sqlite3.connect(path)
    faults = expect("integrity_check", db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
    db.close()
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    traces = [f"a trace of {name}" for name in sorted(truth.gone) if name.encode() in data]
    return faults + expect("people in the end", found, wanted) + traces


def print_record(record: Record, world: World) -> int:
    """Print what came of a soak and return the exit code."""
    rows = [
        [name, str(len(times)), f"{median(times):.3f}", f"{sorted(times)[int(0.99 * len(times))]:.2f}"]
        for name, times in sorted(record.seconds.items())
    ]
    print()
    print_table(["act", "done", "median s", "p99 s"], rows)
    parts = [part for part in record.parts() if part]
    print_table(
        ["part", "MB", "most MB", "handles", "most", "threads", "most", "of a core %"],
        [part_cells(number, part) for number, part in enumerate(parts, 1)],
    )
    print(
        f"{record.acts} acts in {record.samples[-1].at / 60:.1f} min, {len(record.faults)} wrong; "
        f"{len(world.truth.gone)} names given up; asked {world.declared} times to come again\n"
    )
    second, last = parts[min(1, len(parts) - 1)], parts[-1]
    growth = 100 * (middle(last, "megabytes") / middle(second, "megabytes") - 1)
    limit = GROWTH if record.samples[-1].at >= HOUR else EARLY_GROWTH
    return print_targets(
        [
            Target("wrong answers", len(record.faults), 1),
            Target("growth of the memory, last part over second", growth, limit, "%"),
            Target("more file handles", middle(last, "handles") - middle(second, "handles"), HANDLES + 1),
            Target("more threads", middle(last, "threads") - middle(second, "threads"), THREADS + 1),
            *health_target(record),
        ]
    )


def health_target(record: Record) -> list[Target]:
    """Return the target for /health beside a crowd."""
    if record.crowd is None:
        return []
    print(f"the crowd asked {record.crowd.asked} times and was hung up on {record.crowd.closed} times")
    return [Target("slowest /health", max(record.crowd.health), HEALTH, "s")]


def middle(part: list[Sample], what: str) -> float:
    """Return the median of something over a part of the time."""
    return float(median(getattr(sample, what) for sample in part))


def part_cells(number: int, part: list[Sample]) -> list[str]:
    """Return a part of the time as a row of the table."""
    cells = [f"{number} of {PARTS}"]
    for what in ("megabytes", "handles", "threads"):
        cells += [f"{middle(part, what):.0f}", f"{max(getattr(sample, what) for sample in part):.0f}"]
    wall = part[-1].at - part[0].at or 1
    return [*cells, f"{100 * (part[-1].processor - part[0].processor) / wall:.0f}"]


def run(
    folder: Path, log: Path, *, seconds: float, rate: float, variants: int = VARIANTS, crowd: bool = False
) -> tuple[Record, World]:
    """Soak a service.

    Args:
        folder: Where its gallery is made.
        log: Where its log goes; not in the folder.
        seconds: How long.
        rate: Acts a second.
        variants: Pictures made from each sample photograph.
        crowd: With a crowd of idle, slow and small clients.
    """
    recognizer = Recognizer.load(threads=1)
    album = Album.record(recognizer, variants=variants, damaged=DAMAGED)
    told = f"{len(album.single)} pictures of one face, {len(album.several)} of several"
    print(f"{told}, {len(album.empty)} of none, {len(album.broken)} broken", flush=True)
    path, truth, record = folder / "people.db", Truth(album, recognizer.thresholds), Record()
    with log.open("wb") as errors, service(path, "--threads", "1", errors=errors) as (address, process):
        client = httpx.AsyncClient(base_url=address, timeout=120, trust_env=False)
        record.crowd = Crowd(client.base_url, record.blame) if crowd else None
        world = World(client, truth, recognizer, random.Random(0), log)
        try:
            asyncio.run(soak(world, record, process, seconds, rate))
        except KeyboardInterrupt:
            print("ended early: people may be on record whose enrolment was on its way", flush=True)
            return record, world
    for fault in check_end(path, truth):
        record.blame(fault)
    return record, world


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=2.5, help="acts a second")
    parser.add_argument("--log", type=Path, help="where the service's log is kept")
    parser.add_argument("--no-crowd", action="store_true", help="leave out the idle, slow and small clients")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as file:
        log = Path(file.name) if given.log is None else given.log
        seconds, crowd = 60 * given.minutes, not given.no_crowd
        record, world = run(Path(folder), log, seconds=seconds, rate=given.rate, crowd=crowd)
    return print_record(record, world)


if __name__ == "__main__":
    sys.exit(main())
