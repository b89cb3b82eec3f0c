"""Compare two runs: differences with paired intervals and McNemar's test, and the report with the other run in it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sameface.evaluation.bootstrap import REPEATS, Estimate, estimate_all, pair_weights
from sameface.evaluation.charts import Chart, Line
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.pairs import ACCURACY_OF_ALL, FARS, part_of
from sameface.evaluation.report import EvaluationReport, ReportTable, percent, read_json, report_record
from sameface.evaluation.roc import (
    Flags,
    Integers,
    Numbers,
    allowed_accepts,
    area_under,
    equal_error_rate,
    make_roc,
    val_under,
)

SHOWN_LINES = 2  # of a chart; where there are more, only the first is drawn for both runs
MANY_TESTS = "each interval errs in one case of twenty: of many measures one may look real by chance"
SAME_PIPELINE = "both runs used the same pipeline: differences come from the pictures or the choices"

# The entries of a report: a, b, same, person a, person b, distance, right; right pairs and all pairs of a person.
PAIR = (str, str, bool, str, str, (float, int, type(None)), bool)
COUNT = ((float, int), (float, int))

COLUMNS = ("measure", "this", "other", "difference", "is it real?")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two models."""

    name: str  # the measure
    ours: float  # of this model
    reference: float  # of the other
    gain: Estimate  # ours less the reference, from the same draws of people; its ends are NaN where there is no test
    chance: float | None = None  # p of McNemar's test, if pairs were independent; None for other measures

    @property
    def tested(self) -> bool:
        """Whether there is an interval to go by."""
        return not math.isnan(self.gain.low)

    @property
    def real(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.gain.low > 0 or self.gain.high < 0


@dataclass(frozen=True, slots=True, eq=False)
class SharedPairs:
    """The pairs that two models both judged; ours first, then the reference."""

    same: Flags  # (n,) whether each shows one person
    people: Integers  # (n, 2)
    distance: Numbers  # (2, n) NaN without a face
    right: Flags  # (2, n) judged rightly; False without a distance


def mcnemar(ours: Flags, reference: Flags) -> float:
    """Return the chance of so uneven a split of the pairs that only one model judges rightly (McNemar, 1947).

    It is exact: between equally good models each such pair is the toss of a coin.
    """
    first, second = int((ours & ~reference).sum()), int((~ours & reference).sum())
    count, fewer = first + second, min(first, second)
    few = np.arange(1, fewer + 1)
    # log of (count over few) / 2 ** count, each from the one before: (count - few + 1) / few as many.
    logs = np.append(0.0, np.cumsum(np.log((count - few + 1) / few))) - count * math.log(2)
    return float(min(1, 2 * np.exp(logs).sum()))


def join_pairs(ours: Sequence[Sequence[Any]], reference: Sequence[Sequence[Any]]) -> SharedPairs | None:
    """Return the pairs that both lists hold; None if they share none.

    Each pair is a, b, same, person a, person b, distance, right. Paths that differ only by the folder that holds
    all pictures are the same.
    """
    first, second = index_pairs(ours), index_pairs(reference)
    both = [(pair, second[key]) for key, pair in first.items() if key in second]
    if not both:
        return None
    _, numbers = np.unique([[str(name) for name in pair[3:5]] for pair, _ in both], return_inverse=True)
    return SharedPairs(
        same=np.array([pair[2] for pair, _ in both], bool),
        people=numbers.reshape(-1, 2).astype(np.int64),
        distance=np.array([[side[5] for side in pair] for pair in both], np.float64).T,
        right=np.array([[side[6] for side in pair] for pair in both], bool).T,
    )


def index_pairs(pairs: Sequence[Sequence[Any]]) -> dict[tuple[str, str], Sequence[Any]]:
    """Return each pair by its two paths, relative to the folder that holds them all."""
    prefix = os.path.commonprefix([path for pair in pairs for path in pair[:2]])  # noqa: RUF071, cut below
    folder = prefix[: max(prefix.rfind("/"), prefix.rfind("\\")) + 1]
    return {(pair[0].removeprefix(folder), pair[1].removeprefix(folder)): pair for pair in pairs}


def compare_pairs(twins: SharedPairs, *, repeats: int, seed: int) -> list[Difference]:
    """Return accuracy with McNemar's test, AUC, EER, VAL at every rate; a draw of people counts for both.

    All but accuracy is over the pairs for which both models have a distance.
    """
    found: Flags = ~np.isnan(twins.distance.sum(axis=0))
    impostors = int((~twins.same[found]).sum())
    fars = [far for far in FARS if allowed_accepts(far, impostors)]
    names = [ACCURACY_OF_ALL, "AUC", "EER", *(f"VAL at FAR {far:g}" for far in fars)]

    def measure(draw: Integers) -> Numbers:
        weight = pair_weights(draw, twins.people)
        columns = []
        for distance, right in zip(twins.distance, twins.right, strict=True):
            roc = make_roc(distance[found], twins.same[found], weight[found])
            vals = [val_under(roc, far) for far in fars]
            columns.append([part_of(right, weight), area_under(roc), equal_error_rate(roc), *vals])
        ours, reference = np.array(columns)
        return np.concatenate([ours, reference, ours - reference])

    people = int(twins.people.max()) + 1
    estimates = estimate_all(measure, people, repeats=repeats, rng=np.random.default_rng(seed))
    ours, reference, gains = (estimates[start : start + len(names)] for start in range(0, len(estimates), len(names)))
    chances = [mcnemar(twins.right[0], twins.right[1]), *[None] * (len(names) - 1)]
    return [
        Difference(name, own.value, other.value, gain, chance)
        for name, own, other, gain, chance in zip(names, ours, reference, gains, chances, strict=True)
    ]


def compare_people(ours: Record, reference: Record, *, repeats: int, seed: int) -> list[Difference]:
    """Return measures that are sums over people, with a paired bootstrap; the thresholds stay as they are.

    `ours` and `reference` hold right and all pairs of each person, by measure.
    """
    found = []
    for name, own in ours.items():
        other = reference.get(name, {})
        people = sorted(set(own) & set(other))
        if people:
            counts = np.array([[own[person], other[person]] for person in people], np.float64)  # (p, 2, 2)

            def measure(draw: Integers, counts: Numbers = counts) -> Numbers:
                right, whole = np.tensordot(draw.astype(np.float64), counts, axes=1).T  # of both models
                parts = np.divide(right, whole, out=np.full(2, np.nan), where=whole > 0)
                return np.append(parts, parts[0] - parts[1])

            rng = np.random.default_rng(seed)
            first, second, gain = estimate_all(measure, len(people), repeats=repeats, rng=rng)
            found.append(Difference(name, first.value, second.value, gain))
    return found


def compare_numbers(ours: Any, reference: Any, name: str = "") -> Iterator[Difference]:
    """Yield every float that both records hold at the same place, without a test; of an estimate its value."""
    if is_estimate(ours) and is_estimate(reference):
        yield from compare_numbers(ours["value"], reference["value"], name)
    elif isinstance(ours, Mapping) and isinstance(reference, Mapping):
        for key in ours:
            if key in reference:
                yield from compare_numbers(ours[key], reference[key], f"{name} {key}".strip())
    elif isinstance(ours, list) and isinstance(reference, list) and len(ours) == len(reference):
        for number, (mine, other) in enumerate(zip(ours, reference, strict=True), start=1):
            yield from compare_numbers(mine, other, f"{name} {number}")
    elif isinstance(ours, float) and isinstance(reference, float | int):
        yield Difference(name, ours, float(reference), Estimate(ours - reference, float("nan"), float("nan")))


def is_estimate(found: Any) -> bool:
    """Return whether this is a value with its interval, as JSON holds it."""
    return isinstance(found, Mapping) and set(found) == {"value", "low", "high"}


def compare_reports(
    report: EvaluationReport, path: Path, *, repeats: int = REPEATS, seed: int = 0
) -> EvaluationReport:
    """Return a report with another run, read from its JSON, beside it in tables, plots and data.

    Raises:
        ProtocolError: The other report is of another kind or not whole, or has nothing in common with this.
    """
    reference = read_other(path, report)
    found = find_differences(report_record(report)["data"], reference["data"], repeats=repeats, seed=seed)
    if not found:
        raise ProtocolError(str(path), "it has no pairs, people or measures in common with this run")
    name = str(reference["facts"].get("weights", path.name))
    notes = [MANY_TESTS] if any(one.tested for one in found) else []
    notes += [SAME_PIPELINE] if report.facts.get("signature") == reference["facts"].get("signature") else []
    both = replace(
        report,
        tables=(ReportTable(f"Compared with {name}", COLUMNS, tuple(map(difference_row, found))), *report.tables),
        data=dict(report.data) | {"compared_with": name, "differences": [difference_data(one) for one in found]},
        warnings=(*report.warnings, *notes),
    )
    return overlay_charts(both, reference)


def read_other(path: Path, report: EvaluationReport) -> dict[str, Any]:
    """Return the other report, after a check of everything that the comparison needs."""
    reference = read_json(path)
    if reference.get("kind") != report.kind:
        reason = f"it is a report of {reference.get('kind')!r}, this one is of {report.kind!r}"
        raise ProtocolError(str(path), reason)
    for name in ("facts", "data"):
        if not isinstance(reference.get(name), dict):
            raise ProtocolError(str(path), f"not a whole report: {name} is missing")
    if "pairs" in report.data:
        pairs = reference["data"].get("pairs")
        check_entries(path, "pairs", enumerate(pairs) if isinstance(pairs, list) else None, PAIR)
    if "by_person" in report.data:
        measures = reference["data"].get("by_person")
        whole = isinstance(measures, dict) and all(isinstance(counts, dict) for counts in measures.values())
        entries = [entry for counts in measures.values() for entry in counts.items()] if whole else None
        check_entries(path, "by_person", entries, COUNT)
    return reference


def check_entries(path: Path, name: str, found: Iterable[tuple[Any, Any]] | None, types: Sequence[Any]) -> None:
    """Check that the entries are there, by their places, and that each is a list of values of these types."""
    if found is None:
        raise ProtocolError(str(path), f"not a whole report: {name} are missing")
    for place, entry in found:
        if not (isinstance(entry, list) and len(entry) == len(types) and all(map(isinstance, entry, types))):
            raise ProtocolError(str(path), f"not a whole report: {name} {place!r} is {entry!r}")


def find_differences(ours: dict[str, Any], reference: dict[str, Any], *, repeats: int, seed: int) -> list[Difference]:
    """Return the measures that both runs have, with a paired test where pairs or people allow one."""
    if "pairs" in ours:
        twins = join_pairs(ours["pairs"], reference["pairs"])
        return [] if twins is None else compare_pairs(twins, repeats=repeats, seed=seed)
    if "by_person" not in ours:
        return list(compare_numbers(ours, reference))
    found = compare_people(ours["by_person"], reference["by_person"], repeats=repeats, seed=seed)
    match ours, reference:  # the other measures of chosen groups are no sums over people: without a test
        case {"chosen": {"measures": dict(own)}}, {"chosen": {"measures": dict(others)}}:
            found += compare_numbers({name: own[name] for name in own if name not in ours["by_person"]}, others)
    return found


def difference_row(one: Difference) -> tuple[str, ...]:
    """Return one measure of both runs, in percent where it is tested, with the verdict."""
    gain = one.gain
    if not one.tested:
        return one.name, f"{one.ours:.4g}", f"{one.reference:.4g}", f"{gain.value:+.4g}", "not tested"
    points = f"{100 * gain.value:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f}) points"
    verdict = "real" if one.real else "may be chance"
    if one.chance is not None:
        verdict += f" (McNemar: p = {one.chance:.2g})"
    if not gain.low and not gain.high:
        verdict = "no difference"
    return one.name, percent(one.ours), percent(one.reference), points, verdict


def difference_data(difference: Difference) -> dict[str, Any]:
    """Return a difference as numbers."""
    return {
        "measure": difference.name,
        "ours": difference.ours,
        "theirs": difference.reference,
        "gain": difference.gain,
        "p": difference.chance,
        "real": difference.real if difference.tested else None,
    }


def overlay_charts(ours: EvaluationReport, reference: Record) -> EvaluationReport:
    """Return our report with the curves of the other run beside its own, each called after its model."""
    facts, charts = reference.get("facts", {}), reference.get("charts", [])
    if not isinstance(facts, dict) or not isinstance(charts, list) or not all(map(is_chart, charts)):
        raise ProtocolError("the other report", "its plots are not whole")
    first, second = (str(each.get("weights", "weights")).split(" (")[0] for each in (ours.facts, facts))
    names = (first, second) if first != second else (f"{first}, this run", f"{second}, other run")
    return replace(ours, charts=tuple(overlay_chart(chart, charts, names) for chart in ours.charts))


def overlay_chart(chart: Chart, others: Sequence[Record], names: tuple[str, str]) -> Chart:
    """Return the chart with the curves that the other run has under the same title and names."""
    found = next((other for other in others if other["title"] == chart.title), None)
    if found is None:
        return chart
    shown = chart.lines if len(chart.lines) <= SHOWN_LINES else chart.lines[:1]
    wanted = {line.name for line in shown}
    both = [(names[0], line) for line in shown]
    both += [(names[1], read_line(line)) for line in found["lines"] if line["name"] in wanted]
    # The only curve of a plot is called after the model alone.
    lines = [replace(line, name=model if len(shown) == 1 else f"{model}: {line.name}") for model, line in both]
    return replace(chart, lines=tuple(lines))


def read_line(record: Record) -> Line:
    """Return a curve of a JSON file; null is NaN."""
    x, y = (np.array(record[side], np.float64) for side in ("x", "y"))
    low, high = (None if record[end] is None else np.array(record[end], np.float64) for end in ("low", "high"))
    return Line(record["name"], x, y, low, high)


def is_chart(record: object) -> bool:
    """Return whether this is a chart as the report writes it."""
    match record:
        case {"title": str(), "lines": [*lines]}:
            return all(map(is_line, lines))
    return False


def is_line(record: object) -> bool:
    """Return whether this is a curve: as many numbers or nulls in each column, though the interval may be null."""
    match record:
        case {"name": str(), "x": [*x], "y": [*y], "low": [*_] | None as low, "high": [*_] | None as high}:
            columns = [x, y, *(end for end in (low, high) if end is not None)]
            numbers = {int, float, type(None)}
            return all(len(column) == len(x) and set(map(type, column)) <= numbers for column in columns)
    return False
