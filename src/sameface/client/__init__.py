"""Use a service from Python: the same words as the library's, for pictures that are looked at elsewhere."""

from __future__ import annotations

try:
    from sameface.client.calls import Client
except ModuleNotFoundError as error:
    needed = f"the client needs {error.name}: pip install 'sameface[client]'"
    raise ModuleNotFoundError(needed, name=error.name) from error
from sameface.client.records import (
    Album,
    AlbumFace,
    Calibration,
    Challenge,
    ChallengeStep,
    Embedded,
    Enrolment,
    Entry,
    Fault,
    Identified,
    Job,
    ModelFacts,
    Seen,
    Skipped,
    Verification,
)

__all__ = [
    "Album",
    "AlbumFace",
    "Calibration",
    "Challenge",
    "ChallengeStep",
    "Client",
    "Embedded",
    "Enrolment",
    "Entry",
    "Fault",
    "Identified",
    "Job",
    "ModelFacts",
    "Seen",
    "Skipped",
    "Verification",
]
