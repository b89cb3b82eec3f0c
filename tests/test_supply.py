"""Hashes of what the scripts install, and advisories about it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PARTS = ("core", "dev", "ci", "others")


@pytest.fixture(scope="module")
def writer(load_tool) -> ModuleType:
    return load_tool("write_locks")


@pytest.fixture(scope="module")
def checker(load_tool) -> ModuleType:
    return load_tool("check_advisories")


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """What constraints.txt pins, by normal name."""
    lines = [line.split("==") for line in (ROOT / "constraints.txt").read_text().split()]
    return {canonicalize_name(name): version for name, version in lines}


def read_lock(part: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of every package of a lock, by normal name."""
    text = (ROOT / "locks" / f"{part}.txt").read_text().replace("\\\n", " ")
    rows = [line.split() for line in text.splitlines() if "==" in line]
    return {canonicalize_name(pin.partition("==")[0]): (pin.partition("==")[2], hashes) for pin, *hashes in rows}


def test_every_pinned_package_is_locked_once_in_the_version_that_is_pinned(pins: dict[str, str]) -> None:
    locks = [read_lock(part) for part in PARTS]
    locked = {name: version for lock in locks for name, (version, _) in lock.items()}
    assert sum(map(len, locks)) == len(locked)
    assert locked == {name: version for name, version in pins.items() if name != "torch"}


@pytest.mark.parametrize("part", PARTS)
def test_every_locked_package_has_hashes(part: str) -> None:
    for name, (_, hashes) in read_lock(part).items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
        assert hashes == sorted(set(hashes)), name


def test_all_that_the_core_and_its_build_ask_for_is_in_the_lock_of_the_core() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], "pip"]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= set(read_lock("core"))


def test_all_that_the_checks_ask_for_but_pytorch_is_in_their_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {canonicalize_name(Requirement(line).name) for line in project["dependency-groups"]["dev"]}
    assert wanted - {"torch"} <= set(read_lock("core")) | set(read_lock("dev"))
    assert "\n-r core.txt\n" in (ROOT / "locks" / "dev.txt").read_text()


def test_no_address_of_an_index_is_in_a_lock() -> None:
    assert [part for part in PARTS if "://" in (ROOT / "locks" / f"{part}.txt").read_text()] == []


def test_a_wheel_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """pip itself is asked, with what scripts/environment gives it."""
    wheel = tmp_path / "fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("fake-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
        file.writestr("fake-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("fake-1.0.dist-info/RECORD", "")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"fake==1.0 --hash=sha256:{'0' * 64}\n")
    options = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(lock)]
    assert " ".join(options[:3]) in (ROOT / "scripts" / "environment").read_text()
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path)]
    done = subprocess.run(
        [*command, "--target", str(tmp_path / "site"), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "site").exists()


def test_what_a_group_needs_is_asked_for_with_the_build(writer: ModuleType) -> None:
    project = {
        "build-system": {"requires": ["hatchling"]},
        "project": {"dependencies": ["numpy"]},
        "dependency-groups": {"dev": ["ruff"]},
    }
    assert writer.needs_of(project) == ["pip", "editables", "hatchling", "numpy"]
    assert writer.needs_of(project, "dev")[-1] == "ruff"


def test_a_pin_is_read_by_its_normal_name(writer: ModuleType) -> None:
    assert writer.read_pins("Jinja2==3.1.6\nml_dtypes==0.6.0\n") == {
        "jinja2": ("Jinja2", "3.1.6"),
        "ml-dtypes": ("ml_dtypes", "0.6.0"),
    }


def advisory(name: str = "Pillow", *, ecosystem: str = "PyPI", **affected: Any) -> dict[str, Any]:
    """Return an advisory as OSV has it."""
    return {
        "schema_version": "1.6.0",
        "id": "GHSA-xxxx-0000-0001",
        "aliases": ["CVE-2099-0001"],
        "modified": "2026-10-01T00:00:00Z",
        "summary": "Something\n overflows",
        "affected": [{"package": {"ecosystem": ecosystem, "name": name}, **affected}],
    }


def span(**events: str) -> dict[str, Any]:
    """Return a range between events."""
    return {"type": "ECOSYSTEM", "events": [{kind: version} for kind, version in events.items()]}


PILLOW = {"pillow": "10.2.0"}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ({"introduced": "0"}, True),
        ({"introduced": "0", "fixed": "10.2.0"}, False),
        ({"introduced": "0", "fixed": "10.2.1"}, True),
        ({"fixed": "10.10", "introduced": "10.2.0"}, True),
        ({"introduced": "10.2.0rc1", "last_affected": "10.2.0"}, True),
        ({"introduced": "0", "last_affected": "10.1.9"}, False),
        ({"introduced": "10.3"}, False),
        ({"introduced": "0", "limit": "9"}, False),
        ({"introduced": "a commit", "fixed": "another"}, True),
    ],
)
def test_a_version_in_a_range_is_found(checker: ModuleType, events: dict[str, str], found: bool) -> None:
    assert bool(checker.find_weaknesses(PILLOW, [advisory(ranges=[span(**events)])])) is found


