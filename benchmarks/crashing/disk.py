"""A small disk of its own that can be filled to the last page, and made read-only. Linux, as root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BALLAST = "ballast"
PIECE = 4096  # bytes, a page of a tmpfs


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Put a disk at a folder.

    Raises:
        PermissionError: It takes root, or the machine does not let it.
    """
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*words: str) -> None:
    """Run `mount`."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"a disk of its own cannot be mounted: {done.stderr.strip()}")


def fill(folder: Path, free: int) -> None:
    """Fill a disk but for so many bytes."""
    with (folder / BALLAST).open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(PIECE))
        file.truncate(max(os.fstat(file.fileno()).st_size - free, 0))


def free(folder: Path) -> None:
    """Make room again."""
    (folder / BALLAST).unlink(missing_ok=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a disk read-only for a while; nobody may have a file open for writing."""
    mount("-o", "remount,ro", str(folder))
    try:
        yield
    finally:
        mount("-o", "remount,rw", str(folder))
