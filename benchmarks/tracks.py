"""Does the mean of several views keep the promise of a threshold that was made for one?

    python benchmarks/tracks.py CROPS [--weights mobilefacenet]

CROPS are straightened crops, with their `crops.toml`, of people whom the network has not seen. A track is 1,
2 or 4 photographs of one person: they differ more than the frames of a video, so this is the worst case. 200
people are enrolled with one other photograph each; half of all people are strangers. The mean of 30 draws
of who is enrolled: how many strangers get a name, and how many enrolled people get theirs, when distances to
the mean are taken as they are, are divided by the factor of so many views, as `identify_video` does, and are
widened by the length of the mean, as it does for weights without factors. For each population.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from report import print_table
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.model import DEFAULT_WEIGHTS
from sameface.recognizer import Recognizer
from sameface.thresholds import Thresholds
from sameface.training.dataset import open_pictures

Rows = NDArray[np.float32]
ENROLLED, DRAWS = 200, 30
FARS = (0.1, 0.03, 0.01)
VIEWS = (1, 2, 4)


def gather_people(folder: Path, recognizer: Recognizer) -> Rows:
    """Return the first five rows of everybody who has as many, `(p, 5, d)`."""
    crops = open_pictures([folder])
    rows = embed_crops(recognizer.embedder, crops)
    owned = defaultdict(list)
    for row, owner in zip(rows, crops.owner, strict=True):
        owned[int(owner)].append(row)
    return np.stack([np.stack(own[:5]) for own in owned.values() if len(own) >= 5])


def measure(tracks: Rows, gallery: Rows, factor: float) -> dict[str, NDArray[np.float64]]:
    """Return the distances of tracks to everybody, by the way to count them, `(n, p)` each.

    Args:
        tracks: `(n, m, d)` the views of each track.
        gallery: `(p, d)` one row of each person.
        factor: Of means of so many views.
    """
    means = tracks.mean(axis=1)
    distances = squared_distances(unit_rows(means), gallery).astype(np.float64)
    part = 1 - np.sqrt(np.linalg.norm(means, axis=1, keepdims=True))
    return {"as they are": distances, "by factor": distances / factor, "widened": distances + part * (2 - distances)}


def draw(people: Rows, thresholds: Thresholds) -> list[list[str]]:
    """Return the rows of the table."""
    rows = []
    for far, views in product(FARS, VIEWS):
        threshold = thresholds.at_gallery(ENROLLED, far).distance
        [factor] = thresholds.template_factors(np.array([views])).tolist()
        rates: dict[str, list[tuple[float, float]]] = {}
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(people))
            known, strangers = people[order[:ENROLLED]], people[order[len(people) // 2 :]]
            hits, alarms = (measure(own[:, 1 : 1 + views], known[:, 0], factor) for own in (known, strangers))
            for way in hits:
                right = (hits[way].argmin(axis=1) == np.arange(ENROLLED)) & (hits[way].min(axis=1) <= threshold)
                alarm = (alarms[way].min(axis=1) <= threshold).mean()
                rates.setdefault(way, []).append((float(alarm), float(right.mean())))
        cells = [part for way in rates.values() for part in map("{:.4f}".format, np.mean(way, axis=0))]
        rows.append([f"{far:g}", str(views), *cells])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.weights)
    people = gather_people(arguments.crops, recognizer)
    strangers = len(people) - len(people) // 2
    print(f"{arguments.weights}: {len(people)} people, {ENROLLED} enrolled, {strangers} strangers\n")
    spec = recognizer.embedder.spec
    ways = ("as they are", "by factor", "widened")
    header = ["asked far", "views", *(f"{way}: {part}" for way in ways for part in ("strangers", "right"))]
    for thresholds in (spec.thresholds, *spec.others):
        print(f"population: {thresholds.population}")
        print_table(header, draw(people, thresholds))


if __name__ == "__main__":
    main()
