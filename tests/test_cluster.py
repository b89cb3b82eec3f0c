"""Clustering: average linkage with pairs that are never one person."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.cluster.hierarchy
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface import cluster
from sameface.cluster import cluster_embeddings, same_picture_pairs
from sameface.compare import squared_distances


def random_rows(seed: int, count: int, people: int = 4, spread: float = 0.4) -> np.ndarray:
    """Return unit rows in 5 dimensions round a few centres, `(count, 5) float32`."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(people, 5))[rng.integers(people, size=count)] + spread * rng.normal(
        size=(count, 5)
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def groups_of(labels: np.ndarray) -> set[frozenset[int]]:
    """Return the groups as sets of rows."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("threshold", [0, 0.01, 0.1, 0.3, 0.7, 1.5, 4])
@pytest.mark.parametrize("count", [2, 3, 30, 150])
def test_the_groups_are_scipys(count: int, threshold: float) -> None:
    rows = random_rows(count, count)
    upper = squared_distances(rows, rows)[np.triu_indices(count, 1)]
    tree = scipy.cluster.hierarchy.linkage(upper, "average")
    wanted = scipy.cluster.hierarchy.fcluster(tree, threshold, "distance")
    assert groups_of(cluster_embeddings(rows, threshold=threshold)) == groups_of(wanted)


def cluster_slowly(
    rows: np.ndarray, threshold: float, cannot_link: set[tuple[int, int]]
) -> set[frozenset[int]]:
    """Merge the two nearest groups that may, again and again, the obvious way."""
    distances = squared_distances(rows, rows).astype(float)
    groups = [frozenset([number]) for number in range(len(rows))]

    def mean(a: frozenset[int], b: frozenset[int]) -> float:
        if any((min(i, j), max(i, j)) in cannot_link for i in a for j in b):
            return np.inf
        return float(np.mean([distances[i, j] for i in a for j in b]))

    while len(groups) > 1:
        nearest, a, b = min((mean(a, b), sorted(a), sorted(b)) for a, b in combinations(groups, 2))
        if nearest > threshold:
            break
        groups = [group for group in groups if group not in (frozenset(a), frozenset(b))] + [frozenset(a + b)]
    return set(groups)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, set[tuple[int, int]], float]:
    """Return rows, pairs that must not meet, and a threshold."""
    count = draw(st.integers(1, 12))
    rows = random_rows(draw(st.integers(0, 9999)), count, people=draw(st.integers(1, 4)))
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
        lambda pair: pair[0] < pair[1]
    )
    pairs = draw(st.sets(pair, max_size=8)) if count > 1 else set()
    return rows, pairs, draw(st.floats(0, 4))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_groups_are_those_of_the_obvious_way(
    problem: tuple[np.ndarray, set[tuple[int, int]], float],
) -> None:
    rows, pairs, threshold = problem
    labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
    assert groups_of(labels) == cluster_slowly(rows, threshold, pairs)


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([0.0, 0.5, 2.0, 3.999, 4.0]))
def test_what_must_not_meet_never_meets(
    problem: tuple[np.ndarray, set[tuple[int, int]], float], threshold: float
) -> None:
    rows, pairs, _ = problem
    labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
    assert [pair for pair in pairs if labels[pair[0]] == labels[pair[1]]] == []


def test_equal_rows_that_must_not_meet_stay_apart() -> None:
    rows = np.repeat(toy.row_of(toy.RED)[None], 4, axis=0)
    labels = cluster_embeddings(rows, threshold=4, cannot_link=[(3, 0)])
    assert labels[0] != labels[3]
    assert len(set(labels.tolist())) == 2


def test_a_pair_may_be_named_twice_and_either_way_round() -> None:
    rows = np.repeat(toy.row_of(toy.RED)[None], 2, axis=0)
    assert cluster_embeddings(rows, threshold=4, cannot_link=[(0, 1), (1, 0)]).tolist() == [0, 1]


def test_labels_count_up_in_the_order_of_the_first_rows() -> None:
    colours = [toy.BLUE, toy.RED, toy.BLUE, toy.GREEN, toy.RED, toy.WHITE]
    rows = np.stack([toy.row_of(colour) for colour in colours])
    labels = cluster_embeddings(rows, threshold=0.1)
    assert labels.tolist() == [0, 1, 0, 2, 1, 3]
    assert labels.dtype == np.int64


def test_who_is_near_nobody_is_a_group_alone() -> None:
    rows = np.stack([toy.row_of(colour) for colour in (toy.RED, toy.GREEN, toy.BLUE)])
    assert cluster_embeddings(rows, threshold=1.9).tolist() == [0, 1, 2]


def test_a_mean_on_the_threshold_still_merges() -> None:
    rows = np.stack([toy.row_of(toy.RED), toy.row_of(toy.GREEN)])  # exactly 2 apart
    assert cluster_embeddings(rows, threshold=2).tolist() == [0, 0]
    assert cluster_embeddings(rows, threshold=float(np.nextafter(2, 0))).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "labels"), [(0, []), (1, [0]), (2, [0, 0])])
def test_none_one_and_two_rows(count: int, labels: list[int]) -> None:
    rows = np.repeat(toy.row_of(toy.RED)[None], count, axis=0)
    found = cluster_embeddings(rows, threshold=0)
    assert found.tolist() == labels
    assert found.dtype == np.int64


def test_rows_that_would_not_fit_in_memory_are_refused() -> None:
    rows = np.zeros((cluster.MAX_ROWS + 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"rows must be 20,000 or fewer, got 20,001"):
        cluster_embeddings(rows, threshold=1)


def test_the_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "MAX_ROWS", 3)
    assert len(cluster_embeddings(random_rows(0, 3), threshold=1)) == 3


@pytest.mark.parametrize("threshold", [-0.001, 4.001, float("nan"), float("inf")])
def test_a_threshold_that_no_distance_has_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must lie between 0 and 4"):
        cluster_embeddings(random_rows(0, 3), threshold=threshold)


@pytest.mark.parametrize("pair", [(0, 3), (-1, 0), (3, 3), (5, -1)])
def test_a_pair_that_names_no_row_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot_link must name rows 0 to 2"):
        cluster_embeddings(random_rows(0, 3), threshold=1, cannot_link=[pair])


def test_a_pair_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot_link must name two different rows"):
        cluster_embeddings(random_rows(0, 3), threshold=1, cannot_link=[(0, 1), (2, 2)])


@pytest.mark.parametrize("count", [0, 1])
def test_pairs_are_checked_for_few_rows_too(count: int) -> None:
    with pytest.raises(ValueError, match="cannot_link must name rows"):
        cluster_embeddings(random_rows(0, count), threshold=1, cannot_link=[(0, 1)])


def test_rows_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="rows must be float32"):
        cluster_embeddings(np.zeros((2, 3)), threshold=1)  # type: ignore[arg-type]


def test_faces_of_one_picture_are_every_pair_of_it() -> None:
    assert same_picture_pairs(["a", "b", "a", "a", "b", "c"]) == [(0, 2), (0, 3), (2, 3), (1, 4)]
    assert same_picture_pairs([]) == []
