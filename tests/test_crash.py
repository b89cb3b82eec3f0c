"""A gallery under programs that are killed at random moments; `benchmarks/crash.py` does it 500 times."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import crash


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_after_twenty_kills_nothing_is_lost_and_nobody_comes_back(tmp_path):
    faults, counts = crash.run(20, tmp_path)
    assert faults == []
    assert min(counts["enroll"], counts["forget"], counts["merge"]) > 0


def test_a_person_who_is_missing_and_one_who_came_back_are_faults(tmp_path):
    path = tmp_path / "people.db"
    with crash.Gallery.open(path, crash.Pipeline()) as gallery:
        crash.take(gallery, ("enroll", "Rosa"))
        crash.take(gallery, ("enroll", "Ann"))
    assert crash.find_faults(path, [{"Ann": 2, "Rosa": 2}], set()) == []
    [wrong] = crash.find_faults(path, [{"Rosa": 2}, {"Bob": 2, "Rosa": 2}], set())
    assert wrong.startswith("enrolled are {'Ann': 2, 'Rosa': 2}")
    assert crash.find_faults(path, [{"Ann": 2, "Rosa": 2}], {"Rosa"}) == ["a trace of Rosa"]
