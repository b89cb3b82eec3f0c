"""Make `resnet29-int8.onnx` and its manifest: `resnet29` with 8-bit weights and 8-bit arithmetic.

The ranges of the activations are those of the faces of `samples/` and their mirror images. It is another network with
its own rows: its signature differs, and so do its thresholds (`calibrate.py`).

    python tools/make_resnet29_int8.py
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from manifests import WEIGHTS, write_weights
from onnx_file import IR_VERSION, OPSET
from sameface.image import read_image
from sameface.manifest import read_manifest
from sameface.picture_files import find_pictures
from sameface.recognizer import Recognizer
from sameface.training.networks.resnet29 import ResidualBlock, ResNet29, load_resnet29
from sameface.training.onnx_export import quantize

SAMPLES = WEIGHTS.parents[2] / "samples"
SIZE = 150


class Graph:
    """The nodes and tensors of the network; their names decide the bytes of the file."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def tensor(self, values: NDArray[np.generic], name: str = "") -> str:
        """Add a constant; return its name."""
        name = name or f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node; return the name of its output."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, conv: nn.Conv2d, source: str, name: str) -> str:
        """Add a convolution."""
        assert conv.bias is not None
        weight = self.tensor(to_array(conv.weight), f"{name}_weight")
        bias = self.tensor(to_array(conv.bias), f"{name}_bias")
        shape, pads = list(conv.weight.shape[2:]), [int(pad) for pad in conv.padding] * 2
        return self.node("Conv", source, weight, bias, kernel_shape=shape, strides=list(conv.stride), pads=pads)

    def grow(self, source: str, channels: int, side: int) -> str:
        """Pad with zeros at the end of channels, rows and columns."""
        if not channels and not side:
            return source
        return self.node("Pad", source, self.tensor(np.array([0, 0, 0, 0, 0, channels, side, side], np.int64)))


def to_array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().numpy()
    return array


def write_resnet29(network: ResNet29) -> ModelProto:
    """Return the network as ONNX: `crops (n, 3, 150, 150)` to `embeddings (n, 128)`, float32."""
    graph = Graph()
    x = graph.node("Relu", graph.conv(network.conv0, "crops", "conv0"))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    side, channels = ((SIZE - 7) // 2 - 2) // 2 + 1, 32
    for number, block in network.blocks.items():
        assert isinstance(block, ResidualBlock)
        name = f"block{int(number) + 1}_conv"
        y = graph.conv(block.conv2, graph.node("Relu", graph.conv(block.conv1, x, f"{name}1")), f"{name}2")
        out, inner, skip = block.conv2.out_channels, side, side
        if block.down:
            x = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            inner, skip = (side - 3) // 2 + 1, side // 2
        side = max(inner, skip)
        y = graph.grow(y, 0, side - inner)
        x = graph.grow(x, out - channels, side - skip)
        x, channels = graph.node("Relu", graph.node("Add", y, x)), out
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)
    rows = graph.node("MatMul", flat, graph.tensor(to_array(network.fc.weight.T), "fc_weight"))
    graph.node("LpNormalization", rows, axis=1, p=2)
    graph.nodes[-1].output[0] = "embeddings"
    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    embeddings = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 128])
    made = helper.make_graph(graph.nodes, network.name, [crops], [embeddings], graph.tensors)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def main() -> None:
    """Write `resnet29-int8.onnx` and its manifest."""
    recognizer = Recognizer.load("resnet29")
    crops = np.concatenate([recognizer.cut_faces(read_image(path))[1] for path in find_pictures(SAMPLES)])
    crops = np.concatenate([crops, crops[:, :, ::-1]])
    manifest = read_manifest(WEIGHTS / "resnet29.toml")
    planes = (crops.astype(np.float32) - np.array(manifest.mean, np.float32)) * np.float32(manifest.scale)
    data = quantize(write_resnet29(load_resnet29()), np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))
    write_weights("resnet29-int8", data, {"weights": "resnet29", "file_sha256": manifest.sha256})


if __name__ == "__main__":
    main()
