"""The list of embedders, and a network of one's own: with the shipped detector, on the sample photographs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tomli_w
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from sameface.cli import main
from sameface.errors import WeightsError
from sameface.manifest import read_manifest
from sameface.model import Model, find_weights, list_shipped

RESNET29 = list_shipped()["resnet29"]
Call = Callable[..., Result]


@pytest.fixture
def added(tmp_path, monkeypatch) -> Path:
    """Where added weights go; the folder does not exist yet."""
    monkeypatch.setenv("SAMEFACE_WEIGHTS_FOLDER", str(tmp_path / "home" / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "weights"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def draft_of(**changes: object) -> dict[str, object]:
    """Return the shipped embedder's manifest under another name, without its hash."""
    table = tomllib.loads(RESNET29.with_suffix(".toml").read_text())
    del table["sha256"]
    return table | {"name": "mine"} | changes


def without(table: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in table.items() if name != key}


def tiny_draft(**changes: object) -> dict[str, object]:
    """Return the manifest of a tiny network: boxes of 8 pixels, 3 numbers."""
    facts = {
        "dimension": 3,
        "input": {"size": 8, "mean": [0.0, 0.0, 0.0], "scale": 1.0},
        "crop": {"kind": "box", "margin": 0.0},
    }
    return draft_of(**(facts | changes))


def write_draft(table: dict[str, object]) -> Path:
    path = Path("draft.toml")
    path.write_text(tomli_w.dumps(table))
    return path


def write_network(nodes: list, shape: list, *, outputs: tuple[str, ...] = ("y",), constants=()) -> Path:
    """Write a tiny network from `x` to the outputs."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = Path("tiny.onnx")
    path.write_bytes(model.SerializeToString())
    return path


def mean_colour(shape: tuple = ("n", 3, 8, 8)) -> Path:
    """Write a network that gives the mean of each channel."""
    return write_network([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], list(shape))


def refused(result: Result, message: str, folder: Path) -> bool:
    """Return whether it ended with 3, one line that holds the message, and nothing kept."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 3, result.output
    assert message in lines[0]
    return len(lines) == 1 and not folder.exists()


# The list


def test_the_list_tells_what_the_manifest_says(added):
    [record] = [json.loads(line) for line in call("weights", "--json").stdout.splitlines()][:1]
    facts = read_manifest(list_shipped()[record["name"]].with_suffix(".toml"))
    assert record["licence"] == facts.licence
    assert record["training_data"] == facts.training_data
    assert record["source"] == facts.source
    assert (record["dimension"], record["size"]) == (facts.embedding.dimension, facts.embedding.crop.size)
    assert record["smallest_far"] == facts.embedding.thresholds.far[-1]
    assert record["calibrated_on"] == facts.embedding.thresholds.calibrated_on
    assert record["bytes"] == Path(record["path"]).stat().st_size
    assert record["ms_per_face"] > 0
    assert record["added"] is False


def test_the_list_holds_every_embedder_and_no_detector(added):
    names = [json.loads(line)["name"] for line in call("weights", "--json").stdout.splitlines()]
    assert names == [
        name for name, path in list_shipped().items() if read_manifest(path.with_suffix(".toml")).embedding
    ]
    assert "resnet29" in names


def test_the_table_for_people_has_a_line_and_the_words_of_each(added):
    shown = call("weights").stdout
    [line] = [line for line in shown.splitlines() if line.strip().startswith("resnet29  ")]
    assert line.split()[1:6] == ["128", "150", "x", "150", "11.2"]
    assert line.split()[-3:] == ["3e-06", "CC0-1.0", "named"]
    [line] = [line for line in shown.splitlines() if line.strip().startswith("mobilefacenet  ")]
    assert line.split()[-3:] == ["MIT", "not", "stated"]
    assert "resnet29: ships with sameface\n  reaches: LFW View 1 98.8 %, " in shown
    assert "\n  trained on: about 3 million photographs" in shown


def test_the_environment_names_the_embedder_where_no_option_does(added, monkeypatch):
    monkeypatch.setenv("SAMEFACE_WEIGHTS", "nobody")
    assert "weights 'nobody'" in call("doctor").stderr
    assert call("doctor", "--weights", "resnet29").exit_code == 0


def test_a_service_takes_its_embedder_from_the_environment(added, monkeypatch):
    monkeypatch.setenv("SAMEFACE_WEIGHTS", "nobody")
    result = call("serve", "--gallery", "people.db")
    assert result.exit_code == 3
    assert "weights 'nobody'" in result.stderr


def test_a_folder_in_the_place_of_an_embedder_is_told_from_an_unknown_name(added, monkeypatch):
    added.mkdir(parents=True)
    monkeypatch.setenv("SAMEFACE_WEIGHTS", str(added))
    result = call("doctor")
    assert result.exit_code == 3
    assert "a folder (SAMEFACE_WEIGHTS_FOLDER names that of added weights)" in result.stderr


def test_a_folder_called_like_an_embedder_does_not_hide_it(added):
    Path("resnet29").mkdir()
    assert find_weights("resnet29") == RESNET29


