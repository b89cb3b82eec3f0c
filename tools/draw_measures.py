"""Draw the pictures of docs/evaluation.md from made-up numbers: two models, A better than B.

python tools/draw_measures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sameface.atomic import replace_file
from sameface.evaluation.bootstrap import Estimate, estimate_all
from sameface.evaluation.charts import (
    Chart,
    Line,
    Mark,
    cmc_chart,
    histogram_chart,
    open_set_chart,
    reliability_chart,
    roc_charts,
    sweep_chart,
)
from sameface.evaluation.clusters import best_point, sweep_charts, sweep_thresholds
from sameface.evaluation.pairs import best_threshold
from sameface.evaluation.plots import draw_chart
from sameface.evaluation.roc import Flags, Numbers, make_roc, operate_at_far

MEASURES = Path(__file__).parent.parent / "docs" / "measures"
PAIRS = 100_000
SAME = np.repeat([True, False], PAIRS)
GENUINE, SPREAD, IMPOSTORS = 0.45, 0.16, 1.25  # squared distances of model A
SURENESS = {"calibrated": 1.0, "too sure": 2.5}


def main() -> None:
    """Write every picture."""
    MEASURES.mkdir(exist_ok=True)
    for name, chart in draw_charts().items():
        with replace_file(MEASURES / f"{name}.svg") as part:
            part.write_text(draw_chart(chart) + "\n", "utf-8")
        print(f"docs/measures/{name}.svg")


def draw_charts() -> dict[str, Chart]:
    """Return each picture's chart by the name of its file."""
    distances = {
        "model A": make_distances(GENUINE, np.random.default_rng(1)),
        "model B": make_distances(GENUINE + 0.18, np.random.default_rng(2)),
    }
    curves = {name: make_roc(distance, SAME) for name, distance in distances.items()}
    roc, det = roc_charts(curves)
    threshold = operate_at_far(curves["model A"], 1e-3).threshold
    pictured = histogram_chart(distances["model A"], SAME, thresholds={"threshold at FAR 0.001": threshold})
    return {
        "roc": roc,
        "det": det,
        "histogram": pictured,
        "accuracy": make_accuracy(distances),
        "interval": make_intervals(),
        "cmc": cmc_chart({"model A": make_cmc(0.93), "model B": make_cmc(0.84)}),
        "open-set": open_set_chart(make_open_set()),
        "clusters": make_clusters(),
        "sweep": make_sweep(),
        "reliability": make_reliability(),
    }


def make_distances(genuine: float, rng: np.random.Generator) -> Numbers:
    """Return distances of pairs of one person, then of different people; the first have a long tail."""
    own = genuine + SPREAD * (rng.standard_gamma(2.2, PAIRS) - 2.2) / 1.2
    return np.append(own.clip(0.02), rng.normal(IMPOSTORS, SPREAD, PAIRS)).clip(0, 4)


def make_accuracy(distances: dict[str, Numbers]) -> Chart:
    """Return the part of the pairs that is judged rightly at every threshold."""
    threshold = np.linspace(0, 2, 200)
    lines = []
    for name, distance in distances.items():
        accepted = distance[:, None] <= threshold  # (n, 200)
        lines.append(Line(name, threshold, (accepted == SAME[:, None]).mean(axis=0)))
    best = best_threshold(distances["model A"], SAME)
    axes = ("threshold (squared distance)", "pairs judged rightly")
    return Chart("Accuracy", *axes, tuple(lines), marks=(Mark("best threshold of model A", best),))


def make_intervals() -> Chart:
    """Return VAL of one model with its interval, measured on few people and on many."""
    rng = np.random.default_rng(5)
    counts = np.array([10, 20, 50, 100, 200, 500, 1000])
    found = [estimate_val(rng.beta(6, 1.2, count), rng) for count in counts]
    ends = np.array([(one.value, one.low, one.high) for one in found]).T
    axes = ("people", "VAL of the same model")
    line = Line("VAL", counts.astype(np.float64), ends[0], ends[1], ends[2])
    return Chart("95 % intervals", *axes, (line,), log_x=True)


def estimate_val(accepted: Numbers, rng: np.random.Generator) -> Estimate:
    """Return the mean of what is accepted of each person's pairs, with its interval over people."""

    def mean(draw: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Numbers:
        return np.array([draw @ accepted / draw.sum()])

    return estimate_all(mean, len(accepted), rng=rng)[0]


def make_clusters() -> Chart:
    """Return how groups agree with people as the threshold rises."""
    rng = np.random.default_rng(6)
    owners = np.repeat(np.arange(150), 5)
    rows = rng.normal(size=(150, 16))[owners] + 0.75 * rng.normal(size=(len(owners), 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    points = sweep_thresholds(rows, owners, thresholds=np.linspace(0, 1.5, 50).tolist())
    return sweep_charts(best_point(points), points)[0]


def make_cmc(first: float, ranks: int = 20) -> Numbers:
    """Return the part of probes found by rank."""
    missed: Numbers = (1 - first) * np.exp(-0.8 * np.log(np.arange(1.0, ranks + 1)))
    return 1 - missed


def make_open_set() -> dict[str, tuple[Numbers, Numbers]]:
    """Return FPIR and FNIR of one model with a small and with a large gallery."""
    rng = np.random.default_rng(3)
    threshold = np.linspace(0.2, 1.2, 300)
    own = make_distances(GENUINE, rng)[:PAIRS]
    fnir = (own[:, None] > threshold).mean(axis=0)
    strangers = rng.normal(IMPOSTORS, SPREAD, PAIRS)
    far = (strangers[:, None] <= threshold).mean(axis=0)
    # With N enrolled, a stranger has N chances to be taken for somebody.
    return {f"{people:,} enrolled": (1 - (1 - far) ** people, fnir) for people in (100, 1000)}


def make_sweep() -> Chart:
    """Return VAL by the quality of the JPEG files."""
    levels = np.arange(10.0, 100.0, 10.0)
    vals = {
        name: [Estimate(val, val - 0.02, val + 0.015) for val in best - 0.5 * np.exp(-levels / 12)]
        for name, best in (("model A", 0.97), ("model B", 0.93))
    }
    return sweep_chart("VAL at FAR 0.001 by JPEG quality", "JPEG quality", levels.tolist(), vals)


def make_reliability() -> Chart:
    """Return the reliability of a calibrated probability, and of one that is too sure."""
    rng = np.random.default_rng(4)
    odds = rng.normal(0, 2, 20_000)
    same = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    return reliability_chart({name: bin_by(1 / (1 + np.exp(-slope * odds)), same) for name, slope in SURENESS.items()})


def bin_by(probability: Numbers, same: Flags, bins: int = 10) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return mean probability and part of one person in each bin, with twice its standard error."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    mean = np.bincount(place, probability, bins) / count
    part = np.bincount(place, same, bins) / count
    error = 2 * np.sqrt(part * (1 - part) / count)
    return mean, part, np.maximum(part - error, 0), np.minimum(part + error, 1)


if __name__ == "__main__":
    main()
