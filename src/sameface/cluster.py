"""Group embeddings into people without knowing anyone's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import squared_distances

MAX_ROWS = 20_000  # the distances of every pair take 8 bytes each: 1.6 GB here


def cluster_embeddings(
    rows: Embeddings, *, threshold: float, cannot_link: Iterable[tuple[int, int]] = ()
) -> NDArray[np.int64]:
    """Group rows by average linkage: the two nearest groups merge while their mean distance allows it.

    Args:
        rows: `(n, d) float32` unit rows.
        threshold: Two groups merge while the mean squared distance of their pairs is at or under this,
            0 to 4.
        cannot_link: Pairs of row numbers that never share a group, such as two faces of one picture.

    Returns:
        `(n,) int64`: the number of each row's group, 0 for the group of the first row and so on. A row
        that is near no other is a group by itself.

    Raises:
        ValueError: Over 20,000 rows, whose distances would not fit in memory; a threshold outside 0 to 4;
            a pair that names a row which is not there, or one row twice.
    """
    if not 0 <= threshold <= 4:
        raise ValueError(f"threshold must lie between 0 and 4, got {threshold}")
    return cut_tree(link_rows(rows, cannot_link=cannot_link), threshold, len(rows))


def link_rows(rows: Embeddings, *, cannot_link: Iterable[tuple[int, int]] = ()) -> NDArray[np.float64]:
    """Return the tree of merges of `cluster_embeddings`, to be cut at any threshold.

    Returns:
        `(n - 1, 4) float64` in SciPy's form, the nearest groups first; `(0, 4)` of one row or none.

    Raises:
        ValueError: As `cluster_embeddings`.
    """
    expect_shape("rows", rows, ("n", "d"), np.float32)
    count = len(rows)
    if count > MAX_ROWS:
        raise ValueError(f"rows must be {MAX_ROWS:,} or fewer, got {count:,}: cluster a part at a time")
    forbidden = check_pairs(cannot_link, count)
    if count < 2:
        return np.zeros((0, 4))
    distances = pair_distances(rows)
    # With this distance between them, two groups of any size have a mean over 4 and never merge.
    distances[condensed_index(forbidden[:, 0], forbidden[:, 1], count)] = 4.0 * count**2
    import fastcluster  # only now: it loads SciPy too, where that is installed

    tree: NDArray[np.float64] = fastcluster.linkage(distances, method="average", preserve_input=False)
    return tree


def same_picture_pairs(pictures: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of rows whose faces stand in one picture, and so are two people.

    Args:
        pictures: What each row's picture is called.
    """
    members: dict[str, list[int]] = {}
    for number, picture in enumerate(pictures):
        members.setdefault(picture, []).append(number)
    return [pair for group in members.values() for pair in combinations(group, 2)]


def check_pairs(pairs: Iterable[tuple[int, int]], count: int) -> NDArray[np.int64]:
    """Return the pairs as `(m, 2)`, the smaller number first."""
    found = np.array([sorted(pair) for pair in pairs], np.int64).reshape(-1, 2)
    if len(found) and not (found[:, 0] >= 0).all() & (found[:, 1] < count).all():
        raise ValueError(f"cannot_link must name rows 0 to {count - 1}")
    if (found[:, 0] == found[:, 1]).any():
        raise ValueError("cannot_link must name two different rows")
    return found


def pair_distances(rows: Embeddings) -> NDArray[np.float64]:
    """Return the squared distance of every pair in the order of SciPy's condensed matrices."""
    count = len(rows)
    distances = np.empty(count * (count - 1) // 2)
    start = 0
    for first in range(count - 1):
        stop = start + count - 1 - first
        distances[start:stop] = squared_distances(rows[first : first + 1], rows[first + 1 :])[0]
        start = stop
    return distances


def condensed_index(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return where the pairs stand in the order of SciPy's condensed matrices; `first < second`."""
    place: NDArray[np.int64] = count * first - first * (first + 1) // 2 + second - first - 1
    return place


def cut_tree(tree: NDArray[np.float64], threshold: float, count: int) -> NDArray[np.int64]:
    """Return the groups that exist when no merge over `threshold` is made; average linkage only rises."""
    merges = tree[tree[:, 2] <= threshold, :2].astype(np.int64)
    groups = np.arange(count + len(merges))
    # From the root down, every member takes the name of the merge it went into.
    for number in range(len(merges) - 1, -1, -1):
        groups[merges[number]] = groups[count + number]
    _, first, labels = np.unique(groups[:count], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]
