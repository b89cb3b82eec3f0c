"""Verification on a list of pairs: accuracy over folds, AUC, EER and VAL at FAR, over all and by slice; the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.evaluation.bootstrap import REPEATS, UNDEFINED, Estimate, estimate_all, pair_weights
from sameface.evaluation.charts import histogram_chart, roc_charts
from sameface.evaluation.protocols import LabelledPair
from sameface.evaluation.report import (
    EvaluationReport,
    PairThumbnails,
    ReportTable,
    far_table,
    gap_table,
    percent,
    to_jpeg,
    with_interval,
)
from sameface.evaluation.roc import (
    Flags,
    Integers,
    Numbers,
    OperatingPoint,
    Roc,
    allowed_accepts,
    area_under,
    equal_error_rate,
    last_of_equal,
    make_roc,
    operate_at,
    operate_at_far,
    val_under,
)
from sameface.image import read_image

if TYPE_CHECKING:
    from sameface.evaluation.pictures import EmbeddedPictures

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SHOWN_ERRORS = 50
ACCURACY_OF_ALL = "accuracy, pairs without a face counted as errors"
KINDS = {True: "one person", False: "different people"}


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """A list of pairs with their distances."""

    distance: Numbers  # (n,) squared distance; NaN where a face is missing on one side
    same: Flags  # (n,) whether the pair shows one person
    fold: Integers  # (n,) the part of the list it belongs to
    people: Integers  # (n, 2) the numbers of the two people, 0 and up

    @property
    def found(self) -> Flags:
        """Whether both sides have a face."""
        return ~np.isnan(self.distance)

    def roc(self, weight: Numbers | None = None) -> Roc:
        """Return VAL and FAR of the pairs with both faces; each counts as often as its weight, `(n,)`."""
        found = self.found
        return make_roc(self.distance[found], self.same[found], None if weight is None else weight[found])

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
    places = np.flatnonzero(np.append(True, last_of_equal(ranked)))  # equal distances are accepted together
    best = places[gain[places] == gain[places].max()]
    place = int(best[len(best) // 2])
    return -1.0 if place == 0 else float(ranked[place - 1 : place + 1].mean())


def cross_validate(scores: PairScores) -> tuple[FoldResult, ...]:
    """Judge each fold with the threshold that is best on all others."""
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
    """Measure a list of pairs, all together and by the slice of each pair.

    Raises:
        ValueError: Fewer than two folds.
    """
    folds = cross_validate(scores)
    right = judge_pairs(scores, folds)
    mean, error = mean_and_error(np.array([fold.accuracy for fold in folds]))
    roc = scores.roc()
    supported = [far for far in fars if allowed_accepts(far, roc.impostors)]
    common = {far: operate_at_far(roc, far).threshold for far in supported}
    parts = {name: np.array(slices) == name for name in sorted(set(slices))}
    return PairsResult(
        folds=folds,
        accuracy=mean,
        standard_error=error,
        measures=measure_slice(scores, right, common, repeats=repeats, seed=seed),
        refused=tuple(far for far in fars if far not in supported),
        slices={
            name: measure_slice(scores.pick(part), right[part], common, repeats=repeats, seed=seed)
            for name, part in parts.items()
        },
    )


def measure_slice(
    scores: PairScores, right: Flags, common: Mapping[float, float], *, repeats: int, seed: int
) -> PairMeasures:
    """Return every measure of some pairs; `common` is the threshold of all pairs for each rate."""
    found = scores.found
    names, numbers = np.unique(scores.people, return_inverse=True)
    people = numbers.reshape(-1, 2)

    def measure(draws: Integers) -> Numbers:
        weight = pair_weights(draws, people)
        roc = scores.roc(weight)
        values = [part_of(right, weight * found), part_of(right, weight), area_under(roc), equal_error_rate(roc)]
        for far, threshold in common.items():
            held = operate_at(roc, threshold)
            values += [val_under(roc, far), held.val, held.far]
        return np.array(values)

    estimates = estimate_all(measure, len(names), repeats=repeats, rng=np.random.default_rng(seed))
    roc = scores.roc()
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
    """Return which part of the weight is flagged; NaN if all weights are 0."""
    total = weight.sum()
    return float(weight[flags].sum() / total) if total > 0 else float("nan")


def score_pairs(pairs: Sequence[LabelledPair], distance: Numbers) -> PairScores:
    """Return the pairs as arrays; the distance is NaN where a face is missing."""
    names = sorted({person for pair in pairs for person in pair.people})
    number = {name: place for place, name in enumerate(names)}
    return PairScores(
        distance=distance,
        same=np.array([pair.same for pair in pairs], bool),
        fold=np.array([pair.fold for pair in pairs], np.int64),
        people=np.array([[number[person] for person in pair.people] for pair in pairs], np.int64).reshape(-1, 2),
    )


def report_pairs(
    kind: str, facts: Mapping[str, str], pairs: Sequence[LabelledPair], *, scores: PairScores, result: PairsResult
) -> EvaluationReport:
    """Return the report of kind `pairs` or `ytf`; `scores` are the pairs with their distances."""
    right = judge_pairs(scores, result.folds)
    found = scores.pick(scores.found)
    rocs = {"all": scores.roc()}
    for name in result.slices:
        rocs[name] = scores.pick(np.array([pair.slice == name for pair in pairs])).roc()
    measured, by_slice = result.measures, {name: slice_estimates(part) for name, part in result.slices.items()}
    folds = tuple(
        (str(number), f"{fold.pairs:,}", f"{fold.threshold:.4f}", percent(fold.accuracy))
        for number, fold in enumerate(result.folds, start=1)
    )
    columns = ("fold", "pairs", "threshold from the others", "accuracy")
    tables = [summary_table(result), ReportTable("Folds", columns, folds), val_table(result)]
    if result.slices:
        tables += [slice_table(result, by_slice), gap_table(by_slice)]
    tables.append(error_table(pairs, scores, right))
    data = {
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "measures": slice_estimates(measured) | {ACCURACY_OF_ALL: measured.accuracy_of_all},
        "genuine": measured.genuine,
        "impostors": measured.impostors,
        "failed": measured.failed,
        "folds": [[fold.pairs, fold.threshold, fold.accuracy] for fold in result.folds],
        "thresholds": {f"{val.far:g}": val.operating.threshold for val in measured.vals if val.operating},
        "not_supported": list(result.refused),
        "slices": by_slice,
        "pairs": [
            [pair.a, pair.b, pair.same, *pair.people, float(distance), bool(good)]
            for pair, distance, good in zip(pairs, scores.distance, right, strict=True)
        ],
    }
    charts = (*roc_charts(rocs), histogram_chart(found.distance, found.same))
    return EvaluationReport(kind, facts, tuple(tables), charts, data)


def summary_table(result: PairsResult) -> ReportTable:
    """Return the measures over all pairs."""
    measured = result.measures
    mean = f"{percent(result.accuracy)} ± {percent(result.standard_error)}"
    rows = (
        ("pairs of one person / of different people", f"{measured.genuine:,} / {measured.impostors:,}"),
        ("pairs without a face on one side", f"{measured.failed:,}"),
        ("accuracy, mean of the folds ± its standard error", mean),
        ("accuracy of the pairs with both faces", with_interval(measured.accuracy)),
        (ACCURACY_OF_ALL, with_interval(measured.accuracy_of_all)),
        ("AUC", with_interval(measured.auc)),
        ("EER", with_interval(measured.eer)),
    )
    return ReportTable("Measures (with 95 % intervals over people)", ("measure", "value"), rows)


def val_table(result: PairsResult) -> ReportTable:
    """Return VAL at every rate, and the rates that the pairs do not support."""
    rows = []
    for val in result.measures.vals:
        held = val.operating
        accepted = "" if held is None else f"{held.accepted:,} of {result.measures.impostors:,}"
        threshold = "" if held is None else f"{held.threshold:.4f}"
        rows.append((f"{val.far:g}", with_interval(val.val or UNDEFINED), threshold, accepted))
    return far_table("VAL at FAR", rows, result.refused)


def slice_estimates(measured: PairMeasures) -> dict[str, Estimate]:
    """Return every measure of a slice by its name."""
    found = {"accuracy": measured.accuracy, "AUC": measured.auc, "EER": measured.eer}
    for val in measured.vals:
        if val.val is not None:
            found[f"VAL at its own FAR {val.far:g}"] = val.val
        found[f"VAL, threshold of all at FAR {val.far:g}"] = val.common_val
        found[f"FAR, threshold of all at FAR {val.far:g}"] = val.common_far
    return found


def slice_table(result: PairsResult, by_slice: Mapping[str, Mapping[str, Estimate]]) -> ReportTable:
    """Return every measure of every slice."""
    rows = [("pairs", *(f"{one.genuine:,} / {one.impostors:,}" for one in result.slices.values()))]
    for name in slice_estimates(result.measures):
        rows.append((name, *(with_interval(estimates.get(name, UNDEFINED)) for estimates in by_slice.values())))
    return ReportTable("Slices", ("measure", *by_slice), tuple(rows))


def error_table(pairs: Sequence[LabelledPair], scores: PairScores, right: Flags) -> ReportTable:
    """Return the pairs that are judged wrongly, the worst first."""
    wrong = worst_errors(scores, right)
    rows = tuple(
        (pairs[place].a, pairs[place].b, KINDS[pairs[place].same], f"{scores.distance[place]:.4f}")
        for place in wrong[:SHOWN_ERRORS]
    )
    title = f"Pairs judged wrongly: {len(wrong):,}" + (f", the worst {len(rows)}" if len(wrong) > len(rows) else "")
    return ReportTable(title, ("a", "b", "are", "distance"), rows)


def worst_errors(scores: PairScores, right: Flags) -> list[int]:
    """Return the places of the pairs that are judged wrongly, the strangest distance first."""
    wrong = np.flatnonzero(~right & scores.found)
    distance = scores.distance[wrong]
    middle = float(np.median(distance)) if len(wrong) else 0.0
    surprise = np.where(scores.same[wrong], distance - middle, middle - distance)
    return [int(place) for place in wrong[np.argsort(-surprise, kind="stable")]]


def show_errors(
    pairs: Sequence[LabelledPair], scores: PairScores, places: Sequence[int], found: EmbeddedPictures
) -> tuple[PairThumbnails, ...]:
    """Return some pairs as pictures of their faces, which stand in `found`; of videos nothing is shown."""
    boxes = {one.path: one.box for one in found.pictures if len(one.box)}
    shown = []
    for place in places:
        pair = pairs[place]
        if pair.a in boxes and pair.b in boxes:
            first, second = (to_jpeg(cut_face(read_image(path), boxes[path])) for path in (pair.a, pair.b))
            names = " and ".join(Path(path).name for path in (pair.a, pair.b))
            caption = f"{KINDS[pair.same]} at {scores.distance[place]:.4f}: {names}"
            shown.append(PairThumbnails(first, second, caption))
    return tuple(shown)


def cut_face(image: Image, box: NDArray[np.float32]) -> Image:
    """Return the face with a margin of a quarter round it, as far as the picture reaches."""
    margin = 0.25 * (box[2:] - box[:2])
    size = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(box[:2] - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(box[2:] + margin), low + 1, size).astype(int)
    return image[low[1] : high[1], low[0] : high[0]]
