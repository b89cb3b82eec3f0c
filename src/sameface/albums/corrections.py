"""Names and corrections: each moves only the faces that it speaks of, is kept for later scans, and can be undone."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameface.albums.scan import groups_of
from sameface.albums.store import Store, StoredFace, StoredGroup, delete_unused, keep_answer, keep_links, person_number
from sameface.errors import AlbumError
from sameface.gallery.names import clean_name


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A group that is probably a person.

    Attributes:
        group: The group.
        distance: The mean squared distance of its faces to the person's, 0 to 4.
    """

    group: StoredGroup
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """A face whose group is uncertain.

    Attributes:
        face: The face.
        distance: The mean squared distance to the other faces of its group.
        other: The nearest other group, and `other_distance` the distance to it.
    """

    face: StoredFace
    distance: float
    other: StoredGroup | None
    other_distance: float

    @property
    def margin(self) -> float:
        """How much nearer the own group is; 0 or less where another group is as near."""
        return self.other_distance - self.distance


def name_group(store: Store, group: int, name: str) -> None:
    """Give a group a name. Its faces count as confirmed: they keep the name whatever a later scan groups.

    Raises:
        AlbumError: No such group.
        BadNameError: A name that a gallery would not take.
    """
    name = clean_name(name)
    faces = members(store, group)
    with recorded(store, "name", faces, [group]) as db:
        person = person_number(db, name)
        db.execute("UPDATE groups SET person_id = ? WHERE id = ?", (person, group))
        keep_answer(db, faces, person, same=True)


def merge_groups(store: Store, source: int, into: int) -> None:
    """Make two groups one person; the name of `into` stays, or that of `source` if `into` has none."""
    if source == into:
        raise AlbumError(str(store.path), f"group {source} cannot be merged with itself")
    first, second = store.group(into), store.group(source)
    kept, moved = members(store, into), members(store, source)
    with recorded(store, "merge", [*kept, *moved], [source, into]) as db:
        keep_links(db, [(kept[0], face) for face in (*kept[1:], *moved)], same=True)
        db.execute("UPDATE faces SET group_id = ? WHERE group_id = ?", (into, source))
        name = first.person or second.person
        if name is not None:
            person = person_number(db, name)
            db.execute("UPDATE groups SET person_id = ? WHERE id = ?", (person, into))
            keep_answer(db, [*kept, *moved], person, same=True)
        db.execute("DELETE FROM groups WHERE id = ?", (source,))


def split_group(store: Store, faces: Sequence[int]) -> int:
    """Take faces out of their group into a new one, and return its number: they are another person.

    Raises:
        AlbumError: The faces are of several groups, or all that their group has.
    """
    groups = {store.face(face).group for face in faces}
    group = groups.pop() if groups else None
    if group is None or groups:
        raise AlbumError(str(store.path), f"faces {list(faces)} must be of one group")
    rest = [face for face in members(store, group) if face not in set(faces)]
    if not rest:
        raise AlbumError(str(store.path), f"these are all faces of group {group}: name it instead")
    with recorded(store, "split", faces, [group]) as db:
        keep_links(db, [(face, other) for face in faces for other in rest], same=False)
        keep_links(db, [(faces[0], face) for face in faces[1:]], same=True)
        db.executemany("DELETE FROM answers WHERE face_id = ? AND same", [(face,) for face in faces])
        return move_to_new_group(db, faces)


def reject_name(store: Store, face: int, name: str) -> int:
    """Say that a face is not a person; return its new group: the nearest that is allowed, or one of its own.

    Raises:
        AlbumError: No such face, or nobody has this name.
    """
    found = store.face(face)
    if not store.read("SELECT 1 FROM people WHERE name = ?", name):
        raise AlbumError(str(store.path), f"nobody is named {name!r}")
    with recorded(store, "not", [face], [] if found.group is None else [found.group]) as db:
        keep_answer(db, [face], person_number(db, name), same=False)
        if found.person != name:
            return found.group or 0
        return move_to_new_group(db, [face])


