"""Group embeddings into people without names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_shape, expect_unit_rows
from sameface.cluster.agglomerate import AverageLinkage
from sameface.cluster.linkage import MAX_ROWS, check_pairs, cut_tree, link_rows, number_groups, same_picture_pairs
from sameface.cluster.neighbours import ProgressCallback

__all__ = ["MAX_ROWS", "cluster_embeddings", "cut_tree", "extend_clusters", "link_rows", "same_picture_pairs"]

FEW = 2000  # rows up to which the table of all distances is the faster way, with the same groups


def cluster_embeddings(
    rows: Embeddings,
    *,
    threshold: float,
    cannot_link: Iterable[tuple[int, int]] = (),
    groups: NDArray[np.int64] | None = None,
    told: ProgressCallback | None = None,
) -> NDArray[np.int64]:
    """Group rows by average linkage: the two nearest groups merge while their mean distance allows it.

    Args:
        rows: `(n, d) float32` unit rows, any number; memory grows with it, time with its square.
        threshold: Groups merge while the mean squared distance of their pairs is at or under it, 0 to 4.
        cannot_link: Pairs of row numbers that never share a group, such as two faces of one picture.
        groups: `(n,) int64` the group that each row begins in, from 0 on without a gap; such rows stay together,
            and `cannot_link` holds pairs of these groups. None begins with every row alone.
        told: Called with the finished part of a long work, 0 to 1.

    Returns:
        `(n,) int64` the number of each row's group, 0 for that of the first row and so on.

    Raises:
        ValueError: Rows are not unit rows; the threshold is outside 0 to 4; a pair names an unknown row, or one
            row twice.
    """
    check_threshold(threshold)
    if groups is None and len(rows) <= FEW:
        return cut_tree(link_rows(rows, cannot_link=cannot_link), threshold, len(rows))
    expect_unit_rows("rows", rows)
    if groups is None:
        groups, sums = np.arange(len(rows)), rows.copy()
    else:
        expect_shape("groups", groups, (len(rows),), np.int64)
        sums = sum_groups(rows, groups, int(groups.max(initial=-1)) + 1)
    linkage = AverageLinkage(sums, np.bincount(groups), threshold=threshold)
    return number_groups(linkage.run(check_pairs(cannot_link, len(sums)), told)[groups])


def extend_clusters(
    rows: Embeddings,
    *,
    known: Embeddings,
    labels: NDArray[np.int64],
    threshold: float,
    cannot_link: Iterable[tuple[int, int]] = (),
    told: ProgressCallback | None = None,
) -> NDArray[np.int64]:
    """Add new rows to existing groups or to new ones; existing groups never merge or change.

    The new rows are compared with each group and with each other, by the rule of `cluster_embeddings`.

    Args:
        rows: `(n, d) float32` the new unit rows.
        known: `(m, d) float32` the rows in groups.
        labels: `(m,) int64` the numbers of their groups, 0 or more.
        threshold: As in `cluster_embeddings`.
        cannot_link: Pairs of numbers of new rows that never share a group.
        told: Called with the finished part of a long work, 0 to 1.

    Returns:
        `(n,) int64`: the number of each new row's group. New groups count on from the highest label.

    Raises:
        ValueError: As `cluster_embeddings`; a label under 0; known and labels differ in number.
    """
    check_threshold(threshold)
    expect_unit_rows("rows", rows)
    expect_unit_rows("known", known, rows.shape[1])
    expect_shape("labels", labels, (len(known),), np.int64)
    if labels.min(initial=0) < 0:
        raise ValueError(f"labels must be 0 or more, got {labels.min()}")
    forbidden = check_pairs(cannot_link, len(rows))
    names, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.concatenate([sum_groups(known, group, len(names)), rows])
    sizes = np.concatenate([sizes, np.ones(len(rows), np.int64)])
    merging = AverageLinkage(sums, sizes, threshold=threshold, fixed=len(names))
    into = merging.run(forbidden + len(names), told)[len(names) :]
    new = into >= len(names)
    found = np.empty(len(rows), np.int64)
    found[~new] = names[into[~new]]
    found[new] = number_groups(into[new]) + labels.max(initial=-1) + 1
    return found


def sum_groups(rows: Embeddings, group: NDArray[np.int64], count: int) -> Embeddings:
    """Return the sum of each group's rows, `(count, d) float32`."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(count))
    sums = np.zeros((count, rows.shape[1]), np.float32)
    if count:
        np.add.reduceat(rows[order], starts, axis=0, out=sums)
    return sums


def check_threshold(threshold: float) -> None:
    """Raise unless a threshold lies in the range of distances."""
    if not 0 <= threshold <= 4:
        raise ValueError(f"threshold must lie between 0 and 4, got {threshold}")
