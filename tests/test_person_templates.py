"""One template per person: the mean of their embeddings, right after every change, in every back end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from gallery_world import OneThreshold, enroll_turned, face, identify_one, turned

from sameface.gallery import Gallery
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.index import EmbeddingTable, append
from sameface.gallery.keys import Key, Keys, KeyText
from sameface.gallery.person_templates import mean_row
from sameface.recognizer import Recognizer

KEY = KeyText(Key(bytes([3]) * 32).text, "the key of this test")


@pytest.fixture
def gallery(place: str, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(place, toy_recognizer) as gallery:
        yield gallery


def distance_of(gallery: Gallery, degrees: float) -> float:
    """Return how far the nearest template is from a direction."""
    return identify_one(gallery, turned(degrees)).matches[0].distance


def away(degrees: float) -> float:
    return 2 - 2 * float(np.cos(np.radians(degrees)))


def test_a_probe_is_compared_with_the_mean_of_a_persons_faces(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [0, 20]})
    assert distance_of(gallery, 10) == pytest.approx(0, abs=1e-6)
    assert distance_of(gallery, 0) == pytest.approx(away(10), abs=1e-6)
    assert identify_one(gallery, turned(0), rule="rows").matches[0].distance == pytest.approx(0, abs=1e-6)


def test_one_wrong_picture_among_five_names_nobody(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [-2, -1, 1, 2, 80]})
    stranger = turned(81)
    assert identify_one(gallery, stranger, rule="rows").name == "A"
    assert identify_one(gallery, stranger).name is None


def test_the_answer_names_its_rule_its_size_and_of_whom_the_rate_holds(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [0, 20], "B": [60]})
    by_template, by_rows = (identify_one(gallery, turned(0), rule=rule) for rule in ("template", "rows"))
    assert (by_template.rule, by_template.size, by_template.population) == ("template", 2, "mixed")
    assert (by_rows.rule, by_rows.size) == ("rows", 3)
    assert identify_one(gallery, turned(0), k=2).rule == "rows"
    with pytest.raises(ValueError, match="k must be 1 where each person has one template, got 2"):
        identify_one(gallery, turned(0), k=2, rule="template")


def test_a_template_is_right_after_every_change(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [0]})
    assert distance_of(gallery, 0) == pytest.approx(0, abs=1e-6)
    enroll_turned(gallery, {"A": [30]})
    assert distance_of(gallery, 15) == pytest.approx(0, abs=1e-6)
    [first, _] = gallery.faces("A")
    gallery.forget_face("A", first.number)
    assert distance_of(gallery, 30) == pytest.approx(0, abs=1e-6)
    enroll_turned(gallery, {"B": [50]})
    gallery.merge("B", "A")
    assert distance_of(gallery, 40) == pytest.approx(0, abs=1e-6)
    gallery.rename("A", "C")
    assert identify_one(gallery, turned(40)).name == "C"
    gallery.forget("C")
    assert identify_one(gallery, turned(40)).matches == ()


def test_what_another_connection_changes_is_seen(gallery: Gallery, place: str) -> None:
    enroll_turned(gallery, {"A": [0], "B": [60]})
    assert identify_one(gallery, turned(60)).name == "B"
    with Gallery.open(place, toy.make_recognizer()) as other:
        enroll_turned(other, {"B": [80], "C": [120]})
        other.forget("A")
    assert distance_of(gallery, 70) == pytest.approx(0, abs=1e-6)
    assert [match.name for match in identify_one(gallery, turned(120)).matches] == ["C", "B"]


def test_without_the_weights_a_template_is_gone_at_once_and_comes_back_with_them(
    place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(place, toy_recognizer) as gallery:
        enroll_turned(gallery, {"A": [0, 40]})
        [first, _] = gallery.faces("A")
    with Gallery.open(place) as bare:
        bare.forget_face("A", first.number)
        assert bare._db.read("SELECT count(*) FROM templates") == [(0,)]
    with Gallery.open(place, toy_recognizer) as gallery:
        assert distance_of(gallery, 40) == pytest.approx(0, abs=1e-6)


def test_rows_that_cancel_each_other_out_name_nobody(gallery: Gallery) -> None:
    gallery.enroll("A", [face(tuple(turned(0)), "a"), face(tuple(turned(180)), "b")])
    assert identify_one(gallery, turned(0)).matches == ()
    assert identify_one(gallery, turned(0), rule="rows").name == "A"


def test_who_has_expired_is_passed_over_by_template_too(gallery: Gallery) -> None:
    enroll_turned(gallery, {"A": [0], "B": [30]})
    with gallery._db.write() as db:
        db.execute("UPDATE people SET expires = 1 WHERE name = 'A'")
    assert [match.name for match in identify_one(gallery, turned(0)).matches] == ["B"]


def test_a_mean_of_several_faces_has_its_own_threshold(tmp_path: Path) -> None:
    thresholds = replace(toy.THRESHOLDS, templates=((1, 1.0), (2, 0.5)))
    pipeline = OneThreshold(0.1)
    pipeline.thresholds = thresholds  # type: ignore[assignment]
    with Gallery.open(tmp_path / "people.db", pipeline) as gallery:
        enroll_turned(gallery, {"A": [0, 0.001], "B": [90]})
        a, b = identify_one(gallery, turned(20)), identify_one(gallery, turned(70))
    assert a.matches[0].distance == pytest.approx(2 * away(20), rel=1e-3)
    assert b.matches[0].distance == pytest.approx(away(20), rel=1e-3)


def test_thresholds_of_the_gallery_take_the_factors_of_the_weights(tmp_path: Path) -> None:
    pipeline = OneThreshold(0.1)
    pipeline.thresholds = replace(toy.THRESHOLDS, templates=((1, 1.0), (2, 0.5)))  # type: ignore[assignment]
    with Gallery.open(tmp_path / "people.db", pipeline) as gallery:
        enroll_turned(gallery, {"A": [0, 0.001]})
        gallery.keep_thresholds(toy.THRESHOLDS)
        assert distance_of(gallery, 20) == pytest.approx(2 * away(20), rel=1e-3)


def test_templates_of_an_encrypted_gallery_are_sealed(tmp_path: Path) -> None:
    path, keys = tmp_path / "people.db", Keys(KEY)
    with Gallery.open(path, toy.make_recognizer(), keys=keys) as gallery:
        enroll_turned(gallery, {"A": [0, 20]})
        assert distance_of(gallery, 10) == pytest.approx(0, abs=1e-6)
    plain = turned(10).astype(np.float32).tobytes()
    with closing(sqlite3.connect(path)) as db:
        [(kept,)] = db.execute("SELECT embedding FROM templates").fetchall()
        assert plain not in kept
        with pytest.raises(sqlite3.IntegrityError, match="the gallery is encrypted"):
            db.execute("INSERT INTO templates VALUES (99, 99, 1, 0, ?)", (plain,))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE templates SET embedding = x'00', turn = turn + 1",
        "UPDATE templates SET faces = 0, turn = turn + 1",
        "UPDATE templates SET faces = 'many', turn = turn + 1",
        "UPDATE numbers SET turn = 'late'",
    ],
)
def test_a_damaged_template_is_an_error(tmp_path: Path, damage: str) -> None:
    with Gallery.open(tmp_path / "people.db", toy.make_recognizer()) as gallery:
        enroll_turned(gallery, {"A": [0]})
        with gallery._db.write() as db:
            db.execute(damage)
        with pytest.raises(GalleryFileError, match=r"damaged: (a|the turn of the) template"):
            identify_one(gallery, turned(0))


def test_a_template_may_be_the_mean_of_any_number_of_faces(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "people.db", toy.make_recognizer()) as gallery:
        enroll_turned(gallery, {"A": [0]})
        with gallery._db.write() as db:
            db.execute("UPDATE templates SET faces = 9000000000000000000, turn = turn + 1")
        assert identify_one(gallery, turned(0)).name == "A"


def test_many_changes_give_the_templates_of_a_fresh_look(gallery: Gallery, place: str) -> None:
    rng = np.random.default_rng(0)
    for turn in range(25):
        enroll_turned(gallery, {f"person {rng.integers(8)}": [float(rng.integers(180)) + turn / 100]})
        if turn % 5 == 4 and len(people := gallery.people()) > 2:
            gallery.forget(people[int(rng.integers(len(people)))].name)
        probe = turned(float(rng.integers(180)))
        with Gallery.open(place, toy.make_recognizer()) as fresh:
            assert identify_one(gallery, probe, most=9) == identify_one(fresh, probe, most=9)


def test_the_mean_of_unit_rows_has_length_1() -> None:
    rows = np.stack([turned(0), turned(60)])
    assert mean_row(rows) == pytest.approx(turned(30), abs=1e-6)
    assert mean_row(np.zeros((0, 3), np.float32)) is None
    assert mean_row(np.stack([turned(0), turned(180)])) is None


def test_what_is_appended_never_changes_what_a_search_holds() -> None:
    first = append(np.arange(3), np.arange(3, 6))
    held = first[:]
    one, other = append(first, np.array([7])), append(first, np.array([8]))
    assert held.tolist() == [0, 1, 2, 3, 4, 5]
    assert (one.tolist()[:6], other.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 8])


def test_templates_are_joined_in_the_order_of_the_people() -> None:
    def some(*people: int) -> EmbeddingTable:
        keys, matrix = np.array(people), np.array([turned(person) for person in people], np.float32)
        return EmbeddingTable(keys, keys, matrix, np.ones(len(people), np.int64), np.zeros(len(people), bool))

    joined = some(1, 5).join(some(3))
    assert joined.keys.tolist() == [1, 3, 5]
    assert joined.matrix[1] == pytest.approx(turned(3))
