"""Write the names of an album into its photographs, and take the names that photographs hold over."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameface.albums.corrections import confirm_name, name_group
from sameface.albums.regions import Region, TagError, read_regions, read_size, write_regions
from sameface.albums.store import Store, StoredFace
from sameface.batch.sources import stamp_of
from sameface.face import overlaps
from sameface.gallery.errors import BadNameError
from sameface.gallery.names import clean_name

SAME_FACE = 0.2  # intersection over union of a face and a region, whose boxes other programs draw larger or smaller


@dataclass(frozen=True, slots=True)
class TagResult:
    """What became of one photograph.

    Attributes:
        path: The file.
        changed: Whether it was written to, or names were taken over.
        failure: Why not; empty if all went well.
    """

    path: Path
    changed: bool
    failure: str = ""


def write_tags(store: Store, *, in_place: bool = False) -> Iterator[TagResult]:
    """Write the named faces of every photograph into its sidecar, or into the file.

    Each file is written whole or not at all; what is done is not done again after an interruption.

    Args:
        store: The album.
        in_place: Write into the photographs. Their faces, groups and names stay known to the album.
    """
    faces: dict[str, list[StoredFace]] = defaultdict(list)
    for face in store.faces("person_id IS NOT NULL AND NOT hidden"):
        faces[face.picture].append(face)
    for picture, members in faces.items():
        for file in members[0].files:
            path = store.folder / file
            try:
                regions = [Region(str(face.person), relative_box(path, face)) for face in members]
                changed = write_regions(path, regions, in_place=in_place)
            except TagError as error:
                yield TagResult(path, changed=False, failure=str(error))
                continue
            if changed and in_place:
                follow_file(store, picture, file)
            yield TagResult(path, changed)


def follow_file(store: Store, picture: str, file: str) -> None:
    """Note that a photograph has other metadata: its content has another hash, its faces are the same."""
    path = store.folder / file
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with store.change() as db:
        known = db.execute("SELECT 1 FROM pictures WHERE sha256 = ?", (sha256,)).fetchone()
        if not known:
            db.execute("UPDATE pictures SET sha256 = ? WHERE sha256 = ?", (sha256, picture))
        db.execute("UPDATE files SET stamp = ? WHERE path = ?", (stamp_of(path), os.fsencode(file)))


def read_tags(store: Store) -> Iterator[TagResult]:
    """Take over the names of face regions in photographs, and name the groups that these faces are in.

    A group gets the name that most of its tagged faces have; a face with another name moves to that person.
    """
    names: dict[int, str] = {}
    by_picture: dict[str, list[StoredFace]] = defaultdict(list)
    for face in store.faces():
        by_picture[face.picture].append(face)
    for members in by_picture.values():
        for file in members[0].files:
            path = store.folder / file
            try:
                found = match_regions(path, members)
            except TagError as error:
                yield TagResult(path, changed=False, failure=str(error))
                continue
            names |= found
            yield TagResult(path, changed=bool(found))
    take_names(store, names)


def match_regions(path: Path, faces: list[StoredFace]) -> dict[int, str]:
    """Return the names that a photograph's regions give to faces, by the number of the face."""
    boxes = np.array([relative_box(path, face) for face in faces], np.float32)
    names: dict[int, str] = {}
    for region in read_regions(path):
        shared = overlaps(region.box, boxes)
        try:
            name = clean_name(region.name)
        except BadNameError:
            continue  # a region without a name, or with one that no person can have
        if shared.max() > SAME_FACE:
            names[faces[int(shared.argmax())].number] = name
    return names


def take_names(store: Store, names: dict[int, str]) -> None:
    """Name groups and faces by the names of faces; those that have their name already stay as they are."""
    current = {face.number: face for face in store.faces()}
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for number, name in names.items():
        group = current[number].group
        if group is not None:
            votes[group][name] += 1
    for group, counted in votes.items():
        name = counted.most_common(1)[0][0]
        if store.group(group).person != name:
            name_group(store, group, name)
    current = {face.number: face for face in store.faces()}
    for number, name in names.items():
        if current[number].person != name:
            confirm_name(store, number, name)


def relative_box(path: Path, face: StoredFace) -> NDArray[np.float32]:
    """Return the box of a face as parts of the upright picture."""
    width, height, orientation = read_size(path)
    if orientation > 4:
        width, height = height, width
    box: NDArray[np.float32] = np.clip(face.face.box / np.array([width, height] * 2, np.float32), 0, 1)
    return box
