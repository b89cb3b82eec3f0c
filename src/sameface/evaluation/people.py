"""A folder of people as rows with owners, without pictures that would spoil the count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.pictures import EmbeddedPictures
from sameface.evaluation.protocols import NO_SLICE, LabelledPicture


@dataclass(frozen=True, slots=True, eq=False)
class PeopleSet:
    """Rows and whose they are, those of one person together.

    Attributes:
        rows: `(n, d) float32` unit rows.
        person: `(n,) int64` the number of each row's person, rising.
        names: What each person is called.
        paths: Where each row is from.
        warnings: What was left out, and why.
    """

    rows: Embeddings
    person: NDArray[np.int64]
    names: tuple[str, ...]
    paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def pick(self, people: NDArray[np.bool_]) -> PeopleSet:
        """Return the rows of some people, `(p,) bool`."""
        chosen = people[self.person]
        number = np.cumsum(people) - 1
        return PeopleSet(
            self.rows[chosen],
            number[self.person[chosen]],
            tuple(name for name, kept in zip(self.names, people, strict=True) if kept),
            tuple(path for path, kept in zip(self.paths, chosen, strict=True) if kept),
        )

    def split(self, slices: Mapping[str, str]) -> dict[str, PeopleSet]:
        """Return the people of each slice."""
        groups = np.array([slices.get(name, NO_SLICE) for name in self.names])
        return {str(group): self.pick(groups == group) for group in np.unique(groups)}


def gather_people(photos: Sequence[LabelledPicture], found: EmbeddedPictures) -> PeopleSet:
    """Return the pictures that have a face, each content once.

    The same file twice for one person would be a pair at distance 0 that proves nothing, and a file that
    stands under two people has a wrong name under one of them: the first is kept once, the second left out.

    Raises:
        ProtocolError: No picture is left.
    """
    owners: dict[str, set[str]] = {}
    for photo, one in zip(photos, found.enrolled, strict=True):
        owners.setdefault(one.sha256, set()).add(photo.person)
    kept: list[int] = []
    seen: set[str] = set()
    repeated = disputed = 0
    for number, one in enumerate(found.enrolled):
        if one.reason:
            continue
        disputed += len(owners[one.sha256]) > 1
        repeated += one.sha256 in seen and len(owners[one.sha256]) == 1
        if one.sha256 not in seen and len(owners[one.sha256]) == 1:
            kept.append(number)
        seen.add(one.sha256)
    if not kept:
        raise ProtocolError(photos[0].path, "no picture of the folder has a face that can be used")
    names, person = np.unique([photos[number].person for number in kept], return_inverse=True)
    order = np.argsort(person, kind="stable")
    return PeopleSet(
        found.rows[kept][order],
        person[order].astype(np.int64),
        tuple(map(str, names)),
        tuple(photos[kept[number]].path for number in order),
        tuple(tell_left_out(repeated, disputed)),
    )


def tell_left_out(repeated: int, disputed: int) -> list[str]:
    """Return what was left out, in words."""
    told = []
    if repeated:
        told.append(f"{repeated} pictures are in their person's folder twice: counted once")
    if disputed:
        told.append(f"{disputed} pictures stand under two people, one of the names is wrong: left out")
    return told
