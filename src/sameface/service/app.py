"""Put the service together, and run its background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sameface import __version__
from sameface.gallery import Gallery
from sameface.gallery.errors import MassExpiryError
from sameface.recognizer import Recognizer
from sameface.service.access_file import OWNER, Access
from sameface.service.audit import read_head, write_head
from sameface.service.auth import RateLimiter
from sameface.service.config import ServiceConfig
from sameface.service.error_responses import HANDLERS
from sameface.service.errors import AccessFileError
from sameface.service.middleware import RequestMiddleware
from sameface.service.routes import admin, challenges, jobs, pages, people, vision
from sameface.service.serializers import receipt_facts
from sameface.service.state import State, find_person

logger = logging.getLogger(__name__)

EXAMPLES = json.loads(Path(__file__).with_name("examples.json").read_text("utf-8"))  # of each record
CLEAN_SECONDS = 60.0
CLEANINGS = 60  # of jobs for one of the log
PAUSE_SECONDS = 0.02  # between slices of old entries that are deleted
WITNESS_SECONDS = 30.0  # until the next try, if the witness took nothing

ABOUT = """Find faces, tell whose they are, enroll people and sort albums.

A picture is a file of a form, or in JSON a string of base64 under the same name. Closeness is the squared
Euclidean distance of two embeddings, 0 to 4, lower is nearer. Every error is
`{"error": {"code", "message", "detail"}}`; every answer has an `X-Request-ID`, which is in the log too.
Keys go into `Authorization: Bearer sf_...`; their roles are `read`, `enroll` and `admin`."""


def create_app(
    recognizer: Recognizer, gallery: Gallery | None, config: ServiceConfig, *, access: Access | None = None
) -> FastAPI:
    """Return the service as an ASGI application.

    The caller closes the recognizer, the gallery and the access file when the application has ended. Without a
    gallery it serves only the routes that need none; without `access` the audit log is in memory.
    """
    state = State(recognizer, gallery, config, Access.open() if access is None else access)
    app = FastAPI(
        title="sameface",
        version=__version__,
        description=ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.sameface = state
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.state.rates = RateLimiter(config.rate_per_minute)
    for module in (admin, vision, challenges, people, jobs, pages):
        app.include_router(module.router)
    app.mount("/web", pages.web, name="web")
    add_description(app)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-ID"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(RequestMiddleware, state=state)
    return app


def add_description(app: FastAPI) -> None:
    """Serve the OpenAPI document, encoded once: encoding takes as long as dozens of small answers."""
    build = app.openapi
    app.openapi = lambda: with_examples(build())  # type: ignore[method-assign]  # as FastAPI's manual says
    encoded = functools.cache(lambda: JSONResponse(app.openapi()).body)

    async def describe(_: Request) -> Response:
        return Response(encoded(), media_type="application/json")

    app.add_route("/openapi.json", describe, include_in_schema=False)


def with_examples(description: dict[str, Any]) -> dict[str, Any]:
    """Add the examples of the records; FastAPI itself would drop every null in them."""
    for name, schema in description["components"]["schemas"].items():
        if name in EXAMPLES:
            schema["example"] = EXAMPLES[name]
    return description


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the background tasks until the server ends; then finish the accepted work."""
    state: State = app.state.sameface
    witness = state.config.witness
    tasks = [asyncio.create_task(clean(state))]
    if witness is not None:
        tasks.append(asyncio.create_task(keep_witness(state, witness)))
    yield
    for task in tasks:
        task.cancel()
    await state.jobs.close()
    if witness is not None:
        await send_head(state, witness)
    state.close()


async def forget_expired(state: State) -> None:
    """Delete expired people, and write into the audit log which key had set the moment."""
    gallery = state.gallery_or_none
    if gallery is None:
        return
    people = await state.call_gallery(gallery.expired)
    if not people:
        state.metrics.expiry_refused.set(0)
        await state.call_gallery(gallery.forget_expired, people=people)  # only traces that an earlier deletion left
        return
    try:
        await state.call_gallery(gallery.check_expiry)
    except MassExpiryError as error:
        state.metrics.expiry_refused.set(error.people)
        logger.error("%s", error)  # noqa: TRY400, the message says everything
        return
    state.metrics.expiry_refused.set(0)
    set_by = {person: await find_expiry_key(state, gallery, person) for person in people}
    async with state.audited(OWNER, "expire", detail={"people": len(people)}) as outcome:
        try:
            await state.call_gallery(gallery.forget_expired, people=people)
        finally:  # of an error too: who was deleted may have left traces
            receipts = await state.call_gallery(gallery.receipts)
            outcome.entries = [
                (gone.person, {"faces": gone.faces, "set_by": set_by[gone.person], **receipt_facts(gone)})
                for gone in receipts
                if gone.reason == "expire" and gone.person in set_by
            ]


async def find_expiry_key(state: State, gallery: Gallery, number: int) -> str | None:
    """Return the name of the key that set the expiry of a person, or None."""
    person = await state.call_gallery(find_person, gallery, number)  # None if deleted meanwhile
    return None if person is None else await state.expiry_key(number, person.expires)


async def clean(state: State) -> None:
    """Delete old entries of the audit log, old jobs and expired people, again and again."""
    for turn in itertools.count():
        if turn % CLEANINGS == 0:
            async with logged("the audit log keeps old entries"):
                while await state.call_access(state.access.log.forget_entries, state.config.audit_days):
                    await asyncio.sleep(PAUSE_SECONDS)
        async with logged("people whose time is over, or traces of them, stay until the next try"):
            await forget_expired(state)
        async with logged("old jobs and challenges stay until the next try"):
            state.jobs.forget_old()
            state.challenges.forget_old()
        await asyncio.sleep(CLEAN_SECONDS)


@contextlib.asynccontextmanager
async def logged(words: str) -> AsyncIterator[None]:
    """Log every error of the block, so that the next cleaning comes."""
    try:
        yield
    except Exception:
        logger.exception(words)


async def keep_witness(state: State, place: str) -> None:
    """Send the head of the audit log to a witness whenever it has changed."""
    while True:
        state.log_changed.clear()
        if await send_head(state, place):
            await state.log_changed.wait()
        else:
            await asyncio.sleep(WITNESS_SECONDS)


async def send_head(state: State, place: str) -> bool:
    """Send the head to a witness, and return whether it was taken; log and count a failure."""
    try:
        head = await state.call_access(read_head, state.access.log)
        await asyncio.to_thread(write_head, place, head)
    except (OSError, AccessFileError):
        logger.exception("the witness %s did not take the last hash of the audit log", place)
        state.metrics.witness_failing.set(1)
        return False
    state.metrics.witness_failing.set(0)
    return True
