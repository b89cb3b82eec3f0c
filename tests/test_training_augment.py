"""Random changes of crops: each on its own, all together, and none."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sameface.image import read_image
from sameface.training.augment import OFF, STANDARD, Augmentation, augment, resize, scale_augmentation

NAMES = [each.name for each in fields(Augmentation)]
CHANCES = ("flip", "grey", "blur", "jpeg", "cover")
SAMPLES = Path(__file__).parent.parent / "samples"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """A square piece of a photograph, `(128, 128, 3)`."""
    picture = PIL.Image.fromarray(read_image(sorted(SAMPLES.glob("*.jpg"))[0]))
    return np.asarray(picture.resize((128, 128)))


@pytest.fixture(scope="module")
def dot() -> np.ndarray:
    """A white square of 8 pixels in the middle of a black crop of 64."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[28:36, 28:36] = 255
    return image


def centre(image: np.ndarray) -> np.ndarray:
    """Return x and y of the centre of what is light."""
    light = image.mean(axis=2)
    rows, columns = np.indices(light.shape) + 0.5
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("size", [96, 128, 140])
def test_with_everything_off_a_crop_is_only_resized(crop: np.ndarray, size: int) -> None:
    assert np.array_equal(augment(crop, size, rng(), OFF), resize(crop, size))


def test_with_everything_off_a_crop_of_the_right_size_is_untouched(crop: np.ndarray) -> None:
    assert np.array_equal(augment(crop, 128, rng(), OFF), crop)


@pytest.mark.parametrize("name", NAMES)
def test_each_change_alone_changes_something(crop: np.ndarray, name: str) -> None:
    strong = replace(OFF, **{name: 20.0 if name == "turn" else 1.0 if name in CHANCES else 0.2})
    changed = augment(crop, 128, rng(1), strong)
    assert changed.shape == crop.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, crop)


@pytest.mark.parametrize("name", NAMES)
def test_the_usual_changes_hold_each_of_them(crop: np.ndarray, name: str) -> None:
    fewer = replace(STANDARD, **{name: 0.0})
    seeds = range(60)
    assert any(
        not np.array_equal(augment(crop, 128, rng(seed)), augment(crop, 128, rng(seed), fewer)) for seed in seeds
    )


def test_weaker_changes_are_smaller_and_rarer_and_mirror_as_often() -> None:
    half = scale_augmentation(STANDARD, 0.5)
    assert (half.turn, half.jpeg, half.flip) == (STANDARD.turn / 2, STANDARD.jpeg / 2, STANDARD.flip)
    assert scale_augmentation(STANDARD, 1.0) == STANDARD
    assert scale_augmentation(STANDARD, 0.0) == replace(OFF, flip=STANDARD.flip)


def test_a_certain_flip_is_the_exact_mirror_image(crop: np.ndarray) -> None:
    flipped = augment(crop, 128, rng(), replace(OFF, flip=1.0))
    assert np.array_equal(flipped, crop[:, ::-1])


def test_half_of_the_crops_are_flipped(dot: np.ndarray) -> None:
    left = dot.copy()
    left[:, 32:] = 0
    flipped = [centre(augment(left, 64, rng(seed), replace(OFF, flip=0.5)))[0] > 32 for seed in range(400)]
    assert 160 < sum(flipped) < 240


def test_a_shift_moves_the_picture_up_to_its_strength_and_not_further(dot: np.ndarray) -> None:
    places = [centre(augment(dot, 64, rng(seed), replace(OFF, shift=0.1))) for seed in range(200)]
    away = np.abs(np.array(places) - 32).max(axis=0)
    assert (away <= 6.4 + 0.1).all()
    assert (away > 5.5).all()


def test_scale_and_turn_keep_the_middle_where_it_is(dot: np.ndarray) -> None:
    places = [centre(augment(dot, 64, rng(seed), replace(OFF, scale=0.3, turn=45.0))) for seed in range(50)]
    assert np.abs(np.array(places) - 32).max() < 0.1


