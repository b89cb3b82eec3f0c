"""Search many pictures in order, each content once, in this process or in worker processes that may die."""

from __future__ import annotations

import hashlib
import multiprocessing
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Self

from sameface.batch.journal import Failure, FoundFaces, Journal, JournalEntry, Outcome
from sameface.batch.sources import Picture
from sameface.errors import BatchError, FaceError, ImageError
from sameface.face import Choice
from sameface.image import read_image
from sameface.recognizer import Recognizer

WINDOW = 16  # pictures per worker that may be finished before an earlier one
AHEAD = 2  # pictures that a worker holds at a time, so that it never waits for the next
TRIES = 2  # of a picture whose worker dies
DIED = "the process that searched it was killed twice: out of memory, or a fault of a decoder"

LeaveOut = Callable[[Picture, str], bool]


class WorkersError(BatchError):
    """A worker process ended before it could begin."""

    code = "no_workers"
    message = "one of {workers} worker processes ended before it began: is there memory enough? try fewer --workers"
    workers: int


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """Finds and embeds the faces of one picture; it can be sent to another process."""

    recognizer: Recognizer  # detector and embedder
    face: Choice | None = None  # the one to take, as in `Recognizer.embed_face`; None takes every one
    crops: bool = False  # also return the crops of the faces
    min_quality: float = 0  # the `Quality.total` that the one face must have; 0 takes every face

    @property
    def pipeline(self) -> str:
        """Everything that shapes the result; results of two pipelines are never mixed."""
        own = (self.recognizer.signature, self.face, self.crops, self.min_quality)
        return "/".join(map(str, (*own, *self.recognizer.detector.options)))

    def find(self, data: bytes, name: str) -> Outcome:
        """Return the faces in the bytes of a picture; `name` is its name in messages."""
        try:
            image = read_image(data)
            faces, crops = self.recognizer.cut_faces(image, face=self.face, name=name, min_quality=self.min_quality)
        except ImageError as error:
            return Failure(error.code, f"cannot read {name}: {error.reason}")
        except FaceError as error:
            return Failure.of(error)
        rows = self.recognizer.embedder.embed(crops)
        return FoundFaces(tuple(faces), rows, crops if self.crops else crops[:0])


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The result for one picture."""

    picture: Picture
    sha256: str  # of its content; empty if it could not be read
    found: FoundFaces | None  # its faces; None if it failed or was left out
    failure: Failure | None = None
    same_as: str = ""  # the earlier picture of this run with the same content; empty if there is none
    new: bool = False  # it was searched now, not in an earlier run or as another picture

    @property
    def entry(self) -> JournalEntry:
        """The journal's entry for a picture that was not left out."""
        outcome = self.failure or self.found
        assert outcome is not None
        return JournalEntry(self.picture.name, self.sha256, outcome, self.same_as)


