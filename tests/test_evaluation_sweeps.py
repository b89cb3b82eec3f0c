"""Degradations and quantisation by hand, and sweeps against obvious versions."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.arrays import Image
from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.degradations import (
    DEGRADATIONS,
    DegradationStep,
    blur,
    brighten,
    compress,
    cover,
    quantise_rows,
    restore_rows,
    rotate,
    shrink,
    step_cache_key,
)
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.pairs import evaluate_pairs
from sameface.evaluation.pictures import EmbeddedPictures, PictureEmbedder
from sameface.evaluation.roc import make_roc, operate_at_far
from sameface.evaluation.sweeps import (
    PairedPictures,
    SweepOptions,
    pair_pictures,
    score_level,
    sweep_bits,
    sweep_pictures,
)

BOX = np.array([20, 10, 60, 60], np.float32)  # 40 wide, 50 high
FEW = SweepOptions(far=0.1, repeats=20)


def noise(seed: int = 0, height: int = 80, width: int = 100) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene() -> Image:
    """A bright disc on a dark slope: smooth, with one edge."""
    rows, columns = np.mgrid[:80, :100]
    disc = np.hypot(rows - 35, columns - 40) < 20
    return np.repeat(np.where(disc, 200, columns // 2)[:, :, None], 3, axis=2).astype(np.uint8)


def random_rows(people=40, pictures=5, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(people), pictures)
    rows = rng.normal(size=(people, 32))[owners] + spread * rng.normal(size=(len(owners), 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), owners


def paired(people=40, pictures=5, spread=0.5, impostors=2000):
    rows, owners = random_rows(people, pictures, spread)
    return pair_pictures(rows, owners, impostors=impostors, rng=np.random.default_rng(0))


def error_of(image, changed):
    return float(np.abs(image.astype(int) - changed).mean())


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda one: one.name)
def test_every_step_gives_another_picture_of_the_same_size_and_leaves_the_first_alone(degradation):
    image = noise()
    before = image.copy()
    for step in degradation.steps:
        changed = step.change(image, BOX)
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        if not (degradation.name == "size" and step.level > 50):
            assert (changed != image).any()
    assert (image == before).all()


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda one: one.name)
def test_levels_rise_and_further_from_the_picture_as_it_is_is_worse(degradation):
    levels = [step.level for step in degradation.steps]
    assert levels == sorted(levels)
    image = scene()
    errors = [error_of(image, step.change(image, BOX)) for step in degradation.steps]
    neutral = {"jpeg": 100, "size": 50, "blur": 0, "brightness": 1, "rotation": 0, "occlusion": 0}
    for side in (-1, 1):
        ordered = sorted(
            (abs(level - neutral[degradation.name]), error)
            for level, error in zip(levels, errors, strict=True)
            if (level - neutral[degradation.name]) * side > 0
        )
        assert [error for _, error in ordered] == sorted(error for _, error in ordered)


def test_all_steps_have_names_of_their_own():
    names = [step.name for degradation in DEGRADATIONS for step in degradation.steps]
    assert len(set(names)) == len(names)
    assert names[0] == "jpeg=10"


def test_every_step_changes_the_pattern_in_its_own_way():
    made = [step_cache_key(step).split("/")[1] for degradation in DEGRADATIONS for step in degradation.steps]
    assert len(set(made)) == len(made)


def test_another_way_to_make_pictures_worse_is_remembered_apart(toy_recognizer, tmp_path):
    path = str(toy.save(tmp_path / "a.png", toy.RED))
    steps = [
        DegradationStep("light=0.5", 0.5, lambda image, box: image // 2),
        DegradationStep("light=0.5", 0.5, lambda image, box: image // 2 + image // 4),
    ]
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        embedder = PictureEmbedder(toy_recognizer, cache)
        computed = [
            one.computed
            for step in (*steps, *steps)
            for one in embedder.embed_all([path], change=step.change, name=step_cache_key(step))
        ]
    assert computed == [True, True, False, False]


def test_jpeg_is_what_a_file_of_that_quality_holds():
    file = io.BytesIO()
    PIL.Image.fromarray(noise()).save(file, "JPEG", quality=30)
    with PIL.Image.open(file) as picture:
        assert (compress(noise(), BOX, level=30) == np.asarray(picture)).all()


def test_a_shrunk_face_has_no_more_detail_than_its_pixels():
    stripes = np.zeros((100, 100, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: grey in half the size
    shrunk = shrink(stripes, BOX, level=25)[5:-5, 5:-5].astype(int)
    assert np.abs(shrunk - 127).max() < 20
    blocks = np.kron(noise(height=10, width=10), np.ones((10, 10, 1), np.uint8))
    assert error_of(blocks, shrink(blocks, BOX, level=25)) < error_of(blocks, shrink(blocks, BOX, level=5)) / 2


def test_a_face_that_is_small_already_stays_as_it_is():
    assert (shrink(noise(), BOX, level=50) == noise()).all()
    assert (shrink(noise(), BOX, level=49) != noise()).any()


def test_blur_is_a_gaussian_in_percent_of_the_face():
    wanted = scipy.ndimage.gaussian_filter(scene().astype(float), (2.5, 2.5, 0))  # 5 % of 50 pixels
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs(blur(scene(), BOX, level=5)[inner] - wanted[inner]).max() < 4
    assert np.abs(blur(scene(), BOX, level=2)[inner] - wanted[inner]).max() > 20


def test_brightness_multiplies_and_stops_at_white():
    image = np.full((4, 4, 3), 100, np.uint8)
    image[0, 0] = 0
    assert brighten(image, BOX, level=0.5).max() == 50
    assert brighten(image, BOX, level=2).max() == 200
    assert brighten(image, BOX, level=3).max() == 255
    assert brighten(image, BOX, level=3)[0, 0].tolist() == [0, 0, 0]


def test_a_quarter_turn_goes_left_round_the_face():
    image = np.zeros((80, 100, 3), np.uint8)
    image[30:40, 55:65] = 255  # right of the face's centre at (40, 35), 20 pixels away
    turned = rotate(image, BOX, level=90)[:, :, 0]
    rows, columns = np.nonzero(turned > 128)
    assert (rows.mean(), columns.mean()) == pytest.approx((15, 40), abs=1)


def test_the_bar_covers_the_lowest_part_of_the_face_and_nothing_else():
    covered = cover(noise(), BOX, level=40)
    assert (covered[40:60, 20:60] == 128).all()
    covered[40:60, 20:60] = noise()[40:60, 20:60]
    assert (covered == noise()).all()


def test_a_bar_over_the_edge_of_the_picture_is_cut_off():
    outside = np.array([-20, 50, 30, 110], np.float32)
    covered = cover(np.zeros((80, 100, 3), np.uint8), outside, level=75)
    assert (covered[65:80, 0:30] == 128).all()
    assert covered.any(axis=2).sum() == 15 * 30
    gone = cover(noise(), np.array([-50, -90, -10, -10], np.float32), level=50)
    assert (gone == noise()).all()


def test_a_picture_of_one_pixel_survives_everything():
    image, box = np.full((1, 1, 3), 9, np.uint8), np.array([0, 0, 1, 1], np.float32)
    for degradation in DEGRADATIONS:
        for step in degradation.steps:
            assert step.change(image, box).shape == (1, 1, 3)


def test_128_numbers_take_128_bytes_and_move_a_row_hardly_at_all():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stored = quantise_rows(rows)
    assert stored[0].nbytes == 128
    restored = restore_rows(stored)
    assert np.linalg.norm(restored, axis=1) == pytest.approx(1, abs=1e-6)
    step = np.abs(rows).max(axis=1) / 127  # each number moves by half a step at most
    assert (((restored - rows) ** 2).sum(axis=1) <= 128 * (step / 2) ** 2).all()


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6), st.integers(2, 8))
def test_each_number_is_the_nearest_of_those_that_fit(values, bits):
    row = np.array([values], np.float32)
    largest, top = float(np.abs(row).max()), 2 ** (bits - 1) - 1
    stored = quantise_rows(row, bits=bits)[0]
    assert np.abs(stored).max() == (top if largest > 1e-37 else np.abs(stored).max())
    for value, number in zip(values, stored.tolist(), strict=True):
        if largest > 1e-37:
            assert abs(number - value / largest * top) <= 0.5 + 1e-4


def test_no_rows_and_a_picture_without_a_face_can_be_stored():
    assert restore_rows(quantise_rows(np.zeros((0, 5), np.float32))).shape == (0, 5)
    assert not restore_rows(quantise_rows(np.zeros((1, 5), np.float32))).any()


@pytest.mark.parametrize("bits", [1, 9])
def test_numbers_that_fit_no_byte_are_refused(bits):
    with pytest.raises(ValueError, match="between 2 and 8"):
        quantise_rows(np.zeros((1, 5), np.float32), bits=bits)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=25), st.integers(0, 80))
def test_all_pairs_of_one_person_and_so_many_others_are_taken_none_twice(people, impostors):
    rows = np.ones((len(people), 1), np.float32)
    found = pair_pictures(rows, people, impostors=impostors, rng=np.random.default_rng(0))
    taken = {frozenset(pair) for pair in found.pairs.tolist()}
    every = {frozenset((i, j)) for i in range(len(people)) for j in range(i)}
    own = {pair for pair in every if len({people[picture] for picture in pair}) == 1}
    assert len(taken) == len(found.pairs)
    assert own <= taken <= every
    assert len(taken - own) == min(impostors, len(every - own))


def test_the_seed_chooses_the_pairs_of_different_people():
    rows, owners = random_rows()
    first, again, other = (
        pair_pictures(rows, owners, impostors=50, rng=np.random.default_rng(seed)).pairs.tolist() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_people_may_have_names():
    rows, owners = random_rows(people=3)
    names = np.array(["c", "a", "b"])[owners]
    found = pair_pictures(rows, names, rng=np.random.default_rng(0))
    same = found.people[found.pairs[:, 0]] == found.people[found.pairs[:, 1]]
    assert (same == (names[found.pairs[:, 0]] == names[found.pairs[:, 1]])).all()


def test_distances_are_those_of_the_rows_and_missing_where_a_face_is():
    pictures = paired(people=10)
    rows = pictures.rows.copy()
    rows[3] = 0
    scores = score_level(pictures, rows)
    every = 2 - 2 * rows @ rows.T
    wanted = {}
    for a, b in pictures.pairs.tolist():
        wanted.setdefault(3 in (a, b), []).append(every[a, b])
    assert np.isnan(scores.distance).sum() == len(wanted[True])
    assert scores.distance[scores.found] == pytest.approx(sorted(wanted[False]), abs=1e-6)
    assert scores.same.sum() == 10 * 10


def test_a_level_has_the_val_of_its_pairs_at_its_own_threshold_and_at_the_common_one():
    pictures = paired(spread=0.8)
    noisy = pictures.rows + 0.15 * np.random.default_rng(5).normal(size=pictures.rows.shape)
    noisy = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    curve = sweep_pictures(DEGRADATIONS[0], pictures, embed=lambda step: noisy, options=FEW)
    plain, worse = (score_level(pictures, rows) for rows in (pictures.rows, noisy))
    common = operate_at_far(make_roc(plain.distance, plain.same), 0.1)
    own = operate_at_far(make_roc(worse.distance, worse.same), 0.1)
    point = curve.points[0]
    assert (curve.plain.threshold, curve.plain.val.value) == (common.threshold, pytest.approx(common.val))
    assert (point.threshold, point.val.value) == (own.threshold, pytest.approx(own.val))
    assert point.val_of_all == point.val
    accepted = worse.distance <= common.threshold
    assert point.common_val.value == pytest.approx(accepted[worse.same].mean())
    assert point.common_far.value == pytest.approx(accepted[~worse.same].mean())
    assert point.val.low < point.val.value < point.val.high
    assert point.val.value < curve.plain.val.value
    assert point.common_val.value != pytest.approx(point.val.value)


def test_the_intervals_are_those_of_a_list_of_pairs():
    pictures = paired(spread=0.8)
    curve = sweep_bits(pictures, bits=[8], options=FEW)
    scores = score_level(pictures, pictures.rows)
    scores.fold[::2] = 1
    wanted = evaluate_pairs(scores, fars=[0.1], repeats=20).measures.vals[0]
    assert curve.plain.val == wanted.val


def test_a_picture_without_a_face_is_a_rejection_among_all():
    pictures = paired(people=10, spread=0.3)
    rows = pictures.rows.copy()
    rows[:5] = 0  # nobody finds the first person's face
    curve = sweep_pictures(DEGRADATIONS[0], pictures, embed=lambda step: rows, options=FEW)
    point = curve.points[0]
    assert (curve.plain.failed, point.failed) == (0, 5)
    assert (curve.plain.genuine, point.genuine) == (100, 90)
    assert point.val.value == 1
    assert point.val_of_all.value == pytest.approx(0.9)


def test_without_any_face_left_everything_is_rejected():
    pictures = paired(people=10)
    nothing = np.zeros_like(pictures.rows)
    point = sweep_pictures(DEGRADATIONS[0], pictures, embed=lambda step: nothing, options=FEW).points[0]
    assert (point.failed, point.genuine, point.impostors) == (50, 0, 0)
    assert (point.threshold, point.val, point.val_of_all) == (None, None, None)
    assert math.isnan(point.common_val.value)


@pytest.mark.parametrize("people", [1, 5])
def test_a_rate_that_the_pictures_do_not_support_is_refused_before_any_is_changed(people):
    pictures = paired(people=people, pictures=4)
    with pytest.raises(TooFewPairsError, match=r"0\.001 needs 1,000 pairs"):
        sweep_pictures(DEGRADATIONS[0], pictures, embed=lambda step: pytest.fail("changed a picture"))


def test_no_pictures_are_refused():
    nothing = pair_pictures(np.zeros((0, 3), np.float32), [], rng=np.random.default_rng(0))
    with pytest.raises(TooFewPairsError, match="there are 0"):
        sweep_bits(nothing)


def test_all_pictures_of_different_people_have_no_val():
    rows, _ = random_rows(people=50, pictures=1)
    pictures = pair_pictures(rows, np.arange(50), rng=np.random.default_rng(0))
    assert math.isnan(sweep_bits(pictures, bits=[8], options=FEW).plain.val.value)


def test_a_distance_on_the_threshold_is_accepted_with_all_its_equals():
    rows = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    pictures = PairedPictures(rows, np.array([0, 0, 1, 2, 3, 4]), np.array([[0, 1], [2, 3], [4, 5], [0, 2], [0, 4]]))
    # Two of four pairs of different people lie at 0, with the one of one person: all in, or all out.
    assert sweep_bits(pictures, options=SweepOptions(far=0.25, repeats=2)).plain.val.value == 0
    assert sweep_bits(pictures, options=SweepOptions(far=0.5, repeats=2)).plain.val.value == 1


def test_fewer_bits_are_worse_and_eight_are_as_good_as_all():
    curve = sweep_bits(paired(spread=0.9), options=FEW)
    vals = [point.val.value for point in curve.points]
    assert [point.level for point in curve.points] == [2, 3, 4, 6, 8]
    assert vals[-1] == pytest.approx(curve.plain.val.value, abs=0.01)
    assert vals[0] < vals[-1] - 0.02
    assert math.isnan(curve.plain.level)


def test_rows_of_another_number_of_pictures_are_refused():
    pictures = paired(people=10)
    with pytest.raises(ValueError, match="rows must have shape"):
        sweep_pictures(DEGRADATIONS[0], pictures, embed=lambda step: pictures.rows[1:], options=FEW)


def test_pictures_are_changed_found_and_embedded_again(tmp_path):
    colours = [toy.RED, toy.GREEN, toy.BLUE, toy.WHITE]
    paths = [toy.save(tmp_path / f"{n}.png", colour, note=n) for n, colour in enumerate(colours * 2)]
    [brightness] = [one for one in DEGRADATIONS if one.name == "brightness"]
    with EmbeddingCache.open(tmp_path / "cache.db") as cache:
        embedder = PictureEmbedder(toy.make_recognizer(), cache)

        def embed(step):
            return EmbeddedPictures(list(embedder.embed_all(map(str, paths), change=step.change, name=step.name))).rows

        plain = EmbeddedPictures(list(embedder.embed_all(map(str, paths)))).rows
        pictures = pair_pictures(plain, [0, 1, 2, 3] * 2, rng=np.random.default_rng(0))
        curve = sweep_pictures(brightness, pictures, embed=embed, options=FEW)
    dark = {point.level: point for point in curve.points}
    assert dark[0.125].failed == 8  # squares darker than the toy detector sees
    assert dark[0.5].failed == 0
    assert dark[0.5].val.value == curve.plain.val.value == 1
