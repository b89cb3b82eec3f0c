"""Ask a real `sameface serve` who is on the samples, with 64 clients at once for a minute.

    python benchmarks/service.py
    python benchmarks/service.py --seconds 20 --clients 16

With batching and without; before, between and after them the bare pipeline, without HTTP and keys
(decode, find, align, embed, search, as many pictures at once as the service decodes). Memory is that of
the first minute after the warm-up against the last; a run under six minutes takes its first and last
sixth. Exit code 1 if a target is missed.

The clients share the machine's cores with the service, as they would not elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import IO

import httpx

from report import Target, print_table, print_targets
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.config import count_workers

ROOT = Path(__file__).resolve().parents[1]
SAMEFACE = str(Path(sys.executable).with_name("sameface"))
SAMPLES = [path.read_bytes() for path in sorted((ROOT / "samples").glob("*.jpg"))]  # one face each
WARM_UP = 10.0  # seconds that count for nothing
DECLARED = 503  # what a service may answer under load
WINDOW = 60.0  # seconds at each end over which memory is compared; a sixth of a shorter run
LOOK = 0.25  # seconds between two looks at the memory


@dataclass
class Load:
    """What came of one run.

    Attributes:
        seconds: Of every request that was answered with 200.
        statuses: How often each status came; 0 is no answer at all.
        memory: Resident megabytes of the service, looked at again and again.
        wall: Seconds of the run.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)
    wall: float = 0.0

    @property
    def faces_per_second(self) -> float:
        """Faces that were named or rejected in a second."""
        return len(self.seconds) / self.wall

    @property
    def p50(self) -> float:
        """The median time of a request."""
        return median(self.seconds)

    @property
    def p99(self) -> float:
        """The time in which 99 of 100 requests are answered."""
        return quantiles(self.seconds, n=100)[-1]

    @property
    def errors(self) -> int:
        """Answers that no service may give."""
        return sum(count for status, count in self.statuses.items() if status not in (200, DECLARED))

    @property
    def growth(self) -> float:
        """Percent by which the memory of the end is above that of the beginning."""
        size = max(1, round(min(WINDOW, self.wall / 6) / LOOK))
        return 100 * (median(self.memory[-size:]) / median(self.memory[:size]) - 1)


@contextlib.contextmanager
def service(gallery: Path, *words: str, errors: IO[bytes] | int = subprocess.DEVNULL) -> Iterator[tuple[str, int]]:
    """Run `sameface serve`, and give its address and the number of its process; Ctrl-C is not for it."""
    command = [SAMEFACE, "serve", "--no-token", "--port", "0", "--gallery", str(gallery), *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], process.pid
        finally:
            process.terminate()
            process.wait(90)


async def ask_again_and_again(client: httpx.AsyncClient, load: Load, start: float, end: float) -> None:
    """Send one picture after the other until the time is over."""
    for picture in cycle(SAMPLES):
        begun = time.perf_counter()
        if begun >= end:
            return
        try:
            answer = await client.post("/v1/identify", files={"picture": ("a.jpg", picture)})
            status = answer.status_code
        except httpx.HTTPError:
            status = 0
        done = time.perf_counter()
        if start <= done < end:
            load.statuses[status] += 1
            if status == 200:
                load.seconds.append(done - begun)
        if status == DECLARED:
            await asyncio.sleep(int(answer.headers["Retry-After"]))


async def watch_memory(process: int, load: Load, start: float, end: float) -> None:
    """Look at the memory of a process until the time is over."""
    while (now := time.perf_counter()) < end:
        if now >= start:
            load.memory.append(resident(process))
        await asyncio.sleep(LOOK)


def resident(process: int) -> float:
    """Return the megabytes of a process that are in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(address: str, process: int, clients: int, seconds: float) -> Load:
    """Return what came of so many clients for so many seconds."""
    load = Load(wall=seconds)
    start = time.perf_counter() + WARM_UP
    end = start + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120, trust_env=False) as client:
        tasks = [ask_again_and_again(client, load, start, end) for _ in range(clients)]
        await asyncio.gather(watch_memory(process, load, start, end), *tasks)
    return load


def run_service(gallery: Path, clients: int, seconds: float, *words: str) -> Load:
    """Return what came of a service of its own."""
    with service(gallery, *words) as (address, process):
        return asyncio.run(measure(address, process, clients, seconds))


def run_bare(gallery: Path, seconds: float) -> float:
    """Return the faces per second of the pipeline without a service, as many pictures at once."""
    recognizer = Recognizer.load()
    with Gallery.open(gallery, recognizer) as people, ThreadPoolExecutor(count_workers()) as threads:

        def name(picture: bytes) -> int:
            _, rows = recognizer.embed(picture)
            return len(people.identify(rows))

        list(threads.map(name, SAMPLES))
        faces, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            faces += sum(threads.map(name, SAMPLES * 4))
        return faces / (time.perf_counter() - start)


def fill(gallery: Path) -> None:
    """Enroll one picture of two people."""
    recognizer = Recognizer.load()
    with Gallery.open(gallery, recognizer) as people:
        for name in ("barack-obama-1", "joe-biden"):
            people.enroll(name, [recognizer.template(ROOT / "samples" / f"{name}.jpg")])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run, the warm-up left out")
    parser.add_argument("--clients", type=int, default=64)
    wish = parser.parse_args()
    bare_seconds = min(10.0, wish.seconds / 2)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "people.db"
        fill(gallery)
        bare = [run_bare(gallery, bare_seconds)]
        batched = run_service(gallery, wish.clients, wish.seconds)
        bare.append(run_bare(gallery, bare_seconds))
        single = run_service(gallery, wish.clients, wish.seconds, "--no-batching")
        bare.append(run_bare(gallery, bare_seconds))
    pace = median(bare)
    rows = [
        [
            name,
            f"{load.faces_per_second:.1f}",
            f"{load.faces_per_second / pace:.2f}",
            f"{load.p50:.2f}",
            f"{load.p99:.2f}",
            str(load.statuses[DECLARED]),
            str(load.errors),
            f"{median(load.memory):.0f}",
            f"{load.growth:+.1f}",
        ]
        for name, load in (("batches", batched), ("--no-batching", single))
    ]
    header = ["service", "faces/s", "of the bare", "p50 s", "p99 s", "503", "errors", "MB", "growth %"]
    print_table(header, rows)
    around = f"{pace:.1f} faces/s ({min(bare):.1f} to {max(bare):.1f})"
    print(f"{wish.clients} clients, {wish.seconds:g} s; the bare pipeline: {around}\n")
    return print_targets(
        [
            Target("errors other than a declared 503", batched.errors + single.errors, 1),
            Target("p99 over p50", batched.p99 / batched.p50, 20),
            Target("faces/s of the bare pipeline's", batched.faces_per_second / pace, 0.8, at_least=True),
            Target("growth of the memory, either way", abs(batched.growth), 5, "%"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
