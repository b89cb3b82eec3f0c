"""Identification: votes, CMC and open set against the gallery's own rule and obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.compare import squared_distances
from sameface.evaluation import ranking as ranking_module
from sameface.evaluation.identification import (
    FPIRS,
    RANKS,
    VOTERS,
    detect_at_fpir,
    draw_detections,
    draw_limits,
    draw_parts,
    evaluate_identification,
    make_open_curve,
    match_rates,
    right_at,
    right_rate,
    thin_curve,
)
from sameface.evaluation.ranking import STRANGER, GallerySplit, Ranking, rank_probes, split_gallery
from sameface.gallery.decision import rank_people

# The corners of a cross: few different distances, so that ties are the rule.
CORNERS = np.vstack([np.eye(3), -np.eye(3)]).astype(np.float32)
WORLDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=0, max_size=30)


def toy_rows(world):
    corners = np.array([corner for corner, _ in world], np.int64)
    return CORNERS[corners].reshape(-1, 3), np.array([person for _, person in world], np.int64)


def random_rows(people=30, pictures=6, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(people), pictures)
    rows = rng.normal(size=(people, 8))[owners] + spread * rng.normal(size=(len(owners), 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), owners


def draw_split(owners, seed, per_person=1, enrolled=None):
    rng = np.random.default_rng(seed)
    most = int((np.unique(owners, return_counts=True)[1] > per_person).sum())
    wanted = int(rng.integers(most + 1)) if enrolled is None else enrolled
    return split_gallery(owners, enrolled=wanted, per_person=per_person, rng=rng)


def ask_the_gallery(rows, owners, split, k, limit):
    """Return whom the gallery's own rule names for each probe, -1 for nobody."""
    names = []
    for distances in squared_distances(rows[split.probes], rows[split.gallery]):
        if not len(distances):
            names.append(STRANGER)
            continue
        ranked = rank_people(distances, owners[split.gallery], k=k, limit=limit, most=1)
        person, _, votes = max(ranked, key=lambda match: (match[2], -match[1]))
        names.append(person if votes else STRANGER)
    return np.array(names, np.int64)


def rates_slowly(rows, owners, split, k, limit):
    """Return FPIR and FNIR by asking the gallery about each probe."""
    named = ask_the_gallery(rows, owners, split, k, limit)
    truth = owners[split.probes]
    known = np.isin(truth, owners[split.gallery])
    return (named[~known] != STRANGER).mean(), (named[known] != truth[known]).mean()


@settings(deadline=None)
@given(WORLDS, st.integers(0, 99), st.integers(1, 3), st.sampled_from(VOTERS))
def test_the_votes_are_those_of_the_gallery(world, seed, per_person, k):
    rows, owners = toy_rows(world)
    split = draw_split(owners, seed, per_person)
    found = rank_probes(rows, owners, split, faces=5)
    _, numbers = np.unique(owners, return_inverse=True)
    assert found.named[:, k - 1].tolist() == ask_the_gallery(rows, numbers, split, k, 4.0).tolist()


@settings(deadline=None)
@given(WORLDS, st.integers(0, 99), st.integers(1, 3))
def test_the_rank_counts_everyone_who_is_at_least_as_near(world, seed, per_person):
    rows, owners = toy_rows(world)
    split = draw_split(owners, seed, per_person)
    found = rank_probes(rows, owners, split, faces=1)
    for probe, rank in zip(split.probes, found.rank, strict=True):
        enrolled = {person: [] for person in owners[split.gallery]}
        for face in split.gallery:
            enrolled[owners[face]].append(float(squared_distances(rows[[probe]], rows[[face]])[0, 0]))
        own = min(enrolled.get(owners[probe], [-1.0]))
        assert rank == sum(min(distances) <= own for distances in enrolled.values())


