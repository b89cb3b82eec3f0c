"""Differences between two models, with paired intervals and McNemar's test."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.bootstrap import Estimate, estimate_all, pair_weights
from sameface.evaluation.pairs import FARS, part_of
from sameface.evaluation.roc import Flags, Numbers, allowed_accepts, area_under, equal_error_rate, make_roc, val_under

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two models."""

    name: str  # the measure
    ours: float  # of this model
    theirs: float  # of the other
    gain: Estimate  # ours less theirs, from the same draws of people; its ends are NaN where there is no test
    chance: float | None = None  # p of McNemar's test, if pairs were independent; None for other measures

    @property
    def tested(self) -> bool:
        """Whether there is an interval to go by."""
        return not math.isnan(self.gain.low)

    @property
    def real(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.gain.low > 0 or self.gain.high < 0


@dataclass(frozen=True, slots=True, eq=False)
class SharedPairs:
    """The pairs that two models both judged; ours first, theirs second."""

    same: Flags  # (n,) whether each shows one person
    people: NDArray[np.int64]  # (n, 2)
    distance: Numbers  # (2, n) NaN without a face
    right: Flags  # (2, n) judged rightly; False without a distance


def mcnemar(ours: Flags, theirs: Flags) -> float:
    """Return the chance of so uneven a split of the pairs that only one model judges rightly (McNemar, 1947).

    It is exact: between equally good models each such pair is the toss of a coin.
    """
    first, second = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    count, fewer = first + second, min(first, second)
    few = np.arange(1, fewer + 1)
    # log of (count over few) / 2 ** count, each from the one before: (count - few + 1) / few as many.
    logs = np.append(0.0, np.cumsum(np.log((count - few + 1) / few))) - count * math.log(2)
    return float(min(1, 2 * np.exp(logs).sum()))


def join_pairs(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> SharedPairs | None:
    """Return the pairs that both lists hold; None if they share none.

    Each pair is a, b, same, person a, person b, distance, right. Paths that differ only by the folder that holds
    all pictures are the same.
    """
    first, second = index_pairs(ours), index_pairs(theirs)
    both = [(pair, second[key]) for key, pair in first.items() if key in second]
    if not both:
        return None
    _, numbers = np.unique([[str(name) for name in pair[3:5]] for pair, _ in both], return_inverse=True)
    return SharedPairs(
        same=np.array([pair[2] for pair, _ in both], bool),
        people=numbers.reshape(-1, 2).astype(np.int64),
        distance=np.array([[side[5] for side in pair] for pair in both], np.float64).T,
        right=np.array([[side[6] for side in pair] for pair in both], bool).T,
    )


def index_pairs(pairs: Sequence[Sequence[Any]]) -> dict[tuple[str, str], Sequence[Any]]:
    """Return each pair by its two paths, relative to the folder that holds them all."""
    prefix = os.path.commonprefix([path for pair in pairs for path in pair[:2]])  # noqa: RUF071, cut below
    folder = prefix[: max(prefix.rfind("/"), prefix.rfind("\\")) + 1]
    return {(pair[0].removeprefix(folder), pair[1].removeprefix(folder)): pair for pair in pairs}


def compare_pairs(twins: SharedPairs, *, repeats: int, seed: int) -> list[Difference]:
    """Return accuracy with McNemar's test, AUC, EER, VAL at every rate; a draw of people counts for both.

    All but accuracy is over the pairs for which both models have a distance.
    """
    found: Flags = ~np.isnan(twins.distance.sum(axis=0))
    impostors = int((~twins.same[found]).sum())
    fars = [far for far in FARS if allowed_accepts(far, impostors)]
    names = [
        "accuracy, pairs without a face counted as errors",
        "AUC",
        "EER",
        *(f"VAL at FAR {far:g}" for far in fars),
    ]

    def measure(draw: NDArray[np.int64]) -> Numbers:
        weight = pair_weights(draw, twins.people)
        columns = []
        for distance, right in zip(twins.distance, twins.right, strict=True):
            roc = make_roc(distance[found], twins.same[found], weight[found])
            vals = [val_under(roc, far) for far in fars]
            columns.append([part_of(right, weight), area_under(roc), equal_error_rate(roc), *vals])
        ours, theirs = np.array(columns)
        return np.concatenate([ours, theirs, ours - theirs])

    people = int(twins.people.max()) + 1
    estimates = estimate_all(measure, people, repeats=repeats, rng=np.random.default_rng(seed))
    ours, theirs, gains = (estimates[start : start + len(names)] for start in range(0, len(estimates), len(names)))
    chances = [mcnemar(twins.right[0], twins.right[1]), *[None] * (len(names) - 1)]
    return [
        Difference(name, own.value, other.value, gain, chance)
        for name, own, other, gain, chance in zip(names, ours, theirs, gains, chances, strict=True)
    ]


def compare_people(ours: Record, theirs: Record, *, repeats: int, seed: int) -> list[Difference]:
    """Return measures that are sums over people, with a paired bootstrap; the thresholds stay as they are.

    `ours` and `theirs` hold right and all pairs of each person, by measure.
    """
    found = []
    for name, own in ours.items():
        other = theirs.get(name, {})
        people = sorted(set(own) & set(other))
        if people:
            counts = np.array([[own[person], other[person]] for person in people], np.float64)  # (p, 2, 2)
            rng = np.random.default_rng(seed)
            measure = partial(part_both, counts)
            first, second, gain = estimate_all(measure, len(people), repeats=repeats, rng=rng)
            found.append(Difference(name, first.value, second.value, gain))
    return found


def part_both(counts: Numbers, draw: NDArray[np.int64]) -> Numbers:
    """Return the part that is right of both models, and ours less theirs, `(3,)`.

    `counts` are right and all pairs of each person, of ours and theirs, `(p, 2, 2)`.
    """
    sums = np.tensordot(draw.astype(np.float64), counts, axes=1)  # (2, 2)
    parts = np.divide(sums[:, 0], sums[:, 1], out=np.full(2, np.nan), where=sums[:, 1] > 0)
    return np.append(parts, parts[0] - parts[1])


def compare_numbers(ours: Any, theirs: Any, name: str = "") -> Iterator[Difference]:
    """Yield every float that both records hold at the same place, without a test; of an estimate its value."""
    if is_estimate(ours) and is_estimate(theirs):
        yield from compare_numbers(ours["value"], theirs["value"], name)
    elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in ours:
            if key in theirs:
                yield from compare_numbers(ours[key], theirs[key], f"{name} {key}".strip())
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), start=1):
            yield from compare_numbers(mine, other, f"{name} {number}")
    elif isinstance(ours, float) and isinstance(theirs, float | int):
        yield Difference(name, ours, float(theirs), Estimate(ours - theirs, float("nan"), float("nan")))


def is_estimate(found: Any) -> bool:
    """Return whether this is a value with its interval, as JSON holds it."""
    return isinstance(found, Mapping) and set(found) == {"value", "low", "high"}
