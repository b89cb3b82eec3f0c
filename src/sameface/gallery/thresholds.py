"""The thresholds that a gallery keeps, calibrated on its owner's pictures."""

from __future__ import annotations

import json
from dataclasses import asdict

from sameface.gallery.backend import Backend, Row, Statements
from sameface.manifest import Thresholds


def read_thresholds(database: Backend) -> Thresholds | None:
    """Return the thresholds in the gallery, or None."""
    return parse_thresholds(database.read("SELECT thresholds FROM calibration"))


def parse_thresholds(found: list[Row]) -> Thresholds | None:
    """Return the thresholds that one or no row holds."""
    return None if not found else Thresholds.from_facts(json.loads(found[0][0]))


def write_thresholds(db: Statements, thresholds: Thresholds | None) -> None:
    """Put thresholds in the place of those that are there; None leaves the gallery without."""
    db.execute("DELETE FROM calibration")
    if thresholds is not None:
        values = (json.dumps(asdict(thresholds)),)
        db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", values)
