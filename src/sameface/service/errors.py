"""Errors of the service; the whole tree is drawn in `sameface.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from sameface.errors import SamefaceError, ServiceError


class RequestError(ServiceError):
    """A request with a missing or wrong field."""

    code = "bad_request"
    reason: str
    problems: Sequence[tuple[str, str]] = ()

    def __str__(self) -> str:
        listed = "; ".join(f"{field}: {problem}" for field, problem in self.problems)
        return f"{self.reason}: {listed}" if listed else self.reason


class UnauthorizedError(ServiceError):
    """A missing, invalid or revoked key."""

    code = "unauthorized"
    message = "{reason}: send a key as `Authorization: Bearer sf_...`"
    reason: str


class ForbiddenError(ServiceError):
    """The key's role, or the page that sent the request, does not allow it."""

    code = "forbidden"
    message = "{reason}"
    reason: str


class NotFoundError(ServiceError):
    """There is nothing at this address."""

    code = "not_found"
    message = "there is no {what} here"
    what: str


class BodyTooLargeError(ServiceError):
    """More bytes or pictures than one request may hold."""

    code = "too_large"
    message = "the request holds over {limit:,} {unit}: send fewer at a time"
    unit: str
    limit: int


class RateLimitedError(ServiceError):
    """Too many requests in a minute."""

    code = "rate_limited"
    message = "over {limit} requests in a minute: try again in {seconds} s"
    limit: int
    seconds: int


class BusyError(ServiceError):
    """The queue of waiting work is full."""

    code = "busy"
    message = "{reason}: try again in {seconds} s"
    reason: str
    seconds: int = 1


class NothingEnrolledError(ServiceError):
    """None of the pictures can be used."""

    code = "nothing_enrolled"
    reasons: Sequence[tuple[str, SamefaceError]]

    def __str__(self) -> str:
        listed = "; ".join(dict.fromkeys(str(reason) for _, reason in self.reasons))
        return f"nobody was enrolled, no picture can be used: {listed}"


class AccessFileError(ServiceError):
    """The file of keys and audit log cannot be used."""

    code = "bad_access"
    message = "keys {path!r}: {reason}"
    path: str
    reason: str
