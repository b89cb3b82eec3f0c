"""Calibrate the thresholds of an embedder on the training half of LFW's View 1, and write them to a file.

Every pair of pictures of different people counts, not only the listed ones. A rate is kept where at least 29
impostor pairs stand behind it (the "rule of 30" of biometric testing, ISO/IEC 19795-1).

    python tools/calibrate.py ../shared/data/lfw-view1.tar [resnet29]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray

from lfw import embed_pictures, read_view1
from manifests import HERE
from sameface.compare import squared_distances
from sameface.recognizer import Recognizer

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 5e-6)
FEWEST = 29


def impostor_distances(rows: NDArray[np.float32], names: list[str]) -> NDArray[np.float32]:
    """Return the sorted distances of all pairs of different people."""
    distances = squared_distances(rows, rows)
    people = np.array(names)
    upper = np.triu(people[:, None] != people[None, :], 1)
    return np.sort(distances[upper])


def main() -> None:
    """Write `<name>-thresholds.toml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("view1", type=Path)
    parser.add_argument("name", nargs="?", default="resnet29")
    arguments = parser.parse_args()
    view = read_view1(arguments.view1)
    names = view.pictures(view.train)
    rows, missed, _ = embed_pictures(Recognizer.load(arguments.name), view, names)
    found = [index for index, name in enumerate(names) if name not in missed]
    distances = impostor_distances(rows[found], [names[index].person for index in found])
    table = []
    for rate in RATES:
        pairs = int(rate * len(distances))
        if pairs >= FEWEST:
            table.append({"far": rate, "distance": round(float(distances[pairs - 1]), 5), "pairs": pairs})
    facts = {
        "calibrated_on": f"LFW View 1, training half, {len(found):,} photographs, deep-funneled",
        "impostor_pairs": len(distances),
        "rows": table,
    }
    (HERE / f"{arguments.name}-thresholds.toml").write_text(tomli_w.dumps(facts), "utf-8")
    print(tomli_w.dumps(facts))


if __name__ == "__main__":
    main()
