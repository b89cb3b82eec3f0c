"""People and faces of a gallery by number, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import toy

from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.errors import (
    BadNameError,
    BadNoteError,
    LastFaceError,
    PersonExistsError,
    UnknownFaceError,
    UnknownPersonError,
)
from sameface.recognizer import Recognizer


@pytest.fixture
def gallery(place: str, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(place, toy_recognizer) as gallery:
        yield gallery


def face(picture: str, **more: object) -> Template:
    """Return a red face of a picture."""
    return Template(picture, np.array([0, 0, 10, 10], np.float32), 0.9, toy.row_of(toy.RED), **more)  # type: ignore[arg-type]


def numbers(gallery: Gallery, who: str | int) -> list[int]:
    return [each.number for each in gallery.faces(who)]


def test_a_number_stays_with_the_person(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")])
    number = gallery.person("Rosa").number
    gallery.rename(number, "Rosie")
    assert gallery.person(number) == Person("Rosie", 1, number)
    assert gallery.enroll(number, [face("b")]) == 1
    assert [each.picture for each in gallery.templates(number)] == ["a", "b"]


def test_a_number_is_never_given_again(gallery: Gallery) -> None:
    seen: list[int] = []
    for turn in range(3):
        gallery.enroll("Rosa", [face(f"a{turn}"), face(f"b{turn}")])
        seen += [gallery.person("Rosa").number, *numbers(gallery, "Rosa")]
        gallery.forget("Rosa")
    assert len(set(seen)) == len(seen) == 9


def test_nobody_has_an_unknown_number(gallery: Gallery) -> None:
    for call in (
        lambda: gallery.person(7),
        lambda: gallery.faces(7),
        lambda: gallery.templates(7),
        lambda: gallery.crop(7, 1),
        lambda: gallery.forget_face(7, 1),
        lambda: gallery.forget(7),
        lambda: gallery.rename(7, "Rosa"),
        lambda: gallery.enroll(7, [face("a")]),
    ):
        with pytest.raises(UnknownPersonError, match="nobody number 7 is enrolled"):
            call()
    assert gallery.people() == []


def test_a_person_can_be_made_only_once(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")], new=True)
    with pytest.raises(PersonExistsError, match="'Rosa' is enrolled already"):
        gallery.enroll("Rosa", [face("b")], new=True)
    assert gallery.people() == [Person("Rosa", 1)]


def test_of_many_at_once_one_makes_the_person(gallery: Gallery) -> None:
    def make(number: int) -> bool:
        try:
            return gallery.enroll("Rosa", [face(str(number))], new=True) == 1
        except PersonExistsError:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(make, range(32))) == 1


def test_people_come_a_page_at_a_time(gallery: Gallery) -> None:
    for name in "DBCAE":
        gallery.enroll(name, [face(name)])
    assert [person.name for person in gallery.people(limit=2)] == ["A", "B"]
    assert [person.name for person in gallery.people(limit=2, after="B")] == ["C", "D"]
    assert [person.name for person in gallery.people(after="D")] == ["E"]
    assert gallery.people(after="E") == []
    assert gallery.people(limit=0) == []


def test_people_and_faces_are_counted(gallery: Gallery) -> None:
    assert gallery.count() == (0, 0)
    gallery.enroll("Rosa", [face("a"), face("b")])
    gallery.enroll("Blu", [face("c")])
    assert gallery.count() == (2, 3)


def test_faces_come_in_the_order_of_enrolment_with_what_is_kept(gallery: Gallery) -> None:
    crop = np.full((8, 8, 3), 7, np.uint8)
    gallery.enroll("Rosa", [face("a"), face("b", crop=crop)])
    first, second = gallery.faces("Rosa")
    assert (first.has_crop, second.has_crop) == (False, True)
    assert second.box.tolist() == [0, 0, 10, 10]
    assert gallery.crop("Rosa", first.number) is None
    kept = gallery.crop("Rosa", second.number)
    assert kept is not None
    assert (kept == crop).all()
    assert [each.number for each in gallery.faces("Rosa", limit=1)] == [first.number]
    assert [each.number for each in gallery.faces("Rosa", after=first.number)] == [second.number]


def test_a_forgotten_face_leaves_the_picture_of_another_person(gallery: Gallery) -> None:
    right = Template("a", np.array([50, 0, 60, 10], np.float32), 0.9, toy.row_of(toy.BLUE))
    gallery.enroll("Rosa", [face("a"), face("b")])
    gallery.enroll("Blu", [right])
    gallery.forget_face("Rosa", numbers(gallery, "Rosa")[0])
    assert gallery.holds("Blu", "a")
    assert gallery.owner_of(right) == "Blu"


def test_the_last_face_is_not_forgotten_alone(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")])
    [only] = numbers(gallery, "Rosa")
    with pytest.raises(LastFaceError, match=f"face number {only} is the only one of this person"):
        gallery.forget_face("Rosa", only)
    assert numbers(gallery, "Rosa") == [only]


def test_a_face_of_another_person_is_not_touched(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a"), face("b")])
    gallery.enroll("Blu", [face("c"), face("d")])
    theirs = numbers(gallery, "Blu")[0]
    for call in (gallery.forget_face, gallery.crop):
        with pytest.raises(UnknownFaceError, match=f"no face number {theirs}"):
            call("Rosa", theirs)
    assert gallery.count() == (2, 4)


def test_whose_face_it_is_can_be_asked(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")])
    assert gallery.owner_of(face("a")) == "Rosa"
    assert gallery.owner_of(face("b")) is None


def test_two_numbers_become_one_person(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")])
    gallery.enroll("Rosie", [face("b")])
    one, two = (gallery.person(name).number for name in ("Rosa", "Rosie"))
    assert gallery.merge(one, two).faces == 1
    assert gallery.people() == [Person("Rosie", 2)]
    with pytest.raises(BadNameError):
        gallery.merge(two, "Rosie")


@pytest.mark.parametrize("turn", ["\u202a", "\u202e", "\u2066", "\u2067", "\u2069"])
def test_a_name_does_not_turn_the_text_round_it(gallery: Gallery, turn: str) -> None:
    with pytest.raises(BadNameError, match="turn the direction"):
        gallery.enroll(f"a{turn}b", [face("a")])


def test_a_note_on_consent_stays_with_the_person(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")], consent=" form\n7 ")
    gallery.enroll("Rosa", [face("b")])
    gallery.rename("Rosa", "Rosie")
    assert gallery.person("Rosie").consent == gallery.people()[0].consent == "form 7"
    gallery.note_consent("Rosie", "form 8")
    assert gallery.person("Rosie").consent == "form 8"


@pytest.mark.parametrize(("theirs", "ours", "kept"), [("a", "b", "b"), ("a", None, "a"), (None, None, None)])
def test_a_merge_keeps_the_note_of_who_stays_or_else_that_of_who_goes(
    gallery: Gallery, theirs: str | None, ours: str | None, kept: str | None
) -> None:
    gallery.enroll("Rosa", [face("a")], consent=theirs)
    gallery.enroll("Rosie", [face("b")], consent=ours)
    gallery.merge("Rosa", "Rosie")
    assert gallery.people() == [Person("Rosie", 2, consent=kept)]


@pytest.mark.parametrize("note", ["", " ", "x" * 501, "\u202e"])
def test_a_note_that_cannot_be_kept_enrolls_nobody(gallery: Gallery, note: str) -> None:
    with pytest.raises(BadNoteError, match="cannot keep the note"):
        gallery.enroll("Rosa", [face("a")], consent=note)
    assert gallery.people() == []


def test_a_match_says_who_it_is_by_number(gallery: Gallery) -> None:
    gallery.enroll("Rosa", [face("a")])
    [found] = gallery.identify(toy.row_of(toy.RED)[None])
    assert found.named is not None
    assert (found.named.name, found.named.number) == ("Rosa", gallery.person("Rosa").number)
