"""dlib's network, which ships as `resnet29`, as a torch module to fine-tune; and shorter forms of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from sameface.errors import WeightsError
from sameface.model import find_weights
from sameface.training.networks.tables import DOWN, RESIDUALS, WIDTHS

SHIPPED = "resnet29"


class ResNet29(nn.Module):
    """29 convolutions, or fewer: `(n, 3, size, size)` planes, mean subtracted and scaled, to `(n, 128)` unit rows.

    Its batch norms are folded into the convolutions. `normed` inserts new ones, for a form whose missing blocks change
    the range of the activations.
    """

    dimension = 128

    def __init__(self, name: str = SHIPPED, *, normed: bool = False) -> None:
        super().__init__()
        self.name = name
        self.conv0 = nn.Conv2d(3, 32, 7, 2)
        self.norm0 = make_norm(32, normed=normed)
        widths = (32, *WIDTHS)
        self.blocks = nn.ModuleDict(
            {
                str(number): ResidualBlock(widths[number], WIDTHS[number], down=number in DOWN, normed=normed)
                for number in RESIDUALS[name].kept
            }
        )
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, planes: Tensor) -> Tensor:
        """Return the unit rows of a batch of planes."""
        return functional.normalize(self.fc(self.pool(planes)).float(), dim=1)

    def freeze(self, blocks: int) -> None:
        """Fix the first convolution and this many blocks, but for the statistics of batch norms; 0 fixes nothing."""
        for part in (self.conv0, self.norm0, *self.blocks.values())[: blocks + 2 if blocks else 0]:
            part.requires_grad_(requires_grad=False)

    def pool(self, planes: Tensor) -> Tensor:
        """Return the `(n, 256)` features before the last layer."""
        x = functional.max_pool2d(self.norm0(self.conv0(planes)).relu(), 3, 2)
        for block in self.blocks.values():
            x = block(x)
        return x.mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the smaller of the two is padded with zeros."""

    def __init__(self, channels: int, width: int, *, down: bool, normed: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(channels, width, 3, 2 if down else 1, padding=0 if down else 1)
        self.norm1 = make_norm(width, normed=normed)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = make_norm(width, normed=normed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        skip = functional.avg_pool2d(x, 2) if self.down else x
        full = [max(a, b) for a, b in zip(y.shape[1:], skip.shape[1:], strict=True)]
        return (grow(y, full) + grow(skip, full)).relu()


def make_norm(channels: int, *, normed: bool) -> nn.Module:
    """Return a batch norm, or the identity."""
    return nn.BatchNorm2d(channels) if normed else nn.Identity()


def grow(x: Tensor, full: list[int]) -> Tensor:
    """Pad with zeros at the end of channels, rows and columns."""
    channels, height, width = (want - have for want, have in zip(full, x.shape[1:], strict=True))
    return functional.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


def load_resnet29(weights: str | Path = SHIPPED, *, name: str = SHIPPED) -> ResNet29:
    """Return a network with the tensors of an ONNX file of its shape; a shorter form takes those of its blocks.

    Raises:
        WeightsError: The file is missing, or belongs to another network.
    """
    path = find_weights(weights)
    tensors = read_tensors(path)
    network = ResNet29(name, normed=lacks_blocks(tensors, name))
    wanted = stored_names(name)
    try:
        network.load_state_dict({part: torch.tensor(tensors[part]) for part in wanted}, strict=False)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(str(weights), f"{str(path)!r} is not a resnet29 ({error})") from error
    return network


def is_shortened(weights: str | Path, name: str) -> bool:
    """Return whether a file has blocks that the network of this name lacks."""
    return lacks_blocks(read_tensors(find_weights(weights)), name)


def lacks_blocks(tensors: Collection[str], name: str) -> bool:
    """Return whether there are tensors of blocks that the network of this name lacks."""
    return not stored_names(name).keys() >= set(tensors) & stored_names(SHIPPED).keys()


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of an ONNX file in float32, by the module's names where it has them."""
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise WeightsError(path.stem, f"cannot read {str(path)!r}: {error.strerror}") from error
    modules = {stored: name for name, stored in stored_names(SHIPPED).items()}
    tensors = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        name = tensor.name.removesuffix("_f16")
        tensors[modules.get(name, name)] = values.T if name == "fc_weight" else values
    return tensors


def stored_names(name: str) -> dict[str, str]:
    """Map each tensor of a module to its name in the shipped file; exported files use the module's names."""
    convs = {"conv0": "conv0"}
    for number in RESIDUALS[name].kept:
        convs |= {f"blocks.{number}.conv{part}": f"block{number + 1}_conv{part}" for part in (1, 2)}
    kinds = ("weight", "bias")
    names = {f"{module}.{kind}": f"{stored}_{kind}" for module, stored in convs.items() for kind in kinds}
    return {**names, "fc.weight": "fc_weight"}