@settings(deadline=None)
@given(WORLDS, st.integers(0, 99), st.integers(1, 3), st.sampled_from(VOTERS))
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_both_errors_are_those_of_asking_the_gallery_at_each_threshold(world, seed, per_person, k):
    rows, owners = toy_rows(world)
    split = draw_split(owners, seed, per_person)
    curve = make_open_curve([rank_probes(rows, owners, split, faces=5)], voters=k)
    assert curve.threshold[0] == -1
    for threshold, *rates in zip(curve.threshold, curve.fpir, curve.fnir, strict=True):
        assert rates == pytest.approx(rates_slowly(rows, owners, split, k, threshold), nan_ok=True)


@pytest.mark.parametrize("k", VOTERS)
def test_both_errors_of_people_who_are_hard_to_tell_apart(k):
    rows, owners = random_rows(spread=0.8)
    split = draw_split(owners, 0, per_person=3, enrolled=15)
    curve = make_open_curve([rank_probes(rows, owners, split, faces=5)], voters=k)
    assert len(np.unique(curve.fnir)) > 10
    for place in range(0, len(curve.threshold), 7):
        wanted = rates_slowly(rows, owners, split, k, curve.threshold[place])
        assert (curve.fpir[place], curve.fnir[place]) == pytest.approx(wanted)


def test_blocks_change_nothing(monkeypatch):
    rows, owners = random_rows()
    split = draw_split(owners, 1, enrolled=10)
    whole = rank_probes(rows, owners, split, faces=5)
    monkeypatch.setattr(ranking_module, "BLOCK", 70)  # seven probes at a time
    parts = rank_probes(rows, owners, split, faces=5)
    assert (whole.rank == parts.rank).all()
    assert (whole.named == parts.named).all()
    assert whole.distance == pytest.approx(parts.distance, abs=1e-6)


def test_a_split_enrolls_so_many_pictures_of_so_many_people_and_searches_for_all_others():
    owners = np.array(["b", "a", "c", "a", "b", "a", "b", "c"])
    split = split_gallery(owners, enrolled=1, per_person=2, rng=np.random.default_rng(0))
    assert len(split.gallery) == 2
    assert len(set(owners[split.gallery])) == 1
    assert owners[split.gallery[0]] in {"a", "b"}  # c has no third picture to be searched for
    assert sorted([*split.gallery, *split.probes]) == list(range(8))


def test_the_choice_of_people_and_pictures_follows_the_seed():
    _, owners = random_rows()
    first, again, other = (draw_split(owners, seed, enrolled=10) for seed in (0, 0, 1))
    assert first.gallery.tolist() == again.gallery.tolist()
    assert set(owners[first.gallery]) != set(owners[other.gallery])
    pictures = {int(picture % 6) for picture in first.gallery}
    assert len(pictures) > 1  # not always the first picture


def test_more_people_than_have_pictures_are_refused():
    with pytest.raises(ValueError, match="3 people cannot be enrolled: 2 have more than 1 picture"):
        split_gallery(["a", "a", "b", "b", "c"], enrolled=3, per_person=1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="per_person must be 1 or more"):
        split_gallery(["a", "a"], enrolled=1, per_person=0, rng=np.random.default_rng(0))


def test_a_gallery_whose_people_are_mixed_is_refused():
    rows, _ = toy_rows([(0, 0)] * 4)
    with pytest.raises(ValueError, match="must stand together"):
        rank_probes(rows, [0, 1, 0, 1], GallerySplit(np.array([0, 1, 2]), np.array([3])), faces=1)


def test_the_cmc_counts_ranks_up_to_each():
    ranks = np.array([1, 3, 0, 1, 9, 2])
    truth = np.where(ranks == 0, STRANGER, 7)
    found = Ranking(np.full(6, 7), truth, ranks, np.zeros((6, 1)), np.full((6, 1), 7))
    assert match_rates(found, 4).tolist() == [0.4, 0.6, 0.8, 0.8]


