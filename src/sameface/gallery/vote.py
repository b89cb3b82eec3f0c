"""Rank the people of a gallery by their nearness to a probe."""

from __future__ import annotations

from collections import Counter

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
        most: How many people to return. Who has the most votes takes the last place if not among them.

    Returns:
        For each person the number, the distance of the nearest face and the votes. People at equal
        distance come in the order of their faces.
    """
    order = nearest_faces(distances, owners, faces=k, people=most)
    _, first = np.unique(owners[order], return_index=True)
    chosen = order[np.sort(first)[:most]].tolist()  # the nearest face of each person
    voters = [place for place in order[:k].tolist() if float(distances[place]) <= limit]
    votes = Counter(int(owners[place]) for place in voters)
    for winner, _ in votes.most_common(1):  # of equals the first counted, who is the nearest
        face = next(place for place in voters if owners[place] == winner)
        chosen[-1] = chosen[-1] if face in chosen else face
    return [(int(owners[place]), float(distances[place]), votes[int(owners[place])]) for place in chosen]


def nearest_faces(
    distances: NDArray[np.float32], owners: NDArray[np.int64], *, faces: int, people: int
) -> NDArray[np.intp]:
    """Return so many nearest faces, in order, that they hold `faces` and those of `people` people.

    Only a few are sorted: those at or under the distance that a selection finds, so that none of several
    equally near ones is lost. If they belong to too few people, four times as many are taken.
    """
    reach = 4 * max(faces, people)
    while reach < len(distances):
        edge = np.partition(distances, reach - 1)[reach - 1]
        near = np.flatnonzero(distances <= edge)
        if len(np.unique(owners[near])) >= people:
            return near[np.argsort(distances[near], kind="stable")]
        reach *= 4
    return np.argsort(distances, kind="stable")
