"""The status and the JSON of every error: one table, one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from sameface.adapter import AdapterError
from sameface.albums.regions import TagError
from sameface.api_json import round_numbers
from sameface.api_records import ErrorBody, SkippedPicture
from sameface.errors import (
    AlbumError,
    BatchError,
    ClientError,
    EvaluationError,
    FaceError,
    GalleryError,
    ImageError,
    ImageTooLargeError,
    SamefaceError,
    ThresholdError,
    TrainingError,
    VideoError,
    WeightsError,
)
from sameface.face import Face
from sameface.gallery.errors import (
    BadExpiryError,
    BadNameError,
    BadNoteError,
    FaceTakenError,
    GalleryBusyError,
    GalleryUnreachableError,
    LastFaceError,
    MassExpiryError,
    PersonExistsError,
    UnknownFaceError,
    UnknownPersonError,
)
from sameface.quality import Quality
from sameface.service.body_limits import list_problems
from sameface.service.errors import (
    AccessFileError,
    BodyTooLargeError,
    BusyError,
    ForbiddenError,
    NotFoundError,
    NothingEnrolledError,
    RateLimitedError,
    RequestError,
    UnauthorizedError,
)

logger = logging.getLogger(__name__)

# The nearest class up the tree counts.
STATUS: dict[type[SamefaceError], int] = {
    ImageError: 422,
    ImageTooLargeError: 413,
    FaceError: 422,
    ThresholdError: 422,
    UnknownPersonError: 404,
    UnknownFaceError: 404,
    LastFaceError: 409,
    PersonExistsError: 409,
    BadNameError: 422,
    BadNoteError: 422,
    BadExpiryError: 422,
    MassExpiryError: 409,
    FaceTakenError: 409,
    GalleryBusyError: 503,
    GalleryUnreachableError: 503,
    GalleryError: 500,  # a wrong setting, which no retry mends
    RequestError: 422,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    BodyTooLargeError: 413,
    RateLimitedError: 429,
    BusyError: 503,
    NothingEnrolledError: 422,
    # These are met when the service starts, or never.
    AccessFileError: 500,
    WeightsError: 500,
    AdapterError: 500,
    AlbumError: 500,
    TagError: 500,
    EvaluationError: 500,
    TrainingError: 500,
    VideoError: 500,
    ClientError: 500,
    BatchError: 500,
}
# What the framework refuses, and in which words; None leaves its own.
REFUSED: dict[int, tuple[str, str | None]] = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method"),
    408: ("timeout", None),
    415: ("unsupported_media_type", None),
}
HIDDEN = "the service cannot do this now; its log says why, under the X-Request-ID of this answer"
INTERNAL_ERROR = ErrorBody("internal", "a fault of the service; its log has the reason", {})  # of a bug
RETRY_SECONDS = 5  # where the error does not say better


def status_of(error: SamefaceError) -> int:
    """Return the status of the answer to an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_body(error: SamefaceError) -> ErrorBody:
    """Return an error as the client sees it: of faults of the service only the code."""
    if status_of(error) >= 500 and not isinstance(error, BusyError):
        return ErrorBody(error.code, HIDDEN, {})
    return ErrorBody(error.code, str(error), {name: to_json(value) for name, value in vars(error).items()})


def skipped_picture(name: str, number: int, error: SamefaceError) -> SkippedPicture:
    """Return a picture that was not used, and the error."""
    return SkippedPicture(name, number, error_body(error))


def to_json(value: Any) -> Any:
    """Return an attribute of an error as JSON holds it."""
    if isinstance(value, Face):
        return {
            "box": round_numbers(value.box),
            "landmarks": round_numbers(value.landmarks),
            "score": round(value.score, 4),
        }
    if isinstance(value, Quality):
        return {"total": value.total, **asdict(value)}
    if isinstance(value, SamefaceError):
        return asdict(error_body(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors."""
    assert isinstance(error, SamefaceError)
    status = status_of(error)
    if status >= 500 and not isinstance(error, BusyError):
        facts = {"request_id": getattr(request.state, "request_id", None)}
        logger.error("%s: %s", error.code, error, exc_info=error, extra=facts)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(getattr(error, "seconds", RETRY_SECONDS))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": asdict(error_body(error))}, status, headers)


def answer_http(_request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework refuses: an unknown address, a wrong method."""
    assert isinstance(error, HTTPException)
    code, words = REFUSED.get(error.status_code, ("bad_request", None))
    body = {"code": code, "message": words or error.detail, "detail": {}}
    return JSONResponse({"error": body}, error.status_code, error.headers)


def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer a wrong value in the address."""
    assert isinstance(error, RequestValidationError)
    return answer_error(
        request, RequestError("the address or a header does not hold what it must", list_problems(error.errors()))
    )


def answer_disconnected(_request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    """Answer a client that closed the connection: the answer goes nowhere."""
    return JSONResponse({"error": {"code": "bad_request", "message": "the client hung up", "detail": {}}}, 400)


HANDLERS: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    SamefaceError: answer_error,
    HTTPException: answer_http,
    RequestValidationError: answer_invalid,
    ClientDisconnect: answer_disconnected,
}