def test_added_weights_that_are_damaged_are_skipped_and_the_list_ends_with_3(added):
    call("weights", "add", RESNET29, "--manifest", write_draft(draft_of()))
    (added / "mine.onnx").write_bytes(b"damaged")
    result = call("weights", "--json")
    assert result.exit_code == 3
    assert "skipped: weights 'mine': " in result.stderr
    assert "mine" not in result.stdout


def test_json_belongs_to_the_list_alone(added):
    result = call("weights", "--json", "add", RESNET29, "--manifest", write_draft(draft_of()))
    assert result.exit_code == 2
    assert not added.exists()


# A network that is added


def test_added_weights_are_taken_by_name_and_answer_as_their_file_does(added, samples):
    result = call("weights", "add", RESNET29, "--manifest", write_draft(draft_of()))
    assert (result.exit_code, result.stdout) == (0, f"added: --weights mine ({added / 'mine.onnx'})\n")
    assert sorted(path.name for path in added.iterdir()) == ["mine.onnx", "mine.toml"]
    pair = (samples["barack-obama-1"], samples["barack-obama-2"])
    ours, theirs = (call("verify", *pair, "--json", "--weights", name) for name in ("mine", "resnet29"))
    assert (ours.exit_code, json.loads(ours.stdout)) == (0, json.loads(theirs.stdout))
    assert Model.load("mine").manifest.name == "mine"
    with pytest.raises(WeightsError, match=r"one of .*'mine', .*'resnet29'"):
        Model.load("yours")


def test_the_kept_manifest_is_the_draft_with_the_hash_filled_in(added):
    call("weights", "add", RESNET29, "--manifest", write_draft(draft_of()))
    kept = tomllib.loads((added / "mine.toml").read_text())
    assert kept == draft_of() | {"sha256": read_manifest(RESNET29.with_suffix(".toml")).sha256}
    assert (added / "mine.onnx").read_bytes() == RESNET29.read_bytes()


def test_added_weights_are_in_the_list_after_those_that_ship(added):
    call("weights", "add", RESNET29, "--manifest", write_draft(draft_of(licence="mine alone")))
    records = [json.loads(line) for line in call("weights", "--json").stdout.splitlines()]
    assert [(record["name"], record["added"], record["licence"]) for record in records[-1:]] == [
        ("mine", True, "mine alone")
    ]
    assert len(records) >= 2
    assert f"mine: added, {added / 'mine.onnx'}" in call("weights").stdout


def test_a_network_of_boxes_is_cut_as_its_manifest_says(added):
    crop = {"kind": "box", "margin": 0.3}
    result = call("weights", "add", RESNET29, "--manifest", write_draft(draft_of(crop=crop)))
    assert result.exit_code == 0
    assert read_manifest(added / "mine.toml").embedding.crop.kind == "box"


def test_a_taken_name_needs_replace(added):
    call("weights", "add", RESNET29, "--manifest", write_draft(draft_of()))
    draft = write_draft(draft_of(licence="another"))
    again = call("weights", "add", RESNET29, "--manifest", draft)
    assert again.exit_code == 3
    assert "give --replace" in again.stderr
    assert read_manifest(added / "mine.toml").licence == "CC0-1.0"
    assert call("weights", "add", RESNET29, "--manifest", draft, "--replace").exit_code == 0
    assert read_manifest(added / "mine.toml").licence == "another"


def test_a_name_that_ships_cannot_be_replaced(added):
    draft = write_draft(draft_of(name="resnet29"))
    result = call("weights", "add", RESNET29, "--manifest", draft, "--replace")
    assert refused(result, "weights of this name ship with sameface", added)


