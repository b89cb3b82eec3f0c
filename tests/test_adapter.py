"""A map from one pipeline's rows to another's, and what pairs of the two are worth."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import toy

from sameface.adapter import Adapter, AdapterError, fit_adapter
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.pipelines import compare_pipelines, sample_people


def draw_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32))


def turn(width: int, wide: int) -> np.ndarray:
    """Return a rotation into a space at least as wide, `(width, wide) float32`."""
    square = np.linalg.qr(np.random.default_rng(1).normal(size=(wide, wide)))[0]
    return square[:width].astype(np.float32)


def fit(old: np.ndarray, new: np.ndarray, **more: float) -> Adapter:
    return fit_adapter(old, new, signatures=("v1", "v2"), **more)


@pytest.mark.parametrize("wide", [8, 12])
def test_a_rotation_is_found_exactly_and_holds_for_new_rows(wide: int) -> None:
    old = draw_rows(200, 8)
    adapter = fit(old, old @ turn(8, wide), ridge=1e-4)
    probes = draw_rows(20, 8, seed=2)
    np.testing.assert_allclose(adapter.move(probes), probes @ turn(8, wide), atol=1e-3)
    assert adapter.residual < 1e-6
    assert (adapter.source, adapter.target, adapter.pairs) == ("v1", "v2", 200)


def test_with_the_sides_exchanged_it_is_the_way_back() -> None:
    old = draw_rows(200, 8)
    new = old @ turn(8, 8)
    np.testing.assert_allclose(fit(new, old, ridge=1e-4).move(fit(old, new, ridge=1e-4).move(old)), old, atol=1e-3)


def test_the_fit_is_that_of_least_squares_with_a_pull_to_nothing() -> None:
    old, new = draw_rows(50, 4), draw_rows(50, 3, seed=5)
    stacked = np.vstack([old, np.sqrt(0.7) * np.eye(4)])
    wanted = np.linalg.lstsq(stacked, np.vstack([new, np.zeros((4, 3))]), rcond=None)[0]
    np.testing.assert_allclose(fit(old, new, ridge=0.7).matrix, wanted, atol=1e-5)


def test_moved_rows_have_length_1_and_none_are_none() -> None:
    adapter = fit(draw_rows(50, 4), draw_rows(50, 3, seed=5))
    np.testing.assert_allclose(np.linalg.norm(adapter.move(draw_rows(9, 4)), axis=1), 1, atol=1e-6)
    assert adapter.move(np.zeros((0, 4), np.float32)).shape == (0, 3)


@pytest.mark.parametrize(("count", "ridge", "hidden"), [(0, 1.0, 0), (5, 0.0, 0), (5, float("nan"), 0), (5, 1, -1)])
def test_nothing_to_fit_and_impossible_choices_are_refused(count: int, ridge: float, hidden: int) -> None:
    ones = np.ones((count, 2), np.float32)
    with pytest.raises(ValueError, match="a ridge over 0"):
        fit(ones, ones, ridge=ridge, hidden=hidden)


def test_bent_features_follow_what_no_linear_map_can() -> None:
    old, probes = draw_rows(3000, 4), draw_rows(500, 4, seed=2)
    linear, bent = (fit(old, unit_rows(np.abs(old)), hidden=hidden) for hidden in (0, 100))
    errors = [((one.move(probes) - unit_rows(np.abs(probes))) ** 2).sum(axis=1).mean() for one in (linear, bent)]
    assert errors[1] < errors[0] / 10
    assert bent.residual == pytest.approx(errors[1], rel=0.3)


def test_the_seed_draws_the_bent_features() -> None:
    old, new = draw_rows(50, 4), draw_rows(50, 3, seed=5)
    first, same, other = (fit(old, new, hidden=9, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.bends, same.bends)
    assert (first.bends != other.bends).any()
    assert first.matrix.shape == (13, 3)


def test_rows_of_another_width_are_refused() -> None:
    adapter = fit(draw_rows(50, 4), draw_rows(50, 3, seed=5))
    with pytest.raises(ValueError, match=r"\('n', 4\)"):
        adapter.move(draw_rows(2, 3))


def test_an_adapter_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    adapter = fit(draw_rows(50, 4), draw_rows(50, 3, seed=5), hidden=7).calibrated(toy.THRESHOLDS)
    adapter.save(tmp_path / "a.npz")
    loaded = Adapter.load(tmp_path / "a.npz")
    for array in ("matrix", "bends", "offsets"):
        np.testing.assert_array_equal(getattr(loaded, array), getattr(adapter, array))
    for fact in ("source", "target", "pairs", "residual", "thresholds"):
        assert getattr(loaded, fact) == getattr(adapter, fact)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_without_thresholds_it_comes_back_without(tmp_path: Path) -> None:
    fit(draw_rows(50, 4), draw_rows(50, 3, seed=5)).save(tmp_path / "a.npz")
    assert Adapter.load(tmp_path / "a.npz").thresholds is None


def test_files_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    fit(draw_rows(50, 4), draw_rows(50, 3, seed=5)).save(good)
    cut, text, pickled, bare, other, broken = (tmp_path / f"{name}.npz" for name in "abcdef")
    cut.write_bytes(good.read_bytes()[:-40])
    text.write_text("no adapter")
    np.savez(pickled, matrix=np.array([{}], object), facts=np.array("{}"))
    np.savez(bare, matrix=np.ones((2, 2), np.float32))
    np.savez(other, matrix=np.ones((2, 2), np.float32), facts=np.array('{"kind": "something else"}'))
    with np.load(good) as file:
        np.savez(broken, **{**file, "matrix": np.full((4, 3), np.nan, np.float32)})
    for path in (cut, text, pickled, bare, other, broken):
        with pytest.raises(AdapterError, match="not an adapter, or damaged"):
            Adapter.load(path)
    with pytest.raises(AdapterError, match="no such file"):
        Adapter.load(tmp_path / "missing.npz")


def cluster_rows(people: int, pictures: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    person = np.repeat(np.arange(people), pictures)
    noise = np.random.default_rng(3).normal(size=(len(person), 6)) * spread
    return unit_rows((draw_rows(people, 6)[person] + noise).astype(np.float32)), person


def test_an_adapter_that_claims_more_than_fits_into_memory_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name in ("matrix", "bends", "offsets"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117) + b"\n")
    with pytest.raises(AdapterError, match="not an adapter"):
        Adapter.load(tmp_path / "a.npz")


@pytest.mark.parametrize(("place", "value"), [(4, 255), (6, 1), (8, 99)])
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "a.npz"
    fit(draw_rows(50, 4), draw_rows(50, 3, seed=5)).save(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02") + 2  # of the first entry in the list at the end, which has 2 bytes more
    data[start + place] = value  # the version that it needs, its flags, its compression
    path.write_bytes(data)
    with pytest.raises(AdapterError, match="not an adapter"):
        Adapter.load(path)


def test_an_adapter_whose_facts_are_made_to_break_their_reader_is_refused(tmp_path: Path) -> None:
    nothing = np.zeros((0, 0), np.float32)
    facts = np.array("[" * 100_000)
    np.savez(tmp_path / "a.npz", matrix=nothing, bends=nothing, offsets=np.zeros(0, np.float32), facts=facts)
    with pytest.raises(AdapterError, match="not an adapter"):
        Adapter.load(tmp_path / "a.npz")


def test_pairs_of_two_pipelines_are_counted_as_by_hand() -> None:
    probes, person = cluster_rows(12, 4, 0.2)
    enrolled, _ = cluster_rows(12, 4, 0.4)
    pairing = compare_pipelines(probes, enrolled, person)
    distances = squared_distances(probes, enrolled)
    same = person[:, None] == person[None, :]
    impostors = np.sort(distances[~same])
    assert (pairing.genuine, pairing.impostors) == (12 * 4 * 3, len(impostors))
    limit = impostors[int(0.1 * len(impostors))]
    genuine = distances[same & ~np.eye(len(person), dtype=bool)]
    assert pairing.val(0.1) == pytest.approx((genuine < limit).mean(), abs=0.02)
    thresholds = pairing.thresholds("rows")
    assert thresholds.at(0.1) == pytest.approx(limit, rel=1e-3)
    assert thresholds.at(0.1) < limit
    assert thresholds.pairs[0] == (impostors <= thresholds.at(0.1)).sum() <= 0.1 * len(impostors)


def test_a_rate_that_too_few_pairs_stand_behind_is_refused() -> None:
    rows, person = cluster_rows(4, 3, 0.1)
    pairing = compare_pipelines(rows, rows, person)
    with pytest.raises(TooFewPairsError):
        pairing.val(1e-2)
    with pytest.raises(TooFewPairsError):
        pairing.thresholds("rows")


def test_people_with_one_picture_each_have_no_val() -> None:
    rows, person = cluster_rows(40, 1, 0.1)
    with pytest.raises(TooFewPairsError):
        compare_pipelines(rows, rows, person).val(0.1)


def test_people_are_held_out_whole() -> None:
    person = np.repeat(np.arange(50), 3)
    held = sample_people(person, part=0.1, seed=0)
    assert held.sum() == 15
    assert not set(person[held]) & set(person[~held])
    assert (sample_people(person, part=0.1, seed=1) != held).any()
    assert sample_people(np.repeat(np.arange(3), 2), part=0.1, seed=0).sum() == 4
