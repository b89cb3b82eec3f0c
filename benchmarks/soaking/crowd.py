"""Clients that come in crowds: idle ones, ones that read slowly, and small working ones beside them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Awaitable, Callable

import httpx

IDLE, SLOW, WORKING = 1000, 150, 64
RAMP = 20.0  # seconds in which a crowd arrives
BACK = 30.0  # seconds until a client whose connection was closed comes back
PAUSE = 4.0  # seconds between two requests of a working client
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PIPELINED, SIP = 200, 500  # requests of a slow reader, and bytes that it reads a second
Blame = Callable[[str], None]


class Crowd:
    """The clients of one service; everything is on 127.0.0.1 and ends with the soak.

    Args:
        address: Of the service.
        blame: Told of every wrong answer.
    """

    def __init__(self, address: httpx.URL, blame: Blame) -> None:
        self._address = address
        self._blame = blame
        self.health = [0.0]  # seconds of each request
        self.asked = self.closed = 0

    async def run(self) -> None:
        """Keep all clients busy until this is cancelled."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))  # of this process only
        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (WORKING, self._work),
            (IDLE, self._idle),
            (SLOW, self._read_slowly),
        ]
        begin = [(number * RAMP / count, act) for count, act in kinds for number in range(count)]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            for wait, act in begin:
                group.create_task(self._again(wait, act))

    async def _again(self, wait: float, act: Callable[[], Awaitable[None]]) -> None:
        """Be one client after the other."""
        while True:
            await asyncio.sleep(wait)
            with contextlib.suppress(OSError):
                await act()
            self.closed += 1
            wait = BACK

    async def _probe(self) -> None:
        """Measure /health every second."""
        async with httpx.AsyncClient(base_url=self._address, timeout=60, trust_env=False) as client:
            while True:
                start = time.perf_counter()
                await self._ask(client, "/health")
                self.health.append(time.perf_counter() - start)
                await asyncio.sleep(1)

    async def _work(self) -> None:
        """Ask something small again and again on one connection."""
        limits = httpx.Limits(keepalive_expiry=60)
        verify = False  # plain HTTP: to read the certificates would halt the whole crowd for 20 ms
        async with httpx.AsyncClient(
            base_url=self._address, timeout=60, trust_env=False, limits=limits, verify=verify
        ) as client:
            while True:
                await self._ask(client, "/v1/people?limit=1")
                await asyncio.sleep(PAUSE)

    async def _ask(self, client: httpx.AsyncClient, path: str) -> None:
        """Ask once."""
        self.asked += 1
        try:
            answer = await client.get(path)
        except httpx.HTTPError as error:
            self._blame(f"crowd: {path}: {type(error).__name__}: {error}")
            return
        if answer.status_code != 200:
            self._blame(f"crowd: {path}: {answer.status_code} {answer.text[:200]}")

    async def _idle(self) -> None:
        """Say nothing until the service closes the connection."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        with contextlib.closing(writer):
            await reader.read(1)

    async def _read_slowly(self) -> None:
        """Ask for much and read little, until the service closes the connection."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.settimeout(0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(connection, (self._address.host, self._address.port))
            await loop.sock_sendall(connection, LARGE * PIPELINED)
            while await loop.sock_recv(connection, SIP):
                await asyncio.sleep(1)
