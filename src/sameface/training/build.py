"""The network of a run, and how it wants its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from sameface.manifest import read_manifest
from sameface.model import find_weights
from sameface.training.config import TrainConfig
from sameface.training.networks import Network
from sameface.training.resnet29 import SIZE, load_resnet29
from sameface.training.tables import TABLES


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels become planes: the side of the crop, and `(pixel - mean) * scale`."""

    size: int
    mean: tuple[float, float, float]
    scale: float


def pixels_of(network: str) -> Pixels:
    """Return how a network wants its pixels."""
    if network == "resnet29":
        manifest = read_manifest(find_weights("resnet29").with_suffix(".toml"))
        return Pixels(SIZE, manifest.mean, manifest.scale)
    return Pixels(TABLES[network].size, (127.5, 127.5, 127.5), 1 / 128)


def build_network(config: TrainConfig) -> nn.Module:
    """Return the network that a run begins with; `resnet29` begins with the shipped weights."""
    if config.network == "resnet29":
        return load_resnet29()
    norm: Any = config.norm
    return Network(TABLES[config.network], dimension=config.dimension, norm=norm, seed=config.seed)
