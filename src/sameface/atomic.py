"""Write a file or a folder whole or not at all, and check who may read it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OTHERS = 0o077  # the permissions of group and others


@contextmanager
def replace_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a path to write to; it replaces `path` at the end, unless there was an error.

    Only the owner may read a `private` file, from its first byte on.
    """
    part = beside(path)
    try:
        if private:
            make_private(part)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def make_private(path: Path) -> None:
    """Create an empty file that only its owner may read or write."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


@contextmanager
def make_folder(path: Path) -> Iterator[Path]:
    """Give a new folder to fill; it becomes `path` at the end, unless there was an error or `path` exists."""
    if path.exists():
        raise FileExistsError(17, "there is something here already, choose another place", str(path))
    part = beside(path)
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def beside(path: Path) -> Path:
    """Return an unused path in the same folder."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def may_others(path: str) -> bool:
    """Return whether a file exists that others than its owner may read or write."""
    try:
        return os.name == "posix" and bool(Path(path).stat().st_mode & OTHERS)
    except (OSError, ValueError):
        return False
