"""What an array must be before anything is done with it."""

from __future__ import annotations

import numpy as np
import pytest

from sameface.arrays import are_unit_rows, expect_shape, expect_unit_rows


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((3, 4), np.float32), ("n", 4)),
        (np.zeros((0, 4), np.float32), ("n", 4)),
        (np.zeros((1, 1), np.float32), ("n", "d")),
        (np.zeros((), np.float32), ()),
        (np.zeros((3, 4), np.float32)[::2, ::-1], (2, "d")),
    ],
)
def test_a_letter_is_any_size_and_a_number_just_that_one(array, shape):
    expect_shape("rows", array, shape, np.float32)


@pytest.mark.parametrize("given", [(4,), (3, 5), (1, 3, 4), (), (3, 0)])
def test_another_shape_is_refused_with_what_was_wanted_and_given(given):
    with pytest.raises(ValueError, match="must have shape") as caught:
        expect_shape("rows", np.zeros(given, np.float32), ("n", 4), np.float32)
    assert str(caught.value) == f"rows must have shape ('n', 4), got {given}"


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, bool])
def test_another_dtype_is_refused_with_what_was_wanted_and_given(dtype):
    with pytest.raises(TypeError, match=f"rows must be float32, got {np.dtype(dtype).name}"):
        expect_shape("rows", np.zeros((3, 4), dtype), ("n", 4), np.float32)


def test_a_big_endian_array_is_another_dtype():
    with pytest.raises(TypeError, match="rows must be float32, got >f4"):
        expect_shape("rows", np.zeros((3, 4), ">f4"), ("n", 4), np.float32)


@pytest.mark.parametrize("value", [[[1.0]], 1.0, None, "rows"])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(TypeError, match=f"rows must be a NumPy array, got {type(value).__name__}"):
        expect_shape("rows", value, ("n", "d"), np.float32)


@pytest.mark.parametrize(
    ("row", "usable"),
    [
        ([0.6, 0.8], True),
        ([0.0, 1.0009], True),
        ([0.0, -0.9991], True),
        ([0.0, 1.0011], False),
        ([0.0, 0.9989], False),
        ([0.0, 0.0], False),
        ([0.0, np.nan], False),
        ([1.0, np.inf], False),
        ([3e38, 3e38], False),
    ],
)
def test_a_unit_row_is_finite_and_has_length_1_within_a_thousandth(row: list[float], usable: bool) -> None:
    rows = np.array([[1, 0], row, [0, 1]], np.float32)
    assert are_unit_rows(rows).tolist() == [True, usable, True]
    assert are_unit_rows(np.empty((0, 2), np.float32)).tolist() == []


WRONG_ROWS = {
    "longer": (np.array([[1, 0], [1.3, 0]], np.float32), "row 1 has length 1.3"),
    "just too long": (np.array([[1.0011, 0]], np.float32), "row 0 has length 1.0011"),
    "zeros": (np.zeros((1, 2), np.float32), "row 0 has length 0"),
    "not a number": (np.array([[1, 0], [0, 1], [np.nan, 0]], np.float32), "row 2 has a number that is not"),
    "infinite": (np.array([[np.inf, 0]], np.float32), "row 0 has a number that is not finite"),
}


@pytest.mark.parametrize(("rows", "words"), WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_rows_that_are_no_embeddings_are_refused_by_number(rows, words):
    with pytest.raises(ValueError, match=words):
        expect_unit_rows("rows", rows)