def test_with_everyone_at_one_point_the_worst_place_is_taken():
    rows = np.repeat(CORNERS[:1], 6, axis=0)
    people = [0, 0, 1, 1, 2, 2]
    found = rank_probes(rows, people, GallerySplit(np.array([0, 2, 4]), np.array([1, 3, 5])), faces=1)
    assert found.rank.tolist() == [3, 3, 3]
    assert match_rates(found, 3).tolist() == [0, 0, 1]


def test_people_who_are_all_different_are_always_right():
    rows = np.repeat(CORNERS[:3], 2, axis=0)
    found = rank_probes(rows, [0, 0, 1, 1, 2, 2], GallerySplit(np.array([0, 2]), np.array([1, 3, 4, 5])), faces=5)
    assert match_rates(found, 1).tolist() == [1]
    assert right_rate(found, 1) == 1
    curve = make_open_curve([found], voters=1)
    assert curve.threshold.tolist() == [-1, 0, 2]
    assert curve.fnir.tolist() == [1, 0, 0]
    assert curve.fpir.tolist() == [0, 0, 1]  # both strangers are 2 away from everyone
    assert detect_at_fpir(curve, 0.5) == (1, 0)


def test_a_stranger_on_the_threshold_is_named():
    rows = CORNERS[[0, 0, 0, 1]]
    found = rank_probes(rows, [0, 0, 1, 2], GallerySplit(np.array([0]), np.array([1, 2, 3])), faces=1)
    curve = make_open_curve([found], voters=1)
    assert curve.fpir.tolist() == [0, 0.5, 1]
    # Distance 0 holds the enrolled probe and one of two strangers: both are accepted or neither.
    assert detect_at_fpir(curve, 0.5) == (1, 0)
    assert detect_at_fpir(curve, 0.99) == (1, 0)
    assert detect_at_fpir(curve, 0.49) is None


def test_more_votes_can_take_a_right_answer_away():
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [1, 0]], np.float32)
    found = rank_probes(rows, [0, 1, 1, 0], GallerySplit(np.array([0, 1, 2]), np.array([3])), faces=5)
    curve = make_open_curve([found], voters=3)
    assert curve.threshold == pytest.approx([-1, 0, 0.4, 0.8])
    assert curve.fnir.tolist() == [1, 0, 0, 1]
    assert right_rate(found, 1) == 1
    assert right_rate(found, 3) == 0


def test_a_rate_that_the_strangers_do_not_support_is_not_extrapolated():
    rows, owners = random_rows(people=20, pictures=10)
    split = draw_split(owners, 0, enrolled=10)
    curve = make_open_curve([rank_probes(rows, owners, split, faces=1)], voters=1)
    assert curve.strangers == 100
    assert detect_at_fpir(curve, 1e-2) is not None
    assert detect_at_fpir(curve, 1e-3) is None


def test_dir_is_the_best_at_the_largest_threshold_that_keeps_the_rate():
    rows, owners = random_rows(spread=0.7)
    curve = make_open_curve([rank_probes(rows, owners, draw_split(owners, 0, enrolled=15), faces=1)], voters=1)
    rate, threshold = detect_at_fpir(curve, 0.1)
    kept = [place for place in range(len(curve.threshold)) if curve.fpir[place] <= 0.1]
    assert threshold == curve.threshold[kept[-1]]
    assert rate == 1 - curve.fnir[kept[-1]]
    assert 0 < rate < 1


def test_no_strangers_have_no_rate():
    rows, owners = random_rows(people=5)
    curve = make_open_curve([rank_probes(rows, owners, draw_split(owners, 0, enrolled=5), faces=1)], voters=1)
    assert curve.strangers == 0
    assert np.isnan(curve.fpir).all()
    assert not np.isnan(curve.fnir).any()
    assert detect_at_fpir(curve, 0.1) is None


