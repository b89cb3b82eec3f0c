"""The thresholds that a gallery keeps, calibrated on its owner's pictures."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from sameface.gallery.database import Database
from sameface.gallery.faces import Rows
from sameface.manifest import Thresholds


def read_thresholds(database: Database) -> Thresholds | None:
    """Return the thresholds in the file, or None."""
    found = database.read("SELECT thresholds FROM calibration")
    if not found:
        return None
    return Thresholds.from_facts(json.loads(found[0][0]))


def read_mixed_thresholds(database: Database) -> Thresholds | None:
    """Return the thresholds for rows that came by an adapter, or None."""
    found = database.read("SELECT thresholds FROM adapted")
    return None if not found else Thresholds.from_facts(json.loads(found[0][0]))


def write_thresholds(db: sqlite3.Connection, thresholds: Thresholds | None) -> None:
    """Put thresholds in the place of those that are there; None leaves the file without."""
    db.execute("DELETE FROM calibration")
    if thresholds is not None:
        values = (json.dumps(asdict(thresholds)),)
        db.execute("INSERT INTO calibration (id, thresholds) VALUES (1, ?)", values)


def judge_rows(
    own: Thresholds, mixed: Thresholds | None, rows: Rows, far: float | None
) -> tuple[float, float, NDArray[np.float32] | None]:
    """Return the threshold of a search, the rate that it holds, and what scales each row's distance.

    Args:
        own: For rows that the gallery's pipeline made.
        mixed: For rows that an adapter moved here; None if there are none.
        rows: What is searched.
        far: The chance that a stranger is given any name, as in `Thresholds.at_gallery`.

    Returns:
        With adapted rows, the factor of each distance, `(m,) float32`, that brings the mixed threshold to the
        own one, and the larger of the two rates; else None.

    Raises:
        ThresholdError: One of the two calibrations does not reach to this `far`.
    """
    threshold, rate = own.at_gallery(len(rows.owners), far)
    if mixed is None or not rows.adapted.any():
        return threshold, rate, None
    other, other_rate = mixed.at_gallery(len(rows.owners), far)
    factor = threshold / max(other, float(np.finfo(np.float32).tiny))
    scale = np.where(rows.adapted, np.float32(factor), np.float32(1))
    return threshold, max(rate, other_rate), scale
