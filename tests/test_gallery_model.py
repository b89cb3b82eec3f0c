"""Whatever is done to a gallery, in whatever order: it is as a plain dict says, in every database."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sameface.errors import SamefaceError
from sameface.face import Template
from sameface.gallery import Gallery, Identification, Match
from sameface.gallery.errors import (
    BadNameError,
    FaceTakenError,
    LastFaceError,
    PersonExistsError,
    UnknownFaceError,
    UnknownPersonError,
)
from sameface.thresholds import Thresholds

# Rows whose distances are 0, 1, 2, 3 or 4 to the last bit, so that many are equally near.
AXES = [sign * axis for axis in np.eye(4) for sign in (1, -1)]
HALVES = [np.array(signs) / 2 for signs in itertools.product((1, -1), repeat=4)]
ROWS = np.array(AXES + HALVES, np.float32)  # (24, 4)
NAMES = ["Ann", "bob", "Émile", "名前", "Zoë"]
NOBODY = 10**9
OWN = Thresholds((0.5, 1e-3), (3.0, 0.5), (5000, 10), 10_000, "of its own")

Key = tuple[str, int]  # a picture, and the place in it

names = st.sampled_from(NAMES)
keys = st.tuples(st.sampled_from("pqrs"), st.integers(0, 4))
places = st.integers(0, len(ROWS) - 1)
turns = st.integers(0, 1)  # which of two handles
notes = st.none() | st.sampled_from(["form 1", "form 2"])


class Rows:
    """A pipeline that makes those rows."""

    signature = "of the model"
    thresholds = Thresholds((0.5, 1e-2, 1e-5), (3.5, 2.0, 0.25), (5000, 100, 1), 10_000, "of the rows")


@dataclass
class Known:
    """A person in the model: their number, what face of theirs is where, and the note."""

    number: int
    faces: dict[int, tuple[Key, int]] = field(default_factory=dict)  # by number: where it is, and its row
    consent: str | None = None


class Acts(RuleBasedStateMachine):
    """A gallery that two handles act on, and the dict that it must be like."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.people: dict[str, Known] = {}
        self.own: Thresholds | None = None
        self.numbers: set[int] = set()  # that were ever given

    @initialize()
    def open(self) -> None:
        self.handles = [Gallery.open(self.place, Rows()) for _ in range(2)]
        for place, (faces, note) in enumerate([(2, "form 1"), (2, None), (1, None), (1, "form 2")]):
            name, pictures = NAMES[place], "pq"[:faces]
            self.add(0, name, name, [((picture, place), 3 * place) for picture in pictures], note, new=True)

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()

    # What is done

    @rule(turn=turns, name=names, faces=st.lists(st.tuples(keys, places), max_size=3), note=notes)
    def enroll(self, turn: int, name: str, faces: list[tuple[Key, int]], note: str | None) -> None:
        spelled = unicodedata.normalize("NFD", name)
        self.add(turn, spelled, name, faces, note, new=False)

    @rule(turn=turns, name=names, faces=st.lists(st.tuples(keys, places), min_size=1, max_size=2))
    def enroll_as_new(self, turn: int, name: str, faces: list[tuple[Key, int]]) -> None:
        if name in self.people:
            self.refuse(PersonExistsError, lambda: self.send(turn, name, faces, None, new=True))
        else:
            self.add(turn, name, name, faces, None, new=True)

    @rule(turn=turns, name=names, faces=st.lists(st.tuples(keys, places), max_size=2), note=notes)
    def enroll_by_number(self, turn: int, name: str, faces: list[tuple[Key, int]], note: str | None) -> None:
        if name in self.people:
            self.add(turn, self.people[name].number, name, faces, note, new=False)
        elif faces:
            self.refuse(UnknownPersonError, lambda: self.send(turn, NOBODY, faces, note, new=False))

    @rule(turn=turns, old=names, new=names)
    def rename(self, turn: int, old: str, new: str) -> None:
        act = lambda: self.handles[turn].rename(old, new)  # noqa: E731
        if old not in self.people:
            self.refuse(UnknownPersonError, act)
        elif new in self.people and new != old:
            self.refuse(PersonExistsError, act)
        else:
            act()
            self.people[new] = self.people.pop(old)

    @rule(turn=turns, source=names, into=names)
    def merge(self, turn: int, source: str, into: str) -> None:
        act = lambda: self.handles[turn].merge(source, into)  # noqa: E731
        if not {source, into} <= self.people.keys():
            self.refuse(UnknownPersonError, act)
        elif source == into:
            self.refuse(BadNameError, act)
        else:
            gone = self.people[source]
            assert act().faces == len(gone.faces)
            kept = self.people[into]
            kept.faces |= gone.faces
            kept.consent = gone.consent if kept.consent is None else kept.consent
            del self.people[source]

    @rule(turn=turns, name=names)
    def forget(self, turn: int, name: str) -> None:
        act = lambda: self.handles[turn].forget(name)  # noqa: E731
        if name in self.people:
            act()
            del self.people[name]
        else:
            self.refuse(UnknownPersonError, act)

    @rule(turn=turns, owner=names, other=st.sampled_from([None, None, None, *NAMES[:2]]), which=st.integers(0, 5))
    def forget_face(self, turn: int, owner: str, other: str | None, which: int) -> None:
        assume(owner in self.people)
        name = owner if other is None else other
        faces = sorted(self.people[owner].faces)
        number = faces[which % len(faces)]
        act = lambda: self.handles[turn].forget_face(name, number)  # noqa: E731
        if name not in self.people:
            self.refuse(UnknownPersonError, act)
        elif name != owner:
            self.refuse(UnknownFaceError, act)
        elif len(faces) == 1:
            self.refuse(LastFaceError, act)
        else:
            act()
            del self.people[name].faces[number]

    @rule(turn=turns, name=names, note=st.sampled_from(["form 3", "form 4"]))
    def note_consent(self, turn: int, name: str, note: str) -> None:
        act = lambda: self.handles[turn].note_consent(name, note)  # noqa: E731
        if name in self.people:
            act()
            self.people[name].consent = note
        else:
            self.refuse(UnknownPersonError, act)

    @rule(turn=turns, own=st.sampled_from([None, OWN]))
    def keep_thresholds(self, turn: int, own: Thresholds | None) -> None:
        self.handles[turn].keep_thresholds(own)
        self.own = own

    @rule(turn=turns)
    def reopen(self, turn: int) -> None:
        self.handles[turn].close()
        self.handles[turn] = Gallery.open(self.place, Rows())

    # What is seen

    @rule(
        turn=turns,
        probes=st.lists(places, max_size=4),
        k=st.integers(1, 6),
        most=st.integers(1, 4),
        closed_set=st.booleans(),
    )
    def identify(self, turn: int, probes: list[int], k: int, most: int, *, closed_set: bool) -> None:
        found = self.handles[turn].identify(ROWS[probes], k=k, most=most, closed_set=closed_set)
        assert found == [self.decide(ROWS[probe], k, most, closed_set=closed_set) for probe in probes]

    @rule(turn=turns, after=names, limit=st.integers(1, 3))
    def list_a_page(self, turn: int, after: str, limit: int) -> None:
        page = [person.name for person in self.handles[turn].people(limit=limit, after=after)]
        assert page == sorted(name for name in self.people if name > after)[:limit]

    @rule(turn=turns, name=names, after=st.integers(0, 12), limit=st.integers(1, 3))
    def list_faces(self, turn: int, name: str, after: int, limit: int) -> None:
        act = lambda: self.handles[turn].faces(name, after=after, limit=limit)  # noqa: E731
        if name in self.people:
            numbers = [face.number for face in act()]
            assert numbers == sorted(number for number in self.people[name].faces if number > after)[:limit]
        else:
            self.refuse(UnknownPersonError, act)

    @precondition(lambda self: self.people)
    @rule(turn=turns)
    def read_templates(self, turn: int) -> None:
        for name, person in self.people.items():
            found = [(each.picture, each.box[0], *each.embedding) for each in self.handles[turn].templates(name)]
            kept = [person.faces[number] for number in sorted(person.faces)]
            assert found == [(key[0], 100 * key[1], *ROWS[row]) for key, row in kept]

    @rule(turn=turns, key=keys, name=names)
    def ask_for_an_owner(self, turn: int, key: Key, name: str) -> None:
        handle = self.handles[turn]
        assert handle.owner_of(template_at(key, 0)) == self.owners().get(key)
        assert handle.holds(name, key[0]) == any(
            owner == name and picture == key[0] for (picture, _), owner in self.owners().items()
        )

    @invariant()
    def people_are_those_of_the_dict(self) -> None:
        for handle in self.handles:
            found = [(each.name, each.number, each.faces, each.consent) for each in handle.people()]
            assert found == sorted(
                (name, person.number, len(person.faces), person.consent) for name, person in self.people.items()
            )
            assert handle.count() == (len(found), sum(faces for _, _, faces, _ in found))

    # The dict

    def add(
        self, turn: int, who: str | int, name: str, faces: list[tuple[Key, int]], note: str | None, *, new: bool
    ) -> None:
        """Enroll faces, and take them over, or see all of them refused."""
        if {self.owners().get(key, name) for key, _ in faces} - {name}:
            self.refuse(FaceTakenError, lambda: self.send(turn, who, faces, note, new=new))
            return
        fresh = {key: row for key, row in reversed(faces) if key not in self.owners()}  # the first of a place
        assert self.send(turn, who, faces, note, new=new) == len(fresh)
        if not faces:
            return
        handle = self.handles[turn]
        if name not in self.people:
            self.people[name] = Known(self.take_number(handle.person(name).number))
        person = self.people[name]
        person.consent = person.consent if note is None else note
        numbers = [face.number for face in handle.faces(name) if face.number not in person.faces]
        in_order = dict.fromkeys(key for key, _ in faces if key in fresh)
        for number, key in zip(numbers, in_order, strict=True):
            person.faces[self.take_number(number)] = (key, fresh[key])

    def send(self, turn: int, who: str | int, faces: list[tuple[Key, int]], note: str | None, *, new: bool) -> int:
        """Enroll faces."""
        templates = [template_at(*face) for face in faces]
        return self.handles[turn].enroll(who, templates, new=new, consent=note)

    def take_number(self, number: int) -> int:
        """Return a number that nobody and nothing had before."""
        assert number not in self.numbers
        self.numbers.add(number)
        return number

    def refuse(self, kind: type[SamefaceError], act: Callable[[], object]) -> None:
        """See something refused; the invariant sees that nothing has changed."""
        with pytest.raises(kind):
            act()

    def owners(self) -> dict[Key, str]:
        """Return whose each face is."""
        return {key: name for name, person in self.people.items() for key, _ in person.faces.values()}

    def decide(self, probe: np.ndarray, k: int, most: int, *, closed_set: bool) -> Identification:
        """Return who a probe is: everything is looked at, the nearest first, then the first enrolled."""
        enrolled = self.faces() if k > 1 else self.means()
        limit = (self.own or Rows.thresholds).at_gallery(len(enrolled))
        threshold, far = limit.distance, limit.fpir
        near = sorted((measured(row, probe), number, name) for number, name, row in enrolled)
        limit = 4 if closed_set else threshold
        votes = Counter(name for distance, _, name in near[:k] if distance <= limit)
        first: dict[str, float] = {}
        for distance, _, name in near:
            first.setdefault(name, distance)
        listed = list(first)[:most]
        winner = max(first, key=lambda name: votes[name], default=None)  # of equals the nearest
        if winner is not None and votes[winner] and winner not in listed:
            listed[-1] = winner
        matches = tuple(Match(name, first[name], votes[name]) for name in listed)
        ambiguous = sum(distance <= threshold for distance in first.values()) > 1
        rule = "rows" if k > 1 else "template"
        return Identification(matches, threshold, far, ambiguous, closed_set, rule, size=len(enrolled))

    def faces(self) -> list[tuple[int, str, np.ndarray]]:
        """Return the number, the owner and the row of every face."""
        return [
            (number, name, ROWS[row]) for name, each in self.people.items() for number, (_, row) in each.faces.items()
        ]

    def means(self) -> list[tuple[int, str, np.ndarray]]:
        """Return the number, the name and the template of everybody whose rows do not cancel out."""
        found = []
        for name, each in self.people.items():
            total = np.sum([ROWS[row] for _, row in each.faces.values()], axis=0, dtype=np.float64)
            if np.linalg.norm(total) > 1e-6:
                found.append((each.number, name, (total / np.linalg.norm(total)).astype(np.float32)))
        return found


def measured(row: np.ndarray, probe: np.ndarray) -> float:
    """Return the squared distance of two unit rows, rounded once."""
    return float(np.float32(np.clip(2 - 2 * (row.astype(np.float64) * probe).sum(), 0, 4)))


def template_at(key: Key, row: int) -> Template:
    """Return a face at a place of a picture."""
    picture, place = key
    box = np.array([100 * place, 0, 100 * place + 50, 50], np.float32)
    return Template(picture, box, 0.5, ROWS[row])


@pytest.mark.parametrize(
    ("kind", "examples"), [("sqlite", 24), ("postgres", 3), ("milvus", 2), ("milvus on postgres", 2)]
)
def test_a_gallery_is_as_a_dict_says(kind: str, examples: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    numbers = itertools.count()

    def make() -> Acts:
        number = next(numbers)
        if kind == "sqlite":
            return Acts(str(tmp_path / f"{number}.db"))
        people = str(tmp_path / f"{number}.db")
        if kind != "milvus":
            people = f"{request.getfixturevalue('postgres_server')}&schema=model {kind} {number}"
        return Acts(people if kind == "postgres" else request.getfixturevalue("milvus_server").place(people))

    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )
