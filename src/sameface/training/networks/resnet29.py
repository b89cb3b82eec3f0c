"""dlib's network, which ships as `resnet29`, as a torch module to fine-tune; and a short form of it."""

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


class ResNet29(nn.Module):
    """29 convolutions, or fewer: `(n, 3, size, size)` planes, mean taken and scaled, to `(n, 128)` unit rows.

    Its batch norms are folded into the convolutions, so that a batch is nothing but its pictures.

    Args:
        name: Which of `tables.RESIDUALS`.
        normed: Put a batch norm behind each convolution again, for a form whose missing blocks leave the
            others with numbers of another size than they were trained on.
    """

    dimension = 128

    def __init__(self, name: str = "resnet29", *, normed: bool = False) -> None:
        super().__init__()
        self.name = name
        self.conv0 = nn.Conv2d(3, 32, 7, 2)
        self.norm0 = norm_behind(self.conv0, normed=normed)
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
        """Keep the first convolution and so many blocks as they are; 0 keeps nothing.

        The statistics of batch norms, where there are any, go on following the pictures.
        """
        for part in (self.conv0, self.norm0, *self.blocks.values())[: blocks + 2 if blocks else 0]:
            part.requires_grad_(requires_grad=False)

    def pool(self, planes: Tensor) -> Tensor:
        """Return the `(n, 256)` features that the last layer takes."""
        x = functional.max_pool2d(self.norm0(self.conv0(planes)).relu(), 3, 2)
        for block in self.blocks.values():
            x = block(x)
        return x.mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions and a way round them; the smaller of the two roads is filled up with zeros."""

    def __init__(self, channels: int, width: int, *, down: bool, normed: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(channels, width, 3, 2 if down else 1, padding=0 if down else 1)
        self.norm1 = norm_behind(self.conv1, normed=normed)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = norm_behind(self.conv2, normed=normed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's answer."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        skip = functional.avg_pool2d(x, 2) if self.down else x
        full = [max(a, b) for a, b in zip(y.shape[1:], skip.shape[1:], strict=True)]
        return (grow(y, full) + grow(skip, full)).relu()


def norm_behind(conv: nn.Conv2d, *, normed: bool) -> nn.Module:
    """Return a convolution's batch norm, or what does nothing."""
    return nn.BatchNorm2d(conv.out_channels) if normed else nn.Identity()


def grow(x: Tensor, full: list[int]) -> Tensor:
    """Fill up with zeros at the end of channels, rows and columns."""
    channels, height, width = (want - have for want, have in zip(full, x.shape[1:], strict=True))
    return functional.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


SHIPPED = "resnet29"


def load_resnet29(weights: str | Path = SHIPPED, *, name: str = "resnet29") -> ResNet29:
    """Return the network with the weights of an ONNX file of its shape, the shipped one unless told.

    A short form that begins with a longer network takes of it the blocks that it has, and batch norms.

    Raises:
        WeightsError: The file is not there, or it is another network's.
    """
    path = find_weights(weights)
    tensors = read_tensors(path)
    network = ResNet29(name, normed=leaves_out(tensors, name))
    try:
        kept = set(network.state_dict()) & set(NAMES)
        network.load_state_dict({part: torch.tensor(tensors[NAMES[part]]) for part in kept}, strict=False)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(str(weights), f"{str(path)!r} is not a resnet29 ({error})") from error
    return network


def is_shortened(weights: str | Path, name: str) -> bool:
    """Return whether a file has blocks that the network of this name leaves out."""
    return leaves_out(read_tensors(find_weights(weights)), name)


def leaves_out(tensors: Collection[str], name: str) -> bool:
    """Return whether there are tensors of blocks that the network of this name has not."""
    kept = {NAMES[part] for part in ResNet29(name).state_dict()}
    return not kept.issuperset(set(tensors) & set(NAMES.values()))


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the stored tensors of an ONNX file under the names they had before they were made small."""
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise WeightsError(path.stem, f"cannot read {str(path)!r}: {error.strerror}") from error
    tensors = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        name = tensor.name.removesuffix("_f16")
        tensors[name] = values.T if name == "fc_weight" else values
    return tensors


def stored_names() -> dict[str, str]:
    """Return how each of the module's tensors is called in the file."""
    convs = {"conv0": "conv0"}
    for number in range(len(WIDTHS)):
        convs |= {f"blocks.{number}.conv{part}": f"block{number + 1}_conv{part}" for part in (1, 2)}
    kinds = ("weight", "bias")
    names = {f"{module}.{kind}": f"{stored}_{kind}" for module, stored in convs.items() for kind in kinds}
    return {**names, "fc.weight": "fc_weight"}


NAMES = stored_names()
