"""VAL at FAR over all pairs of many people (FaceNet, section 4.1), and the report on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sameface.arrays import Embeddings, expect_unit_rows
from sameface.evaluation.allpairs import (
    GenuinePairs,
    NearestImpostors,
    bin_edges,
    count_impostors,
    find_genuine,
    find_nearest,
    threshold_below,
)
from sameface.evaluation.bootstrap import REPEATS, Estimate, draw_people, interval
from sameface.evaluation.charts import Chart, distance_chart, roc_charts
from sameface.evaluation.pairs import FARS
from sameface.evaluation.protocols import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, far_table, gap_table, with_interval
from sameface.evaluation.roc import Integers, Numbers, Roc, allowed_accepts, running_part


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutRate:
    """VAL at one false-accept rate."""

    far: float  # the rate that is allowed
    threshold: Estimate  # the largest squared distance that keeps it
    accepted: int  # pairs of different people that it accepts
    val: Estimate  # the part of the pairs of one person that it accepts
    by_person: Integers  # (p,) pairs of each person that it accepts


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutResult:
    """All pairs of many people."""

    genuine: int  # pairs of one person
    impostors: int  # pairs of different people
    by_person: Integers  # (p,) genuine pairs of each person
    rates: tuple[HoldoutRate, ...]  # one for each false-accept rate that the pairs support
    refused: tuple[float, ...]  # the other rates
    roc: Roc  # at thresholds that lie 0.05 % apart
    counts: Integers  # (2, BINS) pairs of one person and of different people between those thresholds


def evaluate_holdout(
    rows: Embeddings,
    person: Integers,
    *,
    fars: Sequence[float] = FARS,
    fewest: int = 1,
    repeats: int = REPEATS,
    seed: int = 0,
) -> HoldoutResult:
    """Measure all pairs at false-accept rates with at least `fewest` false accepts behind them.

    `rows` are unit rows, `(n, d) float32`; `person` the person of each, `(n,) int64`, 0 and up, rising.

    Raises:
        ValueError: `person` is not in order, or not as long as `rows`.
    """
    expect_unit_rows("rows", rows)
    if len(person) != len(rows) or (np.diff(person) < 0).any():
        raise ValueError("person must have one number for each row, in order")
    counts = count_impostors(rows, person)
    impostors = int(counts.sum())
    supported = [far for far in fars if allowed_accepts(far, impostors) >= max(fewest, 1)]
    nearest = find_nearest(rows, person, counts, [allowed_accepts(far, impostors) for far in supported])
    own = find_genuine(rows, person, [found.limit for found in nearest])
    sizes = np.bincount(person)
    draws = draw_people(len(sizes), repeats=repeats, rng=np.random.default_rng(seed))
    drawn = np.array([draw_rates(draw, sizes, nearest, own, supported) for draw in draws])  # (r, f, 2)
    genuine = int(own.counts.sum())
    rates = []
    for place, (far, found) in enumerate(zip(supported, nearest, strict=True)):
        by_person = own.accepted[place]
        threshold = Estimate(threshold_below(found.limit), *interval(drawn[:, place, 0]))
        val = Estimate(float(by_person.sum() / genuine if genuine else np.nan), *interval(drawn[:, place, 1]))
        rates.append(HoldoutRate(far, threshold, found.accepted, val, by_person))
    return HoldoutResult(
        genuine=genuine,
        impostors=impostors,
        by_person=sizes * (sizes - 1) // 2,
        rates=tuple(rates),
        refused=tuple(far for far in fars if far not in supported),
        roc=binned_roc(own.counts, counts),
        counts=np.array([own.counts, counts]),
    )


def draw_rates(
    draw: Integers, sizes: Integers, nearest: Sequence[NearestImpostors], own: GenuinePairs, fars: Sequence[float]
) -> Numbers:
    """Return threshold and VAL at each rate when people count as often as they were drawn, `(f, 2)`.

    `draw` and `sizes` are how often each person was drawn and how many rows each has, `(p,) int64`.
    """
    rows = (draw * sizes).astype(np.float64)
    impostors = (rows.sum() ** 2 - (rows**2).sum()) / 2
    genuine = np.append(0, np.cumsum(draw[own.sample.people[:, 0]]))
    values = np.full((len(fars), 2), np.nan)
    for place, (far, found) in enumerate(zip(fars, nearest, strict=True)):
        near = found.sample
        running = np.cumsum(draw[near.people[:, 0]] * draw[near.people[:, 1]]) * near.every
        too_many = int(np.searchsorted(running, far * impostors * (1 + 1e-12), side="right"))
        limit = near.distance[min(too_many, len(near.distance) - 1)]
        if impostors:
            values[place, 0] = threshold_below(float(limit))
        if impostors and genuine[-1]:
            values[place, 1] = genuine[np.searchsorted(own.sample.distance, limit)] / genuine[-1]
    return values


def binned_roc(genuine: Integers, impostors: Integers) -> Roc:
    """Return VAL and FAR at the upper edges of the bins that hold a pair."""
    used = np.flatnonzero(genuine + impostors)
    threshold = np.append(-1.0, bin_edges()[1:][used])
    parts = (running_part(genuine, used), running_part(impostors, used))
    return Roc(threshold, *parts, genuine=int(genuine.sum()), impostors=int(impostors.sum()))


def report_holdout(
    facts: Mapping[str, str], people: PeopleSet, result: HoldoutResult, slices: Mapping[str, HoldoutResult]
) -> EvaluationReport:
    """Return the report on all people and on those of each slice."""
    tables = [rate_table("VAL at FAR, all pairs", result)]
    tables += [rate_table(f"VAL at FAR, {name}", part) for name, part in slices.items()]
    by_slice = {name: rate_estimates(part) for name, part in slices.items()}
    if slices:
        tables.append(gap_table(by_slice))
    rocs = {"all": result.roc} | {name: part.roc for name, part in slices.items()}
    data = {
        "genuine": result.genuine,
        "impostors": result.impostors,
        "measures": rate_estimates(result),
        "thresholds": {f"{rate.far:g}": rate.threshold for rate in result.rates},
        "not_supported": list(result.refused),
        "slices": by_slice,
        "by_person": {
            f"VAL at FAR {rate.far:g}": {
                name: [int(part), int(whole)]
                for name, part, whole in zip(people.names, rate.by_person, result.by_person, strict=True)
                if whole
            }
            for rate in result.rates
        },
    }
    charts = (*roc_charts(rocs), counts_chart(result.counts))
    return EvaluationReport("holdout", facts, tuple(tables), charts, data, warnings=people.warnings)


def rate_estimates(result: HoldoutResult) -> dict[str, Estimate]:
    """Return VAL at every rate by name."""
    return {f"VAL at FAR {rate.far:g}": rate.val for rate in result.rates}


def rate_table(title: str, result: HoldoutResult) -> ReportTable:
    """Return VAL and threshold at every rate, and the rates that the pairs do not support."""
    rows = [
        (f"{rate.far:g}", with_interval(rate.val), format_threshold(rate.threshold), f"{rate.accepted:,}")
        for rate in result.rates
    ]
    counted = f"{result.genuine:,} of one person, {result.impostors:,} of different people"
    return far_table(f"{title} ({counted})", rows, result.refused)


def format_threshold(threshold: Estimate) -> str:
    """Return a threshold with its interval."""
    return f"{threshold.value:.4f} ({threshold.low:.4f} to {threshold.high:.4f})"


def counts_chart(counts: Integers, *, threshold: float | None = None) -> Chart:
    """Return the spread of the distances of both kinds, from `HoldoutResult.counts`, with a threshold or without."""
    used = np.flatnonzero(counts.sum(axis=0))
    lower = bin_edges()[used]
    kinds = [(lower, part[used]) for part in counts]
    end = max(float(lower[-1]), 1e-6) if len(used) else 4.0
    caption = "How far apart the two faces of a pair are, over all pairs."
    return distance_chart(kinds, end, caption, {} if threshold is None else {"threshold": threshold})
