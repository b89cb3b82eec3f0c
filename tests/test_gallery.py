"""What a gallery does, over every back end, in the toy world: who is enrolled, and who is this."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import toy
from gallery_world import OneThreshold, enroll_turned, face, identify_one, turned
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sameface.errors import ThresholdError
from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.decision import rank_people
from sameface.gallery.errors import BadNameError, FaceTakenError, PersonExistsError, SignatureError, UnknownPersonError
from sameface.recognizer import Recognizer


@pytest.fixture
def gallery(place: str, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(place, toy_recognizer) as gallery:
        yield gallery


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
    ["A", "x" * 200, "O'Neil; DROP TABLE people", "👩‍🚀 Ann", "دانا", "名前", "../x", "[bold]", 'a"b', "%s", "ﬁ²"],
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
    assert gallery.merge("Red", "Rouge").faces == 2
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
    person = gallery.person("Red").number
    gone = gallery.forget("Red")
    assert (gone.person, gone.face, gone.faces, gone.crops, gone.pictures) == (person, None, 2, 0, 1)
    assert gallery.people() == [Person("Blue", 1)]
    assert identify_one(gallery, toy.row_of(toy.RED)).name is None
    assert gallery.holds("Blue", "both")


def test_a_forgotten_person_can_be_enrolled_again(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.forget("Red")
    assert gallery.enroll("Red", [face(toy.RED)]) == 1


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


def test_a_distance_on_the_threshold_is_named(place: str) -> None:
    row = toy.row_of(toy.REDDISH)
    with Gallery.open(place, OneThreshold(float(2 - 2 * row[0]))) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        answer = identify_one(gallery, row)
        assert answer.matches[0].distance == pytest.approx(answer.threshold, abs=1e-6)
    threshold = answer.matches[0].distance
    with Gallery.open(place, OneThreshold(threshold)) as gallery:
        assert identify_one(gallery, row).name == "Red"
    with Gallery.open(place, OneThreshold(float(np.nextafter(threshold, 0)))) as gallery:
        assert identify_one(gallery, row).name is None


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
    np.testing.assert_allclose(nearest, [[match.distance for match in answer.matches] for answer in alone], atol=1e-5)


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
    with pytest.raises(ThresholdError, match=r"a gallery of 2 and a rate of 0\.0001"):
        identify_one(gallery, turned(0), far=1e-4)  # two faces make 2e-4 of 1e-4 each
    assert identify_one(gallery, turned(0), far=2e-4).threshold == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize("length", [1.3, 0.0, np.nan])
def test_rows_that_are_no_embeddings_are_neither_enrolled_nor_identified(gallery: Gallery, length: float) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    row = toy.row_of(toy.BLUE) * np.float32(length)
    with pytest.raises(ValueError, match="embedding must be finite and of length 1, row 1"):
        gallery.enroll("Blue", [face(toy.BLUE, "b"), replace(face(toy.BLUE, "c"), embedding=row)])
    assert gallery.people() == [Person("Red", 1)]
    for closed_set in (False, True):
        with pytest.raises(ValueError, match="rows must be finite and of length 1, row 1"):
            gallery.identify(np.stack([toy.row_of(toy.RED), row]), closed_set=closed_set)


def test_probes_of_another_width_are_refused(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(ValueError, match="must have shape"):
        gallery.identify(np.eye(1, 4, dtype=np.float32))
    with pytest.raises(TypeError, match="rows must be float32"):
        gallery.identify(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="rows must have shape"):
        gallery.identify(np.zeros(3, np.float32))


@pytest.mark.parametrize("search", [{"k": 0}, {"most": 0}])
def test_k_and_most_must_be_one_or_more(gallery: Gallery, search: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="k and most must be 1 or more"):
        identify_one(gallery, turned(0), **search)


def test_identify_sees_what_another_connection_wrote(gallery: Gallery, place: str, toy_recognizer: Recognizer) -> None:
    gallery.enroll("Red", [face(toy.RED, "a")])
    assert identify_one(gallery, toy.row_of(toy.BLUE), rule="rows").name is None
    with Gallery.open(place, toy_recognizer) as other:
        other.enroll("Blue", [face(toy.BLUE, "b")])
        assert identify_one(gallery, toy.row_of(toy.BLUE), rule="rows").name == "Blue"
        gallery.rename("Blue", "Bleu")
        assert identify_one(other, toy.row_of(toy.BLUE), rule="rows").name == "Bleu"
        other.merge("Bleu", "Red")
        assert identify_one(gallery, toy.row_of(toy.BLUE), rule="rows").name == "Red"


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_rows_are_read_again_only_after_a_write(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    read = gallery._db.load(toy_recognizer.signature)
    assert gallery._db.load(toy_recognizer.signature) is read
    gallery.rename("Red", "Rouge")
    assert gallery._db.load(toy_recognizer.signature) is not read


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
    ranked = rank_people(np.array(distances, np.float32), np.array(owners, np.int64), k=k, limit=limit / 4, most=most)
    assert ranked == slow_rank(distances, owners, k, limit / 4, most)


# Opening


def test_a_gallery_refuses_rows_of_another_pipeline(place: str, toy_recognizer: Recognizer) -> None:
    with Gallery.open(place, toy_recognizer):
        pass
    other = OneThreshold(0.1)
    with pytest.raises(SignatureError, match="enroll again into a new gallery") as caught:
        Gallery.open(place, other)  # type: ignore[arg-type]
    assert (caught.value.theirs, caught.value.ours) == (toy_recognizer.signature, "s")
    with Gallery.open(place, toy_recognizer) as gallery:
        assert gallery.people() == []


def test_without_a_pipeline_people_are_managed_but_not_enrolled_or_identified(
    place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED, "a")])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        gallery.enroll("Green", [face(toy.GREEN, "c")])
    with Gallery.open(place) as gallery:
        gallery.rename("Red", "Rouge")
        gallery.merge("Green", "Blue")
        gallery.forget("Blue")
        assert gallery.people() == [Person("Rouge", 1)]
        assert len(gallery.templates("Rouge")) == 1
        with pytest.raises(ValueError, match="opened without a pipeline"):
            gallery.enroll("Red", [face(toy.RED)])
        with pytest.raises(ValueError, match="opened without a pipeline"):
            gallery.identify(toy.row_of(toy.RED)[None])


def test_a_closed_gallery_says_so(place: str, toy_recognizer: Recognizer) -> None:
    gallery = Gallery.open(place, toy_recognizer)
    gallery.close()
    with pytest.raises(ValueError, match="closed database"):
        gallery.people()
    with pytest.raises(ValueError, match="closed database"):
        gallery.enroll("Red", [face(toy.RED)])
