"""The report on identification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import cmc_chart, open_set_chart
from sameface.evaluation.identification import Detection, GalleryResult
from sameface.evaluation.people import PeopleSet
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
    """Return the report.

    Args:
        facts: What was measured.
        people: The rows.
        results: One for each size of the gallery.
        slices: The same among the people of each slice only.
    """
    tables = [rank_table("Closed set: everyone is enrolled", results), open_table("Open set", results)]
    for name, parts in slices.items():
        tables += [rank_table(f"Closed set, {name}", parts), open_table(f"Open set, {name}", parts)]
    if slices:
        by_slice = {
            name: {key: one for part in parts for key, one in result_estimates(part).items()}
            for name, parts in slices.items()
        }
        tables.append(gap_table(by_slice))
    rates = {f"{result.enrolled} enrolled": result.cmc for result in results}
    intervals = {f"{result.enrolled} enrolled": result.cmc_interval for result in results}
    curves = {
        f"{result.enrolled} enrolled, k = {vote.voters}": (vote.curve.fpir, vote.curve.fnir)
        for result in results
        for vote in result.votes
    }
    data = {
        "galleries": [gallery_data(result) for result in results],
        "slices": {name: [gallery_data(part) for part in parts] for name, parts in slices.items()},
        "by_person": {
            f"{name}, {result.enrolled} enrolled": {
                person: counts.tolist() for person, counts in zip(people.names, by_person, strict=True) if counts[1]
            }
            for result in results
            for name, by_person in result.by_person.items()
        },
    }
    charts = (cmc_chart(rates, intervals), open_set_chart(curves))
    return EvaluationReport("identification", facts, tuple(tables), charts, data, warnings=(*people.warnings, NOTE))


def rank_table(title: str, results: Sequence[GalleryResult]) -> ReportTable:
    """Return how often the own person is among the nearest, and is named by the votes."""
    rows = []
    for result in results:
        ranks = [percent(float(result.cmc[rank - 1])) for rank in SHOWN_RANKS if rank <= len(result.cmc)]
        votes = [with_interval(Estimate(vote.right, *vote.interval)) for vote in result.votes]
        rows.append((f"{result.enrolled:,}", f"{result.known:,}", *ranks, *votes))
    voters = [f"named, k = {vote.voters}" for vote in results[0].votes] if results else []
    return ReportTable(title, ("enrolled", "probes", *(f"rank {rank}" for rank in SHOWN_RANKS), *voters), tuple(rows))


def open_table(title: str, results: Sequence[GalleryResult]) -> ReportTable:
    """Return DIR at every FPIR, by size of the gallery and number of voters."""
    rows = []
    for result in results:
        for vote in result.votes:
            told = [format_detection(detection) for detection in vote.detections]
            rows.append((f"{result.enrolled:,}", f"{result.strangers:,}", str(vote.voters), *told))
    detections = results[0].votes[0].detections if results else ()
    columns = ("enrolled", "strangers", "k", *(f"DIR at FPIR {one.fpir:g}" for one in detections))
    return ReportTable(title, columns, tuple(rows))


def format_detection(detection: Detection) -> str:
    """Return DIR with its interval and threshold."""
    if detection.dir is None or detection.threshold is None:
        return "not supported: too few strangers"
    told = with_interval(Estimate(detection.dir, *detection.interval))
    return f"{told} at {detection.threshold:.4f}"


def result_estimates(result: GalleryResult) -> dict[str, Estimate]:
    """Return rank 1, and DIR at every FPIR by number of voters."""
    size = f"{result.enrolled:,} enrolled"
    found = {f"rank 1, {size}": Estimate(float(result.cmc[0]), *map(float, result.cmc_interval[0]))}
    for vote in result.votes:
        for one in vote.detections:
            if one.dir is not None:
                name = f"DIR at FPIR {one.fpir:g}, k = {vote.voters}, {size}"
                found[name] = Estimate(one.dir, *one.interval)
    return found


def gallery_data(result: GalleryResult) -> dict[str, object]:
    """Return the numbers of one size."""
    return {
        "enrolled": result.enrolled,
        "faces": result.faces,
        "known": result.known,
        "strangers": result.strangers,
        "cmc": result.cmc,
        "cmc_interval": result.cmc_interval,
        "cmc_error": result.cmc_error,
        "votes": [
            {
                "k": vote.voters,
                "right": Estimate(vote.right, *vote.interval),
                "right_error": vote.standard_error,
                "detections": [detection_data(one) for one in vote.detections],
            }
            for vote in result.votes
        ],
    }


def detection_data(detection: Detection) -> dict[str, object]:
    """Return the numbers of one rate."""
    return {
        "fpir": detection.fpir,
        "dir": None if detection.dir is None else Estimate(detection.dir, *detection.interval),
        "error": detection.standard_error,
        "threshold": detection.threshold,
    }
