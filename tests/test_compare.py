"""Comparing rows."""

from __future__ import annotations

import numpy as np
import pytest

from sameface.compare import Decision, exact_distances, squared_distances
from sameface.embed import unit_rows


def random_rows(count: int, width: int = 128, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32))


def test_distances_equal_the_sum_of_squared_differences():
    a, b = random_rows(7), random_rows(5, seed=1)
    slow = [[((x.astype(np.float64) - y) ** 2).sum() for y in b] for x in a]
    assert squared_distances(a, b) == pytest.approx(np.array(slow), abs=1e-5)


def test_a_row_is_at_zero_from_itself_and_at_four_from_its_opposite():
    rows = random_rows(50)
    distances = squared_distances(rows, np.concatenate([rows, -rows]))
    assert np.diag(distances).tolist() == pytest.approx([0] * 50, abs=1e-6)
    assert np.diag(distances[:, 50:]).tolist() == pytest.approx([4] * 50, abs=1e-6)


def test_rounding_never_takes_a_distance_out_of_its_range():
    rows = random_rows(300)
    distances = squared_distances(rows, np.concatenate([rows, -rows]))
    assert distances.min() >= 0
    assert distances.max() <= 4


def test_exact_distances_are_rounded_once_and_stay_in_their_range():
    rows = random_rows(50)
    slow = [2 - 2 * sum(float(x) * float(y) for x, y in zip(rows[0], row, strict=True)) for row in rows]
    found = exact_distances(rows[0], np.concatenate([rows, rows * np.float32(1.01), -rows * np.float32(1.01)]))
    assert found.dtype == np.float32
    assert found[:50] == pytest.approx(np.maximum(slow, 0), rel=1e-6, abs=1e-15)
    assert (found[50], found[100]) == (0, 4)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_rows_give_an_empty_table(n: int, m: int):
    assert squared_distances(random_rows(n), random_rows(m)).shape == (n, m)


def test_rows_of_two_widths_are_refused():
    with pytest.raises(ValueError, match=r"b must have shape \('n', 64\), got \(1, 128\)"):
        squared_distances(random_rows(1, 64), random_rows(1, 128))


def test_double_precision_is_refused():
    with pytest.raises(TypeError, match="a must be float32, got float64"):
        squared_distances(np.zeros((1, 2)), random_rows(1, 2))


def test_a_distance_on_the_threshold_is_the_same_person():
    assert Decision(distance=0.25, threshold=0.25, far=1e-3).same


def test_a_distance_just_over_the_threshold_is_another_person():
    assert not Decision(distance=np.nextafter(0.25, 1), threshold=0.25, far=1e-3).same


def test_rows_that_are_no_embeddings_are_not_compared():
    rows = random_rows(3, 8)
    rows[1] *= np.float32(1.3)
    with pytest.raises(ValueError, match=r"b must be finite and of length 1, row 1 has length 1\.3"):
        squared_distances(random_rows(2, 8), rows)
