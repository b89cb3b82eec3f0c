"""Knowledge distillation: targets that existing embedders (teachers) give the network in training (the student).

`teacher_targets` embeds every clean picture once. `OnlineTeacher` embeds the augmented crops of each step, mixed
with other faces if wanted: the teacher is then a function to imitate, not one point per picture (Beyer et al.,
"Knowledge distillation: a good teacher is patient and consistent", 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sameface.align import align_faces, place_points
from sameface.arrays import Embeddings, Image
from sameface.embed import Embedder, unit_rows
from sameface.errors import WeightsError
from sameface.face import Face
from sameface.manifest import CropRule
from sameface.model import Model, find_weights
from sameface.training.augment import resize
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet, read_batches
from sameface.training.errors import TrainingDataError
from sameface.training.loader import to_planes
from sameface.training.networks.build import InputSpec, template_face
from sameface.training.networks.resnet29 import ResNet29, load_resnet29
from sameface.training.onnx_module import OnnxModule

BATCH = 16
ONLINE_BATCH = 64
FITTED = 6_000  # pictures that decide a fit
RIDGE = 1e-3  # of the mean square of a feature
TOLERANCE = 0.01  # between torch and ONNX Runtime, in a coordinate of a unit row

OnProgress = Callable[[str, int, int], None]  # teacher, pictures embedded, pictures in all


def ignore_progress(_teacher: str, _done: int, _count: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class TargetSpace:
    """The map from the rows of several teachers to rows of the student's width."""

    weights: tuple[float, ...]  # factor of each teacher
    means: tuple[Embeddings, ...] = ()  # (d,) mean row of each teacher; empty for one that is taken as it is
    directions: Embeddings | None = None  # (sum of d, dimension) principal directions of the joined rows
    turn: Embeddings | None = None  # (dimension, dimension) rotation and scale to the student's start weights
    shift: Embeddings | None = None  # (dimension,) behind the rotation

    def to_dict(self) -> dict[str, Any]:
        """Return the map as a checkpoint stores it."""
        fitted = {name: getattr(self, name) for name in ("directions", "turn", "shift")}
        tensors = {name: None if value is None else torch.from_numpy(value) for name, value in fitted.items()}
        return {"weights": list(self.weights), "means": [torch.from_numpy(mean) for mean in self.means], **tensors}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> TargetSpace:
        """Return the map that `to_dict` stored."""
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

    def align_to(self, rows: Embeddings, own: Embeddings) -> TargetSpace:
        """Rotate, scale and shift `(n, dimension)` rows onto an embedder's (orthogonal Procrustes, Schönemann, 1966).

        A student that starts with the embedder's weights then has the shortest way to go, and its rows stay
        comparable with the embedder's. Distances keep their ratios, but for the projection to the sphere.
        """
        rows, own = rows.astype(np.float64), own.astype(np.float64)
        origin, middle = rows.mean(axis=0), own.mean(axis=0)
        left, _, right = np.linalg.svd((rows - origin).T @ (own - middle))
        turn = left @ right * (np.linalg.norm(own - middle) / np.linalg.norm(rows - origin))
        return replace(self, turn=turn, shift=np.asarray(middle - origin @ turn))


def fit_space(parts: Sequence[Embeddings], weights: Sequence[float], dimension: int) -> TargetSpace:
    """Return the map to `dimension` numbers that keeps the distances best.

    One teacher of that width is taken as it is. The rows of several are centred, normalised, weighted and
    concatenated. Wider rows are projected onto their principal directions (PCA without centring).

    Raises:
        TrainingDataError: The teachers together are narrower than the network.
    """
    width = sum(part.shape[1] for part in parts)
    if width < dimension:
        reason = f"the teachers' {width} numbers cannot teach {dimension}: lower --dimension"
        raise TrainingDataError("these teachers", reason)
    space = TargetSpace(tuple(weights), tuple(part.mean(axis=0) for part in parts) if len(parts) > 1 else ())
    if width == dimension:
        return space
    joined = space.join(parts)
    directions = np.linalg.svd(joined.T.astype(np.float64) @ joined)[0][:, :dimension]
    return replace(space, directions=directions)


