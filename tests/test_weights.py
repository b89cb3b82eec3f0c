"""The shipped weights are what the programs in tools/ make of them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from sameface import Model, Recognizer
from sameface.manifest import read_manifest

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "src" / "sameface" / "weights"
SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.onnx"))
EIGHT_BITS = ("resnet29-int8",)


@pytest.fixture
def tools(monkeypatch):
    """The folder of the programs that made the weights, where Python finds them."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    yield
    for path in (ROOT / "tools").glob("*.py"):
        sys.modules.pop(path.stem, None)


def tensors_of(name: str) -> dict[str, np.ndarray]:
    graph = onnx.load(WEIGHTS / f"{name}.onnx").graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_every_weights_file_ships_with_its_manifest():
    assert sorted(path.stem for path in WEIGHTS.glob("*.toml")) == SHIPPED
    assert {"centerface", "resnet29"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_has_the_hash_of_its_manifest(name):
    data = (WEIGHTS / f"{name}.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == read_manifest(WEIGHTS / f"{name}.toml").sha256


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in EIGHT_BITS])
def test_every_weight_is_stored_as_float16_and_cast_to_float32(name):
    graph = onnx.load(WEIGHTS / f"{name}.onnx").graph
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    read = {node.input[0]: node.op_type for node in graph.node if node.input and node.input[0] in stored}
    assert read == dict.fromkeys(stored, "Cast")
    others = {tensor.data_type for tensor in graph.initializer if tensor.name not in stored}
    assert others <= {TensorProto.INT64}  # sizes, no weights


def test_the_weights_of_the_8_bit_embedder_are_bytes():
    sizes = {}
    for tensor in tensors_of("resnet29-int8").values():
        sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + tensor.size
    channels = 3_552  # of the convolutions: each has a bias
    zero_points = channels + 128  # one for the weights of each output
    assert sizes["int8"] == 5_607_488 - channels + zero_points
    assert sizes["int32"] == 2 * channels  # the biases and their zero points


def test_the_8_bit_embedder_says_what_resnet29_says(samples):
    plain, small = (Recognizer.load(name) for name in ("resnet29", "resnet29-int8"))
    assert plain.signature != small.signature
    for path in samples.values():
        rows = [one.embed_face(path, face="largest")[1] for one in (plain, small)]
        assert ((rows[0] - rows[1]) ** 2).sum() < 0.01


@pytest.mark.parametrize("name", SHIPPED)
def test_no_weight_is_lost_to_the_range_of_float16(name):
    assert all(np.isfinite(tensor).all() for tensor in tensors_of(name).values())


def test_the_embedder_has_the_parameters_of_its_29_layers(tools):
    from make_resnet29 import BLOCKS

    count, width = 32 * 3 * 7 * 7 + 32, 32
    for out, _ in BLOCKS:
        count += out * width * 9 + out + out * out * 9 + out
        width = out
    weights = [tensor for tensor in tensors_of("resnet29").values() if tensor.dtype == np.float16]
    assert 1 + 2 * len(BLOCKS) == 29
    assert sum(tensor.size for tensor in weights) == count + 256 * 128 == 5_607_488


def test_the_embedders_file_is_byte_for_byte_what_its_program_writes(tools):
    from make_resnet29 import BLOCKS, Conv, build
    from onnx_file import store_as_float16, to_bytes

    tensors = tensors_of("resnet29")
    layers = ["conv0", *[f"block{block}_conv{half}" for block in range(1, len(BLOCKS) + 1) for half in (1, 2)]]
    weights = [[tensors[f"{layer}_{part}_f16"].astype(np.float32) for part in ("weight", "bias")] for layer in layers]
    made = build([Conv(*pair) for pair in weights], tensors["fc_weight_f16"].astype(np.float32))
    assert to_bytes(store_as_float16(made)) == (WEIGHTS / "resnet29.onnx").read_bytes()


@pytest.mark.slow
def test_the_program_of_the_8_bit_embedder_cuts_faces_for_resnet29_and_writes_the_shipped_tensors(tools, monkeypatch):
    import make_resnet29_int8

    written = {}
    monkeypatch.setattr(make_resnet29_int8, "write_weights", lambda name, data, _source: written.update({name: data}))
    make_resnet29_int8.main()
    made = onnx.load_from_string(written["resnet29-int8"]).graph
    shipped = onnx.load(WEIGHTS / "resnet29-int8.onnx").graph
    assert [node.name for node in made.node] == [node.name for node in shipped.node]
    for ours, theirs in zip(made.initializer, shipped.initializer, strict=True):
        assert ours.name == theirs.name
        # The ranges of the activations are measured: another processor may round them otherwise.
        if "conv" in ours.name or "fc_weight" in ours.name:
            np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))


def test_the_embedder_gives_128_numbers_for_each_crop():
    model = Model.load("resnet29")
    crops = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), np.uint8)
    assert [output.shape for output in model.run(crops)] == [(3, 128)]
    assert [output.shape for output in model.run(crops[:0])] == [(0, 128)]


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 160), (608, 32)])
def test_the_detector_answers_at_a_quarter_of_any_size(rows, columns):
    outputs = Model.load("centerface").run(np.zeros((1, rows, columns, 3), np.uint8))
    wanted = [(1, channels, rows // 4, columns // 4) for channels in (1, 2, 2, 10)]
    assert [output.shape for output in outputs] == wanted


@pytest.mark.parametrize("groups", [1, 4])
def test_a_prelu_is_written_without_one_and_gives_the_same(tools, groups):
    import onnxruntime
    from onnx import helper

    from make_mobilefacenet import convert_nodes, read_tensors

    rng = np.random.default_rng(0)
    slopes = np.array([-1.35, 0.0, 0.25, 1.23], np.float32)[:, None, None]
    tensors = {
        "w1": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "w2": rng.standard_normal((4, 4 // groups, 1, 1)).astype(np.float32),
        "a": slopes,
    }
    tensors["w1"][0, 0, 0, 0] = 1e-40  # denormal
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"]),
        helper.make_node("PRelu", ["c", "a"], ["p"]),
        helper.make_node("Conv", ["p", "w2"], ["y"], group=groups),
    ]

    def run(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray]) -> np.ndarray:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
        held = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype("f4")})[0]

    source = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "g", [], [], source)
    read = read_tensors(graph)
    assert read["w1"][0, 0, 0, 0] == 0
    made = list(convert_nodes(graph, read))
    assert [node.op_type for node in made] == ["Conv", "Relu", "Mul", "Add", "Conv"]
    np.testing.assert_allclose(run(made, read), run(nodes, tensors), rtol=1e-5, atol=1e-5)


def test_mobilefacenet_stores_the_projection_that_lies_in_tools(tools):
    from make_mobilefacenet import DIRECTIONS, KEPT, WIDTH

    directions = np.load(DIRECTIONS).astype(np.float64)
    assert directions.shape == (KEPT, WIDTH)
    assert np.abs(directions @ directions.T - np.eye(KEPT)).max() < 1e-3
    model = Model.load("mobilefacenet")
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    assert model.run(crops)[0].shape == (3, KEPT)


def test_mobilefacenet_says_what_is_not_known_of_it():
    manifest = read_manifest(WEIGHTS / "mobilefacenet.toml")
    assert manifest.licence == "MIT"
    assert manifest.training_data.startswith("not stated, nor is the author")
    assert "Likely, not proven" in manifest.training_data
