"""A calibration that is kept, and used from then on."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import toy
from test_evaluation_commands import paint_people

from sameface.compare import Decision
from sameface.errors import WeightsError
from sameface.evaluation.calibration import save_calibrated_weights
from sameface.gallery import Gallery
from sameface.manifest import ProbabilityCurve, read_manifest
from sameface.model import DEFAULT_WEIGHTS, find_weights
from sameface.recognizer import Recognizer
from sameface.thresholds import GalleryThreshold, Thresholds

OWN = Thresholds((0.5, 0.005), (1.5, 0.3), (3000, 30), 6000, 'our "door"\n\u00e9\x7f')
CURVE = ProbabilityCurve.from_facts({"offset": 8, "slope": -40, "low": 0.05, "high": 0.35, "pairs": 1000})


def test_a_copy_of_the_weights_has_the_new_thresholds_and_all_else(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "door.onnx", OWN, CURVE)
    theirs, ours = (
        read_manifest(find_weights("resnet29").with_suffix(".toml")),
        read_manifest(tmp_path / "door.toml"),
    )
    assert ours.embedding.thresholds == OWN
    assert ours.embedding.curve == CURVE
    kept = {name: getattr(theirs.embedding, name) for name in ("thresholds", "others", "curve")}
    assert replace(ours, embedding=replace(ours.embedding, **kept)) == theirs
    assert ours.embedding.others == ()
    assert (tmp_path / "door.onnx").read_bytes() == find_weights("resnet29").read_bytes()


def test_saving_again_replaces_the_tables(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "a.onnx", OWN, CURVE)
    other = replace(OWN, distance=(1.0, 0.2))
    save_calibrated_weights(str(tmp_path / "a.onnx"), tmp_path / "b.onnx", other, None)
    found = read_manifest(tmp_path / "b.toml").embedding
    assert (found.thresholds, found.curve) == (other, None)
    assert list(tomllib.loads((tmp_path / "b.toml").read_text())).count("thresholds") == 1


def test_the_weights_own_manifest_is_not_overwritten(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "a.onnx", OWN, CURVE)
    before = (tmp_path / "a.toml").read_text()
    with pytest.raises(WeightsError, match="choose another file"):
        save_calibrated_weights(str(tmp_path / "a.onnx"), tmp_path / "a.onnx", OWN, None)
    assert (tmp_path / "a.toml").read_text() == before


def test_saved_weights_keep_the_signature_and_tell_a_probability(tmp_path, samples):
    save_calibrated_weights("resnet29", tmp_path / "door.onnx", OWN, CURVE)
    ours = Recognizer.load(tmp_path / "door.onnx")
    assert ours.signature == Recognizer.load("resnet29").signature
    pair = (samples["barack-obama-1"], samples["barack-obama-2"])
    decision = ours.verify(*pair, far=0.005)
    assert decision.threshold == 0.3
    odds = 40 * (decision.threshold - max(decision.distance, 0.05))
    assert decision.probability == pytest.approx(1 / (1 + np.exp(-odds)))


def test_a_decision_without_a_calibration_has_no_probability_and_no_range():
    plain = Decision(0.1, 0.2, 1e-3)
    assert (plain.probability, plain.in_range) == (None, False)


def test_a_decision_outside_the_range_takes_the_nearer_end_and_says_so():
    near, inside, far = (Decision(distance, 0.2, 1e-3, CURVE) for distance in (0.0, 0.2, 3.0))
    assert (near.in_range, inside.in_range, far.in_range) == (False, True, False)
    assert near.probability == Decision(0.05, 0.2, 1e-3, CURVE).probability
    assert inside.probability == pytest.approx(0.5)
    assert far.probability == Decision(0.35, 0.2, 1e-3, CURVE).probability


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.12, 0.3, 0.35, 1.0])
def test_a_probability_never_says_otherwise_than_the_decision(threshold):
    for distance in np.linspace(0, 0.5, 101):
        decision = Decision(float(distance), threshold, 1e-3, CURVE)
        assert decision.probability >= 0.5 if decision.same else decision.probability <= 0.5


def test_a_gallery_keeps_its_thresholds_and_uses_them(tmp_path, toy_recognizer):
    row = toy.row_of(toy.ORANGE)[None]  # 0.21 from red
    with Gallery.open(tmp_path / "g.db", toy_recognizer) as gallery:
        gallery.enroll("Red", [toy_recognizer.template(toy.paint(toy.RED))])
        assert gallery.thresholds == toy_recognizer.thresholds
        assert gallery.identify(row)[0].name is None
        gallery.keep_thresholds(OWN)
    with Gallery.open(tmp_path / "g.db", toy_recognizer) as gallery:
        assert gallery.thresholds == OWN
        [answer] = gallery.identify(row, far=0.005)
        assert (answer.name, answer.threshold) == ("Red", pytest.approx(0.3))
        gallery.keep_thresholds(None)
        assert gallery.thresholds == toy_recognizer.thresholds
        assert gallery.identify(row)[0].name is None


def test_thresholds_need_the_pipeline_they_were_made_with(tmp_path, toy_recognizer):
    with Gallery.open(tmp_path / "g.db", toy_recognizer):
        pass
    with Gallery.open(tmp_path / "g.db") as gallery:
        with pytest.raises(ValueError, match="without a pipeline"):
            gallery.keep_thresholds(OWN)
        with pytest.raises(ValueError, match="without a pipeline"):
            _ = gallery.thresholds


def test_calibrate_saves_into_a_gallery_and_identify_says_so(run, tmp_path):
    people = paint_people(tmp_path / "people")
    assert run("enroll", "Red", people / "red" / "red_0001.png").exit_code == 0
    saved = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "people.db")
    assert saved.exit_code == 0
    assert "people.db now has thresholds of its own" in saved.stderr
    result = run("identify", people / "red" / "red_0002.png", "--far", "0.25", "--json")
    assert "thresholds of the gallery: 20 pictures of 5 people in people" in result.stderr
    answer = json.loads(result.stdout)["faces"][0]
    with Gallery.open(tmp_path / "people.db", toy.make_recognizer()) as gallery:
        assert answer["threshold"] == pytest.approx(gallery.thresholds.at(0.25))


def test_calibrate_makes_no_new_gallery(run, tmp_path):
    people = paint_people(tmp_path / "people")
    result = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "typo.db")
    assert result.exit_code == 3
    assert not (tmp_path / "typo.db").exists()


def test_a_gallery_of_one_face_takes_the_very_rate_that_was_calibrated():
    for far in (0.25, 0.1, 1e-3, 7e-4):
        only = Thresholds((far,), (0.2,), (30,), 1000, "")
        assert only.at_gallery(1, far) == GalleryThreshold(0.2, far, far, extrapolated=False)


def test_calibrate_saves_a_copy_of_the_weights_with_its_thresholds(run, tmp_path):
    people = paint_people(tmp_path / "people")
    result = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "door.onnx")
    assert result.exit_code == 0
    assert "saved: door.onnx and door.toml" in result.stderr
    kept = read_manifest(tmp_path / "door.toml").embedding
    assert kept.thresholds.calibrated_on.startswith("20 pictures of 5 people in people")
    assert kept.thresholds.far[0] >= 0.25
    assert kept.curve is not None
    assert (tmp_path / "door.onnx").read_bytes() == find_weights(DEFAULT_WEIGHTS).read_bytes()
