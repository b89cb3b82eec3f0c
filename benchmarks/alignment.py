"""What the template and the weights of its points are worth, on LFW View 1's training half.

    python benchmarks/alignment.py ../shared/data/lfw-view1.tar

Every row cuts the same faces anew, embeds them and compares all pairs. About 40 seconds a row on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfw import Pair, Picture, View1, best_threshold, central, pair_distances, read_view1, val_at_far
from sameface.align import align_faces
from sameface.arrays import Image
from sameface.face import Face
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import DEFAULT_WEIGHTS
from sameface.recognizer import Recognizer

POINTS = ("eyes", "eyes", "nose", "mouth", "mouth")


def variants(rule: CropRule) -> Iterator[tuple[str, CropRule]]:
    """Yield the rule as it is, then with one thing changed."""
    yield "as shipped", rule
    for scale in (0.94, 0.97, 1.03, 1.06):
        yield f"template scaled by {scale}", moved(rule, scale=scale)
    for pixels in (-4, -2, 2, 4):
        yield f"template moved down by {pixels}", moved(rule, shift=(0, pixels))
    for pixels in (-2, 2):
        yield f"template moved right by {pixels}", moved(rule, shift=(pixels, 0))
    for part, weight in (("nose", 0.01), ("nose", 0.5), ("nose", 2), ("mouth", 0.5), ("eyes", 0.5)):
        weights = tuple(weight if point == part else 1.0 for point in POINTS)
        yield f"{part} weigh {weight}", replace(rule, point_weights=weights)


def moved(rule: CropRule, *, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> CropRule:
    """Return the rule with the template scaled about the middle of the crop and shifted."""
    middle = rule.size / 2
    points = (np.array(rule.template) - middle) * scale + middle + shift
    return replace(rule, template=tuple((float(x), float(y)) for x, y in points))


def report(rows: NDArray[np.float32], pictures: list[Picture], pairs: list[Pair]) -> str:
    """Return accuracy on the listed pairs at their best threshold, and VAL over all pairs."""
    same = np.array([pair.same for pair in pairs])
    distances = pair_distances(rows, pictures, pairs)
    accuracy = ((distances <= best_threshold(distances, same)) == same).mean()
    values = [val_at_far(rows, pictures, far)[0] for far in (1e-2, 1e-3, 1e-4)]
    return f"{100 * accuracy:8.2f} " + " ".join(f"{100 * value:8.2f}" for value in values)


def find_faces(recognizer: Recognizer, view: View1, pictures: list[Picture]) -> list[tuple[Image, Face]]:
    """Return every photograph with its central face."""
    found = []
    for picture in pictures:
        image = read_image(view.files[picture])
        found.append((image, central(recognizer.detector.find(image), image.shape)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("view1", type=Path, help="lfw-view1.tar")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    parser.add_argument("--no-flip", action="store_true")
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.weights, flip=not arguments.no_flip)
    view = read_view1(arguments.view1)
    pictures = view.pictures(view.train)
    faces = find_faces(recognizer, view, pictures)
    print(f"{'percent, training half':<28} accuracy VAL 1e-2 VAL 1e-3 VAL 1e-4")
    for name, rule in variants(recognizer.embedder.spec.crop):
        crops = np.concatenate([align_faces(image, [face], rule) for image, face in faces])
        rows = recognizer.embedder.embed(crops)
        print(f"{name:<28} {report(rows, pictures, view.train)}", flush=True)


if __name__ == "__main__":
    main()
