"""Routes about the service itself: health, metrics, the model, receipts, the audit log."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from sameface import __version__
from sameface.api_records import AuditAnswer, CountsAnswer, HealthAnswer, ModelAnswer, ReceiptsAnswer
from sameface.service.auth import Admin, Reader
from sameface.service.responses import StateOf, cut_page, only_refusals, refusals
from sameface.service.schemas import LARGEST_ID
from sameface.service.serializers import calibration_answer, entry_answer, receipt_answer

router = APIRouter(tags=["service"])

LIMITS = (
    "picture_bytes", "picture_pixels", "request_bytes", "request_pictures",
    "album_bytes", "album_pictures", "album_faces",
)  # fmt: skip


@router.get("/health", operation_id="health", responses=only_refusals(403))
async def health() -> HealthAnswer:
    """Tell that the process runs."""
    return HealthAnswer("ok")


@router.get("/ready", operation_id="ready", responses=only_refusals(403, 500, 503))
async def ready(state: StateOf) -> HealthAnswer:
    """Tell whether the service can do its work: the gallery can be read."""
    if state.gallery_or_none is not None:
        await state.call_gallery(state.gallery_or_none.count)
    return HealthAnswer("ok")


@router.get(
    "/metrics",
    operation_id="metrics",
    responses=refusals() | {200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}},
    response_class=Response,
)
async def metrics(_key: Reader, state: StateOf) -> Response:
    """Return counters for Prometheus."""
    return Response(state.metrics.write(), media_type="text/plain; version=0.0.4")


@router.get("/v1/model", operation_id="model", responses=refusals())
async def model(_key: Reader, state: StateOf) -> ModelAnswer:
    """Return what the service runs on: manifests, thresholds, limits."""
    recognizer, gallery = state.recognizer, state.gallery_or_none
    in_use = calibration_answer(await state.call_gallery(state.thresholds))
    spec = recognizer.embedder.spec
    return ModelAnswer(
        signature=recognizer.signature,
        detector=dataclasses.asdict(recognizer.detector.model.manifest),
        embedder=dataclasses.asdict(recognizer.embedder.model.manifest),
        dimension=spec.dimension,
        rates=in_use.rates,
        population=in_use.population,
        populations=tuple(map(calibration_answer, (spec.thresholds, *spec.others))),
        gallery=None if gallery is None else CountsAnswer(*await state.call_gallery(gallery.count)),
        limits={name: getattr(state.config, name) for name in LIMITS},
        version=__version__,
    )


@router.get("/v1/receipts", operation_id="receipts", responses=refusals(404))
async def receipts(
    _key: Admin,
    state: StateOf,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
) -> ReceiptsAnswer:
    """List what was deleted, the oldest first: receipts without names, which the gallery keeps."""
    found = await state.call_gallery(state.gallery.receipts, after=after)
    page, last = cut_page(found[: limit + 1], limit)
    return ReceiptsAnswer(tuple(map(receipt_answer, page)), None if last is None else last.number)


@router.get("/v1/audit", operation_id="audit", responses=refusals())
async def audit(
    _key: Admin,
    state: StateOf,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
) -> AuditAnswer:
    """List who did what, the latest first."""
    found = await state.call_audit(state.access.log.entries, limit + 1, after)
    page, last = cut_page(found, limit)
    names = await state.call_gallery(state.names_of, page)
    entries = tuple(entry_answer(entry, None if entry.person is None else names.get(entry.person)) for entry in page)
    return AuditAnswer(entries, None if last is None else last.number)
