"""Calibrate the threshold and the chance of one person on your own pictures, report it and save it."""

from __future__ import annotations

import math
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tomli_w

from sameface.arrays import Embeddings
from sameface.atomic import replace_file
from sameface.errors import WeightsError
from sameface.evaluation.allpairs import bin_edges
from sameface.evaluation.bootstrap import REPEATS, Estimate
from sameface.evaluation.charts import reliability_chart
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.holdout import HoldoutRate, counts_chart, evaluate_holdout, format_threshold
from sameface.evaluation.protocols import PeopleSet
from sameface.evaluation.report import EvaluationReport, ReportTable, percent, with_interval
from sameface.evaluation.roc import Flags, Integers, Numbers
from sameface.manifest import ProbabilityCurve, read_manifest
from sameface.model import find_weights
from sameface.thresholds import Thresholds, gallery_rate

# Enough accepted pairs for a rate to be known to within a third (the rule of 30, ISO/IEC 19795-1).
FEWEST = 30
RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
Z = 1.959963984540054  # of 95 %
KNOTS = 64  # of the curve of chances
RELIABILITY_BINS = 10

Pool: TypeAlias = tuple[float, float, float]  # a distance, pairs of one person, pairs of different people


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationResult:
    """The calibration on a folder of people."""

    far: float  # the false-accept rate that was asked for
    rate: HoldoutRate  # threshold and VAL at this rate
    far_interval: tuple[float, float]  # of the rate, if pairs were independent of each other (Wilson, 1927)
    impostors: int  # pairs of different people
    genuine: int  # pairs of one person
    thresholds: Thresholds  # for every rate that the pairs support
    curve: ProbabilityCurve | None  # the chance of one person at a distance; None where one of the kinds is missing
    counts: Integers  # (2, BINS) pairs of one person and of different people, by distance


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs that were given about the same chance."""

    stated: float  # their mean chance
    true: float  # the part of them that is one person, both kinds weighted alike
    low: float  # the lower end of its 95 % interval, if pairs were independent
    high: float  # the upper end
    pairs: int


def calibrate_threshold(
    rows: Embeddings, person: Integers, *, far: float, words: str, repeats: int = REPEATS, seed: int = 0
) -> CalibrationResult:
    """Find the threshold for a false-accept rate of one comparison.

    `rows` are unit rows, `(n, d) float32`; `person` the person of each, `(n,) int64`, 0 and up, rising; `words`
    describe the pictures.

    Raises:
        TooFewPairsError: Fewer than 30 accepted pairs would stand behind the rate.
    """
    fars = sorted({far, *RATES}, reverse=True)
    result = evaluate_holdout(rows, person, fars=fars, fewest=FEWEST, repeats=repeats, seed=seed)
    rate = next((rate for rate in result.rates if rate.far == far), None)
    if rate is None:
        raise TooFewPairsError(far, result.impostors, FEWEST)
    return CalibrationResult(
        far=far,
        rate=rate,
        far_interval=wilson(rate.accepted, result.impostors),
        impostors=result.impostors,
        genuine=result.genuine,
        thresholds=Thresholds(
            far=tuple(rate.far for rate in result.rates),
            distance=tuple(rate.threshold.value for rate in result.rates),
            pairs=tuple(rate.accepted for rate in result.rates),
            impostor_pairs=result.impostors,
            calibrated_on=words,
        ),
        curve=fit_curve(result.counts) if result.genuine else None,
        counts=result.counts,
    )


def wilson(accepted: int, pairs: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of independent trials."""
    part = accepted / pairs
    centre = part + Z**2 / (2 * pairs)
    half = Z * math.sqrt(part * (1 - part) / pairs + (Z / (2 * pairs)) ** 2)
    below = 1 + Z**2 / pairs
    return (centre - half) / below, (centre + half) / below


def estimate_fpir(calibration: CalibrationResult, size: int) -> Estimate:
    """Return the chance that a stranger is named in a gallery of `size` faces with this threshold.

    `1 - (1 - far) ** size` supposes that a stranger's comparisons are independent of each other. They are
    not quite: `evaluate identification` measures the same on real galleries.
    """
    low, high = calibration.far_interval
    far = calibration.rate.accepted / calibration.impostors
    return Estimate(gallery_rate(far, size), gallery_rate(low, size), gallery_rate(high, size))


def bin_distances() -> Numbers:
    """Return the distance in the middle of each bin of `CalibrationResult.counts`."""
    edges = bin_edges()
    return (edges[1:] + edges[:-1]) / 2