def confirm_name(store: Store, face: int, name: str) -> None:
    """Say that a face is a person: it moves to the nearest group of that name, or keeps its own if there is none."""
    name = clean_name(name)
    found = store.face(face)
    with recorded(store, "is", [face], [] if found.group is None else [found.group]) as db:
        person = person_number(db, name)
        if found.person != name:
            groups = [group for (group,) in db.execute("SELECT id FROM groups WHERE person_id = ?", (person,))]
            group = nearest_group(store, face, groups) if groups else move_to_new_group(db, [face])
            db.execute("UPDATE faces SET group_id = ? WHERE id = ?", (group, face))
            db.execute("UPDATE groups SET person_id = ? WHERE id = ?", (person, group))
        keep_answer(db, [face], person, same=True)


def hide_group(store: Store, group: int, *, hidden: bool = True) -> None:
    """Leave a group out of lists, or show it again."""
    store.group(group)
    with recorded(store, "hide", [], [group]) as db:
        db.execute("UPDATE groups SET hidden = ? WHERE id = ?", (hidden, group))


def suggest_groups(store: Store, name: str, *, most: int = 10) -> list[Suggestion]:
    """Return the groups without a name that are probably a person, the nearest first.

    Groups with a face that was said not to be the person are left out.
    """
    numbers, sums, sizes = sum_groups(store)
    groups = {group.number: group for group in store.groups()}
    rejected = {
        group
        for (group,) in store.read(
            """SELECT group_id FROM faces JOIN answers ON face_id = faces.id JOIN people ON people.id = person_id
           WHERE NOT same AND name = ?""",
            name,
        )
    }
    own = [place for place, number in enumerate(numbers) if number in groups and groups[number].person == name]
    if not own:
        return []
    rest = [
        place
        for place, number in enumerate(numbers)
        if number in groups and groups[number].person is None and number not in rejected
    ]
    distance = mean_distances(sums[rest], sizes[rest], sums[own].sum(axis=0), int(sizes[own].sum()))
    [(reach,)] = store.read("SELECT reach FROM album")
    order = [place for place in np.argsort(distance, kind="stable")[:most] if distance[place] <= reach]
    return [Suggestion(groups[numbers[rest[place]]], float(distance[place])) for place in order]


def find_doubts(store: Store, *, most: int = 50) -> list[Doubt]:
    """Return the faces that are nearest to another group than their own, the most uncertain first.

    Faces whose name was confirmed one by one are left out.
    """
    numbers, sums, sizes = sum_groups(store)
    if not numbers:
        return []
    faces, rows = store.rows("group_id IS NOT NULL AND id NOT IN (SELECT face_id FROM answers WHERE same)")
    own = np.searchsorted(numbers, groups_of(store, faces))
    distance = 2 - 2 * (rows.astype(np.float64) @ sums.T) / sizes  # (n, g), to the mean of each group
    rows_at = np.arange(len(faces))
    products = np.einsum("ij,ij->i", rows, sums[own]) - 1  # without the face itself
    inside = np.where(sizes[own] > 1, 2 - 2 * products / np.maximum(sizes[own] - 1, 1), 0.0)
    people = {group.number: group.person for group in store.groups(hidden=True)}
    same = np.array([[people[a] is not None and people[a] == people[b] for b in numbers] for a in numbers])
    distance[same[own]] = np.inf
    distance[rows_at, own] = np.inf
    nearest = distance.argmin(axis=1)
    margin = distance[rows_at, nearest] - inside
    groups = {group.number: group for group in store.groups(hidden=True)}
    order = np.argsort(margin, kind="stable")[:most]
    return [
        Doubt(
            store.face(int(faces[place])),
            float(inside[place]),
            groups.get(numbers[nearest[place]]) if np.isfinite(distance[place, nearest[place]]) else None,
            float(distance[place, nearest[place]]),
        )
        for place in order
    ]


