"""The page and its files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from sameface.service.auth import is_token, set_cookie

WEB = Path(__file__).parent.parent / "web"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask each time, by ETag: the page is never older than the service
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Return the page; with the token in the address, a cookie in its place."""
    token = request.app.state.sameface.config.token
    if token is not None and is_token(request.query_params.get("token"), token):
        return set_cookie(request, token)
    response = await web.get_response("index.html", request.scope)
    response.headers.update(HEADERS)
    return response


class WebFiles(StaticFiles):
    """The page's files, with its headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send one file."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await super().__call__(scope, receive, send_marked)


web = WebFiles(directory=WEB, check_dir=False)
