"""What encryption costs a gallery, and what turned rows keep and give away.

    python benchmarks/encryption.py CROPS FOLDER [--faces N] [--parts PART ...]

CROPS are straightened crops, with their `crops.toml`, as in `search.py`, which embeds them and widens the
rows to N (100,000 unless given). FOLDER keeps the rows. `cost` enrolls, searches and forgets in a plain, an
encrypted and a turned gallery by turns, and `first` asks once after each was opened; `turning` compares real
rows with the same rows turned by a key, and `attacks` turns stolen rows back.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from report import print_table
from sameface.arrays import Embeddings
from sameface.embed import Embedder
from sameface.gallery import Gallery, database
from sameface.gallery.encryption import decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, Keys, KeyText
from sameface.gallery.rekey import rekey_gallery
from sameface.gallery.rotation import Rotation
from sameface.model import Model
from sameface.template import Template
from search import BOX, Pipeline, World, build, read_rows
from timing import alternate

ONE, OTHER = (KeyText(Key(bytes([n]) * 32).text, f"key {n}") for n in (1, 2))
KINDS = {"plain": Keys(), "encrypted": Keys(ONE), "turned": Keys(template=ONE)}
ROUNDS = 15
TURNS = 30  # of matching nearest rows and turning again
SAME = 0.999  # cosine of a row that was turned back and the true one
PARTS = ("cost", "first", "turning", "attacks")


def clock(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def copy_gallery(world: World, kind: str) -> Path:
    """Return a new copy of the plain gallery, without its index."""
    place = world.place.with_name(f"{kind}.db")
    for file in place.parent.glob(f"{place.name}*"):
        file.unlink()
    shutil.copy(world.place, place)
    return place


def measure_cost(world: World, pipeline: Pipeline) -> None:
    """Print what plain, encrypted and turned galleries cost, and what it costs to make one of another."""
    places = {kind: copy_gallery(world, kind) for kind in KINDS}
    made = {
        "encrypt": clock(partial(encrypt_gallery, places["encrypted"], ONE)),
        "rekey (turn all rows)": clock(partial(rekey_gallery, places["turned"], Keys(), ONE)),
    }
    opening = {kind: open_once(place, pipeline, KINDS[kind], world.probes) for kind, place in places.items()}
    with ExitStack() as stack:
        galleries = {
            kind: stack.enter_context(Gallery.open(place, pipeline, keys=KINDS[kind]))
            for kind, place in places.items()
        }
        first = {kind: clock(partial(each.identify, world.probes[:1])) for kind, each in galleries.items()}
        acts = {"identify one": identify_one, "identify 64": identify_all, "enroll one": enroll_one}
        acts["identify after an enrolment"] = identify_one
        seconds = {name: by_turns(galleries, world, act) for name, act in acts.items()}
        seconds["forget one"] = by_turns(galleries, world, forget_one, rounds=3)
    rows = {
        "open and identify, all rows in memory": opening,
        "first identify, with an index to make": first,
        **seconds,
    }
    print_table(
        [f"{len(world.rows):,} faces, ms", *KINDS, *(f"{kind} / plain" for kind in list(KINDS)[1:])],
        [row_of(name, values) for name, values in rows.items()],
    )
    place = places["encrypted"]
    made["rotate-key"] = clock(partial(rotate_key, place, ONE, OTHER))
    made["rotate-key --data-key"] = clock(partial(rotate_data_key, place, OTHER))
    sizes = [place.stat().st_size / 1e6 for place in places.values()]
    made["decrypt"] = clock(partial(decrypt_gallery, place, OTHER))
    print_table(["all faces", "s"], [[name, f"{value:.2f}"] for name, value in made.items()])
    print(
        "MB of the files:", ", ".join(f"{kind} {size:.1f}" for kind, size in zip(KINDS, sizes, strict=True))
    )


def row_of(name: str, values: dict[str, float]) -> list[str]:
    """Return a row of the table: milliseconds, then how many times those of the plain gallery."""
    plain = values["plain"]
    ratios = [f"{value / plain:.2f}" for kind, value in values.items() if kind != "plain"]
    return [name, *(f"{value * 1e3:,.1f}" for value in values.values()), *ratios]


def open_once(place: Path, pipeline: Pipeline, keys: Keys, probes: Embeddings) -> float:
    """Return the seconds from opening a gallery to an answer, if all rows are read into memory."""

    def act() -> None:
        with Gallery.open(place, pipeline, keys=keys) as gallery:
            gallery.identify(probes[:1])

    large, database.LARGE = database.LARGE, 10**9
    try:
        return median(alternate({"": act}, rounds=3)[""])
    finally:
        database.LARGE = large


def measure_first(world: World, pipeline: Pipeline) -> None:
    """Print how long the first answer takes, which makes the index, and the next ones."""
    table = []
    for kind in ("plain", "encrypted"):
        place = copy_gallery(world, kind)
        if kind == "encrypted":
            print(f"encrypt: {clock(partial(encrypt_gallery, place, ONE)):.1f} s")
        with Gallery.open(place, pipeline, keys=KINDS[kind]) as gallery:
            first = clock(partial(gallery.identify, world.probes[:1]))
            later = median(alternate({"": partial(gallery.identify, world.probes[:1])}, rounds=ROUNDS)[""])
        table.append([kind, f"{first:.2f}", f"{later * 1e3:.1f}"])
    print_table([f"{len(world.rows):,} faces", "first answer, s", "later ones, ms"], table)


Act = Callable[[Gallery, World, int], object]


def by_turns(
    galleries: dict[str, Gallery], world: World, act: Act, *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Return the median seconds of something that each gallery does in turn."""
    numbers = iter(range(len(galleries) * rounds))
    steps = {kind: lambda each=each: act(each, world, next(numbers)) for kind, each in galleries.items()}
    return {kind: median(seconds) for kind, seconds in alternate(steps, rounds=rounds).items()}


