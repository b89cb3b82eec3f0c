"""Where pictures come from: every kind of source, and files found, read within a limit, hashed.

No file is decoded here, and Pillow and torch are not imported: their pictures are told by the module of their type.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.errors import ImageError, ImageTooLargeError


class PillowImage(Protocol):
    """What is used of a `PIL.Image.Image`."""

    def getexif(self) -> Any:
        """Return the EXIF tags."""


class Tensor(Protocol):
    """What is used of a `torch.Tensor`: `(3, h, w)` or `(h, w, 3)`, uint8, or floats from 0 to 1."""

    def detach(self) -> Any:
        """Return it without its gradient."""


FileSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
ImageSource: TypeAlias = FileSource | Image | PillowImage | Tensor

MAX_BYTES = 100_000_000
ENDINGS = "jpg jpeg jpe mpo png webp bmp tif tiff gif ppm pgm avif heic heif"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())


def resolve_source(source: ImageSource) -> FileSource | Image:
    """Return a picture as a file (path, bytes or open file) or as an array `(h, w, 3) uint8` RGB.

    Raises:
        TypeError, ValueError: Something else, with the way out.
    """
    module = type(source).__module__
    if isinstance(source, str) and source.startswith("data:image/"):
        return read_data_string(source)
    if isinstance(source, np.ndarray):
        return expect_image(source)
    if module.startswith("PIL."):
        return importlib.import_module("sameface.image").from_pillow(source)  # type: ignore[no-any-return]
    if module == "torch" or module.startswith("torch."):
        return tensor_to_image(source)
    if isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read"):
        return source  # type: ignore[return-value]
    kinds = "a path, bytes, an open binary file, a NumPy array, a PIL image or a torch tensor"
    raise TypeError(f"a picture must be {kinds}, got {type(source).__name__}")


def read_data_string(text: str) -> bytes:
    """Return the bytes in a `data:image/...;base64,` string."""
    head, _, encoded = text.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("no base64")
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        reason = f"got {text[:40]!r}..."
        raise ValueError(
            f"the data: string of a picture must be base64 (data:image/png;base64,...), {reason}"
        ) from error


def expect_image(array: NDArray[Any]) -> Image:
    """Return an array `(h, w, 3) uint8`, or raise with the way out."""
    if array.dtype != np.uint8:
        way = "multiply by 255 if it holds 0 to 1, and .astype(np.uint8)"
        raise TypeError(f"image must be uint8, got {array.dtype}: {way}")
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    way = "give one picture at a time, RGB with the channels last"
    if array.ndim == 2:
        way = "np.stack([image] * 3, axis=-1) for grey"
    elif array.ndim == 3 and array.shape[2] == 4:
        way = "image[:, :, :3] drops the fourth channel"
    elif array.ndim == 3 and array.shape[0] == 3:
        way = "image.transpose(1, 2, 0) for channels first"
    raise ValueError(f"image must have shape ('h', 'w', 3), got {array.shape}: {way}")


def tensor_to_image(tensor: Any) -> Image:
    """Return a torch tensor as an array `(h, w, 3) uint8`."""
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        raise ValueError(f"a tensor must be one picture at a time, got {shape}: tensor[0] for the first")
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        raise ValueError(f"a tensor must have shape (3, h, w) or (h, w, 3), got {shape}")
    pixels = tensor.detach().cpu()
    if str(pixels.dtype) != "torch.uint8":
        if not pixels.is_floating_point():
            raise TypeError(f"a tensor must be uint8 or floating point, got {pixels.dtype}")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise ValueError(f"a tensor of floats must hold 0 to 1, got {low:g} to {high:g}: undo the normalisation")
        pixels = (pixels.float() * 255).round().byte()
    image: Image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy() if shape[0] == 3 else pixels.numpy())
    return image


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
