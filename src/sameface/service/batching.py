"""Embed the faces of many requests together, a few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from sameface.arrays import Crops, Embeddings

Embed = Callable[[Crops], Embeddings]


class Waiting:
    """The faces of one picture that wait to be embedded, and the rows that are there so far."""

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
        """Return whether anyone still waits for the rows; who does once does to the end."""
        if not self.started:
            self.started = self.done.set_running_or_notify_cancel()
        return self.started

    def add(self, rows: Embeddings) -> None:
        """Keep rows; with the last the wait is over."""
        self.rows.append(rows)
        if not len(self.crops):
            self.done.set_result(np.concatenate(self.rows))


class Batcher:
    """One thread that embeds what is waiting, in batches that are shared by all who wait.

    Nothing is delayed to fill a batch: the next one holds what came while the last was embedded. A picture
    with many faces takes part in several batches, and lets others in between.

    Args:
        embed: From `(n, size, size, 3)` crops to `(n, d)` rows.
        size: The most crops of a batch.
        observe: Told the size of every batch.
    """

    def __init__(self, embed: Embed, *, size: int, observe: Callable[[int], None]) -> None:
        self._embed = embed
        self._size = size
        self._observe = observe
        self._queue: deque[Waiting] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "embed")

    def submit(self, crops: Crops) -> Future[Embeddings]:
        """Return the rows of one crop or more, as soon as they are there."""
        waiting = Waiting(crops)
        with self._lock:
            self._queue.append(waiting)
        self._thread.submit(self._work)
        return waiting.done

    def close(self) -> None:
        """Embed what is waiting, and end the thread."""
        self._thread.shutdown()

    def _work(self) -> None:
        """Embed batch after batch until nobody waits."""
        while parts := self._next_batch():
            crops = np.concatenate([part for _, part in parts])
            self._observe(len(crops))
            try:
                rows = self._embed(crops)
            except Exception as error:  # noqa: BLE001, an edge of the process: whoever waits is told
                self._drop([waiting for waiting, _ in parts], error)
            else:
                hand_out(parts, rows)

    def _next_batch(self) -> list[tuple[Waiting, Crops]]:
        """Return who takes part in the next batch, with which crops."""
        parts: list[tuple[Waiting, Crops]] = []
        room = self._size
        with self._lock:
            for _ in range(len(self._queue)):
                waiting = self._queue.popleft()
                if waiting.wanted():
                    parts.append((waiting, waiting.take(room)))
                    room -= len(parts[-1][1])
                    if len(waiting.crops):
                        self._queue.append(waiting)  # behind those who have had nothing yet
                if not room:
                    break
        return parts

    def _drop(self, failed: list[Waiting], error: Exception) -> None:
        """Tell everyone who took part in a batch of its error."""
        with self._lock:
            self._queue = deque(waiting for waiting in self._queue if waiting not in failed)
        for waiting in failed:
            waiting.done.set_exception(error)


def hand_out(parts: list[tuple[Waiting, Crops]], rows: Embeddings) -> None:
    """Give everyone their rows of a batch."""
    start = 0
    for waiting, crops in parts:
        waiting.add(rows[start : start + len(crops)])
        start += len(crops)
