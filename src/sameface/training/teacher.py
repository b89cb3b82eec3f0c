"""Teachers: what embedders that exist already say of the training pictures, to be imitated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sameface.align import align_faces
from sameface.arrays import Embeddings, Image
from sameface.embed import Embedder, unit_rows
from sameface.errors import ImageError
from sameface.face import Face
from sameface.manifest import CropRule
from sameface.model import Model
from sameface.training.augment import resize
from sameface.training.build import Pixels, face_of
from sameface.training.config import TrainConfig
from sameface.training.errors import TrainingDataError
from sameface.training.loader import to_planes
from sameface.training.pictures import PictureSet
from sameface.training.resnet29 import ResNet29

BATCH = 16
FITTED = 6_000  # pictures that a last layer is fitted to
RIDGE = 1e-3  # of the mean square of a feature


Told = Callable[[str, int, int], None]  # whose rows are asked for, how many there are, of how many


def ignore(_who: str, _done: int, _count: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """How the rows of several teachers become rows of the pupil's width. Fitted once, for any rows.

    Attributes:
        weights: How much each teacher counts.
        means: `(d,)` of each, taken from its rows; none where one teacher is taken as it is.
        directions: `(sum of d, dimension)` to turn the joined rows onto; None where they have the width.
        turn: `(dimension, dimension)` and
        shift: `(dimension,)` to where the pupil begins; None leaves the rows in the teachers' own space.
    """

    weights: tuple[float, ...]
    means: tuple[Embeddings, ...] = ()
    directions: Embeddings | None = None
    turn: Embeddings | None = None
    shift: Embeddings | None = None

    def state(self) -> dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        fitted = {name: getattr(self, name) for name in ("directions", "turn", "shift")}
        tensors = {name: None if value is None else torch.from_numpy(value) for name, value in fitted.items()}
        means = [torch.from_numpy(mean) for mean in self.means]
        return {"weights": list(self.weights), "means": means, **tensors}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Space:
        """Return what `state` was of."""
        means = tuple(mean.numpy() for mean in state["means"])
        fitted = [state[name] for name in ("directions", "turn", "shift")]
        return cls(tuple(state["weights"]), means, *(each if each is None else each.numpy() for each in fitted))

    def join(self, parts: Sequence[Embeddings]) -> Embeddings:
        """Return `(n, dimension) float32` unit rows from the `(n, d)` unit rows of each teacher."""
        joined = parts[0]
        if self.means:
            centred = [unit_rows(part - mean) for part, mean in zip(parts, self.means, strict=True)]
            weighted = [weight * rows for weight, rows in zip(self.weights, centred, strict=True)]
            joined = unit_rows(np.concatenate(weighted, axis=1))
        if self.directions is not None:
            joined = unit_rows((joined @ self.directions).astype(np.float32))
        if self.turn is not None and self.shift is not None:
            joined = unit_rows((joined @ self.turn + self.shift).astype(np.float32))
        return joined

    def toward(self, told: Embeddings, own: Embeddings) -> Space:
        """Turn, scale and shift the rows to where an embedder of their width has the same pictures.

        The distances between them all shrink or grow alike, but for what coming back to the sphere changes. A
        network that begins with these weights has the shortest way to go, and its rows stay comparable with
        what the embedder said before, thresholds and all (orthogonal Procrustes, Schönemann, 1966).

        Args:
            told: `(n, dimension)` our rows of some pictures.
            own: The embedder's rows of the same.
        """
        told, own = told.astype(np.float64), own.astype(np.float64)
        origin, middle = told.mean(axis=0), own.mean(axis=0)
        left, _, right = np.linalg.svd((told - origin).T @ (own - middle))
        turn = left @ right * (np.linalg.norm(own - middle) / np.linalg.norm(told - origin))
        return replace(self, turn=turn, shift=np.asarray(middle - origin @ turn))


def fit_space(parts: Sequence[Embeddings], weights: Sequence[float], dimension: int) -> Space:
    """Return how the rows of some pictures are joined.

    One teacher of the wanted width is taken as it is. The rows of several are each centred, scaled to
    length 1, weighted and joined. What is wider than wanted is turned onto its principal directions, which
    keeps the distances as well as a linear map can.

    Raises:
        TrainingDataError: The teachers together are narrower than the network.
    """
    width = sum(part.shape[1] for part in parts)
    if width < dimension:
        told = f"the teachers' {width} numbers cannot teach {dimension}: lower --dimension"
        raise TrainingDataError("these teachers", told)
    space = Space(tuple(weights), tuple(part.mean(axis=0) for part in parts) if len(parts) > 1 else ())
    if width == dimension:
        return space
    joined = space.join(parts)
    directions = np.linalg.svd(joined.T.astype(np.float64) @ joined)[0][:, :dimension]
    return replace(space, directions=directions)


def teach(pictures: PictureSet, config: TrainConfig, start: str = "", told: Told = ignore) -> Embeddings:
    """Return what the teachers say of every picture as it is: the point that a changed copy should come to.

    Args:
        pictures: Straightened crops.
        config: Names the teachers, and the width.
        start: Weights by name or path; the rows are turned to where these have the faces. None if empty.
        told: Called with each teacher's name, how many pictures it has seen, and of how many.

    Returns:
        `(n, dimension) float32` unit rows; zeros for a picture that cannot be read.

    Raises:
        WeightsError: A teacher is not an embedder.
        TrainingDataError: The teachers together are narrower than the network, or the pictures do not say
            how they were cut.
    """
    parts = [embed_all(pictures, name, told=told) for name, _ in config.teachers()]
    seen = np.flatnonzero(parts[0].any(axis=1))
    parts = [part[seen] for part in parts]
    space = fit_space(parts, [weight for _, weight in config.teachers()], config.dimension)
    if start:
        some = np.arange(0, len(seen), stride(len(seen)))
        own = embed_all(pictures, start, seen[some].tolist(), told)
        space = space.toward(space.join([part[some] for part in parts]), own)
    rows = np.zeros((len(pictures), config.dimension), np.float32)
    rows[seen] = space.join(parts)
    return rows


def stride(count: int) -> int:
    """Return in what steps to go through pictures so that some thousand, evenly drawn, decide a fit."""
    return max(1, count // FITTED)


def fit_last_layer(network: ResNet29, pictures: PictureSet, pixels: Pixels, taught: Tensor) -> None:
    """Give the network the last layer that brings it nearest to the teachers, by least squares.

    Some thousand pictures, evenly drawn, are as good as all: the layer has 256 x 128 weights.
    """
    features, wanted = [], []
    for start in range(0, len(pictures), BATCH * stride(len(pictures))):
        numbers = [n for n in range(start, min(start + BATCH, len(pictures))) if taught[n].any()]
        crops = [resize(pictures.places[n].read(), pixels.size, pixels.view) for n in numbers]
        if crops:
            planes = to_planes(torch.from_numpy(np.stack(crops)), pixels.mean, pixels.scale, taught.device)
            with torch.no_grad():
                features.append(network.pool(planes.to(network.fc.weight.device)).cpu().double())
            wanted.append(taught[numbers].double())
    x = torch.cat(features)  # (n, 256)
    square = x.T @ x
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square))
    network.fc.weight.data.copy_(torch.linalg.solve(square, x.T @ torch.cat(wanted)).T)


def embed_all(
    pictures: PictureSet, weights: str, numbers: Sequence[int] | None = None, told: Told = ignore
) -> Embeddings:
    """Return one embedder's row of every picture, or of these numbers, mirror image averaged in."""
    embedder = Embedder(Model.load(weights))
    wanted = range(len(pictures)) if numbers is None else numbers
    rows = np.zeros((len(wanted), embedder.spec.dimension), np.float32)
    for crops, places in read_in_batches(pictures, wanted, BATCH, partial(told, weights)):
        cut = [recut(crop, pictures.rule, embedder.spec.crop) for crop in crops]
        rows[places] = embedder.embed(np.stack(cut))
    return rows