def test_an_empty_gallery_names_nobody():
    rows, owners = random_rows(people=3)
    found = rank_probes(rows, owners, draw_split(owners, 0, enrolled=0), faces=5)
    assert (found.named == STRANGER).all()
    curve = make_open_curve([found], voters=3)
    assert (curve.threshold.tolist(), curve.fpir.tolist()) == ([-1], [0])
    assert np.isnan(right_rate(found, 1))
    assert np.isnan(match_rates(found, 3)).all()


def test_no_pictures_and_one_probe():
    nothing = rank_probes(np.zeros((0, 3), np.float32), [], draw_split([], 0, enrolled=0), faces=5)
    assert len(nothing.rank) == 0
    assert np.isnan(make_open_curve([nothing], voters=1).fnir).all()
    one = rank_probes(CORNERS[[0, 0]], ["a", "a"], draw_split(["a", "a"], 0, enrolled=1), faces=5)
    assert one.rank.tolist() == [1]
    assert match_rates(one, 2).tolist() == [1, 1]


def test_a_thinned_curve_lies_on_the_curve():
    rows, owners = random_rows(people=60, pictures=8)
    curve = make_open_curve([rank_probes(rows, owners, draw_split(owners, 0, enrolled=30), faces=1)], voters=1)
    thin = thin_curve(curve, 50)
    assert len(thin.threshold) == 50
    for threshold, fpir, fnir in zip(thin.threshold, thin.fpir, thin.fnir, strict=True):
        place = np.flatnonzero(curve.threshold <= threshold)[-1]
        assert (fpir, fnir) == (curve.fpir[place], curve.fnir[place])
    assert thin_curve(curve, 10_000) is curve


def test_means_and_errors_are_those_of_single_galleries():
    rows, owners = random_rows(people=40, pictures=8, spread=0.8)
    [result] = evaluate_identification(rows, owners, sizes=[20], per_person=2, seeds=[3, 4, 5])
    splits = [split_gallery(owners, enrolled=20, per_person=2, rng=np.random.default_rng(seed)) for seed in (3, 4, 5)]
    rankings = [rank_probes(rows, owners, split, faces=5) for split in splits]
    single = np.array([match_rates(found) for found in rankings])
    assert result.cmc == pytest.approx(single.mean(axis=0))
    assert result.cmc_error == pytest.approx(single.std(axis=0, ddof=1) / np.sqrt(3))
    assert (result.known, result.strangers) == (3 * 20 * 6, 3 * 20 * 8)
    for vote in result.votes:
        right = [right_rate(found, vote.voters) for found in rankings]
        assert vote.right.value == pytest.approx(np.mean(right))
        curves = [make_open_curve([found], voters=vote.voters) for found in rankings]
        held = [detect_at_fpir(curve, 0.1) for curve in curves]
        assert vote.detections[0].dir.value == pytest.approx(np.mean([rate for rate, _ in held]))
        assert vote.detections[0].threshold == pytest.approx(np.mean([place for _, place in held]))
        assert [found.fpir for found in vote.detections] == list(FPIRS)
        assert vote.detections[2].dir is None  # 160 strangers a gallery
        assert vote.curve.strangers == result.strangers
    assert [vote.voters for vote in result.votes] == [1, 3, 5]


def repeat_people(found, draw):
    """Return the ranking with every probe as often as its person was drawn."""
    copies = np.repeat(np.arange(len(found.truth)), draw[found.person])
    return Ranking(*(getattr(found, name)[copies] for name in ("person", "truth", "rank", "distance", "named")))


