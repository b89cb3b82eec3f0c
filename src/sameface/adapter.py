"""Map embeddings of one pipeline to those of another, for galleries without pictures."""

from __future__ import annotations

import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape, expect_unit_rows
from sameface.atomic import replace_file
from sameface.embed import unit_rows
from sameface.errors import SamefaceError
from sameface.thresholds import Thresholds

KIND = "sameface adapter 1"
ARRAYS = ("matrix", "bends", "offsets")

# zipfile, its decompressors, NumPy and json raise all of these on a damaged or hostile file.
ARCHIVE_ERRORS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

RIDGE = 0.1  # on 40,000 pairs ten times as much gave the same VAL, with and without ReLU features
STRETCH = 4.0  # standard deviation of a feature before its ReLU, in those of the rows
GAIN = 0.05  # scale of the features against the rows' coordinates
BLOCK = 4096  # rows at a time: their features take 70 MB


class AdapterError(SamefaceError):
    """An adapter is missing, damaged or made for other pipelines."""

    code = "bad_adapter"
    message = "adapter {path!r}: {reason}"
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A map from embeddings of the pipeline `source` to the space of the pipeline `target`."""

    matrix: NDArray[np.float32]  # `(d + h, e) float32` from a row and its random ReLU features to a row of the target
    bends: NDArray[np.float32]  # `(d, h) float32` the directions of the features; `h` is 0 for a linear map
    offsets: NDArray[np.float32]  # `(h,) float32` their offsets
    source: str  # the signature of the old pipeline
    target: str  # the signature of the new pipeline
    pairs: int  # the number of pictures that it was fitted to
    residual: float  # the mean squared distance, on those pictures, from a moved row to the target's own
    thresholds: Thresholds | None = None  # for a row of the target against a moved row; None if not calibrated

    def __post_init__(self) -> None:
        expect_shape("bends", self.bends, ("d", "h"), np.float32)
        expect_shape("offsets", self.offsets, (self.bends.shape[1],), np.float32)
        expect_shape("matrix", self.matrix, (sum(self.bends.shape), "e"), np.float32)
        if not all(np.isfinite(part).all() for part in (self.matrix, self.bends, self.offsets)):
            raise ValueError("an adapter must hold finite numbers only")

    def move(self, rows: Embeddings) -> Embeddings:
        """Map `(n, d) float32` unit rows of the source to `(n, e) float32` unit rows of the target."""
        expect_unit_rows("rows", rows, len(self.bends))
        moved = np.zeros((len(rows), self.matrix.shape[1]), np.float32)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            moved[part] = add_features(rows[part], self.bends, self.offsets) @ self.matrix
        return unit_rows(moved)

    def calibrated(self, thresholds: Thresholds) -> Adapter:
        """Return the adapter with thresholds."""
        return replace(self, thresholds=thresholds)

    def save(self, path: Path) -> None:
        """Write one .npz file, whole or not at all."""
        facts = {
            "kind": KIND,
            "source": self.source,
            "target": self.target,
            "pairs": self.pairs,
            "residual": self.residual,
            "thresholds": None if self.thresholds is None else asdict(self.thresholds),
        }
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        arrays["facts"] = np.array(json.dumps(facts))
        with replace_file(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a saved adapter, or raise `AdapterError`. Nothing in the file is executed."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ARRAYS}
                facts = read_facts(json.loads(str(file["facts"])))
            return cls(**arrays, **facts)
        except FileNotFoundError as error:
            raise AdapterError(str(path), "there is no such file") from error
        except MemoryError as error:
            raise AdapterError(str(path), "not an adapter, or not enough memory to read it") from error
        except ARCHIVE_ERRORS as error:
            reason = "not an adapter, or damaged: make it again with `sameface gallery fit-adapter`"
            raise AdapterError(str(path), reason) from error


def fit_adapter(
    old: Embeddings,
    new: Embeddings,
    *,
    signatures: tuple[str, str],
    hidden: int = 0,
    ridge: float = RIDGE,
    seed: int = 0,
) -> Adapter:
    """Fit a map from the embeddings of one pipeline to those of another by ridge regression.

    With `x` an old row followed by its random ReLU features, the matrix `W` minimises
    `|x W - new|^2 + ridge |W|^2`; the solution is `(x' x + ridge I)^-1 x' new`. Exchange the two sides to get
    the map back.

    Args:
        old: `(n, d) float32` unit rows of the source.
        new: `(n, e) float32` unit rows of the target, of the same faces in the same order.
        signatures: Of source and target.
        hidden: The number of random ReLU features; 0 makes the map linear.
        ridge: The regularisation, more than 0; it holds back directions of little variance.
        seed: Draws the features.

    Raises:
        ValueError: No rows, unequal numbers of rows, `hidden` under 0 or a ridge that is not over 0.
    """
    expect_shape("old", old, ("n", "d"), np.float32)
    expect_shape("new", new, (len(old), "e"), np.float32)
    if not len(old) or not ridge > 0 or hidden < 0:
        raise ValueError(f"wanted pairs, a ridge over 0, hidden >= 0, got {len(old)}, {ridge}, {hidden}")
    bends, offsets = draw_features(old, hidden, np.random.default_rng(seed))
    width = old.shape[1] + hidden
    gram, cross = ridge * np.eye(width), np.zeros((width, new.shape[1]))
    for start in range(0, len(old), BLOCK):
        part = slice(start, start + BLOCK)
        x = add_features(old[part], bends, offsets).astype(np.float64)
        gram += x.T @ x
        cross += x.T @ new[part]
    matrix = np.linalg.solve(gram, cross).astype(np.float32)  # (d + h, e)
    adapter = Adapter(matrix, bends, offsets, *signatures, pairs=len(old), residual=0.0)
    residual = float(((adapter.move(old) - new) ** 2).sum(axis=1).mean())
    return replace(adapter, residual=residual)


def draw_features(
    rows: Embeddings, hidden: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw directions and offsets of random ReLU features that suit the spread of the rows (Huang et al., 2006)."""
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = max(float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean())), 1e-6)
    directions = rng.normal(size=(rows.shape[1], hidden)) * STRETCH / spread / np.sqrt(rows.shape[1])
    offsets = rng.normal(size=hidden) / 2 - mean @ directions
    return (GAIN * directions).astype(np.float32), (GAIN * offsets).astype(np.float32)


def add_features(rows: Embeddings, bends: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row followed by its random ReLU features, `(n, d + h) float32`."""
    return np.hstack([rows, np.maximum(rows @ bends + offsets, 0)])


def read_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalar fields of an adapter, or raise what a missing or wrong one raises."""
    if facts["kind"] != KIND:
        raise ValueError(f"kind must be {KIND!r}, got {facts['kind']!r}")
    table = facts["thresholds"]
    return {
        "source": str(facts["source"]),
        "target": str(facts["target"]),
        "pairs": int(facts["pairs"]),
        "residual": float(facts["residual"]),
        "thresholds": None if table is None else Thresholds.from_facts(table),
    }
