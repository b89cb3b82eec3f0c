"""Requests over HTTP: sent, repeated while the service is busy, and their errors."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from sameface.api_json import read_json
from sameface.client.errors import RefusedError, StrangeAnswerError, UnreachableError
from sameface.picture_files import MAX_BYTES, name_of, read_bytes

Picture: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
Record = TypeVar("Record")
IDEMPOTENCY_KEY = "Idempotency-Key"
AGAIN = (429, 503)  # nothing was done, and the service says when to come again


class Wire:
    """Sends requests to one service; repeats them for `patience` seconds while the service is busy."""

    def __init__(
        self,
        http: httpx.Client,
        *,
        patience: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, kind: type[Record], method: str, path: str, **parts: Any) -> Record:
        """Send a request and return its answer as a record of this kind.

        Raises:
            UnreachableError, RefusedError, StrangeAnswerError: As `Client` has them.
        """
        response = self.send(method, path, **parts)
        try:
            record: Record = read_json(kind, response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise StrangeAnswerError(str(response.url), response.status_code) from error
        return record

    def ask_once(self, kind: type[Record], method: str, path: str, **parts: Any) -> Record:
        """Send a request with an idempotency key, else as `ask`: it is also repeated when no answer came."""
        return self.ask(kind, method, path, headers={IDEMPOTENCY_KEY: uuid.uuid4().hex}, **parts)

    def send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send a request, again and again while the service is busy, and return its answer."""
        end = self._clock() + self._patience
        while True:
            error: RefusedError | UnreachableError
            try:
                response = self._send_once(method, path, parts)
                if response.is_success:
                    return response
                error = refusal(response)
                wait = max(error.retry_after, 1)
                repeat = response.status_code in AGAIN and "retry-after" in error.headers
            except UnreachableError as lost:
                error, wait, repeat = lost, 1, IDEMPOTENCY_KEY in parts.get("headers", {})
            if not repeat or self._clock() + wait > end:
                raise error
            self._sleep(wait)

    def _send_once(self, method: str, path: str, parts: dict[str, Any]) -> httpx.Response:
        """Send a request once."""
        try:
            return self._http.request(method, path, **parts)
        except httpx.HTTPError as error:
            address = str(self._http.base_url)
            raise UnreachableError(address, str(error) or type(error).__name__) from error


def refusal(response: httpx.Response) -> RefusedError:
    """Return the error in an answer; raise `StrangeAnswerError` for one from something in between."""
    try:
        error = response.json()["error"]
        code, message, detail = str(error["code"]), str(error["message"]), dict(error["detail"])
    except (ValueError, KeyError, TypeError) as fault:
        raise StrangeAnswerError(str(response.url), response.status_code) from fault
    return RefusedError(response.status_code, code, message, detail, dict(response.headers))


def upload(field: str, picture: Picture) -> tuple[str, tuple[str, bytes]]:
    """Return a picture as a file of a form, with the last part of its path; `ImageError` if it is unreadable."""
    data = read_bytes(picture, name_of(picture), MAX_BYTES)
    given = getattr(picture, "name", picture)
    name = PurePath(given).name if isinstance(given, str | os.PathLike) else ""
    return field, (name.encode("utf-8", "replace").decode() or field, data)


def uploads(pictures: Sequence[Picture]) -> list[tuple[str, tuple[str, bytes]]]:
    """Return several pictures as files of a form."""
    if isinstance(pictures, str | bytes):
        raise TypeError("pictures must be a sequence of pictures, got one")
    return [upload("pictures", picture) for picture in pictures]


def fields(**values: Any) -> dict[str, str]:
    """Return the fields of a form; None leaves one out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def place(*parts: str | int) -> str:
    """Return a path under /v1; each part is quoted."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)
