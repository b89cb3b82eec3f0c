"""Build the network of a run, and find the part of a crop that it takes as input."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sameface.align import place_points
from sameface.arrays import Image
from sameface.errors import ImageError
from sameface.face import Face
from sameface.manifest import CropRule, read_manifest
from sameface.model import find_weights
from sameface.training.augment import WHOLE, CropView, resize
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet
from sameface.training.errors import TrainingDataError
from sameface.training.loader import to_planes
from sameface.training.networks.inception import Network
from sameface.training.networks.resnet29 import SHIPPED, is_shortened, load_resnet29
from sameface.training.networks.tables import RESIDUALS, TABLES

ENLARGED = 0.1  # crops that lack more than this part of the input's side are refused


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How the pixels of a crop become planes."""

    size: int  # side of the network's input
    mean: tuple[float, float, float]  # subtracted from red, green and blue
    scale: float  # factor of the difference
    view: CropView = WHOLE  # the part of a stored crop that the network sees

    def to_planes(self, crops: Sequence[Image], device: torch.device) -> Tensor:
        """Return `(n, 3, size, size) float32` planes of stored crops."""
        resized = np.stack([resize(crop, self.size, self.view) for crop in crops])
        return to_planes(torch.from_numpy(resized), self.mean, self.scale, device)


def build_network(config: TrainConfig) -> nn.Module:
    """Return the network before the first step; residual networks start with the shipped weights."""
    if config.network in RESIDUALS:
        network = load_resnet29(config.start or SHIPPED, name=config.network)
        network.freeze(config.frozen)
        return network
    norm: Any = config.norm
    return Network(TABLES[config.network], dimension=config.dimension, norm=norm, seed=config.seed)


def start_weights(config: TrainConfig) -> str:
    """Return the weights that the whole network starts with; "" if it starts at random or from a part of them."""
    start = config.start or SHIPPED
    return start if config.network in RESIDUALS and not is_shortened(start, config.network) else ""


def make_input_spec(config: TrainConfig, rule: CropRule | None = None) -> InputSpec:
    """Return the input of a network for crops that were cut by `rule`.

    A residual network sees the part that its start weights were trained on, if the rule tells where that is; any
    other the part in the middle that `--view` gives.
    """
    if config.network not in RESIDUALS:
        view = CropView((1 - config.view) / 2, (1 - config.view) / 2, config.view)
        return InputSpec(TABLES[config.network].size, (127.5, 127.5, 127.5), 1 / 128, view)
    manifest = read_manifest(find_weights(SHIPPED).with_suffix(".toml"))
    assert manifest.embedding is not None
    view = WHOLE if rule is None else view_of_rule(rule, manifest.embedding.crop)
    return InputSpec(RESIDUALS[config.network].size, manifest.mean, manifest.scale, view)


def view_of_rule(was: CropRule, wanted: CropRule) -> CropView:
    """Return the part of a crop that another rule would have cut; all of it if a rule has no landmarks."""
    if was.kind != "similarity" or wanted.kind != "similarity":
        return WHOLE
    place = place_points(template_face(was, was.size), wanted)
    side = float(np.hypot(*place[:, 0])) * wanted.size
    middle = place @ [wanted.size / 2, wanted.size / 2, 1]
    left, top = (middle - side / 2) / was.size
    return CropView(round(float(left), 5), round(float(top), 5), round(side / was.size, 5))


def template_face(rule: CropRule, size: int) -> Face:
    """Return the face in a straightened crop: its landmarks are the rule's template."""
    points = np.array(rule.template, np.float32) * np.float32(size / rule.size)
    return Face(np.array([0, 0, size, size], np.float32), points, 1.0)


def check_crops(pictures: PictureSet, config: TrainConfig) -> None:
    """Raise unless the pictures are crops that the network can take.

    Raises:
        TrainingDataError: They differ from the size `as_is`; or, if that is 0, they have no crop rule, or the view is
            more than a tenth smaller than the network's input.
    """
    if not len(pictures):
        return
    source, rule = pictures.files[0].source, pictures.rule
    if rule is None and not config.as_is:
        reason = "no crops.toml: not cut by `sameface prepare`"
        way = "run that first, or give --as-is SIZE if these are square crops of faces"
        raise TrainingDataError(source, f"{reason}: {way}")
    if config.as_is or rule is None:
        check_sides(pictures, config.as_is)
        return
    spec = make_input_spec(config, rule)
    wanted = round(spec.size / spec.view.side)
    if rule.size < (1 - ENLARGED) * wanted:
        reason = f"crops of {rule.size} pixels are too small for {config.network}, which needs {wanted}"
        way = f"run `sameface prepare --size {wanted}`, choose another --network, or give --as-is {rule.size}"
        raise TrainingDataError(source, f"{reason}: {way}")


def check_sides(pictures: PictureSet, side: int) -> None:
    """Raise unless the first readable picture of each person is a square of this side."""
    for number in np.unique(pictures.owner, return_index=True)[1]:
        file = pictures.files[number]
        with contextlib.suppress(ImageError):
            height, width = file.read().shape[:2]
            if (height, width) != (side, side):
                reason = f"--as-is {side} wants {side} x {side} pixels, got {width} x {height}"
                raise TrainingDataError(str(file), f"{reason}: cut faces with `sameface prepare`")
