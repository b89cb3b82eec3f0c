"""README.ko.md says the same as README.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text("utf-8")
KOREAN = (ROOT / "README.ko.md").read_text("utf-8")
BLOCK = re.compile(r"^(?:<!-- tested -->\n)?```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)]+)\)")
NUMBER = re.compile(r"\d(?:[\d,.]*\d)?(?:e-?\d+)?")


def sections(page: str) -> list[str]:
    """Return the parts of a page between its headings, without blocks of code and addresses."""
    return re.split(r"^## ", LINK.sub("]", BLOCK.sub("", page)), flags=re.MULTILINE)


def numbers(text: str) -> Counter[str]:
    """Return how often each number stands in a text."""
    return Counter(NUMBER.findall(text))


def test_the_blocks_of_code_are_the_same() -> None:
    assert len(BLOCK.findall(ENGLISH)) >= 3
    assert BLOCK.findall(KOREAN) == BLOCK.findall(ENGLISH)


def test_the_sections_are_as_many() -> None:
    assert len(sections(KOREAN)) == len(sections(ENGLISH)) > 5


@pytest.mark.parametrize("place", range(len(sections(ENGLISH))))
def test_the_figures_of_each_section_are_the_same(place: int) -> None:
    assert numbers(sections(KOREAN)[place]) == numbers(sections(ENGLISH)[place])


def test_the_links_lead_to_the_same_places() -> None:
    def places(page: str) -> set[str]:
        return set(LINK.findall(page)) - {"README.md", "README.ko.md"}

    assert places(KOREAN) == places(ENGLISH)
    assert [place for place in places(KOREAN) if not (ROOT / place).exists()] == []


def test_each_leads_to_the_other() -> None:
    assert "](README.ko.md)" in ENGLISH
    assert "](README.md)" in KOREAN


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("98.50 to 99.38)", ["98.50", "99.38"]),
        ("98.50~99.38", ["98.50", "99.38"]),
        ("FAR 1e-3, all 12,457,536 pairs.", ["1e-3", "12,457,536"]),
        ("500명을, 0.94e-2.", ["500", "0.94e-2"]),
    ],
)
def test_a_number_is_told_from_the_words_round_it(text: str, found: list[str]) -> None:
    assert NUMBER.findall(text) == found
