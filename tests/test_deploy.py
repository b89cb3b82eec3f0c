"""What docs/deploy.md shows can be used as it stands, as far as this machine can tell."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sameface.cli import main
from sameface.service.config import ServiceConfig
from sameface.service.server import GRACE_SECONDS

ROOT = Path(__file__).parent.parent
DEPLOY = (ROOT / "docs" / "deploy.md").read_text("utf-8")
CONTAINER = (ROOT / "Containerfile").read_text("utf-8").replace("\\\n", " ")


def block(language: str) -> str:
    """Return the one block of a language."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", DEPLOY, re.MULTILINE | re.DOTALL)
    return str(text)


def parse(words: list[str]) -> dict[str, object]:
    """Return what the command line understands of `sameface WORDS...`; an unknown option is an error."""
    context = click.Context(main, **main.context_settings)
    command = main.get_command(context, words[0])
    assert command is not None, words
    inner = command.make_context(words[0], words[1:], parent=context)
    if isinstance(command, click.Group):
        return parse_within(command, inner)
    return inner.params


def parse_within(group: click.Group, context: click.Context) -> dict[str, object]:
    """Return what a command of a group understands."""
    name, *rest = [*context._protected_args, *context.args]
    command = group.get_command(context, name)
    assert command is not None, name
    return command.make_context(name, rest, parent=context).params


def commands() -> list[str]:
    """Return every command line of ours on the page."""
    text = DEPLOY.replace("\\\n", " ")
    lines = [
        line for part in re.findall(r"^```(?:sh|ini)\n(.*?)^```$", text, re.M | re.S) for line in part.splitlines()
    ]
    found = [
        re.search(r"(?:^ExecStart=\S*|(?<=-- )\S*/|(?<=faces:/data )|^)sameface ((?:serve|keys) .*)", line)
        for line in lines
    ]
    return [match[1] for match in found if match is not None]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 3


@pytest.mark.parametrize("words", commands())
def test_every_command_is_one_that_the_program_takes(words: str) -> None:
    parse(shlex.split(words))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    place = str(Path(sys.executable).with_name("sameface"))
    unit = tmp_path / "sameface.service"
    unit.write_text(block("ini").replace("/opt/sameface/bin/sameface", place))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_lets_the_service_finish() -> None:
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", block("ini"), re.MULTILINE)
    assert int(seconds) > GRACE_SECONDS
    assert f"--stop-timeout {seconds}" in DEPLOY


def test_the_proxies_take_the_largest_request() -> None:
    largest = max(ServiceConfig().request_bytes, ServiceConfig().album_bytes)
    [size] = re.findall(r"client_max_body_size (\d+)m;", block("nginx"))
    assert int(size) * 2**20 >= largest
    [size] = re.findall(r"max_size (\d+)MB", DEPLOY)
    assert int(size) * 10**6 >= largest


def test_nginx_keeps_neither_pictures_nor_names() -> None:
    assert "proxy_request_buffering off;" in block("nginx")
    assert "access_log off;" in block("nginx")


def instructions() -> list[tuple[str, str]]:
    """Return keyword and words of every instruction of the container file."""
    lines = [line for line in CONTAINER.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_container_file_has_only_known_instructions_and_begins_with_one_image() -> None:
    known = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "VOLUME", "ENV", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert [name for name, _ in instructions()].count("FROM") == 1
    assert instructions()[0][0] == "FROM"


def test_the_container_file_copies_everything_that_the_package_is_built_of() -> None:
    copied = {path for name, words in instructions() if name == "COPY" for path in words.split()[:-1]}
    assert sorted(path for path in copied if not (ROOT / path).exists()) == []
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "src", "samples", "constraints.txt"} <= copied


def test_the_container_runs_without_root_and_its_words_are_ours() -> None:
    told = dict(instructions())
    assert told["USER"].isdecimal()
    assert json.loads(told["ENTRYPOINT"]) == ["sameface"]
    choices = parse(json.loads(told["CMD"]))
    assert choices["host"] == "0.0.0.0"
    assert json.loads(told["HEALTHCHECK"].removeprefix("CMD "))[0] == "python"


def test_the_programs_in_the_container_file_are_well_formed(tmp_path: Path) -> None:
    for name, words in instructions():
        if name == "RUN":
            subprocess.run(["sh", "-n", "-c", words], check=True)
    compile(json.loads(dict(instructions())["HEALTHCHECK"].removeprefix("CMD "))[2], "check", "exec")
