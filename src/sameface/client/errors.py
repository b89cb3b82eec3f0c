"""Errors of the client; the whole tree is drawn in `sameface.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sameface.errors import ClientError


class UnreachableError(ClientError):
    """The service does not answer."""

    code = "unreachable"
    message = "no answer from {address}: {reason}"
    address: str
    reason: str


class RefusedError(ClientError):
    """The service answered with an error, whose `code` this takes over."""

    code = "refused"

    def __init__(
        self, status: int, code: str, message: str, detail: dict[str, Any], headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = {name.lower(): value for name, value in headers.items()}

    def __str__(self) -> str:
        return f"{self.message} (status {self.status}, request {self.request_id})"

    @property
    def request_id(self) -> str | None:
        """The id of the request in the service's log."""
        return self.headers.get("x-request-id")

    @property
    def retry_after(self) -> int:
        """After how many seconds to try again; 0 if the service does not say."""
        given = self.headers.get("retry-after", "")
        return int(given) if given.isdecimal() else 0


class StrangeAnswerError(ClientError):
    """The answer is not that of a service of this version."""

    code = "strange_answer"
    message = (
        "the answer of {address} (status {status}) is not that of a sameface service of this version: "
        "check the address, and what stands between"
    )
    address: str
    status: int
