"""Teachers: what embedders that exist already say of the training pictures, to be imitated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sameface.align import align_faces
from sameface.arrays import Embeddings, Image
from sameface.embed import Embedder, unit_rows
from sameface.errors import ImageError, TrainingDataError
from sameface.manifest import CropRule
from sameface.model import Model
from sameface.training.augment import resize
from sameface.training.build import Pixels, face_of
from sameface.training.loader import to_planes
from sameface.training.pictures import PictureSet
from sameface.training.resnet29 import ResNet29

BATCH = 16
FITTED = 6_000  # pictures that a last layer is fitted to
RIDGE = 1e-3  # of the mean square of a feature

Teachers = Sequence[tuple[str, float]]  # weights by name or path, and how much each counts


def teach(pictures: PictureSet, teachers: Teachers, dimension: int) -> Embeddings:
    """Return what the teachers say of every picture as it is: the point that a changed copy should come to.

    One teacher of the wanted width is taken as it is. The rows of several are each centred, scaled to
    length 1, weighted and joined. What is wider than wanted is turned onto its principal directions, which
    keeps the distances as well as a linear map can.

    Returns:
        `(n, dimension) float32` unit rows; zeros for a picture that cannot be read.

    Raises:
        WeightsError: A teacher is not an embedder.
        TrainingDataError: The teachers together are narrower than the network, or the pictures do not say
            how they were cut.
    """
    parts = [embed_all(pictures, name) for name, _ in teachers]
    if len(parts) == 1:
        joined = parts[0]
    else:
        seen = np.flatnonzero(parts[0].any(axis=1))
        centred = [np.zeros_like(rows) for rows in parts]
        for rows, part in zip(centred, parts, strict=True):
            rows[seen] = unit_rows(part[seen] - part[seen].mean(axis=0))
        weighted = [weight * rows for (_, weight), rows in zip(teachers, centred, strict=True)]
        joined = unit_rows(np.concatenate(weighted, axis=1))
    if joined.shape[1] < dimension:
        told = f"the teachers' {joined.shape[1]} numbers cannot teach {dimension}: lower --dimension"
        raise TrainingDataError("these teachers", told)
    return joined if joined.shape[1] == dimension else project(joined, dimension)


def project(rows: Embeddings, dimension: int) -> Embeddings:
    """Turn rows onto their first principal directions (about the origin), and scale them to length 1."""
    directions = np.linalg.svd(rows.T.astype(np.float64) @ rows)[0][:, :dimension]
    return unit_rows((rows @ directions).astype(np.float32))


def turn_toward(rows: Embeddings, weights: str, pictures: PictureSet) -> Embeddings:
    """Turn, scale and shift the teachers' rows to where an embedder of their width has the same pictures.

    The distances between them all shrink or grow alike, but for what coming back to the sphere changes. A
    network that begins with these weights has the shortest way to go, and its rows stay comparable with what
    the embedder said before, thresholds and all (orthogonal Procrustes, Schönemann, 1966).

    Args:
        rows: `(n, d)`, zeros for a picture that cannot be read.
        weights: The embedder, by name or path.
        pictures: Those the rows are of; some thousand, evenly drawn, decide the turn.
    """
    some = range(0, len(pictures), max(1, len(pictures) // FITTED))
    own = embed_all(pictures, weights, some).astype(np.float64)
    seen = own.any(axis=1)
    told, own = rows[some][seen].astype(np.float64), own[seen]
    origin, middle = told.mean(axis=0), own.mean(axis=0)
    left, _, right = np.linalg.svd((told - origin).T @ (own - middle))
    scale = np.linalg.norm(own - middle) / np.linalg.norm(told - origin)
    placed = unit_rows(((rows - origin) @ (left @ right) * scale + middle).astype(np.float32))
    return np.where(rows.any(axis=1, keepdims=True), placed, 0).astype(np.float32)


def fit_last_layer(network: ResNet29, pictures: PictureSet, pixels: Pixels, taught: Tensor) -> None:
    """Give the network the last layer that brings it nearest to the teachers, by least squares.

    Some thousand pictures, evenly drawn, are as good as all: the layer has 256 x 128 weights.
    """
    features, wanted = [], []
    for start in range(0, len(pictures), BATCH * max(1, len(pictures) // FITTED)):
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


def embed_all(pictures: PictureSet, weights: str, numbers: Sequence[int] | None = None) -> Embeddings:
    """Return one embedder's row of every picture, or of these numbers, mirror image averaged in."""
    embedder = Embedder(Model.load(weights))
    wanted = range(len(pictures)) if numbers is None else numbers
    rows = np.zeros((len(wanted), embedder.spec.dimension), np.float32)
    for start in range(0, len(wanted), BATCH):
        crops, seen = [], []
        for place, number in enumerate(wanted[start : start + BATCH], start):
            try:
                image = pictures.places[number].read()
            except ImageError:
                continue
            crops.append(recut(image, pictures.rule, embedder.spec.crop))
            seen.append(place)
        if crops:
            rows[seen] = embedder.embed(np.stack(crops))
    return rows


def recut(crop: Image, was: CropRule | None, wanted: CropRule) -> Image:
    """Cut a crop again, by another rule.

    Raises:
        TrainingDataError: One of the rules has no points, so that nothing tells where the face is.
    """
    if was is None or was.kind != "similarity" or wanted.kind != "similarity":
        raise TrainingDataError(
            "these crops", "only straightened crops with their crops.toml can be shown to a teacher"
        )
    again: Image = align_faces(crop, [face_of(was, len(crop))], wanted)[0]
    return again
