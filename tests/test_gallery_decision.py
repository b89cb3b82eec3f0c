"""The decision of a search: limits, the faces near a probe, and the vote, on hand-made distances."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from sameface.compare import exact_distances
from sameface.embed import unit_rows
from sameface.gallery import Gallery
from sameface.gallery.decision import (
    NOBODY,
    PROBES,
    Candidates,
    Limits,
    SearchOptions,
    compute_limits,
    decide,
    empty_answer,
    leave_out_unusable,
    nearest_faces,
    rank_people,
    rounding,
    scale_distances,
)
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.index import FARTHEST, EmbeddingTable, FlatIndex
from sameface.gallery.records import Identification
from sameface.gallery.stored_thresholds import decode_thresholds, parse_thresholds, read_thresholds, write_thresholds
from sameface.recognizer import Recognizer
from sameface.thresholds import GalleryThreshold, Thresholds

NAMES = {1: "Ada", 2: "Bob", 3: "Cy"}


def make_near(distances: list[float], owners: list[int]) -> Candidates:
    return Candidates(np.array(distances, np.float32), np.array(owners), NAMES)


class Names:
    """A database of people."""

    def read(self, query: str, *people: int) -> list[tuple[int, str]]:
        return [(person, NAMES[person]) for person in people]


def make_rows(matrix: np.ndarray, owners: list[int], adapted: list[bool] | None = None, **kept) -> FlatIndex:
    given = {"own": None, "mixed": None, **kept}
    count = len(owners)
    mask = np.zeros(count, bool) if adapted is None else np.array(adapted)
    table = EmbeddingTable(np.arange(count), np.array(owners), matrix, np.ones(count, np.int64), mask)
    return FlatIndex(Names(), table, **given)


def limits_of(threshold: float, factor: float = 1.0) -> Limits:
    return Limits(toy.THRESHOLDS, GalleryThreshold(threshold, 1e-3, 1e-3, extrapolated=False), factor)


def decided(near: Candidates, limits: Limits, options: SearchOptions) -> Identification:
    return decide(near, options, empty_answer(limits, options, len(NAMES)))


def make_thresholds(distances: list[float]) -> Thresholds:
    return replace(toy.THRESHOLDS, distance=tuple(distances))


# Limits


def test_with_adapted_rows_the_rate_is_the_larger_of_both() -> None:
    fine, coarse = toy.THRESHOLDS, replace(toy.THRESHOLDS, far=(0.9, 0.5, 0.2, 0.1))
    matrix = np.eye(3, dtype=np.float32)
    rates = {}
    for name, own, mixed in (("own", coarse, fine), ("mixed", fine, coarse), ("alone", fine, None)):
        rates[name] = compute_limits(fine, make_rows(matrix, [1, 2, 3], own=own, mixed=mixed), None).limit.fpir
    assert rates["own"] == rates["mixed"] == coarse.at_gallery(3).fpir
    assert rates["alone"] == fine.at_gallery(3).fpir < rates["own"]


def test_the_rate_that_is_asked_for_sets_both_thresholds() -> None:
    mixed = make_thresholds([0.3, 0.2, 0.1, 0.01])
    rows = make_rows(np.eye(3, dtype=np.float32), [1, 2, 3], mixed=mixed)
    for far in (1e-3, 1e-1):
        own, other = toy.THRESHOLDS.at_gallery(3, far), mixed.at_gallery(3, far)
        limits = compute_limits(toy.THRESHOLDS, rows, far)
        assert (limits.limit.distance, limits.limit.fpir) == (own.distance, max(own.fpir, other.fpir))
        assert limits.factor == own.distance / other.distance


def test_the_thresholds_of_the_gallery_come_before_those_of_the_pipeline() -> None:
    own = make_thresholds([distance / 2 for distance in toy.THRESHOLDS.distance])
    matrix = np.eye(3, dtype=np.float32)
    limits = compute_limits(toy.THRESHOLDS, make_rows(matrix, [1, 2, 3]), 1e-2)
    halved = compute_limits(toy.THRESHOLDS, make_rows(matrix, [1, 2, 3], own=own), 1e-2)
    assert limits.limit.distance == toy.THRESHOLDS.at_gallery(3, 1e-2).distance
    assert halved.limit.distance == own.at_gallery(3, 1e-2).distance < limits.limit.distance
    assert limits.factor == halved.factor == 1


def test_the_factor_brings_the_threshold_of_adapted_rows_to_that_of_the_others() -> None:
    mixed = make_thresholds([distance / 2 for distance in toy.THRESHOLDS.distance])
    limits = compute_limits(toy.THRESHOLDS, make_rows(np.eye(3, dtype=np.float32), [1, 2, 3], mixed=mixed), 1e-2)
    assert limits.limit.distance == toy.THRESHOLDS.at_gallery(3, 1e-2).distance
    assert limits.factor * mixed.at_gallery(3, 1e-2).distance == pytest.approx(limits.limit.distance)


def test_a_threshold_of_0_for_adapted_rows_divides_nothing_by_0() -> None:
    mixed = make_thresholds([0.0] * len(toy.THRESHOLDS.distance))
    limits = compute_limits(toy.THRESHOLDS, make_rows(np.eye(3, dtype=np.float32), [1, 2, 3], mixed=mixed), 1e-2)
    assert limits.factor == limits.limit.distance / float(np.finfo(np.float32).tiny)


# Distances


def test_only_distances_to_adapted_rows_are_scaled_and_none_is_over_4() -> None:
    distances = np.array([1, 1, 3], np.float32)
    scaled = scale_distances(distances, np.array([False, True, True]), 2)
    assert scaled.tolist() == [1, 2, 4]
    assert scaled.dtype == np.float32
    assert scale_distances(distances, None, 2) is distances
    assert scale_distances(distances, np.array([True, True, True]), 1) is distances


def test_the_rounding_grows_with_the_width() -> None:
    assert rounding(0) == 8 * 2.0**-23
    assert rounding(128) == 264 * 2.0**-23


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]))
def test_what_a_search_measures_decides_as_all_distances_do(seed: int, k: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 80))
    matrix = unit_rows(rng.normal(size=(count, 8)).astype(np.float32))
    matrix[rng.integers(count)] = matrix[0]
    owners = rng.integers(1, 4, count)
    adapted = rng.random(count) < 0.5 if rng.random() < 0.7 else None
    probes = unit_rows(np.concatenate([rng.normal(size=(2, 8)).astype(np.float32), matrix[:1]]))
    options = SearchOptions(k, 1, bool(rng.random() < 0.5), frozenset({2}) if rng.random() < 0.5 else frozenset())
    rows = make_rows(matrix, owners.tolist(), None if adapted is None else adapted.tolist())
    limits = limits_of(1.0, factor)
    for probe, near in zip(probes, rows.search(probes, limits, options), strict=True):
        distances = scale_distances(exact_distances(probe, matrix), adapted, factor)
        everybody = Candidates(distances, owners, NAMES).without(options.hidden)
        if len(everybody.owners):
            assert decided(near.without(options.hidden), limits, options) == decided(everybody, limits, options)


def test_many_probes_are_measured_in_order() -> None:
    rng = np.random.default_rng(1)
    matrix = unit_rows(rng.normal(size=(3, 8)).astype(np.float32))
    probes = unit_rows(rng.normal(size=(2 * PROBES + 1, 8)).astype(np.float32))
    found = list(make_rows(matrix, [1, 2, 3]).search(probes, limits_of(4.0), SearchOptions(1, 3, closed_set=True)))
    assert len(found) == len(probes)
    for probe, near in zip(probes, found, strict=True):
        assert near.distances.tolist() == exact_distances(probe, matrix).tolist()
        assert near.names == NAMES


def test_a_probe_of_another_width_or_kind_is_refused() -> None:
    rows = make_rows(np.eye(3, dtype=np.float32), [1, 2, 3])
    options = SearchOptions(1, 1, closed_set=True)
    with pytest.raises(ValueError, match=r"rows must have shape \('n', 3\), got \(1, 4\)"):
        list(rows.search(np.zeros((1, 4), np.float32), limits_of(4.0), options))
    with pytest.raises(TypeError, match="rows must be float32, got float64"):
        list(rows.search(np.zeros((1, 3)), limits_of(4.0), options))


def test_people_who_are_hidden_are_not_measured() -> None:
    rows = make_rows(np.eye(3, dtype=np.float32), [1, 2, 3])
    [near] = rows.search(
        rows.table.matrix[:1], limits_of(4.0), SearchOptions(1, 3, closed_set=True, hidden=frozenset({1}))
    )
    assert near.owners.tolist() == [2, 3]
    assert rows.faces == 3
    [near] = rows.search(
        rows.table.matrix[:1], limits_of(4.0), SearchOptions(1, 3, closed_set=True, hidden=frozenset({1, 2, 3}))
    )
    assert near.owners.tolist() == []
    assert np.finfo(np.float32).max == FARTHEST


def test_faces_farther_than_what_can_count_are_not_yielded() -> None:
    matrix = unit_rows(np.column_stack([np.ones(40), np.arange(40)]).astype(np.float32))
    owners = [1, 2] * 20
    [near] = make_rows(matrix, owners).search(matrix[:1], limits_of(4.0), SearchOptions(1, 1, closed_set=True))
    assert 2 <= len(near.owners) < 40


def test_of_many_adapted_rows_the_nearest_by_the_scaled_distance_are_measured() -> None:
    matrix = unit_rows(np.column_stack([np.ones(400), np.arange(400) / 400]).astype(np.float32))
    owners = [1 + number % 2 for number in range(400)]
    rows = make_rows(matrix, owners, [number >= 200 for number in range(400)])
    for factor in (1e-4, 0.1, 10.0):
        limits, options = limits_of(4.0, factor), SearchOptions(5, 1, closed_set=True)
        [near] = rows.search(matrix[:1], limits, options)
        everything = scale_distances(exact_distances(matrix[0], matrix), rows.table.adapted, factor)
        everybody = Candidates(everything, rows.table.owners, NAMES)
        assert np.sort(near.distances)[:5].tolist() == np.sort(everything)[:5].tolist()
        assert decided(near, limits, options) == decided(everybody, limits, options)
        assert len(near.owners) < 400


# Candidates


def test_so_many_faces_and_people_must_be_nearer_than_the_reach() -> None:
    near = make_near([0.25, 0.5, 0.75], [1, 1, 2])
    assert near.settles(0.76, faces=3, people=2)
    assert not near.settles(0.75, faces=3, people=2)
    assert near.settles(0.75, faces=2, people=1)
    assert not near.settles(0.75, faces=2, people=2)
    assert not near.settles(1, faces=4, people=2)


def test_without_people_their_faces_are_gone_and_those_of_nobody() -> None:
    near = make_near([0.1, 0.2, 0.3, 0.4], [1, 2, NOBODY, 1])
    assert near.without(frozenset()).owners.tolist() == [1, 2, 1]
    rest = near.without(frozenset({1}))
    assert (rest.distances.tolist(), rest.owners.tolist(), rest.names) == ([np.float32(0.2)], [2], NAMES)


def test_rows_that_are_not_of_length_1_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows, owners = np.eye(3, dtype=np.float32), np.array([1, 2, 3])
    kept, owned = leave_out_unusable(rows, owners)
    assert (kept is rows, owned is owners, caplog.messages) == (True, True, [])
    rows[0, 0], rows[2, 2] = np.nan, 1.1
    kept, owned = leave_out_unusable(rows, owners)
    assert owned.tolist() == [NOBODY, 2, NOBODY]
    assert (kept.tolist(), kept.dtype) == ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    assert [message.partition(",")[0] for message in caplog.messages] == ["2 embeddings are not of length 1"]
    assert "sameface gallery check" in caplog.text
    probe, options = np.eye(3, dtype=np.float32)[:1], SearchOptions(1, 3, closed_set=True)
    [near] = make_rows(kept, owned.tolist()).search(probe, limits_of(4.0), options)
    assert near.owners.tolist() == [2]


# The decision


def test_at_least_two_people_are_looked_for() -> None:
    assert [SearchOptions(1, most, closed_set=False).people for most in (1, 2, 5)] == [2, 2, 5]


def test_the_threshold_itself_is_near_enough() -> None:
    near, options = make_near([0.5, 0.5, 0.75], [1, 2, 3]), SearchOptions(1, 3, closed_set=False)
    at = decided(near, limits_of(0.5), options)
    assert [(match.name, match.distance, match.votes, match.number) for match in at.matches] == [
        ("Ada", 0.5, 1, 1),
        ("Bob", 0.5, 0, 2),
        ("Cy", 0.75, 0, 3),
    ]
    assert (at.threshold, at.far, at.ambiguous, at.closed_set) == (0.5, 1e-3, True, False)
    under = decided(near, limits_of(0.4999), options)
    assert (under.ambiguous, under.matches[0].votes) == (False, 0)
    assert not decided(make_near([0.5, 0.5], [1, 1]), limits_of(0.5), options).ambiguous


def test_in_a_closed_set_every_distance_votes() -> None:
    near = make_near([4, 4], [1, 1])
    closed = decided(near, limits_of(0.5), SearchOptions(2, 1, closed_set=True))
    assert (closed.matches[0].votes, closed.closed_set, closed.threshold) == (2, True, 0.5)


# The vote


def rank_slowly(distances: list[float], owners: list[int], k: int, limit: float, most: int):
    """Return what `rank_people` must, with nothing but lists."""
    order = sorted(range(len(owners)), key=lambda face: distances[face])
    nearest = list({owners[face]: face for face in reversed(order)}.values())
    nearest.sort(key=order.index)
    voters = [face for face in order[:k] if distances[face] <= limit]
    votes = {person: sum(owners[face] == person for face in voters) for person in owners}
    chosen = nearest[:most]
    if voters:
        best = max(votes.values())
        winner = next(face for face in voters if votes[owners[face]] == best)
        if winner not in chosen:
            chosen[-1] = winner
    return [(owners[face], distances[face], votes[owners[face]]) for face in chosen]


@given(
    st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.integers(1, 8)), min_size=1, max_size=60),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.5, 4.0]),
    st.integers(1, 4),
)
def test_the_vote_is_as_a_slow_one_says(faces: list[tuple[float, int]], k: int, limit: float, most: int) -> None:
    distances, owners = [distance for distance, _ in faces], [owner for _, owner in faces]
    found = rank_people(np.array(distances, np.float32), np.array(owners), k=k, limit=limit, most=most)
    assert found == rank_slowly(distances, owners, k, limit, most)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 3))
def test_the_nearest_faces_are_a_stable_beginning_of_all(levels: list[int], faces: int, people: int) -> None:
    distances = np.array(levels, np.float32)
    owners = np.arange(len(levels)) % 5
    order = nearest_faces(distances, owners, faces=faces, people=people)
    assert order.tolist() == np.argsort(distances, kind="stable")[: len(order)].tolist()
    assert len(order) >= min(faces, len(levels))
    assert len(np.unique(owners[order])) >= min(people, len(np.unique(owners)))


def test_of_many_faces_only_as_many_are_sorted_as_are_needed() -> None:
    distances = np.random.default_rng(0).permutation(1000).astype(np.float32)
    for faces, people, owners, count in (
        (1, 1, np.arange(1000), 4),
        (2, 3, np.arange(1000), 12),
        (3, 1, np.arange(1000), 12),
        (1, 2, np.arange(1000), 8),
        (1, 2, distances // 20, 32),
        (1, 2, np.zeros(1000, int), 1000),
    ):
        assert len(nearest_faces(distances, owners, faces=faces, people=people)) == count
    assert len(nearest_faces(distances[:4], np.arange(4), faces=1, people=1)) == 4


# The thresholds that a gallery keeps


def test_a_gallery_keeps_the_last_thresholds_that_were_written(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        database = gallery._db
        for kept in (None, toy.THRESHOLDS, replace(toy.THRESHOLDS, calibrated_on="more"), None):
            with database.write() as db:
                write_thresholds(db, kept)
            assert read_thresholds(database) == parse_thresholds(database, "calibration") == kept


@pytest.mark.parametrize("facts", ["", "{", "{}", "[]", json.dumps({**asdict(toy.THRESHOLDS), "far": [2.0]})])
def test_damaged_thresholds_are_told_with_the_gallery(tmp_path: Path, toy_recognizer: Recognizer, facts: str) -> None:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        with gallery._db.write() as db:
            db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", (facts,))
        with pytest.raises(GalleryFileError, match=r"people\.db.: damaged: the thresholds cannot be read"):
            read_thresholds(gallery._db)


def test_thresholds_are_what_was_written_and_nothing_is_none() -> None:
    assert decode_thresholds("people.db", json.dumps(asdict(toy.THRESHOLDS))) == toy.THRESHOLDS
    assert decode_thresholds("people.db", None) is None
