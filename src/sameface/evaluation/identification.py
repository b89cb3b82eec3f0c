"""Identification: the name of a face, or none. Closed and open set, over random galleries of several sizes.

A *probe* is compared with everyone in the gallery. In the closed set every probe is enrolled, and the rank of
its own person counts (CMC). In the open set some probes are strangers. With a threshold t

- **FPIR(t)** is the part of the strangers that are given any name,
- **FNIR(t)** is the part of the enrolled that are not given their own: DIR(t) = 1 - FNIR(t).

Intervals come from drawing the people of the probes; the galleries stay. The standard error over the galleries
says how much the choice of the enrolled matters, not how much other people would: the galleries share pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from sameface.arrays import Embeddings
from sameface.evaluation.bootstrap import REPEATS, Estimate, draw_people, interval
from sameface.evaluation.charts import cmc_chart, open_set_chart
from sameface.evaluation.pairs import mean_and_error
from sameface.evaluation.protocols import PeopleSet
from sameface.evaluation.ranking import Labels, Ranking, blocks, rank_probes, split_gallery
from sameface.evaluation.report import EvaluationReport, ReportTable, gap_table, percent, with_interval
from sameface.evaluation.roc import ROUNDING, Flags, Integers, Numbers, allowed_accepts

FPIRS = (1e-1, 1e-2, 1e-3)
VOTERS = (1, 3, 5)  # how many nearest faces vote
RANKS = 20
POINTS = 400  # of a curve over thresholds
BLOCK = 1 << 22  # weights of draws at a time
SHOWN_RANKS = (1, 2, 5, 10, 20)
NOTE = (
    "the intervals are over the people who come by, in the galleries that were drawn; "
    "the standard errors in the JSON tell how much the draw of the gallery matters"
)

Draws = Integers  # (r, p) how often each person was drawn


@dataclass(frozen=True, slots=True, eq=False)
class OpenCurve:
    """FPIR and FNIR at every threshold at which one of them changes."""

    threshold: Numbers  # (k,) rising; the first is -1 and names nobody
    fpir: Numbers  # (k,) NaN without strangers
    fnir: Numbers  # (k,) NaN without enrolled probes; with several votes it may rise again
    known: int  # probes that are enrolled
    strangers: int  # the other probes


@dataclass(frozen=True, slots=True)
class Detection:
    """DIR at a false-positive rate: means over the galleries, None where one has too few strangers for the rate."""

    fpir: float  # the part of the strangers that may be named
    dir: Estimate | None  # the part of the enrolled that are given their own name
    error: float  # standard error of DIR over the galleries; NaN with one
    threshold: float | None


@dataclass(frozen=True, slots=True, eq=False)
class VoteResult:
    """Identification by the votes of so many nearest faces."""

    voters: int
    right: Estimate  # closed set: the part of the enrolled probes that are given their own name
    error: float  # standard error of that part over the galleries
    detections: tuple[Detection, ...]  # one for each false-positive rate
    curve: OpenCurve  # over all galleries together, at evenly spaced thresholds


@dataclass(frozen=True, slots=True, eq=False)
class GalleryResult:
    """Identification in galleries of one size."""

    enrolled: int  # people
    faces: int  # pictures of each
    known: int  # enrolled probes, all galleries together
    strangers: int  # the other probes
    cmc: Numbers  # (r,) the part of the enrolled probes whose person is among the nearest 1, 2, ... r
    cmc_interval: Numbers  # (r, 2) of that mean over the galleries
    cmc_error: Numbers  # (r,) its standard error over the galleries
    votes: tuple[VoteResult, ...]  # one for each number of voters
    by_person: Mapping[str, Integers]  # by measure: (p, 2) right and all enrolled probes of each person


def match_rates(ranking: Ranking, ranks: int = RANKS) -> Numbers:
    """Return the part of the enrolled probes whose person is among the nearest 1, 2, ... `ranks` (CMC).

    NaN without enrolled probes.
    """
    own = ranking.rank[ranking.known]
    hits = np.bincount(np.minimum(own, ranks + 1), minlength=ranks + 2)[1 : ranks + 1]
    return np.cumsum(hits) / len(own) if len(own) else np.full(ranks, np.nan)


def right_rate(ranking: Ranking, voters: int) -> float:
    """Return the part of the enrolled probes that the votes name rightly, at any distance; NaN without any."""
    right = (ranking.named[:, voters - 1] == ranking.truth)[ranking.known]
    return float(right.mean()) if len(right) else float("nan")


def right_at(ranking: Ranking, voters: int, threshold: float) -> Flags:
    """Return which probes the faces at or under a threshold name rightly; of strangers none."""
    votes = (ranking.distance[:, :voters] <= threshold).sum(axis=1)
    named = np.take_along_axis(ranking.named, np.maximum(votes - 1, 0)[:, None], axis=1)[:, 0]
    right: Flags = (votes > 0) & (named == ranking.truth) & ranking.known
    return right


def make_open_curve(rankings: Sequence[Ranking], *, voters: int) -> OpenCurve:
    """Return FPIR and FNIR over all thresholds, over the probes of all rankings together.

    Only faces at or under the threshold vote. So a probe's answer can change only at the distances of its
    nearest faces, and each change is one step of the curve.
    """
    changes = [answer_changes(ranking, voters) for ranking in rankings]
    places, steps = (np.concatenate([change[part] for change in changes]) for part in (0, 1))
    false = np.concatenate([ranking.distance[~ranking.known, 0] for ranking in rankings])
    known = sum(int(ranking.known.sum()) for ranking in rankings)
    distances = np.concatenate([ranking.distance[ranking.known, :voters].ravel() for ranking in rankings])
    threshold = np.unique(np.concatenate([[-1.0], distances[np.isfinite(distances)], false[np.isfinite(false)]]))
    return OpenCurve(
        threshold=threshold,
        fpir=running_rate(false, np.ones(len(false)), threshold, len(false)),
        fnir=1 - running_rate(places, steps, threshold, known),
        known=known,
        strangers=len(false),
    )


def answer_changes(ranking: Ranking, voters: int) -> tuple[Numbers, Integers, Integers]:
    """Return the distances at which answers to enrolled probes become right (1) or wrong again (-1), and the people.

    All three are `(k,)`, in the order of the distance.
    """
    known = ranking.known
    right = (ranking.named[known, :voters] == ranking.truth[known, None]).astype(np.int64)
    steps = np.diff(right, axis=1, prepend=0).ravel()
    places = ranking.distance[known, :voters].ravel()
    people = np.repeat(ranking.person[known], voters)
    used = np.flatnonzero((steps != 0) & np.isfinite(places))
    used = used[np.argsort(places[used], kind="stable")]
    return places[used], steps[used], people[used]


def running_rate(places: Numbers, steps: Integers | Numbers, threshold: Numbers, total: int) -> Numbers:
    """Return the sum of the steps at or under each threshold as a part of `total`; NaN if that is 0."""
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

    None if the rate does not allow even one stranger: nothing is extrapolated.
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
    """Measure identification in random galleries of several sizes, one of each size for each seed.

    `rows` are unit rows, `(n, d) float32`; `people` the person of each, `(n,)`. So many people are enrolled with
    `per_person` pictures; all others are strangers. The first seed also draws the people for the intervals.

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
    cmc, cmc_error = np.array([mean_and_error(column) for column in rates.T]).T
    known = sum(int(ranking.known.sum()) for ranking in rankings)
    ranks = range(1, RANKS + 1)
    drawn = [draw_parts(ranking, [ranking.rank <= rank for rank in ranks], draws) for ranking in rankings]
    limits = [draw_limits(ranking, draws, FPIRS) for ranking in rankings]
    curves = {voters: [make_open_curve([one], voters=voters) for one in rankings] for voters in VOTERS}
    return GalleryResult(
        enrolled=enrolled,
        faces=per_person,
        known=known,
        strangers=sum(len(ranking.truth) for ranking in rankings) - known,
        cmc=cmc,
        cmc_interval=np.array(draw_intervals(drawn)),
        cmc_error=cmc_error,
        votes=tuple(summarise_votes(rankings, curves[voters], draws, limits, voters) for voters in VOTERS),
        by_person=sum_by_person(rankings, draws.shape[1], curves),
    )


