"""The start-up token, which keeps other users of the machine out of a service without keys.

As in Jupyter the printed address has it, and the first request of the page turns it into a cookie. A browser
keeps cookies for a host and not for a port, so the name of the cookie has the port.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse

VARIABLE = "SAMEFACE_TOKEN"
PATTERN = re.compile(r"[A-Za-z0-9._~-]{16,200}")


def make_token() -> str:
    """Return the token of the environment, or a new one of 256 random bits.

    Raises:
        ValueError: That of the environment is too short, or has other characters than an address may have.
    """
    token = os.environ.get(VARIABLE) or secrets.token_urlsafe(32)
    if not PATTERN.fullmatch(token):
        raise ValueError(f"{VARIABLE} must be 16 to 200 letters, digits or any of . _ ~ -")
    return token


def is_token(given: str | None, token: str) -> bool:
    """Return whether a client gave the token, in a time that tells nothing about it."""
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def has_cookie(request: Request, token: str) -> bool:
    """Return whether a request carries the cookie of the page."""
    return is_token(request.cookies.get(cookie_name(request)), token)


def set_cookie(request: Request, token: str) -> RedirectResponse:
    """Return the answer that keeps the token as a cookie and takes it out of the address."""
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(cookie_name(request), token, httponly=True, samesite="strict", secure=secure)
    return answer


def cookie_name(request: Request) -> str:
    """Return the name of the cookie of the service on this port."""
    return f"sameface-{request.scope['server'][1]}"
