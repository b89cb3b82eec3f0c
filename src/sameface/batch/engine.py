"""Many pictures searched in order, each content once, by one process or by several."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from sameface.batch.finder import Failure, Finder, Found
from sameface.batch.journal import Entry, Journal
from sameface.batch.sources import Picture
from sameface.batch.workers import Alone, Crew, Job, Processes
from sameface.errors import ImageError

WINDOW = 16  # pictures for each worker that may be done before one that comes first

LeaveOut = Callable[[Picture, str], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one picture.

    Attributes:
        picture: The picture.
        sha256: Of its content; empty if it could not be read.
        found: Its faces; None if it failed or was left out.
        failure: Why it failed, or None.
        same_as: The earlier picture of this run with the same content; empty if there is none.
        new: Whether it was searched now, and not in an earlier run or as another picture.
    """

    picture: Picture
    sha256: str
    found: Found | None
    failure: Failure | None = None
    same_as: str = ""
    new: bool = False

    @property
    def entry(self) -> Entry:
        """What the journal keeps of a picture that was not left out."""
        outcome = self.failure or self.found
        assert outcome is not None
        return Entry(self.picture.name, self.sha256, outcome, self.same_as)


def embed_pictures(
    pictures: Iterable[Picture],
    finder: Finder,
    *,
    workers: int = 1,
    journal: Journal | None = None,
    leave_out: LeaveOut | None = None,
) -> Generator[Result, None, None]:
    """Yield what becomes of each picture, in order; a content that occurs twice is searched once.

    A picture that gives nothing is a result too. Few pictures are in memory at a time. Close the iterator to
    stop: what it has yielded is in the journal. With worker processes the calling program must be
    importable, so a script needs its `if __name__ == "__main__":`.

    Args:
        pictures: From `open_pictures`, any number.
        finder: What to look for; with several workers its recognizer should be loaded with `threads=1`.
        workers: Processes that search; 1 is this process.
        journal: What it finds here is not done again, what is done is kept here. None keeps nothing.
        leave_out: Told each picture and its SHA-256 before it is searched; True yields it without faces.

    Raises:
        JournalError: The journal cannot be written.
        WorkersError: The worker processes die before they begin.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    with ExitStack() as opened:
        kept = opened.enter_context(Journal.open()) if journal is None else journal
        crew: Crew = Alone(finder) if workers == 1 else Processes(finder, workers)
        opened.enter_context(crew)
        run = Run(crew, kept, finder.pipeline, leave_out)
        yield from run.search(pictures, 1 if workers == 1 else WINDOW * workers)


class Started:
    """A picture on its way.

    Attributes:
        job: Who searches it; None where that was done before, or by an earlier picture that is on its way.
        data: Its bytes, where the earlier picture may yet fail.
        result: What became of it, if that is known.
    """

    def __init__(self, picture: Picture, sha256: str = "") -> None:
        self.picture = picture
        self.sha256 = sha256
        self.job: Job | None = None
        self.data = b""
        self.result: Result | None = None

    @property
    def done(self) -> bool:
        """Whether it need not be waited for."""
        return self.job is None or self.job.outcome is not None


class Run:
    """One run over pictures."""

    def __init__(self, crew: Crew, journal: Journal, pipeline: str, leave_out: LeaveOut | None) -> None:
        self._crew = crew
        self._journal = journal
        self._pipeline = pipeline
        self._leave_out = leave_out
        self._searching: set[str] = set()  # contents that are on their way

    def search(self, pictures: Iterable[Picture], window: int) -> Iterator[Result]:
        """Yield what becomes of each picture, in order."""
        self._journal.begin()
        line: deque[Started] = deque()
        for picture in pictures:
            line.append(self._start(picture))
            while line and (line[0].done or len(line) >= window):
                yield self._finish(line.popleft())
        while line:
            yield self._finish(line.popleft())

    def _start(self, picture: Picture) -> Started:
        """Read a picture, unless its content is known, and have it searched."""
        data = None
        sha256 = self._journal.hash_of(picture.name, picture.stamp)
        if sha256 is None or not self._is_known(picture, sha256):
            try:
                data = picture.read()
            except ImageError as error:
                return failed(picture, error)
            sha256 = hashlib.sha256(data).hexdigest()
            self._journal.keep_hash(picture.name, picture.stamp, sha256)
        started = Started(picture, sha256)
        if self._leave_out is not None and self._leave_out(picture, sha256):
            started.result = Result(picture, sha256, None)
        elif data is not None and not self._journal.holds(self._pipeline, sha256):
            self._submit(started, data)
        return started

    def _is_known(self, picture: Picture, sha256: str) -> bool:
        """Return whether a picture of this content need not be read."""
        left_out = self._leave_out is not None and self._leave_out(picture, sha256)
        return left_out or self._journal.holds(self._pipeline, sha256)

    def _submit(self, started: Started, data: bytes) -> None:
        """Have a picture searched, unless one of the same content is on its way."""
        if started.sha256 in self._searching:
            started.data = data
            return
        self._searching.add(started.sha256)
        started.job = Job(repr(started.picture.name), data)
        self._crew.submit(started.job)

    def _finish(self, started: Started) -> Result:
        """Return what became of a picture, and write it down."""
        if started.result is not None and started.result.failure is None:
            return started.result  # left out
        result = started.result or self._collect(started)
        if result.found is not None and result.new:
            self._journal.keep(self._pipeline, result.sha256, result.found)
        self._journal.add(result.entry)
        return result

    def _collect(self, started: Started) -> Result:
        """Wait until a picture is searched."""
        picture, sha256 = started.picture, started.sha256
        if started.job is None:
            found = self._journal.find(self._pipeline, sha256)
            if found is not None:
                return Result(picture, sha256, found, same_as=self._journal.first_of(sha256))
            # The earlier picture of this content failed: this one must say so under its own name.
            self._submit(started, started.data)
        assert started.job is not None
        while started.job.outcome is None:
            self._crew.wait()
        self._searching.discard(sha256)
        outcome = started.job.outcome
        if isinstance(outcome, Failure):
            return Result(picture, sha256, None, outcome, new=True)
        return Result(picture, sha256, outcome, new=True)


def failed(picture: Picture, error: ImageError) -> Started:
    """Return a picture that cannot be read."""
    started = Started(picture)
    started.result = Result(picture, "", None, Failure.of(error))
    return started
