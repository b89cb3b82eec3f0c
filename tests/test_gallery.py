"""The gallery, in the toy world: who is enrolled, and who is this."""

from __future__ import annotations

import os
import sqlite3
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sameface.errors import (
    BadNameError,
    FaceTakenError,
    GalleryBusyError,
    GalleryFileError,
    PersonExistsError,
    SignatureError,
    ThresholdError,
    UnknownPersonError,
)
from sameface.gallery import Forgotten, Gallery, Identification, Person, database
from sameface.gallery.schema import APPLICATION_ID, MIGRATIONS
from sameface.gallery.vote import rank_people
from sameface.recognizer import Recognizer
from sameface.template import Template


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


@pytest.fixture
def gallery(path: Path, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(path, toy_recognizer) as gallery:
        yield gallery


def face(colour: tuple[float, ...], picture: str = "p", left: float = 0, **more: object) -> Template:
    """Return a template of a colour that stands in a picture, 10 pixels wide."""
    box = np.array([left, 0, left + 10, 10], np.float32)
    return Template(picture, box, 0.9, toy.row_of(colour), **more)  # type: ignore[arg-type]


def turned(degrees: float) -> np.ndarray:
    """Return a unit row so many degrees from red; two that are `t` apart have distance 2 - 2 cos t."""
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle), 0], np.float32)


def enroll_turned(gallery: Gallery, people: dict[str, list[float]]) -> None:
    """Enroll people whose faces lie so many degrees from red."""
    for name, angles in people.items():
        gallery.enroll(name, [face(tuple(turned(angle)), f"{name}{angle}") for angle in angles])


def identify_one(gallery: Gallery, row: np.ndarray, **search: object) -> Identification:
    [answer] = gallery.identify(row[None], **search)  # type: ignore[arg-type]
    return answer


# Enrolling


def test_a_new_name_makes_a_new_person(gallery: Gallery) -> None:
    assert gallery.enroll("Red", [face(toy.RED)]) == 1
    assert gallery.people() == [Person("Red", 1)]


