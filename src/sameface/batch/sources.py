"""Where pictures come from: files, folders, tar files and Parquet, one after the other in a fixed order."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from sameface.errors import ImageError, ImageTooLargeError
from sameface.picture_files import MAX_BYTES, SUFFIXES, find_pictures, read_bytes

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
# pyarrow's own errors are among these; it says NotImplementedError of a column that it cannot read.
PARQUET_ERRORS = (ImportError, KeyError, OSError, ValueError, NotImplementedError)
ROWS = 16  # of a Parquet file in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that is still to be read.

    Attributes:
        name: What it is called in results.
        read: Gives the bytes of its file, or raises an `ImageError`. Of a compressed tar file it is called
            before the next picture is asked for, or never.
        stamp: What changes when the file does: its size and time; empty where that is not known.
        person: The folder that it is in, which is the person's name in a folder of people; empty at the top.
    """

    name: str
    read: Callable[[], bytes]
    stamp: str = ""
    person: str = ""


def open_pictures(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Picture]:
    """Yield every picture of files, folders, tar files and Parquet files, in the order of their names there.

    A tar file, compressed or not, is told by its ending, and so is Parquet. A source that cannot be read, or
    only in part, yields a picture in the place of the rest that raises an `ImageError` when it is read.

    Args:
        sources: Paths. Of a folder every picture below it counts, hidden ones left out.
    """
    for source in map(Path, sources):
        yield from list_source(source)


def list_source(source: Path) -> Iterator[Picture]:
    """Yield the pictures of one source."""
    if source.is_dir():
        return (open_file(path, source) for path in find_pictures(source))
    if is_tar(source):
        return list_tar(source)
    if source.suffix.lower() == ".parquet":
        return list_parquet(source)
    return iter([open_file(source)])


def count_pictures(sources: Iterable[str | os.PathLike[str]]) -> int:
    """Return how many pictures `open_pictures` will yield; compressed tar files are unpacked for it."""
    return sum(count_source(source) for source in map(Path, sources))


def count_source(source: Path) -> int:
    """Return how many pictures a source holds."""
    if source.is_dir():
        return sum(1 for _ in find_pictures(source))
    if source.suffix.lower() == ".parquet":
        return count_rows(source)
    return sum(1 for _ in list_source(source))


def is_packed(source: Path) -> bool:
    """Return whether a source holds many pictures in one file, by its name."""
    return is_tar(source) or source.suffix.lower() == ".parquet"


def is_tar(source: Path) -> bool:
    """Return whether a file is a tar file by its name."""
    return source.name.lower().endswith(TAR_ENDINGS)


def open_file(path: Path, folder: Path | None = None) -> Picture:
    """Return the picture in a file of its own, which was found below a folder."""
    parts = () if folder is None else path.relative_to(folder).parts[:-1]
    read = partial(read_bytes, path, repr(str(path)), MAX_BYTES)
    return Picture(str(path), read, stamp_of(path), parts[0] if parts else "")


