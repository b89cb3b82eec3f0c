"""The report on all pairs of a folder of people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sameface.evaluation.allpairs import BINS, SHIFT
from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import BINS as BARS
from sameface.evaluation.charts import Chart, Line, Mark, roc_charts
from sameface.evaluation.holdout import HoldoutResult
from sameface.evaluation.people import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, gap_table, with_interval


def report_holdout(
    facts: Mapping[str, str], people: PeopleSet, result: HoldoutResult, slices: Mapping[str, HoldoutResult]
) -> EvaluationReport:
    """Return the report.

    Args:
        facts: What was measured.
        people: The rows.
        result: Over all people.
        slices: Over those of each slice.
    """
    tables = [rate_table("VAL at FAR, all pairs", result)]
    tables += [rate_table(f"VAL at FAR, {name}", part) for name, part in slices.items()]
    if slices:
        tables.append(gap_table({name: rate_estimates(part) for name, part in slices.items()}))
    rocs = {"all": result.roc} | {name: part.roc for name, part in slices.items()}
    charts = (*roc_charts(rocs), counts_chart(result.counts))
    data = {
        "genuine": result.genuine,
        "impostors": result.impostors,
        "measures": rate_estimates(result),
        "thresholds": {f"{rate.far:g}": rate.threshold for rate in result.rates},
        "not_supported": list(result.refused),
        "slices": {name: rate_estimates(part) for name, part in slices.items()},
        "by_person": {
            f"VAL at FAR {rate.far:g}": {
                name: [int(part), int(whole)]
                for name, part, whole in zip(people.names, rate.by_person, result.by_person, strict=True)
                if whole
            }
            for rate in result.rates
        },
    }
    return EvaluationReport("holdout", facts, tuple(tables), charts, data, warnings=people.warnings)


def rate_estimates(result: HoldoutResult) -> dict[str, Estimate]:
    """Return VAL at every rate by name."""
    return {f"VAL at FAR {rate.far:g}": rate.val for rate in result.rates}


def rate_table(title: str, result: HoldoutResult) -> ReportTable:
    """Return VAL and threshold at every rate, and which rates the pairs do not support."""
    rows = [
        (f"{rate.far:g}", with_interval(rate.val), format_threshold(rate.threshold), f"{rate.accepted:,}")
        for rate in result.rates
    ]
    rows += [
        (f"{far:g}", f"not supported: needs {round(1 / far):,} pairs of different people", "", "")
        for far in result.refused
    ]
    counted = f"{result.genuine:,} of one person, {result.impostors:,} of different people"
    columns = ("FAR", "VAL", "threshold", "false accepts behind it")
    return ReportTable(f"{title} ({counted})", columns, tuple(rows))


def format_threshold(threshold: Estimate) -> str:
    """Return a threshold with its interval."""
    return f"{threshold.value:.4f} ({threshold.low:.4f} to {threshold.high:.4f})"


def counts_chart(counts: NDArray[np.int64], *, threshold: float | None = None) -> Chart:
    """Return how the distances of both kinds are spread, from the counts by leading bits.

    Args:
        counts: `(2, BINS) int64` pairs of one person and of different people.
        threshold: A distance to draw, or None.
    """
    lower = (np.arange(BINS, dtype=np.uint32) << np.uint32(SHIFT)).view(np.float32).astype(np.float64)
    used = np.flatnonzero(counts.sum(axis=0))
    edges = np.linspace(0, max(float(lower[used[-1]]), 1e-6) if len(used) else 4.0, BARS + 1)
    lines = []
    for name, part in zip(("one person", "different people"), counts, strict=True):
        spread, _ = np.histogram(lower[used], edges, weights=part[used])
        lines.append(Line(name, edges, np.append(spread, 0) / max(int(part.sum()), 1)))
    return Chart(
        "Distances",
        "squared distance",
        "part of the pairs",
        tuple(lines),
        caption="How far apart the two faces of a pair are, over all pairs.",
        style="filled",
        marks=() if threshold is None else (Mark("threshold", threshold),),
    )
