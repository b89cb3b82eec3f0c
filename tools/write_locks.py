"""Write locks/: the hash of every file of every package that constraints.txt pins.

    python tools/write_locks.py

pip finds out, in a dry run, what the core and the group `dev` need here; the index that pip is set to (its
JSON form, PEP 691) gives the SHA-256 of every wheel of each release, for all systems. Source archives are
left out: a wheel is unpacked, an archive runs code. `core.txt` is what runs, with pip itself and what builds
the project; `dev.txt` adds what scripts/test needs, `ci.txt` what only .ci/run needs, `others.txt` the rest
of constraints.txt.

PyTorch is in none of them. It has several builds of one version; of those for other devices that lie in
indexes of their own nobody here knows the hashes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name
from pip._internal.models.index import PyPI

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
LOCKS = ROOT / "locks"
TOOLS = ("pip", "editables")  # pip installs, and hatchling needs the other for --editable
UNLOCKED = ("torch", "triton", "nvidia-", "cuda-")  # what belongs to one of PyTorch's builds
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
HEAD = "# Written by tools/write_locks.py. Install with --require-hashes --only-binary :all:\n"


def read_pins(text: str) -> dict[str, tuple[str, str]]:
    """Return name and version of every line `name==version`, by normal name."""
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): (name, version) for name, version in pins}


def needs_of(project: dict[str, object], *chosen: str) -> list[str]:
    """Return the requirements of the core, of its build and of some groups."""
    build, groups = project["build-system"], project["dependency-groups"]
    assert isinstance(build, dict)
    assert isinstance(groups, dict)
    about = project["project"]
    assert isinstance(about, dict)
    wanted = [line for group in chosen for line in groups[group]]
    return [*TOOLS, *build["requires"], *about["dependencies"], *wanted]


def resolve(requirements: Iterable[str]) -> set[str]:
    """Return the normal names of all that pip would install for these, within the constraints."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--constraint", str(CONSTRAINTS), "--report", "-", *requirements]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {canonicalize_name(each["metadata"]["name"]) for each in report["install"]}


def find_index() -> str:
    """Return the address of the index that pip is set to."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return (found or PyPI.simple_url).rstrip("/")


def find_hashes(index: str, name: str, version: str) -> list[str]:
    """Return the SHA-256 of every wheel of a release, sorted."""
    request = urllib.request.Request(f"{index}/{name}/", headers={"Accept": SIMPLE_JSON})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [file for file in files if file["filename"].endswith(".whl")]
    hashes = sorted(file["hashes"]["sha256"] for file in wheels if file["filename"].split("-")[1] == version)
    if not hashes:
        raise ValueError(f"the index has no wheel of {name} {version}")
    return hashes


def lock_lines(pins: Iterable[tuple[str, str]], index: str) -> Iterator[str]:
    """Yield the lines of a lock."""
    for name, version in pins:
        hashes = find_hashes(index, canonicalize_name(name), version)
        yield " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n"


def main() -> None:
    pins = read_pins(CONSTRAINTS.read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    core, dev, ci = (resolve(needs_of(project, *groups)) for groups in ((), ("dev",), ("dev", "ci")))
    lacking = sorted(name for name in ci if name not in pins and not name.startswith(UNLOCKED))
    if lacking:
        raise SystemExit(f"constraints.txt does not pin {', '.join(lacking)}")
    locked = {name for name in pins if not name.startswith(UNLOCKED)}
    parts = {"core": locked & core, "dev": locked & (dev - core), "ci": locked & (ci - dev), "others": locked - ci}
    index = find_index()
    LOCKS.mkdir(exist_ok=True)
    for part, names in parts.items():
        first = HEAD + {"dev": "-r core.txt\n", "ci": "-r dev.txt\n"}.get(part, "")
        lines = lock_lines((pins[name] for name in sorted(names)), index)
        (LOCKS / f"{part}.txt").write_text(first + "".join(lines), "utf-8")


if __name__ == "__main__":
    main()
