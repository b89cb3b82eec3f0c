"""The report on clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sameface.evaluation.charts import Chart, Line, Mark
from sameface.evaluation.clusters import ClusterPoint, best_point
from sameface.evaluation.report import Report, Table


def report_clusters(
    facts: Mapping[str, str],
    chosen: ClusterPoint,
    sweep: Sequence[ClusterPoint],
    *,
    slices: Mapping[str, ClusterPoint],
    warnings: tuple[str, ...] = (),
) -> Report:
    """Return the report.

    Args:
        facts: What was measured.
        chosen: The groups at the threshold that `sameface cluster` takes.
        sweep: At many thresholds.
        slices: The chosen threshold among the people of each slice only.
        warnings: What was left out.
    """
    named = {"chosen": chosen, "best BCubed F": best_point(sweep)} | dict(slices)
    tables = (
        Table("Groups", ("", *COLUMNS), tuple((name, *cells(point)) for name, point in named.items())),
        Table("Threshold sweep", COLUMNS, tuple(cells(point) for point in sweep)),
    )
    data = {
        "chosen": point_data(chosen),
        "best": point_data(best_point(sweep)),
        "sweep": [point_data(point) for point in sweep],
        "slices": {name: point_data(point) for name, point in slices.items()},
    }
    return Report("clusters", facts, tables, sweep_charts(chosen, sweep), data, warnings=warnings)


COLUMNS = (
    "threshold",
    "groups (people)",
    "BCubed precision",
    "recall",
    "F",
    "pairs: precision",
    "recall ",
    "F ",
)


def cells(point: ClusterPoint) -> tuple[str, ...]:
    """Return the row of one threshold."""
    result = point.result
    values = [
        part
        for agreement in (result.bcubed, result.pairwise)
        for part in (agreement.precision, agreement.recall, agreement.f)
    ]
    told = ["not defined" if np.isnan(value) else f"{value:.4f}" for value in values]
    return (f"{point.threshold:.4f}", f"{result.clusters:,} ({result.people:,})", *told)


def point_data(point: ClusterPoint) -> dict[str, float | int]:
    """Return the numbers of one threshold."""
    result = point.result
    return {
        "threshold": point.threshold,
        "clusters": result.clusters,
        "people": result.people,
        "pictures": result.pictures,
        "bcubed_precision": result.bcubed.precision,
        "bcubed_recall": result.bcubed.recall,
        "bcubed_f": result.bcubed.f,
        "pairwise_precision": result.pairwise.precision,
        "pairwise_recall": result.pairwise.recall,
        "pairwise_f": result.pairwise.f,
    }


def sweep_charts(chosen: ClusterPoint, sweep: Sequence[ClusterPoint]) -> tuple[Chart, ...]:
    """Return agreement and number of groups against the threshold."""
    threshold = np.array([point.threshold for point in sweep])
    agreements = {
        "BCubed precision": [point.result.bcubed.precision for point in sweep],
        "BCubed recall": [point.result.bcubed.recall for point in sweep],
        "BCubed F": [point.result.bcubed.f for point in sweep],
        "pairwise F": [point.result.pairwise.f for point in sweep],
    }
    lines = tuple(Line(name, threshold, np.array(values)) for name, values in agreements.items())
    counts = np.array([float(point.result.clusters) for point in sweep])
    people = np.full(len(sweep), float(chosen.result.people))
    mark = (Mark("chosen", chosen.threshold),)
    return (
        Chart(
            "Groups against people",
            "threshold (mean squared distance)",
            "agreement",
            lines,
            caption="Precision: how pure the groups are. Recall: how whole the people are.",
            marks=mark,
        ),
        Chart(
            "Number of groups",
            "threshold (mean squared distance)",
            "groups",
            (Line("groups", threshold, counts), Line("people", threshold, people)),
            caption="Where the two meet there are as many groups as people.",
            log_y=True,
            marks=mark,
        ),
    )
