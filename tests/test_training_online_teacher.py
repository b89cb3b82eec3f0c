"""Teachers who see the changed crop of each step, and networks of others in torch."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import pytest
import tomli_w
import torch
from onnx import TensorProto, helper, numpy_helper

from sameface.align import align_faces
from sameface.errors import WeightsError
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import find_weights, open_session
from sameface.recognizer import Recognizer
from sameface.training import distillation
from sameface.training.augment import resize
from sameface.training.checkpoint import LAST
from sameface.training.config import TrainConfig
from sameface.training.dataset import RULE_FILE, open_pictures
from sameface.training.distillation import (
    CropFrame,
    OnlineTeacher,
    TargetSpace,
    TeacherNetwork,
    embed_all,
    mix_faces,
    teacher_targets,
)
from sameface.training.errors import TrainingDataError
from sameface.training.networks.build import make_input_spec
from sameface.training.networks.resnet29 import load_resnet29
from sameface.training.onnx_module import OnnxModule
from sameface.training.prepare import make_rule
from sameface.training.train import train

SAMPLES = ["barack-obama-1", "barack-obama-2", "eileen-collins", "joe-biden"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """Crops of two people, two pictures each, with more round them than `resnet29` sees."""
    folder = tmp_path_factory.mktemp("loose")
    rule = make_rule("similarity", 192, margin=1 / 3)
    detector = Recognizer.load().detector
    for number, name in enumerate(SAMPLES):
        image = read_image(f"samples/{name}.jpg")
        crop = align_faces(image, detector.find(image)[:1], rule)[0]
        person = folder / f"person {number // 2}"
        person.mkdir(exist_ok=True)
        PIL.Image.fromarray(crop).save(person / f"{number}.png")
    (folder / RULE_FILE).write_text(tomli_w.dumps(asdict(rule)))
    return open_pictures([folder])


def config_of(**choices):
    return TrainConfig(
        **{"network": "resnet29", "teacher": "resnet29", "teacher_sees": "changed", "workers": 0} | choices
    )


@pytest.fixture
def other(tmp_path):
    """A second teacher: `resnet29` with noise on its last layer."""
    source, path = find_weights("resnet29"), tmp_path / "other.onnx"
    model = onnx.load(source)
    [last] = [tensor for tensor in model.graph.initializer if tensor.name == "fc_weight_f16"]
    weights = numpy_helper.to_array(last)
    noise = np.random.default_rng(0).normal(1, 0.3, weights.shape)
    last.CopyFrom(numpy_helper.from_array((weights * noise).astype(weights.dtype), last.name))
    onnx.save(model, path)
    manifest = source.with_suffix(".toml").read_text()
    hashes = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (source, path)]
    path.with_suffix(".toml").write_text(manifest.replace(*hashes, 1))
    return path


def make_teacher(pictures, config, start=""):
    teacher = OnlineTeacher(pictures.rule, make_input_spec(config, pictures.rule), config, CPU)
    teacher.space = teacher.fit(pictures, start)
    return teacher


def frames_of(pictures, size):
    return torch.from_numpy(np.stack([resize(place.read(), size) for place in pictures.files]))


def test_an_online_teacher_gives_clean_crops_the_targets_that_are_computed_once(loose):
    config = config_of()
    teacher = make_teacher(loose, config)
    rows = teacher(frames_of(loose, teacher.frame.size)).numpy()
    # Once: the mirror image averaged in, and cut from the crop in one step.
    assert ((rows - teacher_targets(loose, config)) ** 2).sum(axis=1).max() < 0.03
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_several_teachers_come_to_where_the_pupil_begins(loose, other):
    config = config_of(teacher=f"resnet29,{other}:0.6")
    own = embed_all(loose, "resnet29")
    there = make_teacher(loose, config, "resnet29")
    rows = there(frames_of(loose, there.frame.size)).numpy()
    assert ((rows - own) ** 2).sum(axis=1).max() < 0.02
    elsewhere = make_teacher(loose, config)(frames_of(loose, there.frame.size)).numpy()
    assert ((elsewhere - own) ** 2).sum(axis=1).min() > 0.5


def test_the_pupil_sees_its_part_of_the_frame(loose):
    spec = make_input_spec(config_of(), loose.rule)
    frame = CropFrame.around(spec)
    cut = frame.cut(frames_of(loose, frame.size)).numpy()
    wanted = np.stack([resize(place.read(), spec.size, spec.view) for place in loose.files])
    assert cut.shape == wanted.shape == (4, 150, 150, 3)
    assert np.abs(cut.astype(int) - wanted).mean() < 3  # a pixel's place is rounded


def test_a_teacher_must_be_an_embedder_and_know_where_the_face_is(loose):
    with pytest.raises(WeightsError, match="a detector's"):
        TeacherNetwork("centerface", loose.rule)
    for rule in (None, CropRule("box", 192)):
        with pytest.raises(TrainingDataError, match=r"crops\.toml"):
            TeacherNetwork("resnet29", rule)


def test_what_torch_cannot_compute_is_named_with_the_way_out(loose):
    with pytest.raises(WeightsError, match=r"DequantizeLinear.*--teacher-sees clean"):
        TeacherNetwork("resnet29-int8", loose.rule)


def test_a_teacher_that_torch_computes_otherwise_is_refused(loose, monkeypatch):
    network = load_resnet29()
    with torch.no_grad():
        network.fc.weight[:, 0] += 1
    monkeypatch.setattr(distillation, "load_teacher_network", lambda path: network)
    with pytest.raises(WeightsError, match=r"other rows than ONNX Runtime.*--teacher-sees clean"):
        TeacherNetwork("resnet29", loose.rule)


def test_mixed_crops_are_the_last_ones_and_lie_between_two_of_the_batch():
    frames = torch.stack([torch.full((20, 20, 3), value, dtype=torch.uint8) for value in (0, 50, 100, 250)])
    mixed = mix_faces(frames, 2, torch.Generator().manual_seed(1))
    assert torch.equal(mixed[:2], frames[:2])
    assert torch.equal(mixed, mix_faces(frames, 2, torch.Generator().manual_seed(1)))
    assert not torch.equal(mixed, mix_faces(frames, 2, torch.Generator().manual_seed(2)))
    assert mix_faces(frames, 0, torch.Generator()) is frames
    assert not torch.equal(mixed[2:], frames[2:])
    assert mixed.shape == frames.shape
    assert mixed.dtype == torch.uint8


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"mixed": 0.5, "teacher_sees": "clean"}, "mixed must be"),
        ({"mixed": 1.0}, "mixed must be"),
        ({"teacher_sees": "nothing"}, "teacher_sees must be one of"),
    ],
)
def test_impossible_choices_are_refused(choices, reason):
    with pytest.raises(ValueError, match=reason):
        config_of(**choices)


def test_a_pupil_comes_nearer_to_an_online_teacher_and_a_resumed_run_equals_a_whole_one(loose, tmp_path):
    config = config_of(
        network="nns2",
        teacher="resnet29",
        people=2,
        pictures=2,
        steps=12,
        mixed=0.5,
        warm_up=0,
        learning_rate=3e-3,
        seed=4,
        held_out="0",
        save_every=6,
    )
    nobody = loose.of_people([])
    whole = [done.loss for done in train(loose, nobody, config, tmp_path / "whole")]
    assert np.mean(whole[-3:]) < 0.8 * np.mean(whole[:3])
    first = []
    for done in train(loose, nobody, config, tmp_path / "parts", stop=lambda: len(first) >= 5):
        first.append(done.loss)
    rest = [done.loss for done in train(loose, nobody, config, tmp_path / "parts")]
    assert first + rest == whole


def test_how_rows_are_joined_is_kept_to_the_last_bit(loose, other):
    teacher = make_teacher(loose, config_of(teacher=f"resnet29,{other}:0.6"), "resnet29")
    frames = frames_of(loose, teacher.frame.size)
    rows = teacher(frames)
    teacher.space = TargetSpace.from_dict(teacher.space.to_dict())
    assert torch.equal(teacher(frames), rows)
    assert not torch.equal(teacher(frames), make_teacher(loose, config_of())(frames))


def test_a_network_of_others_gives_in_torch_what_it_gives_in_onnx_runtime(tmp_path):
    path = tmp_path / "other.onnx"
    onnx.save(small_network(), path)
    planes = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    wanted = open_session(path.read_bytes(), "other", 1).run(None, {"planes": planes})[0]
    with torch.no_grad():
        rows = OnnxModule(path)(torch.from_numpy(planes)).numpy()
    assert np.abs(rows - wanted).max() < 1e-5


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match="cannot read"):
        OnnxModule(tmp_path / "none.onnx")


def small_network():
    """Each operator that `OnnxModule` knows, in one graph."""
    rng = np.random.default_rng(1)

    def array(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    tensors = [
        array("w0", 8, 3, 3, 3), array("b0", 8), array("slope", 8, 1, 1), array("w1", 8, 1, 3, 3),
        array("scale", 8), array("shift", 8), array("mean", 8),
        numpy_helper.from_array(rng.uniform(0.5, 2, 8).astype(np.float32), "variance"),
        array("w2", 10, 8), array("b2", 10), array("w3", 10, 5), array("last", 5),
    ]  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["planes", "w0", "b0"], ["x0"], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("PRelu", ["x0", "slope"], ["x1"]),
        node("Conv", ["x1", "w1"], ["x2"], group=8, pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["x2", "scale", "shift", "mean", "variance"], ["x3"]),
        node("Sigmoid", ["x3"], ["x4"]),
        node("Mul", ["x4", "x3"], ["x5"]),
        node("Add", ["x5", "x1"], ["x6"]),
        node("Sub", ["x6", "x4"], ["x7"]),
        node("Relu", ["x7"], ["x8"]),
        node("GlobalAveragePool", ["x8"], ["x9"]),
        node("Flatten", ["x9"], ["x10"]),
        node("Dropout", ["x10"], ["x11"]),
        node("Gemm", ["x11", "w2", "b2"], ["x12"], transB=1),
        node("MatMul", ["x12", "w3"], ["x13"]),
        node("Identity", ["x13"], ["x14"]),
        node("Add", ["x14", "last"], ["rows"]),
    ]
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["n", 3, 16, 16])
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "other", [planes], [rows], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_who_is_asked_is_shown_and_an_interruption_then_ends_the_run_at_once(loose, tmp_path):
    crops, run = tmp_path / "crops", tmp_path / "run"
    shutil.copytree(Path(loose.files[0].path).parent.parent, crops)
    for place in loose.files:
        picture = crops / Path(place.path).relative_to(Path(loose.files[0].path).parent.parent)
        for number in range(75):
            shutil.copy(picture, picture.with_stem(f"{picture.stem}-{number}"))
    program = Path(sys.executable).with_name("sameface")
    words = ["--network", "resnet29", "--teacher", "resnet29", "--people", "2", "--pictures", "2"]
    command = [program, "train", crops, "-o", run, *words, "--held-out", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    assert lines[1] == "resnet29 looks at 304 pictures: 0 %\n"
    assert (process.returncode, rest.splitlines()[-1]) == (130, "interrupted")
    assert not (run / LAST).exists()


def test_which_teacher_looks_at_how_many_pictures_is_told(loose):
    told = []
    teacher_targets(loose, config_of(), "mobilefacenet", lambda *words: told.append(words))
    assert told == [("resnet29", 0, 4), ("mobilefacenet", 0, 4)]
