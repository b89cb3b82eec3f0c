"""The networks as tables that read like the paper's (FaceNet, tables 1 and 2): one row is one line.

`inception.py` builds the modules, `costs.py` counts parameters and multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution and a rectifier; padded so that only the stride shrinks the picture."""

    name: str
    out: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """The maximum of each 3x3 window, with stride 2."""

    name: str


@dataclass(frozen=True, slots=True)
class Norm:
    """The paper's response normalisation across channels; nothing if batch norm is used."""

    name: str


@dataclass(frozen=True, slots=True)
class Inception:
    """Up to four parallel branches whose channels are concatenated; 0 channels leave a branch out."""

    name: str
    one: int  # channels of the 1x1 convolution
    three: tuple[int, int]  # of the 1x1 reduction and of the 3x3 convolution behind it
    five: tuple[int, int]  # the same for 5x5
    pool: tuple[Literal["max", "L2"], int]  # over 3x3, and the channels of the 1x1 projection; 0 for none
    stride: int = 1  # of the 3x3, the 5x5 and the pool


@dataclass(frozen=True, slots=True)
class Maxout:
    """A full connection to `out` units, each the largest of `pieces` linear ones."""

    name: str
    out: int
    pieces: int = 2


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of each channel over the whole picture."""

    name: str


@dataclass(frozen=True, slots=True)
class Embed:
    """The last full connection, to the embedding; its rows are then scaled to length 1."""

    name: str


TableRow: TypeAlias = Conv | Pool | Norm | Inception | Maxout | Average | Embed


@dataclass(frozen=True, slots=True)
class NetworkTable:
    """A network of the paper."""

    name: str
    size: int  # side in pixels of its square crops
    width: int  # columns in the middle that it sees; NNS2's input is 140 high and 116 wide
    rows: tuple[TableRow, ...]


def halve(side: int, stride: int = 2) -> int:
    """Return a side behind a stride, rounded up."""
    return -(-side // stride)


NN1 = (
    Conv("conv1", 64, 7, 2),
    Pool("pool1"),
    Norm("rnorm1"),
    Conv("conv2a", 64, 1),
    Conv("conv2", 192, 3),
    Norm("rnorm2"),
    Pool("pool2"),
    Conv("conv3a", 192, 1),
    Conv("conv3", 384, 3),
    Pool("pool3"),
    Conv("conv4a", 384, 1),
    Conv("conv4", 256, 3),
    Conv("conv5a", 256, 1),
    Conv("conv5", 256, 3),
    Conv("conv6a", 256, 1),
    Conv("conv6", 256, 3),
    Pool("pool4"),
    Maxout("fc1", 32 * 128),
    Maxout("fc2", 32 * 128),
    Embed("fc7128"),
)

STEM = (
    Conv("conv1", 64, 7, 2),
    Pool("pool1"),
    Norm("norm1"),
    Conv("2_reduce", 64, 1),
    Conv("2", 192, 3),
    Norm("norm2"),
    Pool("pool2"),
)

MIDDLE = (
    #         name   1x1      3x3         5x5        pool
    Inception("3a", 64, (96, 128), (16, 32), ("max", 32)),
    Inception("3b", 64, (96, 128), (32, 64), ("L2", 64)),
    Inception("3c", 0, (128, 256), (32, 64), ("max", 0), stride=2),
    Inception("4a", 256, (96, 192), (32, 64), ("L2", 128)),
    Inception("4b", 224, (112, 224), (32, 64), ("L2", 128)),
    Inception("4c", 192, (128, 256), (32, 64), ("L2", 128)),
    Inception("4d", 160, (144, 288), (32, 64), ("L2", 128)),
)

NN2 = (
    *STEM,
    *MIDDLE,
    Inception("4e", 0, (160, 256), (64, 128), ("max", 0), stride=2),
    Inception("5a", 384, (192, 384), (48, 128), ("L2", 128)),
    Inception("5b", 384, (192, 384), (48, 128), ("max", 128)),
    Average("pool5"),
    Embed("fc"),
)

# NN4 has no 5x5 in the higher layers; without it in 4e, 5a and 5b both of the paper's figures are met.
NN4 = (
    *STEM,
    *MIDDLE,
    Inception("4e", 0, (160, 256), (0, 0), ("max", 0), stride=2),
    Inception("5a", 384, (192, 384), (0, 0), ("L2", 128)),
    Inception("5b", 384, (192, 384), (0, 0), ("max", 128)),
    Average("pool5"),
    Embed("fc"),
)

# Of NNS1 and NNS2 the paper gives only the input and the budgets (26 M parameters and 220 M multiply-adds; 4.3 M and
# 20 M). These tables are ours: a thinner and shorter NN2, and, as in NN1, a maxout layer on the whole last picture,
# which holds most of the parameters.
NNS1 = (
    Conv("conv1", 32, 7, 2),
    Pool("pool1"),
    Norm("norm1"),
    Conv("2_reduce", 32, 1),
    Conv("2", 96, 3),
    Norm("norm2"),
    Pool("pool2"),
    Inception("3a", 32, (48, 64), (8, 16), ("max", 16)),
    Inception("3b", 32, (48, 64), (16, 32), ("L2", 32)),
    Inception("3c", 0, (64, 128), (16, 32), ("max", 0), stride=2),
    Inception("4a", 128, (48, 96), (16, 32), ("L2", 64)),
    Inception("4b", 96, (48, 112), (16, 32), ("L2", 64)),
    Inception("4e", 0, (96, 160), (32, 64), ("max", 0), stride=2),
    Inception("5a", 192, (96, 192), (0, 0), ("L2", 64)),
    Maxout("fc1", 768),
    Embed("fc"),
)

NNS2 = (
    Conv("conv1", 16, 5, 2),
    Pool("pool1"),
    Norm("norm1"),
    Conv("2_reduce", 16, 1),
    Conv("2", 24, 3),
    Norm("norm2"),
    Pool("pool2"),
    Inception("3a", 16, (16, 24), (4, 8), ("max", 8)),
    Inception("3c", 0, (24, 40), (8, 16), ("max", 0), stride=2),
    Inception("4a", 48, (24, 48), (8, 16), ("L2", 16)),
    Inception("4e", 0, (40, 80), (16, 32), ("max", 0), stride=2),
    Inception("5a", 96, (48, 112), (0, 0), ("L2", 32)),
    Maxout("fc1", 424),
    Embed("fc"),
)

TABLES = {
    table.name: table
    for table in (
        NetworkTable("nn1", 220, 220, NN1),
        NetworkTable("nn2", 224, 224, NN2),
        NetworkTable("nn3", 160, 160, NN2),
        NetworkTable("nn4", 96, 96, NN4),
        NetworkTable("nns1", 165, 165, NNS1),
        NetworkTable("nns2", 140, 116, NNS2),
    )
}

# The blocks of dlib's network.
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # channels of each block
DOWN = (3, 7, 10, 13)  # the blocks that halve the picture


@dataclass(frozen=True, slots=True)
class ResidualTable:
    """A network of dlib's kind."""

    size: int  # side in pixels of its square crops
    kept: tuple[int, ...]  # which of the fourteen blocks it has


RESIDUALS = {
    "resnet29": ResidualTable(150, tuple(range(14))),
    # All blocks, on a picture of half the pixels: it begins near what it should be.
    "resnet29-104": ResidualTable(104, tuple(range(14))),
    # Half the blocks and a smaller picture, of which 2 x 2 places are left at the end.
    "resnet15": ResidualTable(102, (3, 4, 7, 8, 10, 11, 12)),
}
