"""Many pictures in one call: their embeddings one after the other, and a person found in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sameface.arrays import Embeddings
from sameface.batch import Finder, Journal, Result, embed_pictures, open_pictures
from sameface.compare import squared_distances
from sameface.errors import ImageError
from sameface.face import Choice, Face
from sameface.picture_files import ImageSource
from sameface.recognizer import Recognizer


@dataclass(frozen=True, slots=True, eq=False)
class PictureEmbeddings:
    """The faces of one of many pictures.

    Attributes:
        source: The picture as it was given.
        faces: The highest score first.
        rows: `(n, d) float32` unit rows, in the same order.
        error: Why the picture cannot be read; None if it was read.
    """

    source: ImageSource
    faces: list[Face]
    rows: Embeddings
    error: ImageError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FolderMatch:
    """A face of a folder that is within the threshold.

    Attributes:
        picture: The path of the picture.
        face: Where in it.
        distance: The squared distance to the probe, 0 to 4.
        threshold: The distance at and under which a face is returned.
        far: The part of the pairs of different people that this threshold accepts.
    """

    picture: str
    face: Face
    distance: float
    threshold: float
    far: float

    def to_dict(self) -> dict[str, Any]:
        """Return the match for JSON or a table."""
        box = [round(float(side), 2) for side in self.face.box]
        facts = {"distance": self.distance, "threshold": self.threshold, "far": self.far}
        return {"picture": self.picture, "box": box, **facts}


def embed_many(
    recognizer: Recognizer, images: Iterable[ImageSource], *, progress: Callable[[int], None] | None = None
) -> Iterator[PictureEmbeddings]:
    """Yield the faces and embeddings of each picture, in order and one at a time.

    Args:
        recognizer: Finds and embeds.
        images: Any number of pictures. One that cannot be read is a result with its `error`.
        progress: Called with the number of pictures that are done.
    """
    for done, image in enumerate(images, 1):
        try:
            result = PictureEmbeddings(image, *recognizer.embed(image))
        except ImageError as error:
            none = np.zeros((0, recognizer.embedder.spec.dimension), np.float32)
            result = PictureEmbeddings(image, [], none, error)
        if progress is not None:
            progress(done)
        yield result


def find(  # noqa: PLR0913, one call for the whole road
    probe: ImageSource,
    folder: str | os.PathLike[str],
    *,
    recognizer: Recognizer | None = None,
    face: Choice = "only",
    far: float = 1e-3,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Result], None] | None = None,
) -> list[FolderMatch]:
    """Find the person of a picture in all pictures below a folder.

    Args:
        probe: A picture of the person.
        folder: The folder; pictures that cannot be read are passed over (`progress` sees why).
        recognizer: None loads the default weights.
        face: The face of the probe to take.
        far: The part of the pairs of different people that may be accepted.
        cache: A file that keeps the faces of the folder by content, so that the next call searches only new
            pictures. It holds embeddings, biometric data: only its owner may read it. None keeps nothing.
        progress: Called with the result of each picture.

    Returns:
        The nearest face first.

    Raises:
        FileNotFoundError: There is no such folder.
        FaceError: The probe has no face, or several where `face` is `only`.
        ThresholdError: The calibration does not reach this `far`.
        JournalError: The cache is another kind of file, or in use.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(2, "no folder to search", str(place))
    used = Recognizer.load() if recognizer is None else recognizer
    threshold = used.thresholds.at(far)
    _, row = used.embed_face(probe, face=face)
    matches = []
    with (
        Journal.open(None if cache is None else Path(cache)) as journal,
        closing(embed_pictures(open_pictures([place]), Finder(used), journal=journal)) as results,
    ):
        for result in results:
            if progress is not None:
                progress(result)
            if result.found is None or not result.found.faces:
                continue
            distances = squared_distances(row[None], result.found.rows)[0].tolist()
            matches += [
                FolderMatch(result.picture.name, found, distance, threshold, far)
                for found, distance in zip(result.found.faces, distances, strict=True)
                if distance <= threshold
            ]
    return sorted(matches, key=lambda match: match.distance)
