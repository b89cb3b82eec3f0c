"""One template per person: the mean of their embeddings, brought to length 1, which searches compare with.

Triggers delete a template in the transaction that changes a face of the person, and put the person into
`stale_templates`. Whoever has the key makes it again: in that transaction, or before the next search.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Embeddings, are_unit_rows, expect_shape
from sameface.compare import exact_distances, unit_distances
from sameface.gallery.backend import Backend, Transaction, expect_type, undamaged
from sameface.gallery.errors import SignatureError
from sameface.gallery.search import FARTHEST, PROBES, Candidates, Limits, SearchOptions, among, rounding
from sameface.gallery.thresholds import parse_thresholds, read_thresholds
from sameface.gallery.vote import nearest_faces
from sameface.thresholds import Thresholds

Kind = TypeVar("Kind", bound=np.generic)

SLICE = 1000  # people in a transaction, or in a query
STALE = f"SELECT person_id FROM stale_templates ORDER BY person_id LIMIT {SLICE}"
KEEP = "INSERT INTO templates (person_id, turn, faces, adapted, embedding) VALUES (?, ?, ?, ?, ?)"
SPARE = 1.25  # of the room for templates, so that one more person does not copy a million


def mean_row(rows: Embeddings) -> Embeddings | None:
    """Return the mean of embeddings, `(n, d) float32`, brought to length 1, `(d,) float32`.

    None without rows, or if they cancel each other out.
    """
    total = rows.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length <= len(rows) * np.finfo(np.float32).eps:
        return None
    row: Embeddings = (total / length).astype(np.float32)
    return row


def renew_templates(database: Backend, db: Transaction) -> None:
    """Make the templates of people whose faces have changed, of `SLICE` of them at most.

    Args:
        database: The gallery, with the key if it is encrypted.
        db: A transaction of it.
    """
    query = f"""SELECT person_id, id, {database.adapted_column}, {database.row_column} FROM faces
                WHERE person_id IN ({STALE}) ORDER BY person_id, id"""
    found = db.execute(query).fetchall()
    if found:
        with undamaged(database.path, "an embedding"):
            rows = np.stack(database.decode_rows([face for _, face, *_ in found], [row for *_, row in found]))
        moved = np.array([bool(adapted) for _, _, adapted, _ in found])
        keep_templates(database, db, np.array([person for person, *_ in found], np.int64), rows, moved)
    db.execute(f"DELETE FROM stale_templates WHERE person_id IN ({STALE})")


def keep_templates(
    database: Backend, db: Transaction, people: NDArray[np.int64], rows: Embeddings, moved: NDArray[np.bool_]
) -> None:
    """Insert the template of everybody who has a face that can be compared.

    Args:
        database: The gallery.
        db: A transaction of it.
        people: `(n,) int64` whose each row is, rising.
        rows: `(n, d) float32`.
        moved: `(n,) bool` which of them an adapter moved here.
    """
    usable = are_unit_rows(rows)
    starts = np.flatnonzero(np.diff(people, prepend=-1))
    (turn,) = db.execute("UPDATE numbers SET turn = turn + ? RETURNING turn", (len(starts),)).fetchone()
    for place, part in enumerate(np.split(np.arange(len(people)), starts[1:])):
        row = mean_row(rows[part][usable[part]])
        if row is not None:
            person = int(people[part[0]])
            facts = (turn - place, int(usable[part].sum()), int(moved[part].any()))
            db.execute(KEEP, (person, *facts, database.encode_template(person, row)))


def renew_all(database: Backend) -> None:
    """Make every template that is missing, some at a time, so that others who write get their turns."""
    while database.read("SELECT 1 FROM stale_templates LIMIT 1"):
        with database.write() as db:
            renew_templates(database, db)


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """The templates of a gallery in memory, as of one moment.

    Attributes:
        people: `(m,) int64` the person of each, rising.
        matrix: `(m, d) float32` unit rows.
        counts: `(m,) int64` how many faces each is the mean of.
        adapted: `(m,) bool` in which of them is a face that an adapter moved here.
        turn: The last change that is in them.
    """

    people: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    matrix: Embeddings = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    adapted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    turn: int = 0

    def scale(self, limits: Limits) -> NDArray[np.float32]:
        """Return what brings the distance to each to the scale of one face here, `(m,) float32`."""
        counts, places = np.unique(self.counts, return_inverse=True)
        factors = limits.thresholds.template_factors(counts)
        scale: NDArray[np.float32] = (1 / factors).astype(np.float32)[places]
        if limits.factor != 1:
            scale = np.where(self.adapted, scale * np.float32(limits.factor), scale)
        return scale

    def only(self, kept: NDArray[np.bool_ | np.intp]) -> Templates:
        """Return some of them, or all in another order."""
        return Templates(self.people[kept], self.matrix[kept], self.counts[kept], self.adapted[kept], self.turn)

    def join(self, later: Templates) -> Templates:
        """Return these and others, in the order of the people; nobody is in both."""
        if not len(later.people):
            return self
        if not len(self.people):
            return later
        joined = Templates(
            append(self.people, later.people),
            append(self.matrix, later.matrix),
            append(self.counts, later.counts),
            append(self.adapted, later.adapted),
            later.turn,
        )
        return joined if self.people[-1] < later.people[0] else joined.only(np.argsort(joined.people))


@dataclass(frozen=True, slots=True, eq=False)
class TemplateIndex:
    """Who is enrolled, by one template per person; a `SearchIndex`.

    Attributes:
        database: Where the names are.
        templates: In memory.
        own: The thresholds that the gallery keeps, or None.
        mixed: Those for rows that an adapter moved here, or None.
    """

    database: Backend
    templates: Templates
    own: Thresholds | None
    mixed: Thresholds | None

    @property
    def faces(self) -> int:
        """How many templates a probe is compared with."""
        return len(self.templates.people)

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the people who can count for each probe, with exact distances on the scale of one face."""
        known = self.templates
        expect_shape("rows", probes, ("n", known.matrix.shape[1]), np.float32)
        scale = known.scale(limits)
        hidden = np.flatnonzero(among(known.people, options.hidden))
        slack = 2 * rounding(known.matrix.shape[1]) * float(scale.max())
        for start in range(0, len(probes), PROBES):
            block = probes[start : start + PROBES]
            near = []
            for rough in unit_distances(block, known.matrix):
                rough *= scale
                rough[hidden] = np.inf
                order = nearest_faces(rough, known.people, faces=1, people=options.people)
                edge = min(float(rough[order[-1]]) + slack, FARTHEST)
                near.append(np.flatnonzero(rough <= edge))
            names = read_names(self.database, known.people[np.unique(np.concatenate(near))])
            for probe, places in zip(block, near, strict=True):
                there = places[[person in names for person in known.people[places].tolist()]]
                exact = exact_distances(probe, known.matrix[there]) * scale[there]
                yield Candidates(np.minimum(exact, np.float32(4)), known.people[there], names)


