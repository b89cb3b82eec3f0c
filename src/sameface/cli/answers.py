"""Who somebody is, told to people and to programs."""

from __future__ import annotations

from typing import Any

from sameface.gallery import Identification


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
        {"name": match.name, "distance": match.distance, "votes": match.votes} for match in answer.matches
    ]
    return {
        "name": answer.name,
        "ambiguous": answer.ambiguous,
        "threshold": answer.threshold,
        "far": answer.far,
        "matches": matches,
    }
