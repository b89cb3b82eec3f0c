"""Measures on lists of pairs, against slow and obvious versions, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from sameface.evaluation.bootstrap import draw_people, estimate_all, interval, pair_weights
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.pairs import PairScores, best_threshold, cross_validate, evaluate_pairs, mean_and_error
from sameface.evaluation.roc import area_under, equal_error_rate, make_roc, operate_at, operate_at_far, val_under

# Few different distances, so that ties are the rule.
PAIRS = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40)


def arrays(pairs):
    distance = np.array([pair[0] for pair in pairs]) / 4
    return distance, np.array([pair[1] for pair in pairs], bool)


def make_scores(distance, same, *, folds=2, people=None, seed=0):
    count = len(distance)
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 9, (count, 2)) if people is None else np.array(people)
    numbers = np.where(np.array(same)[:, None], numbers[:, :1], numbers)
    numbers[:, 1] += (~np.array(same)) & (numbers[:, 0] == numbers[:, 1])
    return PairScores(np.array(distance, np.float64), np.array(same, bool), np.arange(count) % folds, numbers)


def random_scores(count=200, seed=0, folds=10):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    distance = np.round(np.where(same, rng.normal(0.8, 0.4, count), rng.normal(1.6, 0.4, count)), 2)
    return make_scores(np.clip(distance, 0, 4), same, folds=folds, seed=seed)


@given(PAIRS)
def test_val_and_far_are_the_parts_at_or_under_the_threshold(pairs):
    distance, same = arrays(pairs)
    roc = make_roc(distance, same)
    for threshold, val, far in zip(roc.threshold, roc.val, roc.far, strict=True):
        accepted = distance <= threshold
        if same.any():
            assert val == pytest.approx(accepted[same].mean())
        if not same.all():
            assert far == pytest.approx(accepted[~same].mean())


@given(PAIRS, st.sampled_from([0.5, 0.25, 0.1]))
def test_val_at_far_is_the_best_of_all_thresholds_that_keep_the_rate(pairs, far):
    distance, same = arrays(pairs)
    if same.all() or not same.any() or far * (~same).sum() < 1:
        return
    kept = [t for t in [-1.0, *distance] if (distance[~same] <= t).mean() <= far + 1e-12]
    found = operate_at_far(make_roc(distance, same), far)
    assert found.val == pytest.approx(max((distance[same] <= t).mean() for t in kept))
    assert found.threshold == max(kept)
    assert found.accepted == (distance[~same] <= found.threshold).sum()


@given(PAIRS)
def test_the_area_equals_scikit_learns(pairs):
    distance, same = arrays(pairs)
    if same.all() or not same.any():
        return
    assert area_under(make_roc(distance, same)) == pytest.approx(sklearn.metrics.roc_auc_score(same, -distance))


@given(PAIRS)
def test_the_equal_error_rate_lies_on_the_curve_where_both_errors_meet(pairs):
    distance, same = arrays(pairs)
    if same.all() or not same.any():
        return
    roc = make_roc(distance, same)
    far, val, _ = sklearn.metrics.roc_curve(same, -distance, drop_intermediate=False)
    rate = equal_error_rate(roc)
    # On a rising curve FAR = 1 - VAL in one point only: halve the interval until it is found.
    low, high = 0.0, 1.0
    steps = np.linspace(0, 1, 200_001)
    along = np.arange(len(far))
    at = np.interp(steps * along[-1], along, far), np.interp(steps * along[-1], along, val)
    nearest = np.argmin(np.abs(at[0] + at[1] - 1))
    assert low <= rate <= high
    assert rate == pytest.approx(at[0][nearest], abs=1e-3)


def test_weights_count_like_repeated_pairs():
    scores = random_scores(60)
    weight = np.random.default_rng(1).integers(0, 4, 60)
    weighted = make_roc(scores.distance, scores.same, weight.astype(float))
    repeated = make_roc(np.repeat(scores.distance, weight), np.repeat(scores.same, weight))
    assert area_under(weighted) == pytest.approx(area_under(repeated))
    assert equal_error_rate(weighted) == pytest.approx(equal_error_rate(repeated))
    assert val_under(weighted, 0.1) == pytest.approx(val_under(repeated, 0.1))


def test_a_distance_on_the_threshold_is_accepted_and_ties_are_accepted_together():
    roc = make_roc(np.array([0.1, 0.5, 0.5, 0.5]), np.array([True, True, False, False]))
    assert operate_at(roc, 0.5).far == 1
    assert operate_at(roc, 0.4999).far == 0
    assert operate_at_far(roc, 0.5).val == 0.5  # one of the two tied strangers may not be let in alone
    assert operate_at_far(roc, 0.5).threshold == 0.1


def test_all_same_and_all_different_have_no_rate_of_the_other_kind():
    distance = np.array([0.1, 0.2])
    for same in (np.array([True, True]), np.array([False, False])):
        roc = make_roc(distance, same)
        assert np.isnan(area_under(roc))
        assert np.isnan(equal_error_rate(roc))
    assert np.isnan(val_under(make_roc(distance, np.array([True, True])), 0.1))


def test_an_empty_list_of_pairs_has_no_measures():
    roc = make_roc(np.zeros(0), np.zeros(0, bool))
    assert (roc.genuine, roc.impostors) == (0, 0)
    assert np.isnan(area_under(roc))


def test_a_rate_that_the_strangers_do_not_support_is_refused_with_the_number_it_needs():
    roc = make_roc(np.array([0.1, 1.0, 1.1]), np.array([True, False, False]))
    with pytest.raises(TooFewPairsError, match="needs 1,000 pairs") as caught:
        operate_at_far(roc, 1e-3)
    assert caught.value.needed == 1000
    with pytest.raises(TooFewPairsError):
        operate_at_far(roc, 0.5, fewest=2)


def test_three_tenths_of_ten_pairs_are_three():
    roc = make_roc(np.arange(11) / 10, np.arange(11) == 10)
    assert operate_at_far(roc, 0.3).accepted == 3


@given(PAIRS)
def test_no_other_threshold_judges_more_pairs_rightly(pairs):
    distance, same = arrays(pairs)
    ours = ((distance <= best_threshold(distance, same)) == same).sum()
    assert ours == max(((distance <= t) == same).sum() for t in [-1.0, *distance])


def test_the_best_threshold_lies_between_the_two_kinds():
    assert best_threshold(np.array([0.2, 0.4, 0.8]), np.array([True, True, False])) == pytest.approx(0.6)
    assert best_threshold(np.array([0.2, 0.4]), np.array([False, False])) == -1
    assert best_threshold(np.array([0.2, 0.4]), np.array([True, True])) == 0.4
    assert best_threshold(np.zeros(0), np.zeros(0, bool)) == -1


def test_each_fold_is_judged_with_the_threshold_of_the_others():
    scores = random_scores(103, folds=10)  # folds of 11 and of 10 pairs
    for number, fold in enumerate(cross_validate(scores)):
        others, own = scores.pick(scores.fold != number), scores.pick(scores.fold == number)
        assert fold.threshold == best_threshold(others.distance, others.same)
        assert fold.accuracy == pytest.approx(((own.distance <= fold.threshold) == own.same).mean())
        assert fold.pairs == (11 if number < 3 else 10)


def test_one_fold_cannot_be_cross_validated():
    with pytest.raises(ValueError, match="two folds"):
        cross_validate(random_scores(20, folds=1))


def test_the_standard_error_is_that_of_the_folds_mean():
    mean, error = mean_and_error(np.array([0.9, 0.8, 1.0, np.nan]))
    assert mean == pytest.approx(0.9)
    assert error == pytest.approx(0.1 / np.sqrt(3))
    assert np.isnan(mean_and_error(np.array([0.9]))[1])


def test_failures_to_enrol_count_as_errors_in_one_accuracy_and_not_in_the_other():
    scores = PairScores(
        np.array([0.1, 0.1, 2.0, 2.0, np.nan, np.nan]),
        np.array([True, True, False, False, True, False]),
        np.array([0, 1, 0, 1, 0, 1]),
        np.array([[0, 0], [1, 1], [0, 1], [1, 2], [2, 2], [0, 2]]),
    )
    measured = evaluate_pairs(scores, repeats=20).measures
    assert measured.failed == 2
    assert measured.accuracy.value == 1
    assert measured.accuracy_of_all.value == pytest.approx(4 / 6)


def test_the_values_of_a_list_are_those_of_its_curve():
    scores = random_scores(400)
    result = evaluate_pairs(scores, repeats=50)
    roc = make_roc(scores.distance, scores.same)
    measured = result.measures
    assert measured.auc.value == pytest.approx(area_under(roc))
    assert measured.eer.value == pytest.approx(equal_error_rate(roc))
    assert result.refused == (1e-3, 1e-4, 1e-5, 1e-6)
    for val in measured.vals:
        assert val.val.value == pytest.approx(operate_at_far(roc, val.far).val)
        assert val.common_val.value == pytest.approx(val.val.value)
        assert val.val.low <= val.val.value <= val.val.high


def test_slices_are_judged_with_the_threshold_of_all():
    scores = random_scores(300)
    slices = np.where(np.arange(300) % 3 == 0, "old", "young")
    result = evaluate_pairs(scores, slices=slices.tolist(), repeats=20)
    assert sorted(result.slices) == ["old", "young"]
    threshold = operate_at_far(make_roc(scores.distance, scores.same), 0.1).threshold
    own = scores.pick(slices == "old")
    held = result.slices["old"].vals[0]
    assert held.common_val.value == pytest.approx((own.distance[own.same] <= threshold).mean())
    assert held.common_far.value == pytest.approx((own.distance[~own.same] <= threshold).mean())


def test_a_slice_without_strangers_has_no_rate():
    scores = random_scores(100)
    slices = ["own" if same else "other" for same in scores.same]
    result = evaluate_pairs(scores, slices=slices, repeats=20)
    assert np.isnan(result.slices["own"].auc.value)
    assert result.slices["own"].vals[0].val is None


def test_the_same_seed_gives_the_same_interval():
    scores = random_scores(100)
    first, again = (evaluate_pairs(scores, repeats=50, seed=3).measures for _ in range(2))
    other = evaluate_pairs(scores, repeats=50, seed=4).measures
    assert first == again
    assert first.auc != other.auc


def test_a_person_drawn_twice_makes_its_pairs_twice():
    people = np.array([[0, 0], [0, 1], [1, 2]])
    assert pair_weights(np.array([2, 1, 0]), people).tolist() == [2, 2, 0]


def test_every_draw_has_as_many_people_as_there_are():
    draws = draw_people(7, repeats=50, rng=np.random.default_rng(0))
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draw_people(0, repeats=3, rng=np.random.default_rng(0)).shape == (3, 0)


def test_the_interval_of_a_mean_over_people_is_that_of_the_textbook():
    values = np.random.default_rng(0).normal(0, 1, 400)
    [mean] = estimate_all(
        lambda draws: np.array([draws @ values / draws.sum()]), 400, repeats=2000, rng=np.random.default_rng(1)
    )
    half = 1.96 * values.std(ddof=1) / 20
    assert mean.high - mean.low == pytest.approx(2 * half, rel=0.08)


def test_draws_that_are_not_defined_are_left_out_of_the_interval():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1, 1)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_people_and_not_pairs_are_drawn():
    # One person holds nearly all pairs, so that hardly anything is known of people in general.
    distance = np.array([0.1] * 90 + [3.0] * 10 + [2.0] * 50)
    same = np.array([True] * 100 + [False] * 50)
    people = [[0, 0]] * 90 + [[1, 1]] * 10 + [[2, 3]] * 50
    measured = evaluate_pairs(make_scores(distance, same, people=people), repeats=300).measures
    value = measured.vals[0].val
    assert value.high - value.low == 1
