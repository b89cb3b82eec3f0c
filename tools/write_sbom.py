"""Write what sameface is made of: a bill of materials in CycloneDX's JSON, or the list of licences.

    python tools/write_sbom.py > sbom.json
    python tools/write_sbom.py --licences

It holds the packages that are installed here and that sameface and its extras need, and the weights that ship
with their SHA-256. What is not installed is not in it: run it where all extras are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sameface.manifest import read_manifest
from sameface.model import list_shipped

SPEC = "1.6"  # of CycloneDX
ROOT = "sameface"
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def find_packages() -> dict[str, Distribution]:
    """Return sameface, and what it and its extras need as far as it is installed, by normal name."""
    found: dict[str, Distribution] = {}
    waiting, seen = [Requirement(ROOT)], set[tuple[str, frozenset[str]]]()
    while waiting:
        wanted = waiting.pop()
        name = str(canonicalize_name(wanted.name))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if (name, frozenset(wanted.extras)) not in seen:
            seen.add((name, frozenset(wanted.extras)))
            found[name] = package
            waiting += needs_of(package, wanted.extras)
    return dict(sorted(found.items()))


def needs_of(package: Distribution, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return what a package needs here; of sameface what its project file says, all extras included."""
    if package.name == ROOT:
        project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
        parts = [project["dependencies"], *project["optional-dependencies"].values()]
        return [Requirement(line) for part in parts for line in part]
    requirements = map(Requirement, package.requires or [])
    return [each for each in requirements if applies(each, ["", *extras])]


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Return whether a requirement counts on this machine, for a package with one of these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def licence_of(package: Distribution) -> str:
    """Return the licence in the package's own words, "unknown" if it says nothing."""
    told = package.metadata
    classes = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if "License ::" in line]
    words = [*(told.get_all("License-Expression") or []), " or ".join(classes), *(told.get_all("License") or [])]
    return next((" ".join(word.split())[:200] for word in words if word.strip()), "unknown")


def reference(package: Distribution) -> str:
    """Return the address of a package: a package URL."""
    return f"pkg:pypi/{canonicalize_name(package.name)}@{package.version}"


def package_component(package: Distribution) -> dict[str, Any]:
    """Return a package as a component."""
    return {
        "type": "application" if package.name == ROOT else "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "purl": reference(package),
        "licenses": [{"license": {"name": licence_of(package)}}],
    }


def weights_components() -> list[dict[str, Any]]:
    """Return the weights that ship as components."""
    manifests = [read_manifest(path.with_suffix(".toml")) for path in list_shipped().values()]
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"weights:{manifest.name}",
            "name": manifest.name,
            "hashes": [{"alg": "SHA-256", "content": manifest.sha256}],
            "licenses": [{"license": {"name": manifest.licence}}],
            "description": f"trained on: {manifest.training_data}",
        }
        for manifest in manifests
    ]


def make_sbom(packages: Mapping[str, Distribution]) -> dict[str, Any]:
    """Return the bill of materials; the same installation gives the same one."""
    weights = weights_components()
    dependencies = []
    for name, package in packages.items():
        needs = sorted({str(canonicalize_name(need.name)) for need in needs_of(package)})
        refers = [reference(packages[need]) for need in needs if need in packages]
        refers += [each["bom-ref"] for each in weights] if name == ROOT else []
        dependencies.append({"ref": reference(package), "dependsOn": refers})
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {"component": package_component(packages[ROOT])},
        "components": [*(package_component(package) for name, package in packages.items() if name != ROOT), *weights],
        "dependencies": dependencies,
    }


def list_licences(packages: Mapping[str, Distribution]) -> list[str]:
    """Return a line for each package and each weights file."""
    lines = [f"{package.name} {package.version}: {licence_of(package)}" for package in packages.values()]
    weights = [(each["name"], each["licenses"][0]["license"]["name"]) for each in weights_components()]
    return [*lines, *(f"weights {name}: {licence}" for name, licence in weights)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--licences", action="store_true", help="print the licences instead")
    given = parser.parse_args()
    packages = find_packages()
    if given.licences:
        print("\n".join(list_licences(packages)))
    else:
        json.dump(make_sbom(packages), sys.stdout, indent=2, ensure_ascii=False)
        print()


if __name__ == "__main__":
    main()
