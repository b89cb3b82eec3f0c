"""The report on a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sameface.evaluation.calibration import CalibrationResult, ReliabilityBin, estimate_fpir
from sameface.evaluation.charts import reliability_chart
from sameface.evaluation.holdout_report import counts_chart, format_threshold
from sameface.evaluation.people import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, percent, with_interval


def report_calibration(
    facts: Mapping[str, str],
    people: PeopleSet,
    found: CalibrationResult,
    *,
    reliability: Sequence[ReliabilityBin],
    gallery_size: int | None,
) -> EvaluationReport:
    """Return the report.

    Args:
        facts: What was measured.
        people: The rows.
        found: The calibration.
        reliability: Of the chances, on people that they were not fitted to.
        gallery_size: Tell what the threshold does in a gallery of so many faces.
    """
    tables = [summary_table(found, gallery_size), threshold_table(found)]
    charts = [counts_chart(found.counts, threshold=found.rate.threshold.value)]
    if reliability:
        tables.append(reliability_table(reliability))
        bins = np.array([(one.stated, one.true, one.low, one.high) for one in reliability]).T
        charts.append(reliability_chart({"measured": (bins[0], bins[1], bins[2], bins[3])}))
    curve = found.curve
    data = {
        "far": found.far,
        "threshold": found.rate.threshold,
        "far_interval": list(found.far_interval),
        "impostors": found.impostors,
        "genuine": found.genuine,
        "measures": {f"VAL at FAR {found.far:g}": found.rate.val},
        "thresholds": dict(zip(map("{:g}".format, found.thresholds.far), found.thresholds.distance, strict=True)),
        "fpir": None if gallery_size is None else estimate_fpir(found, gallery_size),
        "curve": None if curve is None else list(zip(curve.distance, curve.chance, strict=True)),
        "reliability": [[one.stated, one.true, one.pairs] for one in reliability],
    }
    return EvaluationReport("calibration", facts, tuple(tables), tuple(charts), data, warnings=people.warnings)


def summary_table(found: CalibrationResult, gallery_size: int | None) -> ReportTable:
    """Return the threshold and what stands behind it."""
    low, high = found.far_interval
    rows = [
        ("threshold", format_threshold(found.rate.threshold)),
        ("pairs of different people / accepted", f"{found.impostors:,} / {found.rate.accepted:,}"),
        ("false-accept rate, if pairs were independent", f"{low:.3g} to {high:.3g}"),
        ("VAL", with_interval(found.rate.val)),
    ]
    if gallery_size is not None:
        fpir = estimate_fpir(found, gallery_size)
        told = f"{fpir.value:.3g} ({fpir.low:.3g} to {fpir.high:.3g})"
        rows.append((f"FPIR in a gallery of {gallery_size:,} faces, if comparisons were independent", told))
    curve = found.curve
    if curve is not None:
        rows.append(("chances are calibrated for distances", f"{curve.distance[0]:.4f} to {curve.distance[-1]:.4f}"))
    return ReportTable(f"Threshold for a false-accept rate of {found.far:g}", ("", ""), tuple(rows))


def threshold_table(found: CalibrationResult) -> ReportTable:
    """Return the threshold of every rate that the pairs support."""
    table = found.thresholds
    rows = [
        (f"{far:g}", f"{distance:.4f}", f"{pairs:,}")
        for far, distance, pairs in zip(table.far, table.distance, table.pairs, strict=True)
    ]
    return ReportTable("Thresholds that can be saved", ("FAR", "threshold", "false accepts behind it"), tuple(rows))


def reliability_table(bins: Sequence[ReliabilityBin]) -> ReportTable:
    """Return stated and true chances."""
    rows = [(percent(one.stated, 1), percent(one.true, 1), f"{one.pairs:,}") for one in bins]
    return ReportTable(
        "Reliability of the chances, on people they were not fitted to (both kinds weighted alike)",
        ("stated chance of one person", "true", "pairs"),
        tuple(rows),
    )