def summarise_votes(
    rankings: Sequence[Ranking], curves: Sequence[OpenCurve], draws: Draws, limits: Sequence[Numbers], voters: int
) -> VoteResult:
    """Return the measures of so many voters in several galleries; `curves` and `limits` are one for each gallery."""
    mean, error = mean_and_error(np.array([right_rate(ranking, voters) for ranking in rankings]))
    right = [draw_parts(ranking, [right_at(ranking, voters, np.inf)], draws) for ranking in rankings]
    pairs = zip(rankings, limits, strict=True)
    drawn = [draw_detections(ranking, draws, limit, voters=voters) for ranking, limit in pairs]
    detections = tuple(map(partial(summarise_detections, curves), FPIRS, draw_intervals(drawn)))
    curve = thin_curve(make_open_curve(rankings, voters=voters))
    return VoteResult(voters, Estimate(mean, *draw_intervals(right)[0]), error, detections, curve)


def draw_intervals(drawn: Sequence[Numbers]) -> list[tuple[float, float]]:
    """Return `k` intervals of means over galleries; `drawn` has the `(r, k)` draws of each."""
    return [interval(column) for column in np.mean(drawn, axis=0).T]


def summarise_detections(curves: Sequence[OpenCurve], fpir: float, drawn: tuple[float, float]) -> Detection:
    """Return DIR at one rate over several galleries, with the interval that was drawn."""
    held = [pair for curve in curves if (pair := detect_at_fpir(curve, fpir)) is not None]
    if len(held) < len(curves):
        return Detection(fpir, None, float("nan"), None)
    rates, thresholds = np.array(held).T
    mean, error = mean_and_error(rates)
    return Detection(fpir, Estimate(mean, *drawn), error, float(thresholds.mean()))


