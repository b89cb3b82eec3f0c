"""Old and new embeddings compared with each other, as in FaceNet's appendix: VAL at FAR, three pairings.

    python benchmarks/harmonic.py CROPS OLD NEW [--adapter ADAPTER.npz]

CROPS are straightened crops, with their `crops.toml`, of people whom neither network has seen; OLD and NEW
are weights. Without an adapter the old rows are compared with new probes as they are, which suits a
new network that was trained to agree with the old one (`sameface train --teacher` turns its teachers so). The
difference from old probes on old rows has an interval of 95 %: people are drawn 2,000 times, the threshold
stays where all pairs of different people put it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from report import print_table
from sameface.adapter import Adapter
from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import Embedder
from sameface.evaluation.pipelines import compare_pipelines
from sameface.model import Model
from sameface.training.dataset import open_pictures

FARS = (1e-3, 1e-4)
DRAWS = 2_000


def accepted(
    probes: Embeddings, enrolled: Embeddings, person: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each FAR and person the pairs of one person that it lets through; and all of them."""
    found = compare_pipelines(probes, enrolled, person).thresholds("these people")
    limits = np.array([found.distance[found.far.index(far)] for far in FARS])
    people = int(person.max()) + 1
    through, pairs = np.zeros((len(FARS), people), np.int64), np.zeros(people, np.int64)
    for number in np.unique(person):
        own = person == number
        near = squared_distances(probes[own], enrolled[own]) <= limits[:, None, None]  # (FARs, k, k)
        near[:, np.arange(own.sum()), np.arange(own.sum())] = False
        through[:, number], pairs[number] = near.sum(axis=(1, 2)), near[0].size - own.sum()
    return through, pairs


def interval(gained: NDArray[np.int64], pairs: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval, over draws of the people, of what was gained, in % of all their pairs."""
    rng, people = np.random.default_rng(0), len(pairs)
    draws = [np.bincount(rng.integers(0, people, people), minlength=people) for _ in range(DRAWS)]
    low, high = np.quantile([100 * (times @ gained) / (times @ pairs) for times in draws], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--adapter", type=Path)
    arguments = parser.parse_args()
    crops = open_pictures([arguments.crops])
    old, new = (embed_crops(Embedder(Model.load(name)), crops) for name in (arguments.old, arguments.new))
    moved = old if arguments.adapter is None else Adapter.load(arguments.adapter).move(old)
    pairings = {
        "old probe, old row (v1-v1)": (old, old),
        "new probe, new row (v2-v2)": (new, new),
        "new probe, old row (v2-v1)": (new, moved),
    }
    found = {name: accepted(*rows, crops.owner) for name, rows in pairings.items()}
    base, pairs = next(iter(found.values()))
    table = []
    for name, (through, _) in found.items():
        cells = [name]
        for now, before in zip(through, base, strict=True):
            low, high = interval(now - before, pairs)
            cells += [f"{100 * now.sum() / pairs.sum():.2f} %", f"{low:+.1f} to {high:+.1f}"]
        table.append(cells)
    header = [part for far in FARS for part in (f"VAL at FAR {far:g}", "against v1-v1")]
    print_table(["pairing", *header], table)
    print(f"{len(crops)} pictures of {len(crops.people)} people, mirror image averaged in")


if __name__ == "__main__":
    main()
