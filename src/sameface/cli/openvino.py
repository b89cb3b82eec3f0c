"""Convert a network from OpenVINO's IR (`.xml` and `.bin`) to ONNX, as far as the catalogue needs it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sameface.errors import WeightsError

OPSET, IR_VERSION = 17, 8
SAME = {"Multiply": "Mul", "Add": "Add", "Sigmoid": "Sigmoid"}  # operators without attributes


def import_onnx() -> Any:
    """Return the package `onnx`, or say how to get it."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("converting a network needs onnx: pip install onnx") from error
    return onnx


def convert_ir(xml: bytes, weights: bytes, *, swap_channels: bool) -> bytes:
    """Return the ONNX file of a network in OpenVINO's IR: `(n, 3, size, size)` RGB to `(n, d)`.

    `xml` has the layers and their connections; with `swap_channels` the network takes blue before red.

    Raises:
        WeightsError: The files are no IR, or have an unknown operator.
        ModuleNotFoundError: The package `onnx` is not installed.
    """
    onnx = import_onnx()
    try:
        model = Converter(onnx, xml, weights).convert(swap_channels=swap_channels)
        onnx.checker.check_model(model, full_check=True)
    except (AttributeError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise WeightsError("IR", f"these files are no IR that can be converted ({error})") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class Converter:
    """Writes the nodes of an IR, layer by layer; the output of layer 7 is called `v7`."""

    def __init__(self, onnx: Any, xml: bytes, weights: bytes) -> None:
        self.helper, self.numpy_helper = onnx.helper, onnx.numpy_helper
        network = ElementTree.fromstring(xml)
        self.layers = list(network.iterfind("layers/layer"))
        self.weights = weights
        self.inputs: dict[str, list[str]] = {}
        edges = sorted(network.iterfind("edges/edge"), key=lambda edge: int(edge.attrib["to-port"]))
        for edge in edges:
            self.inputs.setdefault(edge.attrib["to-layer"], []).append(f"v{edge.attrib['from-layer']}")
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.tensors: list[Any] = []

    def convert(self, *, swap_channels: bool) -> Any:
        shape = ["n", *shape_of(self.one("Parameter"))[1:]]
        first, [last] = f"v{self.one('Parameter').attrib['id']}", self.inputs[self.one("Result").attrib["id"]]
        self.add_tensor("order", np.array([2, 1, 0] if swap_channels else [0, 1, 2]))
        nodes = [self.helper.make_node("Gather", ["x", "order"], [first], axis=1)]
        for layer in self.layers:
            nodes.extend(self.nodes_of(layer))
        nodes.append(self.helper.make_node("Flatten", [last], ["y"]))
        ends = [self.helper.make_tensor_value_info(name, 1, of) for name, of in (("x", shape), ("y", ["n", None]))]
        graph = self.helper.make_graph(nodes, "network", ends[:1], ends[1:], self.tensors)
        opset = self.helper.make_opsetid("", OPSET)
        return self.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    def one(self, kind: str) -> ElementTree.Element:
        [layer] = [layer for layer in self.layers if layer.attrib["type"] == kind]
        return layer

    def add_tensor(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self.constants[name] = values
        self.tensors.append(self.numpy_helper.from_array(values, name))

    def nodes_of(self, layer: ElementTree.Element) -> Iterator[Any]:
        kind, output = layer.attrib["type"], f"v{layer.attrib['id']}"
        inputs, facts = self.inputs.get(layer.attrib["id"], []), attributes_of(layer)
        if kind == "Const":
            self.add_tensor(output, self.read_constant(facts))
        elif kind == "Convert":
            self.constants[output] = self.constants[inputs[0]]
            yield self.helper.make_node("Cast", inputs, [output], to=1)
        elif kind in SAME:
            yield self.helper.make_node(SAME[kind], inputs, [output])
        elif kind not in ("Parameter", "Result"):
            yield from WRITERS[kind](self, inputs, output, facts)

    def read_constant(self, facts: Mapping[str, str]) -> np.ndarray[Any, Any]:
        kind = {"f16": np.float16, "f32": np.float32}[facts["element_type"]]
        start, size = int(facts["offset"]), int(facts["size"])
        return np.frombuffer(self.weights[start : start + size], kind).reshape(numbers(facts["shape"]))

    def convolution(self, inputs: list[str], output: str, facts: Mapping[str, str]) -> Iterator[Any]:
        places = {"strides": numbers(facts["strides"]), "dilations": numbers(facts["dilations"])}
        yield self.helper.make_node("Conv", inputs, [output], pads=pads_of(facts), **places)

    def group_convolution(self, inputs: list[str], output: str, facts: Mapping[str, str]) -> Iterator[Any]:
        """Yield a convolution in groups, whose weights have an axis for the groups."""
        groups, out, *rest = self.constants[inputs[1]].shape
        self.add_tensor(f"{output}_shape", np.array([groups * out, *rest]))
        yield self.helper.make_node("Reshape", [inputs[1], f"{output}_shape"], [f"{output}_w"])
        for node in self.convolution([inputs[0], f"{output}_w"], output, facts):
            node.attribute.append(self.helper.make_attribute("group", groups))
            yield node

    def prelu(self, inputs: list[str], output: str, _facts: Mapping[str, str]) -> Iterator[Any]:
        """Yield a PReLU with one slope, which ONNX Runtime joins to the convolution if it is a LeakyRelu."""
        slope = self.constants[inputs[1]].item()
        yield self.helper.make_node("LeakyRelu", inputs[:1], [output], alpha=float(slope))

    def average_pool(self, inputs: list[str], output: str, facts: Mapping[str, str]) -> Iterator[Any]:
        places = {"kernel_shape": numbers(facts["kernel"]), "strides": numbers(facts["strides"])}
        padded = int(facts["exclude-pad"] != "true")
        yield self.helper.make_node(
            "AveragePool", inputs, [output], pads=pads_of(facts), count_include_pad=padded, **places
        )


Writer = Callable[[Converter, list[str], str, Mapping[str, str]], Iterator[Any]]
WRITERS: dict[str, Writer] = {
    "Convolution": Converter.convolution,
    "GroupConvolution": Converter.group_convolution,
    "PReLU": Converter.prelu,
    "AvgPool": Converter.average_pool,
}


def attributes_of(layer: ElementTree.Element) -> dict[str, str]:
    """Return the attributes of a layer; only explicit padding and rounding down are known."""
    data = layer.find("data")
    facts = {} if data is None else dict(data.attrib)
    if facts.get("auto_pad", "explicit") != "explicit" or facts.get("rounding_type", "floor") != "floor":
        raise ValueError(f"layer {layer.attrib['id']} has padding that is not known here")
    return facts


def shape_of(layer: ElementTree.Element) -> list[int]:
    return numbers(attributes_of(layer)["shape"])


def pads_of(facts: Mapping[str, str]) -> list[int]:
    """Return the padding as ONNX lists it: all beginnings, then all ends."""
    return numbers(facts["pads_begin"]) + numbers(facts["pads_end"])


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
