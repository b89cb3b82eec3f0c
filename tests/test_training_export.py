"""From a checkpoint to weights that the rest of sameface takes."""

import dataclasses
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from test_training_gradients import TINY
from torch import nn
from training_world import small_config, write_people

import sameface
from sameface.cli import main
from sameface.embed import Embedder
from sameface.manifest import CropRule
from sameface.model import Model
from sameface.training.augment import resize
from sameface.training.checkpoint import LAST, TrainedNetwork, load_trained, save_checkpoint
from sameface.training.context import make_state
from sameface.training.dataset import open_pictures
from sameface.training.errors import ExportError
from sameface.training.export import Terms, blend, export_weights
from sameface.training.loader import to_planes
from sameface.training.networks.build import build_network
from sameface.training.networks.inception import Network
from sameface.training.networks.resnet29 import load_resnet29
from sameface.training.networks.tables import TABLES
from sameface.training.onnx_export import store_float16, to_bytes, write_network
from sameface.training.prepare import scale_rule

TERMS = Terms("CC0-1.0", "coloured squares")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return open_pictures([write_people(tmp_path_factory.mktemp("held") / "crops", [3] * 20)])


def warm(network, size):
    """Give the batch norms running statistics of their own."""
    network.train()
    with torch.no_grad():
        for seed in range(3):
            network(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def run_onnx(network, planes):
    session = onnxruntime.InferenceSession(to_bytes(write_network(network)))
    (rows,) = session.run(None, {"crops": planes.numpy()})
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "norm"),
    [("nn4", "batch"), ("nn4", "response"), ("nns1", "batch"), ("nns2", "batch"), ("nns2", "response")],
)
def test_the_file_equals_torch(name, norm):
    network = warm(Network(TABLES[name], dimension=64, norm=norm, seed=2), TABLES[name].size)
    size = TABLES[name].size
    planes = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert np.abs(run_onnx(network, planes) - network(planes).numpy()).max() < 1e-5


def test_the_file_of_a_fine_tuned_resnet29_equals_torch():
    network = load_resnet29().eval()
    with torch.no_grad():
        for values in network.parameters():
            values *= 1.01
        planes = torch.randn(2, 3, 150, 150, generator=torch.Generator().manual_seed(9))
        assert np.abs(run_onnx(network, planes) - network(planes).numpy()).max() < 1e-5