def stamp_of(path: Path) -> str:
    """Return size and time of a file; empty if it is not there."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{facts.st_size}/{facts.st_mtime_ns}"


def broken(source: Path, reason: str) -> Picture:
    """Return what stands for the part of a source that cannot be read."""
    return Picture(str(source), partial(refuse, repr(str(source)), reason))


def refuse(name: str, reason: str) -> bytes:
    """Raise the error of a picture that cannot be read."""
    raise ImageError(name, reason)


def list_tar(source: Path) -> Iterator[Picture]:
    """Yield the pictures of a tar file in the order of the file."""
    stamp, last = stamp_of(source), ""
    try:
        with tarfile.open(source, "r:*") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps every one it has seen
                last = member.name
                path = PurePosixPath(last)
                if member.isfile() and path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                    name = f"{source}:{last}"
                    read = open_member(source, tar, member, repr(name))
                    yield Picture(name, read, f"{stamp}/{member.offset_data}", path.parent.name)
    except TAR_ERRORS as error:
        where = f" after {last!r}" if last else ""
        yield broken(source, f"damaged or unreadable tar file{where} ({tell(error)})")


def open_member(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Callable[[], bytes]:
    """Return what reads a file inside a tar file: by its place, or in turn if it is compressed."""
    if member.size > MAX_BYTES:
        return partial(refuse_large, name, member.size)
    if isinstance(tar.fileobj, io.BufferedReader) and not member.issparse():
        return partial(read_place, source, member.offset_data, member.size, name)
    return partial(read_member, tar, member, name)


def refuse_large(name: str, size: int) -> bytes:
    """Raise the error of a picture of too many bytes."""
    raise ImageTooLargeError(name, "bytes", size, MAX_BYTES)


def read_place(source: Path, start: int, size: int, name: str) -> bytes:
    """Return so many bytes of a file."""
    try:
        with source.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise ImageError(name, tell(error)) from error
    if len(data) < size:
        raise ImageError(name, "damaged tar file (unexpected end of data)")
    return data


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    """Return the bytes of a file inside a tar file."""
    file = tar.extractfile(member)
    if file is None:
        raise ImageError(name, "not a file")
    try:
        return file.read()
    except TAR_ERRORS as error:
        raise ImageError(name, f"damaged tar file ({tell(error)})") from error


def tell(error: Exception) -> str:
    """Return why a file could not be read, in a few words."""
    told = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return told.splitlines()[0].rstrip(":").lower()


def list_parquet(source: Path) -> Iterator[Picture]:
    """Yield the pictures of a Parquet file row by row.

    They stand in a column of bytes, or in one of structs with `bytes` and `path`, as Hugging Face has it;
    of several in the one called `image`, or the first. What they are called is in `path`, or in a column
    `path`, `picture`, `name` or `file_name`; else it is the row's number. A column `person` says who it is;
    else the folder in the name does.
    """
    try:
        with open_parquet(source) as file:
            columns = choose_columns(file.schema_arrow)
            stamp, number = stamp_of(source), 0
            for batch in file.iter_batches(batch_size=ROWS, columns=list(filter(None, columns))):
                for row in batch.to_pylist():
                    yield open_row(source, row, columns, f"{stamp}/{number}")
                    number += 1
    except PARQUET_ERRORS as error:
        yield broken(source, refusal(error))


def count_rows(source: Path) -> int:
    """Return how many rows a Parquet file has; 1 if it cannot be read, for what is told of that."""
    try:
        with open_parquet(source) as file:
            choose_columns(file.schema_arrow)
            return int(file.metadata.num_rows)
    except PARQUET_ERRORS:
        return 1


def refusal(error: Exception) -> str:
    """Return why a Parquet file cannot be read."""
    if isinstance(error, ImportError):
        return "Parquet needs pyarrow: pip install 'sameface[parquet]'"
    if isinstance(error, KeyError):
        return "no column of pictures: wanted one of bytes, or of structs with 'bytes'"
    return f"damaged or unreadable Parquet file ({tell(error)})"


def open_parquet(source: Path) -> Any:
    """Open a Parquet file so that it is read a little at a time."""
    import pyarrow.parquet  # only now: an extra, and half a second

    return pyarrow.parquet.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)


def choose_columns(schema: Any) -> tuple[str, str, str]:
    """Return the columns of the picture, of its name and of the person; empty where there is none.

    Raises:
        KeyError: No column holds pictures.
    """
    import pyarrow.types as types

    names = {field.name: field.type for field in schema}
    images = [name for name, kind in names.items() if holds_bytes(kind)]
    if not images:
        raise KeyError("image")
    texts = {name for name, kind in names.items() if types.is_string(kind) or types.is_large_string(kind)}
    image = "image" if "image" in images else images[0]
    called = next((name for name in ("path", "picture", "name", "file_name") if name in texts), "")
    return image, called, "person" if "person" in texts else ""


def holds_bytes(kind: Any) -> bool:
    """Return whether a column of this type holds pictures."""
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and holds_bytes(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def open_row(source: Path, row: dict[str, Any], columns: tuple[str, str, str], stamp: str) -> Picture:
    """Return the picture of one row."""
    image, called, person = columns
    cell = row[image]
    inside = cell.get("path") if isinstance(cell, dict) else None
    data = cell["bytes"] if isinstance(cell, dict) else cell
    name = inside or (row[called] if called else None) or stamp.rpartition("/")[2]
    whole = f"{source}:{name}"
    who = row[person] if person else PurePosixPath(name).parent.name
    return Picture(whole, partial(take_bytes, data, repr(whole)), stamp, who or "")


def take_bytes(data: bytes | None, name: str) -> bytes:
    """Return the bytes of a row."""
    if data is None:
        raise ImageError(name, "the row holds no bytes")
    return read_bytes(data, name, MAX_BYTES)
