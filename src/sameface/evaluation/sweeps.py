"""How fast does VAL at a false-accept rate fall as pictures get worse (FaceNet, table 4), or rows smaller?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.evaluation.bootstrap import REPEATS, Estimate, estimate_all, pair_weights
from sameface.evaluation.degradations import Degradation, DegradationStep, quantise_rows, restore_rows
from sameface.evaluation.pairs import PairScores
from sameface.evaluation.ranking import Labels
from sameface.evaluation.roc import Numbers, allowed_accepts, make_roc, operate_at, operate_at_far, val_under

FAR = 1e-3
BITS = (2, 3, 4, 6, 8)
IMPOSTORS = 100_000
BLOCK = 1 << 16  # pairs at a time

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The choices of a sweep.

    Attributes:
        far: The false-accept rate.
        repeats: How often people are drawn for an interval.
        seed: Draws them; every level has the same draws.
    """

    far: float = FAR
    repeats: int = REPEATS
    seed: int = 0


DEFAULTS = SweepOptions()


@dataclass(frozen=True, slots=True, eq=False)
class PairedPictures:
    """Pictures as they are, and which pairs of them are compared.

    Attributes:
        rows: `(n, d) float32` unit rows; zeros for a picture without a face.
        people: `(n,) int64` whom each shows, a number.
        pairs: `(m, 2) int64` the pairs, by picture.
    """

    rows: Embeddings
    people: NDArray[np.int64]
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What is left at one level.

    Attributes:
        level: In the curve's unit.
        failed: Pictures in which no face was found.
        genuine: Pairs of one person of which both faces were found.
        impostors: Pairs of different people likewise.
        threshold: The distance that keeps the false-accept rate at this level; None where the pairs of
            different people are too few.
        val: VAL with that threshold; None likewise.
        val_of_all: The same, where each pair without both faces counts as rejected; None likewise.
        common_val: VAL with the threshold of the pictures as they are.
        common_far: The false-accept rate with that threshold.
    """

    level: float
    failed: int
    genuine: int
    impostors: int
    threshold: float | None
    val: Estimate | None
    val_of_all: Estimate | None
    common_val: Estimate
    common_far: Estimate


@dataclass(frozen=True, slots=True)
class SweepCurve:
    """VAL at a false-accept rate for each level.

    Attributes:
        name: What is varied.
        unit: What the levels are.
        far: The rate.
        plain: The pictures as they are; its level is NaN.
        points: One for each level.
    """

    name: str
    unit: str
    far: float
    plain: SweepPoint
    points: tuple[SweepPoint, ...]


def pair_pictures(
    rows: Embeddings, people: Labels, *, impostors: int = IMPOSTORS, rng: np.random.Generator
) -> PairedPictures:
    """Pair the pictures of a folder of people: all pairs of one person, and some of different people.

    Args:
        rows: `(n, d) float32` unit rows, zeros for a picture without a face.
        people: `(n,)` whom each shows.
        impostors: How many pairs of different people, or all if there are fewer.
        rng: Chooses them.
    """
    expect_shape("rows", rows, (len(people), "d"), np.float32)
    _, numbers = np.unique(np.asarray(people), return_inverse=True)
    genuine = [own[np.column_stack(np.triu_indices(len(own), 1))] for own in group_pictures(numbers)]
    pairs = [*genuine, draw_impostors(numbers, impostors, rng)]
    return PairedPictures(rows, numbers, np.concatenate(pairs).astype(np.int64))


def group_pictures(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the pictures of each person."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def draw_impostors(numbers: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> Pairs:
    """Return so many pairs of different people, none twice; all of them if there are no more."""
    count = len(numbers)
    sizes = np.bincount(numbers)
    available = (count**2 - int((sizes**2).sum())) // 2
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


def score_pairs(pictures: PairedPictures, rows: Embeddings) -> PairScores:
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


def measure_level(scores: PairScores, *, level: float, failed: int, common: float, plan: SweepOptions) -> SweepPoint:
    """Return every measure of one level with its interval over people.

    Args:
        scores: The pairs, sorted by distance.
        level: Which level it is.
        failed: Pictures without a face.
        common: The threshold of the pictures as they are.
        plan: The rate and the draws.
    """
    names, numbers = np.unique(scores.people, return_inverse=True)
    people = numbers.reshape(-1, 2)

    def values(draws: NDArray[np.int64]) -> Numbers:
        return measure_once(scores, pair_weights(draws, people), common=common, far=plan.far)

    rng = np.random.default_rng(plan.seed)
    val, of_all, common_val, common_far = estimate_all(values, len(names), repeats=plan.repeats, rng=rng)
    found = scores.pick(scores.found)
    roc = make_roc(found.distance, found.same)
    enough = allowed_accepts(plan.far, roc.impostors) > 0
    return SweepPoint(
        level=level,
        failed=failed,
        genuine=roc.genuine,
        impostors=roc.impostors,
        threshold=operate_at_far(roc, plan.far).threshold if enough else None,
        val=val if enough else None,
        val_of_all=of_all if enough else None,
        common_val=common_val,
        common_far=common_far,
    )


def measure_once(scores: PairScores, weight: Numbers, *, common: float, far: float) -> Numbers:
    """Return VAL, VAL of all, and VAL and FAR with the common threshold, `(4,)`."""
    found, same = scores.found, scores.same
    roc = make_roc(scores.distance[found], same[found], weight[found])
    held = operate_at(roc, common)
    val = val_under(roc, far)
    whole = weight[same].sum()
    part = weight[same & found].sum() / whole if whole > 0 else np.nan
    # With no pair left there is no VAL, but of all pairs none is accepted.
    of_all = val * part if part > 0 else part
    return np.array([val, of_all, held.val, held.far])


def sweep_pictures(
    degradation: Degradation,
    pictures: PairedPictures,
    *,
    embed: Callable[[DegradationStep], Embeddings],
    plan: SweepOptions = DEFAULTS,
) -> SweepCurve:
    """Measure VAL at a false-accept rate at each level of a degradation; both pictures of a pair have it.

    Args:
        degradation: What is done to the pictures.
        pictures: As they are.
        embed: Changes every picture by `step.change` and returns the rows of all, zeros without a face.
        plan: The rate and the draws.

    Raises:
        TooFewPairsError: The pictures as they are do not support the rate.
    """
    rows = ((step.level, embed(step)) for step in degradation.steps)
    return sweep_rows(degradation.name, degradation.unit, pictures=pictures, rows=rows, plan=plan)


def sweep_bits(pictures: PairedPictures, *, bits: Sequence[int] = BITS, plan: SweepOptions = DEFAULTS) -> SweepCurve:
    """Measure VAL at a false-accept rate with rows of so many bits a number; 8 make 128 bytes of 128 numbers.

    Raises:
        TooFewPairsError: The pairs do not support the rate.
    """
    rows = ((float(few), restore_rows(quantise_rows(pictures.rows, bits=few))) for few in bits)
    return sweep_rows("bits", "bits of a number", pictures=pictures, rows=rows, plan=plan)


def sweep_rows(
    name: str, unit: str, *, pictures: PairedPictures, rows: Iterable[tuple[float, Embeddings]], plan: SweepOptions
) -> SweepCurve:
    """Measure the pairs as they are and with the rows of each level."""
    plain = score_pairs(pictures, pictures.rows)
    found = plain.pick(plain.found)
    common = operate_at_far(make_roc(found.distance, found.same), plan.far).threshold

    def measure(level: float, matrix: Embeddings) -> SweepPoint:
        expect_shape("rows", matrix, (len(pictures.people), "d"), np.float32)
        failed = int((~matrix.any(axis=1)).sum())
        scores = score_pairs(pictures, matrix)
        return measure_level(scores, level=level, failed=failed, common=common, plan=plan)

    points = tuple(measure(level, matrix) for level, matrix in rows)
    return SweepCurve(name, unit, plan.far, measure(float("nan"), pictures.rows), points)
