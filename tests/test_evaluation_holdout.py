"""All pairs in blocks, against every pair in one table."""

from __future__ import annotations

import numpy as np
import pytest

import sameface.evaluation.allpairs
from sameface.compare import squared_distances
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.pairs import PairScores, evaluate_pairs
from sameface.evaluation.roc import make_roc, operate_at_far


def draw_rows(sizes, *, spread=0.6, seed=0, width=16):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(len(sizes)), sizes)
    rows = rng.normal(size=(len(sizes), width))[person] + spread * rng.normal(size=(len(person), width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), person


def draw_exact_rows(sizes, *, seed=0):
    """Rows of plus and minus 1/16 in 256 numbers: every distance is exact, in whatever order it is summed."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(len(sizes)), sizes)
    base = rng.choice([-1, 1], (len(sizes), 256))[person]
    return (np.where(rng.random(base.shape) < 0.3, -base, base) / 16).astype(np.float32), person


def all_pairs(rows, person):
    first, second = np.triu_indices(len(rows), 1)
    return squared_distances(rows, rows)[first, second].astype(np.float64), person[first] == person[second]


@pytest.fixture(params=[1 << 22, 700, 50])
def block(request, monkeypatch):
    """Blocks that hold everything, some rows, and one row at a time."""
    monkeypatch.setattr(sameface.evaluation.allpairs, "BLOCK", request.param)


@pytest.mark.parametrize("sizes", [[3] * 40, [1] * 60, [1, 30, 2, 50, 1, 9], [2, 2]])
def test_blocks_give_what_the_whole_table_gives(block, sizes):
    rows, person = draw_exact_rows(sizes)
    distance, same = all_pairs(rows, person)
    result = evaluate_holdout(rows, person, fars=(0.25, 1e-1, 1e-2, 1e-3), repeats=2)
    roc = make_roc(distance, same)
    assert (result.genuine, result.impostors) == (same.sum(), (~same).sum())
    assert result.by_person.tolist() == [size * (size - 1) // 2 for size in sizes]
    for rate in result.rates:
        expected = operate_at_far(roc, rate.far)
        assert rate.accepted == expected.accepted
        assert rate.val.value == pytest.approx(expected.val, nan_ok=True)
        assert (distance[~same] <= rate.threshold.value).sum() == rate.accepted
        assert rate.by_person.sum() == (distance[same] <= rate.threshold.value).sum()


def test_rows_on_the_axes_are_exact_with_ties_at_the_threshold(block):
    # Four people: two with both rows on one axis, and two that are 2 apart from all others.
    axes = [0, 0, 1, 1, 2, 3]
    rows = np.eye(4, dtype=np.float32)[axes]
    person = np.array([0, 0, 1, 2, 3, 4])  # rows 2 and 3 are two people at distance 0
    result = evaluate_holdout(rows, person, fars=(0.5, 0.05), repeats=2)
    assert result.impostors == 14
    assert [rate.accepted for rate in result.rates] == [1]  # the other 13 are tied at 2
    assert result.rates[0].val.value == 1
    assert 1.99 < result.rates[0].threshold.value < 2
    assert result.refused == (0.05,)


def test_one_person_has_no_strangers_and_strangers_have_no_pairs():
    rows, person = draw_rows([6])
    alone = evaluate_holdout(rows, person, repeats=2)
    assert (alone.genuine, alone.impostors, alone.rates) == (15, 0, ())
    rows, person = draw_rows([1] * 12)
    strangers = evaluate_holdout(rows, person, repeats=2)
    assert strangers.genuine == 0
    assert np.isnan(strangers.rates[0].val.value)
    nobody = evaluate_holdout(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), repeats=2)
    assert (nobody.genuine, nobody.impostors, nobody.rates) == (0, 0, ())


def test_people_out_of_order_are_refused():
    rows, person = draw_rows([2, 2])
    with pytest.raises(ValueError, match="in order"):
        evaluate_holdout(rows, person[::-1].copy())


def test_the_interval_is_that_of_the_list_of_all_pairs():
    rows, person = draw_rows([4] * 50)
    distance, same = all_pairs(rows, person)
    first, second = np.triu_indices(len(rows), 1)
    people = np.column_stack([person[first], person[second]])
    scores = PairScores(distance, same, np.arange(len(same)) % 2, people)
    listed = evaluate_pairs(scores, fars=(1e-2,), repeats=200).measures.vals[0].val
    blocks = evaluate_holdout(rows, person, fars=(1e-2,), repeats=200).rates[0].val
    assert blocks.value == pytest.approx(listed.value, abs=0.004)
    assert blocks.low == pytest.approx(listed.low, abs=0.004)
    assert blocks.high == pytest.approx(listed.high, abs=0.004)


def test_a_thinned_sample_gives_nearly_the_same_interval(monkeypatch):
    rows, person = draw_rows([3] * 200)
    whole = evaluate_holdout(rows, person, fars=(1e-1,), repeats=100).rates[0]
    monkeypatch.setattr(sameface.evaluation.allpairs, "SAMPLE", 3_000)
    thin = evaluate_holdout(rows, person, fars=(1e-1,), repeats=100).rates[0]
    assert thin.val.value == whole.val.value
    assert thin.threshold.low == pytest.approx(whole.threshold.low, rel=0.02)
    assert thin.threshold.high == pytest.approx(whole.threshold.high, rel=0.02)


def test_the_binned_curve_passes_the_exact_one_at_its_edges():
    rows, person = draw_rows([3] * 30)
    distance, same = all_pairs(rows, person)
    roc = evaluate_holdout(rows, person, repeats=2).roc
    for threshold, val, far in zip(roc.threshold, roc.val, roc.far, strict=True):
        assert val == pytest.approx((distance[same] < threshold).mean(), abs=0.03)
        assert far == pytest.approx((distance[~same] < threshold).mean(), abs=0.001)
    assert roc.val[-1] == roc.far[-1] == 1


@pytest.mark.slow
def test_five_thousand_rows_take_less_than_five_seconds():
    import time

    rows, person = draw_rows([5] * 1000, width=128)
    start = time.process_time()
    result = evaluate_holdout(rows, person)
    assert time.process_time() - start < 10  # of two cores
    assert result.impostors == 12_487_500
