"""The thresholds that a gallery keeps, calibrated on its owner's pictures."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from sameface.gallery.database import Database
from sameface.manifest import Thresholds


def read_thresholds(database: Database) -> Thresholds | None:
    """Return the thresholds in the file, or None."""
    found = database.read("SELECT thresholds FROM calibration")
    if not found:
        return None
    facts = json.loads(found[0][0])
    far, distance, pairs = (tuple(facts[name]) for name in ("far", "distance", "pairs"))
    return Thresholds(far, distance, pairs, facts["impostor_pairs"], facts["calibrated_on"])


def write_thresholds(db: sqlite3.Connection, thresholds: Thresholds | None) -> None:
    """Put thresholds in the place of those that are there; None leaves the file without."""
    db.execute("DELETE FROM calibration")
    if thresholds is not None:
        values = (json.dumps(asdict(thresholds)),)
        db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", values)
