"""Make a network compute in 8 bits, its ranges taken from real crops."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

import sameface.runtime  # noqa: F401, before ONNX Runtime itself

BATCH = 16
# What computes in 8 bits; with additions and pools among them the numbers need not change kind in between.
KINDS = ["Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad", "Relu"]


class CalibrationReader:
    """Hands out planes batch by batch, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, planes: NDArray[np.float32]) -> None:
        self._name = name
        self._left = [planes[start : start + BATCH] for start in range(0, len(planes), BATCH)]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch, None at the end."""
        return {self._name: self._left.pop(0)} if self._left else None


def quantize(model: ModelProto, planes: NDArray[np.float32]) -> bytes:
    """Return the network with 8-bit weights, by channel, and activations whose ranges `planes` showed.

    Args:
        model: With one input.
        planes: `(n, 3, size, size) float32`, mean taken and scaled; a hundred or so.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(model.SerializeToString())
        # With the shapes of all layers in the file; without them ONNX Runtime warns.
        quant_pre_process(str(source), str(source), skip_symbolic_shape=True)
        reader: Any = CalibrationReader(model.graph.input[0].name, planes)
        quantization.quantize_static(
            str(source),
            str(target),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
            op_types_to_quantize=KINDS,
        )
        return target.read_bytes()
