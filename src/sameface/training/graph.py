"""Write a trained network down as ONNX, line by line of its table."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sameface.model import find_weights
from sameface.training.networks import L2_EPSILON, InceptionModule, L2Pool, MaxoutLayer, Network
from sameface.training.resnet29 import NAMES, ResNet29

OPSET, IR_VERSION = 17, 8


class Graph:
    """The nodes and tensors of a network while it is written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def tensor(self, values: Tensor | NDArray[np.generic]) -> str:
        """Add a constant; return its name."""
        name = f"t{len(self.tensors)}"
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

    def conv(self, weight: Tensor, bias: Tensor | None, like: nn.Module, source: str) -> str:
        """Add a convolution with these weights and the stride and padding of `like`."""
        assert isinstance(like, nn.Conv2d)
        inputs = [self.tensor(weight)] + ([] if bias is None else [self.tensor(bias)])
        pads = [int(pad) for pad in like.padding] * 2
        return self.node(
            "Conv", source, *inputs, kernel_shape=list(weight.shape[2:]), strides=list(like.stride), pads=pads
        )

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
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return (conv.weight.double() * gain[:, None, None, None]).float(), bias.float()


def write_network(network: nn.Module) -> ModelProto:
    """Return a network as ONNX: `crops (n, 3, size, size)` to `embeddings (n, d)`, float32."""
    if isinstance(network, ResNet29):
        return write_resnet29(network)
    assert isinstance(network, Network)
    graph, table = Graph(), network.table
    source = "crops"
    if table.width < table.size:
        skip = (table.size - table.width) // 2
        limits = [np.array([number], np.int64) for number in (skip, skip + table.width, 3)]
        source = graph.node("Slice", source, *map(graph.tensor, limits))
    rows = graph.add(network.layers, source)
    graph.node("LpNormalization", rows, axis=1, p=2)
    graph.nodes[-1].output[0] = "embeddings"
    size, width = table.size, network.dimension
    made = helper.make_graph(
        graph.nodes,
        table.name,
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", width])],
        graph.tensors,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def write_resnet29(network: ResNet29) -> ModelProto:
    """Return the shipped file with other weights in it."""
    model = onnx.load(str(find_weights("resnet29")))
    graph = model.graph
    state = network.state_dict()
    fresh = {stored: state[name].detach().cpu() for name, stored in NAMES.items()}
    fresh["fc_weight"] = fresh["fc_weight"].T
    kept = [tensor for tensor in graph.initializer if tensor.name.removesuffix("_f16") not in fresh]
    nodes = [node for node in graph.node if node.output[0] not in fresh]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(values.numpy()), name) for name, values in fresh.items()
    )
    graph.node.extend(nodes)
    return model


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
