"""The report on a list of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.evaluation.bootstrap import UNDEFINED, Estimate
from sameface.evaluation.charts import histogram_chart, roc_charts
from sameface.evaluation.pairs import PairMeasures, PairScores, PairsResult, judge_pairs
from sameface.evaluation.pictures import EmbeddedPictures
from sameface.evaluation.protocols import LabelledPair
from sameface.evaluation.report import (
    EvaluationReport,
    PairThumbnails,
    ReportTable,
    gap_table,
    make_thumbnails,
    percent,
    refused_rows,
    with_interval,
)
from sameface.evaluation.roc import Flags, Numbers, make_roc
from sameface.image import read_image

SHOWN_ERRORS = 50
KINDS = {True: "one person", False: "different people"}


def score_pairs(pairs: Sequence[LabelledPair], distance: Numbers) -> PairScores:
    """Return the pairs as arrays; the distance is NaN where a face is missing."""
    names = sorted({person for pair in pairs for person in pair.people})
    number = {name: place for place, name in enumerate(names)}
    return PairScores(
        distance=distance,
        same=np.array([pair.same for pair in pairs], bool),
        fold=np.array([pair.fold for pair in pairs], np.int64),
        people=np.array([[number[person] for person in pair.people] for pair in pairs], np.int64).reshape(-1, 2),
    )


def report_pairs(
    kind: str, facts: Mapping[str, str], pairs: Sequence[LabelledPair], *, scores: PairScores, result: PairsResult
) -> EvaluationReport:
    """Return the report of kind `pairs` or `ytf`; `scores` are the pairs with their distances."""
    right = judge_pairs(scores, result.folds)
    found = scores.pick(scores.found)
    rocs = {"all": make_roc(found.distance, found.same)}
    for name in result.slices:
        part = np.array([pair.slice == name for pair in pairs]) & scores.found
        rocs[name] = make_roc(scores.distance[part], scores.same[part])
    charts = (*roc_charts(rocs), histogram_chart(found.distance, found.same))
    tables = [summary_table(result), fold_table(result), val_table(result)]
    if result.slices:
        by_slice = {name: slice_estimates(measured) for name, measured in result.slices.items()}
        tables += [slice_table(result, by_slice), gap_table(by_slice)]
    tables.append(error_table(pairs, scores, right))
    return EvaluationReport(kind, facts, tuple(tables), charts, pairs_data(pairs, scores, right, result))


def summary_table(result: PairsResult) -> ReportTable:
    """Return the measures over all pairs."""
    measured = result.measures
    mean = f"{percent(result.accuracy)} ± {percent(result.standard_error)}"
    rows = (
        ("pairs of one person / of different people", f"{measured.genuine:,} / {measured.impostors:,}"),
        ("pairs without a face on one side", f"{measured.failed:,}"),
        ("accuracy, mean of the folds ± its standard error", mean),
        ("accuracy of the pairs with both faces", with_interval(measured.accuracy)),
        ("accuracy, pairs without a face counted as errors", with_interval(measured.accuracy_of_all)),
        ("AUC", with_interval(measured.auc)),
        ("EER", with_interval(measured.eer)),
    )
    return ReportTable("Measures (with 95 % intervals over people)", ("measure", "value"), rows)


def fold_table(result: PairsResult) -> ReportTable:
    """Return threshold and accuracy of each fold."""
    rows = tuple(
        (str(number), f"{fold.pairs:,}", f"{fold.threshold:.4f}", percent(fold.accuracy))
        for number, fold in enumerate(result.folds, start=1)
    )
    return ReportTable("Folds", ("fold", "pairs", "threshold from the others", "accuracy"), rows)


def val_table(result: PairsResult) -> ReportTable:
    """Return VAL at every rate, and the rates that the pairs do not support."""
    rows = []
    for val in result.measures.vals:
        held = val.operating
        accepted = "" if held is None else f"{held.accepted:,} of {result.measures.impostors:,}"
        threshold = "" if held is None else f"{held.threshold:.4f}"
        rows.append((f"{val.far:g}", with_interval(val.val or UNDEFINED), threshold, accepted))
    columns = ("FAR", "VAL", "threshold", "false accepts behind it")
    return ReportTable("VAL at FAR", columns, (*rows, *refused_rows(result.refused)))


def slice_estimates(measured: PairMeasures) -> dict[str, Estimate]:
    """Return every measure of a slice by its name."""
    found = {"accuracy": measured.accuracy, "AUC": measured.auc, "EER": measured.eer}
    for val in measured.vals:
        if val.val is not None:
            found[f"VAL at its own FAR {val.far:g}"] = val.val
        found[f"VAL, threshold of all at FAR {val.far:g}"] = val.common_val
        found[f"FAR, threshold of all at FAR {val.far:g}"] = val.common_far
    return found


def slice_table(result: PairsResult, by_slice: Mapping[str, Mapping[str, Estimate]]) -> ReportTable:
    """Return every measure of every slice."""
    rows = [("pairs", *(f"{one.genuine:,} / {one.impostors:,}" for one in result.slices.values()))]
    for name in slice_estimates(result.measures):
        rows.append((name, *(with_interval(estimates.get(name, UNDEFINED)) for estimates in by_slice.values())))
    return ReportTable("Slices", ("measure", *by_slice), tuple(rows))


def error_table(pairs: Sequence[LabelledPair], scores: PairScores, right: Flags) -> ReportTable:
    """Return the pairs that are judged wrongly, the worst first."""
    wrong = worst_errors(scores, right)
    rows = tuple(
        (pairs[place].a, pairs[place].b, KINDS[pairs[place].same], f"{scores.distance[place]:.4f}")
        for place in wrong[:SHOWN_ERRORS]
    )
    title = f"Pairs judged wrongly: {len(wrong):,}" + (f", the worst {len(rows)}" if len(wrong) > len(rows) else "")
    return ReportTable(title, ("a", "b", "are", "distance"), rows)


def worst_errors(scores: PairScores, right: Flags) -> list[int]:
    """Return the places of the pairs that are judged wrongly, the strangest distance first."""
    wrong = np.flatnonzero(~right & scores.found)
    badness = np.where(scores.same[wrong], scores.distance[wrong], -scores.distance[wrong])
    middle = float(np.median(np.abs(badness))) if len(wrong) else 0.0
    surprise = np.where(scores.same[wrong], badness - middle, badness + middle)
    return [int(place) for place in wrong[np.argsort(-surprise, kind="stable")]]


def show_errors(
    pairs: Sequence[LabelledPair], scores: PairScores, places: Sequence[int], found: EmbeddedPictures
) -> tuple[PairThumbnails, ...]:
    """Return some pairs as pictures of their faces, which stand in `found`; of videos nothing is shown."""
    boxes = {one.path: one.box for one in found.enrolled if len(one.box)}
    shown = []
    for place in places:
        pair = pairs[place]
        if pair.a in boxes and pair.b in boxes:
            faces = [cut_face(read_image(path), boxes[path]) for path in (pair.a, pair.b)]
            names = " and ".join(Path(path).name for path in (pair.a, pair.b))
            caption = f"{KINDS[pair.same]} at {scores.distance[place]:.4f}: {names}"
            shown.append(make_thumbnails(faces[0], faces[1], caption))
    return tuple(shown)


def cut_face(image: Image, box: NDArray[np.float32]) -> Image:
    """Return the face with a margin of a quarter round it, as far as the picture reaches."""
    margin = 0.25 * (box[2:] - box[:2])
    size = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(box[:2] - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(box[2:] + margin), low + 1, size).astype(int)
    return image[low[1] : high[1], low[0] : high[0]]


def pairs_data(pairs: Sequence[LabelledPair], scores: PairScores, right: Flags, result: PairsResult) -> dict[str, Any]:
    """Return the numbers."""
    measured = result.measures
    of_all = {"accuracy, pairs without a face counted as errors": measured.accuracy_of_all}
    return {
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "measures": slice_estimates(measured) | of_all,
        "genuine": measured.genuine,
        "impostors": measured.impostors,
        "failed": measured.failed,
        "folds": [[fold.pairs, fold.threshold, fold.accuracy] for fold in result.folds],
        "thresholds": {f"{val.far:g}": val.operating.threshold for val in measured.vals if val.operating},
        "not_supported": list(result.refused),
        "slices": {name: slice_estimates(part) for name, part in result.slices.items()},
        "pairs": [
            [pair.a, pair.b, pair.same, *pair.people, float(distance), bool(good)]
            for pair, distance, good in zip(pairs, scores.distance, right, strict=True)
        ],
    }
