"""Sort the pictures of an album into groups, one person each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from sameface.album_folders import make_thumbnail
from sameface.api_records import AlbumAnswer, AlbumFaceAnswer, SkippedPicture
from sameface.arrays import Embeddings
from sameface.cluster import cluster_embeddings, same_picture_pairs
from sameface.errors import SamefaceError
from sameface.service.error_responses import skipped_picture
from sameface.service.errors import BodyTooLargeError
from sameface.service.inference import DetectedFaces
from sameface.service.jobs import AlbumJob
from sameface.service.schemas import Upload
from sameface.service.state import State


@dataclass(slots=True)
class AlbumFaces:
    """The faces of an album so far."""

    faces: list[AlbumFaceAnswer] = field(default_factory=list)
    rows: list[Embeddings] = field(default_factory=list)  # of each picture with faces, (n, d) float32
    skipped: list[SkippedPicture] = field(default_factory=list)


async def sort_album(
    state: State, job: AlbumJob, uploads: list[Upload], *, threshold: float, far: float
) -> AlbumAnswer:
    """Return the groups of an album, and count the pictures in `job.done`.

    The list of uploads is emptied, so that each picture leaves the memory early. `far` is the rate that the
    threshold was chosen by.

    Raises:
        BodyTooLargeError: The album holds more faces than it may.
    """
    found = AlbumFaces()
    uploads.reverse()
    while uploads:
        await look_at(state, found, uploads.pop(), job.done)
        job.done += 1
        if len(found.faces) > state.config.album_faces:
            raise BodyTooLargeError("faces", state.config.album_faces)
    groups = await asyncio.to_thread(group, found, threshold) if found.faces else ()
    return AlbumAnswer(threshold, far, tuple(found.faces), groups, tuple(found.skipped))


async def look_at(state: State, found: AlbumFaces, upload: Upload, number: int) -> None:
    """Add the faces of one picture, or the reason why it cannot be read."""
    try:
        seen = await state.inference.detect(upload, patient=True)
    except SamefaceError as error:
        found.skipped.append(skipped_picture(upload.name, number, error))
        return
    if seen.faces:
        found.rows.append(await state.inference.embed(seen))
        found.faces += await asyncio.to_thread(make_face_answers, seen, upload.name, number)


def make_face_answers(seen: DetectedFaces, filename: str, number: int) -> list[AlbumFaceAnswer]:
    """Return the faces of one picture with their thumbnails."""
    return [
        AlbumFaceAnswer(face.box, face.landmarks, face.score, number, filename, make_thumbnail(crop))
        for face, crop in zip(seen.faces, seen.crops, strict=True)
    ]


def group(found: AlbumFaces, threshold: float) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the faces of each group, the largest group first."""
    pairs = same_picture_pairs([str(face.picture) for face in found.faces])
    labels = cluster_embeddings(np.concatenate(found.rows), threshold=threshold, cannot_link=pairs)
    members: dict[int, list[int]] = {}
    for number, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(number)
    return tuple(sorted(map(tuple, members.values()), key=lambda group: -len(group)))
