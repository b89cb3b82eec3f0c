"""What the benchmarks of galleries share: crops in the place of pictures, and what is the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings
from sameface.embed import Embedder
from sameface.face import Template
from sameface.gallery import Gallery, Identification
from sameface.thresholds import Thresholds

TOP = 10
BOX = np.array([0, 0, 1, 1], np.float32)


class Pipeline:
    """An embedder in the place of a whole pipeline: the crops are cut already."""

    def __init__(self, embedder: Embedder) -> None:
        self.signature = f"benchmark of {embedder.model.manifest.sha256[:8]}"
        self.thresholds: Thresholds = embedder.spec.thresholds


def enroll(gallery: Gallery, rows: Embeddings, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Enroll the rows of each person, and return the number of the face that each became."""
    numbers = np.zeros(len(rows), np.int64)
    for person in np.unique(owner):
        own = np.flatnonzero(owner == person)
        name = f"person {person}"
        gallery.enroll(name, [Template(f"{place}", BOX, 1, rows[place]) for place in own])
        numbers[own] = [face.number for face in gallery.faces(name)]
    return numbers


def compare(name: str, found: NDArray[np.int64], truth: NDArray[np.int64]) -> list[str]:
    """Return a row of the table: how often the first is right, how many of the ten, and all in order."""
    first = (found[:, 0] == truth[:, 0]).mean()
    recall = np.mean([len(set(one) & set(other)) / TOP for one, other in zip(found, truth, strict=True)])
    ordered = (found == truth).all(axis=1).mean()
    return [name, f"{first:.4f}", f"{recall:.4f}", f"{ordered:.4f}"]


def is_same(one: Identification, other: Identification) -> bool:
    """Return whether two answers say the same; distances to 1e-6, in which float32 sums differ."""
    nearest = [[(match.name, match.votes) for match in answer.matches] for answer in (one, other)]
    apart = [abs(a.distance - b.distance) for a, b in zip(one.matches, other.matches, strict=False)]
    return (one.name, one.ambiguous, nearest[0]) == (other.name, other.ambiguous, nearest[1]) and (
        max(apart, default=0) <= 1e-6
    )
