"""Routes that look at pictures: detect, embed, verify, identify."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends

from sameface.compare import Decision, squared_distances
from sameface.service.answers import DetectAnswer, EmbedAnswer, EmbeddedFace, IdentifyAnswer, VerifyAnswer
from sameface.service.bodies import body_of, describe_body
from sameface.service.guard import Reader
from sameface.service.routing import BODY_REFUSALS, StateOf, refusals
from sameface.service.telling import face_answer, identified_face, place_of, verify_answer
from sameface.service.wishes import IdentifyBody, PictureBody, VerifyBody

router = APIRouter(prefix="/v1", tags=["look"])
ERRORS = refusals(*BODY_REFUSALS)


@router.post("/detect", operation_id="detect", responses=ERRORS, openapi_extra=describe_body(PictureBody))
async def detect(
    _key: Reader, state: StateOf, body: Annotated[PictureBody, Depends(body_of(PictureBody))]
) -> DetectAnswer:
    """Find the faces in a picture."""
    with state.inference.admitted(1):
        seen = await state.inference.look(body.picture)
    return DetectAnswer(
        width=seen.width, height=seen.height, faces=[face_answer(face) for face in seen.faces]
    )


@router.post("/embed", operation_id="embed", responses=ERRORS, openapi_extra=describe_body(PictureBody))
async def embed(
    _key: Reader, state: StateOf, body: Annotated[PictureBody, Depends(body_of(PictureBody))]
) -> EmbedAnswer:
    """Return the embedding of every face in a picture."""
    with state.inference.admitted(1):
        seen = await state.inference.look(body.picture)
        rows = await state.inference.embed(seen)
    faces = [
        EmbeddedFace(**place_of(face), embedding=row.tolist())
        for face, row in zip(seen.faces, rows, strict=True)
    ]
    return EmbedAnswer(signature=state.recognizer.signature, dimension=rows.shape[1], faces=faces)


@router.post("/verify", operation_id="verify", responses=ERRORS, openapi_extra=describe_body(VerifyBody))
async def verify(
    key: Reader, state: StateOf, body: Annotated[VerifyBody, Depends(body_of(VerifyBody))]
) -> VerifyAnswer:
    """Tell whether two pictures show the same person."""
    thresholds = await state.ask(state.thresholds)
    threshold = thresholds.at(body.far)  # before any work
    body.a.name, body.b.name = "a", "b"
    with state.inference.admitted(2):
        sides = [
            await state.inference.look(upload, choice)
            for upload, choice in ((body.a, body.face_a), (body.b, body.face_b))
        ]
        rows = [await state.inference.embed(side) for side in sides]
    distance = float(squared_distances(rows[0], rows[1])[0, 0])
    decision = Decision(distance, threshold, body.far, state.recognizer.embedder.spec.logistic)
    await state.record(key, "verify", [], {"same": decision.same, "far": body.far})
    return verify_answer(decision, sides[0].faces[0], sides[1].faces[0])


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
        seen = await state.inference.look(body.picture)
        rows = await state.inference.embed(seen)
    wish: dict[str, Any] = {"far": body.far, "closed_set": body.closed_set, "most": body.most}
    found = await state.ask(gallery.identify, np.ascontiguousarray(rows), k=body.k, **wish)
    named = [answer.named.number for answer in found if answer.named is not None]
    await state.record(key, "identify", named, {"faces": len(found), "named": len(named)})
    faces = [identified_face(face, answer) for face, answer in zip(seen.faces, found, strict=True)]
    return IdentifyAnswer(width=seen.width, height=seen.height, faces=faces)
