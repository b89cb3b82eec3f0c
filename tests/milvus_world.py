"""A Milvus server for the tests: `milvus-lite`, which the package of that name runs in Python."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

INSTALL = "needs Milvus: pip install -c constraints.txt --group ci"


class Server:
    """A server in a process of its own, which can be stopped for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Run it, with what it had."""
        words = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self._folder / "data")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--host", "127.0.0.1", "--port", str(self.port)], stdout=log, stderr=log
            )
        for _ in range(600):
            if self._process.poll() is None and self.answers():
                return
            time.sleep(0.1)
        pytest.fail((self._folder / "log").read_text())

    def place(self, people: str) -> str:
        """Return where a gallery can be made whose people are at a place, and whose faces are here."""
        return f"milvus://127.0.0.1:{self.port}/faces?people={quote(people, safe='')}"

    def answers(self) -> bool:
        """Return whether its port is open."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Let it hang, its port open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def served() -> Iterator[Server]:
    """Run a server that only this machine can reach; skip where it is not installed."""
    for module in ("pymilvus", "milvus_lite"):
        pytest.importorskip(module, reason=INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="sameface-"))
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
