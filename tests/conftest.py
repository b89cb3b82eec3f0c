"""What the tests share: the shipped weights, the sample photographs, and the toy world of `toy.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from sameface.recognizer import Recognizer

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    """The shipped weights."""
    return Recognizer.load()


@pytest.fixture(scope="session")
def samples() -> dict[str, Path]:
    """The sample photographs by the stem of their name."""
    return {path.stem: path for path in sorted((ROOT / "samples").glob("*.jpg"))}


@pytest.fixture(scope="session")
def toy_recognizer() -> Recognizer:
    """A recognizer of the toy world: coloured squares."""
    return toy.make_recognizer()
