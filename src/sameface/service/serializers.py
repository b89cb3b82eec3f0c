"""From objects of the library and the service to the records that are sent."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sameface.api_json import copy_fields
from sameface.api_records import (
    CalibrationAnswer,
    ChallengeAnswer,
    EntryAnswer,
    FaceAnswer,
    FrameAnswer,
    IdentifiedFace,
    ReceiptAnswer,
    ThresholdAnswer,
    VerifyAnswer,
)
from sameface.challenge import SECONDS
from sameface.compare import Decision
from sameface.face import Face
from sameface.gallery import Identification, Receipt
from sameface.gallery.receipts import NOT_COVERED
from sameface.service.audit import AuditEntry
from sameface.service.challenges import CameraChallenge
from sameface.service.inference import DetectedFaces
from sameface.thresholds import Thresholds


def face_answer(face: Face) -> FaceAnswer:
    """Return where a face is."""
    return copy_fields(FaceAnswer, face)


def challenge_answer(challenge: CameraChallenge) -> ChallengeAnswer:
    """Return a challenge at its beginning."""
    verdict = challenge.verdict
    return ChallengeAnswer(challenge.id, challenge.wanted, verdict.met, verdict.total, SECONDS)


def frame_answer(challenge: CameraChallenge, seen: DetectedFaces | None) -> FrameAnswer:
    """Return the progress of a challenge, and the face in the last picture."""
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
    """Return a decision about two faces."""
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
    """Return a face and the person it is."""
    facts: dict[str, Any] = {each.name: getattr(found, each.name) for each in fields(found)}
    return IdentifiedFace(
        box=face.box,
        landmarks=face.landmarks,
        score=face.score,
        person=None if found.named is None else found.named.number,
        name=found.name,
        warning=found.warning,
        live=live,
        **facts,
    )


def threshold_answers(thresholds: Thresholds) -> tuple[ThresholdAnswer, ...]:
    """Return the distance of each rate: the counted rates, then those of the tail."""
    rates = zip(*thresholds.rates, strict=True)
    return tuple(ThresholdAnswer(far, distance, thresholds.is_extrapolated(far)) for far, distance in rates)


def calibration_answer(thresholds: Thresholds) -> CalibrationAnswer:
    """Return the thresholds of a population."""
    return CalibrationAnswer(thresholds.population, thresholds.calibrated_on, threshold_answers(thresholds))


def receipt_facts(receipt: Receipt) -> dict[str, int | str]:
    """Return the number and hash of a receipt, for the audit log."""
    return {"receipt": receipt.number, "hash": receipt.hash}


def receipt_answer(receipt: Receipt) -> ReceiptAnswer:
    """Return a receipt, and whether it is complete."""
    facts = {each.name: getattr(receipt, each.name) for each in fields(receipt)}
    complete = receipt.erasure is not None and receipt.erasure.complete
    return ReceiptAnswer(**facts, complete=complete, not_covered=tuple(NOT_COVERED))


def entry_answer(entry: AuditEntry, name: str | None) -> EntryAnswer:
    """Return an entry of the audit log; `name` is the present name of the person."""
    gallery, person = entry.person or (None, None)
    time = datetime.fromtimestamp(entry.time, UTC)
    return EntryAnswer(entry.number, time, entry.key, entry.action, gallery, person, name, entry.detail, entry.hash)
