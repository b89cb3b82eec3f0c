"""Routes for challenges: ask a person before a camera to turn the head, and judge the pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from sameface.api_records import ChallengeAnswer, FrameAnswer
from sameface.challenge import ChallengeFrame
from sameface.errors import NoFaceError
from sameface.service.auth import Reader
from sameface.service.body_limits import body_of, describe_body
from sameface.service.challenges import LINK_FAR
from sameface.service.inference import DetectedFaces, Inference
from sameface.service.responses import BODY_REFUSALS, StateOf, refusals
from sameface.service.schemas import PictureBody, Upload
from sameface.service.serializers import challenge_answer, frame_answer

router = APIRouter(prefix="/v1", tags=["look"])
ChallengeId = Annotated[str, Path(max_length=64, description="From the answer to POST /v1/challenge.")]


@router.post("/challenge", operation_id="begin_challenge", status_code=201, responses=refusals())
async def begin_challenge(key: Reader, state: StateOf) -> ChallengeAnswer:
    """Ask somebody before a camera to turn the head: the first pose, the next when that is taken."""
    return challenge_answer(state.challenges.begin(key))


@router.post(
    "/challenge/{challenge}",
    operation_id="show_challenge",
    responses=refusals(*BODY_REFUSALS, 404),
    openapi_extra=describe_body(PictureBody),
)
async def show_challenge(
    key: Reader, state: StateOf, challenge: ChallengeId, body: Annotated[PictureBody, Depends(body_of(PictureBody))]
) -> FrameAnswer:
    """Look at the next picture of the camera, and tell what to do now, or how it ended.

    Send one picture after the other. With the `id` of a challenge that was passed `verify` and `identify`
    tell, once, whether they see the same person.
    """
    asked = state.challenges.find(key, challenge)
    threshold = (await state.call_gallery(state.thresholds)).at(LINK_FAR)
    with state.inference.admitted(1):
        async with asked.turn:
            state.challenges.find(key, challenge)  # it may have ended meanwhile
            with state.challenges.timed(asked) as at:
                seen = await find_largest_face(state.inference, body.picture)
                frame = None
                if seen is not None:
                    frame = ChallengeFrame(at, seen.faces[0], (await state.inference.embed(seen))[0])
            asked.judge(at, frame, threshold)
    verdict = asked.verdict
    if verdict.state != "running":
        outcome = {"passed": verdict.state == "passed", "reason": verdict.reason}
        await state.record(key, "challenge", [], outcome)
    return frame_answer(asked, seen)


async def find_largest_face(inference: Inference, picture: Upload) -> DetectedFaces | None:
    """Return the largest face of a picture, or None if there is none."""
    try:
        return await inference.detect(picture, "largest")
    except NoFaceError:
        return None
