"""Write a trained network as ONNX, in float32, with 16-bit weights or with 8-bit arithmetic."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

import sameface.runtime  # noqa: F401, before ONNX Runtime itself
from sameface.training.networks.inception import Network
from sameface.training.networks.resnet29 import ResNet29
from sameface.training.networks.tables import RESIDUALS

OPSET = 18  # the lowest of PyTorch's exporter
BATCH = 16
# Operators that compute in 8 bits; with additions and pools among them, numbers keep their type in between.
QUANTIZED = ["Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad", "Relu"]


def write_network(network: nn.Module) -> ModelProto:
    """Return a network as ONNX: `crops (n, 3, size, size)` to `embeddings (n, d)`, float32 unit rows."""
    assert isinstance(network, Network | ResNet29)
    size = RESIDUALS[network.name].size if isinstance(network, ResNet29) else network.table.size
    # The exporter warns of torchvision, which is not needed, and of its own deprecated calls.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            input_names=["crops"],
            output_names=["embeddings"],
            dynamic_shapes=({0: "n"},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: ModelProto = program.model_proto
    # Without paths of source files, and the shapes and names inside torch.
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
    del model.graph.value_info[:]
    return model


def to_bytes(model: ModelProto) -> bytes:
    """Check a network and return its bytes, the same every time."""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def store_float16(model: ModelProto) -> ModelProto:
    """Return the network with its float32 tensors stored in 16 bits; arithmetic and scalars stay float32."""
    small = ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    tensors, nodes = list(graph.initializer), list(graph.node)
    del graph.initializer[:], graph.node[:]
    for tensor in tensors:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim == 0:
            graph.initializer.append(tensor)
            continue
        stored = f"{tensor.name}_f16"
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), stored))
        graph.node.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    graph.node.extend(nodes)
    return small


def quantize(model: ModelProto, planes: NDArray[np.float32]) -> bytes:
    """Return the network with 8-bit weights, by channel, and 8-bit activations in the ranges of `planes`.

    `planes` are about a hundred inputs, `(n, 3, size, size) float32`.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(model.SerializeToString())
        # This adds the shapes of all layers; ONNX Runtime warns without them.
        quant_pre_process(str(source), str(source), skip_symbolic_shape=True)
        name = model.graph.input[0].name
        batches = iter([{name: planes[start : start + BATCH]} for start in range(0, len(planes), BATCH)])
        reader: Any = SimpleNamespace(get_next=lambda: next(batches, None))
        quantization.quantize_static(
            str(source),
            str(target),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
            op_types_to_quantize=QUANTIZED,
        )
        return target.read_bytes()
