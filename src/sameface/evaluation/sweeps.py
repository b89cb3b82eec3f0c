"""VAL at a false-accept rate as pictures get worse (FaceNet, table 4) or rows smaller, and the report on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sameface.arrays import Embeddings, expect_shape
from sameface.evaluation.bootstrap import REPEATS, UNDEFINED, Estimate, estimate_all, pair_weights
from sameface.evaluation.charts import Chart, sweep_chart
from sameface.evaluation.degradations import Degradation, DegradationStep, quantise_rows, restore_rows
from sameface.evaluation.pairs import PairScores
from sameface.evaluation.ranking import Labels
from sameface.evaluation.report import EvaluationReport, ReportTable, with_interval
from sameface.evaluation.roc import Integers, Numbers, allowed_accepts, operate_at, operate_at_far, val_under

BITS = (2, 3, 4, 6, 8)
IMPOSTORS = 100_000
BLOCK = 1 << 16  # pairs at a time


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The choices of a sweep."""

    far: float = 1e-3  # the false-accept rate
    repeats: int = REPEATS  # how often people are drawn for an interval
    seed: int = 0  # of the draws, which every level shares


DEFAULTS = SweepOptions()


@dataclass(frozen=True, slots=True, eq=False)
class PairedPictures:
    """Pictures as they are, and the pairs of them that are compared."""

    rows: Embeddings  # (n, d) unit rows; zeros for a picture without a face
    people: Integers  # (n,) the number of each picture's person
    pairs: Integers  # (m, 2) by picture


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """The measures at one level.

    `threshold`, `val` and `val_of_all` are None where the pairs of different people are too few for the rate.
    """

    level: float  # in the curve's unit; NaN for the pictures as they are
    failed: int  # pictures without a face
    genuine: int  # pairs of one person with both faces
    impostors: int  # pairs of different people with both faces
    threshold: float | None  # that keeps the false-accept rate at this level
    val: Estimate | None  # with that threshold
    val_of_all: Estimate | None  # likewise, and each pair without both faces counts as rejected
    common_val: Estimate  # VAL with the threshold of the pictures as they are
    common_far: Estimate  # the false-accept rate with that threshold


@dataclass(frozen=True, slots=True)
class SweepCurve:
    """VAL at a false-accept rate for each level of a degradation."""

    name: str
    unit: str  # of the levels
    far: float
    plain: SweepPoint  # the pictures as they are
    points: tuple[SweepPoint, ...]