class TemplateCache:
    """Holds the templates of a gallery in memory, and reads what has changed before each search."""

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._templates = Templates()
        self._lock = threading.Lock()

    def load(self, signature: str) -> TemplateIndex:
        """Return who is enrolled now.

        Raises:
            SignatureError: The rows are not of this pipeline.
        """
        database = self._database
        renew_all(database)
        with self._lock, database.snapshot():
            [(theirs, width)] = database.read("SELECT signature, dimension FROM pipeline") or [("none", None)]
            if theirs != signature:
                raise SignatureError(database.path, theirs, signature)
            self._templates = refresh(database, self._templates, width or 0)
            templates = self._templates
            mixed = parse_thresholds(database, "adapted") if templates.adapted.any() else None
            return TemplateIndex(database, templates, read_thresholds(database), mixed)


def refresh(database: Backend, known: Templates, width: int) -> Templates:
    """Return the templates as they are now; only those that are new are read."""
    [(turn,)] = database.read("SELECT turn FROM numbers")
    with undamaged(database.path, "the turn of the templates"):
        expect_type(turn, int)
    if turn == known.turn and known.matrix.shape[1] == width:
        return known
    if known.turn > turn or known.matrix.shape[1] != width:  # a gallery that was put back, or upgraded
        known = Templates(matrix=np.zeros((0, width), np.float32))
    fresh = read_templates(database, known.turn, width)
    there = np.array(database.read("SELECT person_id FROM templates"), np.int64).ravel()
    kept = np.isin(known.people, there) & ~np.isin(known.people, fresh.people)
    return replace((known if kept.all() else known.only(kept)).join(fresh), turn=int(turn))


def read_templates(database: Backend, turn: int, width: int) -> Templates:
    """Return the templates that were made after a turn."""
    query = f"""SELECT person_id, turn, faces, adapted, {database.row_column} FROM templates
                WHERE turn > ? ORDER BY person_id"""
    found = database.read(query, turn)
    if not found:
        return Templates(matrix=np.zeros((0, width), np.float32), turn=turn)
    people = [person for person, *_ in found]
    with undamaged(database.path, "a template"):
        matrix = np.stack(database.decode_templates(people, [kept for *_, kept in found]))
        if matrix.shape != (len(found), width):
            raise ValueError(f"a template must have {width} numbers, got {matrix.shape[1]}")
        numbers = np.array([facts for _, *facts, _ in found], np.int64)  # turn, faces, adapted
        _, counts, adapted = numbers.T
        if counts.min() < 1:
            raise ValueError(f"a template must be the mean of 1 face or more, got {counts.min()}")
    return Templates(np.array(people, np.int64), matrix, counts, adapted.astype(bool), turn)


def read_names(database: Backend, people: NDArray[np.int64]) -> dict[int, str]:
    """Return the names of people by number; those who are not enrolled any more are left out."""
    names: dict[int, str] = {}
    for start in range(0, len(people), SLICE):
        some = people[start : start + SLICE].tolist()
        places = ", ".join("?" * len(some))
        names |= dict(database.read(f"SELECT id, name FROM people WHERE id IN ({places})", *some))
    return names


def append(first: NDArray[Kind], second: NDArray[Kind]) -> NDArray[Kind]:
    """Return two arrays as one, in the room behind the first if there is any.

    Searches that run meanwhile see the first alone: nothing of it is written again.
    """
    count = len(first) + len(second)
    whole = first.base
    if not isinstance(whole, np.ndarray) or whole.shape[1:] != first.shape[1:] or len(whole) < count:
        whole = np.empty((int(count * SPARE), *first.shape[1:]), first.dtype)
        whole[: len(first)] = first
    whole[len(first) : count] = second
    return whole[:count]
