"""The report on identification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import cmc_chart, open_set_chart
from sameface.evaluation.identification import Detection, GalleryResult
from sameface.evaluation.protocols import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, gap_table, percent, with_interval

SHOWN_RANKS = (1, 2, 5, 10, 20)
NOTE = (
    "the intervals are over the people who come by, in the galleries that were drawn; "
    "the standard errors in the JSON tell how much the draw of the gallery matters"
)


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
    votes = [
        {
            "k": vote.voters,
            "right": vote.right,
            "right_error": vote.standard_error,
            "detections": [
                {"fpir": one.fpir, "dir": one.dir, "error": one.standard_error, "threshold": one.threshold}
                for one in vote.detections
            ],
        }
        for vote in result.votes
    ]
    return {name: getattr(result, name) for name in names} | {"votes": votes}