def pair_pictures(
    rows: Embeddings, people: Labels, *, impostors: int = IMPOSTORS, rng: np.random.Generator
) -> PairedPictures:
    """Pair the pictures of a folder of people: all pairs of one person, and so many of different people.

    `rows` are unit rows, `(n, d) float32`, zeros for a picture without a face; `people` the person of each, `(n,)`.
    """
    expect_shape("rows", rows, (len(people), "d"), np.float32)
    _, numbers = np.unique(np.asarray(people), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    by_person = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    genuine = [own[np.column_stack(np.triu_indices(len(own), 1))] for own in by_person]
    pairs = [*genuine, draw_impostors(numbers, impostors, rng)]
    return PairedPictures(rows, numbers, np.concatenate(pairs).astype(np.int64))


def draw_impostors(numbers: Integers, wanted: int, rng: np.random.Generator) -> Integers:
    """Return so many pairs of different people, none twice; all of them if there are no more."""
    count = len(numbers)
    available = (count**2 - int((np.bincount(numbers) ** 2).sum())) // 2
    if available <= 4 * wanted:
        pairs = np.column_stack(np.triu_indices(count, 1))
        pairs = pairs[numbers[pairs[:, 0]] != numbers[pairs[:, 1]]]
        return rng.permutation(pairs)[:wanted]
    pairs = np.zeros((0, 2), np.int64)
    while len(pairs) < wanted:
        drawn = np.sort(rng.integers(count, size=(2 * wanted, 2)), axis=1)
        drawn = drawn[numbers[drawn[:, 0]] != numbers[drawn[:, 1]]]
        pairs = np.unique(np.concatenate([pairs, drawn]), axis=0)
    return rng.permutation(pairs)[:wanted]


def score_level(pictures: PairedPictures, rows: Embeddings) -> PairScores:
    """Return the pairs, the nearest first, with the distances that these rows give; NaN without a face."""
    found = np.linalg.norm(rows, axis=1) > 0
    distance = np.zeros(len(pictures.pairs))
    for start in range(0, len(distance), BLOCK):
        first, second = pictures.pairs[start : start + BLOCK].T
        products = np.einsum("nd,nd->n", rows[first], rows[second])
        distance[start : start + BLOCK] = np.clip(2 - 2 * products, 0, 4)
    distance[~found[pictures.pairs].all(axis=1)] = np.nan
    order = np.argsort(distance)  # so that the sorting in every draw costs next to nothing
    people = pictures.people[pictures.pairs[order]]
    fold = np.zeros(len(order), np.int64)
    return PairScores(distance[order], people[:, 0] == people[:, 1], fold, people)


def measure_level(
    pictures: PairedPictures, rows: Embeddings, level: float, common: float, options: SweepOptions
) -> SweepPoint:
    """Return every measure of one level with its interval; `common` is the threshold of the pictures as they are."""
    expect_shape("rows", rows, (len(pictures.people), "d"), np.float32)
    scores = score_level(pictures, rows)
    found, same = scores.found, scores.same
    names, numbers = np.unique(scores.people, return_inverse=True)
    people = numbers.reshape(-1, 2)

    def measure(draws: Integers) -> Numbers:
        weight = pair_weights(draws, people)
        roc = scores.roc(weight)
        held, val = operate_at(roc, common), val_under(roc, options.far)
        whole = weight[same].sum()
        part = weight[same & found].sum() / whole if whole > 0 else np.nan
        # With no pair left there is no VAL, but of all pairs none is accepted.
        return np.array([val, val * part if part > 0 else part, held.val, held.far])

    rng = np.random.default_rng(options.seed)
    val, of_all, common_val, common_far = estimate_all(measure, len(names), repeats=options.repeats, rng=rng)
    roc = scores.roc()
    enough = allowed_accepts(options.far, roc.impostors) > 0
    return SweepPoint(
        level=level,
        failed=int((~rows.any(axis=1)).sum()),
        genuine=roc.genuine,
        impostors=roc.impostors,
        threshold=operate_at_far(roc, options.far).threshold if enough else None,
        val=val if enough else None,
        val_of_all=of_all if enough else None,
        common_val=common_val,
        common_far=common_far,
    )


def sweep_pictures(
    degradation: Degradation,
    pictures: PairedPictures,
    *,
    embed: Callable[[DegradationStep], Embeddings],
    options: SweepOptions = DEFAULTS,
) -> SweepCurve:
    """Measure VAL at a false-accept rate at each level of a degradation; both pictures of a pair have it.

    `embed` changes every picture by `step.change` and returns the rows of all, zeros without a face.

    Raises:
        TooFewPairsError: The pictures as they are do not support the rate.
    """
    rows = ((step.level, embed(step)) for step in degradation.steps)
    return sweep_rows(degradation.name, degradation.unit, pictures, rows, options)


def sweep_bits(
    pictures: PairedPictures, *, bits: Sequence[int] = BITS, options: SweepOptions = DEFAULTS
) -> SweepCurve:
    """Measure VAL at a false-accept rate with rows of so many bits a number; 8 make 128 bytes of 128 numbers.

    Raises:
        TooFewPairsError: The pairs do not support the rate.
    """
    rows = ((float(few), restore_rows(quantise_rows(pictures.rows, bits=few))) for few in bits)
    return sweep_rows("bits", "bits of a number", pictures, rows, options)


def sweep_rows(
    name: str, unit: str, pictures: PairedPictures, rows: Iterable[tuple[float, Embeddings]], options: SweepOptions
) -> SweepCurve:
    """Measure the pairs as they are and with the rows of each level."""
    common = operate_at_far(score_level(pictures, pictures.rows).roc(), options.far).threshold
    points = tuple(measure_level(pictures, matrix, level, common, options) for level, matrix in rows)
    plain = measure_level(pictures, pictures.rows, float("nan"), common, options)
    return SweepCurve(name, unit, options.far, plain, points)


def report_sweeps(
    facts: Mapping[str, str], curves: Sequence[SweepCurve], *, warnings: tuple[str, ...] = ()
) -> EvaluationReport:
    """Return the report on each degradation; `warnings` say which pictures were left out."""
    data = {
        curve.name: {
            "unit": curve.unit,
            "far": curve.far,
            "as they are": asdict(curve.plain),
            "levels": [asdict(point) for point in curve.points],
        }
        for curve in curves
    }
    tables = tuple(curve_table(curve) for curve in curves)
    return EvaluationReport("sweep", facts, tables, tuple(map(curve_chart, curves)), data, warnings=warnings)


def curve_table(curve: SweepCurve) -> ReportTable:
    """Return the measures at each level."""
    rows = tuple(
        (
            "as they are" if np.isnan(point.level) else f"{point.level:g}",
            with_interval(point.val or UNDEFINED),
            with_interval(point.val_of_all or UNDEFINED),
            with_interval(point.common_val),
            "not defined" if np.isnan(point.common_far.value) else f"{point.common_far.value:.2g}",
            f"{point.failed:,}",
        )
        for point in (curve.plain, *curve.points)
    )
    columns = (curve.unit, "VAL", "VAL of all pairs", "VAL, threshold held", "FAR, threshold held", "no face")
    return ReportTable(f"{curve.name}: VAL at FAR {curve.far:g}", columns, rows)


def curve_chart(curve: SweepCurve) -> Chart:
    """Return VAL against the level."""
    vals = {
        "both faces found": [point.val or UNDEFINED for point in curve.points],
        "all pairs": [point.val_of_all or UNDEFINED for point in curve.points],
    }
    levels = [point.level for point in curve.points]
    return sweep_chart(f"{curve.name}: VAL at FAR {curve.far:g}", curve.unit, levels, vals)
