"""Who may call the service, and how often: API keys, roles, the start-up token, rate limits.

The start-up token keeps other users of the machine out of a service without keys. As in Jupyter the printed
address has it, and the first request of the page turns it into a cookie. A browser keeps cookies for a host
and not for a port, so the name of the cookie has the port.
"""

from __future__ import annotations

import hmac
import math
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import RedirectResponse

from sameface.service.access_file import OWNER, ApiKey, Role
from sameface.service.audit import DAY, IdempotentRequest
from sameface.service.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from sameface.service.state import State

TOKEN_VARIABLE = "SAMEFACE_TOKEN"
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~-]{16,200}")
BUCKETS = 10_000  # keys and addresses that are remembered
DELETER: Role = "admin"  # the role that may delete people

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The same for every repetition of a request, such as a UUID: a repetition within a day "
        "gets the receipt of what the first did.",
    ),
]

bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key of `sameface keys add`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class RateLimiter:
    """A token bucket for each key or address; `per_minute` requests fit in, None means any number."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when

    def take(self, client: str) -> None:
        """Take one request out of the bucket of a client; `RateLimitedError` if it is empty."""
        if self._per_minute is None:
            return
        now, full = self._clock(), float(self._per_minute)
        left, since = self._buckets.pop(client, (full, now))
        left = min(full, left + (now - since) * full / 60)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateLimitedError(self._per_minute, math.ceil((1 - left) * 60 / full))


def need(role: Role) -> Any:
    """Return a dependency: the key of a request, which must have this role.

    Raises:
        UnauthorizedError: No key, or an invalid or revoked one.
        ForbiddenError: The role of the key does not reach.
        RateLimitedError: Too many requests.
    """

    async def check(request: Request, credentials: Credentials) -> ApiKey:
        state: State = request.app.state.sameface
        rates: RateLimiter = request.app.state.rates
        key = await find_key(request, credentials)
        address = request.client.host if request.client else ""
        rates.take(f"address {address}" if key is None or key.name is None else f"key {key.name}")
        if key is None:
            raise UnauthorizedError(why_refused(state, credentials))
        request.state.key_name = key.name
        if not key.may(role):
            raise ForbiddenError(f"this needs the role {role!r}, the key {key.name!r} has {key.role!r}")
        return key

    return Security(check, scopes=[role])  # the scopes are for OpenAPI only


async def find_key(request: Request, credentials: HTTPAuthorizationCredentials | None) -> ApiKey | None:
    """Return the key of a request, or None."""
    state: State = request.app.state.sameface
    token = None if state.config.keys_required else state.config.token
    if credentials is not None:
        if token is not None and is_token(credentials.credentials, token):
            return OWNER
        return await state.call_access(state.access.find_key, credentials.credentials)
    if state.config.keys_required:
        return None
    return OWNER if token is None or has_cookie(request, token) else None


def why_refused(state: State, credentials: HTTPAuthorizationCredentials | None) -> str:
    """Return why a request is refused, and the way out."""
    if credentials is not None:
        return "invalid or revoked key"
    if state.config.keys_required or state.config.token is None:
        return "this service wants a key"
    return "this service wants the token of the address that it printed when it started, or a key"


def check_expiry_role(key: ApiKey, expires: datetime | None) -> None:
    """Raise `ForbiddenError` if a person is to expire within a day, and the key may not delete people."""
    if expires is None or expires.timestamp() - time.time() > DAY or key.may(DELETER):
        return
    reason = f"to let a person expire within a day needs the role {DELETER!r}, the key {key.name!r} has"
    raise ForbiddenError(f"{reason} {key.role!r}: give a later day")


def make_token() -> str:
    """Return the token of the environment, or a new one of 256 random bits; `ValueError` for an unsafe one."""
    token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
    if not TOKEN_PATTERN.fullmatch(token):
        raise ValueError(f"{TOKEN_VARIABLE} must be 16 to 200 letters, digits or any of . _ ~ -")
    return token


def is_token(given: str | None, token: str) -> bool:
    """Return whether a client gave the token, in constant time."""
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


async def request_id_of(request: Request, idempotency_key: IdempotencyKey = None) -> IdempotentRequest | None:
    """Return the idempotency key of a request, or None."""
    if idempotency_key is None:
        return None
    return IdempotentRequest(idempotency_key, f"{request.method} {request.url.path}")


IdempotentRequestOf = Annotated[IdempotentRequest | None, Depends(request_id_of)]
Reader = Annotated[ApiKey, need("read")]
Enroller = Annotated[ApiKey, need("enroll")]
Admin = Annotated[ApiKey, need("admin")]
