"""Cutting faces out of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from sameface.align import align_faces, cut, place_box, place_points
from sameface.face import Face
from sameface.manifest import CropRule

TEMPLATE = ((40.0, 45.0), (80.0, 44.0), (60.0, 70.0), (45.0, 95.0), (76.0, 94.0))
EVEN = CropRule("similarity", 120, TEMPLATE, (1.0,) * 5)
BOX = CropRule("box", 60, margin=0.2)


def make_face(landmarks: object = None, box: tuple[float, ...] = (10, 20, 50, 80)) -> Face:
    points = TEMPLATE if landmarks is None else landmarks
    return Face(np.array(box, np.float32), np.array(points, np.float32), 0.9)


def similarity(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, shift])


def apply(place: np.ndarray, points: object) -> np.ndarray:
    return np.array(points) @ place[:, :2].T + place[:, 2]


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (30, 2.5), (-100, 0.4), (180, 1)])
def test_a_face_that_is_a_turned_and_scaled_template_is_placed_exactly(degrees: float, scale: float):
    true = similarity(degrees, scale, (17, -5))
    assert place_points(make_face(apply(true, TEMPLATE)), EVEN) == pytest.approx(true, abs=1e-4)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (2, 2, 0.5, 1, 1)])
def test_the_place_is_the_weighted_least_squares_optimum(weights: tuple[float, ...]):
    rng = np.random.default_rng(3)
    landmarks = np.array(TEMPLATE) * 2 + rng.normal(0, 6, (5, 2))
    rule = CropRule("similarity", 120, TEMPLATE, weights)
    place = place_points(make_face(landmarks), rule)
    rows, wanted = [], []
    for (x, y), (u, v), weight in zip(TEMPLATE, landmarks.astype(np.float32), weights, strict=True):
        root = weight**0.5  # unknowns: a, b, shift x, shift y of (a x - b y + sx, b x + a y + sy)
        rows += [[root * x, -root * y, root, 0], [root * y, root * x, 0, root]]
        wanted += [root * u, root * v]
    a, b, right, down = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    assert place == pytest.approx(np.array([[a, -b, right], [b, a, down]]), abs=1e-5)


def test_a_mirrored_face_is_never_mirrored_back():
    mirrored = np.array(TEMPLATE) * [-1, 1] + [120, 0]
    assert np.linalg.det(place_points(make_face(mirrored), EVEN)[:, :2]) > 0


def test_the_box_rule_puts_the_margin_round_the_longer_side():
    place = place_box(make_face(box=(10, 20, 50, 80)), BOX)
    assert apply(place, [(0, 0), (60, 60)]).tolist() == [[-6, 14], [66, 86]]


def test_a_crop_at_the_pictures_own_place_is_that_part_of_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    crop = cut(image, np.array([[1.0, 0, 7], [0, 1, 5]]), 20)
    assert crop.tolist() == image[5:25, 7:27].tolist()


def bilinear(image: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Sample slowly: pixel centres lie at a half, and neighbours are mixed by nearness."""
    crop = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            x, y = place @ [column + 0.5, row + 0.5, 1] - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                near = (1 - abs(x - left - i)) * (1 - abs(y - top - j))
                crop[row, column] += near * image[top + j, left + i]
    return crop


def test_a_turned_crop_equals_slow_bilinear_sampling():
    image = np.random.default_rng(1).integers(0, 256, (60, 70, 3), np.uint8)
    place = similarity(20, 1.2, (25, 12))
    assert cut(image, place, 20).astype(float) == pytest.approx(bilinear(image, place, 20), abs=1.5)


def test_every_pixel_of_a_large_face_counts():
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = cut(np.repeat(board[:, :, None], 3, axis=2), np.array([[8.0, 0, 8], [0, 8, 8]]), 40)
    assert np.abs(crop.astype(int) - 127).max() <= 1


def test_a_large_face_is_not_shifted_by_shrinking_it_first():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    crop = cut(ramp, np.array([[2.3, 0, 11], [0, 2.3, 7]]), 100)
    middles = 11 + 2.3 * (np.arange(100) + 0.5) - 0.5
    assert crop[50, :, 0].astype(float) == pytest.approx(middles, abs=0.8)


