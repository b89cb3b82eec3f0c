"""What the routes of one service share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from sameface.errors import NotFoundError, UnknownPersonError
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.access import Access, Entry, Key, Whom, tell_person
from sameface.service.buffer import Buffer
from sameface.service.challenges import Challenges
from sameface.service.config import ServiceConfig
from sameface.service.inference import Inference
from sameface.service.joblist import Jobs
from sameface.service.metrics import Metrics
from sameface.thresholds import Thresholds

Given = ParamSpec("Given")
Result = TypeVar("Result")

ASKERS = 4  # threads that wait for SQLite; it lets one of them in at a time


class State:
    """The parts of one service, made when it starts and closed when it ends."""

    def __init__(
        self, recognizer: Recognizer, gallery: Gallery | None, config: ServiceConfig, access: Access
    ) -> None:
        self.recognizer = recognizer
        self.config = config
        self.access = access
        self.metrics = Metrics()
        self.buffer = Buffer(config.buffer_bytes, self.metrics.buffered)
        self.answers = Buffer(config.answer_bytes, self.metrics.answers)
        self.inference = Inference(recognizer, config, self.metrics)
        self.jobs = Jobs(config, self.metrics)
        self.challenges = Challenges()
        self.gallery_or_none = gallery
        self._origin = "" if gallery is None else gallery.origin
        self._askers = ThreadPoolExecutor(ASKERS, "gallery")
        self._doorkeeper = ThreadPoolExecutor(1, "access")  # never waits for the gallery

    @property
    def gallery(self) -> Gallery:
        """The gallery.

        Raises:
            NotFoundError: The service runs without one.
        """
        if self.gallery_or_none is None:
            raise NotFoundError("gallery (start the service with --gallery FILE)")
        return self.gallery_or_none

    def thresholds(self) -> Thresholds:
        """Return which distance means "same": the gallery's own thresholds, or else the model's."""
        gallery = self.gallery_or_none
        return self.recognizer.thresholds if gallery is None else gallery.thresholds

    async def record(self, key: Key, action: str, people: Iterable[int], detail: dict[str, Any]) -> None:
        """Write into the audit log what was done, to people by number."""
        whom = [(self._origin, person) for person in people]
        await self.ask_access(self.access.record, key, action, whom, detail)

    def names_of(self, entries: Iterable[Entry]) -> dict[Whom, str]:
        """Return what the people of these entries are called now, those who are enrolled here."""
        people = {entry.person for entry in entries if entry.person is not None}
        here = [whom for whom in people if whom[0] == self._origin]
        found = {whom: find_name(self.gallery, whom[1]) for whom in here}
        return {whom: name for whom, name in found.items() if name is not None}

    async def read_log(self, person: int) -> list[dict[str, Any]]:
        """Return what the audit log says to a person about themselves."""
        entries = await self.ask_access(self.access.entries_of, (self._origin, person))
        return [tell_person(entry) for entry in entries]

    async def ask(
        self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call what waits for the gallery, without keeping anyone else waiting."""
        return await asyncio.wrap_future(self._askers.submit(function, *args, **kwargs))

    async def ask_access(
        self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call what waits for the keys or the audit log."""
        return await asyncio.wrap_future(self._doorkeeper.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Finish what was begun, and end the threads."""
        self.inference.close()
        self._askers.shutdown()
        self._doorkeeper.shutdown()


def find_name(gallery: Gallery, person: int) -> str | None:
    """Return the name of a person, or None if there is no such person."""
    try:
        return gallery.person(person).name
    except UnknownPersonError:
        return None
