"""What the routes of one service share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from sameface.errors import SamefaceError
from sameface.gallery import Gallery, Person
from sameface.gallery.errors import UnknownPersonError
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access, ApiKey
from sameface.service.audit import AuditAction, AuditEntry, IdempotentRequest, Intent, PersonRef, entry_for_person
from sameface.service.challenges import ChallengeStore
from sameface.service.config import ServiceConfig
from sameface.service.errors import AccessFileError, NotFoundError
from sameface.service.inference import Inference
from sameface.service.jobs import JobQueue
from sameface.service.memory import ByteBudget
from sameface.service.metrics import Metrics
from sameface.thresholds import Thresholds

Given = ParamSpec("Given")
Result = TypeVar("Result")

GALLERY_THREADS = 4  # threads that wait for SQLite; it lets one of them in at a time
NOTHING: Mapping[str, Any] = {}

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What an act did, filled in while it is done."""

    repeated: bool  # the request was begun before, with the same idempotency key
    facts: dict[str, Any] = field(default_factory=dict)  # for the one entry of the act
    entries: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # or one for each person, by number
    expires: int | None = None  # the expiry that the act set, in seconds since 1970


class State:
    """The parts of one service, made when it starts and closed when it ends."""

    def __init__(self, recognizer: Recognizer, gallery: Gallery | None, config: ServiceConfig, access: Access) -> None:
        self.recognizer = recognizer
        self.config = config
        self.access = access
        self.metrics = Metrics()
        self.buffer = ByteBudget(config.buffer_bytes, self.metrics.buffered)
        self.answers = ByteBudget(config.answer_bytes, self.metrics.answers)
        self.inference = Inference(recognizer, config, self.metrics)
        self.jobs = JobQueue(config, self.metrics)
        self.challenges = ChallengeStore()
        self.gallery_or_none = gallery
        self.log_changed = asyncio.Event()  # entries came into the audit log
        self._origin = "" if gallery is None else gallery.origin
        self._gallery_threads = ThreadPoolExecutor(GALLERY_THREADS, "gallery")
        self._access_thread = ThreadPoolExecutor(1, "access")  # never waits for the gallery
        self._audit_thread = ThreadPoolExecutor(1, "audit")

    @property
    def gallery(self) -> Gallery:
        """The gallery; `NotFoundError` for a service without one."""
        if self.gallery_or_none is None:
            raise NotFoundError("gallery (start the service with --gallery FILE)")
        return self.gallery_or_none

    def thresholds(self) -> Thresholds:
        """Return which distance means "same": the gallery's own thresholds, or else the model's."""
        gallery = self.gallery_or_none
        return self.recognizer.thresholds if gallery is None else gallery.thresholds

    async def record(self, key: ApiKey, action: str, people: Iterable[int], detail: dict[str, Any]) -> None:
        """Write entries about people, by number, before the request is answered."""
        refs = [(self._origin, person) for person in people]
        await self._write_log(self.access.log.record, key.name, action, refs, detail)

    @asynccontextmanager
    async def audited(
        self,
        key: ApiKey,
        action: str,
        person: int | None = None,
        detail: Mapping[str, Any] = NOTHING,
        request: IdempotentRequest | None = None,
    ) -> AsyncIterator[Outcome]:
        """Write an intent into the audit log, let the block do the act, and write its outcome.

        Without the intent the block does not run. The act stands if the outcome cannot be written: the log of
        the service says so, and the audit log shows an intent without outcome, as after a killed process.

        Args:
            key: Of the client.
            action: Such as `enroll`.
            person: The person it is done to; None for a new one.
            detail: Numbers that are known before.
            request: The idempotency key.
        """
        ref = None if person is None else (self._origin, person)
        intent = await self._write_log(self.access.log.begin, AuditAction(key.name, action, ref, detail), request)
        outcome = Outcome(intent.repeated)
        try:
            yield outcome
        except SamefaceError as error:
            await self._finish(intent, outcome, failed=error.code)
            raise
        await self._finish(intent, outcome)

    async def _finish(self, intent: Intent, outcome: Outcome, **failed: str) -> None:
        """Write the outcome of an act, as far as that is possible."""
        facts = {**intent.act.detail, **outcome.facts}
        entries: list[tuple[PersonRef | None, dict[str, Any]]] = [
            ((self._origin, person), {**found, **failed}) for person, found in outcome.entries
        ]
        entries = entries or [(intent.act.person, {**facts, **failed})]
        try:
            await self._write_log(self.access.log.finish, intent, entries, outcome.expires)
        except AccessFileError:
            logger.exception(
                "the outcome of %s is not in the audit log, only entry %s", intent.act.action, intent.number
            )

    async def expiry_key(self, person: int, expires: datetime | None) -> str | None:
        """Return the name of the key that set this expiry; None if no key of this service did."""
        if expires is None:
            return None
        moment = int(expires.timestamp())
        return await self.call_access(self.access.log.expiry_key, (self._origin, person), moment)

    async def move_expiry(self, source: int, into: int, expires: datetime | None) -> None:
        """Keep the key that set the expiry of a merged person."""
        if expires is not None:
            people = (self._origin, source), (self._origin, into)
            await self.call_access(self.access.log.move_expiry, *people, int(expires.timestamp()))

    def names_of(self, entries: Iterable[AuditEntry]) -> dict[PersonRef, str]:
        """Return the present names of the people in these entries who are enrolled here."""
        people = {entry.person for entry in entries if entry.person is not None}
        here = [ref for ref in people if ref[0] == self._origin]
        found = {ref: find_person(self.gallery, ref[1]) for ref in here}
        return {ref: person.name for ref, person in found.items() if person is not None}

    async def read_log(self, person: int) -> list[dict[str, Any]]:
        """Return the entries that a person may see about themselves."""
        entries = await self.call_audit(self.access.log.entries_of, (self._origin, person))
        return [entry_for_person(entry) for entry in entries]

    async def call_gallery(
        self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call a function that waits for the gallery, in a thread."""
        return await asyncio.wrap_future(self._gallery_threads.submit(function, *args, **kwargs))

    async def call_access(
        self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call a function that waits for the access file, in a thread."""
        return await asyncio.wrap_future(self._access_thread.submit(function, *args, **kwargs))

    async def _write_log(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Call a function that writes into the audit log, and set `log_changed`."""
        result = await self.call_access(function, *args, **kwargs)
        self.log_changed.set()
        return result

    async def call_audit(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Call a function that reads many entries of the audit log, beside its writers."""
        return await asyncio.wrap_future(self._audit_thread.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Finish what was begun, and end the threads."""
        self.inference.close()
        self._gallery_threads.shutdown()
        self._access_thread.shutdown()
        self._audit_thread.shutdown()


def find_person(gallery: Gallery, who: int | str) -> Person | None:
    """Return the person of this number or name, or None."""
    try:
        return gallery.person(who)
    except UnknownPersonError:
        return None
