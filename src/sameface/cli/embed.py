"""The command embed, and the files of embeddings that it writes and `group` reads."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray

from sameface.adapter import ARCHIVE_ERRORS
from sameface.arrays import expect_unit_rows
from sameface.atomic import replace_file
from sameface.batch import Finder, FoundFaces, embed_pictures
from sameface.batch.distributed import embed_on_ray
from sameface.batch.journal import Failure, JournalEntry
from sameface.cli import BadInputError
from sameface.cli.batch import Tally, batch_options, check_sources, count_named, follow, open_named, unfinished
from sameface.cli.options import output_option
from sameface.cli.output import count, face_record, finish
from sameface.face import Face
from sameface.recognizer import Recognizer

ARRAY_ENDINGS = (".npz", ".parquet")  # of the files that hold columns
ROW_GROUP = 4096  # faces of a Parquet file's row group: so many are in memory

Entries: TypeAlias = Callable[[], Iterable[JournalEntry]]  # every picture in order, each time it is called
Columns: TypeAlias = dict[str, NDArray[Any]]


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@output_option("A file ending in .npz, .parquet or .jsonl.")
@click.option("--ray", "address", metavar="ADDRESS", help="Search on a Ray cluster: auto, host:port or local.")
@batch_options
def embed(
    *, recognizer: Recognizer, pictures: tuple[str, ...], output: Path, workers: int, address: str | None
) -> None:
    """Write the embedding of every face in PICTURES to a file.

    PICTURES are files, folders, tar files and Parquet files. The file also holds the picture, number and
    box of each face, and the pipeline's signature. The same command resumes an interrupted run.
    """
    finder, tally = Finder(recognizer), Tally()
    check_output(output, (*ARRAY_ENDINGS, ".jsonl"))
    check_sources(pictures)
    search = embed_pictures if address is None else partial(embed_on_ray, address=address)
    with unfinished(output) as journal:
        results = search(open_named(pictures), finder, workers=workers, journal=journal)
        for _ in follow(results, partial(count_named, pictures), tally):
            pass
        entries = partial(journal.entries, finder.pipeline)
        faces = write_embeddings(output, entries, recognizer.signature, recognizer.embedder.spec.dimension)
    tally.print_shortcuts()
    pictures_read = count(tally.pictures - len(tally.failures), "picture")
    click.echo(f"{count(faces, 'face')} of {pictures_read}: {output}", err=True)
    finish(tally.failures)


def check_output(path: Path, endings: Sequence[str]) -> None:
    """Refuse a file that cannot be written, before the work begins."""
    check_ending(path, endings)
    if not path.parent.is_dir():
        raise click.UsageError(f"no folder {str(path.parent)!r}")


def check_ending(path: Path, endings: Sequence[str]) -> None:
    """Refuse another ending, and Parquet without pyarrow."""
    if path.suffix not in endings:
        raise click.UsageError(f"{str(path)!r} must end in {' or '.join(endings)}")
    if path.suffix == ".parquet":
        import_pyarrow()


def write_embeddings(path: Path, entries: Entries, signature: str, dimension: int) -> int:
    """Write faces and embeddings, the file whole or not at all; return how many faces it holds."""
    with replace_file(path, private=True) as part:
        if path.suffix == ".jsonl":
            return write_lines(part, entries(), signature)
        empty: Columns = {
            "picture": np.zeros(0, np.str_),
            "number": np.zeros(0, np.int64),
            "box": np.zeros((0, 4), np.float32),
            "landmarks": np.zeros((0, 10), np.float32),
            "score": np.zeros(0, np.float32),
            "embedding": np.zeros((0, dimension), np.float32),
        }
        if path.suffix == ".npz":
            return write_npz(part, entries, signature, empty)
        faces = 0
        with import_pyarrow().parquet.ParquetWriter(part, to_arrow(empty, signature).schema) as file:
            for columns in gather_groups(filter(faces_of, entries())):
                file.write_table(to_arrow(columns, signature))
                faces += len(columns["number"])
        return faces


def write_npz(part: Path, entries: Entries, signature: str, empty: Columns) -> int:
    """Write the file of `np.savez`, one column after the other, without a whole column in memory."""
    sizes = [(len(faces_of(entry)), len(text_of(entry))) for entry in filter(faces_of, entries())]
    faces, longest = sum(size for size, _ in sizes), max((length for _, length in sizes), default=1)
    like = empty | {"picture": np.zeros(0, f"<U{longest}")}
    with zipfile.ZipFile(part, "w", allowZip64=True) as file:
        with file.open("signature.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.array(signature))
        for name, make in COLUMNS.items():
            kind, shape = like[name].dtype, (faces, *like[name].shape[1:])
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                facts = {"descr": kind.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, facts)
                for entry in filter(faces_of, entries()):
                    member.write(make(entry).astype(kind).tobytes())
    return faces


def write_lines(part: Path, entries: Iterable[JournalEntry], signature: str) -> int:
    """Write one JSON object for each picture, skipped ones too."""
    faces = 0
    with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for entry in entries:
            file.write(f"{json.dumps(entry_record(entry, signature), ensure_ascii=False)}\n")
            faces += len(faces_of(entry))
    return faces


def entry_record(entry: JournalEntry, signature: str) -> dict[str, Any]:
    known = {"picture": entry.picture, "sha256": entry.sha256 or None}
    if isinstance(entry.outcome, Failure):
        return known | {"error": {"code": entry.outcome.code, "message": entry.outcome.reason}}
    faces = [
        face_record(number, face) | {"embedding": [float(f"{value:.9g}") for value in row]}
        for number, (face, row) in enumerate(zip(entry.outcome.faces, entry.outcome.rows, strict=True))
    ]
    return known | {"same_as": entry.same_as or None, "signature": signature, "faces": faces}


def text_of(entry: JournalEntry) -> str:
    """Return the name of a picture as text: a file's name may hold any bytes."""
    return entry.picture.encode(errors="backslashreplace").decode()


