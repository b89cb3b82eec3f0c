"""What a run of the tests says of those it leaves out, and when that is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SKIPPED = """
import pytest

@pytest.mark.parametrize("number", range(3))
@pytest.mark.skipif(True, reason="needs {}")
def test_a(number): ...

def test_b(): ...
"""


def run_tests(folder: Path, needed: str, *words: str) -> tuple[int, str]:
    """Return exit code and output of pytest on three tests that skip and one that passes."""
    (folder / "test_it.py").write_text(SKIPPED.format(needed))
    command = [sys.executable, "-m", "pytest", "-p", "left_out", *words, "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_what_is_left_out_is_said_in_one_line(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, "Ray")
    assert code == 0
    assert [line for line in output.splitlines() if "Ray" in line] == ["Left out: 3 tests, needs Ray"]


@pytest.mark.parametrize(("needed", "code"), [("Ray", 1), ("a graphics card", 0), ("../shared/data", 0)])
def test_a_complete_run_leaves_out_only_what_needs_a_card_or_other_data(
    tmp_path: Path, needed: str, code: int
) -> None:
    assert run_tests(tmp_path, needed, "--complete", "-n", "1")[0] == code


def test_ci_installs_all_that_tests_are_skipped_without() -> None:
    script = (TESTS.parent / ".ci" / "run").read_text()
    assert "--group ci" in script
    assert "scripts/test --complete" in script