def identify_one(gallery: Gallery, world: World, number: int) -> None:
    """Identify one probe."""
    gallery.identify(world.probes[number % len(world.probes)][None])


def identify_all(gallery: Gallery, world: World, _number: int) -> None:
    """Identify a batch."""
    gallery.identify(world.probes)


def enroll_one(gallery: Gallery, world: World, number: int) -> None:
    """Enroll one face of somebody new."""
    row = world.probes[number % len(world.probes)]
    gallery.enroll(f"Zacharias {number}", [Template(f"new {number}", BOX, 1, row)])


def forget_one(gallery: Gallery, _world: World, number: int) -> None:
    """Forget somebody."""
    gallery.forget(f"person {number}")


def measure(rows: Embeddings) -> NDArray[np.float64]:
    """Return the squared distances of unit rows to each other, `(n, n)`, summed up in float64."""
    exact = rows.astype(np.float64)
    lengths = np.einsum("ij,ij->i", exact, exact)
    return np.asarray(lengths[:, None] + lengths[None] - 2 * exact @ exact.T, np.float64)


def different(owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return `(n, n)`: which pairs are of two people."""
    return np.asarray(owner[:, None] != owner[None])


def measure_turning(rows: Embeddings, owner: NDArray[np.int64], pipeline: Pipeline) -> None:
    """Print what stays the same if rows are turned, and how far they are under two keys."""
    before = measure(rows)
    one, other = (Rotation(source.read()).turn(rows) for source in (ONE, OTHER))
    after = measure(one)
    pairs = np.triu_indices(len(rows), 1)
    changed = [
        int(((before <= limit) != (after <= limit))[pairs].sum()) for limit in pipeline.thresholds.distance
    ]
    print(f"{len(rows):,} real rows: distances change by at most {np.abs(after - before).max():.1e}")
    print(f"decisions that change, of {len(pairs[0]):,} pairs, at {len(changed)} thresholds: {sum(changed)}")
    ranks = [
        np.diff(was[np.argsort(now, kind="stable")]).min() for was, now in zip(before, after, strict=True)
    ]
    print(f"ranks change only among faces whose distances differ by under {-min(ranks):.1e}")
    strangers = before[different(owner)]
    same = before[pairs][~different(owner)[pairs]]
    found = {
        "two pictures of one person": same,
        "two people": strangers,
        "one face under two keys": np.einsum("ij,ij->i", one - other, one - other),
        "one face, turned and as it was": np.einsum("ij,ij->i", one - rows, one - rows),
    }
    table = [[name, *(f"{value:.3f}" for value in spread(each))] for name, each in found.items()]
    print_table(["squared distance", "least", "1 %", "mean", "most"], table)
    far, limit = max(zip(pipeline.thresholds.far, pipeline.thresholds.distance, strict=True))
    print(f"the loosest threshold of the weights, at a false-accept rate of {far:g}: {limit:.3f}")


def spread(values: NDArray[np.floating[Any]]) -> tuple[float, float, float, float]:
    """Return least, first percentile, mean and most."""
    return float(values.min()), float(np.quantile(values, 0.01)), float(values.mean()), float(values.max())


def solve(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the orthogonal matrix `m` for which `left @ m` is nearest to `right` (Schönemann 1966)."""
    u, _, v = np.linalg.svd(left.T @ right)
    return np.asarray(u @ v, np.float64)


def turn_back(stolen: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn stolen rows back with nothing but rows of other people by the same weights.

    Their principal axes are laid on those of the stolen rows, each in the direction in which the mean lies;
    then rows that are nearest to each other are taken for pairs, and the rotation is solved again.
    """
    centers = [rows.mean(axis=0) for rows in (stolen, own)]
    axes = [np.linalg.eigh(np.cov(rows.T))[1] for rows in (stolen, own)]
    signs = np.sign((centers[0] @ axes[0]) * (centers[1] @ axes[1]))
    matrix = axes[0] * signs @ axes[1].T
    for _ in range(TURNS):
        closeness = stolen @ matrix @ own.T
        near, back = closeness.argmax(axis=1), closeness.argmax(axis=0)
        mutual = back[near] == np.arange(len(stolen))
        matrix = solve(stolen[mutual], own[near[mutual]])
    return np.asarray(stolen @ matrix, np.float64)


def measure_attacks(rows: Embeddings, owner: NDArray[np.int64]) -> None:
    """Print how well stolen rows are turned back with some pairs, and with none."""
    people = np.random.default_rng(0).permutation(np.unique(owner))
    own = np.isin(owner, people[: len(people) // 2])
    true = rows[~own].astype(np.float64)
    stolen = Rotation(ONE.read()).turn(rows[~own]).astype(np.float64)
    width = rows.shape[1]
    table = []
    for pairs in (width // 4, width // 2, width - 8, width, 2 * width):
        matrix = solve(stolen[:pairs], true[:pairs])
        table.append(
            [f"{pairs} pairs of a plain and a turned row", *judge(stolen[pairs:] @ matrix, true[pairs:])]
        )
    turned = turn_back(stolen, rows[own].astype(np.float64))
    table.append([f"no pair, {own.sum():,} rows of other people", *judge(turned, true)])
    table.append(["no pair, nothing", *judge(stolen, true)])
    print_table(
        [f"{len(stolen):,} stolen rows", "cosine to the true row, mean", f"over {SAME}", "true row nearest"],
        table,
    )


def judge(found: NDArray[np.float64], true: NDArray[np.float64]) -> list[str]:
    """Return how near rows are to the true ones."""
    closeness = found @ true.T
    right = np.diagonal(closeness)
    nearest = closeness.argmax(axis=1) == np.arange(len(true))
    return [f"{right.mean():.4f}", f"{(right > SAME).mean():.1%}", f"{nearest.mean():.1%}"]


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    choices = parser.parse_args()
    pipeline = Pipeline(Embedder(Model.load("resnet29")))
    if {"cost", "first"} & set(choices.parts):
        world = build(choices.crops, choices.folder, choices.faces, pipeline)
    if "cost" in choices.parts:
        measure_cost(world, pipeline)
    if "first" in choices.parts:
        measure_first(world, pipeline)
    rows, owner = read_rows(choices.crops, choices.folder, pipeline.embedder)
    if "turning" in choices.parts:
        measure_turning(rows, owner, pipeline)
    if "attacks" in choices.parts:
        measure_attacks(rows, owner)


if __name__ == "__main__":
    main()
