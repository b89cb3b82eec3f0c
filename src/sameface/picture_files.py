"""Where pictures come from: every kind of source, and files found, read within a limit, hashed.

No file is decoded here, and Pillow is not imported.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from sameface.arrays import Image
from sameface.errors import ImageError, ImageTooLargeError

FileSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
ImageSource: TypeAlias = FileSource | Image | Any  # Any: a PIL image or a torch tensor, whose libraries stay optional

MAX_BYTES = 100_000_000
ENDINGS = "jpg jpeg jpe mpo png webp bmp tif tiff gif ppm pgm avif heic heif"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())


def resolve_source(source: ImageSource) -> FileSource | Image:
    """Return a picture as a file (path, bytes or open file) or as an array `(h, w, 3) uint8` RGB, or raise."""
    is_data = isinstance(source, str) and source.startswith("data:image/")
    if not is_data and (isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read")):
        return source
    return importlib.import_module("sameface.image_sources").convert(source)  # type: ignore[no-any-return]


def name_of(source: ImageSource) -> str:
    """Return the name of a picture in messages: its quoted path, or "the picture"."""
    if isinstance(source, str) and source.startswith("data:"):
        return "the picture"
    path = source if isinstance(source, os.PathLike) else getattr(source, "name", source)
    return repr(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the picture"


def hash_image(source: ImageSource) -> str:
    """Return the SHA-256 of a picture's content, as hexadecimal digits.

    Of a file the bytes are hashed; of an array the shape and the pixels.

    Raises:
        ImageError: The file cannot be read.
    """
    resolved = resolve_source(source)
    if isinstance(resolved, np.ndarray):
        return hashlib.sha256(repr(resolved.shape).encode() + resolved.tobytes()).hexdigest()
    return hashlib.sha256(read_bytes(resolved, name_of(resolved), MAX_BYTES)).hexdigest()


class BufferedPicture(io.BytesIO):
    """The bytes of a picture's file in memory, with its name."""

    def __init__(self, data: bytes, name: object) -> None:
        super().__init__(data)
        self.name = name


def buffer_image(source: ImageSource) -> ImageSource:
    """Read the file of a picture, so that `hash_image` and `read_image` see the same bytes.

    Raises:
        ImageError: The file cannot be read.
    """
    resolved = resolve_source(source)
    if isinstance(resolved, np.ndarray | bytes):
        return resolved
    path = resolved if isinstance(resolved, str | os.PathLike) else getattr(resolved, "name", None)
    return BufferedPicture(read_bytes(resolved, name_of(resolved), MAX_BYTES), path)


def find_pictures(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the pictures below `folder`, by their suffixes, in a fixed order; hidden ones are left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(place, name)


def read_bytes(source: str | os.PathLike[str] | bytes | BinaryIO, name: str, limit: int) -> bytes:
    """Return the bytes of a file of at most `limit` bytes; the position of an open file stays."""
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike):
        data = read_file(Path(source), name, limit)
    else:
        data = read_open(source, name, limit)
    if len(data) > limit:
        raise ImageTooLargeError(name, "bytes", len(data), limit)
    return data


def read_file(path: Path, name: str, limit: int) -> bytes:
    """Return the bytes of the file at `path`; a large one is refused before it is read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ImageTooLargeError(name, "bytes", size, limit)
            return file.read(limit + 1)  # the size of a device is 0
    except OSError as error:
        raise ImageError(name, (error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise ImageError(name, f"not a path ({error})") from error


def read_open(file: BinaryIO, name: str, limit: int) -> bytes:
    """Return the rest of an open file, `limit` + 1 bytes at most, and restore its position."""
    try:
        start = file.tell()
        data = file.read(limit + 1)
        file.seek(start)
    except OSError as error:
        raise ImageError(name, f"not a file that can be read twice ({error}): give its bytes") from error
    return data