def test_a_weakness_that_came_back_is_found(checker: ModuleType) -> None:
    events = [{"introduced": "0"}, {"fixed": "9"}, {"introduced": "10"}, {"fixed": "11"}]
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    assert checker.find_weaknesses({"pillow": "9.5"}, [advisory(ranges=ranges)]) == []
    [weakness] = checker.find_weaknesses(PILLOW, [advisory(ranges=ranges)])
    assert weakness.fixed == ("9", "11")


def test_a_version_that_is_listed_is_found_and_told_with_the_way_out(checker: ModuleType) -> None:
    given = advisory(versions=["10.2.0"], ranges=[span(introduced="0", fixed="10.2.0")])
    assert [str(each) for each in checker.find_weaknesses(PILLOW, [given])] == [
        "pillow 10.2.0: GHSA-xxxx-0000-0001 (CVE-2099-0001), fixed in 10.2.0: Something overflows"
    ]


@pytest.mark.parametrize(
    "given",
    [
        advisory("other", versions=["10.2.0"]),
        advisory(ecosystem="npm", versions=["10.2.0"]),
        advisory(versions=["10.2"]),
        advisory(ranges=[{"type": "GIT", "repo": "r", "events": [{"introduced": "0"}]}]),
        advisory(versions=["10.2.0"]) | {"withdrawn": "2026-01-01T00:00:00Z"},
        {"id": "MAL-1", "modified": "2026-01-01T00:00:00Z"},
    ],
)
def test_what_does_not_concern_us_is_not_told(checker: ModuleType, given: dict[str, Any]) -> None:
    assert checker.find_weaknesses(PILLOW, [given]) == []


def run_checker(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "check_advisories.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_reads_an_export_and_fails_if_it_finds_something(tmp_path: Path, pins: dict[str, str]) -> None:
    export = tmp_path / "all.zip"
    harmless = advisory(ranges=[span(introduced="0", fixed="1")])
    with zipfile.ZipFile(export, "w") as file:
        file.writestr("GHSA-xxxx-0000-0001.json", json.dumps(harmless))
    done = run_checker(export)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"0 known weaknesses of {len(pins)} pinned packages",
        "1 advisories, the latest of 2026-10-01T00:00:00Z",
    ]
    with zipfile.ZipFile(export, "a") as file:
        file.writestr("PYSEC-1.json", json.dumps(advisory(ranges=[span(introduced="0")])))
    done = run_checker(export)
    assert done.returncode == 1
    assert done.stdout.startswith(f"pillow {pins['pillow']}: GHSA-xxxx-0000-0001 (CVE-2099-0001), not fixed")


@pytest.mark.parametrize("data", [b"", b"no zip"])
def test_what_is_no_export_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "all.zip").write_bytes(data)
    done = run_checker(tmp_path / "all.zip")
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot read {str(tmp_path / 'all.zip')!r}, wanted the zip of OSV's")
    assert done.stderr.count("\n") == 1
