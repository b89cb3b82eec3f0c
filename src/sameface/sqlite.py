"""Open SQLite files so that written rows are safe and deleted rows are overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 30.0  # for another program's write to end
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",  # VACUUM would leave a copy in the system's temporary folder
)


def connect(path: str, wait_seconds: float = WAIT_SECONDS) -> sqlite3.Connection:
    """Open an existing file for any number of threads; transactions are begun by hand."""
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Hold one transaction: commit at the end, roll back on an error. `BEGIN` only reads."""
    try:
        db.execute(begin)
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself gives up where the disk is full
            db.execute("ROLLBACK")
        raise