def sum_by_person(
    rankings: Sequence[Ranking], people: int, curves: Mapping[int, Sequence[OpenCurve]]
) -> dict[str, Integers]:
    """Return right and all enrolled probes of each person, by measure; each gallery has its own threshold.

    `curves` holds those of each gallery, by the number of voters.
    """
    counts = {"rank 1": [count_by_person(one, one.rank == 1, people) for one in rankings]}
    for voters, own in curves.items():
        for fpir in FPIRS:
            counts[f"DIR at FPIR {fpir:g}, k = {voters}"] = [
                count_by_person(ranking, right_at(ranking, voters, held[1]), people)
                for ranking, curve in zip(rankings, own, strict=True)
                if (held := detect_at_fpir(curve, fpir)) is not None
            ]
    return {name: np.sum(parts, axis=0) for name, parts in counts.items() if len(parts) == len(rankings)}


def count_by_person(ranking: Ranking, flags: Flags, people: int) -> Integers:
    """Return how many enrolled probes of each person are flagged, and how many there are, `(p, 2)`."""
    known = ranking.known
    flagged = np.bincount(ranking.person[known & flags], minlength=people)
    return np.column_stack([flagged, np.bincount(ranking.person[known], minlength=people)])


def draw_parts(ranking: Ranking, flags: Sequence[Flags], draws: Draws) -> Numbers:
    """Return which part of the enrolled probes each of `k` flags holds for in each draw, `(r, k)`; NaN without any."""
    counts = [count_by_person(ranking, one, draws.shape[1]) for one in flags]
    columns = np.column_stack([counts[0][:, 1], *(count[:, 0] for count in counts)]).astype(np.float64)
    sums: Numbers = draws.astype(np.float64) @ columns  # (r, 1 + k)
    whole = np.where(sums[:, :1] > 0, sums[:, :1], np.nan)
    return sums[:, 1:] / whole


def draw_limits(ranking: Ranking, draws: Draws, fpirs: Sequence[float]) -> Numbers:
    """Return the distance of the first stranger who is too many for each rate, `(r, f)`; NaN without strangers."""
    strangers = np.flatnonzero(~ranking.known)
    order = strangers[np.argsort(ranking.distance[strangers, 0], kind="stable")]
    places = np.append(ranking.distance[order, 0], np.inf)
    limits = np.full((len(draws), len(fpirs)), np.nan)
    for part in blocks(len(draws), len(order), BLOCK):
        running = np.cumsum(draws[part][:, ranking.person[order]], axis=1)
        for row, sums in zip(limits[part], running, strict=True):
            if len(sums) and sums[-1]:
                allowed = np.array(fpirs) * float(sums[-1]) * (1 + 1e-12)
                row[:] = places[np.searchsorted(sums, allowed, side="right")]
    return limits


def draw_detections(ranking: Ranking, draws: Draws, limits: Numbers, *, voters: int) -> Numbers:
    """Return DIR in each draw with a threshold just under each limit, `(r, f)`; NaN without enrolled probes."""
    whole = draws @ np.bincount(ranking.person[ranking.known], minlength=draws.shape[1])
    places, steps, people = answer_changes(ranking, voters)
    right = np.zeros(limits.shape)
    for part in blocks(len(draws), len(people), BLOCK):
        running = np.cumsum(draws[part][:, people] * steps, axis=1)
        running = np.column_stack([np.zeros(len(running), np.int64), running])
        right[part] = np.take_along_axis(running, np.searchsorted(places, limits[part]), axis=1)
    defined = (whole[:, None] > 0) & ~np.isnan(limits)
    return np.where(defined, right / np.maximum(whole[:, None], 1), np.nan)


