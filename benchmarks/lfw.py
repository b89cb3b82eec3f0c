"""LFW's View 1 (development): accuracy on the test half with the threshold chosen on the training half.

    python benchmarks/lfw.py ../shared/data/lfw-view1.tar [--weights mobilefacenet] [--no-flip]

Of a photograph with several faces the one nearest to its middle counts, as the protocol has it. A photograph
without a face (none found) counts as an error in each of its pairs.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sameface.align import align_faces
from sameface.compare import squared_distances
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.face import Face
from sameface.image import read_image
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.recognizer import Recognizer


class Picture(NamedTuple):
    """A photograph of LFW."""

    person: str
    number: int


class Pair(NamedTuple):
    """Two photographs, and whether they show one person."""

    a: Picture
    b: Picture
    same: bool


@dataclass(frozen=True)
class View1:
    """The development view: the photographs' files and the pairs of both halves."""

    files: dict[Picture, bytes]
    train: list[Pair]
    test: list[Pair]

    @staticmethod
    def pictures(pairs: list[Pair]) -> list[Picture]:
        """Return every photograph of some pairs once, in a fixed order."""
        return sorted({picture for pair in pairs for picture in (pair.a, pair.b)})


def read_view1(path: Path) -> View1:
    """Read the tar of View 1."""
    files: dict[Picture, bytes] = {}
    pairs: dict[str, list[Pair]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = Path(member.name)
            stream = tar.extractfile(member)
            if stream is None:
                continue
            if name.suffix == ".jpg":
                person, _, number = name.stem.rpartition("_")
                files[Picture(person, int(number))] = stream.read()
            elif name.stem.startswith("pairs"):
                pairs[name.stem] = read_pairs(stream.read().decode())
    return View1(files, pairs["pairsDevTrain"], pairs["pairsDevTest"])


def read_pairs(text: str) -> list[Pair]:
    """Read LFW's list of pairs: person, number, number; or person, number, person, number."""
    pairs = []
    for line in text.splitlines()[1:]:
        match line.split("\t"):
            case [person, first, second]:
                pairs.append(Pair(Picture(person, int(first)), Picture(person, int(second)), same=True))
            case [person, first, other, second]:
                pairs.append(Pair(Picture(person, int(first)), Picture(other, int(second)), same=False))
    return pairs


def embed_pictures(
    recognizer: Recognizer, view: View1, pictures: list[Picture]
) -> tuple[NDArray[np.float32], set[Picture], float]:
    """Return `(n, d)` rows, the photographs without a face (their rows are zero), and the seconds."""
    spec = recognizer.embedder.spec
    crops = np.zeros((len(pictures), spec.crop.size, spec.crop.size, 3), np.uint8)
    missed = set()
    start = time.perf_counter()
    for crop, picture in zip(crops, pictures, strict=True):
        image = read_image(view.files[picture])
        faces = recognizer.detector.find(image)
        if faces:
            crop[:] = align_faces(image, [central(faces, image.shape)], spec.crop)[0]
        else:
            missed.add(picture)
    rows = recognizer.embedder.embed(crops)
    return rows, missed, time.perf_counter() - start


def central(faces: list[Face], shape: tuple[int, ...]) -> Face:
    """Return the face nearest to the middle of the picture."""
    middle = np.array([shape[1], shape[0]]) / 2
    return min(faces, key=lambda face: float(np.hypot(*((face.box[:2] + face.box[2:]) / 2 - middle))))


def pair_distances(rows: NDArray[np.float32], pictures: list[Picture], pairs: list[Pair]) -> NDArray[np.float64]:
    """Return the squared distance of each pair."""
    place = {picture: number for number, picture in enumerate(pictures)}
    a = rows[[place[pair.a] for pair in pairs]].astype(np.float64)
    b = rows[[place[pair.b] for pair in pairs]].astype(np.float64)
    distances: NDArray[np.float64] = ((a - b) ** 2).sum(axis=1)
    return distances


def best_threshold(distances: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Return the threshold of the highest accuracy; of equally good ones the middle one."""
    candidates = np.sort(distances)
    accuracy = np.array([((distances <= threshold) == same).mean() for threshold in candidates])
    best = candidates[accuracy == accuracy.max()]
    return float(best[len(best) // 2])


def val_at_far(rows: NDArray[np.float32], pictures: list[Picture], far: float) -> tuple[float, int, int]:
    """Return VAL at a FAR over all pairs of some photographs, and how many pairs of both kinds there are."""
    people = np.array([picture.person for picture in pictures])
    distances = squared_distances(rows, rows)
    upper = np.triu(np.ones(distances.shape, bool), 1)
    same = (people[:, None] == people[None, :])[upper]
    impostors = np.sort(distances[upper][~same])
    threshold = impostors[max(int(far * len(impostors)) - 1, 0)]
    return float((distances[upper][same] <= threshold).mean()), int(same.sum()), len(impostors)


@dataclass(frozen=True)
class Found:
    """What a pipeline reaches on View 1; rates in parts of 1."""

    threshold: float
    accuracy: float
    val: float
    genuine: int
    impostors: int
    missed: int
    pictures: int
    seconds: float


def measure(recognizer: Recognizer, view: View1) -> Found:
    """Return accuracy on the test half, threshold from the training half, and VAL at FAR 1e-3."""
    pictures = view.pictures(view.train + view.test)
    rows, missed, seconds = embed_pictures(recognizer, view, pictures)
    train, test = (pair_distances(rows, pictures, pairs) for pairs in (view.train, view.test))
    threshold = best_threshold(train, np.array([pair.same for pair in view.train]))
    lost = np.array([pair.a in missed or pair.b in missed for pair in view.test])
    right = ((test <= threshold) == np.array([pair.same for pair in view.test])) & ~lost
    tested = view.pictures(view.test)
    order = {picture: number for number, picture in enumerate(pictures)}
    val = val_at_far(rows[[order[picture] for picture in tested]], tested, 1e-3)
    return Found(threshold, float(right.mean()), *val, len(missed), len(pictures), seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("view1", type=Path, help="lfw-view1.tar")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    parser.add_argument("--no-flip", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder(Model.load(arguments.weights), flip=not arguments.no_flip)
    recognizer = Recognizer(Detector(Model.load("centerface")), embedder)
    view = read_view1(arguments.view1)
    found = measure(recognizer, view)
    print(f"weights                      {arguments.weights}{', no flip' if arguments.no_flip else ''}")
    print(f"threshold from pairsDevTrain {found.threshold:.4f} ({len(view.train):,} pairs)")
    print(f"accuracy on pairsDevTest     {100 * found.accuracy:.2f} % ({len(view.test):,} pairs)")
    told = f"{found.genuine:,} genuine, {found.impostors:,} impostor pairs"
    print(f"VAL at FAR 1e-3, test half   {100 * found.val:.2f} % ({told})")
    print(f"photographs without a face   {found.missed} of {found.pictures:,}")
    each = 1000 * found.seconds / found.pictures
    print(f"seconds                      {found.seconds:.0f} ({each:.1f} ms a photograph)")


if __name__ == "__main__":
    main()