@pytest.mark.parametrize("corners", [True, False], ids=["ties", "random"])
@pytest.mark.parametrize("voters", VOTERS)
def test_a_draw_of_people_counts_their_probes_as_often_as_they_were_drawn(voters, corners):
    rows, owners = random_rows(people=30, pictures=5, spread=0.9)
    if corners:
        rows, owners = toy_rows([(n * n % 6, n // 5) for n in range(150)])
    found = rank_probes(rows, owners, draw_split(owners, 0, per_person=2, enrolled=12), faces=5)
    draws = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20)
    fpirs = (0.1, 0.3)
    limits = draw_limits(found, draws, fpirs)
    dirs = draw_detections(found, draws, limits, voters=voters)
    flags = [found.rank <= rank for rank in range(1, RANKS + 1)] + [right_at(found, voters, np.inf)]
    parts = draw_parts(found, flags, draws)
    for draw, own_dirs, own_parts in zip(draws, dirs, parts, strict=True):
        repeated = repeat_people(found, draw)
        curve = make_open_curve([repeated], voters=voters)
        assert own_dirs == pytest.approx([detect_at_fpir(curve, fpir)[0] for fpir in fpirs])
        assert own_parts[:-1] == pytest.approx(match_rates(repeated))
        assert own_parts[-1] == pytest.approx(right_rate(repeated, voters))


def test_blocks_of_draws_change_nothing(monkeypatch):
    rows, owners = random_rows()
    found = rank_probes(rows, owners, draw_split(owners, 0, enrolled=12), faces=5)
    draws = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20)
    limits = draw_limits(found, draws, FPIRS)
    dirs = draw_detections(found, draws, limits, voters=3)
    monkeypatch.setattr("sameface.evaluation.identification.BLOCK", 300)
    assert (draw_limits(found, draws, FPIRS) == limits).all()
    assert (draw_detections(found, draws, limits, voters=3) == dirs).all()


def test_a_draw_without_strangers_or_without_enrolled_has_no_rate():
    rows, owners = random_rows(people=4)
    found = rank_probes(rows, owners, draw_split(owners, 0, enrolled=2), faces=1)
    enrolled = np.isin(np.arange(4), found.truth)
    draws = np.array([4 * enrolled, 4 * ~enrolled])
    limits = draw_limits(found, draws, [0.5])
    assert np.isnan(limits).tolist() == [[True], [False]]
    assert np.isnan(draw_detections(found, draws, limits, voters=1)).all()
    assert np.isnan(draw_parts(found, [found.rank == 1], draws)).tolist() == [[False], [True]]


def test_the_interval_of_rank_one_is_that_of_people_who_come_by():
    rows, owners = random_rows(people=100, pictures=4, spread=1.0)
    [result] = evaluate_identification(rows, owners, sizes=[80], seeds=[0], repeats=2000)
    right, whole = result.by_person["rank 1"].T
    part = (right[whole > 0] / whole[whole > 0]).mean()
    error = (right[whole > 0] / whole[whole > 0]).std() / np.sqrt((whole > 0).sum())
    assert result.cmc[0] == pytest.approx(part)
    assert result.cmc_interval[0] == pytest.approx([part - 1.96 * error, part + 1.96 * error], abs=0.01)


def test_the_counts_by_person_add_up_to_the_rates():
    rows, owners = random_rows(people=40, pictures=8, spread=0.8)
    [result] = evaluate_identification(rows, owners, sizes=[20], per_person=2, seeds=[3, 4], repeats=2)
    for vote in result.votes:
        right, whole = result.by_person[f"DIR at FPIR 0.1, k = {vote.voters}"].sum(axis=0)
        assert whole == result.known
        assert right / whole == pytest.approx(vote.detections[0].dir.value)
    assert "DIR at FPIR 0.001, k = 1" not in result.by_person  # 160 strangers a gallery


def test_a_larger_gallery_is_harder():
    rows, owners = random_rows(people=100, pictures=4, spread=0.8)
    small, large = evaluate_identification(rows, owners, sizes=[5, 80], seeds=range(5))
    assert small.cmc[0] > large.cmc[0] + 0.1
    assert (small.enrolled, large.enrolled, large.faces) == (5, 80, 1)


def test_no_seed_is_refused():
    with pytest.raises(ValueError, match="one seed"):
        evaluate_identification(np.zeros((0, 3), np.float32), [], sizes=[0], seeds=[])