def report_identification(
    facts: Mapping[str, str],
    people: PeopleSet,
    results: Sequence[GalleryResult],
    slices: Mapping[str, Sequence[GalleryResult]],
) -> EvaluationReport:
    """Return the report on each size of the gallery, among all people and among those of each slice."""
    tables = [rank_table("Closed set: everyone is enrolled", results), open_table("Open set", results)]
    for name, parts in slices.items():
        tables += [rank_table(f"Closed set, {name}", parts), open_table(f"Open set, {name}", parts)]
    if slices:
        by_slice = {
            name: {key: one for part in parts for key, one in result_estimates(part).items()}
            for name, parts in slices.items()
        }
        tables.append(gap_table(by_slice))
    named = {f"{result.enrolled} enrolled": result for result in results}
    data = {
        "galleries": [gallery_data(result) for result in results],
        "slices": {name: [gallery_data(part) for part in parts] for name, parts in slices.items()},
        "by_person": {
            f"{measure}, {name}": {
                person: counts.tolist() for person, counts in zip(people.names, by_person, strict=True) if counts[1]
            }
            for name, result in named.items()
            for measure, by_person in result.by_person.items()
        },
    }
    rates = {name: result.cmc for name, result in named.items()}
    intervals = {name: result.cmc_interval for name, result in named.items()}
    curves = {
        f"{name}, k = {vote.voters}": (vote.curve.fpir, vote.curve.fnir)
        for name, result in named.items()
        for vote in result.votes
    }
    charts = (cmc_chart(rates, intervals), open_set_chart(curves))
    return EvaluationReport("identification", facts, tuple(tables), charts, data, warnings=(*people.warnings, NOTE))


def rank_table(title: str, results: Sequence[GalleryResult]) -> ReportTable:
    """Return how often the own person is among the nearest, and is named by the votes."""
    rows = []
    for result in results:
        ranks = [percent(float(result.cmc[rank - 1])) for rank in SHOWN_RANKS if rank <= len(result.cmc)]
        votes = [with_interval(vote.right) for vote in result.votes]
        rows.append((f"{result.enrolled:,}", f"{result.known:,}", *ranks, *votes))
    voters = [f"named, k = {vote.voters}" for vote in results[0].votes] if results else []
    return ReportTable(title, ("enrolled", "probes", *(f"rank {rank}" for rank in SHOWN_RANKS), *voters), tuple(rows))


def open_table(title: str, results: Sequence[GalleryResult]) -> ReportTable:
    """Return DIR at every FPIR, by size of the gallery and number of voters."""
    rows = tuple(
        (f"{result.enrolled:,}", f"{result.strangers:,}", str(vote.voters), *map(format_detection, vote.detections))
        for result in results
        for vote in result.votes
    )
    detections = results[0].votes[0].detections if results else ()
    return ReportTable(
        title, ("enrolled", "strangers", "k", *(f"DIR at FPIR {one.fpir:g}" for one in detections)), rows
    )


def format_detection(detection: Detection) -> str:
    """Return DIR with its interval and threshold."""
    if detection.dir is None:
        return "not supported: too few strangers"
    return f"{with_interval(detection.dir)} at {detection.threshold:.4f}"


def result_estimates(result: GalleryResult) -> dict[str, Estimate]:
    """Return rank 1, and DIR at every FPIR by number of voters."""
    size = f"{result.enrolled:,} enrolled"
    found = {f"rank 1, {size}": Estimate(float(result.cmc[0]), *map(float, result.cmc_interval[0]))}
    for vote in result.votes:
        for one in vote.detections:
            if one.dir is not None:
                found[f"DIR at FPIR {one.fpir:g}, k = {vote.voters}, {size}"] = one.dir
    return found


def gallery_data(result: GalleryResult) -> dict[str, Any]:
    """Return the numbers of one size."""
    names = ("enrolled", "faces", "known", "strangers", "cmc", "cmc_interval", "cmc_error")
    votes = []
    for vote in result.votes:
        detections = [asdict(one) for one in vote.detections]
        votes.append({"k": vote.voters, "right": vote.right, "right_error": vote.error, "detections": detections})
    return {name: getattr(result, name) for name in names} | {"votes": votes}
