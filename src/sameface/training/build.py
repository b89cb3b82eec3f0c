"""The network of a run, and how it wants its pictures."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from sameface.align import place_points
from sameface.errors import ImageError
from sameface.face import Face
from sameface.manifest import CropRule, read_manifest
from sameface.model import find_weights
from sameface.training.augment import WHOLE, View
from sameface.training.config import TrainConfig
from sameface.training.errors import TrainingDataError
from sameface.training.networks import Network
from sameface.training.pictures import PictureSet
from sameface.training.resnet29 import SHIPPED, is_shortened, load_resnet29
from sameface.training.tables import RESIDUALS, TABLES

ENLARGED = 0.1  # of its input: crops that lack more than this much are refused


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels become planes.

    Attributes:
        size: The side of what the network takes.
        mean: Taken from red, green and blue.
        scale: What the difference is multiplied by.
        view: The part of a stored crop that the network looks at.
    """

    size: int
    mean: tuple[float, float, float]
    scale: float
    view: View = WHOLE


def pixels_of(config: TrainConfig, rule: CropRule | None = None) -> Pixels:
    """Return how a network wants its pictures, from crops that were cut by `rule`.

    A network that begins with shipped weights looks at what these were trained on, as far as the rule tells
    where that is; any other at the part in the middle that `--view` says.
    """
    if config.network not in RESIDUALS:
        view = View((1 - config.view) / 2, (1 - config.view) / 2, config.view)
        return Pixels(TABLES[config.network].size, (127.5, 127.5, 127.5), 1 / 128, view)
    manifest = read_manifest(find_weights(SHIPPED).with_suffix(".toml"))
    assert manifest.embedding is not None
    view = WHOLE if rule is None else view_of(rule, manifest.embedding.crop)
    return Pixels(RESIDUALS[config.network].size, manifest.mean, manifest.scale, view)


def check_crops(pictures: PictureSet, config: TrainConfig) -> None:
    """Raise unless the pictures are crops that the network can look at.

    Raises:
        TrainingDataError: They are not of the size `as_is`; or, if that is 0, have no crop rule, or the part
            that the network looks at is more than a tenth smaller than its input.
    """
    if not len(pictures):
        return
    source, rule = pictures.places[0].source, pictures.rule
    if rule is None and not config.as_is:
        told = "no crops.toml: not cut by `sameface prepare`"
        raise TrainingDataError(
            source, f"{told}: run that first, or give --as-is SIZE if these are square crops of faces"
        )
    if config.as_is or rule is None:
        check_sides(pictures, config.as_is)
        return
    pixels = pixels_of(config, rule)
    wanted = round(pixels.size / pixels.view.side)
    if rule.size < (1 - ENLARGED) * wanted:
        raise TrainingDataError(
            source,
            f"crops of {rule.size} pixels are too small for {config.network}, which needs {wanted}: "
            f"run `sameface prepare --size {wanted}`, choose another --network, or give --as-is {rule.size}",
        )


def check_sides(pictures: PictureSet, side: int) -> None:
    """Raise unless the first picture of each person that can be read is a square of this side."""
    for number in np.unique(pictures.owner, return_index=True)[1]:
        place = pictures.places[number]
        with contextlib.suppress(ImageError):
            height, width = place.read().shape[:2]
            if (height, width) != (side, side):
                reason = f"--as-is {side} wants {side} x {side} pixels, got {width} x {height}"
                raise TrainingDataError(str(place), f"{reason}: cut faces with `sameface prepare`")


def view_of(was: CropRule, wanted: CropRule) -> View:
    """Return the part of a crop that another rule would have cut; all of it where there are no points."""
    if was.kind != "similarity" or wanted.kind != "similarity":
        return WHOLE
    place = place_points(face_of(was, was.size), wanted)
    side = float(np.hypot(*place[:, 0])) * wanted.size
    middle = place @ [wanted.size / 2, wanted.size / 2, 1]
    left, top = (middle - side / 2) / was.size
    return View(round(float(left), 5), round(float(top), 5), round(side / was.size, 5))


def face_of(rule: CropRule, size: int) -> Face:
    """Return the face that a straightened crop shows: its points lie where the rule's template has them."""
    points = np.array(rule.template, np.float32) * np.float32(size / rule.size)
    return Face(np.array([0, 0, size, size], np.float32), points, 1.0)


def build_network(config: TrainConfig) -> nn.Module:
    """Return the network that a run begins with; those of dlib's kind begin with the shipped weights."""
    if config.network in RESIDUALS:
        network = load_resnet29(config.start or SHIPPED, name=config.network)
        network.freeze(config.frozen)
        return network
    norm: Any = config.norm
    return Network(TABLES[config.network], dimension=config.dimension, norm=norm, seed=config.seed)


def begun_from(config: TrainConfig) -> str:
    """Return the weights whose space a run begins in; none if it begins from nothing or from a part."""
    start = config.start or SHIPPED
    return start if config.network in RESIDUALS and not is_shortened(start, config.network) else ""
