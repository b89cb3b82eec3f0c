"""The search in a large gallery against FAISS, NumPy and Python loops, and what one face costs it.

    python benchmarks/search.py CROPS FOLDER [--faces N] [--parts PART ...]

CROPS are straightened crops, with their `crops.toml`; they are embedded by `resnet29`, and those of nine
people in ten are widened to N rows (1,000,000 unless given): where that many real ones do not exist, a row is
one of them moved by differences of two pictures of one person, as if it were another picture. The probes are
made in the same way; strangers are rows of the tenth person, as they are. FOLDER keeps rows and gallery,
1.6 GB for a million faces, for the next time. All searches of a part take turns in one run, and their answers
are compared.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from report import Target, print_table, print_targets
from sameface.arrays import Embeddings
from sameface.compare import exact_distances
from sameface.embed import Embedder, unit_rows
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.backend import Transaction
from sameface.gallery.decision import Candidates, Limits, SearchIndex, SearchOptions
from sameface.model import Model
from sameface.thresholds import GalleryThreshold, Thresholds
from sameface.training.dataset import open_pictures
from timing import alternate

TOP, SURE = 10, 1000
BATCH = 64
OPTIONS = SearchOptions(k=TOP, most=1, closed_set=True)
LIMITS = Limits(Thresholds((0.1,), (4.0,), (1,), 10, ""), GalleryThreshold(4.0, 0.1, 0.1, extrapolated=False))
ROUNDS = 7
TIMES = 3  # somebody is enrolled and forgotten
FACES, PER = 4, 5  # faces of a person; numbers that they and the person take
PIECE = 64  # bytes of a row; a row that is found in part is a trace too
TENTH = 10  # person is a stranger
DIRECTIONS = (16, 32, 48, 64, 80)
PARTS = ("open", "search", "loops", "hnsw", "one")
SMALL = 100_000  # faces for the searches that loop in Python
BLOCK = 50_000
BOX = np.array([0, 0, 9, 9], np.float32)


@dataclass(frozen=True, eq=False)
class World:
    """What is searched.

    Attributes:
        rows: `(n, d) float32` who is enrolled.
        probes: `(BATCH, d) float32` who is looked for, and enrolled.
        strangers: `(BATCH, d) float32` who is looked for, and not enrolled.
        place: The gallery.
    """

    rows: Embeddings
    probes: Embeddings
    strangers: Embeddings
    place: Path


class Pipeline:
    """An embedder in the place of a whole pipeline: the crops are cut already."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.signature = f"benchmark of {embedder.model.manifest.sha256[:8]}"
        self.thresholds: Thresholds = embedder.spec.thresholds


def read_rows(crops: Path, folder: Path, embedder: Embedder) -> tuple[Embeddings, NDArray[np.int64]]:
    """Return the real rows and whose they are, embedded once."""
    kept = folder / f"{crops.name}.npz"
    if not kept.exists():
        pictures = open_pictures([str(crops)])
        np.savez(kept, rows=embed_crops(embedder, pictures), owner=pictures.owner)
    with np.load(kept) as file:
        return file["rows"], file["owner"]


def widen(real: Embeddings, owner: NDArray[np.int64], count: int, rng: np.random.Generator) -> Embeddings:
    """Return `count` rows: real ones, each moved by the differences of two people's two pictures."""
    order = np.argsort(owner, kind="stable")
    pairs = np.flatnonzero(owner[order][1:] == owner[order][:-1])
    moves = real[order[pairs + 1]] - real[order[pairs]]
    rows = np.empty((count, real.shape[1]), np.float32)
    for start in range(0, count, BLOCK):
        part = rows[start : start + BLOCK]
        part[:] = real[rng.integers(len(real), size=len(part))]
        for _ in range(2):
            size = rng.normal(scale=0.7, size=(len(part), 1)).astype(np.float32)
            part += size * moves[rng.integers(len(moves), size=len(part))]
        part[:] = unit_rows(part)
    return rows


