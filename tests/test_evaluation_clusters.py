"""Cluster measures against their definitions, picture by picture and pair by pair, and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
import sklearn.metrics.cluster
from hypothesis import given
from hypothesis import strategies as st

from sameface.cluster import cluster_embeddings
from sameface.evaluation.bootstrap import pair_weights
from sameface.evaluation.clusters import (
    NAMES,
    PrecisionRecall,
    best_point,
    estimate_agreement,
    evaluate_clusters,
    make_contingency,
    sum_bcubed,
    sweep_thresholds,
    weigh_agreement,
)

GROUPINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


def numbers_of(result):
    """Return every number of a result in one list."""
    return [*astuple(result)[:4], *astuple(result.bcubed), *astuple(result.pairwise)]


def random_rows(people=12, pictures=5, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(people), pictures)
    rows = rng.normal(size=(people, 8))[owners] + spread * rng.normal(size=(len(owners), 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), owners


@given(GROUPINGS)
def test_bcubed_is_the_mean_over_pictures(grouping):
    labels, people = zip(*grouping, strict=True)
    precisions, recalls = [], []
    for label, person in grouping:
        group = [other for mine, other in grouping if mine == label]
        own = [mine for mine, other in grouping if other == person]
        precisions.append(group.count(person) / len(group))
        recalls.append(own.count(label) / len(own))
    precision, recall = np.mean(precisions), np.mean(recalls)
    found = evaluate_clusters(labels, people).bcubed
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    assert found.f == pytest.approx(2 / (1 / precision + 1 / recall))


@given(GROUPINGS)
def test_pairwise_counts_pairs(grouping):
    labels, people = zip(*grouping, strict=True)
    pairs = [(a[0] == b[0], a[1] == b[1]) for a, b in combinations(grouping, 2)]
    right = sum(grouped and wanted for grouped, wanted in pairs)
    grouped, wanted = (sum(pair[side] for pair in pairs) for side in (0, 1))
    found = evaluate_clusters(labels, people).pairwise
    assert found.precision == pytest.approx(right / grouped if grouped else math.nan, nan_ok=True)
    assert found.recall == pytest.approx(right / wanted if wanted else math.nan, nan_ok=True)
    both = grouped + wanted
    assert found.f == pytest.approx(2 * right / both if both else math.nan, nan_ok=True)


@given(GROUPINGS)
def test_pairwise_equals_scikit_learns(grouping):
    labels, people = zip(*grouping, strict=True)
    (_, false), (missed, right) = sklearn.metrics.cluster.pair_confusion_matrix(people, labels).tolist()
    found = evaluate_clusters(labels, people).pairwise
    if right + false and right + missed:
        assert found.precision == pytest.approx(right / (right + false))
        assert found.recall == pytest.approx(right / (right + missed))
        assert found.f == pytest.approx(2 * right / (2 * right + false + missed))


@given(GROUPINGS)
def test_clusters_people_and_singles_are_counted(grouping):
    labels, people = zip(*grouping, strict=True)
    found = evaluate_clusters(labels, people)
    assert (found.pictures, found.people) == (len(grouping), len(set(people)))
    assert found.clusters == len(set(labels))
    assert found.singles == sum(labels.count(label) == 1 for label in set(labels))


def test_everyone_in_one_group():
    found = evaluate_clusters([7, 7, 7, 7], ["a", "a", "b", "b"])
    assert found.bcubed == PrecisionRecall(0.5, 1, pytest.approx(2 / 3))
    assert found.pairwise == PrecisionRecall(2 / 6, 1, 0.5)


def test_everyone_alone():
    found = evaluate_clusters([0, 1, 2, 3], ["a", "a", "b", "b"])
    assert found.bcubed == PrecisionRecall(1, 0.5, pytest.approx(2 / 3))
    assert math.isnan(found.pairwise.precision)  # there is no pair in any group
    assert (found.pairwise.recall, found.pairwise.f) == (0, 0)
    assert found.singles == 4


def test_all_one_person_and_all_different_people():
    same = evaluate_clusters([0, 0, 1], [5, 5, 5])
    assert (same.bcubed.precision, same.pairwise.precision) == (1, 1)
    assert (same.bcubed.recall, same.pairwise.recall) == (pytest.approx(5 / 9), pytest.approx(1 / 3))
    different = evaluate_clusters([0, 0, 1], [5, 6, 7])
    assert (different.bcubed.precision, different.bcubed.recall) == (pytest.approx(2 / 3), 1)
    assert different.pairwise.precision == 0
    assert math.isnan(different.pairwise.recall)


def test_one_picture_is_right_and_none_has_no_measure():
    one = evaluate_clusters([3], ["a"])
    assert one.bcubed == PrecisionRecall(1, 1, 1)
    assert math.isnan(one.pairwise.f)
    none = evaluate_clusters([], [])
    assert (none.pictures, none.clusters, none.people) == (0, 0, 0)
    assert math.isnan(none.bcubed.f)


def test_names_and_order_of_the_groups_do_not_matter():
    labels, people = np.array([0, 0, 1, 2, 2]), np.array([1, 1, 1, 2, 3])
    turned = evaluate_clusters(np.array(["z", "z", "m", "a", "a"])[::-1], people[::-1])
    wanted = numbers_of(evaluate_clusters(labels, people))
    assert numbers_of(turned) == pytest.approx(wanted)


def test_many_large_groups_do_not_overflow():
    pictures = 200_000
    found = evaluate_clusters(np.zeros(pictures, np.int64), np.zeros(pictures, np.int64))
    assert (found.pairwise.precision, found.bcubed.f) == (1, 1)


def test_labels_and_people_must_be_equally_many():
    with pytest.raises(ValueError, match="equally many, got 1 and 2"):
        evaluate_clusters([0], [0, 1])


def test_a_sweep_gives_the_groups_of_clustering_at_each_threshold():
    rows, owners = random_rows()
    forbidden = [(0, 1), (5, 9)]
    points = sweep_thresholds(rows, owners, thresholds=[0, 0.1, 0.4, 0.9, 4], cannot_link=forbidden)
    assert len({point.result.clusters for point in points}) >= 4
    for point in points:
        labels = cluster_embeddings(rows, threshold=point.threshold, cannot_link=forbidden)
        wanted = numbers_of(evaluate_clusters(labels, owners))
        assert numbers_of(point.result) == pytest.approx(wanted, nan_ok=True)


def test_a_sweep_without_thresholds_runs_from_everyone_alone_to_all_together():
    rows, owners = random_rows()
    points = sweep_thresholds(rows, owners)
    assert len(points) == 50
    assert (points[0].threshold, points[0].result.clusters) == (0, len(rows))
    assert points[-1].result.clusters == 1
    kept_apart = sweep_thresholds(rows, owners, cannot_link=[(0, 1)])
    assert (kept_apart[-1].threshold, kept_apart[-1].result.clusters) == (4, 2)


def test_a_sweep_of_nobody_has_empty_points():
    [point] = sweep_thresholds(np.zeros((0, 3), np.float32), [], thresholds=[0.5])
    assert point.result.pictures == 0


def test_the_best_point_has_the_highest_f_and_the_lowest_threshold():
    rows, owners = random_rows(spread=0.3)
    points = sweep_thresholds(rows, owners)
    best = best_point(points)
    scores = [point.result.bcubed.f for point in points]
    assert best == points[int(np.argmax(scores))]
    assert best.result.bcubed.f > max(scores[0], scores[-1])


def number_people(grouping):
    labels, people = zip(*grouping, strict=True)
    return labels, np.unique(people, return_inverse=True)[1]


@given(GROUPINGS)
def test_with_everyone_drawn_once_the_measures_are_those_of_the_groups(grouping):
    labels, people = number_people(grouping)
    cells = make_contingency(labels, people)
    once = weigh_agreement(cells, sum_bcubed(cells), np.ones(cells.people, np.int64))
    found = evaluate_clusters(labels, people)
    wanted = [*astuple(found.bcubed), *astuple(found.pairwise)]
    assert once.tolist() == pytest.approx(wanted, nan_ok=True)


@given(GROUPINGS, st.integers(0, 99))
def test_a_draw_counts_pictures_and_pairs_as_often_as_their_people_were_drawn(grouping, seed):
    labels, people = number_people(grouping)
    cells = make_contingency(labels, people)
    draw = np.random.default_rng(seed).integers(0, 3, cells.people)
    found = dict(zip(NAMES, weigh_agreement(cells, sum_bcubed(cells), draw), strict=True))
    purity = [
        np.mean([person == other for label, other in zip(labels, people, strict=True) if label == own])
        for own, person in zip(labels, people, strict=True)
    ]
    pictures = draw[people].sum()
    wanted = (draw[people] * purity).sum() / pictures if pictures else math.nan
    assert found["BCubed precision"] == pytest.approx(wanted, nan_ok=True)
    pairs = list(combinations(range(len(people)), 2))
    places = np.array(pairs, np.int64).reshape(-1, 2)
    weight = pair_weights(draw, people[places])
    grouped = np.array([labels[a] == labels[b] for a, b in pairs], bool)
    same = np.array([people[a] == people[b] for a, b in pairs], bool)
    right = weight[grouped & same].sum()
    for name, whole in (("precision", weight[grouped].sum()), ("recall", weight[same].sum())):
        assert found[f"pairwise {name}"] == pytest.approx(right / whole if whole else math.nan, nan_ok=True)


def test_the_interval_of_recall_is_that_of_a_mean_over_people():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(300), 2)
    labels = np.arange(600)
    together = rng.random(300) < 0.6
    labels[1::2][together] = labels[::2][together]
    recall = estimate_agreement(make_contingency(labels, people), repeats=2000)["BCubed recall"]
    error = np.where(together, 1, 0.5).std() / np.sqrt(300)
    assert recall.value == pytest.approx(np.where(together, 1, 0.5).mean())
    assert (recall.low, recall.high) == pytest.approx(
        (recall.value - 1.96 * error, recall.value + 1.96 * error), abs=0.005
    )
