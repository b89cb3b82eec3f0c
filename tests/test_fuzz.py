"""Damaged files of every kind that comes from outside: each is read, or refused by one of our errors.

`benchmarks/fuzz.py` reads hundreds of thousands of them, watched for hangs and memory; here are a few.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))  # the damage is done by what the long runs do it with

from fuzzing.child import make_case  # noqa: E402
from fuzzing.targets import TARGETS, Pictures, Target  # noqa: E402
from sameface.errors import SamefaceError  # noqa: E402

EXAMPLES = {"pictures": 120}  # the others take 40


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    return {name: make() for name, make in TARGETS.items()}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused_by_one_of_our_errors(name, targets, tmp_path_factory):
    target = targets[name]

    @settings(max_examples=EXAMPLES.get(name, 40), suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, 10**9))
    def read(number: int) -> None:
        kind, data = make_case(target, number)
        try:
            assert target.use(kind, data, tmp_path_factory.mktemp("case"))
        except SamefaceError as error:
            assert str(error)

    read()


def test_the_pictures_to_start_from_are_of_every_format_and_can_all_be_read(targets, tmp_path):
    pictures = targets["pictures"]
    assert isinstance(pictures, Pictures)
    kinds = {"JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "HEIF"}
    assert {seed.kind for seed in pictures.seeds} == kinds
    read = [pictures.use(seed.kind, seed.data, tmp_path) for seed in pictures.seeds]
    assert read.count("read, faces found") > 40


def test_a_case_is_the_same_every_time(targets):
    for name, target in targets.items():
        assert make_case(target, 7) == make_case(target, 7), name


@pytest.mark.slow
def test_the_program_counts_every_file_and_says_what_failed(tmp_path):
    command = [sys.executable, BENCHMARKS / "fuzz.py", "lists", "--cases", "20", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 files, 0 failures" in done.stdout
