"""Clustering: average linkage with pairs that are never one person."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
import scipy.cluster.hierarchy
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface import cluster
from sameface.cluster import cluster_embeddings, extend_clusters, link_rows, linkage, neighbours, same_picture_pairs
from sameface.compare import squared_distances


@pytest.fixture(params=["few", "many"], autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run every test with both ways: that of few rows and that of many."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many":
            patch.setattr(cluster, "FEW", 0)
        yield request.param


def random_rows(seed: int, count: int, people: int = 4, spread: float = 0.4) -> np.ndarray:
    """Return unit rows in 5 dimensions round a few centres, `(count, 5) float32`."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(people, 5))[rng.integers(people, size=count)] + spread * rng.normal(size=(count, 5))
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


def cluster_slowly(rows: np.ndarray, threshold: float, cannot_link: set[tuple[int, int]]) -> set[frozenset[int]]:
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
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    pairs = draw(st.sets(pair, max_size=8)) if count > 1 else set()
    return rows, pairs, draw(st.floats(0, 4))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_groups_are_those_of_the_obvious_way(problem: tuple[np.ndarray, set[tuple[int, int]], float]) -> None:
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


def test_rows_whose_distances_would_not_fit_in_memory_have_no_tree() -> None:
    rows = np.ones((cluster.MAX_ROWS + 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"rows must be 20,000 or fewer, got 20,001"):
        link_rows(rows)


def test_the_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linkage, "MAX_ROWS", 3)
    assert len(link_rows(random_rows(0, 3))) == 2


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


# Many rows


def people_rows(seed: int, people: int, pictures: int, width: int = 24) -> np.ndarray:
    """Return rows in a narrow cone, as those of faces are, `(people * pictures, width) float32`."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, width)) * 0.5 / np.sqrt(np.arange(1, width + 1)) + np.eye(width)[0] * 3
    rows = np.repeat(centres, pictures, axis=0)
    rows += rng.normal(size=rows.shape) * 0.06
    rows = rows[rng.permutation(len(rows))]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cut_at(rows: np.ndarray, threshold: float, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Return the groups by the table of all distances."""
    return linkage.cut_tree(link_rows(rows, cannot_link=pairs), threshold, len(rows))


@pytest.mark.parametrize("threshold", [0.01, 0.03, 0.06, 0.2])
def test_many_rows_get_the_groups_of_the_table_of_all_distances(threshold: float) -> None:
    rows = people_rows(0, 300, 4)
    pairs = [(number, number + 1) for number in range(0, 1199, 5)]
    labels = cluster_embeddings(rows, threshold=threshold, cannot_link=pairs)
    assert labels.tolist() == cut_at(rows, threshold, pairs).tolist()


def test_the_groups_do_not_hang_on_the_order_of_the_rows() -> None:
    rows = people_rows(1, 200, 5)
    order = np.random.default_rng(2).permutation(len(rows))
    labels, mixed = (cluster_embeddings(given, threshold=0.04) for given in (rows, rows[order]))
    assert groups_of(labels) == {frozenset(order[list(group)].tolist()) for group in groups_of(mixed)}


@pytest.mark.parametrize("start", [0, 700])
@pytest.mark.parametrize("threshold", [0.005, 0.02, 0.04])
def test_the_search_finds_every_near_pair(threshold: float, start: int) -> None:
    rows = people_rows(3, 250, 4)
    found = neighbours.near_pairs(rows, threshold, start=start)
    distances = squared_distances(rows, rows)
    first, second = np.nonzero(np.triu(distances <= threshold, 1))
    wanted = {(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if b >= start}
    assert wanted <= set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert (distances[found.first, found.second] <= threshold + 1e-4).all()
    assert len(found.cut) == 0


def test_a_group_keeps_its_nearest_of_those_before_it() -> None:
    rows = people_rows(4, 1, 300)
    found = neighbours.near_pairs(rows, 4)
    assert found.cut.tolist() == list(range(neighbours.MOST + 1, 300))
    last = found.first[found.second == 299]
    nearest = np.argsort(squared_distances(rows[299:], rows[:299])[0])[: neighbours.MOST]
    assert sorted(last.tolist()) == sorted(nearest.tolist())


def test_someone_in_more_pictures_than_a_row_keeps_pairs_is_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 3)
    rows = people_rows(5, 5, 200)
    assert len(groups_of(cluster_embeddings(rows, threshold=0.2))) == len(groups_of(cut_at(rows, 0.2, [])))


