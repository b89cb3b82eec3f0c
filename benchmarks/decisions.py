"""Do the shipped thresholds keep their promise on people they were not calibrated on?

    python benchmarks/decisions.py ../shared/data/lfw-view1.tar

The thresholds of each population come from the training half of LFW's View 1, those of people alike from
portraits as well. Everything below is measured on the test half, whose people are others (clusters: on both
halves). One photograph of each enrolled person is in the gallery.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfw import Picture, View1, embed_pictures, read_view1
from sameface.cluster import cluster_embeddings
from sameface.compare import squared_distances
from sameface.model import DEFAULT_WEIGHTS
from sameface.recognizer import Recognizer
from sameface.thresholds import Thresholds

Rows = NDArray[np.float32]
REPEATS = 30
CLUSTER_FARS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)


class Half(NamedTuple):
    """The embeddings of one half and whose they are."""

    rows: Rows
    people: NDArray[np.str_]


def embed_half(recognizer: Recognizer, view: View1, pictures: list[Picture]) -> Half:
    """Return the rows of one half without the photographs in which no face was found."""
    rows, missed, _ = embed_pictures(recognizer, view, pictures)
    found = [number for number, picture in enumerate(pictures) if picture not in missed]
    return Half(rows[found], np.array([pictures[number].person for number in found]))


def print_verification(half: Half, thresholds: Thresholds) -> None:
    """Print the false-accept rate that each threshold really gives, and VAL."""
    distances = squared_distances(half.rows, half.rows)
    upper = np.triu(np.ones(distances.shape, bool), 1)
    same = (half.people[:, None] == half.people)[upper]
    print(f"\nverification: {int(same.sum()):,} genuine, {int((~same).sum()):,} impostor pairs")
    print(f"{'asked FAR':>10} {'measured':>10} {'VAL':>8}")
    for far, threshold in zip(thresholds.far, thresholds.distance, strict=True):
        accepted = distances[upper] <= threshold
        print(f"{far:>10g} {accepted[~same].mean():>10.2g} {100 * accepted[same].mean():>7.2f}%")


def open_set(half: Half, thresholds: Thresholds, size: int, far: float) -> tuple[float, float]:
    """Return FPIR and the rate of right names (DIR, rank 1) with `size` people enrolled, over 30 draws."""
    threshold = thresholds.at_gallery(size, far).distance
    rng = np.random.default_rng(0)
    everyone = np.unique(half.people)
    alarms, hits = [], []
    for _ in range(REPEATS):
        enrolled = rng.choice(everyone, size, replace=False)
        gallery = np.array([rng.choice(np.flatnonzero(half.people == person)) for person in enrolled])
        known = np.isin(half.people, enrolled)
        distances = squared_distances(half.rows, half.rows[gallery])
        near = distances.min(axis=1) <= threshold
        right = near & (enrolled[distances.argmin(axis=1)] == half.people)
        known[gallery] = False
        alarms.append(near[~np.isin(half.people, enrolled)].mean())
        hits.append(right[known].mean())
    return float(np.mean(alarms)), float(np.mean(hits))


def bcubed(labels: NDArray[np.int64], people: NDArray[np.str_]) -> tuple[float, float, float]:
    """Return BCubed precision, recall and F."""
    together = labels[:, None] == labels
    true = people[:, None] == people
    right = (together & true).sum(axis=1)
    precision = float((right / together.sum(axis=1)).mean())
    recall = float((right / true.sum(axis=1)).mean())
    return precision, recall, 2 * precision * recall / (precision + recall)


def print_identification(half: Half, thresholds: Thresholds) -> None:
    """Print how many strangers are named, and how many of the known rightly."""
    print(f"\nopen-set identification, {REPEATS} draws")
    print(f"{'enrolled':>10} {'asked FPIR':>10} {'measured':>10} {'DIR':>8}")
    for size in (20, 100, 300, 500):
        for far in (1e-1, 1e-2):
            alarms, hits = open_set(half, thresholds, size, far)
            print(f"{size:>10} {far:>10g} {alarms:>10.2g} {100 * hits:>7.2f}%")


def print_clusters(halves: Sequence[Half], thresholds: Thresholds) -> None:
    """Print how well photographs are grouped at the thresholds of some rates."""
    counts = " and ".join(f"{len(half.rows):,}" for half in halves)
    print(f"\nclusters by average linkage, {counts} photographs")
    print(f"{'FAR':>10} {'distance':>10}   training half: precision, recall, F   test half")
    for far in CLUSTER_FARS:
        threshold = thresholds.at(far)
        scores = [bcubed(cluster_embeddings(half.rows, threshold=threshold), half.people) for half in halves]
        parts = "   ".join(f"{p:.3f} {r:.3f} {f:.3f}" for p, r, f in scores)
        print(f"{far:>10g} {threshold:>10.3f}   {parts}")


def main() -> None:
    """Print three tables for each population."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("view1", type=Path, help="lfw-view1.tar")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.weights)
    view = read_view1(arguments.view1)
    train, test = (embed_half(recognizer, view, view.pictures(pairs)) for pairs in (view.train, view.test))
    spec = recognizer.embedder.spec
    for thresholds in (spec.thresholds, *spec.others):
        print(f"\npopulation: {thresholds.population}")
        print_verification(test, thresholds)
        print_identification(test, thresholds)
        print_clusters((train, test), thresholds)


if __name__ == "__main__":
    main()
