"""What the library found, as it is answered."""

from __future__ import annotations

from typing import Any

from sameface.compare import Decision
from sameface.face import Face
from sameface.gallery import EnrolledFace, Identification, Person, Receipt
from sameface.gallery.receipts import describe
from sameface.service.answers import (
    EnrolledFaceAnswer,
    FaceAnswer,
    IdentifiedFace,
    MatchAnswer,
    PersonAnswer,
    ReceiptAnswer,
    VerifyAnswer,
)


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


def verify_answer(decision: Decision, a: Face, b: Face) -> VerifyAnswer:
    """Return a decision as it is answered."""
    return VerifyAnswer(
        same=decision.same,
        distance=decision.distance,
        threshold=decision.threshold,
        far=decision.far,
        probability=decision.probability,
        in_range=decision.in_range,
        a=face_answer(a),
        b=face_answer(b),
    )


def identified_face(face: Face, found: Identification) -> IdentifiedFace:
    """Return a face and who it is as it is answered."""
    return IdentifiedFace(
        **place_of(face),
        person=None if found.named is None else found.named.number,
        name=found.name,
        ambiguous=found.ambiguous,
        threshold=found.threshold,
        far=found.far,
        closed_set=found.closed_set,
        matches=[
            MatchAnswer(person=match.number, name=match.name, distance=match.distance, votes=match.votes)
            for match in found.matches
        ],
    )


def person_answer(person: Person) -> PersonAnswer:
    """Return a person as they are answered."""
    return PersonAnswer(
        id=person.number,
        name=person.name,
        faces=person.faces,
        consent=person.consent,
        expires=None if person.expires is None else person.expires.isoformat(),
    )


def receipt_answer(receipt: Receipt) -> ReceiptAnswer:
    """Return a receipt as it is answered."""
    return ReceiptAnswer.model_validate(describe(receipt))


def enrolled_face(face: EnrolledFace) -> EnrolledFaceAnswer:
    """Return an enrolled face as it is answered."""
    box = [round(float(side), 2) for side in face.box]
    return EnrolledFaceAnswer(id=face.number, box=box, score=round(face.score, 4), crop=face.has_crop)