def fit_curve(counts: Integers) -> ProbabilityCurve:
    """Fit the chance of "one person" to the distance by isotonic regression (pool adjacent violators).

    Both kinds weigh alike, so that the chance holds where a pair is as often one person as not. Half a pair
    of each kind is added to every pool, so that no chance is 0 or 1 (Krichevsky and Trofimov, 1981). `counts`
    are those of `CalibrationResult`.

    Raises:
        ValueError: One of the two kinds is missing.
    """
    totals = counts.sum(axis=1)
    if not totals.all():
        raise ValueError("a calibration needs pairs of both kinds")
    used = np.flatnonzero(counts.sum(axis=0))
    pools = pool_adjacent(bin_distances()[used], counts[:, used].astype(np.float64))
    parts = np.array_split(np.array(pools), min(KNOTS, len(pools)))
    kept = np.array([reduce(join_pools, map(tuple, part.tolist())) for part in parts])  # (k, 3), neighbours joined
    odds = (kept[:, 1:] + 0.5) / totals  # (k, 2) of one person, of different people
    chance = np.minimum.accumulate(odds[:, 0] / odds.sum(axis=1))
    ends = bin_distances()[used[[0, -1]]]
    # The first and the last pool reach past their means, as far as there are pairs.
    distance, place = np.unique([ends[0], *kept[:, 0], ends[1]], return_index=True)
    chance = np.array([chance[0], *chance, chance[-1]])[place]
    return ProbabilityCurve(tuple(distance.tolist()), tuple(chance.tolist()), int(totals.sum()))


def pool_adjacent(distance: Numbers, counts: Numbers) -> list[Pool]:
    """Return the pools of neighbouring distances in which the part of one person falls with the distance.

    `counts` are the pairs of one person and of different people at each distance, `(2, k)`.
    """
    pools: list[Pool] = []
    for place, own, others in zip(distance.tolist(), *counts.tolist(), strict=True):
        pool = (place, own, others)
        while pools and pool[1] * pools[-1][2] >= pools[-1][1] * pool[2]:  # the part of one person does not fall
            pool = join_pools(pools.pop(), pool)
        pools.append(pool)
    return pools


def join_pools(near: Pool, far: Pool) -> Pool:
    """Return two pools as one, at the mean distance of their pairs."""
    sizes = (near[1] + near[2], far[1] + far[2])
    place = (near[0] * sizes[0] + far[0] * sizes[1]) / sum(sizes)
    return place, near[1] + far[1], near[2] + far[2]


def measure_reliability(counts: Integers, curve: ProbabilityCurve) -> tuple[ReliabilityBin, ...]:
    """Return how often pairs that are given a chance really are one person; both kinds weigh alike.

    `counts` are pairs of people that the curve was not fitted to, `(2, BINS) int64`.
    """
    chance = curve.chances(bin_distances())
    place = np.minimum((chance * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    totals = np.maximum(counts.sum(axis=1), 1)
    found = []
    for number in range(RELIABILITY_BINS):
        inside = counts[:, place == number]  # (2, k)
        own, others = (int(pairs) for pairs in inside.sum(axis=1))
        if own + others:
            weights = (inside / totals[:, None]).sum(axis=0)
            stated = float(weights @ chance[place == number] / weights.sum())
            true = own / totals[0] / (own / totals[0] + others / totals[1])
            ends = odds_interval((own, others), (int(totals[0]), int(totals[1])))
            found.append(ReliabilityBin(stated, float(true), *ends, pairs=own + others))
    return tuple(found)


def odds_interval(counts: tuple[int, int], totals: tuple[int, int]) -> tuple[float, float]:
    """Return the 95 % interval of a part in which both kinds weigh alike.

    The log of the odds has a variance of one over each count (Woolf, 1955); half a pair is added to both.
    """
    own, others = counts[0] + 0.5, counts[1] + 0.5
    odds = math.log(own / totals[0]) - math.log(others / totals[1])
    half = Z * math.sqrt(1 / own + 1 / others)
    return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))


def split_people(person: Integers, *, seed: int) -> Flags:
    """Return a random half of the people, `(p,) bool`: the curve is fitted to these and measured on the others."""
    people = int(person[-1]) + 1 if len(person) else 0
    drawn: Flags = np.random.default_rng(seed).permutation(people) % 2 == 0
    return drawn


def check_reliability(parts: Sequence[tuple[Embeddings, Integers]]) -> tuple[ReliabilityBin, ...]:
    """Fit the curve to the first set of rows and people, and measure it on the second.

    No person is in both. The result is empty if one of the sets is too small.
    """
    fitted, tested = (evaluate_holdout(*part, fars=(), repeats=1).counts for part in parts)
    if not fitted.sum(axis=1).all() or not tested.sum(axis=1).all():
        return ()
    return measure_reliability(tested, fit_curve(fitted))


