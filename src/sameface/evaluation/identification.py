"""Identification: who is this, if anyone? Closed and open set, over random galleries of several sizes.

A *probe* is compared with everyone in the gallery. In the closed set every probe is enrolled, and the rank of
its own person counts (CMC). In the open set some probes are strangers. With a threshold t

- **FPIR(t)** is the part of the strangers that are given any name,
- **FNIR(t)** is the part of the enrolled that are not given their own: DIR(t) = 1 - FNIR(t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.evaluation.pairs import mean_and_error
from sameface.evaluation.ranking import Labels, Ranking, rank_probes, split_gallery
from sameface.evaluation.roc import ROUNDING, Numbers, allowed_accepts

FPIRS = (1e-1, 1e-2, 1e-3)
VOTERS = (1, 3, 5)  # how many nearest faces vote
RANKS = 20
POINTS = 400  # of a curve over thresholds


@dataclass(frozen=True, slots=True, eq=False)
class OpenCurve:
    """FPIR and FNIR at every threshold at which one of them changes.

    Attributes:
        threshold: `(k,) float64`, rising. The first is -1 and names nobody.
        fpir: `(k,) float64`; NaN without strangers.
        fnir: `(k,) float64`; NaN without enrolled probes. With several votes it may rise again.
        known: How many probes are enrolled.
        strangers: How many are not.
    """

    threshold: Numbers
    fpir: Numbers
    fnir: Numbers
    known: int
    strangers: int


@dataclass(frozen=True, slots=True)
class Detection:
    """How well the enrolled are found while few strangers are named.

    Attributes:
        fpir: The part of the strangers that may be named.
        dir: The part of the enrolled that are given their own name, the mean over the repeats; None where a
            repeat has too few strangers for this rate.
        standard_error: Over the repeats; NaN with one. They share pictures, so that it says how much the
            choice of the gallery matters, and not how much other people would.
        threshold: The mean of the thresholds; None likewise.
    """

    fpir: float
    dir: float | None
    standard_error: float
    threshold: float | None


@dataclass(frozen=True, slots=True, eq=False)
class VoteResult:
    """Identification by the votes of so many nearest faces.

    Attributes:
        voters: How many vote.
        right: Closed set: the part of the enrolled probes that are given their own name.
        standard_error: Of that mean over the repeats.
        detections: One for each false-positive rate.
        curve: Over all repeats together, at evenly spaced thresholds.
    """

    voters: int
    right: float
    standard_error: float
    detections: tuple[Detection, ...]
    curve: OpenCurve


@dataclass(frozen=True, slots=True, eq=False)
class GalleryResult:
    """Identification in galleries of one size.

    Attributes:
        enrolled: How many people.
        faces: How many pictures of each.
        known: Enrolled probes, all repeats together.
        strangers: The others.
        cmc: `(r,) float64` closed set: the part of the enrolled probes whose person is among the nearest 1,
            2, ... r; the mean over the repeats.
        cmc_error: `(r,) float64` its standard error.
        votes: One for each number of voters.
    """

    enrolled: int
    faces: int
    known: int
    strangers: int
    cmc: Numbers
    cmc_error: Numbers
    votes: tuple[VoteResult, ...]


def match_rates(ranking: Ranking, ranks: int = RANKS) -> Numbers:
    """Return the part of the enrolled probes whose person is among the nearest 1, 2, ... `ranks` (CMC).

    NaN without enrolled probes.
    """
    own = ranking.rank[ranking.known]
    hits = np.bincount(np.minimum(own, ranks + 1), minlength=ranks + 2)[1 : ranks + 1]
    return np.cumsum(hits) / len(own) if len(own) else np.full(ranks, np.nan)


def right_rate(ranking: Ranking, voters: int) -> float:
    """Return the part of the enrolled probes that the votes name rightly, at any distance; NaN of nothing."""
    right = (ranking.named[:, voters - 1] == ranking.truth)[ranking.known]
    return float(right.mean()) if len(right) else float("nan")


def make_open_curve(rankings: Sequence[Ranking], *, voters: int) -> OpenCurve:
    """Return FPIR and FNIR over all thresholds; with several rankings, over all their probes together.

    Only faces at or under the threshold vote. So a probe's answer can change only at the distances of its
    nearest faces, and each change is one step of the curve.
    """
    known = np.concatenate([ranking.known for ranking in rankings])
    truth = np.concatenate([ranking.truth for ranking in rankings])
    distance = np.concatenate([ranking.distance[:, :voters] for ranking in rankings])
    named = np.concatenate([ranking.named[:, :voters] for ranking in rankings])
    right = (named == truth[:, None])[known].astype(np.int64)
    steps = np.diff(right, axis=1, prepend=0).ravel()
    places = distance[known].ravel()
    false = distance[~known, 0]
    finite = np.isfinite(places)
    threshold = np.unique(np.concatenate([[-1.0], places[finite], false[np.isfinite(false)]]))
    return OpenCurve(
        threshold=threshold,
        fpir=running_rate(false, np.ones(len(false)), threshold, len(false)),
        fnir=1 - running_rate(places, steps, threshold, len(right)),
        known=len(right),
        strangers=len(false),
    )


def running_rate(
    places: Numbers, steps: NDArray[np.int64] | Numbers, threshold: Numbers, total: int
) -> Numbers:
    """Return the sum of the steps at or under each threshold as a part of `total`; NaN of nothing."""
    if total == 0:
        return np.full(len(threshold), np.nan)
    order = np.argsort(places, kind="stable")
    running = np.append(0.0, np.cumsum(steps[order]))
    rates: Numbers = running[np.searchsorted(places[order], threshold, side="right")] / total
    return rates


def thin_curve(curve: OpenCurve, points: int = POINTS) -> OpenCurve:
    """Return the curve at evenly spaced thresholds, for plots and reports."""
    if len(curve.threshold) <= points:
        return curve
    threshold = np.linspace(curve.threshold[1], curve.threshold[-1], points)
    place = np.searchsorted(curve.threshold, threshold, side="right") - 1
    return OpenCurve(threshold, curve.fpir[place], curve.fnir[place], curve.known, curve.strangers)


def detect_at_fpir(curve: OpenCurve, fpir: float) -> tuple[float, float] | None:
    """Return DIR and the largest threshold whose FPIR is at or under `fpir`.

    None if not even one stranger more is allowed by this rate: nothing is extrapolated.
    """
    if not allowed_accepts(fpir, curve.strangers):
        return None
    place = int(np.searchsorted(curve.fpir, fpir + ROUNDING / curve.strangers, side="right")) - 1
    return float(1 - curve.fnir[place]), float(curve.threshold[place])


def evaluate_identification(
    rows: Embeddings,
    people: Labels,
    *,
    sizes: Sequence[int],
    per_person: int = 1,
    seeds: Sequence[int] = range(10),
) -> tuple[GalleryResult, ...]:
    """Measure identification in random galleries of several sizes.

    Args:
        rows: `(n, d) float32` unit rows.
        people: `(n,)` whom each shows.
        sizes: How many people are enrolled; the others are strangers.
        per_person: With how many pictures each.
        seeds: One gallery of each size is drawn for each of them.

    Raises:
        ValueError: Too few people have more than `per_person` pictures, or no seed.
    """
    if not seeds:
        raise ValueError("there must be one seed or more")
    results = []
    for enrolled in sizes:
        rankings = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            split = split_gallery(people, enrolled=enrolled, per_person=per_person, rng=rng)
            rankings.append(rank_probes(rows, people, split, faces=max(VOTERS)))
        results.append(sum_up(rankings, enrolled=enrolled, per_person=per_person))
    return tuple(results)


def sum_up(rankings: Sequence[Ranking], *, enrolled: int, per_person: int) -> GalleryResult:
    """Return the measures of several galleries of one size."""
    rates = np.array([match_rates(ranking) for ranking in rankings])  # (seeds, ranks)
    spread = [mean_and_error(column) for column in rates.T]
    known = sum(int(ranking.known.sum()) for ranking in rankings)
    return GalleryResult(
        enrolled=enrolled,
        faces=per_person,
        known=known,
        strangers=sum(len(ranking.truth) for ranking in rankings) - known,
        cmc=np.array([mean for mean, _ in spread]),
        cmc_error=np.array([error for _, error in spread]),
        votes=tuple(sum_up_votes(rankings, voters) for voters in VOTERS),
    )


def sum_up_votes(rankings: Sequence[Ranking], voters: int) -> VoteResult:
    """Return what so many voters reach in several galleries."""
    curves = [make_open_curve([ranking], voters=voters) for ranking in rankings]
    right, error = mean_and_error(np.array([right_rate(ranking, voters) for ranking in rankings]))
    detections = tuple(sum_up_detections(curves, fpir) for fpir in FPIRS)
    curve = thin_curve(make_open_curve(rankings, voters=voters))
    return VoteResult(voters, right, error, detections, curve)


def sum_up_detections(curves: Sequence[OpenCurve], fpir: float) -> Detection:
    """Return DIR at one rate over several galleries."""
    found = [detect_at_fpir(curve, fpir) for curve in curves]
    held = np.array([pair for pair in found if pair is not None])
    if len(held) < len(curves):
        return Detection(fpir, None, float("nan"), None)
    mean, error = mean_and_error(held[:, 0])
    return Detection(fpir, mean, error, float(held[:, 1].mean()))
