"""How long do the measures take, and how much memory, as pairs grow?

    python benchmarks/evaluation.py [--billion]

Rows are drawn at random, five of each person. Each size runs in a process of its own, so that its peak is
its own. `--billion` adds 45,000 rows, a thousand million pairs: half a minute on two fast cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sameface.compare import squared_distances
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.pairs import PairScores, evaluate_pairs

WIDTH = 128
PICTURES = 5


class Cost(NamedTuple):
    """What one measurement took."""

    pairs: int
    seconds: float
    megabytes: float


def draw_rows(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit rows and whose they are."""
    rng = np.random.default_rng(0)
    person = np.arange(count) // PICTURES
    centres = rng.standard_normal((count // PICTURES + 1, WIDTH), np.float32)
    rows = centres[person] + rng.standard_normal((count, WIDTH), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, person


def measure_holdout(count: int) -> Cost:
    """Return the cost of VAL at FAR 1e-1 to 1e-6 with intervals over all pairs of so many rows."""
    rows, person = draw_rows(count)
    start = time.perf_counter()
    result = evaluate_holdout(rows, person)
    return Cost(result.genuine + result.impostors, time.perf_counter() - start, peak())


def measure_pairs(count: int) -> Cost:
    """Return the cost of every measure with intervals over a list of so many pairs in ten folds."""
    rows, person = draw_rows(2 * count)
    rng = np.random.default_rng(1)
    first = rng.integers(0, len(rows), count)
    same = np.arange(count) % 2 == 0
    second = np.where(same, first // PICTURES * PICTURES + (first + 1) % PICTURES, first - PICTURES)
    distance = np.array([squared_distances(rows[[a]], rows[[b]])[0, 0] for a, b in zip(first, second, strict=True)])
    people = np.column_stack([person[first], person[second]])
    scores = PairScores(distance.astype(np.float64), people[:, 0] == people[:, 1], np.arange(count) % 10, people)
    start = time.perf_counter()
    evaluate_pairs(scores)
    return Cost(count, time.perf_counter() - start, peak())


def peak() -> float:
    """Return the largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--billion", action="store_true", help="also a thousand million pairs")
    arguments = parser.parse_args()
    sizes = [1_000, 5_000, 20_000] + ([45_000] if arguments.billion else [])
    print(f"{'measure':<22} {'pairs':>15} {'seconds':>9} {'peak MB':>9}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for count in (3_200, 6_000):
            cost = pool.apply(measure_pairs, (count,))
            print(f"{'list of pairs':<22} {cost.pairs:>15,} {cost.seconds:>9.2f} {cost.megabytes:>9.0f}")
        for count in sizes:
            cost = pool.apply(measure_holdout, (count,))
            name = f"all pairs of {count:,}"
            print(f"{name:<22} {cost.pairs:>15,} {cost.seconds:>9.2f} {cost.megabytes:>9.0f}")


if __name__ == "__main__":
    main()
