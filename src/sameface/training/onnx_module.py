"""Compute an ONNX embedder in torch, on any device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from onnx.helper import get_attribute_value
from torch import Tensor, nn
from torch.nn import functional

from sameface.errors import WeightsError

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """The network of an ONNX file, with fixed weights.

    The file has one input `(n, 3, size, size)`, one output `(n, d)`, and only operators of `OPERATORS`.

    Raises:
        WeightsError: The file cannot be read, or has other operators.
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
            (node.op_type, tuple(node.input), node.output[0], {a.name: get_attribute_value(a) for a in node.attribute})
            for node in graph.node
        ]
        self.names = {each.name: f"_{number}" for number, each in enumerate(graph.initializer)}
        for each in graph.initializer:
            self.register_buffer(self.names[each.name], torch.from_numpy(numpy_helper.to_array(each).copy()))
        self.source = next(each.name for each in graph.input if each.name not in self.names)
        self.target = graph.output[0].name

    def forward(self, planes: Tensor) -> Tensor:
        """Return `(n, d)` rows."""
        values = {name: getattr(self, own) for name, own in self.names.items()}
        values[self.source] = planes
        for kind, inputs, output, attributes in self.nodes:
            values[output] = OPERATORS[kind](attributes, *(values[name] for name in inputs))
        rows: Tensor = values[self.target]
        return rows


def convolve(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute Conv."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    return functional.conv2d(x, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def normalise(
    attributes: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Compute BatchNormalization with the statistics in the file."""
    return functional.batch_norm(x, mean, variance, scale, shift, eps=attributes.get("epsilon", 1e-5))


def multiply_matrix(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute Gemm with the weight of a layer."""
    matrix = weight if attributes.get("transB", 0) else weight.T
    return functional.linear(x, attributes.get("alpha", 1.0) * matrix, bias)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _attributes, a, b: a + b,
    "BatchNormalization": normalise,
    "Conv": convolve,
    "Dropout": lambda _attributes, x, *_unused: x,
    "Flatten": lambda _attributes, x: x.flatten(1),
    "Gemm": multiply_matrix,
    "GlobalAveragePool": lambda _attributes, x: x.mean(dim=(2, 3), keepdim=True),
    "Identity": lambda _attributes, x: x,
    "MatMul": lambda _attributes, a, b: a @ b,
    "Mul": lambda _attributes, a, b: a * b,
    "PRelu": lambda _attributes, x, slope: functional.prelu(x, slope.flatten()),
    "Relu": lambda _attributes, x: x.relu(),
    "Sigmoid": lambda _attributes, x: x.sigmoid(),
    "Sub": lambda _attributes, a, b: a - b,
}
