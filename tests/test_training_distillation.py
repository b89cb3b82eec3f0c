"""Teachers, the part of a crop that a network looks at, and networks that begin with weights that exist."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import PIL.Image
import pytest
import tomli_w
import torch
from training_world import make_crop, small_config, write_people

from sameface.align import align_faces
from sameface.embed import Embedder
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import Model, open_session, rule_of_weights
from sameface.recognizer import Recognizer
from sameface.training.augment import OFF, WHOLE, CropView, augment, resize
from sameface.training.context import make_context
from sameface.training.dataset import RULE_FILE, open_pictures
from sameface.training.distillation import (
    TargetSpace,
    embed_all,
    fit_last_layer,
    fit_space,
    ignore_progress,
    recut,
    teacher_targets,
)
from sameface.training.errors import TrainingDataError
from sameface.training.networks.build import build_network, make_input_spec, template_face, view_of_rule
from sameface.training.networks.resnet29 import is_shortened, load_resnet29
from sameface.training.onnx_export import store_float16, to_bytes, write_network
from sameface.training.prepare import make_rule, scale_rule

SAMPLES = ["barack-obama-1", "barack-obama-2", "eileen-collins", "joe-biden"]


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """Crops of the samples with a third of the side more round them than `resnet29` sees."""
    folder = tmp_path_factory.mktemp("loose")
    rule = make_rule("similarity", 192, margin=1 / 3)
    detector = Recognizer.load().detector
    for name in SAMPLES:
        image = read_image(f"samples/{name}.jpg")
        crop = align_faces(image, detector.find(image)[:1], rule)[0]
        (folder / name).mkdir()
        PIL.Image.fromarray(crop).save(folder / name / "1.png")
    (folder / RULE_FILE).write_text(tomli_w.dumps(asdict(rule)))
    return open_pictures([folder])


@pytest.fixture(scope="module")
def shipped():
    return Embedder(Model.load("resnet29", threads=1))


def taught_by(teacher, dimension=128):
    return small_config(teacher=teacher, dimension=dimension)


def test_a_crop_cut_again_is_the_same_person_as_the_photograph(loose, shipped):
    rows = teacher_targets(loose, taught_by("resnet29"))
    faces = [Recognizer.load("resnet29").embed(f"samples/{name}.jpg")[1][0] for name in SAMPLES]
    assert ((rows - np.stack(faces)) ** 2).sum(axis=1).max() < 0.03  # a crop of a crop is a little softer


def test_one_teacher_of_the_width_is_taken_as_it_is(loose, shipped):
    crops = [recut(place.read(), loose.rule, shipped.spec.crop) for place in loose.files]
    assert np.allclose(teacher_targets(loose, taught_by("resnet29")), shipped.embed(np.stack(crops)), atol=1e-5)


def test_several_teachers_are_centred_and_joined(loose):
    rows = teacher_targets(loose, taught_by("resnet29,resnet29:0.5"))
    alone = teacher_targets(loose, taught_by("resnet29"))
    centred = alone - alone.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(rows @ rows.T, centred @ centred.T, atol=1e-4)  # the same directions twice


def test_rows_on_a_plane_keep_their_distances_when_projected():
    flat = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 32)))[0][:8].astype(np.float32)
    wide = (flat @ turn).astype(np.float32)
    small = fit_space([wide], [1.0], 8).join([wide])
    assert small.shape == (50, 8)
    assert np.allclose(small @ small.T, flat @ flat.T, atol=1e-5)


def test_teachers_narrower_than_the_network_are_refused(loose):
    with pytest.raises(TrainingDataError, match="128 numbers cannot teach 256: lower --dimension"):
        teacher_targets(loose, taught_by("resnet29", 256))


def test_crops_that_do_not_say_how_they_were_cut_cannot_be_shown_to_a_teacher(loose):
    with pytest.raises(TrainingDataError, match=r"crops\.toml"):
        teacher_targets(replace(loose, rule=None), taught_by("resnet29"))
    with pytest.raises(TrainingDataError, match=r"crops\.toml"):
        teacher_targets(replace(loose, rule=CropRule("box", 192)), taught_by("resnet29"))


def test_a_picture_that_cannot_be_read_has_no_row(tmp_path):
    folder = write_people(tmp_path / "people", [2, 2])
    (folder / "person-000" / "0.png").write_bytes(b"no picture")
    rows = teacher_targets(open_pictures([folder]), taught_by("resnet29", 64))
    assert rows.shape == (4, 64)
    assert rows.any(axis=1).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("text", "teachers"),
    [
        ("none", ()),
        ("resnet29", (("resnet29", 1.0),)),
        ("a/b.onnx,resnet29:0.6", (("a/b.onnx", 1.0), ("resnet29", 0.6))),
    ],
)
def test_teachers_are_named_with_their_weights(text, teachers):
    assert small_config(teacher=text).teachers() == teachers


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"teacher": "resnet29:much"}, "NAME or NAME:WEIGHT"),
        ({"view": 0.0}, "view over 0"),
        ({"view": 1.5}, "view over 0"),
        ({"start": "resnet29"}, "start must be left out"),
        ({"frozen": 2}, "frozen must be left out"),
        ({"network": "resnet15", "dimension": 64}, "must be resnet29's 128"),
    ],
)
def test_an_impossible_teacher_view_or_start_is_refused(choices, reason):
    with pytest.raises(ValueError, match=reason):
        small_config(**choices)


def test_the_view_of_a_loose_crop_is_what_the_tight_rule_cuts():
    tight = rule_of_weights("resnet29")
    view = view_of_rule(make_rule("similarity", 200, margin=0.25), tight)
    assert (view.left, view.top, view.side) == pytest.approx((0.1, 0.1, 0.8), abs=1e-4)
    assert view_of_rule(tight, tight) == WHOLE
    assert view_of_rule(CropRule("box", 200), tight) == WHOLE


def test_a_network_of_the_papers_looks_at_the_middle():
    pixels = make_input_spec(small_config(network="nns2", view=0.5), make_rule("similarity", 48))
    assert pixels.view == CropView(0.25, 0.25, 0.5)


def test_what_a_view_leaves_out_is_not_seen():
    crop = np.zeros((40, 40, 3), np.uint8)
    crop[10:30, 10:30] = 200
    middle = CropView(0.25, 0.25, 0.5)
    assert (resize(crop, 20, middle) == 200).all()
    assert (augment(crop, 20, np.random.default_rng(0), OFF, middle) == 200).all()
    assert (augment(crop, 10, np.random.default_rng(0), replace(OFF, flip=1.0), middle) == 200).all()
    assert augment(crop, 20, np.random.default_rng(0), replace(OFF, shift=0.5), middle).min() == 0


def test_an_exported_rule_cuts_what_the_network_saw(loose):
    view = view_of_rule(loose.rule, rule_of_weights("resnet29"))
    rule = scale_rule(loose.rule, 102, view)
    crop = loose.files[0].read()
    seen = resize(crop, 102, view).astype(int)
    assert np.abs(seen - recut(crop, loose.rule, rule)).max() <= 2
    assert scale_rule(CropRule("box", 100, margin=0.5), 50, CropView(0.1, 0.1, 0.8)).margin == pytest.approx(0.2)


def test_the_face_of_a_crop_scales_with_it():
    rule = make_rule("similarity", 48)
    assert np.allclose(template_face(rule, 96).landmarks, 2 * template_face(rule, 48).landmarks)


def test_the_last_layer_is_fitted_to_the_teachers(loose):
    targets = torch.nn.functional.normalize(torch.randn(4, 128, generator=torch.Generator().manual_seed(0)))
    network = load_resnet29(name="resnet15")
    pixels = make_input_spec(small_config(network="resnet15", dimension=128), loose.rule)
    fit_last_layer(network, loose, pixels, targets)
    crops = np.stack([resize(place.read(), pixels.size, pixels.view) for place in loose.files])
    planes = (torch.from_numpy(crops).float() - torch.tensor(pixels.mean)) * pixels.scale
    with torch.no_grad():
        rows = network(planes.permute(0, 3, 1, 2))
    assert ((rows - targets) ** 2).sum(dim=1).max() < 0.1  # four pictures, 256 weights for each number


@pytest.mark.parametrize("name", ["resnet29", "resnet15"])
def test_the_file_of_a_network_of_dlibs_kind_equals_torch(name):
    network = load_resnet29(name=name).eval()
    size = make_input_spec(small_config(network=name, dimension=128)).size
    planes = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    session = open_session(to_bytes(write_network(network)), name, 1)
    with torch.no_grad():
        ours = network(torch.from_numpy(planes)).numpy()
    assert np.abs(session.run(None, {"crops": planes})[0] - ours).max() < 1e-5


def test_a_run_can_begin_with_the_file_of_another(tmp_path):
    network = load_resnet29()
    with torch.no_grad():
        network.blocks["4"].conv1.weight *= 2
    (tmp_path / "other.onnx").write_bytes(to_bytes(store_float16(write_network(network))))
    short = load_resnet29(tmp_path / "other.onnx", name="resnet15")
    assert torch.allclose(short.blocks["4"].conv1.weight, network.blocks["4"].conv1.weight, rtol=1e-3)
    assert torch.allclose(short.fc.weight, network.fc.weight, rtol=1e-3, atol=1e-6)


def test_turned_and_shrunk_rows_come_back_to_where_an_embedder_has_them(loose):
    own = embed_all(loose, "resnet29")
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0]
    told = ((own - own.mean(axis=0)) @ turn * 3 + 1).astype(np.float32)
    assert np.allclose(TargetSpace((1.0,)).align_to(told, own).join([told]), own, atol=1e-5)


def test_rows_are_turned_to_where_the_weights_that_a_run_begins_with_have_them(loose):
    config = taught_by("resnet29,resnet29-int8")
    own = embed_all(loose, "resnet29")
    assert ((teacher_targets(loose, config, "resnet29") - own) ** 2).sum(axis=1).max() < 0.02
    assert ((teacher_targets(loose, config) - own) ** 2).sum(axis=1).min() > 0.5


def test_only_a_network_that_leaves_blocks_out_is_shortened(tmp_path):
    assert is_shortened("resnet29", "resnet15")
    assert not is_shortened("resnet29", "resnet29")
    path = tmp_path / "short.onnx"
    path.write_bytes(to_bytes(write_network(load_resnet29(name="resnet15"))))
    assert not is_shortened(path, "resnet15")


@pytest.mark.parametrize(("blocks", "still"), [(0, []), (2, ["conv0", "norm0", "blocks.3", "blocks.4"])])
def test_frozen_blocks_get_no_gradient(blocks, still):
    network = build_network(small_config(network="resnet15", dimension=128, frozen=blocks))
    network(torch.zeros(1, 3, 102, 102)).sum().backward()
    names = [name for name, p in network.named_parameters() if p.grad is None]
    parts = {".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in names}
    assert sorted(parts) == sorted(still)


def test_teachers_are_asked_again_about_other_pixels_of_the_same_names(tmp_path):
    crops = write_people(tmp_path / "crops", [2] * 4)
    config = small_config(teacher="resnet29", dimension=128)
    pictures = open_pictures([crops])

    def rows():
        return make_context(pictures, pictures.of_people([]), config, tmp_path / "run", ignore_progress).targets

    first = rows()
    assert torch.equal(rows(), first)
    PIL.Image.fromarray(make_crop(9, 9)).save(crops / "person-000" / "0.png")
    second = rows()
    assert not torch.equal(second[0], first[0])
    assert torch.equal(second[1:], first[1:])
