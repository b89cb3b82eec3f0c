"""The networks as tables that read like the paper's (FaceNet, tables 1 and 2), and their costs.

One row is one line of the paper. A cost is parameters and multiply-adds (the paper's "FLOPS").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


Shape: TypeAlias = tuple[int, int, int]  # channels, height, width
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

NN2 = (
    *STEM,
    #         name   1x1      3x3         5x5        pool
    Inception("3a", 64, (96, 128), (16, 32), ("max", 32)),
    Inception("3b", 64, (96, 128), (32, 64), ("L2", 64)),
    Inception("3c", 0, (128, 256), (32, 64), ("max", 0), stride=2),
    Inception("4a", 256, (96, 192), (32, 64), ("L2", 128)),
    Inception("4b", 224, (112, 224), (32, 64), ("L2", 128)),
    Inception("4c", 192, (128, 256), (32, 64), ("L2", 128)),
    Inception("4d", 160, (144, 288), (32, 64), ("L2", 128)),
    Inception("4e", 0, (160, 256), (64, 128), ("max", 0), stride=2),
    Inception("5a", 384, (192, 384), (48, 128), ("L2", 128)),
    Inception("5b", 384, (192, 384), (48, 128), ("max", 128)),
    Average("pool5"),
    Embed("fc"),
)

# NN4 has no 5x5 in the higher layers; without it in 4e, 5a and 5b both of the paper's figures are met.
NN4 = tuple(
    replace(row, five=(0, 0)) if isinstance(row, Inception) and row.name in ("4e", "5a", "5b") else row for row in NN2
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


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The cost of one line of a network for one picture."""

    name: str
    shape: Shape  # of the output
    weights: int  # without biases and normalisation, as the paper counts
    macs: int  # multiply-adds


def totals(costs: list[LayerCost]) -> tuple[int, int]:
    """Return all weights and all multiply-adds."""
    return sum(cost.weights for cost in costs), sum(cost.macs for cost in costs)


def count_table(table: NetworkTable, dimension: int = 128) -> list[LayerCost]:
    """Return the cost of every line of a network of the paper."""
    shape: Shape = (3, table.size, table.width)
    costs = []
    for row in table.rows:
        costs.append(count_row(row, shape, dimension))
        shape = costs[-1].shape
    return costs


def count_residual(table: ResidualTable) -> list[LayerCost]:
    """Return the cost of every convolution of a network of dlib's kind, and of its last layer."""
    side = (table.size - 7) // 2 + 1
    costs = [count_conv("conv0", 3, (32, side, side), 7)]
    side, channels = (side - 3) // 2 + 1, 32
    for number in table.kept:
        width, inner = WIDTHS[number], side
        if number in DOWN:
            inner = (side - 3) // 2 + 1
            side = max(inner, side // 2)
        for part, inputs in ((1, channels), (2, width)):
            costs.append(count_conv(f"block{number + 1}_conv{part}", inputs, (width, inner, inner), 3))
        channels = width
    return [*costs, count_conv("fc", channels, (128, 1, 1), 1)]


def count_row(row: TableRow, shape: Shape, dimension: int) -> LayerCost:
    """Return the cost of one line with an input of `shape`."""
    channels, height, width = shape
    match row:
        case Conv(name, out, kernel, stride):
            return count_conv(name, channels, (out, halve(height, stride), halve(width, stride)), kernel)
        case Inception():
            return count_inception(row, shape)
        case Pool(name):
            return LayerCost(name, (channels, halve(height), halve(width)), 0, 0)
        case Norm(name):
            return LayerCost(name, shape, 0, 0)
        case Average(name):
            return LayerCost(name, (channels, 1, 1), 0, 0)
        case Maxout(name, out, pieces):
            weights = channels * height * width * out * pieces
            return LayerCost(name, (out, 1, 1), weights, weights)
        case Embed(name):
            return count_conv(name, channels * height * width, (dimension, 1, 1), 1)


def count_conv(name: str, channels: int, shape: Shape, kernel: int) -> LayerCost:
    """Return the cost of a convolution from its input channels and the shape of its output."""
    out, height, width = shape
    weights = channels * out * kernel**2
    return LayerCost(name, shape, weights, weights * height * width)


def count_inception(row: Inception, shape: Shape) -> LayerCost:
    """Return the cost of a module of several branches."""
    channels, *sides = shape
    height, width = (halve(side, row.stride) for side in sides)
    convs = [count_conv("1x1", channels, (row.one, sides[0], sides[1]), 1)]
    for kernel, (reduce, out) in ((3, row.three), (5, row.five)):
        convs.append(count_conv("reduce", channels, (reduce, sides[0], sides[1]), 1))
        convs.append(count_conv("conv", reduce, (out, height, width), kernel))
    projection = row.pool[1]
    convs.append(count_conv("pool", channels, (projection, height, width), 1))
    out = row.one + row.three[1] + row.five[1] + (projection or channels)
    return LayerCost(row.name, (out, height, width), *totals(convs))
