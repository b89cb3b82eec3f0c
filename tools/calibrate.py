"""Calibrate an embedder: thresholds for two populations, factors for templates, the chance of one person.

    PYTHONPATH=benchmarks python tools/calibrate.py ../shared/data CACHE mobilefacenet

DATA holds `lfw-view1.tar`, `portraits.tar` and `celeba-train.tar`; CACHE keeps landmarks and rows for a fast
second run. All pairs of pictures of different people count, and a rate is counted where `FEWEST` of them are
accepted. Below, a generalised Pareto distribution is fitted by maximum likelihood to how far the nearest
pairs lie under the threshold of `TAIL_FROM` (peaks over threshold; Coles 2001, chapter 4).

- `mixed`: the training half of LFW's View 1. Two names there may be one person: pairs are left out in which
  the last word of one name is a word of the other.
- `alike`: at each rate the smaller distance of View 1 and of the portraits. A sixth of the
  portraits is left out (`benchmarks/fpir.py` needs strangers of the same population).
- Template factors: the mean of n rows against one row of the same people, at a rate of `TEMPLATE_FAR`, on
  people of CelebA whose number does not end in 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.stats import genpareto

from identification import Network, Photographs, embed, find_faces, open_network, read_celeba, read_portraits
from lfw import read_view1
from manifests import HERE
from sameface.arrays import Embeddings
from sameface.compare import unit_distances
from sameface.embed import unit_rows
from sameface.evaluation.allpairs import BINS, SHIFT
from sameface.evaluation.bootstrap import draw_people
from sameface.evaluation.calibration import fit_curve

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
FEWEST = 20  # accepted pairs behind a counted rate
TAIL_FROM = 3e-4  # the rate under which the tail is fitted
TAIL_RATES = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
DRAWS = 200  # of people, for the interval of the tail
REACH = 4  # a draw may need this many times the pairs of the tail
TEMPLATE_COUNTS = (1, 2, 3, 5, 10, 20)
TEMPLATE_FAR, TEMPLATE_DRAWS = 1e-3, 8

Distances = NDArray[np.float32]
Places = NDArray[np.int64]
Tail = dict[float, tuple[float, float, float]]  # by rate: the distance, and both ends of its interval


@dataclass(frozen=True, eq=False)
class Population:
    """All pairs of different people of a set of photographs.

    Attributes:
        distance: `(n,) float32`, rising.
        people: `(k, 2) int64` whose the nearest pairs are.
        sizes: `(p,) int64` how many photographs each person has.
        words: What the photographs are.
    """

    distance: Distances
    people: Places
    sizes: Places
    words: str

    def count(self, rate: float) -> int:
        """Return how many pairs a rate accepts."""
        return int(rate * len(self.distance))

    def at(self, rate: float) -> float:
        """Return the counted distance of a rate."""
        return float(self.distance[self.count(rate) - 1])


def read_training_half(path: Path, cache: Path) -> Photographs:
    """Return the photographs of the training half of View 1."""
    view = read_view1(path)
    files = {f"{each.person}/{each.number:04d}": view.files[each] for each in view.pictures(view.train)}
    return find_faces("view1-train", files, cache)


def share_name(a: str, b: str) -> bool:
    """Return whether the last word of one name is a word of the other."""
    first, second = a.split("_"), b.split("_")
    return first[-1] in second or second[-1] in first


def find_namesakes(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which people may be one under two names, `(p, p)`; everybody is their own namesake."""
    return np.array([[share_name(a, b) for b in names] for a in names])


def pair_up(rows: Embeddings, photographs: Photographs, *, by_name: bool, words: str) -> tuple[Population, Distances]:
    """Return all pairs of different people, and the distances of the pairs of one person.

    Args:
        rows: `(n, d) float32` unit rows.
        photographs: Their photographs.
        by_name: Whether two people of one family name may be one person.
        words: What the photographs are.
    """
    names, person = np.unique(photographs.people, return_inverse=True)
    doubtful = find_namesakes(names.tolist()) if by_name else np.eye(len(names), dtype=bool)
    distances = unit_distances(rows, rows)
    first, second = np.nonzero(np.triu(~doubtful[person[:, None], person]))
    found = distances[first, second]
    order = np.argsort(found, kind="stable")
    near = order[: REACH * int(TAIL_FROM * len(order))]
    people = np.stack([person[first[near]], person[second[near]]], axis=1)
    own = distances[np.triu(person[:, None] == person, 1)]
    told = words.format(photographs=f"{len(rows):,}", people=f"{len(names):,}")
    return Population(found[order], people, np.bincount(person), told), own


def fit_tail(excess: NDArray[np.float64], limit: float) -> list[float]:
    """Return the distance at each of `TAIL_RATES` by a generalised Pareto distribution.

    Args:
        excess: `(k,)` how far the nearest pairs lie under `limit`.
        limit: The distance at the rate `TAIL_FROM`.
    """
    shape, _, scale = genpareto.fit(excess, floc=0)
    return [limit - genpareto.isf(rate / TAIL_FROM, shape, scale=scale) for rate in TAIL_RATES]


def extrapolate(population: Population) -> Tail:
    """Return the tail, with an interval over people."""
    limit = population.at(TAIL_FROM)
    near = population.distance[: len(population.people)].astype(np.float64)
    values = fit_tail(limit - near[near < limit], limit)
    draws = draw_people(len(population.sizes), repeats=DRAWS, rng=np.random.default_rng(0))
    drawn = [fit_drawn(population, near, draw) for draw in draws]
    low, high = np.maximum(np.percentile(drawn, [2.5, 97.5], axis=0), 0)
    return dict(zip(TAIL_RATES, zip(values, low.tolist(), high.tolist(), strict=True), strict=True))


