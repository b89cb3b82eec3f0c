"""Who does the work: this process, or several others that may die."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from types import TracebackType
from typing import Protocol, Self

from sameface.batch.finder import Failure, Finder, Outcome
from sameface.errors import BatchError, ImageError

AHEAD = 2  # pictures a worker has at a time: it need not wait for the next
TRIES = 2  # of a picture whose worker dies
DIED = "the process that searched it was killed twice: out of memory, or a fault of a decoder"


class WorkersError(BatchError):
    """A worker process ended before it could begin."""

    code = "no_workers"
    message = "one of {workers} worker processes ended before it began: is there memory enough? try fewer --workers"
    workers: int


class Job:
    """A picture that is being searched; `outcome` is None until that is done."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.tries = 0
        self.outcome: Outcome | None = None

    def end(self, outcome: Outcome) -> None:
        """Note what came of it, and let go of the bytes."""
        self.outcome = outcome
        self.data = b""


class Crew(Protocol):
    """Those who search pictures, until it is left."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def submit(self, job: Job) -> None:
        """Take a job on; wait while there is too much to do."""

    def wait(self) -> None:
        """Come back when more is done."""


class Alone:
    """This process, which does one picture after the other."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def submit(self, job: Job) -> None:
        """Do it at once."""
        job.end(self._finder.find(job.data, job.name))

    def wait(self) -> None:
        """Nothing is ever left to wait for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Processes:
    """Worker processes.

    One that dies is replaced, and what it had is done again; a picture on which two die is given up.

    Args:
        finder: What they do; its networks are opened once more in each.
        count: How many.
    """

    def __init__(self, finder: Finder, count: int) -> None:
        self._finder = finder
        self._workers = [Worker(finder) for _ in range(count)]

    def submit(self, job: Job) -> None:
        """Give a job to the worker that has least to do; wait while all have enough."""
        while all(len(worker.jobs) >= AHEAD for worker in self._workers):
            self.wait()
        self._give(job)

    def wait(self) -> None:
        """Take in what the workers have done, at least one thing; there must be something to wait for."""
        busy = {worker.line: worker for worker in self._workers if worker.jobs}
        for line in connection.wait(list(busy)):
            worker = busy[line]  # type: ignore[index]
            if not worker.receive():
                self._replace(worker)

    def _give(self, job: Job) -> None:
        min(self._workers, key=lambda worker: len(worker.jobs)).send(job)

    def _replace(self, worker: Worker) -> None:
        """Start another worker in the place of a dead one."""
        worker.close()
        if not worker.ready:
            raise WorkersError(len(self._workers))
        self._workers[self._workers.index(worker)] = Worker(self._finder)
        first = worker.jobs[0]  # the one it was at
        first.tries += 1
        if first.tries == TRIES:
            first.end(Failure.of(ImageError(first.name, DIED)))
        for job in worker.jobs:
            if job.outcome is None:
                self._give(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.close()


class Worker:
    """One worker process, and the line to it.

    Attributes:
        line: Jobs go out on it, outcomes come back in the same order.
        jobs: What it has been given and not answered.
        ready: Whether it ever came so far as to work.
    """

    def __init__(self, finder: Finder) -> None:
        # Spawned, not forked: the threads of ONNX Runtime do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.jobs: deque[Job] = deque()
        self.ready = False
        self.process = context.Process(target=serve_jobs, args=(finder, theirs), daemon=True)
        with interrupts_held():
            self.process.start()
        theirs.close()

    def send(self, job: Job) -> None:
        """Give it a job; that it is dead shows when the answer is awaited."""
        self.jobs.append(job)
        try:
            self.line.send((job.data, job.name))
        except OSError:
            return

    def receive(self) -> bool:
        """Take one message in; return False if it is dead."""
        try:
            outcome: Outcome | None = self.line.recv()
        except (EOFError, OSError):
            return False
        if outcome is None:
            self.ready = True
        else:
            self.jobs.popleft().end(outcome)
        return True

    def close(self) -> None:
        """Wait for its end."""
        self.line.close()
        self.process.join()


def serve_jobs(finder: Finder, line: connection.Connection[Outcome | None, tuple[bytes, str]]) -> None:
    """Do jobs in a worker process until the line is cut, as it is when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent sees to it
    inbox: queue.SimpleQueue[tuple[bytes, str] | None] = queue.SimpleQueue()
    # A thread reads, so that two who send each other much do not wait for each other for ever.
    threading.Thread(target=read_jobs, args=(line, inbox), daemon=True).start()
    answer(line, None)
    while (job := inbox.get()) is not None:
        answer(line, finder.find(*job))


def read_jobs(
    line: connection.Connection[Outcome | None, tuple[bytes, str]], inbox: queue.SimpleQueue[tuple[bytes, str] | None]
) -> None:
    """Put what comes on the line into the inbox, and None at its end."""
    while True:
        try:
            inbox.put(line.recv())
        except (EOFError, OSError):
            inbox.put(None)
            return


def answer(line: connection.Connection[Outcome | None, tuple[bytes, str]], outcome: Outcome | None) -> None:
    """Send an outcome to a parent, who may be gone."""
    try:
        line.send(outcome)
    except OSError:
        return


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, also from the processes that are started meanwhile, for their whole life."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would let go of Ctrl-C when it starts by itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