def make_gallery(place: Path, rows: Embeddings, pipeline: Pipeline) -> None:
    """Put rows into a new gallery, four to a person, in the way that `enroll` does but all at once."""
    with Gallery.open(place, pipeline) as gallery, gallery._db.write() as db:
        count = len(rows)
        people = -(-count // FACES)
        db.execute("UPDATE pipeline SET dimension = ?", (rows.shape[1],))
        names = ((1 + PER * person, f"person {person}") for person in range(people))
        many(db, "INSERT INTO people (id, name) VALUES (?, ?)", names)
        digests = ((number + 1, os.urandom(32).hex()) for number in range(count))
        many(db, "INSERT INTO pictures (id, sha256) VALUES (?, ?)", digests)
        faces = (
            (2 + PER * (n // FACES) + n % FACES, 1 + PER * (n // FACES), n + 1, row.tobytes())
            for n, row in enumerate(rows)
        )
        insert = """INSERT INTO faces
                    (id, person_id, picture_id, "left", top, "right", bottom, score, embedding)
                    VALUES (?, ?, ?, 0, 0, 9, 9, 1, ?)"""
        many(db, insert, faces)
        db.execute("UPDATE numbers SET last = ?", (PER * people + 1,))


def many(db: Transaction, query: str, values: Iterable[Sequence[object]]) -> None:
    """Run one statement for many values, inside the transaction that is open."""
    assert isinstance(db, sqlite3.Connection)
    db.executemany(query, values)


def build(crops: Path, folder: Path, count: int, pipeline: Pipeline) -> World:
    """Return the world in a folder, made if it is not there."""
    folder.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(0)
    real, owner = read_rows(crops, folder, pipeline.embedder)
    known = owner % TENTH != 0
    kept, place = folder / f"{count}.npy", folder / f"{count}.db"
    if not kept.exists():
        np.save(kept, widen(real[known], owner[known], count + BATCH, rng))
    rows = np.load(kept)
    world = World(rows[:count], rows[count:], rng.permutation(real[~known])[:BATCH], place)
    if not place.exists():
        make_gallery(place, world.rows, pipeline)
    print(f"{known.sum():,} real rows widened to {count:,} of {rows.shape[1]} numbers", flush=True)
    spectra = {"real rows": left_over(real[known]), "widened": left_over(world.rows[:BLOCK])}
    cells = [[name, *(f"{part:.1%}" for part in parts)] for name, parts in spectra.items()]
    print_table(["variance behind so many directions", *map(str, DIRECTIONS)], cells)
    return world


def left_over(rows: Embeddings) -> list[float]:
    """Return which part of the variance of rows is behind their first `DIRECTIONS`."""
    parts = np.cumsum(np.linalg.eigvalsh(np.cov(rows.T))[::-1])
    return [float(1 - parts[count - 1] / parts[-1]) for count in DIRECTIONS]


def owner_of(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of the people whose rows these are."""
    return 1 + PER * (numbers // FACES)


def nearest(near: Candidates) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the distances and the owners of the nearest faces, in order."""
    order = np.argsort(near.distances, kind="stable")[:TOP]
    return near.distances[order], near.owners[order]


def exact(world: World, probe: Embeddings) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the same by the products with all rows; far more than `TOP` are computed to the last bit."""
    near = np.sort(np.argpartition(world.rows @ probe, -SURE)[-SURE:])
    distances = exact_distances(probe, world.rows[near])
    order = np.argsort(distances, kind="stable")[:TOP]
    return distances[order], owner_of(near[order])


def count_same(world: World, probes: Embeddings, known: SearchIndex) -> int:
    """Return for how many probes the nearest faces are the true ones, in order and to the last bit."""
    same = 0
    for probe, near in zip(probes, known.search(probes, LIMITS, OPTIONS), strict=True):
        ours, truth = nearest(near), exact(world, probe)
        same += np.array_equal(ours[0], truth[0]) and np.array_equal(ours[1], truth[1])
    return same


def count_found(world: World, found: NDArray[np.int64]) -> float:
    """Return the part of the truly nearest faces among those found, `(BATCH, TOP)`; ties count as found."""
    parts = []
    for probe, numbers in zip(world.probes, found, strict=True):
        edge = exact(world, probe)[0][-1]
        parts.append((exact_distances(probe, world.rows[numbers]) <= edge).mean())
    return float(np.mean(parts))


def search_numpy(rows: Embeddings, probes: Embeddings) -> None:
    """Find the nearest rows with NumPy, probe by probe."""
    for probe in probes:
        closeness = rows @ probe
        near = np.argpartition(closeness, -TOP)[-TOP:]
        near[np.argsort(-closeness[near])]


def search_flat(index: Any, probes: Embeddings) -> None:
    """Find the nearest rows with FAISS."""
    index.search(probes, TOP)


def in_turn(probes: Embeddings, search: Callable[[Embeddings], object]) -> Callable[[], object]:
    """Return what searches for the next of the probes each time: one may need more passes than another."""
    numbers = itertools.cycle(range(len(probes)))

    def take() -> object:
        number = next(numbers)
        return search(probes[number : number + 1])

    return take


def compare_searches(world: World, gallery: Gallery) -> list[Target]:
    """Print what one search and a batch cost here and elsewhere."""
    known = gallery._db.load(gallery._need_pipeline().signature)
    width = world.rows.shape[1]
    flat = {"FAISS IndexFlatL2": faiss.IndexFlatL2(width), "FAISS IndexFlatIP": faiss.IndexFlatIP(width)}
    for index in flat.values():
        index.add(world.rows)
    steps: dict[str, Callable[[], object]] = {
        "one: sameface, 10 nearest": in_turn(world.probes, lambda one: list(known.search(one, LIMITS, OPTIONS))),
        "one: sameface, 10 nearest of a stranger": in_turn(
            world.strangers, lambda one: list(known.search(one, LIMITS, OPTIONS))
        ),
        "one: sameface, identify": in_turn(world.probes, gallery.identify),
        "one: NumPy X @ q, argpartition": in_turn(world.probes, partial(search_numpy, world.rows)),
        **{f"one: {name}": in_turn(world.probes, partial(search_flat, i)) for name, i in flat.items()},
    }
    batches: dict[str, Callable[[], object]] = {
        "batch: sameface, 10 nearest": lambda: list(known.search(world.probes, LIMITS, OPTIONS)),
        "batch: sameface, 10 nearest of strangers": lambda: list(known.search(world.strangers, LIMITS, OPTIONS)),
        **{f"batch: {name}": partial(index.search, world.probes, TOP) for name, index in flat.items()},
    }
    turns = alternate(steps, rounds=BATCH) | alternate(batches, rounds=ROUNDS)
    seconds = {name: median(each) for name, each in turns.items()}
    used = measure_processor(steps | batches)
    rows = [[name, f"{value * 1e3:,.1f}", f"{used[name] * 1e3:,.1f}"] for name, value in seconds.items()]
    header = [f"{len(world.rows):,} faces, {BATCH} probes a batch", "ms, median", "ms of a processor"]
    print_table(header, rows)
    bandwidth = measure_bandwidth(world.rows)
    read = world.rows.nbytes / seconds["one: sameface, 10 nearest"] / 1e9
    print(f"memory gives {bandwidth:.1f} GB/s to two threads; one search reads rows at {read:.1f} GB/s")
    found = np.concatenate([flat["FAISS IndexFlatIP"].search(part[None], TOP)[1] for part in world.probes])
    print(f"the truly nearest among those of FAISS IndexFlatIP: {count_found(world, found):.4f}")
    ours, batch = seconds["one: sameface, 10 nearest"], seconds["batch: sameface, 10 nearest"]
    numpy = seconds["one: NumPy X @ q, argpartition"] / ours
    return [
        *(
            Target(f"{name} with all 10 right, in order, to the last bit", same, BATCH, at_least=True)
            for name, same in (
                ("probes", count_same(world, world.probes, known)),
                ("strangers", count_same(world, world.strangers, known)),
            )
        ),
        *(Target(f"{name}: one", seconds[f"one: {name}"] / ours, 5, "times", at_least=True) for name in flat),
        Target("NumPy: one", numpy, 2, "times", at_least=True),
        *(Target(f"{name}: batch", seconds[f"batch: {name}"] / batch, 3, "times", at_least=True) for name in flat),
    ]


def measure_processor(steps: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of the processor's seconds of each step, which other work disturbs less.

    FAISS has one thread here: its threads would wait for one another at full speed.
    """
    threads, used = faiss.omp_get_max_threads(), {}
    faiss.omp_set_num_threads(1)
    for name, step in steps.items():
        clock = [time.process_time()]
        for _ in range(TIMES):
            step()
            clock.append(time.process_time())
        used[name] = float(np.median(np.diff(clock)))
    faiss.omp_set_num_threads(threads)
    return used


def measure_bandwidth(rows: Embeddings) -> float:
    """Return how many GB/s two threads read of memory."""
    halves = np.array_split(rows.reshape(-1).view(np.uint64), 2)

    def read() -> None:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(np.bitwise_or.reduce, halves))

    seconds = min(alternate({"read": read}, rounds=ROUNDS)["read"])
    return float(rows.nbytes) / seconds / 1e9


def compare_loops(world: World, gallery: Gallery) -> None:
    """Print what searches that loop in Python cost, over `SMALL` of the rows."""
    rows, probe = world.rows[:SMALL], world.probes[0]
    kept = pickle.dumps([{"identity": f"{n}.jpg", "embedding": row.tolist()} for n, row in enumerate(rows)])

    def deepface() -> None:  # as its `find` did: the pickled list is read, and each row compared in a loop
        entries = pickle.loads(kept)  # noqa: S301
        for entry in entries:
            row = np.array(entry["embedding"])
            1 - np.dot(row, probe) / (np.sqrt(np.dot(row, row)) * np.sqrt(np.dot(probe, probe)))

    encodings = list(rows)
    known = gallery._db.load(gallery._need_pipeline().signature)
    steps: dict[str, Callable[[], object]] = {
        f"sameface, {len(world.rows):,} faces": lambda: list(known.search(probe[None], LIMITS, OPTIONS)),
        f"face_recognition's face_distance, {SMALL:,}": lambda: np.linalg.norm(np.array(encodings) - probe, axis=1),
        f"a pickled list and a Python loop, {SMALL:,}": deepface,
    }
    seconds = {name: median(each) for name, each in alternate(steps, rounds=3).items()}
    print_table(["one search", "ms"], [[name, f"{value * 1e3:,.1f}"] for name, value in seconds.items()])


def compare_hnsw(world: World) -> None:
    """Print what an HNSW index of `SMALL` rows costs and loses, against FAISS's exact search of them."""
    small = World(world.rows[:SMALL], world.probes, world.strangers, world.place)
    index = faiss.IndexHNSWFlat(small.rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    start = time.perf_counter()
    index.add(small.rows)
    built, cells = time.perf_counter() - start, []
    for beam in (16, 64, 256):
        index.hnsw.efSearch = beam
        one = median(alternate({"one": partial(index.search, small.probes[:1], TOP)}, rounds=ROUNDS)["one"])
        found = index.search(small.probes, TOP)[1]
        cells.append([f"efSearch {beam}", f"{one * 1e3:.2f}", f"{count_found(small, found):.4f}"])
    print(f"FAISS IndexHNSWFlat (M 32, efConstruction 200) of {SMALL:,} rows was built in {built:.0f} s")
    print_table(["HNSW", "ms", "recall of 10"], cells)


OPEN = """
import sys, time
start = time.perf_counter()
import numpy as np
from search import Pipeline
from sameface.embed import Embedder
from sameface.gallery import Gallery
from sameface.model import Model
pipeline = Pipeline(Embedder(Model.load("resnet29")))
probe = np.load(sys.argv[2])
loaded = time.perf_counter()
with Gallery.open(sys.argv[1], pipeline) as gallery:
    gallery.identify(probe, rule="rows")
    print(time.perf_counter() - loaded, time.perf_counter() - start)
"""


def measure_opening(world: World, folder: Path) -> list[Target]:
    """Return what it takes a new process to open the gallery and to answer once."""
    probe = folder / "probe.npy"
    np.save(probe, world.probes[:1])
    targets = []
    for name in ("its files not in memory", "again"):
        if name != "again":
            for file in folder.iterdir():
                drop_cached(file)
        command = [sys.executable, "-c", OPEN, str(world.place), str(probe)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        seconds, whole = map(float, told.split())
        print(f"open and first answer, {name}: {seconds:.2f} s; with the start of Python {whole:.2f} s")
        targets.append(Target(f"open and first answer, {name}", seconds, 2, "s"))
    return targets


def drop_cached(file: Path) -> None:
    """Ask the system to forget what it keeps of a file in memory."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure_one_face(world: World, gallery: Gallery) -> list[Target]:
    """Return what it costs to enroll and to forget a face, and what is found of it afterwards."""
    seconds: dict[str, list[float]] = {"enroll": [], "search": [], "forget": []}
    secrets: list[bytes] = []
    for number, row in enumerate(world.probes[:TIMES]):
        name, picture = f"Zacharias the {number}th", os.urandom(32).hex()
        clock = [time.perf_counter()]
        gallery.enroll(name, [Template(picture, BOX, 1, row)])
        clock.append(time.perf_counter())
        [answer] = gallery.identify(row[None], rule="rows")
        clock.append(time.perf_counter())
        assert answer.matches[0].name == name
        data = row.tobytes()
        secrets += [name.encode(), picture.encode()]
        secrets += [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        before = time.perf_counter()
        gallery.forget(name)
        seconds["forget"].append(time.perf_counter() - before)
        seconds["enroll"].append(clock[1] - clock[0])
        seconds["search"].append(clock[2] - clock[1])
    print("the first search after an enrolment:", f"{median(seconds['search']) * 1e3:.1f} ms")
    left = count_traces(world.place, secrets)
    return [
        Target("enroll one face", median(seconds["enroll"]) * 1e3, 20, "ms"),
        Target("forget one person", median(seconds["forget"]), 1, "s"),
        Target(f"traces of {len(secrets)} left in the files", left, 1),
    ]


def count_traces(place: Path, secrets: Sequence[bytes]) -> int:
    """Return how many of the secrets stand in the files of a gallery, read in another process."""
    program = """
import pickle, sys
secrets, found = pickle.load(sys.stdin.buffer), set()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        data = file.read()
    found |= {secret for secret in secrets if secret in data}
print(len(found))
"""
    files = [str(file) for file in place.parent.glob(f"{place.name}*") if file.stat().st_size]
    command, told = [sys.executable, "-c", program, *files], pickle.dumps(secrets)
    return int(subprocess.run(command, input=told, capture_output=True, check=True).stdout)


def main() -> int:
    """Print every table, and whether the targets are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    choices = parser.parse_args()
    pipeline = Pipeline(Embedder(Model.load("resnet29")))
    world = build(choices.crops, choices.folder, choices.faces, pipeline)
    targets: list[Target] = []
    with Gallery.open(world.place, pipeline) as gallery:
        start = time.perf_counter()
        gallery.identify(world.probes[:1], rule="rows")
        print(f"first search, which reads all rows: {time.perf_counter() - start:.2f} s")
    if "open" in choices.parts:
        targets += measure_opening(world, choices.folder)
    with Gallery.open(world.place, pipeline) as gallery:
        if "search" in choices.parts:
            targets += compare_searches(world, gallery)
        if "loops" in choices.parts:
            compare_loops(world, gallery)
        if "hnsw" in choices.parts:
            compare_hnsw(world)
        if "one" in choices.parts:
            targets += measure_one_face(world, gallery)
    return print_targets(targets)


if __name__ == "__main__":
    raise SystemExit(main())
