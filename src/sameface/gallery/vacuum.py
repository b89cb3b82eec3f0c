"""Room for writing a gallery file anew, and a warning where that fails after a change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sameface.errors import SamefaceError
from sameface.gallery.errors import GalleryFileError

COPIES = 3  # of a file that its log may hold: a transaction over all rows, VACUUM, and what values grow by
LEAST = 1 << 20  # bytes
MEGABYTE = 1e6


def check_space(path: str) -> None:
    """Raise unless the disk has room for a change of every row of a gallery file, and for VACUUM after it.

    Raises:
        GalleryFileError: It has not.
    """
    sizes = [each.stat().st_size for each in (Path(path), Path(f"{path}-wal")) if each.exists()]
    wanted, free = COPIES * sum(sizes) + LEAST, shutil.disk_usage(Path(path).absolute().parent).free
    if free < wanted:
        reason = f"this takes {wanted / MEGABYTE:.0f} MB of free space beside it, given {free / MEGABYTE:.0f} MB"
        raise GalleryFileError(path, f"{reason}: nothing is changed; make room and try again")


def clean_up(act: Callable[[], bool], left: str) -> str | None:
    """Clean up after a change that is committed: whatever goes wrong then is no failure of the change.

    Args:
        act: Returns False where another program prevents it.
        left: What stays where it fails, in words.

    Returns:
        A warning; None if it is done.
    """
    try:
        reason = None if act() else "another program reads an older view of the file"
    except (SamefaceError, OSError, MemoryError, KeyboardInterrupt) as error:
        reason = str(error) or type(error).__name__
    if reason is None:
        return None
    return f"the change is done, but {left} ({reason}): say `sameface gallery compact` later"
