"""The pages in docs/ say what the program does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sameface.cli import COMMANDS

ROOT = Path(__file__).parent.parent
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")


@pytest.fixture(scope="module")
def writer(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    """The program that writes the help into docs/cli.md."""
    return load_tool("write_cli_docs")


def section(command: str) -> str:
    """Return the part of docs/cli.md under the heading of a command."""
    return re.split(r"^## ", CLI.partition(f"\n## {command}\n")[2], flags=re.MULTILINE)[0]


def test_the_help_in_the_docs_is_that_of_the_program(writer: ModuleType) -> None:
    assert writer.fill(CLI) == CLI, "run: python tools/write_cli_docs.py"


def test_a_block_of_help_is_replaced_and_the_words_round_it_stay(writer: ModuleType) -> None:
    page = "before\n<!-- help: sameface people -->\n```text\nold\n\nhelp\n```\nafter\n```text\nold\n```\n"
    filled = writer.fill(page)
    assert filled.startswith("before\n<!-- help: sameface people -->\n```text\nUsage: sameface people [OPTIONS]\n")
    assert filled.endswith("```\nafter\n```text\nold\n```\n")
    assert writer.fill(filled) == filled


def test_help_for_an_unknown_command_is_an_error(writer: ModuleType) -> None:
    with pytest.raises(ValueError, match="no help for"):
        writer.help_of(["recognise"])


def test_the_commands_stand_in_the_docs_in_the_order_of_the_table() -> None:
    assert re.findall(r"^## (.+)$", CLI, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_words_an_example_and_its_help(command: str) -> None:
    words, _, rest = section(command).partition("```sh\n")
    assert len(words.split()) >= 10
    assert f"sameface {command}" in rest.partition("```")[0]
    assert f"<!-- help: sameface {command} -->\n```text\nUsage: sameface {command} " in rest


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_test_that_the_threats_name_is_there() -> None:
    parts = re.split(r"`(test_\w+\.py)`", (ROOT / "docs" / "threats.md").read_text("utf-8"))
    named = {
        (file, test)
        for file, text in zip(parts[1::2], parts[2::2], strict=True)
        for test in re.findall(r"`(test_\w+)`", text)
    }
    assert len(named) > 20
    sources = {file: (ROOT / "tests" / file).read_text("utf-8") for file, _ in named}
    assert [(file, test) for file, test in sorted(named) if f"def {test}(" not in sources[file]] == []
