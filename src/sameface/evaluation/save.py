"""Keep a calibration where the other commands find it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from sameface.atomic import replace_file
from sameface.errors import WeightsError
from sameface.manifest import ProbabilityCurve, read_manifest
from sameface.model import find_weights
from sameface.thresholds import Thresholds

# A table of a manifest, from its heading to the next.
OLD_TABLES = re.compile(r"^\[{1,2}(?:thresholds|probability)\]{1,2}\n(?:(?!\[).*(?:\n|\Z))*", re.MULTILINE)


def save_calibrated_weights(source: str, target: Path, thresholds: Thresholds, curve: ProbabilityCurve | None) -> None:
    """Copy weights with a manifest that has other thresholds.

    Args:
        source: The weights that were calibrated: a shipped name, or a path.
        target: The `.onnx` file to make; its manifest is written beside it, last.
        thresholds: The new ones.
        curve: From a distance to a chance; None for none.

    Raises:
        WeightsError: The target is the source: the original thresholds would be lost.
    """
    weights = find_weights(source)
    if target.exists() and target.samefile(weights):
        raise WeightsError(source, "its own manifest would be overwritten: choose another file")
    text = OLD_TABLES.sub("", weights.with_suffix(".toml").read_text("utf-8")).rstrip()
    with replace_file(target) as part:
        shutil.copyfile(weights, part)
    with replace_file(target.with_suffix(".toml")) as part:
        part.write_text("\n\n".join([text, *write_tables(thresholds, curve)]) + "\n", "utf-8")
        read_manifest(part)


def write_tables(thresholds: Thresholds, curve: ProbabilityCurve | None) -> list[str]:
    """Return the tables of a manifest that hold a calibration."""
    columns = (thresholds.far, thresholds.distance, thresholds.pairs)
    rows = [
        f"    {{ far = {far!r}, distance = {distance!r}, pairs = {pairs} }},"
        for far, distance, pairs in zip(*columns, strict=True)
    ]
    words = json.dumps(thresholds.calibrated_on, ensure_ascii=False).replace("\x7f", "\\u007f")
    head = ["[thresholds]", f"calibrated_on = {words}", f"impostor_pairs = {thresholds.impostor_pairs}"]
    tables = ["\n".join([*head, "rows = [", *rows, "]"])]
    if curve is not None:
        knots = [f"distance = {list(curve.distance)!r}", f"chance = {list(curve.chance)!r}"]
        tables.append("\n".join(["[probability]", *knots, f"pairs = {curve.pairs}"]))
    return tables
