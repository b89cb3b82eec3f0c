"""Pictures to embeddings, one face each, remembered from run to run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sameface.align import align_faces
from sameface.arrays import Embeddings, Image
from sameface.errors import ImageError
from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.protocols import LabelledPair
from sameface.evaluation.roc import Numbers
from sameface.face import Face
from sameface.image import read_image
from sameface.picture_files import buffer_image, find_pictures, hash_image
from sameface.recognizer import Recognizer

FacePolicy: TypeAlias = Literal["central", "largest"]
Row: TypeAlias = NDArray[np.float32]
Change: TypeAlias = Callable[[Image, Row], Image]

NO_FACE = "no face found"
FRAMES = 100  # of a video, as in FaceNet's section 5.7
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPicture:
    """What became of one picture.

    Attributes:
        path: The picture.
        sha256: Of its content; empty if it cannot be read.
        row: `(d,) float32` unit row, or `(0,)` if it failed.
        box: `(4,) float32` the face, or `(0,)`.
        reason: Why there is no row; empty if there is one.
        computed: Whether it was worked out now, and not remembered.
    """

    path: str
    sha256: str
    row: Row
    box: Row
    reason: str
    computed: bool


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPictures:
    """The rows of many pictures.

    Attributes:
        enrolled: One for each picture.
    """

    enrolled: Sequence[EmbeddedPicture]

    @property
    def found(self) -> NDArray[np.bool_]:
        """`(n,) bool`: which pictures have a row."""
        return np.array([one.reason == "" for one in self.enrolled], bool)

    @property
    def rows(self) -> Embeddings:
        """`(n, d) float32`: the row of each picture, zeros where there is none."""
        width = max((len(one.row) for one in self.enrolled), default=0)
        rows = np.zeros((len(self.enrolled), width), np.float32)
        for place, one in zip(rows, self.enrolled, strict=True):
            place[:] = one.row if one.reason == "" else 0
        return rows

    @property
    def failures(self) -> list[str]:
        """Why pictures have no row, each with its path."""
        return [f"{one.path}: {one.reason}" for one in self.enrolled if one.reason]


class PictureEmbedder:
    """Finds the one face that counts in a picture and embeds it.

    Args:
        recognizer: Does the work.
        cache: Remembers it.
        policy: The face nearest to the middle of the picture, as LFW has it, or the largest.
    """

    def __init__(self, recognizer: Recognizer, cache: EmbeddingCache, policy: FacePolicy = "central") -> None:
        self.recognizer = recognizer
        self.policy = policy
        self._cache = cache
        self.pipeline = "/".join(map(str, (recognizer.signature, policy, *recognizer.detector.options)))

    def embed_all(
        self, paths: Iterable[str], *, change: Change | None = None, name: str = ""
    ) -> Iterator[EmbeddedPicture]:
        """Yield what became of each picture, in order.

        Args:
            paths: The pictures.
            change: What is done to a picture before it is searched: from `(h, w, 3) uint8` RGB and the
                `(4,)` box of its face as it is to a picture.
            name: What its rows are remembered by: another change must have another name.
        """
        for path in paths:
            yield self._enroll(path, change, name)

    def _enroll(self, path: str, change: Change | None, name: str) -> EmbeddedPicture:
        try:
            picture = buffer_image(path)
        except ImageError as error:
            return EmbeddedPicture(path, "", NOTHING, NOTHING, error.reason, computed=False)
        sha256 = hash_image(picture)
        key = f"{sha256}/{name}" if name else sha256
        known = self._cache.get(self.pipeline, key)
        if known is not None:
            return made(path, sha256, *known, computed=False)
        try:
            image = read_image(picture)
        except ImageError as error:
            return EmbeddedPicture(path, sha256, NOTHING, NOTHING, error.reason, computed=True)
        if change is not None:
            whole = self._enroll(path, None, "")
            if whole.reason:
                return whole
            image = change(image, whole.box)
        row, box = self._embed(image)
        self._cache.put(self.pipeline, key, row, box)
        return made(path, sha256, row, box, computed=True)

    def _embed(self, image: Image) -> tuple[Row, Row]:
        """Return row and box of the face that counts, both empty without one."""
        faces = self.recognizer.detector.find(image)
        if not faces:
            return NOTHING, NOTHING
        face = choose_face(faces, image, self.policy)
        embedder = self.recognizer.embedder
        return embedder.embed(align_faces(image, [face], embedder.spec.crop))[0], face.box


def embed_video(enroller: PictureEmbedder, folder: str, *, frames: int = FRAMES) -> EmbeddedPicture:
    """Return the mean row of the first frames of a video in which a face is found.

    The mean similarity of all pairs of frames of two videos is the product of their mean rows, so that the
    mean squared distance is `2 - 2 x . y` (FaceNet, section 5.7).

    Args:
        enroller: Embeds the frames.
        folder: The frames; numbers in their names count as numbers.
        frames: How many with a face to take.
    """
    rows: list[Row] = []
    computed = False
    for one in enroller.embed_all(map(str, sorted(find_pictures(folder), key=natural_order))):
        computed |= one.computed
        if one.reason == "":
            rows.append(one.row)
        if len(rows) == frames:
            break
    if not rows:
        reason = "no face found" if Path(folder).is_dir() else "no such folder"
        return EmbeddedPicture(folder, "", NOTHING, NOTHING, reason, computed=computed)
    mean: Row = np.array(rows, np.float64).mean(axis=0).astype(np.float32)
    return EmbeddedPicture(folder, "", mean, NOTHING, "", computed=computed)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame 9 before frame 10."""
    words = re.split(r"(\d+)", path.as_posix())
    return [(int(word), "") if word.isdecimal() else (0, word) for word in words]


def made(path: str, sha256: str, row: Row, box: Row, *, computed: bool) -> EmbeddedPicture:
    """Return what became of a picture that could be read."""
    return EmbeddedPicture(path, sha256, row, box, "" if len(row) else NO_FACE, computed=computed)


def choose_face(faces: Sequence[Face], image: Image, policy: FacePolicy) -> Face:
    """Return the face that counts."""
    if policy == "largest":
        return max(faces, key=lambda face: face.area)
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    return min(faces, key=lambda face: float(np.hypot(*((face.box[:2] + face.box[2:]) / 2 - middle))))


def compare_pairs(pairs: Sequence[LabelledPair], found: EmbeddedPictures) -> Numbers:
    """Return the squared distance of each pair, NaN where a face is missing."""
    place = {one.path: number for number, one in enumerate(found.enrolled)}
    a = np.array([place[pair.a] for pair in pairs], np.int64)
    b = np.array([place[pair.b] for pair in pairs], np.int64)
    rows = found.rows.astype(np.float64)
    distance = np.clip(2 - 2 * (rows[a] * rows[b]).sum(axis=1), 0, 4)
    return np.where(found.found[a] & found.found[b], distance, np.nan)
