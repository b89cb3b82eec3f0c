"""What the routes have in common: the state, the answers to errors, marks of a version."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from sameface.service.answers import ErrorAnswer
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


async def get_state(request: Request) -> State:
    """Return what the routes share; async, or FastAPI calls it in a thread."""
    state: State = request.app.state.sameface
    return state


StateOf = Annotated[State, Depends(get_state)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of an operation for OpenAPI; some every operation with a key can have."""
    return only_refusals(401, 403, 422, 429, 500, 503, *statuses)


def only_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return these errors of an operation for OpenAPI, and no others."""
    return {status: {"model": ErrorAnswer, "description": WORDS[status]} for status in sorted(set(statuses))}


def cut_page(found: list[Item], limit: int) -> tuple[list[Item], Item | None]:
    """Return a page of a list that was read one further, and its last item if there are more behind it."""
    page = found[:limit]
    return page, page[-1] if len(found) > limit else None


BODY_REFUSALS = (400, 408, 413, 415)


def answer_with_etag(request: Request, answer: BaseModel) -> Response:
    """Return an answer with a mark of its content, or 304 if the client has it already."""
    body = answer.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag}
    known = [mark.strip().removeprefix("W/") for mark in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
