"""Rank the people of a gallery by their nearness to a probe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rank_people(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, k: int, limit: float, most: int
) -> list[tuple[int, float, int]]:
    """Return the nearest people of one probe, the nearest first.

    Args:
        distances: `(m,) float32` squared distances of the probe to every enrolled face.
        owners: `(m,) int64` whose face each is.
        k: How many nearest faces vote. Equal distances are taken in the order of the faces.
        limit: A face farther than this has no vote.
        most: How many people to return.

    Returns:
        For each person the number, the distance of the nearest face and the votes. People at equal
        distance come in the order of their faces.
    """
    order = np.argsort(distances, kind="stable")
    voters = [owners[place] for place in order[:k] if distances[place] <= limit]
    _, first = np.unique(owners[order], return_index=True)
    nearest = order[np.sort(first)[:most]]
    return [(int(owners[place]), float(distances[place]), voters.count(owners[place])) for place in nearest]
