"""Embedding crops, with the shipped weights."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from sameface import Embedder, Model, align_faces, read_image
from sameface.embed import BATCH, unit_rows
from sameface.errors import WeightsError


@pytest.fixture(scope="module")
def crops(recognizer, samples):
    """Return the crop of each sample's face."""
    cut = []
    for path in samples.values():
        image = read_image(path)
        cut.append(align_faces(image, recognizer.detector.find(image)[:1], recognizer.embedder.spec.crop))
    return np.concatenate(cut)


@pytest.fixture(scope="module")
def plain(recognizer):
    """Return the same weights without the mirror image."""
    return Embedder(recognizer.embedder.model, flip=False)


def test_rows_have_length_one(recognizer, crops):
    rows = recognizer.embedder.embed(crops)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(crops)), abs=1e-6)


class Answers:
    """A network that gives the same numbers whatever it sees."""

    manifest = toy.SeeColour.manifest

    def __init__(self, rows):
        self.rows = rows

    def run(self, pixels):
        return [self.rows]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 4), np.float32), r"it gives float32 \(2, 4\), the manifest says float32 \(2, 3\)"),
        (np.ones((1, 3), np.float32), r"it gives float32 \(1, 3\)"),
        (np.ones((2, 3), np.float64), r"it gives float64 \(2, 3\)"),
        (np.full((2, 3), np.nan, np.float32), "not finite"),
        (np.full((2, 3), 1e30, np.float32), "not finite"),
    ],
)
def test_rows_that_are_not_what_the_manifest_says_are_refused(rows, message):
    with pytest.raises(WeightsError, match=message):
        Embedder(Answers(rows)).embed(np.zeros((1, 8, 8, 3), np.uint8))


def test_an_empty_batch_gives_an_empty_table(recognizer, crops):
    assert recognizer.embedder.embed(crops[:0]).shape == (0, 128)


def test_many_crops_give_the_same_rows_as_one_at_a_time(plain, crops):
    many = np.concatenate([crops] * 8)[: 2 * BATCH + 5]
    singles = np.concatenate([plain.embed(many[i : i + 1]) for i in range(len(crops))])
    assert plain.embed(many) == pytest.approx(singles[np.arange(len(many)) % len(crops)], abs=1e-5)


def test_a_crop_and_its_mirror_image_have_the_same_row_when_flips_are_averaged(recognizer, crops):
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    embed = recognizer.embedder.embed
    assert embed(crops) == pytest.approx(embed(mirrored), abs=1e-5)


def test_flip_averaging_changes_the_rows(recognizer, plain, crops):
    moved = ((recognizer.embedder.embed(crops) - plain.embed(crops)) ** 2).sum(axis=1)
    assert (moved > 1e-4).all()


def test_flip_averaging_adds_the_two_outputs_of_the_network(recognizer, crops):
    run = recognizer.embedder.model.run
    slow = [run(crop[None])[0][0] + run(crop[None, :, ::-1])[0][0] for crop in crops]
    assert recognizer.embedder.embed(crops) == pytest.approx(unit_rows(np.stack(slow)), abs=1e-5)


def test_crops_of_another_size_are_refused(recognizer):
    with pytest.raises(ValueError, match=r"\('n', 112, 112, 3\), got \(1, 150, 150, 3\)"):
        recognizer.embedder.embed(np.zeros((1, 150, 150, 3), np.uint8))


def test_one_crop_without_a_batch_is_refused(recognizer):
    with pytest.raises(ValueError, match=r"got \(150, 150, 3\)"):
        recognizer.embedder.embed(np.zeros((150, 150, 3), np.uint8))


def test_the_weights_of_a_detector_are_refused():
    with pytest.raises(WeightsError, match="wanted an embedder's"):
        Embedder(Model.load("centerface"))


def test_a_row_of_zeros_stays_zero():
    assert unit_rows(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]
