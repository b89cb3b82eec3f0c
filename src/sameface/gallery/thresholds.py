"""The thresholds that a gallery keeps, calibrated on its owner's pictures."""

from __future__ import annotations

import json
from dataclasses import asdict

from sameface.gallery.backend import SHAPE_ERRORS, Backend, Transaction, undamaged
from sameface.thresholds import Thresholds


def read_thresholds(database: Backend) -> Thresholds | None:
    """Return the thresholds in the gallery, or None."""
    return parse_thresholds(database, "calibration")


def parse_thresholds(database: Backend, table: str) -> Thresholds | None:
    """Return the thresholds that a table holds in its one row, or None without a row."""
    found = database.read(f"SELECT thresholds FROM {table}")
    return decode_thresholds(database.path, found[0][0] if found else None)


def decode_thresholds(path: str, facts: str | None) -> Thresholds | None:
    """Return thresholds from what a gallery keeps of them.

    Args:
        path: The gallery.
        facts: As `write_thresholds` has written them; None for none.

    Raises:
        GalleryFileError: They are damaged.
    """
    with undamaged(path, "the thresholds", *SHAPE_ERRORS):
        return None if facts is None else Thresholds.from_facts(json.loads(facts))


def write_thresholds(db: Transaction, thresholds: Thresholds | None) -> None:
    """Put thresholds in the place of those that are there; None leaves the gallery without."""
    db.execute("DELETE FROM calibration")
    if thresholds is not None:
        values = (json.dumps(asdict(thresholds)),)
        db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", values)
