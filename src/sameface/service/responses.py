"""What the routes share: the state, JSON answers with entity tags, pages of lists, errors for OpenAPI."""

from __future__ import annotations

import functools
import hashlib
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from sameface.api_records import Answer, ErrorAnswer
from sameface.service.state import State

Item = TypeVar("Item")

WORDS = {
    400: "Not a request",
    401: "No key, or one that does not hold",
    403: "The key's role does not reach, or the request is one of a foreign page",
    404: "There is nobody and nothing like that",
    408: "The body stopped coming",
    409: "It contradicts what is there",
    413: "Too many bytes, pixels or pictures",
    415: "The body is neither a form nor JSON",
    422: "It cannot be used: a picture without a face, a value out of its range",
    429: "Too many requests",
    500: "A fault of the service",
    503: "Too much is waiting, or another program holds the gallery: try again after `Retry-After` seconds",
}
BODY_REFUSALS = (400, 408, 413, 415)


async def get_state(request: Request) -> State:
    """Return the state of the service; async, or FastAPI calls it in a thread."""
    state: State = request.app.state.sameface
    return state


StateOf = Annotated[State, Depends(get_state)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of an operation for OpenAPI, with those of every operation that needs a key."""
    return only_refusals(401, 403, 422, 429, 500, 503, *statuses)


def only_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return exactly these errors of an operation for OpenAPI."""
    return {status: {"model": ErrorAnswer, "description": WORDS[status]} for status in sorted(set(statuses))}


def cut_page(found: list[Item], limit: int) -> tuple[list[Item], Item | None]:
    """Return the first `limit` items of a list, and the last of them if the list is longer."""
    page = found[:limit]
    return page, page[-1] if len(found) > limit else None


@functools.cache
def make_adapter(kind: Any) -> TypeAdapter[Any]:
    """Return pydantic's writer for a kind of record; making it takes as long as many answers."""
    return TypeAdapter(kind)


def write_json(answer: Answer) -> bytes:
    """Return a record as JSON."""
    kind: Any = type(answer)
    return make_adapter(kind).dump_json(answer, by_alias=True)


def answer_with_etag(request: Request, answer: Answer) -> Response:
    """Return a record with the entity tag of its content, or 304 if the client has it already."""
    body = write_json(answer)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag}
    known = [mark.strip().removeprefix("W/") for mark in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
