"""The report on identification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sameface.evaluation.charts import cmc_chart, open_set_chart
from sameface.evaluation.identification import Detection, GalleryResult
from sameface.evaluation.report import Report, Table, percent

SHOWN_RANKS = (1, 2, 5, 10, 20)


def report_identification(
    facts: Mapping[str, str],
    results: Sequence[GalleryResult],
    slices: Mapping[str, Sequence[GalleryResult]],
    *,
    warnings: tuple[str, ...] = (),
) -> Report:
    """Return the report.

    Args:
        facts: What was measured.
        results: One for each size of the gallery.
        slices: The same among the people of each slice only.
        warnings: What was left out.
    """
    tables = [rank_table("Closed set: everyone is enrolled", results), open_table("Open set", results)]
    for name, parts in slices.items():
        tables += [rank_table(f"Closed set, {name}", parts), open_table(f"Open set, {name}", parts)]
    rates = {f"{result.enrolled} enrolled": result.cmc for result in results}
    errors = {f"{result.enrolled} enrolled": result.cmc_error for result in results}
    curves = {
        f"{result.enrolled} enrolled, k = {vote.voters}": (vote.curve.fpir, vote.curve.fnir)
        for result in results
        for vote in result.votes
    }
    data = {
        "galleries": [gallery_data(result) for result in results],
        "slices": {name: [gallery_data(part) for part in parts] for name, parts in slices.items()},
    }
    charts = (cmc_chart(rates, errors), open_set_chart(curves))
    return Report("identification", facts, tuple(tables), charts, data, warnings=warnings)


def rank_table(title: str, results: Sequence[GalleryResult]) -> Table:
    """Return how often the own person is among the nearest, and is named by the votes."""
    rows = []
    for result in results:
        ranks = [percent(float(result.cmc[rank - 1])) for rank in SHOWN_RANKS if rank <= len(result.cmc)]
        votes = [f"{percent(vote.right)} ± {percent(vote.standard_error)}" for vote in result.votes]
        rows.append((f"{result.enrolled:,}", f"{result.known:,}", *ranks, *votes))
    voters = [f"named, k = {vote.voters}" for vote in results[0].votes] if results else []
    return Table(
        title, ("enrolled", "probes", *(f"rank {rank}" for rank in SHOWN_RANKS), *voters), tuple(rows)
    )


def open_table(title: str, results: Sequence[GalleryResult]) -> Table:
    """Return DIR at every FPIR, by size of the gallery and number of voters."""
    rows = []
    for result in results:
        for vote in result.votes:
            told = [tell_detection(detection) for detection in vote.detections]
            rows.append((f"{result.enrolled:,}", f"{result.strangers:,}", str(vote.voters), *told))
    detections = results[0].votes[0].detections if results else ()
    columns = ("enrolled", "strangers", "k", *(f"DIR at FPIR {one.fpir:g}" for one in detections))
    return Table(title, columns, tuple(rows))


def tell_detection(detection: Detection) -> str:
    """Return DIR with its standard error and threshold."""
    if detection.dir is None or detection.threshold is None:
        return "not supported: too few strangers"
    error = "" if np.isnan(detection.standard_error) else f" ± {percent(detection.standard_error)}"
    return f"{percent(detection.dir)}{error} at {detection.threshold:.4f}"


def gallery_data(result: GalleryResult) -> dict[str, object]:
    """Return the numbers of one size."""
    return {
        "enrolled": result.enrolled,
        "faces": result.faces,
        "known": result.known,
        "strangers": result.strangers,
        "cmc": result.cmc,
        "votes": [
            {
                "k": vote.voters,
                "right": vote.right,
                "detections": [
                    [one.fpir, one.dir, one.standard_error, one.threshold] for one in vote.detections
                ],
            }
            for vote in result.votes
        ],
    }
