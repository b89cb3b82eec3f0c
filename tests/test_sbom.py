"""The bill of materials: everything that runs is in it, and every reference leads somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sameface.manifest import read_manifest
from sameface.model import list_shipped, read_checked

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("write_sbom")


@pytest.fixture(scope="module")
def sbom(tool):
    return tool.make_sbom(tool.find_packages())


def test_it_has_the_fields_that_cyclonedx_asks_for(sbom):
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    for component in [sbom["metadata"]["component"], *sbom["components"]]:
        assert component["type"] in {"application", "library", "machine-learning-model"}
        assert component["name"]
        assert component["licenses"][0]["license"]["name"]
    references = [component["bom-ref"] for component in sbom["components"]]
    assert len(references) == len(set(references))


def test_every_reference_leads_somewhere(sbom):
    known = {each["bom-ref"] for each in (sbom["metadata"]["component"], *sbom["components"])}
    for dependency in sbom["dependencies"]:
        assert {dependency["ref"], *dependency["dependsOn"]} <= known


def test_every_package_that_sameface_needs_is_in_it(sbom):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in ("serve", "client", "parquet")]
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {re.split(r"[>=\[]", line)[0] for line in lines}
    assert names <= {component["name"].lower().replace("_", "-") for component in sbom["components"]}


def test_the_weights_are_in_it_with_the_hash_of_their_file(sbom):
    weights = {each["name"]: each["hashes"] for each in sbom["components"] if "hashes" in each}
    assert sorted(weights) == sorted(list_shipped())
    for name, path in list_shipped().items():
        manifest = read_manifest(path.with_suffix(".toml"))
        read_checked(path, manifest)
        assert weights[name] == [{"alg": "SHA-256", "content": manifest.sha256}]


def test_every_package_that_is_in_it_is_pinned(tool):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    found = {name: package.version.partition("+")[0] for name, package in tool.find_packages().items()}
    found.pop("sameface")
    assert {name: version for name, version in found.items() if pinned.get(name) != version} == {}


def test_no_package_is_without_a_licence(tool):
    assert [line for line in tool.list_licences(tool.find_packages()) if line.endswith(": unknown")] == []
