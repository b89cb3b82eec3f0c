"""List the pictures of files, folders, tar files and Parquet files, in a fixed order."""

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
# These include pyarrow's errors, and NotImplementedError for a column that it cannot read.
PARQUET_ERRORS = (ImportError, KeyError, OSError, ValueError, NotImplementedError)
ROWS = 16  # of a Parquet file in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that is not read yet."""

    name: str  # its name in results
    # Returns the bytes, or raises an `ImageError`; in a compressed tar file, call it before the next picture.
    read: Callable[[], bytes]
    stamp: str = ""  # changes when the file does: size and time; empty if unknown
    person: str = ""  # its folder, which is the person's name in a folder of people; empty at the top


def open_pictures(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Picture]:
    """Yield every picture of files, folders, tar files and Parquet files, in the order of their names there.

    The ending of a name decides whether a file is tar or Parquet. For an unreadable source, or the unreadable
    rest of one, a picture is yielded that raises an `ImageError` when it is read.

    Args:
        sources: Paths. A folder yields every picture below it, except hidden ones.
    """
    for source in map(Path, sources):
        yield from list_source(source)


def list_source(source: Path) -> Iterator[Picture]:
    """Yield the pictures of one source."""
    if source.is_dir():
        return (open_file(path, source) for path in find_pictures(source))
    if is_tar(source):
        return list_tar(source)
    return list_parquet(source) if is_parquet(source) else iter([open_file(source)])


def count_pictures(sources: Iterable[str | os.PathLike[str]]) -> int:
    """Return how many pictures `open_pictures` yields; it unpacks compressed tar files."""
    return sum(count_source(source) for source in map(Path, sources))


def count_source(source: Path) -> int:
    """Return how many pictures a source holds."""
    if is_parquet(source) and not source.is_dir():
        return count_rows(source)
    return sum(1 for _ in list_source(source))


def is_packed(source: Path) -> bool:
    """Return whether a source holds many pictures in one file, by its name."""
    return is_tar(source) or is_parquet(source)


def is_tar(source: Path) -> bool:
    """Return whether a file is a tar file by its name."""
    return source.name.lower().endswith(TAR_ENDINGS)


def is_parquet(source: Path) -> bool:
    """Return whether a file is a Parquet file by its name."""
    return source.suffix.lower() == ".parquet"


def open_file(path: Path, folder: Path | None = None) -> Picture:
    """Return the picture in a file, found below a folder or given itself."""
    parts = () if folder is None else path.relative_to(folder).parts[:-1]
    read = partial(read_bytes, path, repr(str(path)), MAX_BYTES)
    return Picture(str(path), read, stamp_of(path), parts[0] if parts else "")


def stamp_of(path: Path) -> str:
    """Return size and time of a file; empty if it does not exist."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{facts.st_size}/{facts.st_mtime_ns}"


def unreadable(source: Path, reason: str) -> Picture:
    """Return a picture in the place of an unreadable part of a source."""
    return Picture(str(source), partial(refuse, ImageError(repr(str(source)), reason)))


def refuse(error: ImageError) -> bytes:
    """Raise the error of a picture that cannot be read."""
    raise error


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
        yield unreadable(source, f"damaged or unreadable tar file{where} ({short_reason(error)})")


def open_member(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Callable[[], bytes]:
    """Return the reader of a file inside a tar file: by its position, or in turn if it is compressed."""
    if member.size > MAX_BYTES:
        return partial(refuse, ImageTooLargeError(name, "bytes", member.size, MAX_BYTES))
    if isinstance(tar.fileobj, io.BufferedReader) and not member.issparse():
        return partial(read_range, source, member.offset_data, member.size, name)
    return partial(read_member, tar, member, name)


def read_range(source: Path, start: int, size: int, name: str) -> bytes:
    """Return `size` bytes of a file from `start` on."""
    try:
        with source.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise ImageError(name, short_reason(error)) from error
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
        raise ImageError(name, f"damaged tar file ({short_reason(error)})") from error


def short_reason(error: Exception) -> str:
    """Return the message of an error in a few words."""
    message = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return message.splitlines()[0].rstrip(":").lower()


def list_parquet(source: Path) -> Iterator[Picture]:
    """Yield the pictures of a Parquet file row by row.

    They are in a column of bytes, or of structs with `bytes` and `path` as Hugging Face writes them; of several
    columns in `image`, or else the first. A name is the struct's `path`, or in a column `path`, `picture`, `name`
    or `file_name`; else it is the row's number. A column `person` names the person; else the name's folder does.
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
        yield unreadable(source, parquet_reason(error))


def count_rows(source: Path) -> int:
    """Return the number of rows of a Parquet file; 1, for the error, if it cannot be read."""
    try:
        with open_parquet(source) as file:
            choose_columns(file.schema_arrow)
            return int(file.metadata.num_rows)
    except PARQUET_ERRORS:
        return 1


def parquet_reason(error: Exception) -> str:
    """Return why a Parquet file cannot be read."""
    if isinstance(error, ImportError):
        return "Parquet needs pyarrow: pip install 'sameface[parquet]'"
    if isinstance(error, KeyError):
        return "no column of pictures: wanted one of bytes, or of structs with 'bytes'"
    return f"damaged or unreadable Parquet file ({short_reason(error)})"


def open_parquet(source: Path) -> Any:
    """Open a Parquet file to read it in small parts."""
    import pyarrow.parquet  # only now: an extra, and half a second

    return pyarrow.parquet.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)


def choose_columns(schema: Any) -> tuple[str, str, str]:
    """Return the columns of picture, name and person, empty if missing; `KeyError` without a column of pictures."""
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
    """Return whether a column of this type can hold pictures."""
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
    folder = row[person] if person else PurePosixPath(name).parent.name
    if data is None:
        return Picture(whole, partial(refuse, ImageError(repr(whole), "the row holds no bytes")), stamp, folder or "")
    return Picture(whole, partial(read_bytes, data, repr(whole), MAX_BYTES), stamp, folder or "")