def test_without_the_variable_weights_go_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("SAMEFACE_WEIGHTS_FOLDER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert call("weights", "add", RESNET29, "--manifest", write_draft(draft_of())).exit_code == 0
    assert (tmp_path / ".local/share/sameface/weights/mine.toml").is_file()


# Thresholds


@pytest.fixture
def people(tmp_path, samples) -> Path:
    """The people of the samples, each photograph in four kinds of light: 112 pairs of different people."""
    for name, path in samples.items():
        folder = tmp_path / "people" / name.rstrip("-0123456789")
        folder.mkdir(parents=True, exist_ok=True)
        for level in (1.0, 0.9, 0.8, 0.7):
            picture = PIL.Image.open(path).convert("RGB").point(lambda value, level=level: value * level)
            picture.save(folder / f"{name}-{level}.png", compress_level=1)
    return tmp_path / "people"


def test_thresholds_come_from_people_and_replace_those_of_the_draft(added, people):
    draft = write_draft(draft_of())
    result = call("weights", "add", RESNET29, "--manifest", draft, "--people", people, "--far", "0.3")
    assert result.exit_code == 0
    kept = read_manifest(added / "mine.toml").embedding
    assert kept.thresholds.far == (0.3,)
    assert kept.thresholds.impostor_pairs == 112
    assert kept.thresholds.calibrated_on == "20 pictures of 3 people in people"
    assert kept.curve.pairs == 112 + 66 + 6 + 6
    assert sorted(path.name for path in Path().iterdir()) == ["draft.toml", "home", "people"]  # no cache


def test_a_draft_without_thresholds_needs_people(added):
    draft = write_draft(without(draft_of(), "thresholds"))
    result = call("weights", "add", RESNET29, "--manifest", draft)
    assert refused(result, "has no thresholds: give people to calibrate on with --people", added)


def test_too_few_people_for_the_rate_are_refused_and_nothing_is_kept(added, people):
    draft = write_draft(without(draft_of(), "thresholds"))
    result = call("weights", "add", RESNET29, "--manifest", draft, "--people", people)
    assert refused(result, "a false-accept rate of 0.001 needs 30,000 pairs of different people", added)


def test_a_picture_of_people_that_cannot_be_read_is_told_and_ends_with_3(added, people):
    (people / "joe-biden" / "bad.png").write_bytes(b"no picture")
    draft = write_draft(draft_of())
    result = call("weights", "add", RESNET29, "--manifest", draft, "--people", people, "--far", "0.3")
    assert result.exit_code == 3
    assert "bad.png" in result.stderr
    assert (added / "mine.toml").is_file()


# What is refused


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (without(draft_of(), "licence"), "has no entry 'licence'"),
        (draft_of(licence=" "), "licence must be words, got ' '"),
        (without(draft_of(), "source"), "has no entry 'source'"),
        (draft_of(licens="CC0"), "unknown entries ['licens']"),
        (draft_of(name="../mine"), "name must be letters"),
        (draft_of(name="mine.onnx"), "name must be letters"),
        (draft_of(sha256="0" * 64), "the manifest is of another file"),
        (tomllib.loads(list_shipped()["centerface"].with_suffix(".toml").read_text()), "no thresholds"),
        (draft_of(kind="detector", detection={"score": 0.5, "overlap": 0.3}), "kind must be 'embedder'"),
        (draft_of(dimension=64), "it gives float32 (1, 128), the manifest says float32 (1, 64)"),
        (draft_of(input={"size": 112, "mean": [0.0] * 3, "scale": 1.0}), "wanted tensor(float) ['n', 3, 112"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(added, table, message):
    assert refused(call("weights", "add", RESNET29, "--manifest", write_draft(table)), message, added)


def test_a_file_that_is_no_network_is_refused(added):
    Path("tiny.onnx").write_bytes(b"no network")
    result = call("weights", "add", "tiny.onnx", "--manifest", write_draft(tiny_draft()))
    assert refused(result, "not a network that ONNX Runtime can open", added)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), ("n", 8, 8, 3), ("n", 3, 8), ("n", 3, 16, 16)])
def test_a_network_of_another_input_is_refused(added, shape):
    axes = [axis for axis in (2, 3) if axis < len(shape)]
    network = write_network([helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)], list(shape))
    result = call("weights", "add", network, "--manifest", write_draft(tiny_draft()))
    assert refused(result, "export it with a free number of pictures, the channels first", added)


MEAN = helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
FAULTY = {
    "two outputs": ([MEAN, helper.make_node("Relu", ["m"], ["y"])], ("m", "y"), (), "1 inputs and 2 outputs"),
    "not a number": (
        [MEAN, helper.make_node("Neg", ["m"], ["n"]), helper.make_node("Sqrt", ["n"], ["y"])],
        ("y",),
        (),
        "not finite",
    ),
    "zeros": ([MEAN, helper.make_node("Sub", ["m", "m"], ["y"])], ("y",), (), "all zero"),
    "a row that depends on the batch": (
        [
            MEAN,
            helper.make_node("ReduceMean", ["m"], ["all"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["all", "most"], ["other"]),
            helper.make_node("Sub", ["m", "other"], ["y"]),
        ],
        ("y",),
        [("most", np.float32(0.9))],
        "a crop alone and in a batch of 3",
    ),
    "a batch of one only": (
        [MEAN, helper.make_node("Reshape", ["m", "shape"], ["y"])],
        ("y",),
        [("shape", np.array([1, 3], np.int64))],
        "ONNX Runtime cannot run it on an input of (3, 3, 8, 8)",
    ),
}


@pytest.mark.parametrize(("nodes", "outputs", "constants", "message"), FAULTY.values(), ids=FAULTY)
def test_a_network_that_fails_its_test_is_refused(added, nodes, outputs, constants, message):
    network = write_network(nodes, ["n", 3, 8, 8], outputs=outputs, constants=constants)
    result = call("weights", "add", network, "--manifest", write_draft(tiny_draft()))
    assert refused(result, message, added)


def test_a_network_that_does_not_tell_people_apart_is_refused(added):
    result = call("weights", "add", mean_colour(), "--manifest", write_draft(tiny_draft()))
    assert refused(result, "of the sample photographs two of one person are", added)


def test_an_unfinished_copy_is_not_taken_for_weights(added):
    added.mkdir(parents=True)
    (added / "mine.onnx").write_bytes(RESNET29.read_bytes())  # ended before the manifest, which comes last
    result = call("detect", "--help")
    assert result.exit_code == 0
    assert call("doctor", "--weights", "mine").exit_code == 3
    assert call("weights", "add", RESNET29, "--manifest", write_draft(draft_of())).exit_code == 0
