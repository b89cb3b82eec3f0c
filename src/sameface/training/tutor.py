"""Teachers who see what the pupil sees: the same changed crop, asked anew in every step.

A row of the clean picture is one target per picture, and a network learns forty thousand of them by heart.
Asked about the changed crop itself, mixed with another person's if wanted, the teacher is a function to
imitate, and no two steps show the same place of it (Beyer et al., "Knowledge distillation: a good teacher is
patient and consistent", 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sameface.align import place_points
from sameface.arrays import Embeddings
from sameface.embed import Embedder
from sameface.errors import WeightsError
from sameface.manifest import CropRule
from sameface.model import Model, find_weights
from sameface.training.augment import resize
from sameface.training.build import Pixels
from sameface.training.config import TrainConfig
from sameface.training.foreign import Foreign
from sameface.training.loader import to_planes
from sameface.training.pictures import PictureSet
from sameface.training.resnet29 import load_resnet29
from sameface.training.teacher import Space, Told, embed_all, fit_space, ignore, read_in_batches, straight_face, stride

BATCH = 64
SAME = 0.01  # of a number of a unit row; both compute in float32


@dataclass(frozen=True, slots=True)
class Frame:
    """The crops that a step loads: large enough for the pupil and the teachers to cut theirs out.

    Attributes:
        size: Their side; a pixel of them is one of the pupil's.
        left: Where the pupil's part begins.
        top: The same from above.
        side: How large it is.
    """

    size: int
    left: int
    top: int
    side: int

    def cut(self, crops: Tensor) -> Tensor:
        """Return the pupil's part of `(n, size, size, 3)`."""
        return crops[:, self.top : self.top + self.side, self.left : self.left + self.side]


def frame_of(pixels: Pixels) -> Frame:
    """Return the frame in which the pupil's part has the pixels that it takes."""
    size = round(pixels.size / pixels.view.side)
    left, top = round(pixels.view.left * size), round(pixels.view.top * size)
    return Frame(size, left, top, pixels.size)


class Teacher(nn.Module):
    """An embedder that looks at its own part of a frame.

    Args:
        weights: By name or path.
        rule: How the crops were cut that are shown in the frame.

    Raises:
        WeightsError: It is not an embedder, or cannot be had in torch.
        TrainingDataError: Nothing tells where the face is in a crop.
    """

    def __init__(self, weights: str, rule: CropRule | None) -> None:
        super().__init__()
        embedder = Embedder(Model.load(weights), flip=False)
        wanted, manifest = embedder.spec.crop, embedder.model.manifest
        size = wanted.size if rule is None else rule.size
        place = place_points(straight_face(rule, wanted, size), wanted)
        self.mean, self.scale = manifest.mean, manifest.scale
        self.network = load_foreign(find_weights(weights))
        self.network.requires_grad_(requires_grad=False).eval()
        check_same(self.network, embedder)
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


class Tutor:
    """The teachers of a run, joined, on the device where it trains.

    Args:
        rule: How the training pictures were cut.
        pixels: What the pupil looks at.
        config: Names the teachers.
        device: Where to compute.
    """

    def __init__(self, rule: CropRule | None, pixels: Pixels, config: TrainConfig, device: torch.device) -> None:
        self.frame = frame_of(pixels)
        self.config = config
        self.device = device
        self.teachers = [Teacher(name, rule).to(device) for name, _ in config.teachers()]
        self.space = Space(())

    def fit(self, pictures: PictureSet, start: str = "", told: Told = ignore) -> Space:
        """Return how the teachers' rows are joined, decided by some thousand of the pictures as they are.

        Args:
            pictures: The training pictures.
            start: Weights in whose space the rows are to lie; none if empty.
            told: As in `teach`.
        """
        parts, seen = self._look_at_some(pictures, told)
        space = fit_space(parts, [weight for _, weight in self.config.teachers()], self.config.dimension)
        if start:
            space = space.toward(space.join(parts), embed_all(pictures, start, seen, told))
        return space

    def __call__(self, frames: Tensor) -> Tensor:
        """Return `(n, dimension) float32` unit rows of `(n, size, size, 3) uint8`."""
        return torch.from_numpy(self.space.join(self._ask(frames)))

    def _ask(self, frames: Tensor) -> list[Embeddings]:
        """Return each teacher's own rows."""
        half = self.config.halves(self.device.type)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return [teacher(frames).cpu().numpy() for teacher in self.teachers]

    def _look_at_some(self, pictures: PictureSet, told: Told) -> tuple[list[Embeddings], list[int]]:
        """Return the teachers' rows of some pictures, and which these are."""
        found: list[list[Embeddings]] = []
        seen: list[int] = []
        wanted = range(0, len(pictures), stride(len(pictures)))
        for crops, places in read_in_batches(pictures, wanted, BATCH, partial(told, self.config.teacher)):
            frames = np.stack([resize(crop, self.frame.size) for crop in crops])
            found.append(self._ask(torch.from_numpy(frames)))
            seen += [wanted[place] for place in places]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)], seen


def load_foreign(path: Path) -> nn.Module:
    """Return an embedder's network: ours by its shape, others by what their file says."""
    try:
        return load_resnet29(path)
    except WeightsError:
        return Foreign(path)


def check_same(network: nn.Module, embedder: Embedder) -> None:
    """Raise unless torch gives the rows of noise that ONNX Runtime gives: it may not know an option."""
    manifest, size = embedder.model.manifest, embedder.spec.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    planes = to_planes(torch.from_numpy(crops), manifest.mean, manifest.scale, torch.device("cpu"))
    with torch.no_grad():
        rows = functional.normalize(network(planes).float(), dim=1).numpy()
    if not np.abs(rows - embedder.embed(crops)).max() < SAME:
        reason = "torch gives other rows than ONNX Runtime: show it the clean pictures only"
        raise WeightsError(manifest.name, f"{reason} (--teacher-sees clean)")


def mix(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Mix the last frames with others of the batch: a face that nobody has.

    The two faces lie on each other's eyes, nose and mouth. A ramp at a random angle leads from one to the
    other, from a sharp edge to one so wide that both are everywhere.

    Args:
        frames: `(n, size, size, 3) uint8`.
        count: How many to mix, n at most.
        generator: Decides everything.
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
