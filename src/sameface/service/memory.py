"""Limits on the bytes of requests and answers in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import Gauge

from sameface.service.errors import BusyError


class HeldBytes:
    """The bytes of one request or answer."""

    def __init__(self, buffer: ByteBudget) -> None:
        self._buffer = buffer
        self.size = 0

    def take(self, size: int) -> None:
        """Hold more bytes; `BusyError` if those of all together would be too many."""
        self._buffer.add(size)
        self.size += size

    def keep(self) -> Callable[[], None]:
        """Hold the bytes beyond the block, until the returned function is called."""
        size, self.size = self.size, 0
        return lambda: self._buffer.add(-size)


class ByteBudget:
    """The bytes of all requests together, up to a limit."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self._size = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[HeldBytes]:
        """Hold bytes until the block ends."""
        held = HeldBytes(self)
        try:
            yield held
        finally:
            self.add(-held.size)

    def add(self, size: int) -> None:
        """Count bytes, or refuse them."""
        if size > 0 and self._size + size > self._limit:
            raise BusyError("other requests fill the memory")
        self._size += size
        self._gauge.set(self._size)
