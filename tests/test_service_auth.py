"""The guard of the service by itself: buckets of requests, roles, and what a refusal says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials

from sameface.recognizer import Recognizer
from sameface.service import auth
from sameface.service.access_file import OWNER, Access, ApiKey
from sameface.service.app import create_app
from sameface.service.audit import DAY, IdempotentRequest
from sameface.service.auth import RateLimiter, check_expiry_role, need, request_id_of
from sameface.service.config import ServiceConfig
from sameface.service.errors import ForbiddenError, RateLimitedError, UnauthorizedError

TOKEN = "a-start-up-token-of-the-test"


@pytest.fixture
def access() -> Iterator[Access]:
    access = Access.open()
    yield access
    access.close()


def make_app(recognizer: Recognizer, access: Access, **config: Any) -> FastAPI:
    return create_app(recognizer, None, ServiceConfig(**config), access=access)


def make_request(app: FastAPI, client: tuple[str, int] | None = ("10.1.2.3", 5)) -> Request:
    scope = {"type": "http", "app": app, "client": client, "headers": [], "method": "GET", "path": "/v1/model"}
    return Request({**scope, "scheme": "http", "server": ("localhost", 80), "query_string": b""})


def ask(request: Request, role: Any, token: str | None = None) -> ApiKey:
    """Return the key of a request, as the dependency of an operation does."""
    given = None if token is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=token)

    async def run() -> ApiKey:
        key: ApiKey = await need(role).dependency(request, given)
        return key

    return asyncio.run(run())


# Buckets


def test_a_bucket_fills_at_a_steady_rate_up_to_its_size() -> None:
    now = [100.0]
    rates = RateLimiter(30, clock=lambda: now[0])
    for wait, times in ((0, 30), (2, 1), (5, 2), (1, 1), (1000, 30)):  # one in 2 s; the half is kept
        now[0] += wait
        for _ in range(times):
            rates.take("ann")
        with pytest.raises(RateLimitedError):
            rates.take("ann")


def test_a_refusal_says_in_how_many_whole_seconds_there_is_room() -> None:
    now = [0.0]
    rates = RateLimiter(6, clock=lambda: now[0])
    for _ in range(6):
        rates.take("ann")
    for moment, seconds in ((0.0, 10), (1.0, 9), (8.5, 2), (9.5, 1)):
        now[0] = moment
        with pytest.raises(RateLimitedError, match="6") as caught:
            rates.take("ann")
        assert caught.value.seconds == seconds
    now[0] = 10.0
    rates.take("ann")


def test_without_a_rate_anybody_may_ask_at_any_time() -> None:
    rates = RateLimiter(None, clock=lambda: pytest.fail("no clock is needed"))
    for _ in range(3):
        rates.take("ann")
    assert not rates._buckets


def test_the_bucket_that_was_not_used_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "BUCKETS", 2)
    rates = RateLimiter(1, clock=lambda: 0.0)
    rates.take("ann")
    rates.take("bob")
    with pytest.raises(RateLimitedError):
        rates.take("ann")
    rates.take("cy")
    assert list(rates._buckets) == ["ann", "cy"]


# Roles


def test_a_key_opens_what_its_role_may_and_counts_by_its_name(toy_recognizer: Recognizer, access: Access) -> None:
    app = make_app(toy_recognizer, access, keys_required=True, rate_per_minute=5)
    token = access.make_key("ann", "enroll")
    for role in ("read", "enroll"):
        request = make_request(app)
        assert ask(request, role, token).name == request.state.key_name == "ann"
    with pytest.raises(ForbiddenError, match="this needs the role 'admin', the key 'ann' has 'enroll'"):
        ask(make_request(app), "admin", token)
    assert list(app.state.rates._buckets) == ["key ann"]
    assert need("enroll").scopes == ["enroll"]


@pytest.mark.parametrize(
    ("config", "token", "reason"),
    [
        ({"keys_required": True}, None, "this service wants a key"),
        ({"keys_required": True}, "sf_wrong", "invalid or revoked key"),
        ({"token": TOKEN}, "sf_wrong", "invalid or revoked key"),
        ({"token": TOKEN}, None, "this service wants the token of the address that it printed"),
        ({"token": TOKEN, "keys_required": True}, None, "this service wants a key"),
        ({"token": TOKEN, "keys_required": True}, TOKEN, "invalid or revoked key"),
    ],
)
def test_a_refusal_says_what_is_wanted_and_counts_for_the_address(
    toy_recognizer: Recognizer, access: Access, config: dict[str, Any], token: str | None, reason: str
) -> None:
    app = make_app(toy_recognizer, access, rate_per_minute=5, **config)
    request = make_request(app)
    with pytest.raises(UnauthorizedError) as caught:
        ask(request, "read", token)
    assert str(caught.value).startswith(reason)
    assert list(app.state.rates._buckets) == ["address 10.1.2.3"]
    assert not hasattr(request.state, "key_name")


def test_where_no_key_is_wanted_everybody_is_the_owner(toy_recognizer: Recognizer, access: Access) -> None:
    app = make_app(toy_recognizer, access, rate_per_minute=5)
    request = make_request(app)
    assert ask(request, "admin") is OWNER
    assert request.state.key_name is None
    assert ask(make_request(app, client=None), "admin") is OWNER
    assert list(app.state.rates._buckets) == ["address 10.1.2.3", "address "]
    app = make_app(toy_recognizer, access, token=TOKEN)
    assert ask(make_request(app), "admin", TOKEN) is OWNER


def test_who_asks_too_often_is_refused_before_the_role_is_looked_at(
    toy_recognizer: Recognizer, access: Access
) -> None:
    app = make_app(toy_recognizer, access, keys_required=True, rate_per_minute=1)
    token = access.make_key("ann", "read")
    assert ask(make_request(app), "read", token).name == "ann"
    with pytest.raises(RateLimitedError):
        ask(make_request(app), "admin", token)


def test_only_who_may_delete_lets_somebody_expire_within_a_day() -> None:
    enroller, admin = ApiKey("ann", "enroll"), ApiKey("bob", "admin")
    soon = datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=DAY - 60)
    later = soon + timedelta(minutes=10)
    for key, moment in ((enroller, None), (enroller, later), (admin, soon)):
        check_expiry_role(key, moment)
    reason = "to let a person expire within a day needs the role 'admin', the key 'ann' has 'enroll'"
    with pytest.raises(ForbiddenError, match=f"^{reason}: give a later day$"):
        check_expiry_role(enroller, soon)


def test_a_request_is_told_from_another_with_the_same_key(toy_recognizer: Recognizer, access: Access) -> None:
    request = make_request(make_app(toy_recognizer, access))
    assert asyncio.run(request_id_of(request)) is None
    assert asyncio.run(request_id_of(request, "abc")) == IdempotentRequest("abc", "GET /v1/model")
