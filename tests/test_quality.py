"""How fit a face is: each part falls with its fault, and poor faces are refused at enrolment."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from click.testing import CliRunner

from sameface.align import align_faces
from sameface.cli import main
from sameface.detect import Detector
from sameface.errors import PoorFaceError
from sameface.face import Face
from sameface.gallery import Gallery
from sameface.image import read_image
from sameface.model import Model, rule_of_weights
from sameface.quality import Quality, measure_quality, measure_turn
from sameface.recognizer import Recognizer

LEVEL = np.array([[40, 40], [80, 40], [60, 60], [44, 80], [76, 80]], np.float32)


@pytest.fixture(scope="module")
def portrait(samples):
    """A photograph with one face, straight ahead."""
    return read_image(samples["barack-obama-1"])


def rate(image):
    """Return the quality of the first face of a picture."""
    faces = Detector(Model.load("centerface")).find(image)
    return measure_quality(faces[0], align_faces(image, faces[:1], rule_of_weights("resnet29"))[0])


def test_a_portrait_is_nearly_perfect(portrait):
    assert rate(portrait).total > 0.6


def test_a_blurred_face_is_worst_in_its_sharpness(portrait):
    blurred = PIL.Image.fromarray(portrait).filter(PIL.ImageFilter.GaussianBlur(portrait.shape[1] / 60))
    found = rate(np.asarray(blurred))
    assert found.weakest == "sharpness"
    assert found.total < 0.5 * rate(portrait).total


def test_a_small_face_is_worst_in_its_size(portrait):
    small = PIL.Image.fromarray(portrait)
    small.thumbnail((140, 140))
    found = rate(np.asarray(small))
    assert found.size < 0.6
    assert found.total < rate(portrait).total


def test_a_face_in_glaring_light_is_worse(portrait):
    glaring = np.clip(portrait.astype(int) * 2 - 60, 0, 255).astype(np.uint8)
    assert rate(glaring).light < rate(portrait).light


def test_the_nose_tells_how_far_a_face_is_turned():
    assert measure_turn(LEVEL) == 0
    aside = LEVEL.copy()
    aside[2, 0] += 20
    assert measure_turn(aside) == pytest.approx(0.5)
    assert measure_turn(2 * LEVEL - aside) == pytest.approx(-0.5)  # to the other side
    quarter = np.array([[0, -1], [1, 0]], np.float32)
    assert measure_turn(aside @ quarter.T) == pytest.approx(0.5)  # a tilted head is not turned


def test_one_useless_part_makes_a_face_useless():
    found = Quality(certainty=1, size=0.9, sharpness=0, pose=1, light=1)
    assert (found.total, found.weakest) == (0, "sharpness")


def test_a_crop_must_be_bytes():
    face = Face(np.array([0, 0, 9, 9], np.float32), LEVEL, 0.9)
    with pytest.raises(TypeError, match="crop"):
        measure_quality(face, np.zeros((20, 20, 3), np.float32))


# At enrolment


def test_a_poor_face_is_refused_with_what_is_worst(samples):
    recognizer = Recognizer.load()
    assert recognizer.template(samples["barack-obama-1"], min_quality=0.3).embedding.shape == (128,)
    with pytest.raises(PoorFaceError, match=r"has a quality of 0\.\d\d, wanted 0.99 or more: its \w+ is worst"):
        recognizer.template(samples["barack-obama-1"], min_quality=0.99)


def test_the_command_refuses_it_and_enrolls_the_others(samples, portrait, tmp_path):
    blurred = PIL.Image.fromarray(portrait).filter(PIL.ImageFilter.GaussianBlur(portrait.shape[1] / 60))
    blurred.save(tmp_path / "blurred.png")
    pictures = [str(samples["barack-obama-1"]), str(tmp_path / "blurred.png")]
    words = ["enroll", "Obama", *pictures, "--gallery", str(tmp_path / "people.db"), "--min-quality", "0.4"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3  # some could not be used
    assert "blurred.png' has a quality of 0." in result.stderr
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert [(person.name, person.faces) for person in gallery.people()] == [("Obama", 1)]


def test_detect_tells_the_quality_with_its_parts(samples):
    words = ["detect", "--quality", str(samples["barack-obama-1"])]
    [face] = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)["faces"]
    assert set(face["quality"]) == {"total", "certainty", "size", "sharpness", "pose", "light"}
    assert f"{face['quality']['total']:.2f}" in CliRunner().invoke(main, words).stdout
