"""Rows that are turned by a key: the same answers with it, none without it, and what that is worth."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from gallery_world import OneThreshold, face, identify_one

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.errors import SignatureError, TemplateKeyError, UpgradeError
from sameface.gallery import Gallery
from sameface.gallery.confirm import confirm_upgrade
from sameface.gallery.keys import NO_KEYS, Key, Keys, KeyText
from sameface.gallery.rekey import rekey_gallery
from sameface.gallery.rotation import Rotation, draw_normal, draw_orthogonal
from sameface.gallery.upgrade import Upgrade
from sameface.recognizer import Recognizer

KNOWN = Key(bytes(range(32)))
ONE, OTHER = (KeyText(Key(bytes([n]) * 32).text, f"key {n}") for n in (1, 2))
ROUNDING = 1e-6  # of a squared distance, between rows and the same rows turned
PIPELINE = OneThreshold(0.1)
NORMAL = [-2.9852950753250953, 1.3854850017935496, -1.6989880467137282]
TURNED = [
    [0.2653654845537903, -0.31272254615021233, 0.912022899239301],
    [-0.9487743660208028, -0.2529487153415761, 0.1893255127785741],
    [-0.17148866431737067, 0.9155444044591035, 0.3638269938779552],
]
CORNERS = [0.04943778975920465, 0.12442653457802576, -0.06231239505740959]
COLOURS = {"Ann": toy.RED, "Bob": toy.GREEN, "Eva": toy.BLUE, "Zoe": toy.YELLOW}


@pytest.fixture(scope="module")
def real(recognizer: Recognizer, samples: dict[str, Path]) -> tuple[Embeddings, list[str]]:
    """The embedding of the largest face of every sample, and whose it is."""
    templates = [recognizer.template(path, face="largest") for path in samples.values()]
    people = [name.rpartition("-")[0] for name in samples]
    return np.stack([template.embedding for template in templates]), people


def different(people: list[str]) -> np.ndarray:
    """Return `(n, n) bool`: which pairs are of two people."""
    names = np.array(people)
    return names[:, None] != names[None]


def make_rows(count: int, width: int, seed: int = 0) -> Embeddings:
    """Return unit rows in a cone, as embeddings of faces lie."""
    rng = np.random.default_rng(seed)
    return unit_rows((0.5 + rng.normal(size=(count, width))).astype(np.float32))


# The matrix


def test_the_numbers_of_a_key_are_these() -> None:
    assert KNOWN.fingerprint == "75aa03165864eb4e"
    stream = hashlib.shake_256(b"sameface rotation 1 of 3" + bytes(range(32))).digest(16)
    radius, angle = ((int.from_bytes(stream[n : n + 8], "big") >> 11) / 2**53 + 2**-54 for n in (0, 8))
    first = math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)
    assert first == pytest.approx(NORMAL[0], abs=1e-12)
    np.testing.assert_allclose(draw_normal(KNOWN, 3), NORMAL, rtol=0, atol=1e-12)
    np.testing.assert_allclose(draw_orthogonal(KNOWN, 3), TURNED, rtol=0, atol=1e-12)
    large = draw_orthogonal(KNOWN, 128)
    np.testing.assert_allclose([large[0, 0], large[0, 127], large[127, 0]], CORNERS, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3, 128, 512])
def test_a_matrix_keeps_lengths_and_angles(width: int) -> None:
    matrix = draw_orthogonal(KNOWN, width)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), rtol=0, atol=1e-12)


def test_each_key_and_each_width_has_a_matrix_of_its_own() -> None:
    one, other = (draw_orthogonal(source.read(), 128) for source in (ONE, OTHER))
    assert np.abs(one @ other.T).max() < 0.6  # of unrelated directions: about 1 / sqrt(128) each
    assert not np.allclose(draw_orthogonal(KNOWN, 3), draw_orthogonal(KNOWN, 4)[:3, :3])


def test_the_numbers_are_normal_and_no_direction_is_preferred() -> None:
    numbers = draw_normal(KNOWN, 100_000)
    assert abs(numbers.mean()) < 0.02
    assert numbers.std() == pytest.approx(1, abs=0.02)
    assert (numbers**4).mean() == pytest.approx(3, abs=0.15)
    first = np.array([draw_orthogonal(Key(bytes([n]) * 32), 3)[0] for n in range(256)])
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(first.T @ first / len(first), np.eye(3) / 3, atol=0.1)


def test_to_turn_back_gives_the_row_again() -> None:
    rows = make_rows(100, 128)
    np.testing.assert_allclose(Rotation(KNOWN).turn_back(Rotation(KNOWN).turn(rows)), rows, rtol=0, atol=2e-7)


# The same distances, and none under another key


def test_real_faces_keep_their_distances_their_decisions_and_their_ranks(
    real: tuple[Embeddings, list[str]], recognizer: Recognizer
) -> None:
    rows, _ = real
    before = squared_distances(rows, rows)
    turned = Rotation(ONE.read()).turn(rows)
    after = squared_distances(turned, turned)
    assert np.abs(after - before).max() < ROUNDING
    for threshold in recognizer.thresholds.distance:
        clear = np.abs(before - threshold) > ROUNDING
        assert ((before <= threshold) == (after <= threshold))[clear].all()
    for was, now in zip(before, after, strict=True):
        in_turn = was[np.argsort(now, kind="stable")]
        assert (np.diff(in_turn) > -2 * ROUNDING).all()


def test_the_same_face_under_two_keys_is_as_far_as_strangers(real: tuple[Embeddings, list[str]]) -> None:
    rows, people = real
    one, other = (Rotation(source.read()).turn(rows) for source in (ONE, OTHER))
    strangers = squared_distances(rows, rows)[different(people)]
    same = np.diagonal(squared_distances(one, other))
    against_plain = np.diagonal(squared_distances(one, rows))
    for distances in (same, against_plain):
        assert distances.mean() == pytest.approx(2, abs=0.5)  # nearly three standard deviations of one pair
        assert distances.min() > strangers.mean() - 2 * strangers.std()


def test_over_many_keys_the_distance_of_a_face_to_itself_is_that_of_unrelated_rows() -> None:
    row = make_rows(1, 128)
    turned = np.concatenate([Rotation(Key(bytes([n]) * 32)).turn(row) for n in range(64)])
    apart = squared_distances(turned, turned)[np.triu_indices(64, 1)]
    assert apart.mean() == pytest.approx(2, abs=0.05)
    assert apart.std() == pytest.approx(2 / np.sqrt(128), rel=0.15)


# What it does not protect against


def solve(plain: Embeddings, turned: Embeddings) -> np.ndarray:
    """Return the orthogonal matrix that best leads from rows to turned rows (Schönemann 1966)."""
    left, _, right = np.linalg.svd(turned.astype(np.float64).T @ plain.astype(np.float64))
    return left @ right


@pytest.mark.parametrize(("pairs", "solved"), [(32, False), (64, False), (128, True), (256, True)])
def test_as_many_known_pairs_as_numbers_give_the_rotation_away(pairs: int, solved: bool) -> None:
    rows = make_rows(pairs + 100, 128)
    turned = Rotation(KNOWN).turn(rows)
    found = solve(rows[:pairs], turned[:pairs])
    rest = np.einsum("ij,ij->i", rows[pairs:] @ found.T.astype(np.float32), turned[pairs:])  # cosines
    assert (rest.min() > 0.9999) == solved


def test_within_one_gallery_and_between_two_the_distances_show_who_is_who() -> None:
    rows = make_rows(50, 128)
    one, other = (Rotation(source.read()).turn(rows) for source in (ONE, OTHER))
    difference = squared_distances(one, one) - squared_distances(other, other)
    assert np.abs(difference).max() < ROUNDING


# Galleries


def fill(place: str, keys: Keys) -> None:
    """Enroll somebody of each colour."""
    with Gallery.open(place, PIPELINE, keys=keys) as gallery:
        for name, colour in COLOURS.items():
            gallery.enroll(name, [face(colour, name, crop=np.zeros((4, 4, 3), np.uint8))])


def check(place: str, keys: Keys) -> None:
    """See that everybody is found, at the distance that the plain rows have."""
    with Gallery.open(place, PIPELINE, keys=keys) as gallery:
        for name, colour in COLOURS.items():
            answer = identify_one(gallery, toy.row_of(colour), most=4)
            assert answer.name == name
            for match in answer.matches:
                wanted = toy.distance_of(colour, COLOURS[match.name])
                assert match.distance == pytest.approx(wanted, abs=ROUNDING)
            [template] = gallery.templates(name)
            np.testing.assert_allclose(template.embedding, toy.row_of(colour), rtol=0, atol=ROUNDING)


def test_a_gallery_answers_as_without_a_key(place: str) -> None:
    fill(place, Keys(template=ONE))
    check(place, Keys(template=ONE))


@pytest.mark.parametrize("made", [NO_KEYS, Keys(template=ONE)])
def test_another_key_is_an_error_and_not_a_wrong_answer(place: str, made: Keys) -> None:
    fill(place, made)
    for given in (NO_KEYS, Keys(template=ONE), Keys(template=OTHER)):
        if given == made:
            continue
        with pytest.raises(TemplateKeyError, match="keeps rows"):
            Gallery.open(place, PIPELINE, keys=given)
        with Gallery.open(place, keys=given) as gallery, pytest.raises(TemplateKeyError):
            gallery.templates("Ann")


def test_another_pipeline_is_told_as_ever(tmp_path: Path) -> None:
    fill(str(tmp_path / "g.db"), Keys(template=ONE))
    other = OneThreshold(0.1)
    other.signature = "t"
    with pytest.raises(SignatureError):
        Gallery.open(tmp_path / "g.db", other, keys=Keys(template=ONE))


def test_a_key_is_revoked(place: str) -> None:
    fill(place, NO_KEYS)
    with Gallery.open(place, PIPELINE) as before:
        assert identify_one(before, toy.row_of(toy.RED)).name == "Ann"
        assert rekey_gallery(place, NO_KEYS, ONE) == 4
        with pytest.raises(TemplateKeyError, match=f"turned by template key {ONE.read().fingerprint}"):
            identify_one(before, toy.row_of(toy.RED))
        with pytest.raises(TemplateKeyError):
            before.enroll("Max", [face(toy.WHITE, "Max")])
    check(place, Keys(template=ONE))
    assert rekey_gallery(place, Keys(template=ONE), OTHER) == 4
    check(place, Keys(template=OTHER))
    for wrong in (NO_KEYS, Keys(template=ONE)):
        with pytest.raises(TemplateKeyError):
            rekey_gallery(place, wrong, ONE)
    check(place, Keys(template=OTHER))
    assert rekey_gallery(place, Keys(template=OTHER), None) == 4
    check(place, NO_KEYS)


def kept_rows(path: Path) -> list[bytes]:
    """Return the rows in a file."""
    with closing(sqlite3.connect(path)) as db:
        return [row for (row,) in db.execute("SELECT embedding FROM faces ORDER BY id")]


def test_old_rows_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    fill(str(path), Keys(template=ONE))
    old = kept_rows(path)
    assert all(row in path.read_bytes() for row in old)
    rekey_gallery(path, Keys(template=ONE), OTHER)
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(row in data for row in old)
    assert all(row in data for row in kept_rows(path))


def test_an_encrypted_gallery_can_be_turned_too(tmp_path: Path) -> None:
    place, keys = str(tmp_path / "g.db"), Keys(OTHER, ONE)
    fill(place, keys)
    check(place, keys)
    assert rekey_gallery(place, keys, OTHER) == 4
    check(place, Keys(OTHER, OTHER))


def test_an_upgrade_turns_its_rows_by_the_same_key(tmp_path: Path) -> None:
    path, keys = tmp_path / "g.db", Keys(template=ONE)
    fill(str(path), keys)
    with pytest.raises(TemplateKeyError):
        Upgrade.open(path, "t")
    with Upgrade.open(path, "t", keys) as begun:
        [first, *_] = [each for faces in begun.pending().values() for each in faces]
        begun.put([first], np.array([[0, 0, 0, 1]], np.float32))
        begun.adapt(lambda rows: np.pad(rows, [(0, 0), (1, 0)]), toy.THRESHOLDS)
    confirm_upgrade(path)
    pipeline = OneThreshold(0.1)
    pipeline.signature = "t"
    with Gallery.open(path, pipeline, keys=keys) as gallery:
        [ann], [bob] = gallery.templates("Ann"), gallery.templates("Bob")
        np.testing.assert_allclose(ann.embedding, [0, 0, 0, 1], rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(bob.embedding, [0, 0, 1, 0], rtol=0, atol=ROUNDING)


def test_an_upgrade_that_is_not_confirmed_is_not_turned(tmp_path: Path) -> None:
    fill(str(tmp_path / "g.db"), NO_KEYS)
    Upgrade.open(tmp_path / "g.db", "t").close()
    with pytest.raises(UpgradeError, match="is not confirmed"):
        rekey_gallery(f"{tmp_path / 'g.db'}.upgraded", NO_KEYS, ONE)


def test_faces_of_one_picture_are_told_apart_as_ever(tmp_path: Path) -> None:
    keys = Keys(template=ONE)
    with Gallery.open(tmp_path / "g.db", PIPELINE, keys=keys) as gallery:
        assert gallery.enroll("Ann", [face(toy.RED, "p")]) == 1
        assert gallery.enroll("Ann", [replace(face(toy.RED, "p"), score=0.1)]) == 0
