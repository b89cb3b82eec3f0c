"""Average linkage from the table of all distances, and the pairs of rows that must not share a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_unit_rows
from sameface.compare import unit_distances

MAX_ROWS = 20_000  # the distances of every pair take 8 bytes each: 1.6 GB here


def link_rows(rows: Embeddings, *, cannot_link: Iterable[tuple[int, int]] = ()) -> NDArray[np.float64]:
    """Return the tree of merges of `cluster_embeddings`, to be cut at any threshold.

    Args:
        rows: `(n, d) float32` unit rows.
        cannot_link: As in `cluster_embeddings`.

    Returns:
        `(n - 1, 4) float64` in SciPy's form, the nearest groups first; `(0, 4)` of one row or none.

    Raises:
        ValueError: Over 20,000 rows, whose distances would not fit in memory; a pair with an unknown row, or
            with one row twice.
    """
    expect_unit_rows("rows", rows)
    count = len(rows)
    if count > MAX_ROWS:
        raise ValueError(f"rows must be {MAX_ROWS:,} or fewer, got {count:,}: cluster a part at a time")
    forbidden = check_pairs(cannot_link, count)
    if count < 2:
        return np.zeros((0, 4))
    distances = pair_distances(rows)
    # With this distance between them, two groups of any size have a mean over 4 and never merge.
    first, second = forbidden.T
    distances[count * first - first * (first + 1) // 2 + second - first - 1] = 4.0 * count**2
    import fastcluster  # only now: it loads SciPy too, where that is installed

    tree: NDArray[np.float64] = fastcluster.linkage(distances, method="average", preserve_input=False)
    return tree


def pair_distances(rows: Embeddings) -> NDArray[np.float64]:
    """Return the squared distance of every pair in the order of SciPy's condensed matrices."""
    count = len(rows)
    distances = np.empty(count * (count - 1) // 2)
    start = 0
    for first in range(count - 1):
        stop = start + count - 1 - first
        distances[start:stop] = unit_distances(rows[first : first + 1], rows[first + 1 :])[0]
        start = stop
    return distances


def cut_tree(tree: NDArray[np.float64], threshold: float, count: int) -> NDArray[np.int64]:
    """Return the groups after every merge at or under `threshold`; heights of average linkage never fall."""
    merges = tree[tree[:, 2] <= threshold, :2].astype(np.int64)
    groups = np.arange(count + len(merges))
    # From the root down, every member takes the name of the merge it went into.
    for number in range(len(merges) - 1, -1, -1):
        groups[merges[number]] = groups[count + number]
    return number_groups(groups[:count])


def number_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups: 0 for that of the first row, and so on."""
    _, first, labels = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]


def same_picture_pairs(pictures: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of rows whose faces share a picture, and so are two people, from the picture of each row."""
    members: dict[str, list[int]] = {}
    for number, picture in enumerate(pictures):
        members.setdefault(picture, []).append(number)
    return [pair for group in members.values() for pair in combinations(group, 2)]


def check_pairs(pairs: Iterable[tuple[int, int]], count: int) -> NDArray[np.int64]:
    """Return the pairs as `(m, 2)`, the smaller number first; `ValueError` for an unknown row, or one row twice."""
    found = np.sort(np.array(list(pairs), np.int64).reshape(-1, 2), axis=1)
    if len(found) and not (found[:, 0].min() >= 0 and found[:, 1].max() < count):
        raise ValueError(f"cannot_link must name rows 0 to {count - 1}")
    if (found[:, 0] == found[:, 1]).any():
        raise ValueError("cannot_link must name two different rows")
    return found
