"""What the quality of the enrolled picture is worth: FNIR at FPIR 1e-2, open set.

    python benchmarks/quality.py CROPS [WEIGHTS]

CROPS are straightened crops of people, with their `crops.toml`, cut so widely that the detector finds the
faces in them again; their size in the photographs is not known, so that size counts as full. 500 people, or
two thirds of them, are enrolled with one picture each; their other pictures are probes, and all pictures of
the other people strangers; mean of ten draws. A person none of whose pictures passes the gate is not
enrolled, and counts as refused, not in FNIR.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import ENROLLED, embed_crops
from report import print_table
from sameface.align import align_faces
from sameface.compare import squared_distances
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.evaluation.pictures import choose_face
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.quality import measure_quality
from sameface.training.dataset import PictureSet, open_pictures

DRAWS = 10
FPIR = 1e-2
GATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)

Qualities = NDArray[np.float64]
Choose = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]


def rate_crops(embedder: Embedder, crops: PictureSet) -> Qualities:
    """Return the quality of each crop, 0 where no face is found again."""
    detector = Detector(Model.load("centerface"))
    found = np.zeros(len(crops))
    for number, place in enumerate(crops.files):
        image = place.read()
        faces = detector.find(image)
        if faces:
            face = choose_face(faces, image, "central")
            cut = align_faces(image, [face], embedder.spec.crop)[0]
            found[number] = replace(measure_quality(face, cut), size=1.0).total
    return found


def measure(
    rows: NDArray[np.float32], owner: NDArray[np.int64], choose: Choose, *, people: int
) -> tuple[float, float]:
    """Return FNIR and the part of the people who are refused.

    Args:
        rows: `(n, d)` unit rows.
        owner: `(n,)` whose each is.
        choose: The picture to enroll, out of the numbers of a person's pictures; none refuses the person.
        people: How many to enroll.
    """
    missed, refused = [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        order = rng.permutation(owner.max() + 1)
        own = [rng.permutation(np.flatnonzero(owner == person)) for person in order[:people]]
        chosen = [choose(numbers, rng) for numbers in own]
        gallery = np.concatenate(chosen)
        probes = np.concatenate([np.setdiff1d(a, b) for a, b in zip(own, chosen, strict=True) if len(b)])
        strangers = np.flatnonzero(np.isin(owner, order[people:]))
        threshold = np.quantile(squared_distances(rows[strangers], rows[gallery]).min(axis=1), FPIR)
        distances = squared_distances(rows[probes], rows[gallery])
        nearest = distances.argmin(axis=1)
        named = (owner[gallery][nearest] == owner[probes]) & (distances.min(axis=1) <= threshold)
        missed.append(1 - named.mean())
        refused.append(1 - len(gallery) / people)
    return float(np.mean(missed)), float(np.mean(refused))


def main() -> None:
    """Print one table for what is enrolled, and one for the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("weights", nargs="?", default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    crops = open_pictures([arguments.crops])
    embedder = Embedder(Model.load(arguments.weights))
    rows, quality, owner = embed_crops(embedder, crops), rate_crops(embedder, crops), crops.owner
    people = min(ENROLLED, 2 * len(crops.people) // 3)

    def ranked(numbers: NDArray[np.int64], best: int) -> NDArray[np.int64]:
        return numbers[np.argsort(-best * quality[numbers], kind="stable")[:1]]

    ways: dict[str, Choose] = {
        "any picture": lambda numbers, _: numbers[:1],
        "the best": lambda numbers, _: ranked(numbers, 1),
        "the worst": lambda numbers, _: ranked(numbers, -1),
    }
    table = [(name, f"{100 * measure(rows, owner, way, people=people)[0]:.1f} %") for name, way in ways.items()]
    print_table(["enrolled", f"FNIR at FPIR {FPIR:g}"], table)
    gates = []
    for gate in GATES:
        way = lambda numbers, _, gate=gate: numbers[quality[numbers] >= gate][:1]  # noqa: E731
        fnir, refused = measure(rows, owner, way, people=people)
        below = f"{100 * (quality < gate).mean():.1f} %"
        gates.append((f"{gate:g}", below, f"{100 * refused:.1f} %", f"{100 * fnir:.1f} %"))
    print_table(["--min-quality", "pictures under it", "people refused", "FNIR"], gates)
    print(f"{len(crops)} pictures of {len(crops.people)} people, {people} enrolled, {arguments.weights}")


if __name__ == "__main__":
    main()
