"""Embed pictures, videos and folders of people, one face each; a cache keeps the embeddings from run to run."""

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
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.protocols import LabelledPair, LabelledPicture, PeopleSet
from sameface.evaluation.roc import Flags, Numbers
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
    """The embedding of one picture, or the reason why there is none."""

    path: str
    sha256: str  # of its content; empty if it cannot be read
    row: Row  # (d,) unit row, or (0,) if it failed
    box: Row  # (4,) the face, or (0,)
    reason: str  # why there is no row; empty if there is one
    computed: bool  # now, and not found in the cache


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPictures:
    """The embeddings of many pictures."""

    pictures: Sequence[EmbeddedPicture]

    @property
    def found(self) -> Flags:
        """`(n,) bool`: which pictures have a row."""
        return np.array([one.reason == "" for one in self.pictures], bool)

    @property
    def rows(self) -> Embeddings:
        """`(n, d) float32`: the row of each picture, zeros where there is none."""
        width = max((len(one.row) for one in self.pictures), default=0)
        blank = np.zeros(width, np.float32)
        rows = [blank if one.reason else one.row for one in self.pictures]
        return np.array(rows, np.float32).reshape(len(rows), width)

    @property
    def failures(self) -> list[str]:
        """The pictures without a row, each with its path and the reason."""
        return [f"{one.path}: {one.reason}" for one in self.pictures if one.reason]


class PictureEmbedder:
    """Embeds the face that counts in a picture, or takes it from the cache.

    That is the face nearest to the middle of the picture, as in LFW, or by `policy` the largest.
    """

    def __init__(self, recognizer: Recognizer, cache: EmbeddingCache, policy: FacePolicy = "central") -> None:
        self.recognizer = recognizer
        self.policy = policy
        self._cache = cache
        self.pipeline = "/".join(map(str, (recognizer.signature, policy, *recognizer.detector.options)))

    def embed_all(
        self, paths: Iterable[str], *, change: Change | None = None, name: str = ""
    ) -> Iterator[EmbeddedPicture]:
        """Yield the embedding of each picture, in order.

        `change` degrades a picture before detection, from `(h, w, 3) uint8` RGB and the `(4,)` box of its face.
        `name` is the key of the change in the cache: another change must have another name.
        """
        for path in paths:
            yield self._embed_picture(path, change, name)

    def _embed_picture(self, path: str, change: Change | None, name: str) -> EmbeddedPicture:
        try:
            picture = buffer_image(path)
        except ImageError as error:
            return EmbeddedPicture(path, "", NOTHING, NOTHING, error.reason, computed=False)
        sha256 = hash_image(picture)
        key = f"{sha256}/{name}" if name else sha256
        known = self._cache.get(self.pipeline, key)
        if known is not None:
            return EmbeddedPicture(path, sha256, *known, "" if len(known[0]) else NO_FACE, computed=False)
        try:
            image = read_image(picture)
        except ImageError as error:
            return EmbeddedPicture(path, sha256, NOTHING, NOTHING, error.reason, computed=True)
        if change is not None:
            whole = self._embed_picture(path, None, "")
            if whole.reason:
                return whole
            image = change(image, whole.box)
        row, box = self._embed_face(image)
        self._cache.put(self.pipeline, key, row, box)
        return EmbeddedPicture(path, sha256, row, box, "" if len(row) else NO_FACE, computed=True)

    def _embed_face(self, image: Image) -> tuple[Row, Row]:
        """Return row and box of the face that counts, both empty without one."""
        faces = self.recognizer.detector.find(image)
        if not faces:
            return NOTHING, NOTHING
        face = choose_face(faces, image, self.policy)
        embedder = self.recognizer.embedder
        return embedder.embed(align_faces(image, [face], embedder.spec.crop))[0], face.box


def embed_video(embedder: PictureEmbedder, folder: str, *, frames: int = FRAMES) -> EmbeddedPicture:
    """Return the mean row of the first frames of a video in which a face is found.

    The mean squared distance of all pairs of frames of two videos is `2 - 2 x . y` of their mean rows (FaceNet,
    section 5.7). Frame 9 comes before frame 10.
    """
    rows: list[Row] = []
    computed = False
    for one in embedder.embed_all(map(str, sorted(find_pictures(folder), key=natural_order))):
        computed |= one.computed
        if one.reason == "":
            rows.append(one.row)
        if len(rows) == frames:
            break
    if not rows:
        reason = NO_FACE if Path(folder).is_dir() else "no such folder"
        return EmbeddedPicture(folder, "", NOTHING, NOTHING, reason, computed=computed)
    mean: Row = np.array(rows, np.float64).mean(axis=0).astype(np.float32)
    return EmbeddedPicture(folder, "", mean, NOTHING, "", computed=computed)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame 9 before frame 10."""
    words = re.split(r"(\d+)", path.as_posix())
    return [(int(word), "") if word.isdecimal() else (0, word) for word in words]


def choose_face(faces: Sequence[Face], image: Image, policy: FacePolicy) -> Face:
    """Return the face that counts in a picture."""
    if policy == "largest":
        return max(faces, key=lambda face: face.area)
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    return min(faces, key=lambda face: float(np.hypot(*((face.box[:2] + face.box[2:]) / 2 - middle))))


def pair_distances(pairs: Sequence[LabelledPair], found: EmbeddedPictures) -> Numbers:
    """Return the squared distance of each pair, NaN where a face is missing."""
    place = {one.path: number for number, one in enumerate(found.pictures)}
    a = np.array([place[pair.a] for pair in pairs], np.int64)
    b = np.array([place[pair.b] for pair in pairs], np.int64)
    rows = found.rows.astype(np.float64)
    distance = np.clip(2 - 2 * (rows[a] * rows[b]).sum(axis=1), 0, 4)
    return np.where(found.found[a] & found.found[b], distance, np.nan)


def gather_people(photos: Sequence[LabelledPicture], found: EmbeddedPictures) -> PeopleSet:
    """Return the rows of a folder of people, each file once.

    The same file twice for one person would be a pair at distance 0 that proves nothing: it is kept once. A
    file of two people has a wrong name under one of them: it is left out.

    Raises:
        ProtocolError: No picture is left.
    """
    owners: dict[str, set[str]] = {}
    for photo, one in zip(photos, found.pictures, strict=True):
        owners.setdefault(one.sha256, set()).add(photo.person)
    usable = [number for number, one in enumerate(found.pictures) if not one.reason]
    own = [number for number in usable if len(owners[found.pictures[number].sha256]) == 1]
    first: dict[str, int] = {}
    for number in own:
        first.setdefault(found.pictures[number].sha256, number)
    kept = list(first.values())
    if not kept:
        raise ProtocolError(photos[0].path, "no picture of the folder has a face that can be used")
    names, person = np.unique([photos[number].person for number in kept], return_inverse=True)
    order = np.argsort(person, kind="stable")
    left_out = (
        (len(own) - len(kept), "are in their person's folder twice: counted once"),
        (len(usable) - len(own), "stand under two people, one of the names is wrong: left out"),
    )
    return PeopleSet(
        found.rows[kept][order],
        person[order].astype(np.int64),
        tuple(map(str, names)),
        tuple(photos[kept[number]].path for number in order),
        tuple(f"{count} pictures {reason}" for count, reason in left_out if count),
    )
