"""The files of a gallery: made private, deleted with the files beside them, and the disk that they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sameface.atomic import make_private
from sameface.errors import SamefaceError
from sameface.gallery.errors import GalleryFileError

COPIES = 3  # of a file that its log may hold: a transaction over all rows, VACUUM, and what values grow by
LEAST = 1 << 20  # bytes
MEGABYTE = 1e6
COMPANIONS = ("-wal", "-shm", "-journal")  # endings of the files that SQLite keeps beside a database
OLD_INDEX = ("-codes", "-codes.new")  # of the search index that versions up to 0.1.0 kept beside a large gallery


def make_private_file(path: str) -> None:
    """Make an empty file that only its owner may read or write."""
    try:
        make_private(Path(path))
    except OSError as error:
        raise GalleryFileError(path, f"cannot make it: {error.strerror}") from error


def restoring_path(path: str) -> str:
    """Return where a backup is prepared to take the place of a gallery."""
    return f"{path}.restoring"


def upgraded_path(path: str | os.PathLike[str]) -> str:
    """Return where the upgrade of a gallery is built."""
    return f"{os.fspath(path)}.upgraded"


@contextmanager
def undeletable(path: str, why: str) -> Iterator[None]:
    """Raise the failure to delete a file as an error of the gallery."""
    try:
        yield
    except OSError as error:
        raise GalleryFileError(path, f"cannot delete it, and {why}: {error.strerror}") from error


def delete_files(path: str) -> None:
    """Delete a database and the files beside it."""
    delete_companions(path)
    delete_file(path)


def delete_companions(path: str) -> None:
    """Delete the log of a database, and an old index."""
    for ending in COMPANIONS + OLD_INDEX:
        delete_file(path + ending)


def delete_file(path: str) -> None:
    """Delete a file if it is there; on a read-only disk even to delete what is missing is an error."""
    if Path(path).exists():
        Path(path).unlink(missing_ok=True)


def check_space(path: str) -> None:
    """Raise unless the disk has room to change every row of a gallery file and to VACUUM it."""
    sizes = [each.stat().st_size for each in (Path(path), Path(f"{path}-wal")) if each.exists()]
    wanted, free = COPIES * sum(sizes) + LEAST, shutil.disk_usage(Path(path).absolute().parent).free
    if free < wanted:
        reason = f"this takes {wanted / MEGABYTE:.0f} MB of free space beside it, given {free / MEGABYTE:.0f} MB"
        raise GalleryFileError(path, f"{reason}: nothing is changed; make room and try again")


def clean_up(act: Callable[[], bool], left: str) -> str | None:
    """Clean up after a committed change, where a failure is a warning: the change is done.

    Args:
        act: Returns False if another program prevents it.
        left: What stays then, for the warning.
    """
    try:
        reason = None if act() else "another program reads an older view of the file"
    except (SamefaceError, OSError, MemoryError, KeyboardInterrupt) as error:
        reason = str(error) or type(error).__name__
    if reason is None:
        return None
    return f"the change is done, but {left} ({reason}): say `sameface gallery compact` later"
