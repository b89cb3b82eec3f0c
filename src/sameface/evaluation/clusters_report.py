"""The report on clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sameface.cluster import cluster_embeddings
from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import Chart, Line, Mark
from sameface.evaluation.clusters import ClusterPoint, best_point, evaluate_clusters
from sameface.evaluation.clusters_draws import (
    NAMES,
    ContingencyTable,
    estimate_agreement,
    make_contingency,
    sum_bcubed,
)
from sameface.evaluation.people import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, gap_table, with_interval


@dataclass(frozen=True, slots=True)
class ClusterEstimates:
    """The groups at one threshold, and how sure their measures are.

    Attributes:
        point: The groups.
        cells: Which pictures they share with whom.
        estimates: Every measure with its interval, by name.
    """

    point: ClusterPoint
    cells: ContingencyTable
    estimates: Mapping[str, Estimate]


def estimate_clusters(people: PeopleSet, threshold: float, *, repeats: int, seed: int) -> ClusterEstimates:
    """Group the rows of people at one threshold.

    Args:
        people: The rows.
        threshold: The mean squared distance at and under which groups merge.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.
    """
    labels = cluster_embeddings(people.rows, threshold=threshold)
    cells = make_contingency(labels, people.person)
    point = ClusterPoint(threshold, evaluate_clusters(labels, people.person))
    return ClusterEstimates(point, cells, estimate_agreement(cells, repeats=repeats, seed=seed))


def report_clusters(
    facts: Mapping[str, str],
    people: PeopleSet,
    chosen: ClusterEstimates,
    sweep: Sequence[ClusterPoint],
    *,
    slices: Mapping[str, ClusterEstimates],
) -> EvaluationReport:
    """Return the report.

    Args:
        facts: What was measured.
        people: The rows.
        chosen: The groups at the threshold that `sameface cluster` takes.
        sweep: At many thresholds.
        slices: The chosen threshold among the people of each slice only.
    """
    named = {"all": chosen} | dict(slices)
    best = best_point(sweep)
    tables = [
        ReportTable(f"Groups at {chosen.point.threshold:.4f}", ("", *named), group_rows(named)),
        ReportTable("The threshold with the best BCubed F here", COLUMNS, (cells(best),)),
    ]
    if slices:
        tables.append(gap_table({name: groups.estimates for name, groups in slices.items()}))
    tables.append(ReportTable("Threshold sweep", COLUMNS, tuple(cells(point) for point in sweep)))
    data = {
        "chosen": groups_data(chosen),
        "best": point_data(best),
        "sweep": [point_data(point) for point in sweep],
        "slices": {name: groups_data(groups) for name, groups in slices.items()},
        "by_person": person_data(people, chosen.cells),
    }
    charts = sweep_charts(chosen.point, sweep)
    return EvaluationReport("clusters", facts, tuple(tables), charts, data, warnings=people.warnings)


def group_rows(named: Mapping[str, ClusterEstimates]) -> tuple[tuple[str, ...], ...]:
    """Return every measure of the people of each slice."""
    results = [groups.point.result for groups in named.values()]
    rows = [
        ("groups (people)", *(f"{result.clusters:,} ({result.people:,})" for result in results)),
        ("groups of one picture", *(f"{result.singles:,}" for result in results)),
    ]
    rows += [(name, *(with_interval(one.estimates[name]) for one in named.values())) for name in NAMES]
    return tuple(rows)


def groups_data(groups: ClusterEstimates) -> dict[str, Any]:
    """Return the numbers of the groups, with their intervals."""
    return point_data(groups.point) | {"measures": dict(groups.estimates)}


def person_data(people: PeopleSet, cells: ContingencyTable) -> dict[str, Any]:
    """Return sums of BCubed precision and recall, and the number of pictures, for each person."""
    sums = sum_bcubed(cells)
    return {
        name: {person: [float(row[place]), int(row[2])] for person, row in zip(people.names, sums, strict=True)}
        for place, name in enumerate(NAMES[:2])
    }


COLUMNS = ("threshold", "groups (people)", "BCubed precision", "recall", "F", "pairs: precision", "recall ", "F ")


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
