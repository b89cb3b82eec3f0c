"""The file that `sameface embed` writes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray

from sameface.atomic import replace_file
from sameface.batch.finder import Failure, Found
from sameface.batch.journal import Entry
from sameface.cli.output import face_record
from sameface.face import Face

ENDINGS = (".npz", ".parquet", ".jsonl")
GROUP = 4096  # faces of a Parquet file's row group: so many are in memory

Entries: TypeAlias = Callable[[], Iterable[Entry]]
Columns: TypeAlias = dict[str, NDArray[Any]]


class EmbeddingTable:
    """Faces and their embeddings, written as `.npz`, `.parquet` or JSON lines, a few at a time.

    Args:
        path: The file to write.
        signature: The pipeline's.
        dimension: Of a row.

    Raises:
        click.UsageError: Another ending, or Parquet without pyarrow.
    """

    def __init__(self, path: Path, signature: str, dimension: int) -> None:
        if path.suffix not in ENDINGS:
            raise click.UsageError(f"{str(path)!r} must end in .npz or .parquet or .jsonl")
        if path.suffix == ".parquet":
            import_pyarrow()
        if not path.parent.is_dir():
            raise click.UsageError(f"no folder {str(path.parent)!r}")
        self._path = path
        self._signature = signature
        self._empty: Columns = {
            "picture": np.zeros(0, np.str_),
            "number": np.zeros(0, np.int64),
            "box": np.zeros((0, 4), np.float32),
            "landmarks": np.zeros((0, 10), np.float32),
            "score": np.zeros(0, np.float32),
            "embedding": np.zeros((0, dimension), np.float32),
        }

    def write(self, entries: Entries) -> int:
        """Write the file whole or not at all, and return how many faces it holds.

        Args:
            entries: Gives every picture in order; it is called several times.
        """
        writers = {".npz": self._write_npz, ".parquet": self._write_parquet, ".jsonl": self._write_lines}
        with replace_file(self._path, private=True) as part:
            return writers[self._path.suffix](part, entries)

    def _write_npz(self, part: Path, entries: Entries) -> int:
        """Write what `np.savez` would, a column after the other."""
        faces, longest = 0, 1
        for entry in entries():
            faces += len(faces_of(entry))
            longest = max(longest, len(text_of(entry)) if faces_of(entry) else 0)
        with zipfile.ZipFile(part, "w", allowZip64=True) as file:
            write_member(file, "signature", np.array(self._signature), (), iter(()))
            for name, make in COLUMNS.items():
                like = self._empty[name]
                if name == "picture":
                    like = like.astype(f"<U{longest}")
                parts = (make(entry).astype(like.dtype) for entry in entries() if faces_of(entry))
                write_member(file, name, like, (faces, *like.shape[1:]), parts)
        return faces

    def _write_parquet(self, part: Path, entries: Entries) -> int:
        """Write row groups of a few thousand faces."""
        pyarrow = import_pyarrow()
        faces = 0
        groups = gather_groups(map(columns_of, filter(faces_of, entries())), self._empty)
        first = to_arrow(next(groups), self._signature)
        with pyarrow.parquet.ParquetWriter(part, first.schema) as file:
            file.write_table(first)
            faces += int(first.num_rows)
            for columns in groups:
                file.write_table(to_arrow(columns, self._signature))
                faces += len(columns["number"])
        return faces

    def _write_lines(self, part: Path, entries: Entries) -> int:
        """Write one JSON object for each picture, skipped ones too."""
        faces = 0
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            for entry in entries():
                record = self._record(entry)
                faces += len(record.get("faces", ()))
                file.write(f"{json.dumps(record, ensure_ascii=False)}\n")
        return faces

    def _record(self, entry: Entry) -> dict[str, Any]:
        """Return a picture as it stands in JSON."""
        known = {"picture": entry.picture, "sha256": entry.sha256 or None}
        if isinstance(entry.outcome, Failure):
            return known | {"error": {"code": entry.outcome.code, "message": entry.outcome.reason}}
        found = entry.outcome
        faces = [
            face_record(number, face) | {"embedding": [float(f"{value:.9g}") for value in row]}
            for number, (face, row) in enumerate(zip(found.faces, found.rows, strict=True))
        ]
        return known | {"same_as": entry.same_as or None, "signature": self._signature, "faces": faces}


def text_of(entry: Entry) -> str:
    """Return what a picture is called, as text: a file's name may hold any bytes."""
    return entry.picture.encode(errors="backslashreplace").decode()


def faces_of(entry: Entry) -> tuple[Face, ...]:
    """Return the faces of a picture; one that failed has none."""
    return entry.outcome.faces if isinstance(entry.outcome, Found) else ()


def rows_of(entry: Entry) -> NDArray[Any]:
    """Return the embeddings of a picture's faces."""
    assert isinstance(entry.outcome, Found)
    return entry.outcome.rows


# What the columns hold of a picture that has faces.
COLUMNS: dict[str, Callable[[Entry], NDArray[Any]]] = {
    "picture": lambda entry: np.array([text_of(entry)] * len(faces_of(entry)), np.str_),
    "number": lambda entry: np.arange(len(faces_of(entry)), dtype=np.int64),
    "box": lambda entry: np.array([face.box for face in faces_of(entry)], np.float32),
    "landmarks": lambda entry: np.array([face.landmarks.ravel() for face in faces_of(entry)], np.float32),
    "score": lambda entry: np.array([face.score for face in faces_of(entry)], np.float32),
    "embedding": rows_of,
}


def columns_of(entry: Entry) -> Columns:
    """Return the faces of a picture as columns."""
    return {name: make(entry) for name, make in COLUMNS.items()}


def write_member(
    file: zipfile.ZipFile, name: str, like: NDArray[Any], shape: tuple[int, ...], parts: Iterator[NDArray[Any]]
) -> None:
    """Write an array of this shape into an `.npz` file, its values from parts, its dtype that of `like`.

    Without an axis it is `like` itself.
    """
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        facts = {"descr": like.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, facts)
        member.write(like.tobytes() if shape == () else b"")
        for values in parts:
            member.write(values.tobytes())


def gather_groups(pictures: Iterable[Columns], empty: Columns) -> Iterator[Columns]:
    """Yield the columns of a few thousand faces together; at least once, though there be none."""
    gathered, faces, told = [empty], 0, False
    for columns in pictures:
        gathered.append(columns)
        faces += len(columns["number"])
        if faces >= GROUP:
            yield join(gathered)
            gathered, faces, told = [empty], 0, True
    if faces or not told:
        yield join(gathered)


def join(pictures: list[Columns]) -> Columns:
    """Return the columns of several pictures as one."""
    return {name: np.concatenate([columns[name] for columns in pictures]) for name in pictures[0]}


def import_pyarrow() -> Any:
    """Return pyarrow's Parquet module, or say how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise click.UsageError("Parquet needs pyarrow: pip install 'sameface[parquet]'") from error
    return pyarrow


def to_arrow(columns: Columns, signature: str) -> Any:
    """Return the columns as a table; those of several numbers become lists of a fixed length."""
    pyarrow = import_pyarrow()
    arrays = {}
    for name, values in columns.items():
        flat = pyarrow.array(values.ravel())
        width = values.shape[1] if values.ndim == 2 else 0
        arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, width) if width else flat
    return pyarrow.table(arrays).replace_schema_metadata({"sameface.signature": signature})
