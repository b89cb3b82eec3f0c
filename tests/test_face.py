"""A face's measures, and how much two boxes cover each other."""

from __future__ import annotations

import numpy as np
import pytest

from sameface.face import Face, overlaps


def slow_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return intersection over union of two boxes with whole corners by counting pixels."""
    grid = np.zeros((2, 60, 60), bool)
    for layer, (left, top, right, bottom) in zip(grid, (a, b), strict=True):
        layer[int(top) : int(bottom), int(left) : int(right)] = True
    return float((grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum())


def random_boxes(count: int) -> np.ndarray:
    rng = np.random.default_rng(6)
    corners = rng.integers(0, 30, (count, 2))
    return np.hstack([corners, corners + rng.integers(1, 30, (count, 2))]).astype(np.float32)


def test_overlaps_equal_counting_the_pixels():
    boxes = random_boxes(50)
    slow = [slow_overlap(boxes[0], box) for box in boxes]
    assert overlaps(boxes[0], boxes) == pytest.approx(np.array(slow), abs=1e-6)


def test_overlap_does_not_depend_on_the_order():
    a, b = random_boxes(2)
    assert overlaps(a, b[None]) == overlaps(b, a[None])


@pytest.mark.parametrize(
    ("box", "overlap"),
    [
        ((0, 0, 10, 10), 1),
        ((10, 0, 20, 10), 0),  # they touch
        ((10, 10, 20, 20), 0),
        ((30, 30, 40, 40), 0),
        ((0, 0, 10, 5), 0.5),
        ((2, 2, 7, 7), 0.25),
        ((3, 3, 3, 3), 0),  # no area
    ],
)
def test_the_overlap_with_a_square_of_ten(box, overlap):
    square = np.array([0, 0, 10, 10], np.float32)
    assert overlaps(square, np.array([box], np.float32)) == pytest.approx([overlap])


def test_two_boxes_without_area_do_not_overlap():
    point = np.full(4, 3, np.float32)
    assert overlaps(point, point[None]).tolist() == [0]


def test_no_boxes_give_no_overlaps():
    assert overlaps(np.zeros(4, np.float32), np.zeros((0, 4), np.float32)).shape == (0,)


def test_a_face_knows_its_measures():
    face = Face(np.array([10, 20, 40, 60], np.float32), np.zeros((5, 2), np.float32), 0.5)
    assert (face.width, face.height, face.area) == (30, 40, 1200)


def test_a_face_is_printed_as_size_place_and_score():
    face = Face(np.array([10.4, 20.6, 40, 60], np.float32), np.zeros((5, 2), np.float32), 0.987)
    assert str(face) == "30x39 at 10,21 score 0.99"


def test_a_face_cannot_be_changed():
    face = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.5)
    with pytest.raises(AttributeError):
        face.score = 1.0
