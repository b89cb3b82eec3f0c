"""Does the mean of several views keep the promise of a threshold that was made for one?

    python benchmarks/tracks.py CROPS [--weights mobilefacenet]

CROPS are straightened crops, with their `crops.toml`, of people whom the network has not seen. A track is 1,
2 or 4 photographs of one person: they differ more than the frames of a video, so this is the worst case. 200
people are enrolled with one other photograph each; half of all people are strangers. The mean of 30 draws
of who is enrolled: how many strangers get a name, and how many enrolled people get theirs, when the mean is
taken as it is and when it is widened, as `identify_video` does.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from report import print_table
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.gallery import Identification, Match
from sameface.model import DEFAULT_WEIGHTS
from sameface.recognizer import Recognizer
from sameface.training.pictures import open_pictures
from sameface.video.identify import widen

Rows = NDArray[np.float32]
ENROLLED, DRAWS = 200, 30
FARS = (0.1, 0.03, 0.01)
VIEWS = (1, 2, 4)


def gather_people(folder: Path, recognizer: Recognizer) -> Rows:
    """Return the first five rows of everybody who has as many, `(p, 5, d)`."""
    crops = open_pictures([folder])
    rows = embed_crops(recognizer.embedder, crops)
    owned = defaultdict(list)
    for row, owner in zip(rows, crops.owner, strict=True):
        owned[int(owner)].append(row)
    return np.stack([np.stack(own[:5]) for own in owned.values() if len(own) >= 5])


def judge(tracks: Rows, gallery: Rows, threshold: float, *, widened: bool) -> NDArray[np.int64]:
    """Return who each track is named, as a place in the gallery; -1 for nobody.

    Args:
        tracks: `(n, m, d)` the views of each track.
        gallery: `(p, d)` one row of each person.
        threshold: At and under which a distance is the person's.
        widened: Let views that differ count as farther.
    """
    means = tracks.mean(axis=1)
    distances = squared_distances(unit_rows(means), gallery)
    named = []
    for nearest, distance, length in zip(
        distances.argmin(axis=1), distances.min(axis=1), np.linalg.norm(means, axis=1), strict=True
    ):
        votes = int(distance <= threshold)
        match = Match("nearest", float(distance), votes)
        answer = Identification((match,), threshold, 0, ambiguous=False, closed_set=False)
        told = widen(answer, float(length)) if widened else answer
        named.append(-1 if told.name is None else nearest)
    return np.array(named)


def draw(people: Rows, recognizer: Recognizer) -> list[list[str]]:
    """Return the rows of the table."""
    rows = []
    for far in FARS:
        threshold = recognizer.thresholds.at_gallery(ENROLLED, far).distance
        for views in VIEWS:
            cells = [f"{far:g}", str(views)]
            for widened in (False, True):
                rates = []
                for seed in range(DRAWS):
                    order = np.random.default_rng(seed).permutation(len(people))
                    known, strangers = people[order[:ENROLLED]], people[order[len(people) // 2 :]]
                    gallery = known[:, 0]
                    hits = judge(known[:, 1 : 1 + views], gallery, threshold, widened=widened)
                    alarms = judge(strangers[:, 1 : 1 + views], gallery, threshold, widened=widened)
                    rates.append([(alarms >= 0).mean(), (hits == np.arange(ENROLLED)).mean()])
                alarm, hit = np.mean(rates, axis=0)
                cells += [f"{alarm:.4f}", f"{hit:.3f}"]
            rows.append(cells)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.weights)
    people = gather_people(arguments.crops, recognizer)
    strangers = len(people) - len(people) // 2
    print(f"{arguments.weights}: {len(people)} people, {ENROLLED} enrolled, {strangers} strangers\n")
    header = [
        "asked far",
        "views",
        "mean: strangers named",
        "right names",
        "widened: strangers named",
        "right names",
    ]
    print_table(header, draw(people, recognizer))


if __name__ == "__main__":
    main()
