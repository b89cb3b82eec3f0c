"""A linear map from the embeddings of one pipeline to those of another, for rows whose pictures are gone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.atomic import replace_file
from sameface.embed import unit_rows
from sameface.errors import AdapterError
from sameface.manifest import Thresholds

KIND = "sameface adapter 1"
RIDGE = 1e-2  # the pull to 0; anything from 1e-4 to 1 gave the same VAL on 5,000 pairs or more


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What turns rows of the pipeline `source` into rows that can be compared with those of `target`.

    Attributes:
        matrix: `(d, e) float32` from the width of the source to that of the target.
        source: The signature of the pipeline that made the rows.
        target: The signature of the pipeline that they are to be compared with.
        pairs: How many pictures it was fitted to.
        residual: The mean squared distance, on those pictures, from a moved row to the target's own.
        thresholds: For a row of the target against a moved row; None before they were calibrated.
    """

    matrix: NDArray[np.float32]
    source: str
    target: str
    pairs: int
    residual: float
    thresholds: Thresholds | None = None

    def __post_init__(self) -> None:
        expect_shape("matrix", self.matrix, ("d", "e"), np.float32)
        if not np.isfinite(self.matrix).all():
            raise ValueError("matrix must hold finite numbers only")

    def move(self, rows: Embeddings) -> Embeddings:
        """Return the rows as the target would have them.

        Args:
            rows: `(n, d) float32` unit rows of the source.

        Returns:
            `(n, e) float32` unit rows.

        Raises:
            ValueError: Rows of another width.
        """
        expect_shape("rows", rows, ("n", len(self.matrix)), np.float32)
        return unit_rows(rows @ self.matrix)

    def calibrated(self, thresholds: Thresholds) -> Adapter:
        """Return the adapter with thresholds."""
        return replace(self, thresholds=thresholds)

    def save(self, path: Path) -> None:
        """Write one .npz file, whole or not at all."""
        facts = asdict(replace(self, matrix=np.zeros((0, 0), np.float32)))
        del facts["matrix"]
        with replace_file(path) as part, part.open("wb") as file:
            np.savez(file, matrix=self.matrix, facts=np.array(json.dumps({"kind": KIND} | facts)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Nothing in the file is executed.

        Raises:
            AdapterError: It is missing, damaged or something else.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                matrix, facts = file["matrix"], json.loads(str(file["facts"]))
            return cls(matrix=matrix, **read_facts(facts))
        except FileNotFoundError as error:
            raise AdapterError(str(path), "there is no such file") from error
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            reason = "not an adapter, or damaged: make it again with `sameface gallery fit-adapter`"
            raise AdapterError(str(path), reason) from error


def fit_adapter(
    old: Embeddings, new: Embeddings, *, source: str, target: str, ridge: float = RIDGE
) -> Adapter:
    """Fit a map from the rows of one pipeline to those of another by ridge regression.

    It minimises `|old W - new|^2 + ridge |W|^2`; the solution is `(old' old + ridge I)^-1 old' new`. With the
    two sides exchanged it gives the map back.

    Args:
        old: `(n, d) float32` unit rows of the source.
        new: `(n, e) float32` unit rows of the target, of the same faces in the same order.
        source: The signature of the one pipeline.
        target: The signature of the other.
        ridge: The pull to 0, more than 0: what keeps directions that hardly vary from being blown up.

    Raises:
        ValueError: No rows, another number on each side, or a ridge that is not positive.
    """
    expect_shape("old", old, ("n", "d"), np.float32)
    expect_shape("new", new, (len(old), "e"), np.float32)
    if not len(old) or not ridge > 0:
        raise ValueError(f"an adapter needs pairs and a ridge over 0, got {len(old)} and {ridge}")
    x = old.astype(np.float64)
    gram = x.T @ x + ridge * np.eye(x.shape[1])  # (d, d)
    matrix = np.linalg.solve(gram, x.T @ new.astype(np.float64)).astype(np.float32)  # (d, e)
    residual = float(((unit_rows(old @ matrix) - new) ** 2).sum(axis=1).mean())
    return Adapter(matrix, source, target, pairs=len(old), residual=residual)


def read_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an adapter but for the matrix.

    Raises:
        ValueError: The file is of another kind.
        KeyError, TypeError: A fact is missing or of another type.
    """
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
