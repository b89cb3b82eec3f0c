"""Connections to PostgreSQL: lent from a pool, replaced when lost, their errors told as ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from sameface.errors import SamefaceError
from sameface.gallery.address import PostgresAddress
from sameface.gallery.errors import GalleryBusyError, GalleryFileError, GalleryUnreachableError
from sameface.gallery.postgres.schema import Connection, use_schema

WAIT_SECONDS = 30.0  # for another program's write to end
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60  # then a transaction of a program that hangs is ended, so that others can write
MOST = 16  # connections at once
CANDIDATES = 200  # faces that a search takes from the index

Result = TypeVar("Result")


class Connections:
    """A pool of connections to one gallery."""

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # what it logs, our errors tell
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs=facts_of(address),
            min_size=0,
            max_size=MOST,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=CONNECT_SECONDS / 2,  # so that whoever waits sees an attempt begun anew
            num_workers=1,
            configure=self._configure,
            open=True,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Call something that changes nothing; once more with another connection if the first is lost."""
        connection, result = self.take(work)
        self.give(connection)
        return result

    def take(self, first: Callable[[Connection], Result]) -> tuple[Connection, Result]:
        """Take a connection, and call what is to be done with it first, as in `run`."""
        connection = self._lend()
        if (found := self._attempt(connection, first)) is None:
            self._pool.check()  # the others are lost too where the server was started again
            connection = self._lend()
            found = self._attempt(connection, first, last=True)
        assert found is not None
        return connection, found[0]

    def give(self, connection: Connection) -> None:
        """Give a connection back; a transaction that is open is rolled back."""
        with suppress(psycopg.Error):  # it may be lost just now
            if not connection.closed and connection.info.transaction_status:
                connection.rollback()
        self._pool.putconn(connection)

    def _lend(self) -> Connection:
        try:
            return self._pool.getconn()
        except PoolClosed as error:
            raise ValueError(f"gallery {self.address.shown!r}: it is a closed database") from error
        except PoolTimeout as error:
            reason = f"no connection within {CONNECT_SECONDS:.0f} s"
            raise GalleryUnreachableError(self.address.shown, reason) from error

    def _attempt(
        self, connection: Connection, work: Callable[[Connection], Result], *, last: bool = False
    ) -> tuple[Result] | None:
        """Return what `work` returns, or None if the connection was lost and this is not the last try."""
        try:
            with translated(self.address, connection):
                return (work(connection),)
        except BaseException as error:
            self.give(connection)
            if isinstance(error, GalleryUnreachableError) and not last:
                return None
            raise

    def _configure(self, connection: Connection) -> None:
        """Prepare a new connection."""
        use_schema(connection, self.address.schema)
        settings = {"lock_timeout": f"{WAIT_SECONDS}s", "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s"}
        if self.address.indexed:
            settings |= {"hnsw.ef_search": str(CANDIDATES), "hnsw.iterative_scan": "relaxed_order"}
        for setting in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", setting)


@contextmanager
def translated(address: PostgresAddress, connection: Connection, lost: str = "") -> Iterator[None]:
    """Turn the errors of a connection into ours; `lost` is what to add if it is lost."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, address, lost=lost if connection.closed else None) from error


def connect(address: PostgresAddress) -> Connection:
    """Return a connection outside any pool, or the reason why there is none.

    Raises:
        GalleryUnreachableError: The server does not answer, or lets us not in.
    """
    try:
        facts = facts_of(address)
    except psycopg.ProgrammingError as error:
        raise GalleryFileError(address.shown, words_of(error, address)) from error
    try:
        return psycopg.connect(**facts)
    except psycopg.Error as error:
        raise GalleryUnreachableError(address.shown, words_of(error, address)) from error


def facts_of(address: PostgresAddress) -> dict[str, Any]:
    """Return what `psycopg.connect` takes."""
    defaults = {"connect_timeout": int(CONNECT_SECONDS), "application_name": "sameface"}
    return defaults | conninfo_to_dict(address.conninfo) | address.secrets | {"autocommit": True}


def translate(error: psycopg.Error, address: PostgresAddress, *, lost: str | None) -> SamefaceError:
    """Return the error of ours that says the same; `lost` is None if the connection still stands."""
    if isinstance(error, (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)):
        return GalleryBusyError(address.shown, f"waited {WAIT_SECONDS:.0f} s for another program")
    words = words_of(error, address)
    if lost is not None:
        return GalleryUnreachableError(address.shown, f"{lost}{words}")
    return GalleryFileError(address.shown, words)


def words_of(error: psycopg.Error, address: PostgresAddress) -> str:
    """Return what an error says, in one line and without a password."""
    words = " ".join(str(error).split())
    for secret in address.secrets.values():
        words = words.replace(secret, "***") if secret else words
    return words
