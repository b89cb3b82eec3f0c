"""Other people's networks in torch: an ONNX file of convolutions becomes a module for any device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from sameface.errors import WeightsError

Numbers = dict[str, Any]  # the attributes of a node


class OnnxModule(nn.Module):
    """What an ONNX file computes, with weights that stay as they are; a picture's row depends on no other's.

    Args:
        path: The file: one input `(n, 3, size, size)`, one output `(n, d)`, and no operators but `OPERATORS`.

    Raises:
        WeightsError: It cannot be read, or it computes with something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            graph = onnx.load(str(path)).graph
        except OSError as error:
            raise WeightsError(path.stem, f"cannot read {str(path)!r}: {error.strerror}") from error
        unknown = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if unknown:
            reason = f"it computes with {unknown}: show it the clean pictures only (--teacher-sees clean)"
            raise WeightsError(path.stem, reason)
        self.nodes = [
            (
                OPERATORS[node.op_type],
                tuple(node.input),
                node.output[0],
                {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
            )
            for node in graph.node
        ]
        self.names = {each.name: f"_{number}" for number, each in enumerate(graph.initializer)}
        for each in graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(each).copy())
            self.register_buffer(self.names[each.name], value)
        fixed = set(self.names)
        self.source = next(each.name for each in graph.input if each.name not in fixed)
        self.target = graph.output[0].name

    def forward(self, planes: Tensor) -> Tensor:
        """Return `(n, d)` rows."""
        values = {name: getattr(self, own) for name, own in self.names.items()}
        values[self.source] = planes
        for compute, inputs, output, numbers in self.nodes:
            values[output] = compute(numbers, *(values[name] for name in inputs))
        rows: Tensor = values[self.target]
        return rows


def convolve(numbers: Numbers, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv."""
    top, left, bottom, right = numbers.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    strides, dilations = numbers.get("strides", (1, 1)), numbers.get("dilations", (1, 1))
    return functional.conv2d(x, weight, bias, strides, padding, dilations, numbers.get("group", 1))


def bend(_numbers: Numbers, x: Tensor, slope: Tensor) -> Tensor:
    """PRelu."""
    return functional.prelu(x, slope.flatten())


def normalise(numbers: Numbers, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """BatchNormalization, by the statistics in the file."""
    return functional.batch_norm(x, mean, variance, scale, shift, eps=numbers.get("epsilon", 1e-5))


def multiply_matrix(numbers: Numbers, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gemm, with a weight as it comes from a layer."""
    matrix = weight if numbers.get("transB", 0) else weight.T
    return functional.linear(x, numbers.get("alpha", 1.0) * matrix, bias)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _numbers, a, b: a + b,
    "BatchNormalization": normalise,
    "Conv": convolve,
    "Dropout": lambda _numbers, x, *_unused: x,
    "Flatten": lambda _numbers, x: x.flatten(1),
    "Gemm": multiply_matrix,
    "GlobalAveragePool": lambda _numbers, x: x.mean(dim=(2, 3), keepdim=True),
    "Identity": lambda _numbers, x: x,
    "MatMul": lambda _numbers, a, b: a @ b,
    "Mul": lambda _numbers, a, b: a * b,
    "PRelu": bend,
    "Relu": lambda _numbers, x: x.relu(),
    "Sigmoid": lambda _numbers, x: x.sigmoid(),
    "Sub": lambda _numbers, a, b: a - b,
}
