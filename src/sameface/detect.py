"""Find the faces in a picture with CenterFace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.arrays import Image, expect_shape
from sameface.errors import WeightsError
from sameface.face import Face, overlaps
from sameface.model import Model, Tensor

STRIDE = 4  # pixels of the input per cell of an output
PLANES = (1, 2, 2, 10)  # of the four outputs: heat, size, offset, points
MULTIPLE = 32  # the network halves its input five times
LARGEST = 320  # pixels of the input; of larger faces the network sees parts only
COARSER = 4  # so they are searched for at this fraction of the size
Detections = NDArray[np.float32]  # (n, 15): box, score, landmarks x, y
Ranks = NDArray[np.float32]  # (n,): of two detections of one face the higher stays


class Detector:
    """Finds faces. Any number of threads may share it.

    Args:
        model: The weights of a detector.
        min_score: The score from which a place counts as a face, 0 to 1; None takes the manifest's.
        min_size: Smaller faces are left out, in pixels of the longer side of the box.
        max_side: The picture is shrunk to this longer side, in pixels. More finds smaller faces in large
            pictures; the time grows with the square. None takes half the longer side, but 640 to 1280. Large
            faces are searched for once more at a quarter of the size, 6 % more work.
        any_rotation: Also search the picture turned by 90, 180 and 270 degrees, in four times the time. Of a
            face found several times the most upright one counts.

    Raises:
        WeightsError: The weights are not a detector's.
    """

    def __init__(
        self,
        model: Model,
        *,
        min_score: float | None = None,
        min_size: int = 20,
        max_side: int | None = None,
        any_rotation: bool = False,
    ) -> None:
        spec = model.manifest.detection
        if spec is None:
            raise WeightsError(model.manifest.name, "these are an embedder's, wanted a detector's")
        if max_side is not None and max_side < MULTIPLE:
            raise ValueError(f"max_side must be {MULTIPLE} or more, got {max_side}")
        self.model = model
        self.min_score = spec.score if min_score is None else min_score
        self.min_size = min_size
        self.max_side = max_side
        self.any_rotation = any_rotation
        self._overlap = spec.overlap

    @property
    def options(self) -> tuple[float, int, int | None, bool]:
        """The options that decide which faces are found."""
        return self.min_score, self.min_size, self.max_side, self.any_rotation

    def find(self, image: Image) -> list[Face]:
        """Return the faces in a picture, the highest score first, then the largest.

        Args:
            image: `(h, w, 3) uint8` RGB. One without pixels holds no face.

        Raises:
            WeightsError: The outputs are not those of CenterFace, or not finite.
        """
        expect_shape("image", image, ("h", "w", 3), np.uint8)
        if 0 in image.shape:
            return []
        turns = range(4) if self.any_rotation else range(1)
        found, ranks = zip(*[self._find_turned(image, turn) for turn in turns], strict=True)
        kept = suppress(np.concatenate(found), np.concatenate(ranks), self._overlap)
        height, width = image.shape[:2]
        faces = [make_face(row, width, height) for row in kept]
        large = [face for face in faces if max(face.width, face.height) >= self.min_size]
        return sorted(large, key=lambda face: (-face.score, -face.area))

    def _find_turned(self, image: Image, turn: int) -> tuple[Detections, Ranks]:
        """Return the detections in the picture turned by `turn` times 90 degrees, in upright pixels.

        The network often finds turned faces too, but misplaces their landmarks.
        """
        turned = np.rot90(image, turn)
        longer = max(turned.shape[:2])
        side = min(longer, max(640, min(1280, longer // 2)) if self.max_side is None else self.max_side)
        found = [self._find_scaled(turned, side)]
        while side > LARGEST:
            scale = side / longer
            sides = (found[-1][:, 2:4] - found[-1][:, :2]).max(axis=1)
            found[-1] = found[-1][sides * scale <= LARGEST]
            side = max(side // COARSER, 1)
            found.append(self._find_scaled(turned, side))
        every = np.concatenate(found)
        ranks = every[:, 4] * uprightness(every) if self.any_rotation else every[:, 4]
        return turn_back(every, turn, turned.shape[1], turned.shape[0]), ranks

    def _find_scaled(self, image: Image, side: int) -> Detections:
        """Return the detections with the longer side shrunk to `side`, in pixels of `image`."""
        pixels, scale = shrink(image, side)
        heat, size, offset, points = self._run(pixels)
        with np.errstate(over="ignore", invalid="ignore"):  # checked in the next line
            found = decode(heat[0, 0], size[0], offset[0], points[0], self.min_score)
        if not np.isfinite(found).all():
            raise WeightsError(self.model.manifest.name, "it gives faces whose places are not finite")
        found[:, :4] /= np.tile(scale, 2)
        found[:, 5:] /= np.tile(scale, 5)
        return found

    def _run(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Return the network's four outputs, `(1, planes, h / 4, w / 4) float32`."""
        answers = self.model.run(pixels)
        cells = tuple(side // STRIDE for side in pixels.shape[1:3])
        wanted = [("float32", (1, planes, *cells)) for planes in PLANES]
        given = [(answer.dtype.name, answer.shape) for answer in answers]
        if given != wanted:
            raise WeightsError(self.model.manifest.name, f"it gives {given}, a detector gives {wanted}")
        return answers


def shrink(image: Image, side: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shrink a picture and pad it with black to multiples of 32, `(1, h, w, 3)`; return also the scales x, y."""
    height, width = image.shape[:2]
    factor = min(1.0, side / max(height, width))
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    if factor < 1:
        picture = PIL.Image.fromarray(image)
        image = np.asarray(picture.resize((new_width, new_height), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))
    padded = np.zeros((1, round_up(new_height), round_up(new_width), 3), np.uint8)
    padded[0, :new_height, :new_width] = image
    return padded, np.array([new_width / width, new_height / height], np.float32)


def round_up(pixels: int) -> int:
    """Return the next multiple of 32."""
    return math.ceil(pixels / MULTIPLE) * MULTIPLE


def decode(heat: Tensor, size: Tensor, offset: Tensor, points: Tensor, min_score: float) -> Detections:
    """Decode the outputs into detections in pixels of the network's input.

    Args:
        heat: `(h, w)` the score of a face's centre in the cell.
        size: `(2, h, w)` logarithm of height and width in cells.
        offset: `(2, h, w)` of the centre inside the cell, y and x.
        points: `(10, h, w)` y and x of the landmarks, relative to the box.
        min_score: The smallest score of a face.
    """
    rows, columns = np.nonzero(heat >= min_score)
    high, wide = np.exp(size[:, rows, columns]) * STRIDE
    top = (rows + offset[0, rows, columns] + 0.5) * STRIDE - high / 2
    left = (columns + offset[1, rows, columns] + 0.5) * STRIDE - wide / 2
    landmarks = points[:, rows, columns].reshape(5, 2, -1)  # (5, y x, n)
    xs = landmarks[:, 1] * wide + left
    ys = landmarks[:, 0] * high + top
    marks = np.stack([xs, ys], axis=1).reshape(10, -1)
    found = np.vstack([left, top, left + wide, top + high, heat[rows, columns], marks]).T
    return found.astype(np.float32)


def suppress(found: Detections, ranks: Ranks, overlap: float) -> Detections:
    """Keep the best detection of each face (non-maximum suppression)."""
    left = found[np.argsort(-ranks, kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[overlaps(left[0, :4], left[:, :4]) <= overlap]
    return np.array(kept, np.float32).reshape(-1, 15)


def uprightness(found: Detections) -> Ranks:
    """Return the cosine of each face's angle: 1 upright, 0 lying, -1 upside down."""
    points = found[:, 5:].reshape(-1, 5, 2)
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)  # from the eyes to the mouth
    cosines: Ranks = down[:, 1] / np.maximum(np.hypot(*down.T), np.finfo(np.float32).tiny)
    return cosines


def turn_back(found: Detections, turn: int, width: int, height: int) -> Detections:
    """Map detections in a picture of this size, turned left by `turn` quarters, to the upright one."""
    back = found.copy()
    for _ in range(turn):
        x, y = back[:, 5::2].copy(), back[:, 6::2].copy()
        left, top, right, bottom = back[:, :4].T.copy()
        # np.rot90 sends the upright point (u, v) of a picture W wide to (v, W - u).
        back[:, 5::2], back[:, 6::2] = height - y, x
        back[:, 0], back[:, 1], back[:, 2], back[:, 3] = height - bottom, left, height - top, right
        width, height = height, width
    return back


def make_face(row: NDArray[np.float32], width: int, height: int) -> Face:
    """Return a face with its box clipped to the picture."""
    limits = np.array([width, height, width, height], np.float32)
    box = np.clip(row[:4], 0, limits)
    return Face(box=box, landmarks=row[5:].reshape(5, 2), score=float(row[4]))
