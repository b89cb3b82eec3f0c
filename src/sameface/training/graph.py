"""Write a trained network down as ONNX, line by line of its table."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sameface.training.networks.inception import L2_EPSILON, InceptionModule, L2Pool, MaxoutLayer, Network
from sameface.training.networks.resnet29 import ResidualBlock, ResNet29
from sameface.training.networks.tables import RESIDUALS

OPSET, IR_VERSION = 17, 8


class Graph:
    """The nodes and tensors of a network while it is written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def tensor(self, values: Tensor | NDArray[np.generic], name: str = "") -> str:
        """Add a constant; return its name."""
        name = name or f"t{len(self.tensors)}"
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node; return the name of what comes out."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def add(self, module: nn.Module, source: str) -> str:
        """Add what a module does to `source`; return the name of what comes out."""
        match module:
            case nn.Sequential() if len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
                return self.node("Relu", self.conv(*fold(module[0], module[1]), module[0], source))
            case nn.Sequential():
                for part in module:
                    source = self.add(part, source)
                return source
            case nn.Conv2d():
                return self.conv(module.weight, module.bias, module, source)
            case nn.ReLU():
                return self.node("Relu", source)
            case nn.Identity():
                return source
            case InceptionModule():
                roads = [self.add(road, source) for road in module.roads.values()]
                return self.node("Concat", *roads, axis=1)
            case _:
                return self.add_simple(module, source)

    def add_simple(self, module: nn.Module, source: str) -> str:
        """Add a module that pools, normalises or connects fully."""
        match module:
            case nn.MaxPool2d():
                strides = [module.stride] * 2
                return self.node("MaxPool", source, kernel_shape=[3, 3], strides=strides, pads=[1] * 4)
            case nn.LocalResponseNorm():
                facts = {"size": module.size, "alpha": module.alpha, "beta": module.beta, "bias": module.k}
                return self.node("LRN", source, **facts)
            case nn.AdaptiveAvgPool2d():
                return self.node("GlobalAveragePool", source)
            case nn.Flatten():
                return self.node("Flatten", source, axis=1)
            case nn.Linear():
                return self.linear(module, source)
            case L2Pool():
                return self.l2_pool(source)
            case MaxoutLayer():
                units = self.linear(module.linear, self.node("Flatten", source, axis=1))
                shape = self.tensor(np.array([0, module.pieces, -1], np.int64))
                return self.node("ReduceMax", self.node("Reshape", units, shape), axes=[1], keepdims=0)
            case _:
                raise TypeError(f"no ONNX is known for {type(module).__name__}")

    def conv(self, weight: Tensor, bias: Tensor | None, like: nn.Module, source: str, *, name: str = "") -> str:
        """Add a convolution with these weights and the stride and padding of `like`."""
        assert isinstance(like, nn.Conv2d)
        inputs = [self.tensor(weight, name and f"{name}_weight")]
        inputs += [] if bias is None else [self.tensor(bias, name and f"{name}_bias")]
        pads = [int(pad) for pad in like.padding] * 2
        return self.node(
            "Conv", source, *inputs, kernel_shape=list(weight.shape[2:]), strides=list(like.stride), pads=pads
        )

    def grow(self, source: str, channels: int, side: int) -> str:
        """Fill up with zeros at the end of channels, rows and columns."""
        if not channels and not side:
            return source
        return self.node("Pad", source, self.tensor(np.array([0, 0, 0, 0, 0, channels, side, side], np.int64)))

    def linear(self, module: nn.Linear, source: str) -> str:
        """Add a full connection."""
        return self.node("Gemm", source, self.tensor(module.weight), self.tensor(module.bias), transB=1)

    def l2_pool(self, source: str) -> str:
        """Add the 2-norm of each 3x3 window."""
        squares = self.node("Mul", source, source)
        mean = self.node("AveragePool", squares, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
        total = self.node("Mul", mean, self.tensor(np.array(9, np.float32)))
        return self.node("Sqrt", self.node("Add", total, self.tensor(np.array(L2_EPSILON, np.float32))))


def fold(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution with the batch norm behind it folded in."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    own = 0 if conv.bias is None else conv.bias.double()
    bias = norm.bias.double() + (own - norm.running_mean.double()) * gain
    return (conv.weight.double() * gain[:, None, None, None]).float(), bias.float()


def write_network(network: nn.Module) -> ModelProto:
    """Return a network as ONNX: `crops (n, 3, size, size)` to `embeddings (n, d)`, float32."""
    graph = Graph()
    if isinstance(network, ResNet29):
        name, size, width = network.name, RESIDUALS[network.name].size, network.dimension
        rows = write_residual(graph, network)
    else:
        assert isinstance(network, Network)
        name, size, width = network.table.name, network.table.size, network.dimension
        rows = write_table(graph, network)
    graph.node("LpNormalization", rows, axis=1, p=2)
    graph.nodes[-1].output[0] = "embeddings"
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", width])],
        graph.tensors,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def write_table(graph: Graph, network: Network) -> str:
    """Add a network of the paper's; return the name of its embeddings before they are scaled."""
    table, source = network.table, "crops"
    if table.width < table.size:
        skip = (table.size - table.width) // 2
        limits = [np.array([number], np.int64) for number in (skip, skip + table.width, 3)]
        source = graph.node("Slice", source, *map(graph.tensor, limits))
    return graph.add(network.layers, source)


def write_residual(graph: Graph, network: ResNet29) -> str:
    """Add a network of dlib's kind; return the name of its embeddings before they are scaled.

    Its tensors are called as in the shipped file, so that another run can begin with them.
    """

    def conv(module: nn.Conv2d, norm: nn.Module, source: str, name: str) -> str:
        folded = isinstance(norm, nn.BatchNorm2d)
        weight, bias = fold(module, norm) if folded else (module.weight, module.bias)
        return graph.conv(weight, bias, module, source, name=name)

    x = graph.node("Relu", conv(network.conv0, network.norm0, "crops", "conv0"))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    side, channels = ((RESIDUALS[network.name].size - 7) // 2 - 2) // 2 + 1, 32
    for number, block in network.blocks.items():
        assert isinstance(block, ResidualBlock)
        name = f"block{int(number) + 1}_conv"
        y = graph.node("Relu", conv(block.conv1, block.norm1, x, f"{name}1"))
        y = conv(block.conv2, block.norm2, y, f"{name}2")
        out, inner, skip = block.conv2.out_channels, side, side
        if block.down:
            x = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            inner, skip = (side - 3) // 2 + 1, side // 2
        side = max(inner, skip)
        y = graph.grow(y, 0, side - inner)
        x = graph.grow(x, out - channels, side - skip)
        x, channels = graph.node("Relu", graph.node("Add", y, x)), out
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)
    return graph.node("MatMul", flat, graph.tensor(network.fc.weight.T, "fc_weight"))


def store_float16(model: ModelProto) -> ModelProto:
    """Return the network with its float32 tensors stored in 16 bits; the arithmetic stays float32."""
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


def to_bytes(model: ModelProto) -> bytes:
    """Check a network and return its bytes, the same ones every time."""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