def embed_pictures(
    pictures: Iterable[Picture],
    finder: Finder,
    *,
    workers: int = 1,
    journal: Journal | None = None,
    leave_out: LeaveOut | None = None,
) -> Generator[Result, None, None]:
    """Yield the result for each picture, in order; a content that occurs twice is searched once.

    A picture without a usable face is a result too. Few pictures are in memory at a time. Close the iterator to
    stop: every yielded result is in the journal. With worker processes the calling program must be importable,
    so a script needs its `if __name__ == "__main__":`.

    Args:
        pictures: From `open_pictures`, any number.
        finder: With several workers, load its recognizer with `threads=1`.
        workers: Processes that search; 1 is this process.
        journal: Results found here are not computed again; new ones are added. None keeps nothing.
        leave_out: Called with each picture and its SHA-256 before the search; True yields it without faces.

    Raises:
        JournalError: The journal cannot be written.
        WorkersError: The worker processes die before they begin.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    with ExitStack() as opened:
        kept = opened.enter_context(Journal.open()) if journal is None else journal
        pool = opened.enter_context(WorkerPool(finder, workers))
        run = BatchRun(pool, kept, finder.pipeline, leave_out or (lambda _picture, _sha256: False))
        yield from run.search(pictures, 1 if workers == 1 else WINDOW * workers)


@dataclass(slots=True, eq=False)
class SearchJob:
    """A picture to search; `outcome` is None until it is done."""

    name: str
    data: bytes
    tries: int = 0
    outcome: Outcome | None = None

    def end(self, outcome: Outcome) -> None:
        """Keep the outcome, and free the bytes."""
        self.outcome = outcome
        self.data = b""


@dataclass(slots=True, eq=False)
class PendingPicture:
    """A picture whose result is not yielded yet."""

    picture: Picture
    sha256: str
    result: Result | None = None
    job: SearchJob | None = None  # None if the content is known, or pending as an earlier picture
    data: bytes = b""  # kept while that earlier picture may still fail

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.job is None or self.job.outcome is not None


class BatchRun:
    """One run over pictures."""

    def __init__(self, pool: WorkerPool, journal: Journal, pipeline: str, leave_out: LeaveOut) -> None:
        self._pool = pool
        self._journal = journal
        self._pipeline = pipeline
        self._leave_out = leave_out
        self._searching: set[str] = set()  # contents with a pending job

    def search(self, pictures: Iterable[Picture], window: int) -> Iterator[Result]:
        """Yield the result for each picture, in order."""
        self._journal.begin()
        pending: deque[PendingPicture] = deque()
        for picture in pictures:
            pending.append(self._start(picture))
            while pending and (pending[0].done or len(pending) >= window):
                yield self._finish(pending.popleft())
        while pending:
            yield self._finish(pending.popleft())

    def _start(self, picture: Picture) -> PendingPicture:
        """Read a picture, unless its content is known, and submit it."""
        data = None
        sha256 = self._journal.hash_of(picture.name, picture.stamp)
        if sha256 is None or not (self._leave_out(picture, sha256) or self._journal.holds(self._pipeline, sha256)):
            try:
                data = picture.read()
            except ImageError as error:
                return PendingPicture(picture, "", Result(picture, "", None, Failure.of(error)))
            sha256 = hashlib.sha256(data).hexdigest()
            self._journal.keep_hash(picture.name, picture.stamp, sha256)
        if self._leave_out(picture, sha256):
            return PendingPicture(picture, sha256, Result(picture, sha256, None))
        pending = PendingPicture(picture, sha256)
        if data is not None and not self._journal.holds(self._pipeline, sha256):
            self._submit(pending, data)
        return pending

    def _submit(self, pending: PendingPicture, data: bytes) -> None:
        """Submit a picture, unless one of the same content is pending."""
        if pending.sha256 in self._searching:
            pending.data = data
            return
        self._searching.add(pending.sha256)
        pending.job = SearchJob(repr(pending.picture.name), data)
        self._pool.submit(pending.job)

    def _finish(self, pending: PendingPicture) -> Result:
        """Return the result for a picture, and add it to the journal."""
        if pending.result is not None and pending.result.failure is None:
            return pending.result  # left out
        result = pending.result or self._collect(pending)
        if result.found is not None and result.new:
            self._journal.keep(self._pipeline, result.sha256, result.found)
        self._journal.add(result.entry)
        return result

    def _collect(self, pending: PendingPicture) -> Result:
        """Wait until a picture is searched."""
        picture, sha256 = pending.picture, pending.sha256
        if pending.job is None:
            found = self._journal.find(self._pipeline, sha256)
            if found is not None:
                return Result(picture, sha256, found, same_as=self._journal.first_of(sha256))
            # The earlier picture of this content failed: this one must fail under its own name.
            self._submit(pending, pending.data)
        assert pending.job is not None
        while pending.job.outcome is None:
            self._pool.wait()
        self._searching.discard(sha256)
        outcome = pending.job.outcome
        if isinstance(outcome, Failure):
            return Result(picture, sha256, None, outcome, new=True)
        return Result(picture, sha256, outcome, new=True)


class WorkerPool:
    """Worker processes, or this process if `count` is 1.

    A worker that dies is replaced, and its jobs are repeated; a picture on which two die fails.
    """

    def __init__(self, finder: Finder, count: int) -> None:
        self._finder = finder
        self._workers = [Worker(finder) for _ in range(count)] if count > 1 else []

    def submit(self, job: SearchJob) -> None:
        """Give a job to the worker with the fewest; wait while all have enough."""
        if not self._workers:
            job.end(self._finder.find(job.data, job.name))
            return
        while all(len(worker.jobs) >= AHEAD for worker in self._workers):
            self.wait()
        self._give(job)

    def wait(self) -> None:
        """Receive from the workers, at least one message; a job must be pending."""
        busy = {worker.pipe: worker for worker in self._workers if worker.jobs}
        for pipe in connection.wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            if not worker.receive():
                self._replace(worker)

    def _give(self, job: SearchJob) -> None:
        min(self._workers, key=lambda worker: len(worker.jobs)).send(job)

    def _replace(self, worker: Worker) -> None:
        """Start another worker in the place of a dead one."""
        worker.close()
        if not worker.ready:
            raise WorkersError(len(self._workers))
        self._workers[self._workers.index(worker)] = Worker(self._finder)
        first = worker.jobs[0]  # the one that it worked on
        first.tries += 1
        if first.tries == TRIES:
            first.end(Failure.of(ImageError(first.name, DIED)))
        for job in worker.jobs:
            if job.outcome is None:
                self._give(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.close()


class Worker:
    """One worker process, and the pipe to it: jobs go out, outcomes come back in the same order."""

    def __init__(self, finder: Finder) -> None:
        # Spawned, not forked: the threads of ONNX Runtime do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.jobs: deque[SearchJob] = deque()  # sent and not answered
        self.ready = False
        self.process = context.Process(target=serve_jobs, args=(finder, other_end), daemon=True)
        with interrupts_held():
            self.process.start()
        other_end.close()

    def send(self, job: SearchJob) -> None:
        """Send a job; a dead worker is noticed when its answer is awaited."""
        self.jobs.append(job)
        with suppress(OSError):
            self.pipe.send((job.data, job.name))

    def receive(self) -> bool:
        """Receive one message; return False if the worker is dead."""
        try:
            outcome: Outcome | None = self.pipe.recv()
        except (EOFError, OSError):
            return False
        if outcome is None:
            self.ready = True
        else:
            self.jobs.popleft().end(outcome)
        return True

    def close(self) -> None:
        """Close the pipe, and wait for the end of the process."""
        self.pipe.close()
        self.process.join()


def serve_jobs(finder: Finder, pipe: connection.Connection[Outcome | None, tuple[bytes, str]]) -> None:
    """Do jobs in a worker process until the pipe is closed, as it is when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent handles it
    inbox: queue.SimpleQueue[tuple[bytes, str] | None] = queue.SimpleQueue()
    # A thread reads, so that two processes with full pipes do not wait for each other for ever.
    threading.Thread(target=read_jobs, args=(pipe, inbox), daemon=True).start()
    message: Outcome | None = None  # the first one says that the worker is ready
    while True:
        with suppress(OSError):  # the parent may be gone
            pipe.send(message)
        job = inbox.get()
        if job is None:
            return
        message = finder.find(*job)


def read_jobs(
    pipe: connection.Connection[Outcome | None, tuple[bytes, str]], inbox: queue.SimpleQueue[tuple[bytes, str] | None]
) -> None:
    """Move jobs from the pipe into the inbox, and put None at the end."""
    while True:
        try:
            inbox.put(pipe.recv())
        except (EOFError, OSError):
            inbox.put(None)
            return


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Block Ctrl-C in this block, and for their whole life in the processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would unblock Ctrl-C if it started by itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
