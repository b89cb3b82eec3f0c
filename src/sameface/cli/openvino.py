"""Convert a network from OpenVINO's IR (`.xml` and `.bin`) to ONNX, as far as the catalogue needs it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
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
        """Return the model in ONNX."""
        [parameter] = [layer for layer in self.layers if layer.attrib["type"] == "Parameter"]
        [result] = [layer for layer in self.layers if layer.attrib["type"] == "Result"]
        [last] = self.inputs[result.attrib["id"]]
        shape = ["n", *numbers(attributes_of(parameter)["shape"])[1:]]
        self.add_tensor("order", np.array([2, 1, 0] if swap_channels else [0, 1, 2]))
        nodes = [self.helper.make_node("Gather", ["x", "order"], [f"v{parameter.attrib['id']}"], axis=1)]
        for layer in self.layers:
            nodes.extend(self.nodes_of(layer))
        nodes.append(self.helper.make_node("Flatten", [last], ["y"]))
        ends = [self.helper.make_tensor_value_info(name, 1, of) for name, of in (("x", shape), ("y", ["n", None]))]
        graph = self.helper.make_graph(nodes, "network", ends[:1], ends[1:], self.tensors)
        opset = self.helper.make_opsetid("", OPSET)
        return self.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    def add_tensor(self, name: str, values: np.ndarray[Any, Any]) -> None:
        """Keep a constant."""
        self.constants[name] = values
        self.tensors.append(self.numpy_helper.from_array(values, name))

    def nodes_of(self, layer: ElementTree.Element) -> Iterator[Any]:
        """Yield the ONNX nodes of a layer."""
        kind, output = layer.attrib["type"], f"v{layer.attrib['id']}"
        inputs, facts = self.inputs.get(layer.attrib["id"], []), attributes_of(layer)
        make = self.helper.make_node
        match kind:
            case "Parameter" | "Result":
                return
            case "Const":
                dtype = {"f16": np.float16, "f32": np.float32}[facts["element_type"]]
                start, size = int(facts["offset"]), int(facts["size"])
                values = np.frombuffer(self.weights[start : start + size], dtype)
                self.add_tensor(output, values.reshape(numbers(facts["shape"])))
            case "Convert":
                self.constants[output] = self.constants[inputs[0]]
                yield make("Cast", inputs, [output], to=1)
            case "Convolution":
                yield make("Conv", inputs, [output], dilations=numbers(facts["dilations"]), **windows_of(facts))
            case "GroupConvolution":  # its weights have an axis for the groups
                groups, out, *rest = self.constants[inputs[1]].shape
                self.add_tensor(f"{output}_shape", np.array([groups * out, *rest]))
                yield make("Reshape", [inputs[1], f"{output}_shape"], [f"{output}_w"])
                options = {"dilations": numbers(facts["dilations"]), "group": groups} | windows_of(facts)
                yield make("Conv", [inputs[0], f"{output}_w"], [output], **options)
            case "PReLU":  # with one slope: ONNX Runtime joins a LeakyRelu to the convolution
                yield make("LeakyRelu", inputs[:1], [output], alpha=float(self.constants[inputs[1]].item()))
            case "AvgPool":
                options = {"kernel_shape": numbers(facts["kernel"])} | windows_of(facts)
                yield make(
                    "AveragePool", inputs, [output], count_include_pad=int(facts["exclude-pad"] != "true"), **options
                )
            case _:
                yield make(SAME[kind], inputs, [output])


def attributes_of(layer: ElementTree.Element) -> dict[str, str]:
    """Return the attributes of a layer; only explicit padding and rounding down are known."""
    data = layer.find("data")
    facts = {} if data is None else dict(data.attrib)
    if facts.get("auto_pad", "explicit") != "explicit" or facts.get("rounding_type", "floor") != "floor":
        raise ValueError(f"layer {layer.attrib['id']} has padding that is not known here")
    return facts


def windows_of(facts: Mapping[str, str]) -> dict[str, Any]:
    """Return strides and padding as ONNX lists them: all beginnings, then all ends."""
    pads = numbers(facts["pads_begin"]) + numbers(facts["pads_end"])
    return {"strides": numbers(facts["strides"]), "pads": pads}


def numbers(text: str) -> list[int]:
    """Return the whole numbers of a list in an attribute."""
    return [int(part) for part in text.split(",")]
