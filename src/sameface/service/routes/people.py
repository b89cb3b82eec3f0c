"""Routes for enrolled people and their faces."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any

import PIL.Image
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from sameface.api_json import copy_fields
from sameface.api_records import (
    EnrollAnswer,
    EnrolledFaceAnswer,
    FacesAnswer,
    PeopleAnswer,
    PersonAnswer,
    ReceiptAnswer,
)
from sameface.arrays import Image
from sameface.errors import SamefaceError
from sameface.gallery import Receipt, export
from sameface.gallery.errors import UnknownFaceError, UnknownPersonError
from sameface.gallery.expiry import parse_expiry
from sameface.gallery.names import clean_note
from sameface.gallery.records import Reason
from sameface.service.auth import Admin, Enroller, IdempotentRequestOf, Reader, check_expiry_role
from sameface.service.body_limits import body_of, describe_body
from sameface.service.enrolment import enroll_pictures
from sameface.service.errors import NotFoundError
from sameface.service.responses import BODY_REFUSALS, StateOf, answer_with_etag, cut_page, refusals
from sameface.service.schemas import LARGEST_ID, EnrollBody, FacesBody, MergeBody, PersonBody
from sameface.service.serializers import receipt_answer, receipt_facts
from sameface.service.state import Outcome, State, find_person

router = APIRouter(prefix="/v1/people", tags=["people"])
ERRORS = refusals(404)
BODY_ERRORS = refusals(*BODY_REFUSALS, 404, 409)

Id = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The person.", examples=[17])]
FaceId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The face.", examples=[18])]
Limit = Annotated[int, Query(ge=1, le=500)]
DELETIONS: tuple[Reason, ...] = ("forget", "expire")  # of a whole person
FACE_DELETIONS: tuple[Reason, ...] = ("forget_face",)
NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has this already (If-None-Match)"}}


@router.get("", operation_id="list_people", responses=ERRORS | NOT_CHANGED, response_model=PeopleAnswer)
async def list_people(
    _key: Reader,
    request: Request,
    state: StateOf,
    limit: Limit = 50,
    after: Annotated[str, Query(max_length=1000, description="The `next` of the page before.")] = "",
    name: Annotated[str | None, Query(max_length=1000, description="Only who is called exactly so.")] = None,
) -> Response:
    """List who is enrolled, by name."""
    gallery = state.gallery
    if name is None:
        found = await state.call_gallery(gallery.people, limit=limit + 1, after=after)
    else:
        person = await state.call_gallery(find_person, gallery, name)
        found = [] if person is None else [person]
    total, _ = await state.call_gallery(gallery.count)
    page, last = cut_page(found, limit)
    people = tuple(copy_fields(PersonAnswer, person) for person in page)
    return answer_with_etag(request, PeopleAnswer(people, None if last is None else last.name, total))


@router.post(
    "", operation_id="enroll_person", status_code=201, responses=BODY_ERRORS, openapi_extra=describe_body(EnrollBody)
)
async def enroll_person(
    key: Enroller, response: Response, state: StateOf, body: Annotated[EnrollBody, Depends(body_of(EnrollBody))]
) -> EnrollAnswer:
    """Enroll a new person with one picture or more; pictures that cannot be used are listed."""
    answer = await enroll_pictures(state, key, body.name, body)
    response.headers["Location"] = f"/v1/people/{answer.person.number}"
    return answer


@router.get("/{person}", operation_id="get_person", responses=ERRORS | NOT_CHANGED, response_model=PersonAnswer)
async def get_person(_key: Reader, request: Request, state: StateOf, person: Id) -> Response:
    """Return one person."""
    found = await state.call_gallery(state.gallery.person, person)
    return answer_with_etag(request, copy_fields(PersonAnswer, found))


@router.patch(
    "/{person}", operation_id="change_person", responses=BODY_ERRORS, openapi_extra=describe_body(PersonBody)
)
async def change_person(
    key: Enroller, state: StateOf, person: Id, body: Annotated[PersonBody, Depends(body_of(PersonBody))]
) -> PersonAnswer:
    """Give a person another name, another note on their consent, or another day on which they expire."""
    gallery = state.gallery
    if body.consent is not None:
        clean_note(body.consent)  # before anything is changed
    expires = None if body.expire_after is None else parse_expiry(body.expire_after, time.time())
    check_expiry_role(key, expires)
    await state.call_gallery(gallery.person, person)
    if body.name is not None:
        async with state.audited(key, "rename", person):
            await state.call_gallery(gallery.rename, person, body.name)
    if body.consent is not None:
        async with state.audited(key, "note_consent", person):
            await state.call_gallery(gallery.note_consent, person, body.consent)
    if body.expire_after is not None:
        async with state.audited(key, "set_expiry", person, {"never": expires is None}) as outcome:
            await state.call_gallery(gallery.expire, person, expires)
            outcome.expires = None if expires is None else int(expires.timestamp())
    return copy_fields(PersonAnswer, await state.call_gallery(gallery.person, person))


@router.post(
    "/{person}/merge", operation_id="merge_people", responses=BODY_ERRORS, openapi_extra=describe_body(MergeBody)
)
async def merge_people(
    key: Enroller,
    state: StateOf,
    person: Id,
    body: Annotated[MergeBody, Depends(body_of(MergeBody))],
    request: IdempotentRequestOf,
) -> PersonAnswer:
    """Move every face of a person to another; the first is no more. The gallery keeps a receipt."""
    gallery, into = state.gallery, body.into
    for number in (person, into):  # the earlier of two days holds after a merge
        either = await state.call_gallery(find_person, gallery, number)
        check_expiry_role(key, None if either is None else either.expires)
    once = request and replace(request, target=f"{request.target} {into}")
    async with state.audited(key, "merge", person, {"into": into}, once) as outcome:
        try:
            merged = await state.call_gallery(gallery.merge, person, into)
        except UnknownPersonError:
            found = await repeated_receipt(state, outcome, ["merge"], person)
            if found is None:
                raise
            merged = found
        outcome.facts = {"faces": merged.faces, **receipt_facts(merged)}
    stays = await state.call_gallery(gallery.person, into)
    await state.move_expiry(person, into, stays.expires)
    return copy_fields(PersonAnswer, stays)


@router.get(
    "/{person}/export",
    operation_id="export_person",
    responses=ERRORS | {200: {"content": {"application/zip": {}}, "description": "Everything of the person"}},
    response_class=Response,
)
async def export_person(key: Admin, state: StateOf, person: Id) -> Response:
    """Return everything that is held of a person, and of nobody else: a ZIP file to give them."""
    log = await state.read_log(person)
    data = await state.call_gallery(export.export_person, state.gallery, person, log)
    await state.record(key, "export_person", [person], {})
    return Response(data, media_type="application/zip")


@router.delete("/{person}", operation_id="delete_person", responses=ERRORS)
async def delete_person(key: Admin, state: StateOf, person: Id, request: IdempotentRequestOf) -> ReceiptAnswer:
    """Delete a person with every face, for good: rows, free pages and log are overwritten.

    The answer is the receipt, which the gallery keeps too.
    """
    async with state.audited(key, "delete_person", person, request=request) as outcome:
        gone = await delete(state, outcome, person)
    return receipt_answer(gone)


@router.get("/{person}/faces", operation_id="list_faces", responses=ERRORS)
async def list_faces(
    _key: Reader,
    state: StateOf,
    person: Id,
    limit: Limit = 50,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="The `next` of the page before.")] = 0,
) -> FacesAnswer:
    """List the faces of a person in the order of enrolment."""
    found = await state.call_gallery(state.gallery.faces, person, limit=limit + 1, after=after)
    page, last = cut_page(found, limit)
    faces = tuple(copy_fields(EnrolledFaceAnswer, face) for face in page)
    return FacesAnswer(faces, None if last is None else last.number)


@router.post(
    "/{person}/faces",
    operation_id="add_faces",
    status_code=201,
    responses=BODY_ERRORS,
    openapi_extra=describe_body(FacesBody),
)
async def add_faces(
    key: Enroller, state: StateOf, person: Id, body: Annotated[FacesBody, Depends(body_of(FacesBody))]
) -> EnrollAnswer:
    """Add faces to a person; pictures that cannot be used are listed."""
    return await enroll_pictures(state, key, person, body)


@router.get(
    "/{person}/faces/{face}/crop",
    operation_id="get_crop",
    responses=ERRORS | {200: {"content": {"image/jpeg": {}}, "description": "The face"}},
    response_class=Response,
)
async def get_crop(_key: Reader, state: StateOf, person: Id, face: FaceId) -> Response:
    """Return what was cut out for an enrolled face, where that is kept."""
    crop = await state.call_gallery(state.gallery.crop, person, face)
    if crop is None:
        raise NotFoundError("crop (start the service with --keep-crops to keep those of new faces)")
    data = await asyncio.to_thread(to_jpeg, crop)
    return Response(data, media_type="image/jpeg")


@router.delete("/{person}/faces/{face}", operation_id="delete_face", responses=refusals(404, 409))
async def delete_face(
    key: Admin, state: StateOf, person: Id, face: FaceId, request: IdempotentRequestOf
) -> ReceiptAnswer:
    """Delete one face of a person for good; the last one only with the person. The answer is the receipt."""
    async with state.audited(key, "delete_face", person, {"face": face}, request) as outcome:
        gone = await delete(state, outcome, person, face)
    return receipt_answer(gone)


async def delete(state: State, outcome: Outcome, person: int, face: int | None = None) -> Receipt:
    """Delete a person or one face; for a repeated request return the receipt of the first."""
    gallery, reasons = state.gallery, DELETIONS if face is None else FACE_DELETIONS
    try:
        if face is None:
            gone = await state.call_gallery(gallery.forget, person)
        else:
            gone = await state.call_gallery(gallery.forget_face, person, face)
    except (UnknownPersonError, UnknownFaceError):
        found = await repeated_receipt(state, outcome, reasons, person, face)
        if found is None:
            raise
        gone = found
    except SamefaceError:
        if await state.call_gallery(gallery.find_receipt, reasons, person, face) is not None:
            outcome.facts = {"traces": True}  # which go with the next try
        raise
    outcome.facts = {"faces": gone.faces, **receipt_facts(gone)}
    return gone


async def repeated_receipt(
    state: State, outcome: Outcome, reasons: Collection[Reason], person: int, face: int | None = None
) -> Receipt | None:
    """Return the receipt of the first request that this one repeats, or None."""
    if not outcome.repeated:
        return None
    return await state.call_gallery(state.gallery.find_receipt, reasons, person, face)


def to_jpeg(crop: Image) -> bytes:
    """Return a crop as a JPEG file."""
    file = io.BytesIO()
    PIL.Image.fromarray(crop).save(file, "JPEG", quality=90)
    return file.getvalue()
