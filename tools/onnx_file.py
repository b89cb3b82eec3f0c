"""Write an ONNX file whose float32 weights are stored as float16, the same bytes every time."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


def store_as_float16(model: ModelProto) -> ModelProto:
    """Return `model` with every float32 initializer as float16 behind a Cast to float32.

    The arithmetic stays float32: the runtime folds the casts when it opens the file.
    """
    small = ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    tensors = list(graph.initializer)
    del graph.initializer[:]
    casts = []
    for tensor in tensors:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32:
            graph.initializer.append(tensor)
            continue
        stored = f"{tensor.name}_f16"
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return small


def to_bytes(model: ModelProto) -> bytes:
    """Check `model` and serialise it deterministically."""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
