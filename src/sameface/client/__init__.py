"""Use a service from Python: the same words as the library's, for pictures that another machine looks at."""

from __future__ import annotations

try:
    from sameface.client.calls import Client
except ModuleNotFoundError as error:
    needed = f"the client needs {error.name}: pip install 'sameface[client]'"
    raise ModuleNotFoundError(needed, name=error.name) from error
from sameface.api_records import AlbumAnswer as Album
from sameface.api_records import AlbumFaceAnswer as AlbumFace
from sameface.api_records import CalibrationAnswer as Calibration
from sameface.api_records import ChallengeAnswer as Challenge
from sameface.api_records import DetectAnswer as Seen
from sameface.api_records import EmbedAnswer as Embedded
from sameface.api_records import EnrollAnswer as Enrolment
from sameface.api_records import EntryAnswer as Entry
from sameface.api_records import ErrorBody as Fault
from sameface.api_records import FrameAnswer as ChallengeStep
from sameface.api_records import IdentifyAnswer as Identified
from sameface.api_records import JobAnswer as Job
from sameface.api_records import ModelAnswer as ModelFacts
from sameface.api_records import SkippedPicture as Skipped
from sameface.api_records import VerifyAnswer as Verification

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