def report_calibration(
    facts: Mapping[str, str],
    people: PeopleSet,
    found: CalibrationResult,
    *,
    reliability: Sequence[ReliabilityBin],
    gallery_size: int | None,
) -> EvaluationReport:
    """Return the report; `reliability` is measured on people that the curve was not fitted to.

    With a `gallery_size` it also states the FPIR in a gallery of so many faces.
    """
    table = found.thresholds
    rows = [
        (f"{far:g}", f"{distance:.4f}", f"{pairs:,}")
        for far, distance, pairs in zip(table.far, table.distance, table.pairs, strict=True)
    ]
    columns = ("FAR", "threshold", "false accepts behind it")
    tables = [summary_table(found, gallery_size), ReportTable("Thresholds that can be saved", columns, tuple(rows))]
    charts = [counts_chart(found.counts, threshold=found.rate.threshold.value)]
    if reliability:
        rows = [(percent(one.stated, 1), percent(one.true, 1), f"{one.pairs:,}") for one in reliability]
        title = "Reliability of the chances, on people they were not fitted to (both kinds weighted alike)"
        tables.append(ReportTable(title, ("stated chance of one person", "true", "pairs"), tuple(rows)))
        stated, true, low, high = np.array([(one.stated, one.true, one.low, one.high) for one in reliability]).T
        charts.append(reliability_chart({"measured": (stated, true, low, high)}))
    curve = found.curve
    data = {
        "far": found.far,
        "threshold": found.rate.threshold,
        "far_interval": list(found.far_interval),
        "impostors": found.impostors,
        "genuine": found.genuine,
        "measures": {f"VAL at FAR {found.far:g}": found.rate.val},
        "thresholds": dict(zip(map("{:g}".format, table.far), table.distance, strict=True)),
        "fpir": None if gallery_size is None else estimate_fpir(found, gallery_size),
        "curve": None if curve is None else list(zip(curve.distance, curve.chance, strict=True)),
        "reliability": [[one.stated, one.true, one.pairs] for one in reliability],
    }
    return EvaluationReport("calibration", facts, tuple(tables), tuple(charts), data, warnings=people.warnings)


def summary_table(found: CalibrationResult, gallery_size: int | None) -> ReportTable:
    """Return the threshold and the numbers behind it."""
    low, high = found.far_interval
    rows = [
        ("threshold", format_threshold(found.rate.threshold)),
        ("pairs of different people / accepted", f"{found.impostors:,} / {found.rate.accepted:,}"),
        ("false-accept rate, if pairs were independent", f"{low:.3g} to {high:.3g}"),
        ("VAL", with_interval(found.rate.val)),
    ]
    if gallery_size is not None:
        fpir = estimate_fpir(found, gallery_size)
        text = f"{fpir.value:.3g} ({fpir.low:.3g} to {fpir.high:.3g})"
        rows.append((f"FPIR in a gallery of {gallery_size:,} faces, if comparisons were independent", text))
    if found.curve is not None:
        near, far = found.curve.distance[0], found.curve.distance[-1]
        rows.append(("chances are calibrated for distances", f"{near:.4f} to {far:.4f}"))
    return ReportTable(f"Threshold for a false-accept rate of {found.far:g}", ("", ""), tuple(rows))


def save_calibrated_weights(source: str, target: Path, thresholds: Thresholds, curve: ProbabilityCurve | None) -> None:
    """Copy weights to an `.onnx` file and write a manifest with other thresholds and another curve beside it, last.

    Raises:
        WeightsError: The target is the source: the original thresholds would be lost.
    """
    weights = find_weights(source)
    if target.exists() and target.samefile(weights):
        raise WeightsError(source, "its own manifest would be overwritten: choose another file")
    facts = tomllib.loads(weights.with_suffix(".toml").read_text("utf-8"))
    facts.pop("probability", None)
    facts |= calibration_tables(thresholds, curve)
    with replace_file(target) as part:
        shutil.copyfile(weights, part)
    with replace_file(target.with_suffix(".toml")) as part:
        part.write_text(tomli_w.dumps(facts), "utf-8")
        read_manifest(part)


def calibration_tables(thresholds: Thresholds, curve: ProbabilityCurve | None) -> dict[str, Any]:
    """Return the tables of a manifest that hold a calibration."""
    columns = zip(thresholds.far, thresholds.distance, thresholds.pairs, strict=True)
    rows = [{"far": far, "distance": distance, "pairs": pairs} for far, distance, pairs in columns]
    facts = {"calibrated_on": thresholds.calibrated_on, "impostor_pairs": thresholds.impostor_pairs, "rows": rows}
    return {"thresholds": facts} | ({} if curve is None else {"probability": asdict(curve)})
