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
    """A list of pairs with their distances."""

    distance: Numbers  # (n,) squared distance; NaN where a face is missing on one side
    same: Flags  # (n,) whether the pair shows one person
    fold: NDArray[np.int64]  # (n,) the part of the list it belongs to
    people: NDArray[np.int64]  # (n, 2) the numbers of the two people, 0 and up

    @property
    def found(self) -> Flags:
        """Whether both sides have a face."""
        return ~np.isnan(self.distance)

    def pick(self, chosen: Flags) -> PairScores:
        """Return some of the pairs."""
        return PairScores(self.distance[chosen], self.same[chosen], self.fold[chosen], self.people[chosen])


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One part of the list, judged with the threshold that was best on all others."""

    pairs: int  # with a distance
    threshold: float  # from the other folds
    accuracy: float  # the part of the pairs that it judges rightly; NaN without a pair


@dataclass(frozen=True, slots=True)
class ValAtFar:
    """VAL at a false-accept rate, with a threshold from these very pairs and with the threshold of all pairs.

    `val` and `operating` are None where these pairs are too few for the rate.
    """

    far: float  # the rate that is allowed
    val: Estimate | None
    operating: OperatingPoint | None
    common_val: Estimate  # VAL with the threshold that all pairs together give
    common_far: Estimate  # the false-accept rate with that threshold


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """The measures of a list of pairs, or of a slice of it."""

    genuine: int  # pairs of one person that have a distance
    impostors: int  # pairs of different people that have one
    failed: int  # pairs without a distance: one of the two pictures has no face
    accuracy: Estimate  # the part of the pairs with a distance that is judged rightly
    accuracy_of_all: Estimate  # likewise, and each pair without a distance counts as an error
    auc: Estimate  # the area under VAL against FAR
    eer: Estimate  # the equal error rate
    vals: tuple[ValAtFar, ...]  # one for each rate that all pairs together support


@dataclass(frozen=True, slots=True)
class PairsResult:
    """The evaluation of a list of pairs."""

    folds: tuple[FoldResult, ...]
    accuracy: float  # the mean of the folds' accuracies
    standard_error: float  # of that mean; NaN with a single fold that has pairs
    measures: PairMeasures  # over all pairs
    refused: tuple[float, ...]  # rates that the pairs of different people are too few for
    slices: Mapping[str, PairMeasures]


def best_threshold(distance: Numbers, same: Flags) -> float:
    """Return the threshold that judges most pairs rightly; -1 rejects everything.

    It lies in the middle between two neighbouring distances, and of equally good ones it is the middle one.
    """
    order = np.argsort(distance, kind="stable")
    ranked = distance[order]
    gain = np.append(0, np.cumsum(np.where(same[order], 1, -1)))  # rightly accepted less wrongly
    apart = np.append(True, np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.array([True])
    places = np.flatnonzero(apart)  # a run of equal distances is accepted whole or not at all
    best = places[gain[places] == gain[places].max()]
    place = int(best[len(best) // 2])
    return -1.0 if place == 0 else float(ranked[place - 1 : place + 1].mean())


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
    measured = {
        name: measure_slice(scores.pick(part), right[part], common, repeats=repeats, seed=seed)
        for name, part in ((name, np.array(slices) == name) for name in sorted(set(slices)))
    }
    return PairsResult(
        folds=folds,
        accuracy=mean,
        standard_error=error,
        measures=measure_slice(scores, right, common, repeats=repeats, seed=seed),
        refused=tuple(far for far in fars if far not in supported),
        slices=measured,
    )


def measure_slice(
    scores: PairScores, right: Flags, common: Mapping[float, float], *, repeats: int, seed: int
) -> PairMeasures:
    """Return every measure of some pairs; `common` is the threshold of all pairs for each rate."""
    found = scores.found
    names, numbers = np.unique(scores.people, return_inverse=True)
    people = numbers.reshape(-1, 2)

    def measure(draws: NDArray[np.int64]) -> Numbers:
        weight = pair_weights(draws, people)
        roc = make_roc(scores.distance[found], scores.same[found], weight[found])
        values = [part_of(right, weight * found), part_of(right, weight), area_under(roc), equal_error_rate(roc)]
        for far, threshold in common.items():
            held = operate_at(roc, threshold)
            values += [val_under(roc, far), held.val, held.far]
        return np.array(values)

    estimates = estimate_all(measure, len(names), repeats=repeats, rng=np.random.default_rng(seed))
    roc = make_roc(scores.distance[found], scores.same[found])
    vals = []
    for place, far in enumerate(common):
        own, val, rate = estimates[4 + 3 * place : 7 + 3 * place]
        enough = allowed_accepts(far, roc.impostors) > 0
        operating = operate_at_far(roc, far) if enough else None
        vals.append(ValAtFar(far, own if enough else None, operating, val, rate))
    accuracy, accuracy_of_all, auc, eer = estimates[:4]
    failed = int((~found).sum())
    return PairMeasures(roc.genuine, roc.impostors, failed, accuracy, accuracy_of_all, auc, eer, tuple(vals))


def part_of(flags: Flags, weight: Numbers) -> float:
    """Return which part of the weight is flagged; NaN of nothing."""
    total = weight.sum()
    return float(weight[flags].sum() / total) if total > 0 else float("nan")
