"""Opening and running weights files."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from sameface import Model
from sameface.errors import WeightsError

WEIGHTS = Path(__file__).parent.parent / "src" / "sameface" / "weights"

MANIFEST = """
name = "tiny"
kind = "detector"
licence = "CC0-1.0"
training_data = "none"
sha256 = "{sha256}"
[source]
package = "none"
[input]
mean = [10, 20, 30]
scale = 0.5
[detection]
score = 0.5
overlap = 0.3
"""


def write_weights(folder: Path, data: bytes) -> Path:
    """Write a weights file with a manifest that fits it."""
    path = folder / "tiny.onnx"
    path.write_bytes(data)
    path.with_suffix(".toml").write_text(MANIFEST.format(sha256=hashlib.sha256(data).hexdigest()))
    return path


@pytest.fixture
def tiny(tmp_path):
    """Return a network that gives its input back."""
    free = ["n", 3, "rows", "columns"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, free)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return write_weights(tmp_path, model.SerializeToString())


def test_mean_and_scale_are_applied_and_channels_come_first(tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    (planes,) = Model.load(tiny).run(pixels)
    slow = (pixels.astype(np.float64) - [10, 20, 30]) * 0.5
    assert planes == pytest.approx(slow.transpose(0, 3, 1, 2))


def test_running_leaves_the_pixels_as_they_were(tiny):
    pixels = np.full((1, 4, 4, 3), 200, np.uint8)
    Model.load(tiny).run(pixels)
    assert (pixels == 200).all()


def test_threads_may_share_a_model(tiny):
    model = Model.load(tiny)
    batches = [np.full((1, 8, 8, 3), level, np.uint8) for level in range(64)]
    with ThreadPoolExecutor(8) as pool:
        levels = [planes[0][0, 0, 0, 0] for planes in pool.map(model.run, batches)]
    assert levels == [(level - 10) * 0.5 for level in range(64)]


def test_a_swapped_file_is_refused(tiny):
    tiny.write_bytes((WEIGHTS / "centerface.onnx").read_bytes())
    with pytest.raises(WeightsError, match="does not match its manifest"):
        Model.load(tiny)


def test_a_truncated_file_is_refused(tiny):
    tiny.write_bytes(tiny.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="does not match its manifest"):
        Model.load(tiny)


def test_one_flipped_bit_is_refused(tiny):
    data = bytearray(tiny.read_bytes())
    data[len(data) // 2] ^= 1
    tiny.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="does not match its manifest"):
        Model.load(tiny)


def test_a_missing_weights_file_is_an_error_that_names_it(tiny):
    tiny.unlink()
    with pytest.raises(WeightsError, match=r"cannot read .*tiny\.onnx"):
        Model.load(tiny)


def test_a_missing_manifest_is_an_error(tiny):
    tiny.with_suffix(".toml").unlink()
    with pytest.raises(WeightsError, match=r"every weights file needs its \.toml"):
        Model.load(tiny)


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(WeightsError, match=r"one of \['centerface', 'mobilefacenet', 'resnet29'"):
        Model.load("resnet30")


@pytest.mark.parametrize("data", [b"", b"not a network", b"\x08\x08" * 500])
def test_a_file_that_is_no_network_is_refused_though_its_hash_fits(tmp_path, data):
    with pytest.raises(WeightsError, match="not a network that ONNX Runtime can open"):
        Model.load(write_weights(tmp_path, data))


BROKEN = {
    "an operator that does not exist": ([helper.make_node("Nope", ["x"], ["y"])], 17),
    "an input that nobody gives": ([helper.make_node("Relu", ["z"], ["y"])], 17),
    "a version that does not exist": ([helper.make_node("Relu", ["x"], ["y"])], 999),
    "no layer": ([], 17),
}


@pytest.mark.parametrize("nodes, version", BROKEN.values(), ids=BROKEN)
def test_a_network_with_a_fault_is_refused_though_its_hash_fits(tmp_path, nodes, version):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 2, 2]) for name in "xy")
    graph = helper.make_graph(nodes, "broken", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    with pytest.raises(WeightsError, match="not a network that ONNX Runtime can open"):
        Model.load(write_weights(tmp_path, model.SerializeToString()))


def keep_elsewhere(place: str) -> bytes:
    """Return a network that adds numbers which stand in another file."""
    added = TensorProto(name="added", data_type=TensorProto.FLOAT, dims=[2])
    added.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "8"}.items():
        added.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 2, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "added"], ["y"])], "split", [x], [y], [added])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("place", ["numbers", "folder/numbers", "../numbers", "/etc/hostname"])
def test_numbers_that_the_hash_does_not_cover_are_refused(tmp_path, monkeypatch, place):
    here = tmp_path / "here"
    for folder in (here / "folder", here, tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "numbers").write_bytes(np.ones(2, np.float32).tobytes())
    monkeypatch.chdir(here)
    with pytest.raises(WeightsError, match="External data path"):
        Model.load(write_weights(here, keep_elsewhere(place)))


def test_a_network_whose_names_are_no_text_is_refused_without_a_word_on_the_output(tiny, capfd):
    data = tiny.read_bytes().replace(b"Identity", b"\xff\xfeentity")
    with pytest.raises(WeightsError, match="not a network that ONNX Runtime can open"):
        Model.load(write_weights(tiny.parent, data))
    assert capfd.readouterr().out == ""


def test_a_network_that_cannot_run_on_its_input_is_an_error(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in "xy")
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [7, 11])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "odd", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    odd = Model.load(write_weights(tmp_path, model.SerializeToString()))
    with pytest.raises(WeightsError, match=r"cannot run it on an input of \(1, 3, 2, 2\)"):
        odd.run(np.zeros((1, 2, 2, 3), np.uint8))


def test_a_network_without_an_input_is_refused(tmp_path):
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph([helper.make_node("Constant", [], ["y"], value=one)], "deaf", [], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(WeightsError, match="a network without an input"):
        Model.load(write_weights(tmp_path, model.SerializeToString()))


def test_a_network_that_gives_no_tensor_is_an_error(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "list", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(WeightsError, match="it gives something else than tensors"):
        Model.load(write_weights(tmp_path, model.SerializeToString())).run(np.zeros((1, 2, 2, 3), np.uint8))


def test_no_threads_are_refused(tiny):
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        Model.load(tiny, threads=0)


def test_the_number_of_threads_can_be_set(tiny):
    assert Model.load(tiny, threads=1).run(np.zeros((1, 2, 2, 3), np.uint8))[0].shape == (1, 3, 2, 2)


def test_a_model_says_where_it_runs(tiny):
    assert "CPUExecutionProvider" in Model.load(tiny).providers
