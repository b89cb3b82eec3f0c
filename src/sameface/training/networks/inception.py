"""Build the paper's networks from their tables as torch modules."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from sameface.training.networks.tables import (
    Average,
    Conv,
    Embed,
    Inception,
    Maxout,
    NetworkTable,
    Norm,
    Pool,
    Shape,
    TableRow,
    count_table,
)

NormKind: TypeAlias = Literal["batch", "response"]

SMALLEST, LARGEST = 64, 512  # dimensions of an embedding
L2_EPSILON = 1e-6  # keeps the gradient of the root finite in an all-zero window


class Network(nn.Module):
    """A network of the paper: `(n, 3, size, size)` planes, mean subtracted and scaled, to `(n, d)` unit rows.

    The norm `batch` normalises after every convolution, as working re-implementations do; `response` follows the
    paper's tables.
    """

    def __init__(self, table: NetworkTable, *, dimension: int = 128, norm: NormKind = "batch", seed: int = 0) -> None:
        super().__init__()
        if not SMALLEST <= dimension <= LARGEST:
            raise ValueError(f"dimension must be {SMALLEST} to {LARGEST}, got {dimension}")
        if norm not in ("batch", "response"):
            raise ValueError(f"norm must be 'batch' or 'response', got {norm!r}")
        self.table = table
        self.dimension = dimension
        self.norm = norm
        self.layers = nn.Sequential()
        shape: Shape = (3, table.size, table.width)
        for row, cost in zip(table.rows, count_table(table, dimension), strict=True):
            self.layers.add_module(row.name, make_layer(row, shape, dimension, norm))
            shape = cost.shape
        draw_weights(self, seed)

    def forward(self, planes: Tensor) -> Tensor:
        """Return the unit rows of a batch of planes."""
        skip = (self.table.size - self.table.width) // 2
        rows = self.layers(planes[..., skip : skip + self.table.width])
        return functional.normalize(rows.float(), dim=1)


def make_layer(row: TableRow, shape: Shape, dimension: int, norm: NormKind) -> nn.Module:
    """Return the module of one line with an input of `shape`."""
    channels, height, width = shape
    match row:
        case Conv(_, out, kernel, stride):
            return conv(channels, out, kernel, stride=stride, norm=norm)
        case Inception():
            return InceptionModule(row, channels, norm)
        case Pool():
            return nn.MaxPool2d(3, 2, padding=1)
        case Norm():
            return nn.LocalResponseNorm(5) if norm == "response" else nn.Identity()
        case Average():
            return nn.AdaptiveAvgPool2d(1)
        case Maxout(_, out, pieces):
            return MaxoutLayer(channels * height * width, out, pieces)
        case Embed():
            return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, dimension))


def conv(channels: int, out: int, kernel: int, *, stride: int = 1, norm: NormKind) -> nn.Sequential:
    """Return a convolution with its normalisation and rectifier."""
    batch = norm == "batch"
    layers: list[nn.Module] = [nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=not batch)]
    if batch:
        layers.append(nn.BatchNorm2d(out))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class InceptionModule(nn.Module):
    """The parallel branches of one inception line."""

    def __init__(self, row: Inception, channels: int, norm: NormKind) -> None:
        super().__init__()
        self.roads = nn.ModuleDict()
        if row.one:
            self.roads["1x1"] = conv(channels, row.one, 1, norm=norm)
        for kernel, (reduce, out) in ((3, row.three), (5, row.five)):
            if out:
                self.roads[f"{kernel}x{kernel}"] = nn.Sequential(
                    conv(channels, reduce, 1, norm=norm), conv(reduce, out, kernel, stride=row.stride, norm=norm)
                )
        kind, projection = row.pool
        pool = nn.MaxPool2d(3, row.stride, padding=1) if kind == "max" else L2Pool()
        project = conv(channels, projection, 1, norm=norm) if projection else nn.Identity()
        self.roads["pool"] = nn.Sequential(pool, project)

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of all branches."""
        return torch.cat([road(x) for road in self.roads.values()], dim=1)


class L2Pool(nn.Module):
    """The 2-norm of each 3x3 window, at every place."""

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels of the same size."""
        squares = functional.avg_pool2d(x.float() ** 2, 3, 1, padding=1) * 9
        return (squares + L2_EPSILON).sqrt().to(x.dtype)


class MaxoutLayer(nn.Module):
    """A full connection whose units are each the largest of several linear ones."""

    def __init__(self, inputs: int, out: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, out * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(n, out)`."""
        return torch.unflatten(self.linear(x.flatten(1)), 1, (self.pieces, -1)).amax(dim=1)


def draw_weights(network: nn.Module, seed: int) -> None:
    """Draw normal weights, scaled so that a rectified layer keeps its variance (He, 2015)."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
