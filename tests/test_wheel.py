"""The wheel: built as a release is, its licences are those of every file in it."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def read_metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def list_networks(wheel: zipfile.ZipFile) -> list[str]:
    return [name for name in wheel.namelist() if name.endswith(".onnx")]


def test_every_network_in_the_wheel_has_a_licence_of_the_expression(wheel):
    stated = set(read_metadata(wheel)["License-Expression"].split(" AND "))
    found = {"Apache-2.0"}  # the code's
    weights = [name for name in list_networks(wheel) if name.startswith("sameface/weights/")]
    assert weights
    for name in weights:
        found.add(tomllib.loads(wheel.read(re.sub("onnx$", "toml", name)).decode())["licence"])
    assert found == stated


def test_no_manifest_in_the_wheel_says_research_only(wheel):
    manifests = [name for name in wheel.namelist() if name.startswith("sameface/weights/")]
    texts = [wheel.read(name).decode() for name in manifests if name.endswith(".toml")]
    assert texts
    assert not [text for text in texts if "research" in tomllib.loads(text)["licence"]]
    assert not [name for name in wheel.namelist() if "celeba" in name]


def test_the_notice_is_in_the_wheel_and_names_every_network(wheel):
    files = read_metadata(wheel).get_all("License-File")
    assert files == ["LICENSE", "NOTICE"]
    [place] = [name for name in wheel.namelist() if name.endswith("licenses/NOTICE")]
    notice = wheel.read(place).decode()
    assert [name for name in list_networks(wheel) if f"src/{name}" not in notice] == []


def test_every_template_of_a_page_is_in_the_wheel(wheel):
    templates = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").glob("**/templates/*")}
    assert "sameface/evaluation/templates/report.html" in templates
    assert templates <= set(wheel.namelist())
