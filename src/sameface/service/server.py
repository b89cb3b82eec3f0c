"""Run the service on a port until it is told to end."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

BACKLOG = 2048
GRACE_SECONDS = 60  # for what was accepted before the service ends
HEAD_SECONDS = 30.0  # for the head of a request, from the connection or its first byte on
# In which nothing comes on a connection until it is closed: longer than clients (5) and proxies (60) keep
# theirs, or a request that they send on it at that moment is lost.
IDLE_SECONDS = 75


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen.

    Attributes:
        host: An address of this machine, or its name.
        port: 0 takes any that is free.
        certificate: A PEM file, for TLS; None serves plain HTTP.
        private_key: The PEM file of its key; None if it is in the same file.
    """

    host: str
    port: int
    certificate: str | None = None
    private_key: str | None = None


class HeadInTime(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, but a client has only so long for the head of a request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on if the head is not whole yet."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._wait_no_longer()

    def _wait(self) -> None:
        """Set the deadline where a head is due and none is set; drop it where the head came."""
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_longer()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _wait_no_longer(self) -> None:
        """Drop the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """Hang up, and say why to who has begun to speak."""
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


def listen(place: Place) -> socket.socket:
    """Take the port.

    Raises:
        OSError: It is taken, or may not be had.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    return socket.create_server((place.host, place.port), family=family, backlog=BACKLOG)


def address_of(place: Place, listening: socket.socket) -> str:
    """Return where the service is, for people."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    scheme = "http" if place.certificate is None else "https"
    return f"{scheme}://{host}:{listening.getsockname()[1]}"


def run(app: ASGIApp, place: Place, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, and finish what was accepted.

    Raises:
        SystemExit: The service was told to end by SIGTERM.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what uvicorn goes back to when it is done
    uvicorn.Server(configure(app, place)).run(sockets=[listening])


def configure(app: ASGIApp, place: Place) -> uvicorn.Config:
    """Return how uvicorn is to serve."""
    return uvicorn.Config(
        app,
        http=HeadInTime,
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
