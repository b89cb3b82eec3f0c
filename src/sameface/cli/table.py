"""The file that `sameface embed` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.atomic import replace_file
from sameface.face import Face


class EmbeddingTable:
    """Faces and their embeddings, gathered and then written as `.npz` or `.parquet` in one go.

    Args:
        path: The file to write.
        signature: The pipeline's.

    Raises:
        click.UsageError: Another ending, or Parquet without pyarrow.
    """

    def __init__(self, path: Path, signature: str) -> None:
        if path.suffix not in (".npz", ".parquet"):
            raise click.UsageError(f"{str(path)!r} must end in .npz or .parquet")
        if path.suffix == ".parquet":
            import_pyarrow()
        if not path.parent.is_dir():
            raise click.UsageError(f"no folder {str(path.parent)!r}")
        self._path = path
        self._signature = signature
        self._faces: list[tuple[str, int, Face]] = []
        self._rows: list[Embeddings] = []

    def add(self, picture: str, faces: list[Face], rows: Embeddings) -> None:
        """Add the faces of one picture."""
        text = picture.encode(errors="backslashreplace").decode()  # a file's name may hold any bytes
        self._faces += [(text, number, face) for number, face in enumerate(faces)]
        self._rows.append(rows)

    def write(self, dimension: int) -> int:
        """Write the file and return how many faces it holds."""
        rows = np.concatenate([np.zeros((0, dimension), np.float32), *self._rows])
        columns: dict[str, NDArray[Any]] = {
            "picture": np.array([picture for picture, _, _ in self._faces], np.str_),
            "number": np.array([number for _, number, _ in self._faces], np.int64),
            "box": np.array([face.box for *_, face in self._faces], np.float32).reshape(-1, 4),
            "landmarks": np.array([face.landmarks for *_, face in self._faces], np.float32).reshape(-1, 10),
            "score": np.array([face.score for *_, face in self._faces], np.float32),
            "embedding": rows,
        }
        with replace_file(self._path) as part:
            if self._path.suffix == ".npz":
                with part.open("wb") as file:
                    np.savez(file, allow_pickle=False, signature=self._signature, **columns)
            else:
                write_parquet(part, columns, self._signature)
        return len(rows)


def import_pyarrow() -> Any:
    """Return pyarrow's Parquet module, or say how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise click.UsageError("Parquet needs pyarrow: pip install 'sameface[parquet]'") from error
    return pyarrow


def write_parquet(path: Path, columns: dict[str, NDArray[Any]], signature: str) -> None:
    """Write the columns; those of several numbers become lists of a fixed length."""
    pyarrow = import_pyarrow()
    arrays = {}
    for name, values in columns.items():
        flat = pyarrow.array(values.ravel())
        width = values.shape[1] if values.ndim == 2 else 0
        arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, width) if width else flat
    table = pyarrow.table(arrays).replace_schema_metadata({"sameface.signature": signature})
    pyarrow.parquet.write_table(table, path)