def undo(store: Store) -> str:
    """Take the last name or correction back, and return its verb; empty if there is none."""
    last = store.read("SELECT id, verb, undo FROM history ORDER BY id DESC LIMIT 1")
    if not last:
        return ""
    [(number, verb, state)] = last
    before = json.loads(state)
    with store.change() as db:
        for values in before["groups"]:
            db.execute("INSERT OR IGNORE INTO groups (id) VALUES (?)", values[:1])
            db.execute("UPDATE groups SET person_id = ?2, hidden = ?3 WHERE id = ?1", values)
        for face, group in before["faces"]:
            db.execute("UPDATE faces SET group_id = ? WHERE id = ?", (group, face))
            db.execute("DELETE FROM answers WHERE face_id = ?", (face,))
        db.executemany("INSERT INTO answers VALUES (?, ?, ?)", before["answers"])
        db.execute("DELETE FROM links WHERE id > ?", (before["links"],))
        delete_unused(db)
        db.execute("DELETE FROM history WHERE id = ?", (number,))
    return str(verb)


def members(store: Store, group: int) -> list[int]:
    """Return the numbers of a group's faces.

    Raises:
        AlbumError: No such group.
    """
    store.group(group)
    return [face for (face,) in store.read("SELECT id FROM faces WHERE group_id = ? ORDER BY id", group)]


def move_to_new_group(db: sqlite3.Connection, faces: Sequence[int]) -> int:
    """Put faces into a new group and return its number."""
    group = int(db.execute("INSERT INTO groups DEFAULT VALUES RETURNING id").fetchone()[0])
    db.executemany("UPDATE faces SET group_id = ? WHERE id = ?", [(group, face) for face in faces])
    return group


def nearest_group(store: Store, face: int, groups: Sequence[int]) -> int:
    """Return the group whose faces are nearest to a face on average."""
    [row] = store.rows("id = ?", face)[1]
    numbers, sums, sizes = sum_groups(store)
    places = [numbers.index(group) for group in groups]
    distance = mean_distances(sums[places], sizes[places], row.astype(np.float64), 1)
    return groups[int(distance.argmin())]


def sum_groups(store: Store) -> tuple[list[int], NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers of the groups, rising; the sum of each group's embeddings, `(g, d)`; its size, `(g,)`."""
    faces, rows = store.rows("group_id IS NOT NULL")
    numbers, places, sizes = np.unique(groups_of(store, faces), return_inverse=True, return_counts=True)
    sums = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(sums, places, rows)
    return numbers.tolist(), sums, sizes


def mean_distances(
    sums: NDArray[np.float64], sizes: NDArray[np.int64], other: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Return the mean squared distance of each group's faces to those of another, `(g,)`, from sums and sizes."""
    distances: NDArray[np.float64] = 2 - 2 * (sums @ other) / (sizes * size)
    return distances


@contextmanager
def recorded(store: Store, verb: str, faces: Sequence[int], groups: Sequence[int]) -> Iterator[sqlite3.Connection]:
    """Hold one transaction, and keep what it changes of these faces and groups for `undo`."""
    with store.change() as db:
        chosen = ", ".join(map(str, faces))
        numbers = ", ".join(map(str, groups))
        before = {
            "faces": db.execute(f"SELECT id, group_id FROM faces WHERE id IN ({chosen})").fetchall(),
            "groups": db.execute(f"SELECT id, person_id, hidden FROM groups WHERE id IN ({numbers})").fetchall(),
            "answers": db.execute(f"SELECT * FROM answers WHERE face_id IN ({chosen})").fetchall(),
            "links": db.execute("SELECT coalesce(max(id), 0) FROM links").fetchone()[0],
        }
        yield db
        delete_unused(db)
        db.execute("INSERT INTO history (time, verb, undo) VALUES (?, ?, ?)", (time.time(), verb, json.dumps(before)))
