"""A report with another run laid beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from sameface.evaluation.bootstrap import REPEATS
from sameface.evaluation.compare import Difference, compare_numbers, compare_pairs, compare_people, join_pairs
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.overlay import overlay_charts
from sameface.evaluation.report import EvaluationReport, ReportTable, percent, read_json, report_record

Entries: TypeAlias = list[tuple[Any, Any]]

MANY_TESTS = "each interval errs in one case of twenty: of many measures one may look real by chance"
SAME_PIPELINE = "both runs used the same pipeline: differences come from the pictures or the choices"


def compare_reports(
    report: EvaluationReport, path: Path, *, repeats: int = REPEATS, seed: int = 0
) -> EvaluationReport:
    """Return a report with another run laid beside it, in its tables, plots and data.

    Args:
        report: Of this run.
        path: The JSON of the other.
        repeats: How often people are drawn for the intervals.
        seed: Draws them.

    Raises:
        ProtocolError: The other report is of another kind or not whole, or has nothing in common with this.
    """
    theirs = read_other(path, report)
    found = find_differences(report_record(report)["data"], theirs["data"], repeats=repeats, seed=seed)
    same = report.facts.get("signature") == theirs["facts"].get("signature")
    name = str(theirs["facts"].get("weights", path.name))
    if not found:
        raise ProtocolError(str(path), "it has no pairs, people or measures in common with this run")
    notes = [MANY_TESTS] if any(one.tested for one in found) else []
    both = replace(
        report,
        tables=(difference_table(name, found), *report.tables),
        data=dict(report.data) | {"compared_with": name, "differences": [to_record(one) for one in found]},
        warnings=(*report.warnings, *notes, *([SAME_PIPELINE] if same else [])),
    )
    return overlay_charts(both, theirs)


def read_other(path: Path, report: EvaluationReport) -> dict[str, Any]:
    """Return the other report, in which everything that the comparison needs is where it must be.

    Raises:
        ProtocolError: It is of another kind, or not whole.
    """
    theirs = read_json(path)
    if theirs.get("kind") != report.kind:
        reason = f"it is a report of {theirs.get('kind')!r}, this one is of {report.kind!r}"
        raise ProtocolError(str(path), reason)
    for name in ("facts", "data"):
        if not isinstance(theirs.get(name), dict):
            raise ProtocolError(str(path), f"not a whole report: {name} is missing")
    if "pairs" in report.data:
        check_entries(path, "pairs", list_pairs(theirs["data"].get("pairs")), is_pair)
    if "by_person" in report.data:
        check_entries(path, "by_person", list_counts(theirs["data"].get("by_person")), is_count)
    return theirs


def check_entries(path: Path, name: str, found: Entries | None, is_one: Callable[[Any], bool]) -> None:
    """Check that the entries are there, and that each is one.

    Raises:
        ProtocolError: They are not.
    """
    if found is None:
        raise ProtocolError(str(path), f"not a whole report: {name} are missing")
    for place, entry in found:
        if not is_one(entry):
            raise ProtocolError(str(path), f"not a whole report: {name} {place!r} is {entry!r}")


def list_pairs(found: Any) -> Entries | None:
    """Return the pairs by their number; None if this holds no pairs."""
    return list(enumerate(found)) if isinstance(found, list) else None


def list_counts(found: Any) -> Entries | None:
    """Return the counts by person, of all measures; None if this holds no counts by measure and person."""
    if not isinstance(found, dict) or not all(isinstance(counts, dict) for counts in found.values()):
        return None
    return [entry for counts in found.values() for entry in counts.items()]


def is_pair(entry: Any) -> bool:
    """Return whether this is a, b, same, person a, person b, distance or null, right."""
    match entry:
        case [str(), str(), bool(), str(), str(), float() | int() | None, bool()]:
            return True
    return False


def is_count(entry: Any) -> bool:
    """Return whether this is how many are right, and how many there are."""
    match entry:
        case [float() | int(), float() | int()]:
            return True
    return False


def find_differences(ours: dict[str, Any], theirs: dict[str, Any], *, repeats: int, seed: int) -> list[Difference]:
    """Return the measures that both runs have, with a paired test where pairs or people allow one."""
    if "pairs" in ours:
        twins = join_pairs(ours["pairs"], theirs["pairs"])
        return [] if twins is None else compare_pairs(twins, repeats=repeats, seed=seed)
    if "by_person" in ours:
        tested = compare_people(ours["by_person"], theirs["by_person"], repeats=repeats, seed=seed)
        return [*tested, *lay_rest(ours, theirs)]
    return list(compare_numbers(ours, theirs))


def lay_rest(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Difference]:
    """Yield the measures of chosen groups that are no sums over people, without a test."""
    match ours, theirs:
        case {"chosen": {"measures": dict(own)}}, {"chosen": {"measures": dict(others)}}:
            yield from compare_numbers({name: own[name] for name in own if name not in ours["by_person"]}, others)


def difference_table(name: str, found: Sequence[Difference]) -> ReportTable:
    """Return both runs side by side."""
    rows = [
        (one.name, tell(one, one.ours), tell(one, one.theirs), format_gain(one), format_verdict(one)) for one in found
    ]
    return ReportTable(f"Compared with {name}", ("measure", "this", "other", "difference", "is it real?"), tuple(rows))


def tell(difference: Difference, value: float) -> str:
    """Return a value: what is tested is a part of 1."""
    return percent(value) if difference.tested else f"{value:.4g}"


def format_gain(difference: Difference) -> str:
    """Return the difference with its interval, in points of percent where it is tested."""
    gain = difference.gain
    if not difference.tested:
        return f"{gain.value:+.4g}"
    return f"{100 * gain.value:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f}) points"


def format_verdict(difference: Difference) -> str:
    """Return whether the difference is more than chance."""
    if not difference.tested:
        return "not tested"
    if not difference.gain.low and not difference.gain.high:
        return "no difference"
    verdict = "real" if difference.real else "may be chance"
    return verdict if difference.chance is None else f"{verdict} (McNemar: p = {difference.chance:.2g})"


def to_record(difference: Difference) -> dict[str, Any]:
    """Return a difference as numbers."""
    return {
        "measure": difference.name,
        "ours": difference.ours,
        "theirs": difference.theirs,
        "gain": difference.gain,
        "p": difference.chance,
        "real": difference.real if difference.tested else None,
    }
