"""Connections to PostgreSQL: a pool that replaces lost ones, and the driver's errors as errors of the gallery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
IDLE_SECONDS = 60  # then the server ends an idle transaction, so that others can write
MOST = 16  # connections at once
CANDIDATES = 200  # faces that a search takes from the index

Result = TypeVar("Result")


class Connections:
    """A pool of connections to one gallery."""

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # our errors say the same
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs=connection_parameters(address),
            min_size=0,
            max_size=MOST,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=CONNECT_SECONDS / 2,  # so that a waiting caller sees a second attempt
            num_workers=1,
            configure=self._configure,
            check=self._check,
            open=True,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection that works; roll back a transaction that an error leaves open."""
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._pool.connection())
            except PoolClosed as error:
                raise ValueError(f"gallery {self.address.shown!r}: it is a closed database") from error
            except PoolTimeout as error:
                reason = f"no connection within {CONNECT_SECONDS:.0f} s"
                raise GalleryUnreachableError(self.address.shown, reason) from error
            yield connection

    def run(self, work: Callable[[Connection], Result], *, last: bool = False) -> Result:
        """Return the result of a function that changes nothing; repeat it once if the connection is lost."""
        with self.lend() as connection:
            try:
                with translated(self.address, connection):
                    return work(connection)
            except GalleryUnreachableError:
                if last:
                    raise
        return self.run(work, last=True)

    def _check(self, connection: Connection) -> None:
        """Raise if a connection was lost: then the pool replaces it, and others that a restart has closed."""
        try:
            self._pool.check_connection(connection)
        except psycopg.Error:
            self._pool.check()
            raise

    def _configure(self, connection: Connection) -> None:
        use_schema(connection, self.address.schema)
        settings = {"lock_timeout": f"{WAIT_SECONDS}s", "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s"}
        if self.address.indexed:
            settings |= {"hnsw.ef_search": str(CANDIDATES), "hnsw.iterative_scan": "relaxed_order"}
        for setting in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", setting)


def connect(address: PostgresAddress) -> Connection:
    """Return a connection outside any pool; `GalleryUnreachableError` if the server does not answer."""
    try:
        parameters = connection_parameters(address)
    except psycopg.ProgrammingError as error:
        raise GalleryFileError(address.shown, format_error(error, address)) from error
    try:
        return psycopg.connect(**parameters)
    except psycopg.Error as error:
        raise GalleryUnreachableError(address.shown, format_error(error, address)) from error


def connection_parameters(address: PostgresAddress) -> dict[str, Any]:
    """Return the arguments of `psycopg.connect`."""
    defaults = {"connect_timeout": int(CONNECT_SECONDS), "application_name": "sameface"}
    return defaults | conninfo_to_dict(address.conninfo) | address.secrets | {"autocommit": True}


@contextmanager
def translated(address: PostgresAddress, connection: Connection, lost: str = "") -> Iterator[None]:
    """Raise the driver's errors as errors of the gallery; `lost` precedes the reason of a lost connection."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, address, lost=lost if connection.closed else None) from error


def translate(error: psycopg.Error, address: PostgresAddress, *, lost: str | None) -> SamefaceError:
    """Return the gallery's error for one of the driver; `lost` is None while the connection stands."""
    if isinstance(error, (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)):
        return GalleryBusyError(address.shown, f"waited {WAIT_SECONDS:.0f} s for another program")
    words = format_error(error, address)
    if lost is not None:
        return GalleryUnreachableError(address.shown, f"{lost}{words}")
    return GalleryFileError(address.shown, words)


def format_error(error: psycopg.Error, address: PostgresAddress) -> str:
    """Return the message of an error in one line, without passwords."""
    words = " ".join(str(error).split())
    for secret in address.secrets.values():
        words = words.replace(secret, "***") if secret else words
    return words
