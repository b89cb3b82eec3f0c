"""The report on sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import Chart, sweep_chart
from sameface.evaluation.report import EvaluationReport, ReportTable, with_interval
from sameface.evaluation.sweeps import SweepCurve, SweepPoint

UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def report_sweeps(
    facts: Mapping[str, str], curves: Sequence[SweepCurve], *, warnings: tuple[str, ...] = ()
) -> EvaluationReport:
    """Return the report.

    Args:
        facts: What was measured.
        curves: One for each way to make pictures worse.
        warnings: What was left out.
    """
    data = {
        curve.name: {
            "unit": curve.unit,
            "far": curve.far,
            "as they are": point_data(curve.plain),
            "levels": [point_data(point) for point in curve.points],
        }
        for curve in curves
    }
    tables = tuple(curve_table(curve) for curve in curves)
    return EvaluationReport("sweep", facts, tables, tuple(map(curve_chart, curves)), data, warnings=warnings)


def curve_table(curve: SweepCurve) -> ReportTable:
    """Return what is left at each level."""
    rows = [cells(point) for point in (curve.plain, *curve.points)]
    columns = (curve.unit, "VAL", "VAL of all pairs", "VAL, threshold held", "FAR, threshold held", "no face")
    return ReportTable(f"{curve.name}: VAL at FAR {curve.far:g}", columns, tuple(rows))


def cells(point: SweepPoint) -> tuple[str, ...]:
    """Return the row of one level."""
    return (
        "as they are" if np.isnan(point.level) else f"{point.level:g}",
        with_interval(point.val or UNDEFINED),
        with_interval(point.val_of_all or UNDEFINED),
        with_interval(point.common_val),
        "not defined" if np.isnan(point.common_far.value) else f"{point.common_far.value:.2g}",
        f"{point.failed:,}",
    )


def curve_chart(curve: SweepCurve) -> Chart:
    """Return VAL against the level."""
    vals = {
        "both faces found": [point.val or UNDEFINED for point in curve.points],
        "all pairs": [point.val_of_all or UNDEFINED for point in curve.points],
    }
    levels = [point.level for point in curve.points]
    return sweep_chart(f"{curve.name}: VAL at FAR {curve.far:g}", curve.unit, levels, vals)


def point_data(point: SweepPoint) -> dict[str, object]:
    """Return the numbers of one level."""
    return {
        "level": point.level,
        "failed": point.failed,
        "genuine": point.genuine,
        "impostors": point.impostors,
        "threshold": point.threshold,
        "val": point.val,
        "val_of_all": point.val_of_all,
        "common_val": point.common_val,
        "common_far": point.common_far,
    }