def test_candidates_that_come_in_floods_are_thinned_out_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = people_rows(6, 3, 100)
    whole = neighbours.near_pairs(rows, 4)
    for name, value in (("WAITING", 50), ("ROWS", 32), ("COLUMNS", 128)):
        monkeypatch.setattr(neighbours, name, value)
    thinned = neighbours.near_pairs(rows, 4)
    assert sorted(zip(whole.first, whole.second, strict=True)) == sorted(
        zip(thinned.first, thinned.second, strict=True)
    )


def test_long_work_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    parts: list[float] = []
    cluster_embeddings(people_rows(7, 200, 4), threshold=0.04, told=parts.append)
    assert parts == sorted(parts)
    assert parts[-1:] == ([1.0] if way == "many" else [])


def test_long_work_that_is_interrupted_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def interrupt(part: float) -> None:
        raise KeyboardInterrupt

    find = neighbours.find_nearest
    monkeypatch.setattr(neighbours, "ROWS", 1)
    monkeypatch.setattr(neighbours, "find_nearest", lambda scores, low: begun.append(low) or find(scores, low))
    with pytest.raises(KeyboardInterrupt):
        neighbours.near_pairs(people_rows(7, 500, 4), 0.04, progress=interrupt)
    assert len(begun) < 1000


# Rows that come later


def test_new_rows_join_the_groups_that_are_there_or_open_new_ones() -> None:
    known = np.stack([toy.row_of(colour) for colour in (toy.RED, toy.BLUE, toy.RED)])
    rows = np.stack([toy.row_of(colour) for colour in (toy.GREEN, toy.BLUE, toy.WHITE, toy.GREEN)])
    labels = np.array([4, 7, 4])
    assert extend_clusters(rows, known=known, labels=labels, threshold=0.1).tolist() == [8, 7, 9, 8]


def test_new_faces_of_one_picture_join_two_groups() -> None:
    known, rows = toy.row_of(toy.RED)[None], np.repeat(toy.row_of(toy.RED)[None], 2, axis=0)
    found = extend_clusters(rows, known=known, labels=np.array([0]), threshold=0.1, cannot_link=[(0, 1)])
    assert sorted(found.tolist()) == [0, 1]


def test_groups_that_are_there_never_merge() -> None:
    known = np.repeat(toy.row_of(toy.RED)[None], 2, axis=0)
    found = extend_clusters(known[:1], known=known, labels=np.array([0, 1]), threshold=4)
    assert found.tolist() in ([0], [1])


@pytest.mark.parametrize(("known", "new"), [(0, 0), (0, 3), (3, 0)])
def test_none_may_be_known_and_none_new(known: int, new: int) -> None:
    row = toy.row_of(toy.RED)[None]
    labels = np.zeros(known, np.int64)
    rows = np.repeat(row, new, axis=0)
    found = extend_clusters(rows, known=np.repeat(row, known, axis=0), labels=labels, threshold=0.1)
    assert found.tolist() == [0] * new


def test_nothing_known_gives_the_groups_of_the_rows_alone() -> None:
    rows = people_rows(8, 100, 4)
    found = extend_clusters(rows, known=rows[:0], labels=np.zeros(0, np.int64), threshold=0.04)
    assert found.tolist() == cluster_embeddings(rows, threshold=0.04).tolist()


def test_people_come_together_though_their_pictures_come_late() -> None:
    rng = np.random.default_rng(9)
    people = rng.integers(30, size=200)
    rows = np.eye(30)[people] + rng.normal(size=(200, 30)) * 0.05
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = cluster_embeddings(rows[:90], threshold=0.5)
    late = extend_clusters(rows[90:], known=rows[:90], labels=labels, threshold=0.5)
    assert groups_of(np.concatenate([labels, late])) == groups_of(people)


def test_a_label_under_0_and_a_label_too_few_are_refused() -> None:
    rows = random_rows(0, 3)
    with pytest.raises(ValueError, match="labels must be 0 or more, got -1"):
        extend_clusters(rows, known=rows, labels=np.array([0, -1, 2]), threshold=1)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\), got \(2,\)"):
        extend_clusters(rows, known=rows, labels=np.array([0, 1]), threshold=1)


@pytest.mark.parametrize("length", [1.3, 0.0, np.nan])
def test_rows_that_are_no_embeddings_are_not_grouped(length: float) -> None:
    rows = random_rows(0, 5)
    rows[3] *= np.float32(length)
    with pytest.raises(ValueError, match="row 3 has"):
        cluster_embeddings(rows, threshold=1)
    known, labels = random_rows(1, 2), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="row 3 has"):
        extend_clusters(rows, known=known, labels=labels, threshold=1)
    with pytest.raises(ValueError, match="known must be finite"):
        extend_clusters(known, known=rows, labels=np.zeros(5, np.int64), threshold=1)
