"""Search random galleries: choose enrolled people and probes, and rank the people of the gallery for each probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, expect_unit_rows
from sameface.compare import unit_distances
from sameface.evaluation.roc import Flags, Integers, Numbers

Labels: TypeAlias = Integers | NDArray[np.str_] | Sequence[str] | Sequence[int]

BLOCK = 1 << 24  # distances at a time: 64 MB
STRANGER = -1


@dataclass(frozen=True, slots=True, eq=False)
class GallerySplit:
    """The pictures of a gallery and those that are searched for."""

    gallery: Integers  # (m,) pictures that are enrolled, those of one person together
    probes: Integers  # (n,) pictures that are searched for


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The answer of a gallery to each probe.

    `rank` is the place of the probe's person among the people of the gallery by their nearest faces, 1 and up,
    after all that are equally near; 0 for a stranger. `named` is the person whom the nearest 1, 2, ... k faces
    name by their votes, among equals the nearest; -1 in an empty gallery.
    """

    person: Integers  # (n,) number of the probe's person
    truth: Integers  # (n,) the same, but -1 for a stranger
    rank: Integers  # (n,)
    distance: Numbers  # (n, k) of the nearest faces, rising; infinite where the gallery has no more
    named: Integers  # (n, k)

    @property
    def known(self) -> Flags:
        """`(n,) bool`: which probes are enrolled."""
        known: Flags = self.truth != STRANGER
        return known


def split_gallery(people: Labels, *, enrolled: int, per_person: int, rng: np.random.Generator) -> GallerySplit:
    """Choose people to enroll with so many pictures each; all other pictures are searched for, strangers too.

    Only people with more than `per_person` pictures can be chosen.

    Raises:
        ValueError: Fewer than `enrolled` people have that many pictures.
    """
    if per_person < 1 or enrolled < 0:
        raise ValueError(f"per_person must be 1 or more and enrolled 0 or more, got {per_person}, {enrolled}")
    _, numbers, counts = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    fitting = np.flatnonzero(counts > per_person)
    if enrolled > len(fitting):
        raise ValueError(
            f"{enrolled:,} people cannot be enrolled: {len(fitting):,} have more than {per_person} pictures"
        )
    chosen = rng.choice(fitting, enrolled, replace=False)
    order = rng.permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]  # by person, within a person at random
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.isin(numbers[order], chosen) & (place < per_person)
    return GallerySplit(order[taken], np.sort(order[~taken]))


def rank_probes(rows: Embeddings, people: Labels, split: GallerySplit, *, faces: int) -> Ranking:
    """Search the gallery for every probe, in blocks, and keep so many nearest faces.

    `rows` are unit rows, `(n, d) float32`; `people` the person of each, `(n,)`.

    Raises:
        ValueError: The pictures of a person do not stand together in the gallery.
    """
    expect_unit_rows("rows", rows)
    _, numbers = np.unique(np.asarray(people), return_inverse=True)
    owners = numbers[split.gallery]
    person = numbers[split.probes]
    truth = np.where(np.isin(person, owners), person, STRANGER)
    starts = np.sort(np.unique(owners, return_index=True)[1])
    if np.count_nonzero(np.diff(owners)) >= max(len(starts), 1):
        raise ValueError("the pictures of a person must stand together in the gallery")
    rank = np.zeros(len(truth), np.int64)
    distance = np.full((len(truth), faces), np.inf)
    named = np.full((len(truth), faces), STRANGER)
    for part in blocks(len(truth) if len(owners) else 0, len(owners), BLOCK):
        block = unit_distances(rows[split.probes[part]], rows[split.gallery])  # (b, m)
        rank[part] = rank_own(block, owners[starts], starts, truth[part])
        distance[part], nearest = pick_nearest(block, faces)
        named[part] = count_votes(owners[nearest], faces)
    return Ranking(person, truth, rank, distance, named)


def blocks(rows: int, columns: int, most: int) -> Iterator[slice]:
    """Yield parts of the rows of a table with at most so many cells."""
    size = max(1, most // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, start + size)


def rank_own(distances: NDArray[np.float32], owners: Integers, starts: Integers, truth: Integers) -> Integers:
    """Return the place of each probe's own person, 0 for a stranger.

    `distances` are `(b, m)`; the faces of the people `owners`, `(p,)`, begin at `starts`, `(p,)`; `truth` are the
    people of the probes, `(b,)`.
    """
    nearest = np.minimum.reduceat(distances, starts, axis=1)  # (b, p)
    own = np.where(truth[:, None] == owners, nearest, -1).max(axis=1)  # -1 for a stranger: below all
    rank: Integers = (nearest <= own[:, None]).sum(axis=1)
    return rank


def pick_nearest(distances: NDArray[np.float32], faces: int) -> tuple[Numbers, Integers]:
    """Return distances and places of the nearest faces; equal ones in the order of the gallery.

    Distances are `(b, faces) float64`, infinite where there are no more; places `(b, k) int64`, as many as there
    are. The table of distances, `(b, m)` with `m` 1 or more, is written over.
    """
    count = min(faces, distances.shape[1])
    near = np.full((len(distances), faces), np.inf)
    places = np.zeros((len(distances), count), np.int64)
    every = np.arange(len(distances))
    for step in range(count):
        places[:, step] = distances.argmin(axis=1)  # the first of equals
        near[:, step] = distances[every, places[:, step]]
        distances[every, places[:, step]] = np.inf
    return near, places


def count_votes(voters: Integers, faces: int) -> Integers:
    """Return the person whom the nearest 1, 2, ... `faces` faces name, among equals the nearest.

    `voters` are the people of the nearest faces, `(b, k) int64`, `k` from 1 to `faces`; where the gallery has no
    more faces the last answer stays.
    """
    votes = np.zeros(voters.shape, np.int64)
    named = np.zeros(voters.shape, np.int64)
    every = np.arange(len(voters))
    for step in range(voters.shape[1]):
        votes += voters == voters[:, step : step + 1]  # each face that agrees has one vote more
        named[:, step] = voters[every, votes[:, : step + 1].argmax(axis=1)]
    return named[:, np.minimum(np.arange(faces), voters.shape[1] - 1)]