def teacher_targets(
    pictures: PictureSet, config: TrainConfig, start: str = "", on_progress: OnProgress = ignore_progress
) -> Embeddings:
    """Return the targets of straightened crops: `(n, dimension) float32` unit rows, zeros for unreadable ones.

    `start` names the weights whose space the targets are aligned to; "" for none.

    Raises:
        WeightsError: A teacher is not an embedder.
        TrainingDataError: The teachers together are narrower than the network, or the crops have no rule.
    """
    parts = [embed_all(pictures, name, on_progress=on_progress) for name, _ in config.teachers()]
    seen = np.flatnonzero(parts[0].any(axis=1))
    parts = [part[seen] for part in parts]
    space = fit_space(parts, [weight for _, weight in config.teachers()], config.dimension)
    if start:
        some = np.arange(0, len(seen), sample_step(len(seen)))
        own = embed_all(pictures, start, seen[some].tolist(), on_progress)
        space = space.align_to(space.join([part[some] for part in parts]), own)
    rows = np.zeros((len(pictures), config.dimension), np.float32)
    rows[seen] = space.join(parts)
    return rows


def sample_step(count: int) -> int:
    """Return the step through `count` pictures that picks about `FITTED` of them evenly."""
    return max(1, count // FITTED)


def fit_last_layer(network: ResNet29, pictures: PictureSet, spec: InputSpec, targets: Tensor) -> None:
    """Set the last layer by ridge regression of the targets on the features of an even sample of pictures."""
    numbers = [n for n in range(0, len(pictures), sample_step(len(pictures))) if targets[n].any()]
    features, wanted = [], []
    for crops, places in read_batches(pictures, numbers, BATCH):
        with torch.no_grad():
            features.append(network.pool(spec.to_planes(crops, network.fc.weight.device)).cpu().double())
        wanted.append(targets[[numbers[place] for place in places]].double())
    x = torch.cat(features)  # (n, 256)
    square = x.T @ x
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square))
    network.fc.weight.data.copy_(torch.linalg.solve(square, x.T @ torch.cat(wanted)).T)


def embed_all(
    pictures: PictureSet, weights: str, numbers: Sequence[int] | None = None, on_progress: OnProgress = ignore_progress
) -> Embeddings:
    """Return one embedder's rows of all pictures, or of these, averaged with the mirror images."""
    embedder = Embedder(Model.load(weights))
    wanted = range(len(pictures)) if numbers is None else numbers
    rows = np.zeros((len(wanted), embedder.spec.dimension), np.float32)
    for crops, places in read_batches(pictures, wanted, BATCH, partial(on_progress, weights)):
        rows[places] = embedder.embed(np.stack([recut(crop, pictures.rule, embedder.spec.crop) for crop in crops]))
    return rows


def recut(crop: Image, was: CropRule | None, wanted: CropRule) -> Image:
    """Cut a crop again by another rule; the errors are those of `find_template_face`."""
    again: Image = align_faces(crop, [find_template_face(was, wanted, len(crop))], wanted)[0]
    return again


def find_template_face(was: CropRule | None, wanted: CropRule, size: int) -> Face:
    """Return the face in a crop of this size.

    Raises:
        TrainingDataError: A rule has no landmarks.
    """
    if was is None or was.kind != "similarity" or wanted.kind != "similarity":
        reason = "only straightened crops with their crops.toml can be shown to a teacher"
        raise TrainingDataError("these crops", reason)
    return template_face(was, size)


@dataclass(frozen=True, slots=True)
class CropFrame:
    """The square crop that a step loads: it holds the student's part and the teachers' parts."""

    size: int  # side in pixels; one of them is a pixel of the student's part
    left: int  # of the student's part
    top: int
    side: int

    @classmethod
    def around(cls, spec: InputSpec) -> CropFrame:
        """Return the frame whose part has the pixels that the student takes."""
        size = round(spec.size / spec.view.side)
        return cls(size, round(spec.view.left * size), round(spec.view.top * size), spec.size)

    def cut(self, crops: Tensor) -> Tensor:
        """Return the student's part of `(n, size, size, 3)`."""
        return crops[:, self.top : self.top + self.side, self.left : self.left + self.side]


class TeacherNetwork(nn.Module):
    """An embedder in torch that cuts its own part out of a frame, whose crop rule is `rule`.

    Raises:
        WeightsError: The weights are not an embedder's, or torch cannot compute it.
        TrainingDataError: A rule has no landmarks.
    """

    def __init__(self, weights: str, rule: CropRule | None) -> None:
        super().__init__()
        embedder = Embedder(Model.load(weights), flip=False)
        wanted, manifest = embedder.spec.crop, embedder.model.manifest
        size = wanted.size if rule is None else rule.size
        place = place_points(find_template_face(rule, wanted, size), wanted)
        self.mean, self.scale = manifest.mean, manifest.scale
        self.network = load_teacher_network(weights)
        self.network.requires_grad_(requires_grad=False).eval()
        check_same_rows(self.network, embedder)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Where each pixel of its crop lies in the frame, as torch counts: -1 to 1.
        middles = np.arange(wanted.size) + 0.5
        across, down = np.meshgrid(middles, middles)
        points = np.stack([across, down, np.ones_like(across)], axis=-1) @ place.T
        self.register_buffer("grid", torch.from_numpy(2 * points / size - 1).float())

    def forward(self, frames: Tensor) -> Tensor:
        """Return `(n, d)` unit rows of `(n, size, size, 3) uint8`."""
        grid = cast("Tensor", self.grid)
        planes = to_planes(frames, (0, 0, 0), 1, grid.device)
        crops = functional.grid_sample(planes, grid.expand(len(planes), -1, -1, -1), align_corners=False)
        mean = torch.tensor(self.mean, device=grid.device)[:, None, None]
        crops = ((crops - mean) * self.scale).contiguous(memory_format=torch.channels_last)
        return functional.normalize(self.network(crops).float(), dim=1)