def test_scale_changes_the_size_up_to_its_strength(dot: np.ndarray) -> None:
    sums = [augment(dot, 64, rng(seed), replace(OFF, scale=0.25)).sum() / 255 / 3 for seed in range(200)]
    sides = np.sqrt(sums)
    assert sides.min() == pytest.approx(8 / 1.25, abs=0.2)
    assert sides.max() == pytest.approx(8 / 0.75, abs=0.2)


def test_a_turn_is_as_large_as_allowed_and_goes_both_ways() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[30:34, 50:54] = 255  # right of the middle
    angles = []
    for seed in range(200):
        x, y = centre(augment(image, 64, rng(seed), replace(OFF, turn=20.0))) - 32
        angles.append(np.degrees(np.arctan2(y, x)))
    assert -20.5 < min(angles) < -18
    assert 18 < max(angles) < 20.5


def test_grey_leaves_equal_channels_of_the_right_brightness(crop: np.ndarray) -> None:
    grey = augment(crop, 128, rng(), replace(OFF, grey=1.0))
    assert (grey == grey[:, :, :1]).all()
    assert np.abs(grey[:, :, 0] - np.asarray(PIL.Image.fromarray(crop).convert("L"), float)).max() <= 1


def test_brightness_multiplies_every_pixel(crop: np.ndarray) -> None:
    dark = crop // 2
    ratios = {
        round(float(augment(dark, 128, rng(s), replace(OFF, brightness=0.2)).mean() / dark.mean()), 2)
        for s in range(100)
    }
    assert 0.78 <= min(ratios) < 0.84
    assert 1.16 < max(ratios) <= 1.22


def test_contrast_leaves_middle_grey_alone() -> None:
    grey = np.full((32, 32, 3), 127, np.uint8)
    for seed in range(20):
        changed = augment(grey, 32, rng(seed), replace(OFF, contrast=1.0)).astype(int)
        assert np.abs(changed - 127).max() <= 1


def test_saturation_leaves_grey_alone() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for seed in range(20):
        changed = augment(ramp, 16, rng(seed), replace(OFF, saturation=1.0)).astype(int)
        assert np.abs(changed - ramp).max() <= 1


def test_a_covered_part_is_one_rectangle_of_one_colour(crop: np.ndarray) -> None:
    for seed in range(30):
        covered = augment(crop, 128, rng(seed), replace(OFF, cover=1.0))
        rows, columns = np.nonzero((covered != crop).any(axis=2))
        inside = covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (inside == inside[0, 0]).all()
        assert max(inside.shape[:2]) <= 128 // 3


def test_a_large_crop_is_shrunk_before_it_is_turned_so_that_no_pixel_is_passed_over() -> None:
    lines = np.zeros((256, 256, 3), np.uint8)
    lines[:, ::4] = 255  # one column in four
    changed = augment(lines, 64, rng(3), replace(OFF, shift=0.01))
    assert np.abs(changed[8:-8, 8:-8].mean() - 255 / 4) < 4
    assert changed[8:-8, 8:-8].std() < 10


def test_the_same_generator_gives_the_same_crop_and_another_one_another(crop: np.ndarray) -> None:
    assert np.array_equal(augment(crop, 128, rng(5)), augment(crop, 128, rng(5)))
    assert not np.array_equal(augment(crop, 128, rng(5)), augment(crop, 128, rng(6)))


def test_the_crop_that_goes_in_is_left_alone(crop: np.ndarray) -> None:
    before = crop.copy()
    for seed in range(20):
        augment(crop, 128, rng(seed), replace(STANDARD, cover=1.0, blur=1.0, jpeg=1.0))
    assert np.array_equal(before, crop)


@pytest.mark.parametrize(("name", "value"), [("flip", 1.1), ("shift", -0.1), ("turn", 181.0), ("blur", 2.0)])
def test_an_impossible_strength_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 to"):
        replace(STANDARD, **{name: value})
