"""Verification on a list of pairs: accuracy over folds, AUC, EER and VAL at FAR, over all and by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.bootstrap import REPEATS, Estimate, estimate_all, pair_weights
from sameface.evaluation.roc import (
    Flags,
    Numbers,
    OperatingPoint,
    allowed_accepts,
    area_under,
    equal_error_rate,
    make_roc,
    operate_at,
    operate_at_far,
    val_under,
)

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """A list of pairs with their distances.

    Attributes:
        distance: `(n,) float64` squared distance; NaN where a face is missing on one side.
        same: `(n,) bool` whether the pair shows one person.
        fold: `(n,) int64` the part of the list it belongs to.
        people: `(n, 2) int64` the numbers of the two people, 0 and up.
    """

    distance: Numbers
    same: Flags
    fold: NDArray[np.int64]
    people: NDArray[np.int64]

    @property
    def found(self) -> Flags:
        """Whether both sides have a face."""
        return ~np.isnan(self.distance)

    def pick(self, chosen: Flags) -> PairScores:
        """Return some of the pairs."""
        return PairScores(self.distance[chosen], self.same[chosen], self.fold[chosen], self.people[chosen])


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One part of the list, judged with the threshold that was best on all others.

    Attributes:
        pairs: How many pairs have a distance.
        threshold: From the other folds.
        accuracy: The part of the pairs that it judges rightly; NaN without a pair.
    """

    pairs: int
    threshold: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ValAtFar:
    """VAL at a false-accept rate, and how one threshold for everybody works here.

    Attributes:
        far: The rate that is allowed.
        val: VAL with the threshold that these very pairs give; None where they are too few for this rate.
        operating: That threshold, and what it does; None likewise.
        common_val: VAL with the threshold that all pairs together give.
        common_far: The false-accept rate with that threshold.
    """

    far: float
    val: Estimate | None
    operating: OperatingPoint | None
    common_val: Estimate
    common_far: Estimate


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """What is measured on a list of pairs, or on a slice of it.

    Attributes:
        genuine: Pairs of one person that have a distance.
        impostors: Pairs of different people that have one.
        failed: Pairs without a distance: no face was found in one of the two pictures.
        accuracy: The part of the pairs with a distance that is judged rightly.
        accuracy_of_all: The same, where each pair without a distance counts as an error.
        auc: The area under VAL against FAR.
        eer: The equal error rate.
        vals: For each rate that all pairs together support.
    """

    genuine: int
    impostors: int
    failed: int
    accuracy: Estimate
    accuracy_of_all: Estimate
    auc: Estimate
    eer: Estimate
    vals: tuple[ValAtFar, ...]


@dataclass(frozen=True, slots=True)
class PairsResult:
    """The evaluation of a list of pairs.

    Attributes:
        folds: One for each part of the list.
        accuracy: The mean of the folds' accuracies.
        standard_error: Of that mean; NaN with a single fold that has pairs.
        measures: Over all pairs.
        refused: The rates that the pairs of different people are too few for.
        slices: The same measures by slice.
    """

    folds: tuple[FoldResult, ...]
    accuracy: float
    standard_error: float
    measures: PairMeasures
    refused: tuple[float, ...]
    slices: Mapping[str, PairMeasures]


