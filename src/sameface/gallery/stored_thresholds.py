"""The gallery's own thresholds, calibrated on its owner's pictures, in its tables."""

from __future__ import annotations

import json
from dataclasses import asdict

from sameface.gallery.backend import SHAPE_ERRORS, Backend, Transaction, undamaged
from sameface.thresholds import Thresholds


def read_thresholds(database: Backend) -> Thresholds | None:
    """Return the thresholds in the gallery, or None."""
    return parse_thresholds(database, "calibration")


def parse_thresholds(database: Backend, table: str) -> Thresholds | None:
    """Return the thresholds in the one row of a table, or None without a row."""
    found = database.read(f"SELECT thresholds FROM {table}")
    return decode_thresholds(database.path, found[0][0] if found else None)


def decode_thresholds(path: str, facts: str | None) -> Thresholds | None:
    """Return thresholds from their JSON in the gallery at `path`; `GalleryFileError` if they are damaged."""
    with undamaged(path, "the thresholds", *SHAPE_ERRORS):
        return None if facts is None else Thresholds.from_facts(json.loads(facts))


def write_thresholds(db: Transaction, thresholds: Thresholds | None) -> None:
    """Replace the gallery's own thresholds; None deletes them."""
    db.execute("DELETE FROM calibration")
    if thresholds is not None:
        values = (json.dumps(asdict(thresholds)),)
        db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", values)