def read_in_batches(
    pictures: PictureSet, numbers: Sequence[int], size: int, told: Callable[[int, int], None]
) -> Iterator[tuple[list[Image], list[int]]]:
    """Yield the crops that can be read, some at a time, with their places among the numbers."""
    for start in range(0, len(numbers), size):
        told(start, len(numbers))
        crops, places = [], []
        for place, number in enumerate(numbers[start : start + size], start):
            try:
                crops.append(pictures.places[number].read())
                places.append(place)
            except ImageError:
                continue
        if crops:
            yield crops, places


def recut(crop: Image, was: CropRule | None, wanted: CropRule) -> Image:
    """Cut a crop again, by another rule.

    Raises:
        TrainingDataError: As in `straight_face`.
    """
    again: Image = align_faces(crop, [straight_face(was, wanted, len(crop))], wanted)[0]
    return again


def straight_face(was: CropRule | None, wanted: CropRule, size: int) -> Face:
    """Return the face that a crop of this size shows, to be cut again by another rule.

    Raises:
        TrainingDataError: One of the rules has no points, so that nothing tells where the face is.
    """
    if was is None or was.kind != "similarity" or wanted.kind != "similarity":
        raise TrainingDataError(
            "these crops", "only straightened crops with their crops.toml can be shown to a teacher"
        )
    return face_of(was, size)
