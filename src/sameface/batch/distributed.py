"""Search many pictures on a Ray cluster, each content once, as Ray Data jobs."""

from __future__ import annotations

import hashlib
import logging
import pickle
import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from sameface.batch.engine import Finder, Result
from sameface.batch.journal import Failure, FoundFaces, Journal, Outcome
from sameface.batch.sources import Picture
from sameface.errors import BatchError, ImageError

BLOCK = 4096  # pictures of one Ray Data job; the journal keeps each result when it comes
BATCH = 4  # pictures that a worker gets at a time, and that are repeated if it dies
CHANGED = "its file changed while the run went on: run it again"

Rows: TypeAlias = dict[str, Any]  # columns by name, as Ray Data has them


class RayError(BatchError):
    """Ray is not installed, or there is no cluster at the address."""

    code = "no_ray"
    message = "cannot use the Ray cluster {address!r}: {reason}"
    address: str
    reason: str


def embed_on_ray(
    pictures: Iterable[Picture], finder: Finder, *, address: str, workers: int, journal: Journal | None = None
) -> Generator[Result, None, None]:
    """Yield the result for each picture, in order, as `embed_pictures` does, from workers of a Ray cluster.

    The workers first hash every content, then search each unknown one once. Ray replaces a worker that dies and
    repeats its pictures. Only this process writes the journal, so that it holds every picture exactly once. The
    workers read files, plain tar files and weights by their paths, which must be the same on every machine.

    Args:
        pictures: From `open_pictures`; those in compressed tar files fail.
        finder: Load its recognizer with `threads=1`.
        address: Of the cluster: `auto`, `host:port`, or `local` for one on this machine.
        workers: Their number, each on one core.
        journal: As in `embed_pictures`.

    Raises:
        RayError: Ray is not installed, or there is no cluster at the address.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    if journal is None:
        with Journal.open() as kept:
            yield from embed_on_ray(pictures, finder, address=address, workers=workers, journal=kept)
        return
    with connected(address) as ray:
        journal.begin()
        left = iter(pictures)
        while block := list(islice(left, BLOCK)):
            yield from RayBlock(ray, block, finder, workers, journal).search()


@dataclass(slots=True, eq=False)
class RayBlock:
    """Some thousand pictures that pass through the cluster together."""

    ray: Any
    pictures: Sequence[Picture]
    finder: Finder
    workers: int
    journal: Journal
    hashes: dict[int, str] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    new: set[int] = field(default_factory=set)

    def search(self) -> Iterator[Result]:
        """Yield the result for each picture, in order."""
        self._hash_all()
        first: dict[str, int] = {}
        for number, sha256 in self.hashes.items():
            if not self.journal.holds(self.finder.pipeline, sha256):
                first.setdefault(sha256, number)
        self._search(list(first.values()))
        # Copies of a picture that failed must fail under their own names.
        lost = {self.hashes[number] for number in self.failures if number in self.hashes}
        chosen = set(first.values())
        self._search([one for one, sha256 in self.hashes.items() if sha256 in lost and one not in chosen])
        for number, picture in enumerate(self.pictures):
            yield self._finish(number, picture)

    def _hash_all(self) -> None:
        """Find the SHA-256 of every picture."""
        unknown = []
        for number, picture in enumerate(self.pictures):
            sha256 = self.journal.hash_of(picture.name, picture.stamp)
            if sha256 is None:
                unknown.append(number)
            else:
                self.hashes[number] = sha256
        for row in self._run(unknown, hash_pictures, batch_size=BATCH, num_cpus=1):
            number, found = row["number"], pickle.loads(row["answer"])  # noqa: S301, from our own workers
            if isinstance(found, Failure):
                self.failures[number] = found
                continue
            self.hashes[number] = found
            self.journal.keep_hash(self.pictures[number].name, self.pictures[number].stamp, found)
        self.hashes = dict(sorted(self.hashes.items()))

    def _search(self, numbers: list[int]) -> None:
        """Search pictures, and keep each result when it comes."""
        how = {"fn_constructor_args": (self.finder,), "concurrency": self.workers}
        for row in self._run(numbers, RaySearcher, batch_size=BATCH, num_cpus=1, **how):
            number: int = row["number"]
            outcome: Outcome = pickle.loads(row["answer"])  # noqa: S301, from our own workers
            self.new.add(number)
            if isinstance(outcome, FoundFaces):
                self.journal.keep(self.finder.pipeline, self.hashes[number], outcome)
            else:
                self.failures[number] = outcome

    def _run(self, numbers: Sequence[int], work: Any, **how: Any) -> Iterator[Rows]:
        """Yield Ray Data's row for each picture, after `work`."""
        items = []
        for number in numbers:
            picture = self.pictures[number]
            try:
                packed = pickle.dumps((picture.name, picture.read))
            except TypeError:
                error = ImageError(repr(picture.name), "a compressed tar file: unpack it for Ray")
                self.failures[number] = Failure.of(error)
                continue
            items.append({"number": number, "picture": packed, "sha256": self.hashes.get(number, "")})
        if items:
            data = self.ray.data.from_items(items, override_num_blocks=-(-len(items) // BATCH))
            yield from data.map_batches(work, **how).iter_rows()

    def _finish(self, number: int, picture: Picture) -> Result:
        """Return the result for a picture, and add it to the journal."""
        sha256, failure = self.hashes.get(number, ""), self.failures.get(number)
        new, same_as, found = number in self.new, "", None
        if failure is None:
            found = self.journal.find(self.finder.pipeline, sha256)
            assert found is not None
            same_as = "" if new else self.journal.first_of(sha256)
        result = Result(picture, sha256, found, failure, same_as, new)
        self.journal.add(result.entry)
        return result


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; disconnect at the end unless it was connected before."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RayError(address, "Ray is not installed: pip install 'sameface[ray]'") from error
    before = ray.is_initialized()
    if not before:
        try:
            check_address(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:  # a refused connection is an OSError
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise RayError(address, reason[:1].lower() + reason[1:]) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if not before:
            ray.shutdown()


def check_address(address: str) -> None:
    """Connect to `host:port` once, or raise `OSError`: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def hash_pictures(rows: Rows) -> Rows:
    """Return the SHA-256 of pictures, or why they cannot be read."""
    return answer_rows(rows, [read_and_hash(packed)[-1] for packed in rows["picture"]])


class RaySearcher:
    """A worker of the cluster; it opens the networks once."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def __call__(self, rows: Rows) -> Rows:
        """Return the outcomes of pictures."""
        return answer_rows(rows, [self._find(*pair) for pair in zip(rows["picture"], rows["sha256"], strict=True)])

    def _find(self, packed: bytes, sha256: str) -> Outcome:
        name, data, found = read_and_hash(packed)
        if isinstance(found, Failure):
            return found
        if found != sha256:
            return Failure.of(ImageError(repr(name), CHANGED))
        return self._finder.find(data, repr(name))


def read_and_hash(packed: bytes) -> tuple[str, bytes, str | Failure]:
    """Return name, bytes and SHA-256 of a picture; no bytes and a failure if it cannot be read."""
    name, read = pickle.loads(packed)  # noqa: S301, from our own run
    try:
        data: bytes = read()
    except ImageError as error:
        return name, b"", Failure.of(error)
    return name, data, hashlib.sha256(data).hexdigest()


def answer_rows(rows: Rows, answers: Sequence[object]) -> Rows:
    """Return answers as columns that Ray Data can hold."""
    packed = np.empty(len(answers), object)
    packed[:] = [pickle.dumps(answer) for answer in answers]
    return {"number": rows["number"], "answer": packed}