def test_what_lies_outside_the_picture_is_black():
    white = np.full((20, 20, 3), 255, np.uint8)
    crop = cut(white, np.array([[1.0, 0, 10], [0, 1, 10]]), 20)
    assert (crop[:9, :9] == 255).all()
    assert (crop[11:] == 0).all()
    assert (crop[:, 11:] == 0).all()


def test_a_face_far_outside_the_picture_gives_a_black_crop():
    crops = align_faces(np.full((20, 20, 3), 255, np.uint8), [make_face(box=(500, 500, 600, 600))], BOX)
    assert crops.max() == 0


def test_no_faces_give_an_empty_batch():
    assert align_faces(np.zeros((9, 9, 3), np.uint8), [], EVEN).shape == (0, 120, 120, 3)


def test_the_rule_decides_how_a_face_is_cut():
    image = np.random.default_rng(2).integers(0, 256, (120, 120, 3), np.uint8)
    straight = align_faces(image, [make_face()], EVEN)
    assert np.abs(straight[0].astype(int) - image).max() <= 1
    assert align_faces(image, [make_face()], BOX).shape == (1, 60, 60, 3)


def test_a_real_valued_picture_is_refused():
    with pytest.raises(TypeError, match="image must be uint8, got float64"):
        align_faces(np.zeros((9, 9, 3)), [], EVEN)


def cut_slowly(image: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Return the crop from means of blocks that start a pixel before it, and bilinear weights."""
    corners = apply(place, [(0, 0), (size, 0), (0, size), (size, size)])
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    factor = max(1, int(np.linalg.norm(place[:, 0])))
    part = image[top:, left:].astype(np.float64)
    part = part[: len(part) // factor * factor, : part.shape[1] // factor * factor]
    blocks = part.reshape(part.shape[0] // factor, factor, part.shape[1] // factor, factor, 3)
    small = np.floor(blocks.mean(axis=(1, 3)) + 0.5)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    points = (apply(place, np.stack([x, y], axis=-1)) - [left, top]) / factor
    inside = ((points >= 0) & (points < [small.shape[1], small.shape[0]])).all(axis=-1, keepdims=True)
    base = np.floor(points - 0.5).astype(int)
    found = np.zeros((size, size, 3))
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weights = 1 - np.abs(points - 0.5 - base - [right, down])
        column = (base[..., 0] + right).clip(0, small.shape[1] - 1)
        row = (base[..., 1] + down).clip(0, small.shape[0] - 1)
        found += weights.prod(axis=-1, keepdims=True) * small[row, column]
    return np.where(inside, found, 0)


@pytest.mark.parametrize("scale", [0.5, 1, 1.9, 2.5, 4.1])
@pytest.mark.parametrize(("degrees", "shift"), [(0, (31.3, 57.6)), (25, (150.2, 40.7)), (0, (-9.4, -20.2))])
def test_a_crop_is_the_mean_of_what_lies_under_each_of_its_pixels(
    scale: float, degrees: float, shift: tuple[float, float]
) -> None:
    image = np.random.default_rng(0).integers(256, size=(480, 480, 3), dtype=np.uint8)
    place = similarity(degrees, scale, shift)
    found, wanted = cut(image, place, 40), cut_slowly(image, place, 40)
    found, wanted = found[:-1, :-1], wanted[:-1, :-1]  # the last blocks may be cut off
    assert np.abs(found + 0.5 - wanted).max() <= 0.51  # Pillow rounds down


def test_crops_are_bytes_also_where_there_is_no_picture() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    beside = np.array([[1.0, 0, 100], [0, 1, 0]])
    assert align_faces(image, [], BOX).dtype == align_faces(image, [make_face()], BOX).dtype == np.uint8
    assert (cut(image, beside, 5).dtype, cut(image, beside, 5).any()) == (np.uint8, False)


def test_what_is_no_picture_is_refused_with_the_shape_that_is_wanted() -> None:
    with pytest.raises(ValueError, match=r"image must have shape \('h', 'w', 3\), got \(9, 9\)"):
        align_faces(np.zeros((9, 9), np.uint8), [], BOX)