def test_a_known_name_gets_more_faces(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    assert gallery.enroll("Red", [face(toy.RED, "b"), face(toy.REDDISH, "c")]) == 2
    assert gallery.people() == [Person("Red", 3)]


def test_no_templates_make_nobody(gallery: Gallery) -> None:
    assert gallery.enroll("Red", []) == 0
    assert gallery.people() == []


def test_an_error_in_the_middle_enrolls_nothing(gallery: Gallery) -> None:
    gallery.enroll("Blue", [face(toy.BLUE, "taken")])
    with pytest.raises(FaceTakenError):
        gallery.enroll("Red", [face(toy.RED, "a"), face(toy.RED, "b"), face(toy.RED, "taken")])
    assert gallery.people() == [Person("Blue", 1)]
    assert gallery._db.read("SELECT count(*) FROM pictures") == [(1,)]


def test_a_template_of_another_width_enrolls_nothing(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    with pytest.raises(ValueError, match=r"embedding must have shape \(3,\), got \(4,\)"):
        gallery.enroll("Red", [face(toy.RED, "b"), face((1, 2, 3, 4), "c")])
    assert gallery.people() == [Person("Red", 1)]


def test_the_first_templates_must_be_of_one_width(gallery: Gallery) -> None:
    with pytest.raises(ValueError, match="embedding must have shape"):
        gallery.enroll("Red", [face(toy.RED, "a"), face((1, 2, 3, 4), "b")])
    assert gallery.enroll("Red", [face((1, 2, 3, 4), "b")]) == 1  # no width is left from the failure


def test_a_crop_that_is_no_picture_enrolls_nothing(gallery: Gallery) -> None:
    with pytest.raises(ValueError, match="crop must have shape"):
        gallery.enroll("Red", [face(toy.RED, crop=np.zeros((4, 4), np.uint8))])
    assert gallery.people() == []


def test_a_box_of_another_shape_enrolls_nothing(gallery: Gallery) -> None:
    with pytest.raises(ValueError, match="box must have shape"):
        gallery.enroll("Red", [Template("p", np.zeros(5, np.float32), 1, toy.row_of(toy.RED))])
    assert gallery.people() == []


def test_the_same_picture_again_adds_nothing(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    picture = toy.paint(toy.RED)
    assert [gallery.enroll("Red", [toy_recognizer.template(picture)]) for _ in range(2)] == [1, 0]
    assert gallery.people() == [Person("Red", 1)]


def test_one_face_twice_in_a_call_is_enrolled_once(gallery: Gallery) -> None:
    assert gallery.enroll("Red", [face(toy.RED), face(toy.RED)]) == 1


def test_a_slightly_moved_box_is_the_same_face(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    assert gallery.enroll("Red", [face(toy.RED, left=2)]) == 0  # 8 of 12 pixels are shared


def test_the_same_face_under_another_name_is_refused(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(FaceTakenError, match="is enrolled as 'Red'") as caught:
        gallery.enroll("Rouge", [face(toy.RED)])
    assert (caught.value.name, caught.value.owner) == ("Rouge", "Red")


def test_two_faces_of_one_picture_may_be_two_people(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    picture = toy.paint(toy.RED, toy.BLUE)
    gallery.enroll("Red", [toy_recognizer.template(picture, face=0)])
    gallery.enroll("Blue", [toy_recognizer.template(picture, face=1)])
    assert gallery.people() == [Person("Blue", 1), Person("Red", 1)]


def test_holds_tells_person_and_picture(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    asked = [("Red", "a"), (" Red ", "a"), ("Red", "b"), ("Blue", "a"), ("Nobody", "a"), ("Red", "c")]
    assert [gallery.holds(*pair) for pair in asked] == [True, True, False, False, False, False]


def test_people_are_listed_by_name(gallery: Gallery) -> None:
    for number, name in enumerate(["Émile", "bob", "Zoë", "Ann"]):
        gallery.enroll(name, [face(toy.RED, str(number))])
    assert [person.name for person in gallery.people()] == ["Ann", "Zoë", "bob", "Émile"]


def test_templates_come_back_as_they_went_in(gallery: Gallery) -> None:
    crop = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    given = [face(toy.RED, "a", left=3.25, crop=crop), face(toy.ORANGE, "b")]
    gallery.enroll("Red", given)
    found = gallery.templates("Red")
    assert [template.picture for template in found] == ["a", "b"]
    assert [template.score for template in found] == [0.9, 0.9]
    for one, other in zip(given, found, strict=True):
        np.testing.assert_array_equal(one.box, other.box)
        np.testing.assert_array_equal(one.embedding, other.embedding)
        assert other.box.dtype == other.embedding.dtype == np.float32
    np.testing.assert_array_equal(found[0].crop, crop)
    assert found[1].crop is None


def test_the_templates_of_nobody_are_an_error(gallery: Gallery) -> None:
    with pytest.raises(UnknownPersonError, match="nobody named 'Red' is enrolled"):
        gallery.templates("Red")


# Names


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "x" * 200,
        "O'Neil; DROP TABLE people",
        "👩‍🚀 Ann",
        "دانا",
        "名前",
        "../x",
        "[bold]",
        'a"b',
        "%s",
        "ﬁ²",
    ],
)
def test_a_name_may_be_any_text(gallery: Gallery, name: str) -> None:
    gallery.enroll(name, [face(toy.RED)])
    assert gallery.people() == [Person(name, 1)]
    assert identify_one(gallery, toy.row_of(toy.RED)).name == name
    assert gallery.forget(name).faces == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        (" \t\n", "it is empty"),
        ("x" * 201, "it has 201 characters, the limit is 200"),
        ("a\x00b", "control characters"),
        ("a\nb", "control characters"),
        ("a\x7fb", "control characters"),
        ("\ud800", "broken text"),
    ],
)
def test_a_name_that_is_no_name_is_refused(gallery: Gallery, name: str, reason: str) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(BadNameError, match=reason) as caught:
        gallery.enroll(name, [face(toy.BLUE, "b")])
    assert caught.value.name == name
    with pytest.raises(BadNameError, match=reason):
        gallery.rename("Red", name)
    assert gallery.people() == [Person("Red", 1)]


def test_two_spellings_of_a_name_are_one_person(gallery: Gallery) -> None:
    gallery.enroll(" " + unicodedata.normalize("NFD", "Zoë"), [face(toy.RED, "a")])
    gallery.enroll("Zoë\n", [face(toy.RED, "b")])
    assert gallery.people() == [Person("Zoë", 2)]
    assert len(gallery.templates(unicodedata.normalize("NFD", "Zoë"))) == 2


# Rename, merge, forget


def test_rename_keeps_the_faces(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.rename("Red", " Rouge ")
    assert gallery.people() == [Person("Rouge", 1)]
    assert identify_one(gallery, toy.row_of(toy.RED)).name == "Rouge"


def test_rename_to_the_same_name_changes_nothing(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.rename("Red", "Red")
    assert gallery.people() == [Person("Red", 1)]


def test_rename_to_a_taken_name_is_refused(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    with pytest.raises(PersonExistsError, match="a person named 'Blue' is enrolled already"):
        gallery.rename("Red", "Blue")
    assert gallery.people() == [Person("Blue", 1), Person("Red", 1)]


def test_merge_moves_every_face(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a"), face(toy.RED, "b")])
    gallery.enroll("Rouge", [face(toy.REDDISH, "c")])
    assert gallery.merge("Red", "Rouge") == 2
    assert gallery.people() == [Person("Rouge", 3)]
    assert identify_one(gallery, toy.row_of(toy.RED)).name == "Rouge"


def test_merge_into_oneself_is_refused(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(BadNameError, match="it is the very person to merge"):
        gallery.merge("Red", "Red ")
    assert gallery.people() == [Person("Red", 1)]


def test_an_unknown_person_is_an_error_everywhere(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    for act in (
        lambda: gallery.rename("Nobody", "Somebody"),
        lambda: gallery.merge("Nobody", "Red"),
        lambda: gallery.merge("Red", "Nobody"),
        lambda: gallery.forget("Nobody"),
    ):
        with pytest.raises(UnknownPersonError) as caught:
            act()
        assert caught.value.name == "Nobody"
    assert gallery.people() == [Person("Red", 1)]


def test_forget_says_what_was_deleted(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "both"), face(toy.RED, "own")])
    gallery.enroll("Blue", [face(toy.BLUE, "both", left=50)])
    assert gallery.forget("Red") == Forgotten("Red", faces=2, pictures=1)
    assert gallery.people() == [Person("Blue", 1)]
    assert identify_one(gallery, toy.row_of(toy.RED)).name is None
    assert gallery.holds("Blue", "both")


def test_a_forgotten_person_can_be_enrolled_again(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.forget("Red")
    assert gallery.enroll("Red", [face(toy.RED)]) == 1


SECRET_CROP = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def bytes_on_disk(path: Path) -> bytes:
    """Return everything that the gallery's files hold."""
    files = [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))]
    return b"".join(file.read_bytes() for file in files if file.exists())


def traces(path: Path, *secrets: bytes) -> list[bytes]:
    """Return which of the secrets stand in the gallery's files."""
    data = bytes_on_disk(path)
    return [secret for secret in secrets if secret in data]


def enroll_secret(gallery: Gallery, name: str = "Zacharias") -> list[bytes]:
    """Enroll someone among others, and return the bytes that must not outlive them."""
    picture, row = "5ec2e7" * 10, toy.row_of((77, 99, 11))
    for number in range(40):
        gallery.enroll(f"Someone {number}", [face((number + 1, 9, 9), f"{number}", crop=SECRET_CROP // 2)])
        if number == 20:
            gallery.enroll(name, [face((77, 99, 11), picture, crop=SECRET_CROP)])
    [kept] = gallery._db.read(
        "SELECT crop FROM faces JOIN people ON people.id = person_id WHERE name = ?", name
    )
    return [name.encode(), picture.encode(), row.tobytes(), kept[0]]


def test_the_traces_that_forget_must_remove_are_there_before(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    assert traces(path, *secrets) == secrets


def test_forget_leaves_no_byte(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.forget("Zacharias")
    assert traces(path, *secrets) == []
    assert len(gallery.people()) == 40


def test_forget_leaves_no_byte_of_a_former_name(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.rename("Zacharias", "Quentin")
    gallery.forget("Quentin")
    assert traces(path, *secrets, b"Quentin") == []


def test_forget_leaves_no_byte_of_who_was_merged(gallery: Gallery, path: Path) -> None:
    secrets = enroll_secret(gallery)
    gallery.enroll("Quentin", [face((12, 34, 56), "c0ffee")])
    gallery.merge("Zacharias", "Quentin")
    gallery.forget("Quentin")
    assert traces(path, *secrets, b"Quentin", b"c0ffee") == []


def test_forget_leaves_no_byte_after_the_file_was_closed_and_opened(
    path: Path, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        secrets = enroll_secret(gallery)
    with Gallery.open(path) as gallery:
        gallery.forget("Zacharias")
        assert traces(path, *secrets) == []
    assert traces(path, *secrets) == []


def test_forget_leaves_no_byte_while_another_has_the_file_open(
    gallery: Gallery, path: Path, toy_recognizer: Recognizer
) -> None:
    secrets = enroll_secret(gallery)
    with Gallery.open(path, toy_recognizer) as other:
        assert identify_one(other, toy.row_of((77, 99, 11))).name == "Zacharias"
        gallery.forget("Zacharias")
        assert traces(path, *secrets) == []
        assert identify_one(other, toy.row_of((77, 99, 11))).matches[0].name != "Zacharias"
    assert traces(path, *secrets) == []


def test_forget_makes_the_file_smaller(gallery: Gallery, path: Path) -> None:
    gallery.enroll("Ann", [face(toy.RED, str(number)) for number in range(1000)])
    gallery.forget_traces()
    before = path.stat().st_size
    gallery.forget("Ann")
    assert path.stat().st_size < before / 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for other programs a tenth of a second only."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)


@pytest.mark.parametrize("log", ["full", "empty"])
def test_forget_while_another_reads_says_that_traces_stay_and_can_be_repeated(
    impatient: None, path: Path, toy_recognizer: Recognizer, log: str
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        secrets = enroll_secret(gallery)
        if log == "empty":
            gallery.forget_traces()
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM people").fetchone()
        with pytest.raises(GalleryBusyError, match="forget again"):
            gallery.forget("Zacharias")
        assert "Zacharias" not in [person.name for person in gallery.people()]
        reader.close()
        with pytest.raises(UnknownPersonError):
            gallery.forget("Zacharias")
        assert traces(path, *secrets) == []


def test_forget_while_another_writes_deletes_nothing(
    impatient: None, path: Path, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryBusyError, match=r"waited 0 s for another program") as caught:
            gallery.forget("Red")
        assert caught.value.path == str(path)
        writer.close()
        assert gallery.forget("Red").faces == 1


# Identifying


def test_a_known_face_is_named_with_its_distance(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    answer = identify_one(gallery, toy.row_of(toy.REDDISH))
    assert answer.name == "Red"
    assert [match.name for match in answer.matches] == ["Red", "Blue"]
    wanted = [toy.distance_of(toy.REDDISH, colour) for colour in (toy.RED, toy.BLUE)]
    assert [match.distance for match in answer.matches] == pytest.approx(wanted, abs=1e-6)
    assert [match.votes for match in answer.matches] == [1, 0]


def test_a_stranger_is_not_named(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    answer = identify_one(gallery, toy.row_of(toy.GREEN))
    assert answer.name is None
    assert answer.matches[0].name == "Red"
    assert not answer.ambiguous


def test_in_a_closed_set_the_nearest_is_named_at_any_distance(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    opposite = -toy.row_of(toy.RED)
    assert identify_one(gallery, opposite).name is None
    answer = identify_one(gallery, opposite, closed_set=True)
    assert (answer.name, answer.closed_set, answer.matches[0].distance) == ("Red", True, 4.0)


def test_a_distance_on_the_threshold_is_named(path: Path) -> None:
    row = toy.row_of(toy.REDDISH)
    with Gallery.open(path, OneThreshold(float(2 - 2 * row[0]))) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        answer = identify_one(gallery, row)
        assert answer.matches[0].distance == pytest.approx(answer.threshold, abs=1e-6)
    threshold = answer.matches[0].distance
    with Gallery.open(path, OneThreshold(threshold)) as gallery:
        assert identify_one(gallery, row).name == "Red"
    with Gallery.open(path, OneThreshold(float(np.nextafter(threshold, 0)))) as gallery:
        assert identify_one(gallery, row).name is None


class OneThreshold:
    """A pipeline whose threshold is the same for every gallery."""

    signature = "s"

    def __init__(self, distance: float) -> None:
        self.thresholds = self
        self.distance = distance

    def at_gallery(self, size: int, far: float | None) -> tuple[float, float]:
        return self.distance, 0.01


def test_in_an_empty_gallery_everyone_is_a_stranger(gallery: Gallery) -> None:
    for closed_set in (False, True):
        answer = identify_one(gallery, toy.row_of(toy.RED), closed_set=closed_set)
        assert (answer.name, answer.matches, answer.ambiguous) == (None, (), False)
        assert (answer.threshold, answer.far, answer.closed_set) == (0.2, 0.01, closed_set)


def test_no_probes_give_no_answers(gallery: Gallery) -> None:
    assert gallery.identify(np.zeros((0, 3), np.float32)) == []
    gallery.enroll("Red", [face(toy.RED)])
    assert gallery.identify(np.zeros((0, 3), np.float32)) == []


def test_answers_come_in_the_order_of_the_probes(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    rows = np.stack([toy.row_of(colour) for colour in (toy.BLUE, toy.GREEN, toy.RED)])
    assert [answer.name for answer in gallery.identify(rows)] == ["Blue", None, "Red"]


def test_any_number_of_probes_is_answered_like_each_alone(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [0], "B": [40, 50], "C": [90]})
    rows = np.stack([turned(degrees) for degrees in range(150)])
    together, alone = gallery.identify(rows), [identify_one(gallery, row) for row in rows]
    assert [answer.name for answer in together] == [answer.name for answer in alone]
    nearest = [[match.distance for match in answer.matches] for answer in together]
    np.testing.assert_allclose(
        nearest, [[match.distance for match in answer.matches] for answer in alone], atol=1e-5
    )


def test_k_neighbours_vote(gallery: Gallery) -> None:
    enroll_turned(gallery, {"Near": [1], "Many": [2, 3], "Far": [90]})
    assert identify_one(gallery, turned(0)).name == "Near"
    answer = identify_one(gallery, turned(0), k=3)
    assert answer.name == "Many"
    assert [(match.name, match.votes) for match in answer.matches] == [("Near", 1), ("Many", 2), ("Far", 0)]


def test_of_equal_votes_the_nearest_wins(gallery: Gallery) -> None:
    enroll_turned(gallery, {"B": [2, 3], "A": [1, 4]})
    assert identify_one(gallery, turned(0), k=4).name == "A"


def test_of_equal_distances_the_face_enrolled_first_wins(gallery: Gallery) -> None:
    enroll_turned(gallery, {"Later": [50], "First": [5], "Second": [-5]})
    assert identify_one(gallery, turned(0)).name == "First"


def test_only_neighbours_within_the_threshold_vote(gallery: Gallery) -> None:
    enroll_turned(gallery, {"Near": [1], "Many": [60, 61, 62]})
    answer = identify_one(gallery, turned(0), k=4)
    assert (answer.name, answer.matches[1].votes) == ("Near", 0)
    assert identify_one(gallery, turned(0), k=4, closed_set=True).name == "Many"


def test_k_may_be_more_than_there_are(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    assert identify_one(gallery, toy.row_of(toy.RED), k=99).matches[0].votes == 1


def test_most_limits_the_people_but_not_the_verdict(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [1], "B": [1.5], "C": [2, 2.5, 3]})
    answer = identify_one(gallery, turned(0), k=5, most=1)
    assert answer.name == "C"
    assert answer.ambiguous
    assert [match.name for match in answer.matches] == ["C"]
    answer = identify_one(gallery, turned(0), k=5, most=2)
    assert [match.name for match in answer.matches] == ["A", "C"]


def test_two_people_within_the_threshold_are_ambiguous(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [1], "B": [2], "C": [90]})
    assert identify_one(gallery, turned(0)).ambiguous
    assert not identify_one(gallery, turned(90)).ambiguous


def test_two_faces_of_one_person_are_not_ambiguous(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [1, 2]})
    assert not identify_one(gallery, turned(0)).ambiguous


def test_the_threshold_falls_as_the_gallery_grows(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    seen = []
    for number in range(4):
        enroll_turned(gallery, {f"Person {number}": [float(number)]})
        answer = identify_one(gallery, turned(0))
        wanted = toy_recognizer.thresholds.at(1 - 0.99 ** (1 / (number + 1)))
        assert answer.threshold == pytest.approx(wanted)
        assert answer.far == 0.01
        seen.append(answer.threshold)
    assert seen == sorted(set(seen), reverse=True)


def test_far_sets_the_threshold(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    strict, loose = (identify_one(gallery, toy.row_of(toy.ORANGE), far=far) for far in (0.001, 0.1))
    assert (strict.name, strict.threshold, strict.far) == (None, pytest.approx(0.05), 0.001)
    assert (loose.name, loose.threshold, loose.far) == ("Red", pytest.approx(0.4), 0.1)


def test_a_far_that_the_calibration_does_not_reach_is_refused(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [1], "B": [2]})
    with pytest.raises(ThresholdError, match=r"a gallery of 2 faces and a rate of 0\.0001"):
        identify_one(gallery, turned(0), far=1e-4)  # two faces make 2e-4 of 1e-4 each
    assert identify_one(gallery, turned(0), far=2e-4).threshold == pytest.approx(0.01, abs=1e-4)


def test_probes_of_another_width_are_refused(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(ValueError, match="must have shape"):
        gallery.identify(np.zeros((1, 4), np.float32))
    with pytest.raises(TypeError, match="rows must be float32"):
        gallery.identify(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="rows must have shape"):
        gallery.identify(np.zeros(3, np.float32))


@pytest.mark.parametrize("search", [{"k": 0}, {"most": 0}])
def test_k_and_most_must_be_one_or_more(gallery: Gallery, search: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="k and most must be 1 or more"):
        identify_one(gallery, turned(0), **search)


def test_identify_sees_what_another_connection_wrote(
    gallery: Gallery, path: Path, toy_recognizer: Recognizer
) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    assert identify_one(gallery, toy.row_of(toy.BLUE)).name is None
    with Gallery.open(path, toy_recognizer) as other:
        other.enroll("Blue", [face(toy.BLUE, "b")])
        assert identify_one(gallery, toy.row_of(toy.BLUE)).name == "Blue"
        gallery.rename("Blue", "Bleu")
        assert identify_one(other, toy.row_of(toy.BLUE)).name == "Bleu"
        other.merge("Bleu", "Red")
        assert identify_one(gallery, toy.row_of(toy.BLUE)).name == "Red"


def test_rows_are_read_again_only_after_a_write(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    identify_one(gallery, turned(0))
    read = gallery._db.load(gallery._pipeline.signature)
    identify_one(gallery, turned(0))
    assert gallery._db.load(gallery._pipeline.signature) is read
    gallery.rename("Red", "Rouge")
    identify_one(gallery, turned(0))
    assert gallery._db.load(gallery._pipeline.signature) is not read


def slow_rank(
    distances: list[float], owners: list[int], k: int, limit: float, most: int
) -> list[tuple[int, float, int]]:
    """Rank people the obvious way."""
    faces = sorted(range(len(owners)), key=lambda face: (distances[face], face))
    voters = [owners[face] for face in faces[:k] if distances[face] <= limit]
    nearest: dict[int, float] = {}
    for place in faces:
        nearest.setdefault(owners[place], distances[place])
    people = list(nearest)
    chosen = people[:most]
    winner = max(people, key=voters.count)
    if voters and winner not in chosen:
        chosen[-1] = winner
    return [(person, nearest[person], voters.count(person)) for person in chosen]


@settings(max_examples=300, deadline=None)
@given(
    faces=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=80),
    k=st.integers(1, 12),
    limit=st.integers(-1, 12),
    most=st.integers(1, 6),
)
@example(faces=[(1, n % 7) for n in range(300)], k=12, limit=12, most=6)  # all equally near
@example(faces=[(0, 0)] * 5 + [(1, 1)] * 99, k=12, limit=12, most=1)  # equally near past the selection
@example(faces=[(0, 0)] * 60 + [(2, 1), (1, 2)], k=1, limit=12, most=2)  # one person crowds out the others
def test_ranking_equals_the_obvious_way(faces: list[tuple[int, int]], k: int, limit: int, most: int) -> None:
    distances, owners = [near / 4 for near, _ in faces], [owner for _, owner in faces]
    ranked = rank_people(
        np.array(distances, np.float32), np.array(owners, np.int64), k=k, limit=limit / 4, most=most
    )
    assert ranked == slow_rank(distances, owners, k, limit / 4, most)


# The file


def test_a_gallery_refuses_rows_of_another_pipeline(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer):
        pass
    other = OneThreshold(0.1)
    with pytest.raises(SignatureError, match="enroll again into a new gallery") as caught:
        Gallery.open(path, other)  # type: ignore[arg-type]
    assert (caught.value.theirs, caught.value.ours) == (toy_recognizer.signature, "s")
    with Gallery.open(path, toy_recognizer) as gallery:
        assert gallery.people() == []


def test_without_a_pipeline_people_are_managed_but_not_enrolled_or_identified(
    path: Path, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED, "a")])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        gallery.enroll("Green", [face(toy.GREEN, "c")])
    with Gallery.open(path) as gallery:
        gallery.rename("Red", "Rouge")
        gallery.merge("Green", "Blue")
        gallery.forget("Blue")
        assert gallery.people() == [Person("Rouge", 1)]
        assert len(gallery.templates("Rouge")) == 1
        with pytest.raises(ValueError, match="opened without a pipeline"):
            gallery.enroll("Red", [face(toy.RED)])
        with pytest.raises(ValueError, match="opened without a pipeline"):
            gallery.identify(np.zeros((1, 3), np.float32))


def test_without_a_pipeline_no_file_is_made(path: Path) -> None:
    with pytest.raises(GalleryFileError, match="there is no such file: enroll someone first"):
        Gallery.open(path)
    assert not path.exists()


def test_a_missing_file_is_not_made_if_that_is_not_wanted(path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="there is no such file") as caught:
        Gallery.open(path, toy_recognizer, create=False)
    assert caught.value.path == str(path)
    assert not path.exists()


def test_a_missing_folder_is_an_error(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="cannot make it: No such file or directory"):
        Gallery.open(tmp_path / "missing" / "people.db", toy_recognizer)


def test_a_folder_is_no_gallery(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(GalleryFileError, match="unable to open database file"):
        Gallery.open(tmp_path, toy_recognizer)


def test_a_file_of_something_else_is_refused_and_kept(path: Path, toy_recognizer: Recognizer) -> None:
    path.write_bytes(b"My diary. " * 1000)
    with pytest.raises(GalleryFileError, match="is it a gallery file"):
        Gallery.open(path, toy_recognizer)
    assert path.read_bytes() == b"My diary. " * 1000


def test_another_programs_database_is_refused_and_kept(path: Path, toy_recognizer: Recognizer) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE people (name TEXT)")
    db.close()
    with pytest.raises(GalleryFileError, match="a SQLite file, but not a gallery"):
        Gallery.open(path, toy_recognizer)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("people",)]
    db.close()


def test_an_empty_file_becomes_a_gallery(path: Path, toy_recognizer: Recognizer) -> None:
    path.touch()  # as a program leaves it that was killed at once
    with Gallery.open(path, toy_recognizer) as gallery:
        assert gallery.enroll("Red", [face(toy.RED)]) == 1


def test_a_gallery_of_a_later_version_is_refused(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery._db.read(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(GalleryFileError, match="made by a later sameface"):
        Gallery.open(path, toy_recognizer)


def test_a_truncated_file_is_an_error(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        enroll_secret(gallery)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def use() -> None:
        with Gallery.open(path, toy_recognizer) as gallery:
            gallery.identify(np.zeros((1, 3), np.float32))

    with pytest.raises(GalleryFileError, match="malformed: is it a gallery file"):
        use()


def test_text_that_is_none_is_an_error(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery._db.read("UPDATE people SET name = CAST(x'ff' AS TEXT)")
        with pytest.raises(GalleryFileError, match="Could not decode to UTF-8"):
            gallery.people()


def test_a_commit_is_on_the_disk_and_faces_belong_to_people(gallery: Gallery) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert {name: gallery._db.read(f"PRAGMA {name}")[0][0] for name in wanted} == wanted


def test_a_closed_gallery_says_so(path: Path, toy_recognizer: Recognizer) -> None:
    gallery = Gallery.open(path, toy_recognizer)
    gallery.close()
    with pytest.raises(ValueError, match="closed database"):
        gallery.people()
    with pytest.raises(ValueError, match="closed database"):
        gallery.enroll("Red", [face(toy.RED)])


def test_a_failed_write_leaves_the_gallery_usable(path: Path, toy_recognizer: Recognizer) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        [(pages,)] = gallery._db.read("PRAGMA page_count")
        gallery._db.read(f"PRAGMA max_page_count = {pages}")
        crop = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
        with pytest.raises(GalleryFileError, match="full"):
            gallery.enroll("Red", [face(toy.RED, crop=crop)])
        gallery._db.read("PRAGMA max_page_count = 1000")
        assert gallery.enroll("Red", [face(toy.RED, crop=crop)]) == 1


def test_only_the_owner_may_read_the_files(gallery: Gallery, path: Path) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_may_have_any_name(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    place = tmp_path / os.fsdecode(b"a?mode=memory#%41 \xff'.db")
    with Gallery.open(place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    assert place.stat().st_size > 0
    with Gallery.open(str(place)) as gallery:
        assert gallery.people() == [Person("Red", 1)]


def test_the_file_says_which_version_it_is(gallery: Gallery) -> None:
    assert gallery._db.read("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert gallery._db.read("PRAGMA application_id") == [(APPLICATION_ID,)]


def test_an_older_file_gets_the_migrations_it_lacks(
    path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    more = ("CREATE TABLE second (x); CREATE TABLE also (x)", "ALTER TABLE second ADD COLUMN third")
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, *more))
    for _ in range(2):
        with Gallery.open(path, toy_recognizer) as gallery:
            assert gallery._db.read("PRAGMA user_version") == [(len(MIGRATIONS) + 2,)]
            assert gallery._db.read("SELECT name FROM pragma_table_info('second')") == [("x",), ("third",)]
            assert gallery.people() == [Person("Red", 1)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE second (x); NONSENSE"))
        with pytest.raises(GalleryFileError, match="syntax error"):
            Gallery.open(path, toy_recognizer)
    with Gallery.open(path, toy_recognizer) as gallery:
        assert gallery._db.read("SELECT count(*) FROM sqlite_master WHERE name = 'second'") == [(0,)]
        assert gallery.people() == [Person("Red", 1)]
