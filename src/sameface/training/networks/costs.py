"""Count the parameters and multiply-adds (the paper's "FLOPS") of a network from its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sameface.training.networks.tables import (
    DOWN,
    WIDTHS,
    Average,
    Conv,
    Embed,
    Inception,
    Maxout,
    NetworkTable,
    Norm,
    Pool,
    ResidualTable,
    TableRow,
    halve,
)

Shape: TypeAlias = tuple[int, int, int]  # channels, height, width


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
