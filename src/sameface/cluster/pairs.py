"""Pairs of rows that are never one person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


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
    """Return the pairs as `(m, 2)`, the smaller number first.

    Raises:
        ValueError: A pair names a row which is not there, or one row twice.
    """
    found = np.sort(np.array(list(pairs), np.int64).reshape(-1, 2), axis=1)
    if len(found) and not (found[:, 0].min() >= 0 and found[:, 1].max() < count):
        raise ValueError(f"cannot_link must name rows 0 to {count - 1}")
    if (found[:, 0] == found[:, 1]).any():
        raise ValueError("cannot_link must name two different rows")
    return found
