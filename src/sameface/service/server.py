"""Run the service on a port until a signal ends it, with limits on connections and slow clients."""

from __future__ import annotations

import asyncio
import ipaddress
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, cast

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from sameface.service.metrics import Metrics

BACKLOG = 100
CONNECTIONS = 512  # at once; half of the files that the process may open, if those are fewer
GRACE_SECONDS = 60  # for what was accepted before the service ends
HEAD_SECONDS = 30.0  # for the head of a request, from the connection or its first byte on
# In which nothing comes on a connection until it is closed: longer than clients (5) and proxies (60) keep
# theirs, or a request that they send on it at that moment is lost.
IDLE_SECONDS = 75
READ_SECONDS = 30.0  # for the client to take a piece of an answer
ANSWER_SECONDS = 300.0  # for the client to take a whole answer
FIRST_SECONDS = 1.0  # for a new connection to send its request, where others can make room
STUCK_SECONDS = 5.0  # for the client to take a piece of an answer, where room is needed
KEPT = 4  # the rank of a connection that is never closed for others
SEND_BUFFER = 131_072  # bytes of answers in the kernel for a connection; Linux would take up to 4 MB


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen, with TLS if there is a certificate."""

    host: str  # an address of this machine, or its name
    port: int  # 0 takes any free port
    certificate: str | None = None  # a PEM file
    private_key: str | None = None  # a PEM file; None if the certificate's file holds the key


def max_connections() -> int:
    """Return how many connections may be open at once; one address may have half of them."""
    try:
        import resource  # Windows has none
    except ImportError:
        return CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with limits on connections, heads and slow readers.

    Over the limit for all connections, or for those of one address, one of them is closed: the one that has
    waited for longest of the first kind that there is. The kinds are: without a request for `FIRST_SECONDS`;
    with an answer that was not read for `STUCK_SECONDS`; without a request; idle. If there is none, the new
    one is closed. A connection whose request has arrived is kept, even if it was not read yet.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None
        # The cycle whose answer is read slowly, and when it must be read.
        self._answer: tuple[object, float] = (None, 0.0)
        self._since = 0.0  # when it began to wait: for its first request, for the next, or to be read
        self._metrics: Metrics = self.config.app.state.sameface.metrics  # type: ignore[union-attr]

    @property
    def address(self) -> str:
        """The address at the other end: behind a proxy, that of the proxy."""
        return self.client[0] if self.client else ""

    @property
    def rank(self) -> int:
        """The kind of connection that this is: where one must be closed, the lowest; `KEPT` is not closed."""
        waited = self.loop.time() - self._since
        if self.cycle is None:
            return 0 if waited > FIRST_SECONDS else 2
        if self.flow.write_paused:
            return 1 if waited > STUCK_SECONDS else KEPT
        return 3 if self.cycle.response_complete else KEPT

    @property
    def unread(self) -> bool:
        """Whether the client has sent something that was not read yet, such as its first request."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.transport.get_extra_info("socket"), selectors.EVENT_READ)
            return bool(selector.select(0))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the deadline for a head, and make room for this connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1, low=0)  # whatever is not read pauses; TLS cannot do 0
        self._since = self.loop.time()
        self._wait()
        self._make_room()
        self._metrics.connections.set(len(self.connections))

    def _make_room(self) -> None:
        """Close a connection if there are too many."""
        everyone = cast("set[LimitedProtocol]", self.connections)
        here, most = [each for each in everyone if each.address == self.address], max_connections()
        crowd = here if len(here) > most // 2 else everyone
        if crowd is everyone and len(everyone) <= most:
            return
        others = sorted(set(crowd) - {self}, key=lambda each: (each.rank, each._since))
        waiting = (each for each in others if each.rank < KEPT)
        next((each for each in waiting if each.flow.write_paused or not each.unread), self)._drop("full")

    def _drop(self, reason: str) -> None:
        """Close at once; unread bytes are lost."""
        self._metrics.dropped.labels(reason).inc()
        self.connections.discard(self)
        self.transport.abort()

    def pause_writing(self) -> None:
        """Set a deadline for a client that does not read."""
        super().pause_writing()
        self._since = now = self.loop.time()
        if self._answer[0] is not self.cycle:
            self._answer = (self.cycle, now + ANSWER_SECONDS)
        wait = min(READ_SECONDS, self._answer[1] - now)
        self._read_deadline = self.loop.call_later(wait, self._drop, "slow")

    def resume_writing(self) -> None:
        """Cancel the deadline: the client has read everything."""
        super().resume_writing()
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def data_received(self, data: bytes) -> None:
        """Keep the deadline if the head is not complete yet."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Note when the connection became idle."""
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        super().connection_lost(exc)
        self._wait_no_longer()
        self.resume_writing()
        self._metrics.connections.set(len(self.connections))

    def _wait(self) -> None:
        """Set a deadline while a head is due; cancel it once the head has come."""
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_longer()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _wait_no_longer(self) -> None:
        """Cancel the deadline for the head."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """Close the connection, with a reason if a request has begun."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self.send_400_response(f"the head of the request did not come within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(place: ListenAddress) -> socket.socket:
    """Take the port; `OSError` if it is taken or not allowed."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listening = socket.create_server((place.host, place.port), family=family, backlog=BACKLOG)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
    return listening


def address_of(place: ListenAddress, listening: socket.socket) -> str:
    """Return the URL of the service."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    scheme = "http" if place.certificate is None else "https"
    return f"{scheme}://{host}:{listening.getsockname()[1]}"


def run(app: FastAPI, place: ListenAddress, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, which raises `SystemExit`, and finish the accepted requests."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what uvicorn goes back to when it is done
    uvicorn.Server(configure(app, place)).run(sockets=[listening])


def configure(app: FastAPI, place: ListenAddress) -> uvicorn.Config:
    """Return the settings of uvicorn."""
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.private_key,
    )
