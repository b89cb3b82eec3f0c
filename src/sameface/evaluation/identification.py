"""Identification: who is this, if anyone? Closed and open set, over random galleries of several sizes.

A *probe* is compared with everyone in the gallery. In the closed set every probe is enrolled, and the rank of
its own person counts (CMC). In the open set some probes are strangers. With a threshold t

- **FPIR(t)** is the part of the strangers that are given any name,
- **FNIR(t)** is the part of the enrolled that are not given their own: DIR(t) = 1 - FNIR(t).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.evaluation.bootstrap import REPEATS, draw_people, interval
from sameface.evaluation.identification_draws import Draws, count_by_person, draw_detections, draw_limits, draw_parts
from sameface.evaluation.pairs import mean_and_error
from sameface.evaluation.ranking import Labels, Ranking, rank_probes, split_gallery
from sameface.evaluation.roc import ROUNDING, Flags, Numbers, allowed_accepts

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
        interval: Of that mean, over the people of the probes and the strangers; the galleries stay.
        standard_error: Over the repeats; NaN with one. They share pictures, so that it says how much the
            choice of the gallery matters, and not how much other people would.
        threshold: The mean of the thresholds; None likewise.
    """

    fpir: float
    dir: float | None
    interval: tuple[float, float]
    standard_error: float
    threshold: float | None


