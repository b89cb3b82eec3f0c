"""Many pictures searched by the machines of a Ray cluster, each content once, with Ray Data."""

from __future__ import annotations

import hashlib
import logging
import pickle
import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from sameface.batch.engine import Finder, Result
from sameface.batch.journal import Failure, FoundFaces, Journal, Outcome
from sameface.batch.sources import Picture
from sameface.errors import BatchError, ImageError

BLOCK = 4096  # pictures of one Ray Data job; what a job has found is kept as it comes
BATCH = 4  # pictures that a worker is handed at a time: what is done again if it dies
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
    """Yield what becomes of each picture, in order, as `embed_pictures` does, by workers of a Ray cluster.

    First every content is hashed there, then each that is not known yet is searched, once. A worker that
    dies is replaced by Ray and its pictures are done again; the journal is written here alone, so that every
    picture is in it exactly once. The workers read files and plain tar files by their paths, which must be
    the same on every machine, as must those of the weights.

    Args:
        pictures: From `open_pictures`; out of a compressed tar file none can be read.
        finder: What to look for; its recognizer should be loaded with `threads=1`.
        address: Of the cluster: `auto`, `host:port`, or `local` for one on this machine.
        workers: How many, each on one core.
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


class RayBlock:
    """Some thousand pictures that go through the cluster together."""

    def __init__(self, ray: Any, pictures: Sequence[Picture], finder: Finder, workers: int, journal: Journal) -> None:
        self._ray = ray
        self._pictures = pictures
        self._finder = finder
        self._workers = workers
        self._journal = journal
        self._hashes: dict[int, str] = {}
        self._failures: dict[int, Failure] = {}
        self._new: set[int] = set()

    def search(self) -> Iterator[Result]:
        """Yield what becomes of each picture, in order."""
        self._hash_all()
        first: dict[str, int] = {}
        for number, sha256 in self._hashes.items():
            if not self._journal.holds(self._finder.pipeline, sha256):
                first.setdefault(sha256, number)
        self._search(list(first.values()))
        # Copies of a picture that failed must say so under their own names.
        lost = {self._hashes[number] for number in self._failures if number in self._hashes}
        chosen = set(first.values())
        self._search([one for one, sha256 in self._hashes.items() if sha256 in lost and one not in chosen])
        for number, picture in enumerate(self._pictures):
            yield self._finish(number, picture)

    def _hash_all(self) -> None:
        """Learn the content of every picture."""
        unknown = []
        for number, picture in enumerate(self._pictures):
            sha256 = self._journal.hash_of(picture.name, picture.stamp)
            if sha256 is None:
                unknown.append(number)
            else:
                self._hashes[number] = sha256
        for row in self._run(unknown, hash_pictures, batch_size=BATCH, num_cpus=1):
            number, found = row["number"], pickle.loads(row["answer"])  # noqa: S301, from our own workers
            if isinstance(found, Failure):
                self._failures[number] = found
                continue
            self._hashes[number] = found
            self._journal.keep_hash(self._pictures[number].name, self._pictures[number].stamp, found)
        self._hashes = dict(sorted(self._hashes.items()))

    def _search(self, numbers: list[int]) -> None:
        """Search pictures, and keep what is found in each as it comes."""
        how = {
            "fn_constructor_args": (self._finder,),
            "concurrency": self._workers,
            "batch_size": BATCH,
            "num_cpus": 1,
        }
        for row in self._run(numbers, Searcher, **how):
            number: int = row["number"]
            outcome: Outcome = pickle.loads(row["answer"])  # noqa: S301, from our own workers
            self._new.add(number)
            if isinstance(outcome, FoundFaces):
                self._journal.keep(self._finder.pipeline, self._hashes[number], outcome)
            else:
                self._failures[number] = outcome

    def _run(self, numbers: Sequence[int], work: Any, **how: Any) -> Iterator[Rows]:
        """Yield a row for each picture that Ray Data has put through `work`."""
        items = []
        for number in numbers:
            picture = self._pictures[number]
            try:
                packed = pickle.dumps((picture.name, picture.read))
            except TypeError:
                error = ImageError(repr(picture.name), "a compressed tar file: unpack it for Ray")
                self._failures[number] = Failure.of(error)
                continue
            items.append({"number": number, "picture": packed, "sha256": self._hashes.get(number, "")})
        if items:
            data = self._ray.data.from_items(items, override_num_blocks=-(-len(items) // BATCH))
            yield from data.map_batches(work, **how).iter_rows()

    def _finish(self, number: int, picture: Picture) -> Result:
        """Return what became of a picture, and write it down."""
        sha256, failure = self._hashes.get(number, ""), self._failures.get(number)
        new, same_as, found = number in self._new, "", None
        if failure is None:
            found = self._journal.find(self._finder.pipeline, sha256)
            assert found is not None
            same_as = "" if new else self._journal.first_of(sha256)
        result = Result(picture, sha256, found, failure, same_as, new)
        self._journal.add(result.entry)
        return result


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; let go of it at the end, if it was not connected before."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RayError(address, "Ray is not installed: pip install 'sameface[ray]'") from error
    before = ray.is_initialized()
    if not before:
        try:
            knock(address)
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


def knock(address: str) -> None:
    """See that somebody answers at `host:port`: Ray itself would try for minutes.

    Raises:
        OSError: Nobody does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def hash_pictures(rows: Rows) -> Rows:
    """Return the SHA-256 of pictures, or why they cannot be read."""
    answers = []
    for packed in rows["picture"]:
        _, read = pickle.loads(packed)  # noqa: S301, from our own run
        data = read_or_fail(read)
        answers.append(data if isinstance(data, Failure) else hashlib.sha256(data).hexdigest())
    return answer_rows(rows, answers)


class Searcher:
    """A worker of the cluster: it opens the networks once."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def __call__(self, rows: Rows) -> Rows:
        """Return what is found in pictures."""
        return answer_rows(rows, [self._find(*pair) for pair in zip(rows["picture"], rows["sha256"], strict=True)])

    def _find(self, packed: bytes, sha256: str) -> Outcome:
        name, read = pickle.loads(packed)  # noqa: S301, from our own run
        data = read_or_fail(read)
        if isinstance(data, Failure):
            return data
        if hashlib.sha256(data).hexdigest() != sha256:
            return Failure.of(ImageError(repr(name), CHANGED))
        return self._finder.find(data, repr(name))


def read_or_fail(read: Any) -> bytes | Failure:
    """Return the bytes of a picture, or why it cannot be read."""
    try:
        data: bytes = read()
    except ImageError as error:
        return Failure.of(error)
    return data


def answer_rows(rows: Rows, answers: Sequence[object]) -> Rows:
    """Return answers as columns that Ray Data can hold."""
    packed = np.empty(len(answers), object)
    packed[:] = [pickle.dumps(answer) for answer in answers]
    return {"number": rows["number"], "answer": packed}
