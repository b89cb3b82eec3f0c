"""Map crops of faces to points on the unit sphere."""

from __future__ import annotations

import numpy as np

from sameface.arrays import Crops, Embeddings, expect_shape
from sameface.errors import WeightsError
from sameface.manifest import EmbeddingSpec
from sameface.model import Model

BATCH = 16  # crops per run: more gain nothing on two cores (benchmarks/embed.py)


class Embedder:
    """Turns crops into embeddings. Any number of threads may share it.

    Args:
        model: The weights of an embedder.
        flip: Average each crop with its mirror image; twice the work, fewer errors.

    Raises:
        WeightsError: The weights are not an embedder's.
    """

    def __init__(self, model: Model, *, flip: bool = True) -> None:
        if model.manifest.embedding is None:
            raise WeightsError(model.manifest.name, "these are a detector's, wanted an embedder's")
        self.model = model
        self.flip = flip
        self.spec: EmbeddingSpec = model.manifest.embedding

    def embed(self, crops: Crops) -> Embeddings:
        """Return one embedding for each crop.

        Args:
            crops: `(n, size, size, 3) uint8` RGB, cut by the manifest's crop rule; any number.

        Returns:
            `(n, d) float32` unit rows.

        Raises:
            WeightsError: As in `run_network`.
        """
        size = self.spec.crop.size
        expect_shape("crops", crops, ("n", size, size, 3), np.uint8)
        rows = np.zeros((len(crops), self.spec.dimension), np.float32)
        for start in range(0, len(crops), BATCH):
            rows[start : start + BATCH] = self._run(crops[start : start + BATCH])
        return unit_rows(rows)

    def _run(self, crops: Crops) -> Embeddings:
        if not self.flip:
            return self.run_network(crops)
        both = self.run_network(np.concatenate([crops, crops[:, :, ::-1]]))  # (2n, d)
        added: Embeddings = both[: len(crops)] + both[len(crops) :]
        return added

    def run_network(self, crops: Crops) -> Embeddings:
        """Return the network's output for one batch, `(n, d) float32`, not scaled; check it against the manifest."""
        rows = self.model.run(crops)[0]
        name, wanted = self.model.manifest.name, (len(crops), self.spec.dimension)
        if rows.shape != wanted or rows.dtype != np.float32:
            reason = f"it gives {rows.dtype} {rows.shape}, the manifest says float32 {wanted}"
            raise WeightsError(name, reason)
        with np.errstate(over="ignore"):
            if not np.isfinite(np.vdot(rows, rows)):
                raise WeightsError(name, "it gives rows that are not finite")
        return rows


def unit_rows(rows: Embeddings) -> Embeddings:
    """Scale every row to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Embeddings = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
