"""The queue of albums to sort: counted, cancelled, forgotten after a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, get_args

from sameface.api_records import AlbumAnswer, JobState
from sameface.errors import SamefaceError
from sameface.service.access_file import ApiKey
from sameface.service.config import ServiceConfig
from sameface.service.errors import BusyError, NotFoundError
from sameface.service.metrics import Metrics

logger = logging.getLogger(__name__)

UNFINISHED = ("queued", "running")
STATES: tuple[JobState, ...] = get_args(JobState)


@dataclass(slots=True, eq=False)
class AlbumJob:
    """An album that is sorted; its progress changes."""

    id: str  # random, against guessing
    owner: str | None  # the name of the key that began it; None without keys
    total: int  # pictures
    done: int = 0
    state: JobState = "queued"
    result: AlbumAnswer | None = None
    error: Exception | None = None  # why it failed
    ended: float | None = None  # in seconds of the clock
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call a function when the job has ended in any way."""
        assert self.task is not None
        self.task.add_done_callback(lambda _: call())


Work = Callable[[AlbumJob], Coroutine[Any, Any, AlbumAnswer]]


class JobQueue:
    """The jobs of one service. One runs at a time, so that requests get their turns."""

    def __init__(self, config: ServiceConfig, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._jobs: dict[str, AlbumJob] = {}
        self._turn = asyncio.Lock()

    def check_room(self) -> None:
        """Raise `BusyError` if as many jobs as may be are under way."""
        self.forget_old()
        unfinished = sum(job.state in UNFINISHED for job in self._jobs.values())
        if unfinished >= self._config.jobs:
            raise BusyError(f"{unfinished} albums are under way", seconds=30)

    def start(self, owner: ApiKey, total: int, work: Work) -> AlbumJob:
        """Begin a job and return at once; `BusyError` if too many are under way."""
        self.check_room()
        job = AlbumJob(secrets.token_urlsafe(16), owner.name, total)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        self._count()
        return job

    def find(self, key: ApiKey, number: str) -> AlbumJob:
        """Return a job of this key; `NotFoundError` for those of others, cancelled or forgotten ones."""
        self.forget_old()
        job = self._jobs.get(number)
        if job is None or job.owner != key.name:
            raise NotFoundError(f"job {number!r} of yours")
        return job

    def remove(self, job: AlbumJob) -> None:
        """Cancel a job, and forget it with its result."""
        del self._jobs[job.id]
        if job.task is not None:
            job.task.cancel()
        self._count()

    async def close(self) -> None:
        """Cancel every job: no client could fetch the result."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: AlbumJob, work: Work) -> None:
        """Do the work when its turn comes, and keep the result or the error."""
        try:
            async with self._turn:
                job.state = "running"
                self._count()
                job.result = await work(job)
            job.state = "done"
        except asyncio.CancelledError:
            job.state = "cancelled"
        except SamefaceError as error:
            job.state, job.error = "failed", error
        except Exception as error:  # an edge of the process: the client hears of a bug
            logger.exception("a fault in a job")
            job.state, job.error = "failed", error
        finally:
            job.ended = self._clock()
            self._count()

    def forget_old(self) -> None:
        """Forget jobs that ended long ago, and of too many the oldest."""
        ended = [(job.ended, job) for job in self._jobs.values() if job.ended is not None]
        ended.sort(key=lambda pair: -pair[0])
        for rank, (when, job) in enumerate(ended):
            if rank >= self._config.jobs_kept or self._clock() - when > self._config.job_seconds:
                del self._jobs[job.id]
        self._count()

    def _count(self) -> None:
        """Update the metrics: jobs by state."""
        for state in STATES:
            count = sum(job.state == state for job in self._jobs.values())
            self._metrics.jobs.labels(state).set(count)
