"""LayerCost parameters and multiply-adds (the paper's "FLOPS"), from a table and from a module."""

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
)

Shape: TypeAlias = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One line of a network.

    Attributes:
        name: The line's name.
        shape: Channels, height and width of what comes out.
        weights: Weights, without biases and normalisation, as the paper counts.
        macs: Multiply-adds for one picture.
    """

    name: str
    shape: Shape
    weights: int
    macs: int


def count_table(table: NetworkTable, dimension: int = 128) -> list[LayerCost]:
    """Return the counts of every line, from the table alone."""
    shape: Shape = (3, table.size, table.width)
    counts = []
    for row in table.rows:
        count = count_row(row, shape, dimension)
        counts.append(count)
        shape = count.shape
    return counts


def count_residual(table: ResidualTable) -> list[LayerCost]:
    """Return the counts of each convolution of a network of dlib's kind, and of its last layer."""
    side = (table.size - 7) // 2 + 1
    counts = [count_square("conv0", (3, 32, 7), side)]
    side, channels = (side - 3) // 2 + 1, 32
    for number in table.kept:
        width, inner = WIDTHS[number], side
        if number in DOWN:
            inner = (side - 3) // 2 + 1
            side = max(inner, side // 2)
        counts.append(count_square(f"block{number + 1}_conv1", (channels, width, 3), inner))
        counts.append(count_square(f"block{number + 1}_conv2", (width, width, 3), inner))
        channels = width
    return [*counts, count_square("fc", (channels, 128, 1), 1)]


def count_square(name: str, conv: tuple[int, int, int], side: int) -> LayerCost:
    """Return the counts of a convolution given as channels, output channels and kernel, by what comes out."""
    channels, out, kernel = conv
    weights = channels * out * kernel**2
    return LayerCost(name, (out, side, side), weights, weights * side**2)


def totals(counts: list[LayerCost]) -> tuple[int, int]:
    """Return all weights and all multiply-adds."""
    return sum(count.weights for count in counts), sum(count.macs for count in counts)


def count_row(row: TableRow, shape: Shape, dimension: int) -> LayerCost:
    """Return the counts of one line that is fed with `shape`."""
    channels, height, width = shape
    match row:
        case Conv(name, out, kernel, stride):
            return count_conv(name, shape, (out, kernel, stride))
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
            weights = channels * height * width * dimension
            return LayerCost(name, (dimension, 1, 1), weights, weights)


def count_conv(name: str, shape: Shape, conv: tuple[int, int, int]) -> LayerCost:
    """Return the counts of a convolution given as output channels, kernel and stride."""
    channels, height, width = shape
    out, kernel, stride = conv
    if stride == 2:
        height, width = halve(height), halve(width)
    weights = channels * out * kernel**2
    return LayerCost(name, (out, height, width), weights, weights * height * width)


def count_inception(row: Inception, shape: Shape) -> LayerCost:
    """Return the counts of a module of several roads."""
    convs = []
    if row.one:
        convs.append(count_conv("1x1", shape, (row.one, 1, 1)))
    ends = [convs[-1]] if row.one else []
    for kernel, (reduce, out) in ((3, row.three), (5, row.five)):
        if out:
            convs.append(count_conv("reduce", shape, (reduce, 1, 1)))
            convs.append(count_conv("conv", convs[-1].shape, (out, kernel, row.stride)))
            ends.append(convs[-1])
    channels, height, width = ends[-1].shape[0], *ends[-1].shape[1:]
    projection = row.pool[1]
    if projection:
        convs.append(count_conv("pool", (shape[0], height, width), (projection, 1, 1)))
    channels = sum(end.shape[0] for end in ends) + (projection or shape[0])
    weights, macs = totals(convs)
    return LayerCost(row.name, (channels, height, width), weights, macs)


def halve(side: int) -> int:
    """Return the side after a stride of 2."""
    return (side + 1) // 2
