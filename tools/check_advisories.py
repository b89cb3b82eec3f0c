"""Tell which pinned packages have a known weakness, from a file of advisories: nothing is asked online.

    python tools/check_advisories.py all.zip

The file is the export of OSV for PyPI: a zip with one JSON file for each advisory (https://osv.dev, "data
dumps"). What constraints.txt pins is looked up in it. Exit code 1 if anything is found. Where the machine
may ask online, `pip-audit -r constraints.txt` does the same with no file.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
Advisory = Mapping[str, Any]


@dataclass(frozen=True)
class Weakness:
    """An advisory that holds for a package.

    Attributes:
        package: Name and version, as pinned.
        id: Of the advisory.
        aliases: What it is called elsewhere.
        fixed: Versions that no longer have it.
        summary: One line, which may be empty.
    """

    package: str
    id: str
    aliases: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str

    def __str__(self) -> str:
        others = f" ({', '.join(self.aliases)})" if self.aliases else ""
        way_out = f"fixed in {', '.join(self.fixed)}" if self.fixed else "not fixed"
        return f"{self.package}: {self.id}{others}, {way_out}: {self.summary or 'no summary'}"


def read_pins(path: Path) -> dict[str, str]:
    """Return the version of every pinned package, by normal name."""
    lines = (line.split("==") for line in path.read_text("utf-8").split())
    return {canonicalize_name(name): version for name, version in lines}


def read_advisories(path: Path) -> Iterator[Advisory]:
    """Yield the advisories of an export.

    Raises:
        SystemExit: It is none.
    """
    try:
        with zipfile.ZipFile(path) as file:
            for name in sorted(file.namelist()):
                if name.endswith(".json"):
                    yield json.loads(file.read(name))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise SystemExit(f"cannot read {str(path)!r}, wanted the zip of OSV's advisories: {error}") from error


def find_weaknesses(pins: Mapping[str, str], advisories: Iterable[Advisory]) -> list[Weakness]:
    """Return the advisories that hold for what is pinned; those that were withdrawn do not."""
    found = []
    for advisory in advisories:
        for affected in advisory.get("affected", ()) if "withdrawn" not in advisory else ():
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in pins and is_affected(pins[name], affected):
                found.append(describe(f"{name} {pins[name]}", advisory, affected))
    return sorted(found, key=str)


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Return whether a version is listed, or lies in one of the ranges."""
    listed = version in affected.get("versions", ())
    return listed or any(lies_in(version, each["events"]) for each in ranges_of(affected))


def ranges_of(affected: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ranges of versions; those of commits say nothing here."""
    return [each for each in affected.get("ranges", ()) if each.get("type") != "GIT"]


def lies_in(version: str, events: Iterable[Mapping[str, str]]) -> bool:
    """Return whether a version lies in a range: the last event at or before it decides.

    A weakness is in a version from `introduced` on, up to `last_affected`, before `fixed` and `limit`.
    """
    found, wanted = False, Version(version)
    for kind, bound in sorted(map(read_event, events), key=lambda event: event[1]):
        if kind == "introduced":
            found = found or wanted >= bound
        else:
            found = found and (wanted <= bound if kind == "last_affected" else wanted < bound)
    return found


def read_event(event: Mapping[str, str]) -> tuple[str, Version]:
    """Return kind and version of an event; a version that is none counts as the first or the last of all."""
    [(kind, text)] = event.items()
    try:
        return kind, Version(text)
    except InvalidVersion:
        return kind, Version("0.dev0" if kind == "introduced" else "99999999")


def describe(package: str, advisory: Advisory, affected: Mapping[str, Any]) -> Weakness:
    """Return what is to be told of an advisory."""
    events = (event for each in ranges_of(affected) for event in each["events"])
    fixed = tuple(event["fixed"] for event in events if "fixed" in event)
    aliases = tuple(advisory.get("aliases", ()))
    return Weakness(package, advisory["id"], aliases, fixed, " ".join(advisory.get("summary", "").split()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("advisories", type=Path)
    pins = read_pins(CONSTRAINTS)
    advisories = list(read_advisories(parser.parse_args().advisories))
    newest = max((each["modified"] for each in advisories), default="never")
    found = find_weaknesses(pins, advisories)
    for weakness in found:
        print(weakness)
    print(f"{len(found)} known weaknesses of {len(pins)} pinned packages")
    print(f"{len(advisories):,} advisories, the latest of {newest}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