def faces_of(entry: JournalEntry) -> tuple[Face, ...]:
    """Return the faces of a picture; one that failed has none."""
    return entry.outcome.faces if isinstance(entry.outcome, FoundFaces) else ()


def rows_of(entry: JournalEntry) -> NDArray[Any]:
    assert isinstance(entry.outcome, FoundFaces)
    return entry.outcome.rows


# The values of each column, for a picture that has faces.
COLUMNS: dict[str, Callable[[JournalEntry], NDArray[Any]]] = {
    "picture": lambda entry: np.array([text_of(entry)] * len(faces_of(entry)), np.str_),
    "number": lambda entry: np.arange(len(faces_of(entry)), dtype=np.int64),
    "box": lambda entry: np.array([face.box for face in faces_of(entry)], np.float32),
    "landmarks": lambda entry: np.array([face.landmarks.ravel() for face in faces_of(entry)], np.float32),
    "score": lambda entry: np.array([face.score for face in faces_of(entry)], np.float32),
    "embedding": rows_of,
}


def gather_groups(entries: Iterable[JournalEntry]) -> Iterator[Columns]:
    """Yield the columns of a few thousand faces at a time."""
    gathered: list[Columns] = []
    faces = 0
    for entry in entries:
        gathered.append({name: make(entry) for name, make in COLUMNS.items()})
        faces += len(faces_of(entry))
        if faces >= ROW_GROUP:
            yield join_columns(gathered)
            gathered, faces = [], 0
    if gathered:
        yield join_columns(gathered)


def join_columns(parts: list[Columns]) -> Columns:
    """Return the rows of several parts as one."""
    return {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}


def read_columns(path: Path, signature: str, names: Sequence[str]) -> Columns:
    """Return the named columns of a file; those of several numbers are `(n, k)`.

    Raises:
        BadInputError: The file is damaged, holds something else, or was made by another pipeline.
        click.UsageError: Another ending, or Parquet without pyarrow.
    """
    check_ending(path, ARRAY_ENDINGS)
    try:
        made_with, columns = (read_npz if path.suffix == ".npz" else read_parquet)(path, names)
    except MemoryError as error:
        raise BadInputError(f"cannot use {str(path)!r}: not enough memory to read it") from error
    except ARCHIVE_ERRORS as error:
        reason = "damaged, or not written by `sameface embed` or `sameface group`"
        raise BadInputError(f"cannot use {str(path)!r}: {reason} ({error})") from error
    try:
        expect_unit_rows("embedding", columns["embedding"])
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot use {str(path)!r}: {error}") from error
    if made_with != signature:
        way = "use the weights and options that it was made with"
        raise BadInputError(f"{str(path)!r} was made with pipeline {made_with}; this is {signature}: {way}")
    return columns


def read_npz(path: Path, names: Sequence[str]) -> tuple[str, Columns]:
    with path.open("rb") as opened, np.load(opened) as file:
        return str(file["signature"]), {name: file[name] for name in names}


def read_parquet(path: Path, names: Sequence[str]) -> tuple[str, Columns]:
    table = import_pyarrow().parquet.read_table(path, columns=list(names))
    columns: Columns = {}
    for name in names:
        column = table.column(name).combine_chunks()
        width = getattr(column.type, "list_size", 0)
        values = (column.flatten() if width else column).to_numpy(zero_copy_only=False)
        columns[name] = values.reshape(-1, width) if width else values
    columns["picture"] = columns["picture"].astype(np.str_)
    return (table.schema.metadata or {})[b"sameface.signature"].decode(), columns


def import_pyarrow() -> Any:
    """Return pyarrow with its Parquet module, or say how to get it."""
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
