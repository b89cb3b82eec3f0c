"""The middleware of the service: request ids, origin check, metrics, access log, limits on large answers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import asdict
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sameface.service.error_responses import INTERNAL_ERROR, answer_error
from sameface.service.errors import BusyError, ForbiddenError
from sameface.service.memory import HeldBytes
from sameface.service.state import State

logger = logging.getLogger(__name__)

PIECE = 65_536  # bytes of an answer that are handed to the connection at once
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class RequestMiddleware:
    """The outermost layer: checks the origin of a request, counts and logs it."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = ResponseSender(send, request_id(Headers(scope=scope)), self._state)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        start = time.perf_counter()
        try:
            reason = find_origin_fault(Headers(scope=scope), scope, self._state)
            if reason is None:
                await self._app(scope, receive, answer.send)
            else:
                refusal = answer_error(Request(scope), ForbiddenError(reason))
                await refusal(scope, receive, answer.send)
        except Exception:  # the edge of the process: a bug becomes one line in the log and one answer
            logger.exception("a fault of the service", extra={"request_id": answer.request_id})
            if answer.status == 0:
                await JSONResponse({"error": asdict(INTERNAL_ERROR)}, 500)(scope, receive, answer.send)
        finally:
            self._note(scope, answer, time.perf_counter() - start)

    def _note(self, scope: Scope, answer: ResponseSender, seconds: float) -> None:
        """Count and log a request, without its query, which may hold a name."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if route != "other" else "other"
        self._state.metrics.requests.labels(method, route, answer.status).inc()
        self._state.metrics.seconds.labels(route).observe(seconds)
        facts = {
            "request_id": answer.request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": answer.status,
            "milliseconds": round(seconds * 1000, 1),
            "key": scope["state"].get("key_name"),
            "address": (scope.get("client") or ("",))[0],
        }
        logger.info("request", extra=facts)


class ResponseSender:
    """Sends an answer with the common headers, and keeps its status.

    A large body goes out in pieces, each when the client has read the one before. It counts as memory until then.
    """

    def __init__(self, send: Send, request_id: str, state: State) -> None:
        self._send = send
        self._answers = state.answers
        self._start: Message | None = None
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the start waits for the first part of the body."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        body = message.get("body", b"")
        with self._answers.held() as held:
            if self._start is not None:
                body = self._count(held, body)
                await self._send_start(self._start)
                self._start = None
            for start in range(0, len(body) or 1, PIECE):
                more = message.get("more_body", False) or start + PIECE < len(body)
                piece = body[start : start + PIECE]
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    def _count(self, held: HeldBytes, body: bytes) -> bytes:
        """Count a large body, and return it; without room for it the answer becomes an error."""
        if len(body) <= PIECE:
            return body
        try:
            held.take(len(body))
        except BusyError as error:
            refusal = answer_error(Request({"type": "http"}), error)
            self._start = {
                "type": "http.response.start", "status": refusal.status_code, "headers": refusal.raw_headers,
            }  # fmt: skip
            return bytes(refusal.body)
        return body

    async def _send_start(self, message: Message) -> None:
        """Send the status and the headers."""
        self.status = message["status"]
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = self.request_id
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def request_id(headers: Headers) -> str:
    """Return the id of the client, if it is harmless, or a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def find_origin_fault(headers: Headers, scope: Scope, state: State) -> str | None:
    """Return why the origin of a request is refused, or None.

    Without keys every page in a browser on this machine could call the service: by a host name that it points
    here (DNS rebinding), or by a form that it sends here (CSRF). With keys a page needs one.
    """
    config = state.config
    if config.keys_required:
        return None
    host = headers.get("host", "")
    if config.hosts and host_name(host) not in config.hosts:
        names = ", ".join(config.hosts)
        return f"without keys this service answers as {names}, not as {host!r}: start it with --require-keys"
    origin = headers.get("origin")
    if origin is not None and origin not in (f"{scope['scheme']}://{host}", *config.cors_origins):
        return f"without keys this service takes no requests of {origin!r}: start it with --require-keys"
    a_link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site") and not a_link:
        return "without keys this service takes no requests of other pages: start it with --require-keys"
    return None


def host_name(host: str) -> str | None:
    """Return the name in a Host header, without port and brackets, or None."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
