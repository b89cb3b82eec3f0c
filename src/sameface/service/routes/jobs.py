"""Routes for albums: begin to sort one, read its progress, cancel it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from sameface.api_records import AlbumAnswer, ErrorBody, JobAnswer
from sameface.errors import SamefaceError
from sameface.service.albums import sort_album
from sameface.service.auth import Reader
from sameface.service.body_limits import body_of, describe_body
from sameface.service.error_responses import INTERNAL_ERROR, error_body
from sameface.service.jobs import AlbumJob
from sameface.service.responses import BODY_REFUSALS, StateOf, refusals, write_json
from sameface.service.schemas import ClusterBody

router = APIRouter(prefix="/v1", tags=["albums"])
JobId = Annotated[str, Path(max_length=64, description="From the answer to POST /v1/cluster.")]


async def check_room(state: StateOf) -> None:
    """Refuse an album before it is read."""
    state.jobs.check_room()


@router.post(
    "/cluster",
    operation_id="cluster",
    status_code=202,
    responses=refusals(*BODY_REFUSALS),
    openapi_extra=describe_body(ClusterBody),
)
async def cluster(
    key: Reader,
    request: Request,
    response: Response,
    state: StateOf,
    _room: Annotated[None, Depends(check_room)],
    body: Annotated[ClusterBody, Depends(body_of(ClusterBody, album=True))],
) -> JobAnswer:
    """Begin to sort pictures into groups of one person each; the answer is a job to ask for."""
    threshold = (await state.call_gallery(state.thresholds)).at(body.far)
    uploads = list(body.pictures)
    body.pictures.clear()  # the job drops them one by one

    async def work(job: AlbumJob) -> AlbumAnswer:
        return await sort_album(state, job, uploads, threshold=threshold, far=body.far)

    await state.record(key, "cluster", [], {"pictures": len(uploads)})
    job = state.jobs.start(key, len(uploads), work)
    job.when_ended(request.state.held.keep())
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_answer(job)


@router.get("/jobs/{job}", operation_id="get_job", responses=refusals(404), response_model=JobAnswer)
async def get_job(key: Reader, state: StateOf, job: JobId) -> Response:
    """Tell how far a job is; once it is done, with the groups."""
    body = await asyncio.to_thread(write_json, job_answer(state.jobs.find(key, job)))  # thousands of thumbnails
    return Response(body, media_type="application/json")


@router.delete("/jobs/{job}", operation_id="delete_job", status_code=204, responses=refusals(404))
async def delete_job(key: Reader, state: StateOf, job: JobId) -> None:
    """Cancel a job, and forget its result."""
    state.jobs.remove(state.jobs.find(key, job))


def job_answer(job: AlbumJob) -> JobAnswer:
    """Return the progress of a job."""
    fault: ErrorBody | None = None
    if job.error is not None:
        fault = error_body(job.error) if isinstance(job.error, SamefaceError) else INTERNAL_ERROR
    return JobAnswer(job.id, job.state, job.done, job.total, fault, job.result)
