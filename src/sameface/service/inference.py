"""Find and embed the faces of many requests at once, within the memory: admission, turns, batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sameface.arrays import Crops, Embeddings
from sameface.embed import BATCH
from sameface.face import Choice, Face
from sameface.image import read_image
from sameface.recognizer import Recognizer
from sameface.service.config import ServiceConfig
from sameface.service.errors import BusyError
from sameface.service.metrics import Metrics
from sameface.service.schemas import Upload

Embed = Callable[[Crops], Embeddings]


class PendingCrops:
    """The faces of one picture that wait to be embedded, and the rows so far."""

    def __init__(self, crops: Crops) -> None:
        self.crops = crops
        self.rows: list[Embeddings] = []
        self.done: Future[Embeddings] = Future()
        self.started = False

    def take(self, most: int) -> Crops:
        """Take up to `most` crops away."""
        taken, self.crops = self.crops[:most], self.crops[most:]
        return taken

    def wanted(self) -> bool:
        """Return whether the request still waits for the rows; from then on it cannot be cancelled."""
        if not self.started:
            self.started = self.done.set_running_or_notify_cancel()
        return self.started

    def add(self, rows: Embeddings) -> None:
        """Keep rows; the last ones complete the future."""
        self.rows.append(rows)
        if not len(self.crops):
            self.done.set_result(np.concatenate(self.rows))


class Batcher:
    """One thread that embeds the faces of many requests in shared batches of at most `size` crops.

    Nothing is delayed to fill a batch: the next one holds what came while the last was embedded. A picture
    with many faces takes part in several batches, so that others get in between. `observe` gets the size of
    every batch.
    """

    def __init__(self, embed: Embed, *, size: int, observe: Callable[[int], None]) -> None:
        self._embed = embed
        self._size = size
        self._observe = observe
        self._queue: deque[PendingCrops] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "embed")

    def submit(self, crops: Crops) -> Future[Embeddings]:
        """Return the future rows of one crop or more."""
        waiting = PendingCrops(crops)
        with self._lock:
            self._queue.append(waiting)
        self._thread.submit(self._work)
        return waiting.done

    def close(self) -> None:
        """Embed the waiting crops, and end the thread."""
        self._thread.shutdown()

    def _work(self) -> None:
        """Embed batch after batch until none is waiting."""
        while parts := self._next_batch():
            crops = np.concatenate([part for _, part in parts])
            self._observe(len(crops))
            try:
                rows = self._embed(crops)
            except Exception as error:  # noqa: BLE001, an edge of the process: every request gets the error
                self._drop([waiting for waiting, _ in parts], error)
            else:
                hand_out(parts, rows)

    def _next_batch(self) -> list[tuple[PendingCrops, Crops]]:
        """Return the pictures of the next batch, and the crops of each."""
        parts: list[tuple[PendingCrops, Crops]] = []
        room = self._size
        with self._lock:
            for _ in range(len(self._queue)):
                waiting = self._queue.popleft()
                if waiting.wanted():
                    parts.append((waiting, waiting.take(room)))
                    room -= len(parts[-1][1])
                    if len(waiting.crops):
                        self._queue.append(waiting)  # behind those that have had no turn yet
                if not room:
                    break
        return parts

    def _drop(self, failed: list[PendingCrops], error: Exception) -> None:
        """Fail every picture of a batch."""
        with self._lock:
            self._queue = deque(waiting for waiting in self._queue if waiting not in failed)
        for waiting in failed:
            waiting.done.set_exception(error)


def hand_out(parts: list[tuple[PendingCrops, Crops]], rows: Embeddings) -> None:
    """Give everyone their rows of a batch."""
    start = 0
    for waiting, crops in parts:
        waiting.add(rows[start : start + len(crops)])
        start += len(crops)


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFaces:
    """The size of an upright picture in pixels, and all its faces or the chosen one."""

    width: int
    height: int
    faces: list[Face]
    crops: Crops  # (n, size, size, 3) uint8 RGB


class Inference:
    """A recognizer for many requests at once.

    Pictures take turns in the order they came: `workers` threads decode them and find the faces. One more thread
    embeds the faces of all.
    """

    def __init__(self, recognizer: Recognizer, config: ServiceConfig, metrics: Metrics) -> None:
        self._recognizer = recognizer
        self._config = config
        self._metrics = metrics
        self._turns = asyncio.Semaphore(config.workers)
        self._threads = ThreadPoolExecutor(config.workers, "picture")
        embed = recognizer.embedder.embed
        self._batcher = Batcher(embed, size=BATCH, observe=metrics.batch.observe) if config.batching else None
        self._pictures = 0  # accepted and not done
        self._faces = 0  # on their way to the embedder
        self._room = asyncio.Event()  # for more of them
        self._room.set()

    @contextlib.contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """Admit so many pictures for the block; `BusyError` if too many are waiting."""
        if self._pictures + pictures > self._config.queue + self._config.workers:
            raise BusyError(f"{self._pictures} pictures are waiting", self._retry_after())
        self._count(pictures)
        try:
            yield
        finally:
            self._count(-pictures)

    async def detect(
        self, upload: Upload, choice: Choice | None = None, *, min_quality: float = 0, patient: bool = False
    ) -> DetectedFaces:
        """Find the faces of a picture, or only the chosen one, as `Recognizer.cut_faces` does.

        Raises:
            ImageError, FaceError: As in `Recognizer.cut_faces`.
            BusyError: Its turn did not come in time, and the caller is not `patient`.
        """
        async with self._turn(patient=patient):
            await self._room.wait()
            return await asyncio.wrap_future(self._threads.submit(self._detect, upload, choice, min_quality))

    async def embed(self, seen: DetectedFaces) -> Embeddings:
        """Return the embeddings of faces, `(n, d) float32`."""
        self._metrics.faces.inc(len(seen.faces))
        if not seen.faces:
            return np.zeros((0, self._recognizer.embedder.spec.dimension), np.float32)
        self._count_faces(len(seen.faces))
        try:
            return await asyncio.wrap_future(self._submit(seen.crops))
        finally:
            self._count_faces(-len(seen.faces))

    def close(self) -> None:
        """Finish the work, and end the threads."""
        self._threads.shutdown()
        if self._batcher is not None:
            self._batcher.close()

    @contextlib.asynccontextmanager
    async def _turn(self, *, patient: bool) -> AsyncIterator[None]:
        """Wait for a worker, and hold it."""
        try:
            async with asyncio.timeout(None if patient else self._config.wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            reason = f"waited {self._config.wait_seconds:g} s for other pictures"
            raise BusyError(reason, self._retry_after()) from error
        try:
            yield
        finally:
            self._turns.release()

    def _detect(self, upload: Upload, choice: Choice | None, min_quality: float) -> DetectedFaces:
        """Decode a picture, find its faces and cut them out; the picture itself is dropped."""
        limits = self._config
        image = read_image(upload, max_bytes=limits.picture_bytes, max_pixels=limits.picture_pixels)
        name = repr(upload.name)
        faces, crops = self._recognizer.cut_faces(image, face=choice, name=name, min_quality=min_quality)
        return DetectedFaces(image.shape[1], image.shape[0], faces, crops)

    def _submit(self, crops: Crops) -> Future[Embeddings]:
        """Embed crops with those of other requests, or by themselves without batching."""
        if self._batcher is None:
            return self._threads.submit(self._recognizer.embedder.embed, crops)
        return self._batcher.submit(crops)

    def _count_faces(self, faces: int) -> None:
        """Count the crops in memory; too many keep further pictures from being decoded."""
        self._faces += faces
        if self._faces < self._config.faces:
            self._room.set()
        else:
            self._room.clear()

    def _count(self, pictures: int) -> None:
        """Count the pictures that were admitted."""
        self._pictures += pictures
        self._metrics.waiting.set(self._pictures)

    def _retry_after(self) -> int:
        """Return after how many seconds to try again, by the pictures that are waiting."""
        return 1 + self._pictures // (10 * self._config.workers)