def best_threshold(distance: Numbers, same: Flags) -> float:
    """Return the threshold that judges most pairs rightly.

    It lies in the middle between two neighbouring distances, and of equally good ones it is the middle one.
    -1 rejects everything.
    """
    order = np.argsort(distance, kind="stable")
    ranked = distance[order]
    gain = np.append(0, np.cumsum(np.where(same[order], 1, -1)))  # rightly accepted less wrongly
    apart = np.append(True, np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.array([True])
    places = np.flatnonzero(apart)  # a run of equal distances is accepted whole or not at all
    best = places[gain[places] == gain[places].max()]
    place = int(best[len(best) // 2])
    if place == 0:
        return -1.0
    return float(ranked[place - 1 : place + 1].mean())


def cross_validate(scores: PairScores) -> tuple[FoldResult, ...]:
    """Judge each fold with the threshold that is best on all others.

    Raises:
        ValueError: There are fewer than two folds.
    """
    numbers = np.unique(scores.fold)
    if len(numbers) < 2:
        raise ValueError(f"there must be two folds or more, got {len(numbers)}")
    folds = []
    for number in numbers:
        others = scores.pick((scores.fold != number) & scores.found)
        own = scores.pick((scores.fold == number) & scores.found)
        threshold = best_threshold(others.distance, others.same)
        right = (own.distance <= threshold) == own.same
        folds.append(FoldResult(len(right), threshold, float(right.mean()) if len(right) else float("nan")))
    return tuple(folds)


def judge_pairs(scores: PairScores, folds: Sequence[FoldResult]) -> Flags:
    """Return whether each pair is judged rightly with its fold's threshold; one without distance is not."""
    place = np.searchsorted(np.unique(scores.fold), scores.fold)
    threshold = np.array([fold.threshold for fold in folds])[place]
    right: Flags = ((scores.distance <= threshold) == scores.same) & scores.found
    return right


def mean_and_error(values: Numbers) -> tuple[float, float]:
    """Return the mean and its standard error; values that are not defined are left out."""
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    if len(defined) < 2:
        return mean, float("nan")
    return mean, float(defined.std(ddof=1) / np.sqrt(len(defined)))


def evaluate_pairs(
    scores: PairScores,
    *,
    fars: Sequence[float] = FARS,
    slices: Sequence[str] = (),
    repeats: int = REPEATS,
    seed: int = 0,
) -> PairsResult:
    """Measure a list of pairs.

    Args:
        scores: The pairs.
        fars: The false-accept rates of interest.
        slices: The slice of each pair; empty for none.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.

    Raises:
        ValueError: Fewer than two folds.
    """
    folds = cross_validate(scores)
    right = judge_pairs(scores, folds)
    mean, error = mean_and_error(np.array([fold.accuracy for fold in folds]))
    found = scores.pick(scores.found)
    roc = make_roc(found.distance, found.same)
    supported = [far for far in fars if allowed_accepts(far, roc.impostors)]
    common = {far: operate_at_far(roc, far).threshold for far in supported}
    parts = {"": np.ones(len(right), bool)}
    parts |= {name: np.array(slices) == name for name in sorted(set(slices))}
    measured = {
        name: measure(scores.pick(part), right[part], common, repeats=repeats, seed=seed)
        for name, part in parts.items()
    }
    return PairsResult(
        folds=folds,
        accuracy=mean,
        standard_error=error,
        measures=measured.pop(""),
        refused=tuple(far for far in fars if far not in supported),
        slices=measured,
    )


def measure(
    scores: PairScores, right: Flags, common: Mapping[float, float], *, repeats: int, seed: int
) -> PairMeasures:
    """Return every measure with its interval.

    Args:
        scores: The pairs.
        right: Whether each was judged rightly.
        common: The threshold that all pairs together give for each rate.
        repeats: How often people are drawn.
        seed: Draws them.
    """
    names, numbers = np.unique(scores.people, return_inverse=True)
    people = numbers.reshape(-1, 2)

    def values(draws: NDArray[np.int64]) -> Numbers:
        return measure_once(scores, right, common, pair_weights(draws, people))

    rng = np.random.default_rng(seed)
    estimates = estimate_all(values, len(names), repeats=repeats, rng=rng)
    found = scores.pick(scores.found)
    roc = make_roc(found.distance, found.same)
    vals = []
    for place, far in enumerate(common):
        own, val, rate = estimates[4 + 3 * place : 7 + 3 * place]
        enough = allowed_accepts(far, roc.impostors) > 0
        operating = operate_at_far(roc, far) if enough else None
        vals.append(ValAtFar(far, own if enough else None, operating, val, rate))
    accuracy, accuracy_of_all, auc, eer = estimates[:4]
    failed = int((~scores.found).sum())
    return PairMeasures(
        roc.genuine, roc.impostors, failed, accuracy, accuracy_of_all, auc=auc, eer=eer, vals=tuple(vals)
    )


def measure_once(scores: PairScores, right: Flags, common: Mapping[float, float], weight: Numbers) -> Numbers:
    """Return accuracy, accuracy of all, AUC, EER, and for each rate VAL, common VAL and common FAR."""
    found = scores.found
    roc = make_roc(scores.distance[found], scores.same[found], weight[found])
    values = [part_of(right, weight * found), part_of(right, weight), area_under(roc), equal_error_rate(roc)]
    for far, threshold in common.items():
        held = operate_at(roc, threshold)
        values += [val_under(roc, far), held.val, held.far]
    return np.array(values)


def part_of(flags: Flags, weight: Numbers) -> float:
    """Return which part of the weight is flagged; NaN of nothing."""
    total = weight.sum()
    return float(weight[flags].sum() / total) if total > 0 else float("nan")
