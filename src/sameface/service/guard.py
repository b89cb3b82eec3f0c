"""Who may do what, and how often."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sameface.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from sameface.service.access import OWNER, Key, Role
from sameface.service.state import State

BUCKETS = 10_000  # keys and addresses that are remembered

bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key of `sameface keys add`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class Rates:
    """A bucket of requests for each key or address, which fills up again at a steady rate.

    Args:
        per_minute: How many fit in, and come back in a minute; None means any number.
        clock: Seconds.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when

    def take(self, who: str) -> None:
        """Take one request out of a bucket.

        Raises:
            RateLimitedError: It is empty.
        """
        if self._per_minute is None:
            return
        now, full = self._clock(), float(self._per_minute)
        left, since = self._buckets.pop(who, (full, now))
        left = min(full, left + (now - since) * full / 60)
        self._buckets[who] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateLimitedError(self._per_minute, math.ceil((1 - left) * 60 / full))


def need(role: Role) -> Any:
    """Return a dependency: the key of a request, which must have this role.

    Raises:
        UnauthorizedError: There is no key, or it does not hold.
        ForbiddenError: Its role does not reach.
        RateLimitedError: It was used too often.
    """

    async def check(request: Request, credentials: Credentials) -> Key:
        state: State = request.app.state.sameface
        rates: Rates = request.app.state.rates
        key = await find_key(state, credentials)
        address = request.client.host if request.client else ""
        rates.take(f"address {address}" if key is None or key.name is None else f"key {key.name}")
        if key is None:
            reason = "this service wants a key" if credentials is None else "this key does not hold"
            raise UnauthorizedError(reason)
        request.state.key_name = key.name
        if not key.may(role):
            raise ForbiddenError(f"this needs the role {role!r}, the key {key.name!r} has {key.role!r}")
        return key

    return Security(check, scopes=[role])  # the scopes are only told in the description


async def find_key(state: State, credentials: HTTPAuthorizationCredentials | None) -> Key | None:
    """Return whose request it is, or None."""
    if credentials is not None:
        return await state.ask_access(state.access.find_key, credentials.credentials)
    return None if state.config.keys_required else OWNER


Reader = Annotated[Key, need("read")]
Enroller = Annotated[Key, need("enroll")]
Admin = Annotated[Key, need("admin")]