@dataclass(frozen=True, slots=True, eq=False)
class VoteResult:
    """Identification by the votes of so many nearest faces.

    Attributes:
        voters: How many vote.
        right: Closed set: the part of the enrolled probes that are given their own name, the mean over the
            repeats.
        interval: Of that mean, over the people of the probes; the galleries stay.
        standard_error: Over the repeats, as in `Detection`.
        detections: One for each false-positive rate.
        curve: Over all repeats together, at evenly spaced thresholds.
    """

    voters: int
    right: float
    interval: tuple[float, float]
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
        cmc_interval: `(r, 2) float64` of that mean, over the people of the probes; the galleries stay.
        cmc_error: `(r,) float64` its standard error over the repeats, as in `Detection`.
        votes: One for each number of voters.
        by_person: For each measure `(p, 2) int64`: how many of the enrolled probes of each person are right,
            and how many there are, all repeats together.
    """

    enrolled: int
    faces: int
    known: int
    strangers: int
    cmc: Numbers
    cmc_interval: Numbers
    cmc_error: Numbers
    votes: tuple[VoteResult, ...]
    by_person: Mapping[str, NDArray[np.int64]]


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


def right_at(ranking: Ranking, voters: int, threshold: float) -> Flags:
    """Return which probes the faces at or under a threshold name rightly; of strangers none."""
    votes = (ranking.distance[:, :voters] <= threshold).sum(axis=1)
    named = np.take_along_axis(ranking.named, np.maximum(votes - 1, 0)[:, None], axis=1)[:, 0]
    right: Flags = (votes > 0) & (named == ranking.truth) & ranking.known
    return right


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


def running_rate(places: Numbers, steps: NDArray[np.int64] | Numbers, threshold: Numbers, total: int) -> Numbers:
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
    repeats: int = REPEATS,
) -> tuple[GalleryResult, ...]:
    """Measure identification in random galleries of several sizes.

    Args:
        rows: `(n, d) float32` unit rows.
        people: `(n,)` whom each shows.
        sizes: How many people are enrolled; the others are strangers.
        per_person: With how many pictures each.
        seeds: One gallery of each size is drawn for each of them; the first also draws the people.
        repeats: How often people are drawn for the intervals.

    Raises:
        ValueError: Too few people have more than `per_person` pictures, or no seed.
    """
    if not seeds:
        raise ValueError("there must be one seed or more")
    count = len(np.unique(np.asarray(people)))
    draws = draw_people(count, repeats=repeats, rng=np.random.default_rng(seeds[0]))
    results = []
    for enrolled in sizes:
        rankings = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            split = split_gallery(people, enrolled=enrolled, per_person=per_person, rng=rng)
            rankings.append(rank_probes(rows, people, split, faces=max(VOTERS)))
        results.append(summarise_galleries(rankings, draws, enrolled=enrolled, per_person=per_person))
    return tuple(results)


def summarise_galleries(rankings: Sequence[Ranking], draws: Draws, *, enrolled: int, per_person: int) -> GalleryResult:
    """Return the measures of several galleries of one size, with the people as often as they were drawn."""
    rates = np.array([match_rates(ranking) for ranking in rankings])  # (seeds, ranks)
    spread = [mean_and_error(column) for column in rates.T]
    known = sum(int(ranking.known.sum()) for ranking in rankings)
    ranks = [[ranking.rank <= rank for rank in range(1, RANKS + 1)] for ranking in rankings]
    drawn = [draw_parts(*pair, draws) for pair in zip(rankings, ranks, strict=True)]
    limits = [draw_limits(ranking, draws, FPIRS) for ranking in rankings]
    curves = {voters: [make_open_curve([one], voters=voters) for one in rankings] for voters in VOTERS}
    return GalleryResult(
        enrolled=enrolled,
        faces=per_person,
        known=known,
        strangers=sum(len(ranking.truth) for ranking in rankings) - known,
        cmc=np.array([mean for mean, _ in spread]),
        cmc_interval=draw_intervals(drawn),
        cmc_error=np.array([error for _, error in spread]),
        votes=tuple(
            summarise_votes(rankings, curves[voters], draws=draws, limits=limits, voters=voters) for voters in VOTERS
        ),
        by_person=sum_by_person(rankings, draws.shape[1], curves),
    )


def draw_intervals(drawn: Sequence[Numbers]) -> Numbers:
    """Return the intervals of means over galleries, `(k, 2)`; `drawn` has the `(r, k)` draws of each."""
    return np.array([interval(column) for column in np.mean(drawn, axis=0).T])


def summarise_votes(
    rankings: Sequence[Ranking], curves: Sequence[OpenCurve], *, draws: Draws, limits: Sequence[Numbers], voters: int
) -> VoteResult:
    """Return what so many voters reach in several galleries.

    Args:
        rankings: One for each gallery.
        curves: Likewise, with so many voters.
        draws: `(r, p) int64` how often each person was drawn.
        limits: `(r, f) float64` for each gallery, from `draw_limits`.
        voters: How many vote.
    """
    mean, error = mean_and_error(np.array([right_rate(ranking, voters) for ranking in rankings]))
    right = [draw_parts(ranking, [right_at(ranking, voters, np.inf)], draws) for ranking in rankings]
    drawn = [
        draw_detections(ranking, draws, limit, voters=voters) for ranking, limit in zip(rankings, limits, strict=True)
    ]
    detections = tuple(
        summarise_detections(curves, fpir, (float(low), float(high)))
        for fpir, (low, high) in zip(FPIRS, draw_intervals(drawn), strict=True)
    )
    curve = thin_curve(make_open_curve(rankings, voters=voters))
    low, high = draw_intervals(right)[0]
    return VoteResult(voters, mean, (float(low), float(high)), error, detections, curve)


def summarise_detections(curves: Sequence[OpenCurve], fpir: float, drawn: tuple[float, float]) -> Detection:
    """Return DIR at one rate over several galleries, with the interval that was drawn."""
    found = [detect_at_fpir(curve, fpir) for curve in curves]
    held = np.array([pair for pair in found if pair is not None])
    if len(held) < len(curves):
        return Detection(fpir, None, (float("nan"), float("nan")), float("nan"), None)
    mean, error = mean_and_error(held[:, 0])
    return Detection(fpir, mean, drawn, error, float(held[:, 1].mean()))


def sum_by_person(
    rankings: Sequence[Ranking], people: int, curves: Mapping[int, Sequence[OpenCurve]]
) -> dict[str, NDArray[np.int64]]:
    """Return right and all enrolled probes of each person, by measure; each gallery has its own threshold.

    Args:
        rankings: One for each gallery.
        people: How many there are.
        curves: Of each gallery, by the number of voters.
    """
    counts = {"rank 1": [count_by_person(one, one.rank == 1, people) for one in rankings]}
    for voters, own in curves.items():
        for fpir in FPIRS:
            found = [detect_at_fpir(curve, fpir) for curve in own]
            counts[f"DIR at FPIR {fpir:g}, k = {voters}"] = [
                count_by_person(ranking, right_at(ranking, voters, held[1]), people)
                for ranking, held in zip(rankings, found, strict=True)
                if held is not None
            ]
    return {name: np.sum(parts, axis=0) for name, parts in counts.items() if len(parts) == len(rankings)}
