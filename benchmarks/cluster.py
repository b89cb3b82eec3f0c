"""Grouping faces at scale: how good, how fast and in how much memory, ours beside others in one run.

    python benchmarks/cluster.py VIEW1.tar CROPS [--faces 100000 1000000] [--only quality|scale]

Quality: the people of LFW's View 1, and the first people of CROPS with 10,000 pictures in all; CROPS is a
folder of straightened crops with its `crops.toml`, a folder per person. They are embedded once and kept in
runs/. Every method is measured at the threshold that is best for it, and ours at its default too. Ours is
the way for many faces here, however few there are. DBSCAN is scikit-learn's (what it calls noise is somebody
alone), Chinese whispers dlib's own.

Scale: a million embedded photographs are not at hand. People are made out of those of CROPS: a centre is that
of a real person, drawn at random, moved by noise with the covariance of the real centres, which makes up a
quarter of the spread; a picture is its person's centre plus what a real picture, drawn at random, differs by
from its own person's centre. 5 pictures a person, in mixed order. How far the false-accept rates of made and
real people agree is told first. Each size runs in a process of its own, whose peak of memory is told; it
includes making the people.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import dlib
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from family import embed_crops
from lfw import embed_pictures, read_view1
from peer import ROOT, describe
from report import Target, print_table, print_targets
from sameface import cluster
from sameface.cluster import cluster_embeddings, cut_tree, extend_clusters, link_rows
from sameface.compare import squared_distances
from sameface.evaluation.clusters import ClusterResult, evaluate_clusters
from sameface.recognizer import Recognizer
from sameface.training.dataset import open_pictures

Rows = NDArray[np.float32]
Owners = NDArray[np.int64]
Method = Callable[[Rows, float], NDArray[np.int64]]

PICTURES = 10_000  # of CROPS in the table of quality
CHUNK = 1000  # crops embedded and kept at a time
PARTS = tuple(np.arange(0.2, 1.61, 0.2).round(1).tolist())  # of the default, tried as thresholds
BESIDE = 0.1  # of the default: tried beside the best of them
MOVED = 0.24  # the part of the spread of made people that is noise; with it their false-accept rates are real
EACH = 5  # pictures of a person that is made
LATE = 0.01  # the part of the faces that come later
SECONDS = {100_000: 90.0, 1_000_000: 2400.0}  # how long a size may take
GIGABYTES = 6.0


class People(NamedTuple):
    """Rows and whose they are."""

    name: str
    rows: Rows
    owner: Owners


def keep(name: str, make: Callable[[], Rows]) -> Rows:
    """Return the rows that were kept under a name, or make and keep them."""
    path = ROOT / "runs" / f"cluster-{name}.npy"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.replace(path)
    rows: Rows = np.load(path)
    return rows


def read_lfw(recognizer: Recognizer, path: Path) -> People:
    """Return the people of View 1; a photograph in which no face is found is left out."""
    view = read_view1(path)
    pictures = view.pictures(view.train + view.test)
    rows = keep(f"{recognizer.signature}-view1", lambda: embed_pictures(recognizer, view, pictures)[0])
    owner = np.unique([picture.person for picture in pictures], return_inverse=True)[1]
    found = np.linalg.norm(rows, axis=1) > 0.5
    return People("LFW View 1", rows[found], owner[found])


def read_crops(recognizer: Recognizer, folder: Path) -> People:
    """Return the first people of a folder of crops."""
    crops = open_pictures([folder])
    people = int(np.searchsorted(crops.counts.cumsum(), PICTURES, side="right"))
    crops = crops.of_people(range(people))
    parts = [
        keep(
            f"{recognizer.signature}-{folder.name}-{low:06d}",
            lambda low=low: embed_crops(  # type: ignore[misc]
                recognizer.embedder, replace(crops, files=crops.files[low : low + CHUNK])
            ),
        )
        for low in range(0, len(crops), CHUNK)
    ]
    return People(folder.name, np.concatenate(parts), crops.owner)


def make_people(real: People, count: int, seed: int = 0) -> People:
    """Return so many rows of people who are made out of real ones, as told above."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(real.owner)
    order = np.argsort(real.owner, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    centres = np.add.reduceat(real.rows[order].astype(np.float64), starts, axis=0) / sizes[:, None]
    several = (sizes > 1)[real.owner]
    # Of n pictures about their own mean the spread is (n - 1) / n of that about the person's true centre.
    widened = np.sqrt(sizes / np.maximum(sizes - 1, 1))[real.owner, None]
    apart = ((real.rows - centres[real.owner]) * widened)[several]
    mean = centres.mean(axis=0)
    whole = np.cov((centres - mean).T)
    true = whole - np.cov(apart.T) * (1 / sizes).mean()  # without what the few pictures of each add
    values, axes = np.linalg.eigh(true)
    noise = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    part = np.sqrt((1 - MOVED) * np.trace(true) / np.trace(whole))
    people = -(-count // EACH)
    drawn = part * (centres - mean)[rng.integers(len(centres), size=people)]
    drawn += mean + rng.normal(size=drawn.shape) @ noise * np.sqrt(MOVED)
    owner = rng.permutation(np.repeat(np.arange(people), EACH)[:count])
    rows = np.empty((count, real.rows.shape[1]), np.float32)
    for low in range(0, count, 1 << 16):
        those = owner[low : low + (1 << 16)]
        row = drawn[those] + apart[rng.integers(len(apart), size=len(those))]
        rows[low : low + len(those)] = row / np.linalg.norm(row, axis=1, keepdims=True)
    return People(f"{count:,} made faces", rows, owner)


class Scored(NamedTuple):
    """What a method makes of some people at one threshold."""

    method: str
    threshold: float
    result: ClusterResult
    seconds: float

    @property
    def cells(self) -> list[str]:
        """The row of the table."""
        found = self.result.bcubed
        parts = (f"{100 * part:.2f} %" for part in (found.precision, found.recall, found.f))
        return [self.method, f"{self.threshold:.4f}", *parts, f"{self.result.clusters:,}", f"{self.seconds:.1f}"]


def group_exactly(rows: Rows, threshold: float) -> NDArray[np.int64]:
    """Group by fastcluster's average linkage of the table of all distances."""
    return cut_tree(link_rows(rows), threshold, len(rows))


def group_by_density(rows: Rows, threshold: float, fewest: int) -> NDArray[np.int64]:
    """Group by scikit-learn's DBSCAN; what it calls noise is a group each."""
    labels = DBSCAN(eps=float(np.sqrt(threshold)), min_samples=fewest, algorithm="brute").fit_predict(rows)
    noise = labels < 0
    labels[noise] = labels.max(initial=-1) + 1 + np.arange(noise.sum())
    return np.asarray(labels, np.int64)


def group_by_whispers(rows: Rows, threshold: float) -> NDArray[np.int64]:
    """Group by dlib's Chinese whispers."""
    vectors = [dlib.vector(row.tolist()) for row in rows]
    return np.array(dlib.chinese_whispers_clustering(vectors, float(np.sqrt(threshold))), np.int64)


OURS, EXACT = "ours", "exact average linkage"
METHODS: dict[str, Method] = {
    OURS: lambda rows, threshold: cluster_embeddings(rows, threshold=threshold),
    EXACT: group_exactly,
    "DBSCAN, 2 neighbours": lambda rows, threshold: group_by_density(rows, threshold, 2),
    "DBSCAN, 3 neighbours": lambda rows, threshold: group_by_density(rows, threshold, 3),
    "Chinese whispers": group_by_whispers,
}


def score(people: People, method: str, threshold: float) -> Scored:
    """Return what a method is worth, with its time."""
    start = time.perf_counter()
    labels = METHODS[method](people.rows, threshold)
    seconds = time.perf_counter() - start
    return Scored(method, threshold, evaluate_clusters(labels, people.owner), seconds)


def best(people: People, method: str, default: float) -> Scored:
    """Return a method at the threshold of its highest BCubed F, to a tenth of the default."""
    scored = [score(people, method, part * default) for part in PARTS]
    at = max(scored, key=lambda one: one.result.bcubed.f).threshold
    scored += [score(people, method, at + step * default) for step in (-BESIDE, BESIDE)]
    return max(scored, key=lambda one: one.result.bcubed.f)


def compare(people: People, default: float) -> list[Target]:
    """Print the table of one set of people, and return what has to hold."""
    print(f"{people.name}: {len(people.rows):,} pictures of {people.owner.max() + 1:,} people")
    found = {method: best(people, method, default) for method in METHODS}
    (ours, at), (exact, exact_at) = (
        (found[method].result.bcubed.f, score(people, method, default)) for method in (OURS, EXACT)
    )
    lines = [one._replace(method=f"{one.method}, at its best").cells for one in found.values()]
    lines += [one._replace(method=f"{one.method}, default").cells for one in (at, exact_at)]
    print_table(["method", "distance", "precision", "recall", "BCubed F", "groups", "seconds"], lines)
    gap = max(abs(ours - exact), abs(at.result.bcubed.f - exact_at.result.bcubed.f))
    rival = max(one.result.bcubed.f for name, one in found.items() if name not in (OURS, EXACT))
    return [
        Target(f"{people.name}: from exact average linkage", 100 * gap, 1, "points of F"),
        Target(f"{people.name}: over the best other", 100 * (ours - rival), 0, "points of F", at_least=True),
    ]


class Scaled(NamedTuple):
    """How a size went."""

    grouped: Scored
    work: float
    joined: float
    late: ClusterResult
    gigabytes: float


def scale(real: People, count: int, threshold: float) -> Scaled:
    """Group so many made faces, then let the last hundredth join the groups of the others."""
    made = make_people(real, count)
    start, worked = time.perf_counter(), time.process_time()
    labels = cluster_embeddings(made.rows, threshold=threshold)
    seconds, work = time.perf_counter() - start, time.process_time() - worked
    grouped = Scored(made.name, threshold, evaluate_clusters(labels, made.owner), seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    early = count - round(LATE * count)
    known, labels = made.rows[:early], labels[:early]
    begun = time.perf_counter()
    late = extend_clusters(made.rows[early:], known=known, labels=labels, threshold=threshold)
    seconds = time.perf_counter() - begun
    whole = evaluate_clusters(np.concatenate([labels, late]), made.owner)
    return Scaled(grouped, work, seconds, whole, peak)


def measure_scale(real: People, counts: list[int], choose: Callable[[int], float]) -> list[Target]:
    """Print the table of sizes, each at the threshold chosen for it, and return what has to hold."""
    lines, targets = [], []
    for count in counts:
        # A process of its own, so that its peak of memory is that of this size.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found = alone.submit(scale, real, count, choose(count)).result()
        grouped, late = found.grouped, found.late.bcubed
        more = (f"{found.work:.1f}", f"{found.gigabytes:.2f}", f"{found.joined:.1f}", f"{100 * late.f:.2f} %")
        lines.append([*grouped.cells, *more])
        targets.append(Target(f"{count:,} faces", grouped.seconds, SECONDS.get(count, np.inf), "s"))
        targets.append(Target(f"{count:,} faces, peak of memory", found.gigabytes, GIGABYTES, "GB"))
    columns = ["faces", "distance", "precision", "recall", "BCubed F", "groups", "seconds", "of a core", "GB"]
    print_table([*columns, f"s to join {LATE:.0%}", "F then"], lines)
    return targets


def tell_rates(real: People, recognizer: Recognizer) -> None:
    """Print the false-accept rates of real and made people, which should be alike."""
    made = make_people(real, len(real.rows))
    thresholds = recognizer.thresholds
    rates = [accepted(people, np.array(thresholds.distance)) for people in (real, made)]
    lines = [
        [f"{far:g}", f"{distance:.4f}", f"{first:.2g}", f"{second:.2g}"]
        for far, distance, first, second in zip(thresholds.far, thresholds.distance, *rates, strict=True)
    ]
    print_table(["far asked for", "distance", "of real people", "of made people"], lines)


def accepted(people: People, distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of the pairs of different people at and under each distance."""
    counts, pairs = np.zeros(len(distances)), 0
    for low in range(0, len(people.rows), CHUNK):
        part = slice(low, low + CHUNK)
        apart = squared_distances(people.rows[part], people.rows)[people.owner[part, None] != people.owner]
        counts += [np.count_nonzero(apart <= distance) for distance in distances]
        pairs += len(apart)
    return counts / pairs


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("view1", type=Path, help="lfw-view1.tar")
    parser.add_argument("crops", type=Path, help="A folder of straightened crops.")
    parser.add_argument("--faces", type=int, nargs="*", default=[100_000], help="Sizes to make.")
    parser.add_argument("--distance", type=float, help="The threshold of every size; the default without.")
    parser.add_argument("--only", choices=["quality", "scale"])
    given = parser.parse_args()
    recognizer = Recognizer.load()
    crops = read_crops(recognizer, given.crops)
    targets: list[Target] = []
    if given.only != "scale":
        cluster.FEW = 0  # so that ours is the way of many rows
        targets += [
            target
            for people in (read_lfw(recognizer, given.view1), crops)
            for target in compare(people, recognizer.thresholds.at_album(len(people.rows)))
        ]
    if given.only != "quality":
        tell_rates(crops, recognizer)
        chosen = given.distance
        choose = recognizer.thresholds.at_album if chosen is None else lambda _: chosen
        targets += measure_scale(crops, given.faces, choose)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {describe()}\n")
    return print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