def test_the_batch_norms_of_a_shortened_resnet_are_folded_with_the_biases_before_them(tmp_path):
    network = warm(load_resnet29(name="resnet15"), 102)
    planes = torch.randn(2, 3, 102, 102, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert np.abs(run_onnx(network, planes) - network(planes).numpy()).max() < 1e-5
        path = tmp_path / "short.onnx"
        path.write_bytes(to_bytes(write_network(network)))
        again = load_resnet29(path, name="resnet15").eval()
        assert not any(isinstance(part, nn.BatchNorm2d) for part in again.modules())
        assert torch.allclose(again(planes), network(planes), atol=1e-5)


def test_the_same_weights_give_the_same_bytes_for_any_number_of_crops_and_no_path_of_this_machine():
    network = Network(TINY, dimension=64, norm="response", seed=2).eval()
    first, second = (to_bytes(write_network(network)) for _ in range(2))
    assert first == second
    assert str(Path(sameface.__file__).parent).encode() not in first
    session = onnxruntime.InferenceSession(first)
    for count in (1, 3):
        (rows,) = session.run(None, {"crops": np.ones((count, 3, 24, 24), np.float32)})
        assert rows.shape == (count, 64)


@pytest.fixture
def trained(monkeypatch):
    monkeypatch.setitem(TABLES, "nns2", TINY)
    config = small_config()
    network = warm(Network(TINY, dimension=64, seed=4), 24)
    return TrainedNetwork("last", network, config, 7)


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
def test_exported_weights_load_like_the_shipped_ones(trained, held_out, tmp_path, store):
    target = tmp_path / "mine.onnx"
    told = "\n".join(export_weights(trained, target, held_out, terms=TERMS, store=store))
    assert "equal to torch" in told
    assert (store in told) == (store != "float32")
    embedder = Embedder(Model.load(target))
    assert embedder.spec.crop == scale_rule(held_out.rule, 24)
    assert embedder.spec.dimension == 64
    crops = np.stack([place.read() for place in held_out.files])[:, ::2, ::2].copy()
    rows = embedder.embed(crops)
    planes = to_planes(torch.from_numpy(crops), (127.5,) * 3, 1 / 128, torch.device("cpu"))
    with torch.no_grad():
        both = trained.network(planes) + trained.network(planes.flip(-1))
    theirs = torch.nn.functional.normalize(both, dim=1).numpy()
    limit = {"float32": 1e-4, "float16": 5e-3, "int8": 0.2}[store]
    assert np.abs(rows - theirs).max() < limit


def test_thresholds_hold_the_rates_they_are_named_for(trained, held_out, tmp_path):
    target = tmp_path / "mine.onnx"
    list(export_weights(trained, target, held_out, terms=TERMS))
    model = Model.load(target)
    crops = np.stack([resize(place.read(), 24) for place in held_out.files])
    rows = Embedder(model).embed(crops)
    distance = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    upper = np.triu(held_out.owner[:, None] != held_out.owner[None], 1)
    thresholds = model.manifest.embedding.thresholds
    assert thresholds.impostor_pairs == upper.sum()
    for far in thresholds.far:
        found = (distance[upper] <= thresholds.at(far)).mean()
        assert 0.9 * far - 2 / upper.sum() <= found <= far + 1 / upper.sum()


def test_the_manifest_holds_licence_data_and_source(trained, held_out, tmp_path):
    list(export_weights(trained, tmp_path / "mine.onnx", held_out, terms=TERMS))
    table = tomllib.loads((tmp_path / "mine.toml").read_text())
    assert (table["licence"], table["training_data"]) == ("CC0-1.0", "coloured squares")
    assert table["source"] == {"checkpoint": "last", "network": "nns2", "steps": "7"}


@pytest.mark.parametrize("words", [("", "data"), ("CC0-1.0", " ")])
def test_licence_and_training_data_must_be_said(words):
    with pytest.raises(ValueError, match="in words"):
        Terms(*words)


class Liar(torch.nn.Module):
    """Stands for a network that the exported file does not reproduce."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, planes):
        return self.network(planes).roll(1, dims=1)


def test_a_file_that_differs_from_torch_is_not_kept(trained, held_out, tmp_path, monkeypatch):
    monkeypatch.setattr("sameface.training.export.write_network", lambda liar: write_network(liar.network))
    lying = dataclasses.replace(trained, network=Liar(trained.network))
    with pytest.raises(ExportError, match="differ"):
        list(export_weights(lying, tmp_path / "mine.onnx", held_out, terms=TERMS))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["rule", "few"])
def test_crops_without_a_rule_or_too_few_are_refused_and_nothing_is_written(trained, held_out, tmp_path, fault):
    given = dataclasses.replace(held_out, rule=None) if fault == "rule" else held_out.of_people([0, 1, 2])
    with pytest.raises(ExportError, match=r"crops\.toml" if fault == "rule" else "too few"):
        list(export_weights(trained, tmp_path / "mine.onnx", given, terms=TERMS))
    assert list(tmp_path.iterdir()) == []


def test_a_rule_cuts_the_same_part_at_another_size():
    rule = CropRule("similarity", 100, ((10.0, 20.0),) * 5, (1.0,) * 5)
    assert scale_rule(rule, 50) == CropRule("similarity", 50, ((5.0, 10.0),) * 5, (1.0,) * 5)


@pytest.mark.slow
def test_from_crops_to_verify_on_the_command_line(tmp_path, samples, monkeypatch):
    monkeypatch.setitem(TABLES, "nns2", TINY)
    crops = write_people(tmp_path / "crops", [4] * 30)

    def call(*words, code=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result.output

    options = ["--steps", 6, "--people", 4, "--pictures", 2, "--workers", 0, "--held-out", 0.5, "--dimension", 64]
    trained = call("train", crops, "-o", tmp_path / "run", *options)
    assert "others held out" in trained
    assert "VAL" in trained
    target = tmp_path / "mine.onnx"
    terms = ["--licence", "CC0-1.0", "--training-data", "squares"]
    call("export", tmp_path / "run" / LAST, crops, "-o", target, *terms)
    pair = [samples["barack-obama-1"], samples["joe-biden"]]
    answer = CliRunner().invoke(main, ["verify", *map(str, pair), "--weights", str(target), "--far", "0.1"])
    assert answer.exit_code in (0, 1)
    assert "distance" in answer.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--people", "1"], "people must be 2"),
        (["--held-out", "1.5"], "a part from 0"),
        (["--pictures", "9"], "nobody has more than 2"),
    ],
)
def test_wrong_options_are_told_in_one_line(tmp_path, monkeypatch, words, told):
    monkeypatch.setitem(TABLES, "nns2", TINY)
    crops = write_people(tmp_path / "crops", [2] * 4)
    result = CliRunner().invoke(main, ["train", str(crops), "-o", str(tmp_path / "run"), *words])
    assert result.exit_code in (2, 3)
    assert told in result.output


def test_the_networks_are_listed_without_pictures():
    listed = CliRunner().invoke(main, ["train", "--list-networks"]).output
    for name in (*TABLES, "resnet29"):
        assert name in listed


def test_export_insists_on_a_licence(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"network": {}})
    words = ["export", str(tmp_path / "a.pt"), str(tmp_path), "-o", str(tmp_path / "a.onnx")]
    assert "--licence" in CliRunner().invoke(main, words).output


def test_a_checkpoint_opens_as_the_network_that_was_saved(trained, tmp_path):
    run = make_state(trained.config, 3, torch.device("cpu"))
    state = {**run.to_dict(), "config": json.dumps(dataclasses.asdict(trained.config))}
    save_checkpoint(tmp_path / "a.pt", state)
    opened = load_trained(tmp_path / "a.pt")
    planes = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(opened.network(planes), run.network.eval()(planes))


def test_float16_keeps_shapes_and_limits_as_they_are_and_moves_rows_little():
    # NNS2 has what must not be cut to 16 bits: the limits of its slice and the shape before its maxout.
    network = warm(Network(TABLES["nns2"], dimension=64, norm="batch", seed=2), TABLES["nns2"].size)
    planes = torch.randn(2, 3, 140, 140, generator=torch.Generator().manual_seed(5))
    whole = write_network(network)
    small = store_float16(whole)
    tensors = [numpy_helper.to_array(tensor) for tensor in small.graph.initializer]
    assert {tensor.dtype.name for tensor in tensors if tensor.ndim} == {"float16", "int64"}
    assert {tensor.dtype.name for tensor in tensors if not tensor.ndim} == {"float32"}
    assert len(to_bytes(small)) < 0.52 * len(to_bytes(whole))
    session = onnxruntime.InferenceSession(to_bytes(small))
    (rows,) = session.run(None, {"crops": planes.numpy()})
    assert np.linalg.norm(rows - network(planes).detach().numpy(), axis=1).max() < 5e-3


def test_people_held_out_may_lie_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLES, "nns2", TINY)
    crops = write_people(tmp_path / "crops", [2] * 4)
    others = write_people(tmp_path / "others", [3] * 20, first=4)
    words = ["--steps", 2, "--people", 4, "--pictures", 2, "--workers", 0, "--dimension", 64]
    words = ["train", crops, "-o", tmp_path / "run", "--held-out", others, *words]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "8 pictures of 4 people, 60 of 20 others held out" in result.output


def test_training_without_torch_says_how_to_get_it(tmp_path, monkeypatch):
    crops = write_people(tmp_path / "crops", [2] * 4)
    for name in [name for name in sys.modules if name.startswith("sameface.training.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(main, ["train", str(crops), "-o", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "this needs torch: pip install 'sameface[train]'" in result.output
    assert not (tmp_path / "run").exists()


def test_a_blend_lies_between_the_weights_a_run_began_with_and_those_it_came_to():
    config = small_config(network="resnet29", dimension=128)
    network = build_network(config)
    begun = network.fc.weight.detach().clone()
    with torch.no_grad():
        network.fc.weight += 1
    trained = TrainedNetwork("run", network, config, 1)
    assert torch.allclose(blend(trained, 0.25).network.fc.weight, begun + 0.25)
    assert blend(trained, 1).network is network


@pytest.mark.parametrize("name", ["nns2", "resnet15"])
def test_a_network_that_began_from_nothing_or_a_part_cannot_be_blended(name):
    config = small_config(network=name, dimension=128)
    with pytest.raises(ExportError, match="leave out --blend"):
        blend(TrainedNetwork("run", build_network(config), config, 1), 0.5)
    with pytest.raises(ValueError, match="blend must be"):
        blend(TrainedNetwork("run", build_network(config), config, 1), 0)