def load_teacher_network(weights: str) -> nn.Module:
    """Return the network of an ONNX file in torch: `resnet29` by its tensors, others by their graph."""
    path = find_weights(weights)
    try:
        return load_resnet29(path)
    except WeightsError:
        return OnnxModule(path)


def check_same_rows(network: nn.Module, embedder: Embedder) -> None:
    """Raise unless torch and ONNX Runtime give the same rows of noise: torch may ignore an option of a node."""
    manifest, size = embedder.model.manifest, embedder.spec.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    planes = to_planes(torch.from_numpy(crops), manifest.mean, manifest.scale, torch.device("cpu"))
    with torch.no_grad():
        rows = functional.normalize(network(planes).float(), dim=1).numpy()
    if not np.abs(rows - embedder.embed(crops)).max() < TOLERANCE:
        reason = "torch gives other rows than ONNX Runtime: show it the clean pictures only"
        raise WeightsError(manifest.name, f"{reason} (--teacher-sees clean)")


class OnlineTeacher:
    """The teachers of a run on the training device; `space` joins their rows."""

    def __init__(self, rule: CropRule | None, spec: InputSpec, config: TrainConfig, device: torch.device) -> None:
        self.frame = CropFrame.around(spec)
        self.config = config
        self.device = device
        self.teachers = [TeacherNetwork(name, rule).to(device) for name, _ in config.teachers()]
        self.space = TargetSpace(())

    def fit(self, pictures: PictureSet, start: str = "", on_progress: OnProgress = ignore_progress) -> TargetSpace:
        """Return the map fitted to an even sample of clean pictures; arguments as in `teacher_targets`."""
        found: list[list[Embeddings]] = []
        seen: list[int] = []
        wanted = range(0, len(pictures), sample_step(len(pictures)))
        progress = partial(on_progress, self.config.teacher)
        for crops, places in read_batches(pictures, wanted, ONLINE_BATCH, progress):
            frames = np.stack([resize(crop, self.frame.size) for crop in crops])
            found.append(self._embed(torch.from_numpy(frames)))
            seen += [wanted[place] for place in places]
        parts = [np.concatenate(rows) for rows in zip(*found, strict=True)]
        space = fit_space(parts, [weight for _, weight in self.config.teachers()], self.config.dimension)
        return space.align_to(space.join(parts), embed_all(pictures, start, seen, on_progress)) if start else space

    def __call__(self, frames: Tensor) -> Tensor:
        """Return `(n, dimension) float32` unit rows of `(n, size, size, 3) uint8`."""
        return torch.from_numpy(self.space.join(self._embed(frames)))

    def _embed(self, frames: Tensor) -> list[Embeddings]:
        """Return each teacher's own rows."""
        half = self.config.uses_bfloat16(self.device.type)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return [teacher(frames).cpu().numpy() for teacher in self.teachers]


def mix_faces(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Blend the last `count` of `(n, size, size, 3) uint8` frames with others of the batch.

    Eyes, nose and mouth of the two faces coincide. A ramp at a random angle leads from one face to the other; its
    width varies from a sharp edge to a blend of the whole frame.
    """
    if not count:
        return frames
    others = torch.randperm(len(frames), generator=generator)[:count]
    angle = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    offset = torch.rand(count, 1, 1, generator=generator) - 0.5
    width = 10 ** (2 * torch.rand(count, 1, 1, generator=generator) - 1.5)  # of the ramp, 0.03 to 3 sides
    line = torch.linspace(-0.5, 0.5, frames.shape[1])
    across = line * torch.cos(angle) + line[:, None] * torch.sin(angle)  # (count, size, size)
    share = ((across - offset) / width).sigmoid()[..., None]
    first, second = frames[len(frames) - count :].float(), frames[others].float()
    mixed = (first + share * (second - first)).round().to(torch.uint8)
    return torch.cat([frames[: len(frames) - count], mixed])
