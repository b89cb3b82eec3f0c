"""What the library found, as it is answered."""

from __future__ import annotations

from typing import Any

from sameface.compare import Decision
from sameface.face import Face
from sameface.gallery import EnrolledFace, Identification, Person, Receipt
from sameface.gallery.expiry import show_expiry
from sameface.gallery.receipts import receipt_to_dict
from sameface.service.answers import (
    CalibrationAnswer,
    ChallengeAnswer,
    EnrolledFaceAnswer,
    FaceAnswer,
    FrameAnswer,
    IdentifiedFace,
    MatchAnswer,
    PersonAnswer,
    ReceiptAnswer,
    ThresholdAnswer,
    VerifyAnswer,
)
from sameface.service.challenges import CameraChallenge
from sameface.service.inference import DetectedFaces
from sameface.thresholds import Thresholds

RULE = (
    "threshold", "far", "asked", "rule", "size", "population", "extrapolated", "warning", "closed_set",
)  # fmt: skip


def face_answer(face: Face) -> FaceAnswer:
    """Return a face as it is answered."""
    return FaceAnswer(**place_of(face))


def place_of(face: Face) -> dict[str, Any]:
    """Return the fields of a face."""
    return {
        "box": [round(float(side), 2) for side in face.box],
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
        "score": round(face.score, 4),
    }


def challenge_answer(challenge: CameraChallenge, seconds: float) -> ChallengeAnswer:
    """Return a challenge as it is answered at its beginning."""
    return ChallengeAnswer(
        id=challenge.id,
        wanted=challenge.wanted,
        met=challenge.verdict.met,
        total=challenge.verdict.total,
        seconds=seconds,
    )


def frame_answer(challenge: CameraChallenge, seen: DetectedFaces | None) -> FrameAnswer:
    """Return how far a challenge is, and where the face was in the last picture."""
    verdict = challenge.verdict
    return FrameAnswer(
        state=verdict.state,
        reason=verdict.reason,
        wanted=challenge.wanted,
        met=verdict.met,
        total=verdict.total,
        too_fast=verdict.too_fast,
        width=None if seen is None else seen.width,
        height=None if seen is None else seen.height,
        face=None if seen is None else face_answer(seen.faces[0]),
    )


def verify_answer(decision: Decision, a: Face, b: Face, *, live: bool | None) -> VerifyAnswer:
    """Return a decision as it is answered."""
    return VerifyAnswer(
        same=decision.same,
        distance=decision.distance,
        threshold=decision.threshold,
        far=decision.far,
        rule="pair",
        population=decision.population,
        extrapolated=decision.extrapolated,
        probability=decision.probability,
        in_range=decision.in_range,
        a=face_answer(a),
        b=face_answer(b),
        live=live,
    )


def identified_face(face: Face, found: Identification, *, live: bool | None) -> IdentifiedFace:
    """Return a face and who it is as it is answered."""
    return IdentifiedFace(
        **place_of(face),
        person=None if found.named is None else found.named.number,
        name=found.name,
        ambiguous=found.ambiguous,
        **{name: getattr(found, name) for name in RULE},
        matches=[
            MatchAnswer(person=match.number, name=match.name, distance=match.distance, votes=match.votes)
            for match in found.matches
        ],
        live=live,
    )


def person_answer(person: Person) -> PersonAnswer:
    """Return a person as they are answered."""
    return PersonAnswer(
        id=person.number,
        name=person.name,
        faces=person.faces,
        consent=person.consent,
        expires=show_expiry(person.expires),
    )


def calibration_answer(thresholds: Thresholds) -> CalibrationAnswer:
    """Return thresholds as they are answered: the counted rates, then those of the tail."""
    rates = [
        ThresholdAnswer(far=far, distance=distance, extrapolated=thresholds.is_extrapolated(far))
        for far, distance in zip(*thresholds.rates, strict=True)
    ]
    return CalibrationAnswer(
        population=thresholds.population, calibrated_on=thresholds.calibrated_on, thresholds=rates
    )


def receipt_facts(receipt: Receipt) -> dict[str, int | str]:
    """Return what the audit log tells of a receipt: which it is."""
    return {"receipt": receipt.number, "hash": receipt.hash}


def receipt_answer(receipt: Receipt) -> ReceiptAnswer:
    """Return a receipt as it is answered."""
    return ReceiptAnswer.model_validate(receipt_to_dict(receipt))


def enrolled_face(face: EnrolledFace) -> EnrolledFaceAnswer:
    """Return an enrolled face as it is answered."""
    box = [round(float(side), 2) for side in face.box]
    return EnrolledFaceAnswer(id=face.number, box=box, score=round(face.score, 4), crop=face.has_crop)
