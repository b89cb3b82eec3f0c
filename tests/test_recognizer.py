"""The main path, with the shipped weights on the sample photographs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import toy

from sameface import Detector, Embedder, Model, Recognizer, read_image
from sameface.errors import ImageError, NoFaceError, NoSuchFaceError, SeveralFacesError, ThresholdError

OBAMA = ("barack-obama-1", "barack-obama-2", "barack-obama-3")
BLANK = np.full((200, 300, 3), 127, np.uint8)


@pytest.fixture(scope="module")
def group(samples):
    """Return a picture pasted from three samples: small, large and middling faces."""
    height, parts = 640, []
    for name, factor in (("eileen-collins", 0.5), ("joe-biden", 1.0), ("barack-obama-1", 0.8)):
        picture = PIL.Image.open(samples[name])
        small = np.asarray(picture.resize((int(picture.width * factor), int(picture.height * factor))))
        parts.append(np.pad(small, ((0, height - len(small)), (0, 0), (0, 0))))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(("a", "b"), list(combinations(OBAMA, 2)))
def test_two_pictures_of_one_man_are_the_same_person(recognizer, samples, a, b):
    assert recognizer.verify(samples[a], samples[b], far=1e-4).same


@pytest.mark.parametrize("other", ["joe-biden", "eileen-collins"])
@pytest.mark.parametrize("obama", OBAMA)
def test_pictures_of_two_people_are_different_even_at_a_generous_rate(recognizer, samples, obama, other):
    assert not recognizer.verify(samples[obama], samples[other], far=1e-2).same


def test_a_decision_reports_the_threshold_of_the_rate_that_was_asked_for(recognizer, samples):
    decision = recognizer.verify(samples[OBAMA[0]], samples[OBAMA[1]], far=1e-2)
    assert (decision.threshold, decision.far) == (recognizer.thresholds.at(1e-2), 1e-2)


def test_the_distance_is_that_of_the_two_rows(recognizer, samples):
    rows = [recognizer.embed_face(samples[name])[1].astype(np.float64) for name in OBAMA[:2]]
    distance = recognizer.verify(samples[OBAMA[0]], samples[OBAMA[1]]).distance
    assert distance == pytest.approx(((rows[0] - rows[1]) ** 2).sum(), abs=1e-6)


def test_a_rate_below_the_calibration_is_refused_with_the_smallest_there_is(recognizer, samples):
    with pytest.raises(ThresholdError, match="1e-10") as caught:
        recognizer.verify(samples[OBAMA[0]], samples[OBAMA[1]], far=1e-11)
    assert caught.value.smallest == recognizer.thresholds.smallest


def test_every_face_of_a_picture_gets_a_row(recognizer, group):
    faces, rows = recognizer.embed(group)
    assert (len(faces), rows.shape) == (3, (3, 128))


def test_a_picture_without_a_face_gives_an_empty_table(recognizer):
    faces, rows = recognizer.embed(BLANK)
    assert (faces, rows.shape, rows.dtype) == ([], (0, 128), np.float32)


def test_several_faces_are_an_error_that_lists_them(recognizer, group):
    with pytest.raises(SeveralFacesError, match="3 faces found in the picture") as caught:
        recognizer.embed_face(group)
    assert len(caught.value.faces) == 3


def test_the_largest_face_has_the_largest_box(recognizer, group):
    face, _ = recognizer.embed_face(group, face="largest")
    assert face.area == max(other.area for other in recognizer.detector.find(group))


def test_the_first_face_has_the_highest_score(recognizer, group):
    face, _ = recognizer.embed_face(group, face="first")
    assert face.score == max(other.score for other in recognizer.detector.find(group))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_number_chooses_in_the_detectors_order(recognizer, group, number):
    face, _ = recognizer.embed_face(group, face=number)
    assert face.box.tolist() == recognizer.detector.find(group)[number].box.tolist()


@pytest.mark.parametrize("number", [3, -1])
def test_a_number_past_the_last_face_is_refused(recognizer, group, number):
    with pytest.raises(NoSuchFaceError, match="faces 0 to 2"):
        recognizer.embed_face(group, face=number)


def test_the_only_face_of_a_picture_has_number_0(recognizer, samples):
    face, _ = recognizer.embed_face(samples["joe-biden"], face=0)
    assert face.box.tolist() == recognizer.embed_face(samples["joe-biden"])[0].box.tolist()
    with pytest.raises(NoSuchFaceError, match="it has only face 0"):
        recognizer.embed_face(samples["joe-biden"], face=1)


@pytest.mark.parametrize("face", ["only", "largest", "first", 0])
def test_no_choice_finds_a_face_where_there_is_none(recognizer, face):
    with pytest.raises(NoFaceError, match="no face found in the picture"):
        recognizer.embed_face(BLANK, face=face)


def test_no_face_is_an_error_that_names_the_file(recognizer, tmp_path):
    path = tmp_path / "wall.png"
    PIL.Image.fromarray(BLANK).save(path)
    with pytest.raises(NoFaceError, match=r"no face found in '.*wall\.png'"):
        recognizer.embed_face(path)


def test_a_missing_file_is_an_error_that_names_it(recognizer, samples):
    with pytest.raises(ImageError, match=r"cannot read 'nowhere\.jpg'"):
        recognizer.verify(samples[OBAMA[0]], "nowhere.jpg")


def test_a_template_is_the_face_its_row_and_the_hash_of_the_file(recognizer, samples):
    path = samples["joe-biden"]
    face, row = recognizer.embed_face(path)
    template = recognizer.template(path)
    assert (template.box.tolist(), template.score, template.crop) == (face.box.tolist(), face.score, None)
    assert template.embedding == pytest.approx(row, abs=1e-6)
    assert len(template.picture) == 64


def test_a_template_keeps_the_crop_if_told_to(recognizer, samples):
    crop = recognizer.template(samples["joe-biden"], keep_crop=True).crop
    assert crop is not None
    assert crop.shape == (112, 112, 3)


def test_a_path_its_bytes_and_its_array_give_the_same_row(recognizer, samples):
    path = samples["joe-biden"]
    rows = [recognizer.embed_face(source)[1] for source in (path, path.read_bytes(), read_image(path))]
    assert rows[0].tolist() == rows[1].tolist() == rows[2].tolist()


def test_threads_may_share_a_recognizer(recognizer, samples):
    alone = {name: recognizer.embed_face(path)[1] for name, path in samples.items()}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda name: recognizer.embed_face(samples[name])[1], list(samples) * 4))
    for name, row in zip(list(samples) * 4, together, strict=True):
        assert row == pytest.approx(alone[name], abs=1e-6)


def test_the_signature_is_the_same_every_time(recognizer):
    assert Recognizer.load().signature == recognizer.signature


def test_the_signature_changes_with_flip_averaging(recognizer):
    assert Recognizer.load(flip=False).signature != recognizer.signature


def test_the_signature_changes_with_the_crop_rule(recognizer):
    rule = recognizer.embedder.spec.crop
    moved = replace(rule, template=tuple((x + 1, y) for x, y in rule.template))
    other = Embedder(recognizer.embedder.model)
    other.spec = replace(other.spec, crop=moved)
    assert Recognizer(recognizer.detector, other).signature != recognizer.signature


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"mean": (1.0, 2.0, 3.0)}, {"scale": 1.0}], ids=lambda change: next(iter(change))
)
def test_the_signature_changes_with_the_weights_and_how_they_are_fed(change):
    recognizer = Recognizer.load()
    before, model = recognizer.signature, recognizer.embedder.model
    model.manifest = replace(model.manifest, **change)
    assert recognizer.signature != before


def test_the_signature_changes_with_the_detector():
    recognizer = Recognizer.load()
    before, model = recognizer.signature, recognizer.detector.model
    model.manifest = replace(model.manifest, sha256="0" * 64)
    assert recognizer.signature != before


def test_the_signature_is_short_enough_to_read_out(recognizer):
    assert re.fullmatch("[0-9a-f]{16}", recognizer.signature)


def test_the_search_settings_do_not_change_the_signature(recognizer):
    detector = Detector(Model.load("centerface"), max_side=320, min_size=50)
    assert Recognizer(detector, recognizer.embedder).signature == recognizer.signature


def test_one_thread_gives_the_same_rows(recognizer, samples):
    _, row = Recognizer.load(threads=1).embed_face(samples["joe-biden"])
    assert row == pytest.approx(recognizer.embed_face(samples["joe-biden"])[1], abs=1e-5)


OPENS = """
import sys
from sameface.recognizer import Recognizer
import toy

path, opened = sys.argv[1], []
recognizer = toy.make_recognizer()
sys.addaudithook(lambda event, facts: opened.append(facts[0]) if event == "open" else None)
recognizer.template(path)
print(sum(str(each) == path for each in opened))
"""


def test_a_template_reads_its_file_once_so_that_hash_and_pixels_are_of_the_same_bytes(tmp_path):
    path = tmp_path / "red.png"
    PIL.Image.fromarray(toy.paint(toy.RED)).save(path)
    command = [sys.executable, "-c", OPENS, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"
