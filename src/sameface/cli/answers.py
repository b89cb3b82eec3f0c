"""Who somebody is, told to people and to programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from sameface.gallery import Identification
from sameface.gallery.records import percent

RULE = (
    "threshold", "far", "asked", "rule", "size", "population", "extrapolated", "closed_set", "warning",
)  # fmt: skip


def describe(answer: Identification) -> tuple[str, str, str]:
    """Return name, distance and a note for the table."""
    if not answer.matches:
        return "unknown", "", "the gallery is empty"
    nearest = answer.matches[0]
    distance = f"{nearest.distance:.4f}"
    if answer.name is None:
        return "unknown", distance, f"nearest {nearest.name}, over {answer.threshold:.4f}"
    shown = next(match for match in answer.matches if match.name == answer.name)
    others = [match.name for match in answer.matches if match.distance <= answer.threshold]
    note = f"ambiguous: also {', '.join(name for name in others if name != answer.name)}"
    return answer.name, f"{shown.distance:.4f}", note if answer.ambiguous else ""


def answer_record(answer: Identification) -> dict[str, Any]:
    """Return who a face is, as it is printed in JSON."""
    matches = [
        {"person": match.number, "name": match.name, "distance": match.distance, "votes": match.votes}
        for match in answer.matches
    ]
    return {
        "person": None if answer.named is None else answer.named.number,
        "name": answer.name,
        "ambiguous": answer.ambiguous,
        **{name: getattr(answer, name) for name in RULE},
        "matches": matches,
    }


def print_rule(answers: Iterable[Identification]) -> None:
    """Print by what rule, threshold and rate answers were decided, and what that rests on; each once."""
    for told in dict.fromkeys(describe_rule(answer) for answer in answers if answer.matches):
        click.echo(told)


def describe_rule(answer: Identification) -> str:
    """Return by what rule, threshold and rate an answer was decided, and what that rests on."""
    if answer.closed_set:
        return f"rule {answer.rule}, closed set: the nearest is named at any distance"
    told = (
        f"rule {answer.rule}, size {answer.size:,}: threshold {answer.threshold:.4f}, {percent(answer.far)} "
        f"of strangers named ({percent(answer.asked)} asked), population {answer.population}"
    )
    return told if answer.warning is None else f"{told}\nwarning: {answer.warning}"
