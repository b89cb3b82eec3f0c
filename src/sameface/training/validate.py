"""Test a network on people it has not seen, and find people whose pictures disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.errors import ImageError
from sameface.evaluation.roc import Numbers, Roc, allowed_accepts, make_roc, operate_at_far
from sameface.training.augment import resize
from sameface.training.build import Pixels
from sameface.training.errors import TrainingDataError
from sameface.training.loader import to_planes
from sameface.training.pictures import PictureSet

FAR = 1e-2  # small enough to mean something, large enough for the pairs of 50 people
BATCH = 64


@dataclass(frozen=True, slots=True)
class Doubt:
    """A picture that lies nearer to another person than to the rest of its own.

    Attributes:
        person: Whose folder it is in.
        picture: Its path.
        own: Squared distance to the mean of that person's other pictures.
        other: Squared distance to the mean of the nearest other person.
        name: Who that is.
    """

    person: str
    picture: str
    own: float
    other: float
    name: str


def embed_pictures(network: nn.Module, pictures: PictureSet, pixels: Pixels) -> tuple[Embeddings, Numbers]:
    """Return `(n, d)` unit rows, mirror image averaged in, and the numbers of the pictures they are of.

    A picture that cannot be read is left out.
    """
    device = next(network.parameters()).device
    rows, numbers = [], []
    training = network.training
    network.eval()
    for start in range(0, len(pictures), BATCH):
        crops = []
        for number in range(start, min(start + BATCH, len(pictures))):
            try:
                crops.append(resize(pictures.places[number].read(), pixels.size, pixels.view))
                numbers.append(number)
            except ImageError:
                continue
        if crops:
            planes = to_planes(torch.from_numpy(np.stack(crops)), pixels.mean, pixels.scale, device)
            with torch.no_grad():
                both = network(planes) + network(planes.flip(-1))
            rows.append(both.float().cpu().numpy())
    network.train(training)
    joined = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
    return unit_rows(joined), np.array(numbers, np.int64)


def roc_of(rows: Embeddings, owner: Numbers) -> Roc:
    """Return VAL and FAR over all pairs of pictures."""
    upper = np.triu_indices(len(rows), 1)
    distance = squared_distances(rows, rows)[upper].astype(np.float64)
    return make_roc(distance, (owner[:, None] == owner[None, :])[upper])


def val_at_far(roc: Roc, far: float = FAR) -> float:
    """Return VAL at a false-accept rate.

    Raises:
        TrainingDataError: There are not pairs enough of one kind or the other.
    """
    if roc.genuine == 0 or allowed_accepts(far, roc.impostors) < 1:
        told = f"{roc.genuine} pairs of one person and {roc.impostors} of different people"
        raise TrainingDataError(
            "these people", f"{told} are too few to test at FAR {far:g}: hold out more people (--held-out)"
        )
    return operate_at_far(roc, far).val


def find_doubts(rows: Embeddings, numbers: Numbers, pictures: PictureSet) -> list[Doubt]:
    """Return the pictures that lie nearer to another person than to their own, the worst first."""
    owner = pictures.owner[numbers]
    sums = np.zeros((len(pictures.people), rows.shape[1]), np.float32)
    np.add.at(sums, owner, rows)
    means = unit_rows(sums)
    counts = np.bincount(owner, minlength=len(means))
    distance = squared_distances(rows, means)  # (n, people)
    rest = unit_rows(sums[owner] - rows)
    own = 2 - 2 * (rows * rest).sum(axis=1)
    places = np.arange(len(rows))
    distance[places, owner] = np.inf
    nearest = distance.argmin(axis=1)
    other = distance[places, nearest]
    doubtful = np.flatnonzero((counts[owner] > 1) & (other < own) & np.isfinite(other))
    return [
        Doubt(
            pictures.people[owner[place]],
            pictures.places[numbers[place]].path,
            float(own[place]),
            float(other[place]),
            pictures.people[nearest[place]],
        )
        for place in doubtful[np.argsort((other - own)[doubtful])]
    ]