def fit_drawn(population: Population, near: NDArray[np.float64], draw: Places) -> list[float]:
    """Return the tail when people count as often as they were drawn."""
    weights = draw[population.people].prod(axis=1)
    shown = (population.sizes * draw).astype(np.float64)
    pairs = (shown.sum() ** 2 - (shown**2).sum()) / 2
    limit = near[min(int(np.searchsorted(np.cumsum(weights), TAIL_FROM * pairs)), len(near) - 1)]
    inside = near < limit
    return fit_tail(np.repeat(limit - near[inside], weights[inside]), limit)


def make_table(name: str, populations: Sequence[Population], tails: Sequence[Tail]) -> dict[str, Any]:
    """Return thresholds as a manifest has them: at each rate the smallest distance of some populations."""
    rows = []
    for rate in RATES:
        counted = [each for each in populations if each.count(rate) >= FEWEST]
        if counted:
            least = min(counted, key=lambda each: each.at(rate))
            rows.append({"far": rate, "distance": round(least.at(rate), 5), "pairs": least.count(rate)})
    return {
        "population": name,
        "calibrated_on": "; ".join(each.words for each in populations),
        "impostor_pairs": sum(len(each.distance) for each in populations),
        "rows": rows,
        "tail": join_tails(tails, rows[-1]),
    }


def join_tails(tails: Sequence[Tail], last: dict[str, float]) -> list[dict[str, float]]:
    """Return the smallest distance at each rate below the last counted one, as far as it is positive."""
    found: list[dict[str, float]] = []
    before = last["distance"]
    for rate in TAIL_RATES:
        distance, low, high = (round(value, 5) for value in min(tail[rate] for tail in tails))
        if rate >= last["far"]:
            continue
        if not 0 < distance < before:
            break
        found.append({"far": rate, "distance": distance, "low": low, "high": high})
        before = distance
    return found


def measure_templates(rows: Embeddings, person: Places) -> list[list[float]]:
    """Return pairs of a count and what the threshold of one row is multiplied by for a mean of so many.

    Args:
        rows: `(n, d) float32` unit rows.
        person: `(n,) int64` whose each is.
    """
    rng = np.random.default_rng(0)
    sizes = np.bincount(person)
    found = []
    for count in TEMPLATE_COUNTS:
        people = np.flatnonzero(sizes > count)
        parts = np.array([compare_means(rows, person, people, count, rng) for _ in range(TEMPLATE_DRAWS)])
        mean, single = parts.sum(axis=0)
        found.append([count, round(float(mean / single), 3)])
    return found


def compare_means(
    rows: Embeddings, person: Places, people: Places, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the thresholds of the means of `count` rows of each of some people, and of one of these rows."""
    chosen = np.array([rng.choice(np.flatnonzero(person == who), count, replace=False) for who in people])
    others = person[:, None] != people
    means, firsts = unit_rows(rows[chosen].sum(axis=1)), rows[chosen[:, 0]]
    mean, single = (float(np.quantile(unit_distances(rows, each)[others], TEMPLATE_FAR)) for each in (means, firsts))
    return mean, single


def bin_pairs(own: Distances, others: Distances) -> NDArray[np.int64]:
    """Return how many pairs of both kinds lie in each bin of distances, `(2, BINS)`."""
    bins = [np.bincount(each.view(np.uint32) >> SHIFT, minlength=BINS) for each in (own, others)]
    return np.array(bins, np.int64)


def describe_curve(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return the chance of one person by distance, as a manifest has it."""
    curve = fit_curve(counts)
    rounded = {
        round(place, 5): float(f"{chance:.9g}") for place, chance in zip(curve.distance, curve.chance, strict=True)
    }
    return {"distance": [*rounded], "chance": [*rounded.values()], "pairs": curve.pairs}


def calibrate(network: Network, data: Path, cache: Path) -> dict[str, Any]:
    """Return thresholds and curve of an embedder."""

    def embed_all(photographs: Photographs) -> Embeddings:
        crop, mirrored = embed(network, photographs, cache)
        return unit_rows(crop + mirrored)

    half = read_training_half(data / "lfw-view1.tar", cache)
    words = "LFW View 1, training half, {photographs} photographs of {people} people, deep-funneled"
    view, own = pair_up(embed_all(half), half, by_name=True, words=f"{words}, without pairs of namesakes")
    drawn = read_portraits(data / "portraits.tar", cache)
    words = "{photographs} portraits of members of the US Congress born since 1850, one of each"
    portraits, _ = pair_up(embed_all(drawn), drawn, by_name=False, words=words)
    tails = [extrapolate(view), extrapolate(portraits)]
    tables = [make_table("alike", [view, portraits], tails), make_table("mixed", [view], tails[:1])]
    celeba = read_celeba(data / "celeba-train.tar")
    kept = ~np.char.endswith(celeba.people, "0")
    person = np.unique(celeba.people[kept], return_inverse=True)[1]
    factors = measure_templates(embed_all(celeba)[kept], person)
    return {
        "thresholds": [{**table, "templates": factors} for table in tables],
        "probability": describe_curve(bin_pairs(own, view.distance)),
    }


def main() -> None:
    """Write `<name>-thresholds.toml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    network = open_network(arguments.name, arguments.data)
    text = tomli_w.dumps(calibrate(network, arguments.data, arguments.cache))
    (HERE / f"{arguments.name}-thresholds.toml").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
