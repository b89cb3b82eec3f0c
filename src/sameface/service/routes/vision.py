"""Routes that look at pictures: detect, embed, verify, identify."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends

from sameface.api_records import DetectAnswer, EmbedAnswer, EmbeddedFace, IdentifyAnswer, VerifyAnswer
from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.gallery import Identification
from sameface.service.access_file import ApiKey
from sameface.service.auth import Reader
from sameface.service.body_limits import body_of, describe_body
from sameface.service.challenges import LIVE_FAR
from sameface.service.responses import BODY_REFUSALS, StateOf, refusals
from sameface.service.schemas import IdentifyBody, PictureBody, VerifyBody
from sameface.service.serializers import face_answer, identified_face, verify_answer
from sameface.service.state import State
from sameface.thresholds import Thresholds

router = APIRouter(prefix="/v1", tags=["look"])
ERRORS = refusals(*BODY_REFUSALS)


@router.post("/detect", operation_id="detect", responses=ERRORS, openapi_extra=describe_body(PictureBody))
async def detect(
    _key: Reader, state: StateOf, body: Annotated[PictureBody, Depends(body_of(PictureBody))]
) -> DetectAnswer:
    """Find the faces in a picture."""
    with state.inference.admitted(1):
        found = await state.inference.detect(body.picture)
    return DetectAnswer(found.width, found.height, tuple(map(face_answer, found.faces)))


@router.post("/embed", operation_id="embed", responses=ERRORS, openapi_extra=describe_body(PictureBody))
async def embed(
    _key: Reader, state: StateOf, body: Annotated[PictureBody, Depends(body_of(PictureBody))]
) -> EmbedAnswer:
    """Return the embedding of every face in a picture."""
    with state.inference.admitted(1):
        found = await state.inference.detect(body.picture)
        rows = await state.inference.embed(found)
    pairs = zip(found.faces, rows, strict=True)
    faces = tuple(EmbeddedFace(face.box, face.landmarks, face.score, row) for face, row in pairs)
    return EmbedAnswer(state.recognizer.signature, rows.shape[1], faces)


@router.post("/verify", operation_id="verify", responses=ERRORS, openapi_extra=describe_body(VerifyBody))
async def verify(
    key: Reader, state: StateOf, body: Annotated[VerifyBody, Depends(body_of(VerifyBody))]
) -> VerifyAnswer:
    """Tell whether two pictures show the same person."""
    thresholds = await state.call_gallery(state.thresholds)
    thresholds.at(body.far)  # before any work
    body.a.name, body.b.name = "a", "b"
    with state.inference.admitted(2):
        a = await state.inference.detect(body.a, body.face_a)
        b = await state.inference.detect(body.b, body.face_b)
        rows = np.concatenate([await state.inference.embed(found) for found in (a, b)])  # (2, d)
    decision = state.recognizer.decide(rows, body.far, thresholds)
    [live] = check_live(state, key, body.challenge, thresholds, rows[:1])
    await state.record(key, "verify", [], {"same": decision.same, "far": body.far} | count_live(live))
    return verify_answer(decision, a.faces[0], b.faces[0], live=live)


@router.post(
    "/identify",
    operation_id="identify",
    responses=refusals(*BODY_REFUSALS, 404),
    openapi_extra=describe_body(IdentifyBody),
)
async def identify(
    key: Reader, state: StateOf, body: Annotated[IdentifyBody, Depends(body_of(IdentifyBody))]
) -> IdentifyAnswer:
    """Name every face in a picture, or reject it as a stranger."""
    gallery = state.gallery
    with state.inference.admitted(1):
        seen = await state.inference.detect(body.picture)
        rows = await state.inference.embed(seen)
    options = body.model_dump(include={"k", "rule", "far", "closed_set", "most"})
    found = await state.call_gallery(gallery.identify, np.ascontiguousarray(rows), **options)
    live = check_live(state, key, body.challenge, await state.call_gallery(state.thresholds), rows)
    found = [hide_far_people(answer) for answer in found] if key.role == "read" else found
    named = [answer.named.number for answer in found if answer.named is not None]
    near = [match.number for answer in found for match in hide_far_people(answer).matches]
    facts = {"faces": len(found), "named": len(named)}
    await state.record(key, "identify", [*dict.fromkeys(near)], facts | count_live(*live))
    answers = zip(seen.faces, found, live, strict=True)
    faces = tuple(identified_face(face, answer, live=is_live) for face, answer, is_live in answers)
    return IdentifyAnswer(seen.width, seen.height, faces)


def hide_far_people(answer: Identification) -> Identification:
    """Return an answer with the people within the threshold, and the person who is named."""
    near = (match for match in answer.matches if match.distance <= answer.threshold or match == answer.named)
    return dataclasses.replace(answer, matches=tuple(near))


def check_live(
    state: State, key: ApiKey, challenge: str | None, thresholds: Thresholds, rows: Embeddings
) -> list[bool | None]:
    """Return for each row whether this person passed the challenge, which is used up; None without one.

    Raises:
        NotFoundError: There is no such challenge that was passed and not used.
    """
    if challenge is None:
        return [None] * len(rows)
    distances = squared_distances(state.challenges.take(key, challenge), rows)[0]
    return [bool(distance <= thresholds.at(LIVE_FAR)) for distance in distances]


def count_live(*live: bool | None) -> dict[str, int]:
    """Return the number of faces that passed the challenge, for the audit log; nothing without one."""
    return {} if None in live else {"live": sum(map(bool, live))}
