"""Thresholds by false-accept rate: of one comparison, of a gallery, of an album, of templates."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from sameface.errors import ThresholdError
from sameface.thresholds import GalleryThreshold, Tail, Thresholds

TABLE = Thresholds(
    far=(0.1, 0.01, 0.0001),
    distance=(0.4, 0.3, 0.1),
    pairs=(1_000, 100, 1),
    impostor_pairs=10_000,
    calibrated_on="a test",
)


FAR_REACHING = replace(
    TABLE, tail=Tail((1e-5, 1e-7), (0.08, 0.04), (0.07, 0.02), (0.09, 0.06)), templates=((1, 1.0), (4, 0.8))
)


@pytest.mark.parametrize(("far", "distance"), [(0.1, 0.4), (0.01, 0.3), (0.0001, 0.1)])
def test_a_calibrated_rate_has_its_own_distance(far, distance):
    assert TABLE.at(far) == pytest.approx(distance)


def test_between_two_rates_the_distance_follows_the_logarithm():
    assert TABLE.at(0.001) == pytest.approx(0.2)


@pytest.mark.parametrize("far", [0.11, 0.00009, 1e-12, 1.0])
def test_a_rate_outside_the_calibration_is_refused_with_its_ends(far):
    with pytest.raises(ThresholdError, match=r"0\.0001 to 0\.1") as caught:
        TABLE.at(far)
    assert (caught.value.asked, caught.value.smallest, caught.value.largest) == (far, 0.0001, 0.1)


@pytest.mark.parametrize("size", [1, 2, 10, 50])
def test_the_chance_over_a_whole_gallery_is_the_one_asked_for(size):
    limit = TABLE.at_gallery(size, 0.05)
    one = next(rate / 1e6 for rate in range(1, 10**6) if 1 - (1 - rate / 1e6) ** size >= 0.05)
    assert (limit.fpir, limit.asked, limit.extrapolated) == (0.05, 0.05, False)
    assert limit.distance == pytest.approx(TABLE.at(one), abs=1e-3)


def test_a_gallery_of_nobody_counts_as_one_face():
    assert TABLE.at_gallery(0, 0.01) == TABLE.at_gallery(1, 0.01)


def test_one_percent_is_the_default_of_a_gallery():
    assert TABLE.at_gallery(20) == TABLE.at_gallery(20, 0.01)


def test_a_gallery_too_large_for_the_default_gets_the_strictest_threshold_and_its_true_rate():
    limit = TABLE.at_gallery(1_000)
    assert limit.distance == pytest.approx(0.1)
    assert limit.fpir == pytest.approx(1 - (1 - 0.0001) ** 1_000)
    assert limit.asked == 0.01


@pytest.mark.parametrize("size", [10**6, 10**9])
def test_a_gallery_of_millions_keeps_the_strictest_threshold(size):
    assert TABLE.at_gallery(size) == GalleryThreshold(0.1, 1.0, 0.01, extrapolated=False)


def test_the_laxest_rate_of_a_gallery_has_the_laxest_threshold():
    _, largest = 0.4, 1 - (1 - 0.1) ** 7
    assert TABLE.at_gallery(7, largest).distance == pytest.approx(0.4)


def test_a_rate_past_the_laxest_of_a_gallery_is_refused():
    with pytest.raises(ThresholdError, match="a gallery of 7 and"):
        TABLE.at_gallery(7, 0.6)


def test_a_rate_that_a_large_gallery_cannot_hold_is_refused_with_the_smallest():
    with pytest.raises(ThresholdError, match=r"a gallery of 1000 and a rate of 0\.01") as caught:
        TABLE.at_gallery(1_000, 0.01)
    assert caught.value.smallest == pytest.approx(1 - (1 - 0.0001) ** 1_000)


@pytest.mark.parametrize(("size", "far"), [(0, 3e-4), (5000, 3e-4), (6000, 2.5e-4), (15_000, 1e-4)])
def test_the_faces_of_a_larger_album_must_be_nearer(size, far):
    assert TABLE.at_album(size) == pytest.approx(TABLE.at(far), abs=1e-9)


def test_past_the_calibration_the_distance_falls_on_as_before():
    assert TABLE.at_album(150_000) == pytest.approx(TABLE.at(1e-4) - (TABLE.at(1e-3) - TABLE.at(1e-4)))
    assert TABLE.at_album(10**12) == 0


def test_a_calibration_of_one_rate_has_one_distance_for_an_album_of_any_size():
    single = Thresholds((0.01,), (0.3,), (100,), 10_000, "a test")
    assert {single.at_album(size) for size in (1, 10**4, 10**9)} == {0.3}


def test_the_rate_asked_for_holds_for_an_album_of_any_size():
    assert TABLE.at_album(10**9, 1e-2) == TABLE.at(1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"far": ()}, "same length"),
        ({"pairs": (1,)}, "same length"),
        ({"far": (0.1, 0.2, 0.0001)}, "both fall"),
        ({"distance": (0.1, 0.2, 0.3)}, "both fall"),
        ({"far": (1.0, 0.01, 0.0001)}, "between 0 and 1"),
        ({"far": (0.1, 0.01, 0.0)}, "between 0 and 1"),
    ],
)
def test_an_impossible_table_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TABLE, **change)


def test_rates_below_the_counted_ones_come_from_the_tail_and_say_so():
    assert FAR_REACHING.at(1e-6) == pytest.approx(0.06)
    assert FAR_REACHING.is_extrapolated(1e-6)
    assert not FAR_REACHING.is_extrapolated(1e-4)
    assert FAR_REACHING.smallest == 1e-7


def test_with_a_tail_the_default_rate_holds_for_a_larger_gallery():
    limit = FAR_REACHING.at_gallery(10_000)
    assert (limit.fpir, limit.asked, limit.extrapolated) == (0.01, 0.01, True)
    assert limit.distance == pytest.approx(FAR_REACHING.at(1e-6), abs=1e-3)


def test_beyond_the_tail_a_gallery_gets_the_strictest_threshold_and_its_true_rate():
    limit = FAR_REACHING.at_gallery(10**6)
    assert limit == GalleryThreshold(0.04, pytest.approx(1 - (1 - 1e-7) ** 10**6), 0.01, extrapolated=True)
    with pytest.raises(ThresholdError, match="a gallery of 1000000"):
        FAR_REACHING.at_gallery(10**6, 0.01)


def test_the_threshold_of_a_template_falls_with_the_embeddings_in_it():
    factors = FAR_REACHING.template_factors(np.array([1, 2, 4, 100]))
    assert factors == pytest.approx([1, 0.9, 0.8, 0.8])
    assert TABLE.template_factors(np.array([1, 2])).tolist() == [1, 1]


def test_thresholds_come_back_from_json_as_they_were():
    for thresholds in (TABLE, FAR_REACHING, replace(TABLE, population="alike")):
        assert Thresholds.from_facts(json.loads(json.dumps(asdict(thresholds)))) == thresholds


def test_thresholds_kept_by_earlier_versions_are_those_of_mixed_people():
    facts = {"far": [0.1], "distance": [0.4], "pairs": [40], "impostor_pairs": 400, "calibrated_on": ""}
    assert Thresholds.from_facts(facts) == Thresholds((0.1,), (0.4,), (40,), 400, "")


@pytest.mark.parametrize(
    "tail",
    [
        Tail((1e-3,), (0.05,), (0.05,), (0.05,)),  # a rate that was counted
        Tail((1e-5,), (0.2,), (0.2,), (0.2,)),  # a larger distance
    ],
)
def test_a_tail_that_does_not_go_on_where_the_table_ends_is_refused(tail):
    with pytest.raises(ValueError, match="must both fall"):
        replace(TABLE, tail=tail)


@pytest.mark.parametrize("templates", [((0, 1.0),), ((1, 0.0),)])
def test_impossible_template_factors_are_refused(templates):
    with pytest.raises(ValueError, match="positive factors"):
        replace(TABLE, templates=templates)
