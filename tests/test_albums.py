"""Albums: a folder scanned again and again, groups with names, and corrections that stay."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy

from sameface.albums import corrections
from sameface.albums.grouping import group_rows
from sameface.albums.scan import ScanReport, name_known, prune, scan_folder, update_groups
from sameface.albums.store import Store
from sameface.errors import AlbumError
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer

PEOPLE = {"red": toy.RED, "green": toy.GREEN, "blue": toy.BLUE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people with three pictures each, and a picture of two of them."""
    folder = tmp_path / "photos"
    (folder / "2020").mkdir(parents=True)
    for note, (name, colour) in enumerate(PEOPLE.items()):
        for number in range(3):
            toy.save(folder / "2020" / f"{name}-{number}.png", colour, note=10 * note + number)
    toy.save(folder / "both.png", toy.RED, toy.GREEN, note=99)
    return folder


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "photos.album", folder) as store:
        yield store


def scan(store: Store, recognizer: Recognizer, **options: object) -> ScanReport:
    report = scan_folder(store, recognizer, **options)  # type: ignore[arg-type]
    update_groups(store, recognizer, min_quality=0)
    return report


def group_of(store: Store, file: str, place: int = 0) -> int:
    """Return the group of a face of a picture, from left to right."""
    faces = sorted((face for face in store.faces() if file in face.files), key=lambda face: face.face.box[0])
    group = faces[place].group
    assert group is not None
    return group


def sets(store: Store) -> set[frozenset[int]]:
    """Return the groups as sets of faces."""
    groups: dict[int | None, set[int]] = {}
    for face in store.faces():
        groups.setdefault(face.group, set()).add(face.number)
    return {frozenset(members) for members in groups.values()}


def test_a_scan_groups_the_faces_of_each_person(store: Store, toy_recognizer: Recognizer) -> None:
    report = scan(store, toy_recognizer)
    assert (report.pictures, report.searched, report.unchanged, report.failures) == (10, 10, 0, [])
    assert sorted(group.faces for group in store.groups()) == [3, 4, 4]
    assert group_of(store, "both.png") == group_of(store, "2020/red-1.png")


def test_a_second_scan_reads_nothing(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    before = sets(store)
    report = scan(store, toy_recognizer)
    assert (report.pictures, report.unchanged, report.searched, report.known) == (10, 10, 0, 0)
    assert sets(store) == before


def test_a_moved_picture_keeps_its_faces(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    number = next(face.number for face in store.faces() if face.files == ("both.png",))
    (folder / "both.png").rename(folder / "2020" / "moved.png")
    report = scan(store, toy_recognizer)
    assert (report.searched, report.known, report.gone) == (0, 1, 0)
    assert store.face(number).files == ("2020/moved.png",)


def test_an_edited_picture_keeps_the_numbers_and_names_of_its_faces(
    store: Store, folder: Path, toy_recognizer: Recognizer
) -> None:
    scan(store, toy_recognizer)
    group = group_of(store, "2020/red-0.png")
    corrections.name_group(store, group, "Rosa")
    [face] = [face for face in store.faces() if face.files == ("2020/red-0.png",)]
    toy.save(folder / "2020" / "red-0.png", toy.REDDISH, note=77)
    assert scan(store, toy_recognizer).searched == 1
    assert store.face(face.number).person == "Rosa"
    assert store.face(face.number).picture != face.picture


def test_a_deleted_picture_is_kept_until_it_is_pruned(
    store: Store, folder: Path, toy_recognizer: Recognizer, tmp_path: Path
) -> None:
    scan(store, toy_recognizer)
    shutil.move(folder / "2020" / "blue-0.png", tmp_path / "away.png")
    assert scan(store, toy_recognizer).gone == 1
    shutil.move(tmp_path / "away.png", folder / "back.png")
    assert scan(store, toy_recognizer).gone == 0
    (folder / "back.png").unlink()
    scan(store, toy_recognizer)
    assert prune(store) == 1
    assert len(store.faces()) == 10


def test_a_copy_is_searched_once(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    shutil.copy(folder / "both.png", folder / "copy.png")
    report = scan(store, toy_recognizer)
    assert (report.searched, report.known) == (0, 1)
    assert ("both.png", "copy.png") in [face.files for face in store.faces()]


def test_a_damaged_picture_is_named_and_tried_again(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    (folder / "bad.jpg").write_bytes(b"nothing")
    assert len(scan(store, toy_recognizer).failures or ()) == 1
    toy.save(folder / "good.png", toy.BLUE, note=55)
    (folder / "good.png").replace(folder / "bad.jpg")
    assert scan(store, toy_recognizer).failures == []


def test_new_pictures_join_the_groups_there_are(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    group = group_of(store, "2020/blue-0.png")
    corrections.name_group(store, group, "Bo")
    toy.save(folder / "new.png", toy.BLUE, note=200)
    scan(store, toy_recognizer)
    joined = store.group(group_of(store, "new.png"))
    assert (joined.person, joined.faces) == ("Bo", 4)


def test_a_poor_face_joins_a_group_but_begins_none(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    toy.save(folder / "stranger.png", toy.WHITE, note=201)
    scan_folder(store, toy_recognizer)
    poor = """SELECT picture_id FROM files WHERE CAST(path AS TEXT) IN ('stranger.png', '2020/blue-1.png')"""
    with store.change() as db:
        db.execute(f"UPDATE faces SET quality = CASE WHEN picture_id IN ({poor}) THEN 0.01 ELSE 1 END")
    update_groups(store, toy_recognizer, min_quality=0.5)
    assert group_of(store, "2020/blue-1.png") == group_of(store, "2020/blue-0.png")
    left = [face.files for face in store.faces("group_id IS NULL")]
    assert left == [("stranger.png",)]


def test_a_name_not_given_stays_away(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    group = group_of(store, "2020/red-0.png")
    corrections.name_group(store, group, "Rosa")
    wrong = next(face for face in store.faces() if face.files == ("2020/red-0.png",)).number
    moved = corrections.reject_name(store, wrong, "Rosa")
    assert store.face(wrong).person is None
    assert store.group(moved).faces == 1
    update_groups(store, toy_recognizer, min_quality=0, anew=True)
    assert store.face(wrong).person is None
    assert {face.person for face in store.faces("sha256 <> ?", store.face(wrong).picture)} == {"Rosa", None}


def test_a_correction_moves_no_other_face(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    group = group_of(store, "2020/red-0.png")
    corrections.name_group(store, group, "Rosa")
    before = {face.number: face.group for face in store.faces()}
    wrong = next(face for face in store.faces() if face.files == ("2020/red-0.png",)).number
    corrections.reject_name(store, wrong, "Rosa")
    after = {face.number: face.group for face in store.faces()}
    assert {number for number in before if before[number] != after[number]} == {wrong}


def test_merged_and_split_groups_stay_so_when_all_is_grouped_again(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    red, blue = group_of(store, "2020/red-0.png"), group_of(store, "2020/blue-0.png")
    corrections.merge_groups(store, blue, red)
    assert store.group(red).faces == 7
    greens = [face.number for face in store.faces() if face.group == group_of(store, "2020/green-0.png")]
    corrections.split_group(store, greens[:2])
    before = sets(store)
    update_groups(store, toy_recognizer, min_quality=0, anew=True)
    assert sets(store) == before


def test_names_survive_other_weights(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    corrections.name_group(store, group_of(store, "2020/red-0.png"), "Rosa")
    corrections.hide_group(store, group_of(store, "2020/blue-0.png"))
    other = toy.make_recognizer("other")
    assert other.signature != toy_recognizer.signature
    with pytest.raises(AlbumError, match="--upgrade"):
        scan_folder(store, other)
    assert scan(store, other, upgrade=True).searched == 10
    update_groups(store, other, min_quality=0, anew=True)
    assert store.group(group_of(store, "2020/red-2.png")).person == "Rosa"
    assert store.group(group_of(store, "2020/blue-0.png")).hidden
    assert len(store.groups()) == 2


def test_every_change_can_be_undone(store: Store, toy_recognizer: Recognizer) -> None:
    scan(store, toy_recognizer)
    red, green, blue = (group_of(store, f"2020/{name}-0.png") for name in PEOPLE)

    def state() -> list[object]:
        tables = ("faces", "groups", "answers", "links")
        return [store.read(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]

    states = [state()]
    face = next(face.number for face in store.faces() if face.group == green)
    corrections.name_group(store, red, "Rosa")
    states.append(state())
    corrections.merge_groups(store, blue, red)
    states.append(state())
    corrections.split_group(store, [face])
    states.append(state())
    corrections.confirm_name(store, face, "Rosa")
    states.append(state())
    corrections.reject_name(store, face, "Rosa")
    states.append(state())
    corrections.hide_group(store, red)
    verbs = []
    for before in reversed(states):
        verbs.append(corrections.undo(store))
        assert state() == before
    assert verbs == ["hide", "not", "is", "split", "merge", "name"]
    assert corrections.undo(store) == ""


def test_groups_like_a_named_one_are_suggested_the_nearest_first(
    store: Store, folder: Path, toy_recognizer: Recognizer
) -> None:
    toy.save(folder / "reddish.png", toy.REDDISH, note=210)
    scan(store, toy_recognizer)
    corrections.name_group(store, group_of(store, "2020/red-0.png"), "Rosa")
    [suggestion] = corrections.suggest_groups(store, "Rosa")  # the others are farther than the rate of 0.01
    reddish = group_of(store, "reddish.png")
    assert suggestion.group.number == reddish
    assert suggestion.distance == pytest.approx(toy.distance_of(toy.RED, toy.REDDISH), abs=1e-5)
    corrections.name_group(store, reddish, "Otto")
    assert corrections.suggest_groups(store, "Rosa") == []


def test_groups_are_numbered_without_holes_in_the_order_of_the_list(
    store: Store, folder: Path, toy_recognizer: Recognizer
) -> None:
    toy.save(folder / "aa.png", toy.WHITE, note=213)
    scan(store, toy_recognizer)
    assert [group.number for group in store.groups()] == [1, 2, 3, 4]
    assert [group.faces for group in store.groups()] == [4, 4, 3, 1]
    corrections.name_group(store, 4, "Wei")
    scan(store, toy_recognizer)
    assert store.group(4).person == "Wei"  # nothing was new, so the numbers stay
    toy.save(folder / "bb.png", toy.WHITE, note=214)
    scan(store, toy_recognizer)
    assert store.group(1).person == "Wei"


def test_the_most_uncertain_face_comes_first(store: Store, folder: Path, toy_recognizer: Recognizer) -> None:
    toy.save(folder / "reddish.png", toy.REDDISH, note=211)
    scan_folder(store, toy_recognizer)
    update_groups(store, toy_recognizer, far=0.01, min_quality=0)
    doubts = corrections.find_doubts(store)
    assert doubts[0].face.files == ("reddish.png",)
    assert [doubt.margin for doubt in doubts] == sorted(doubt.margin for doubt in doubts)
    corrections.confirm_name(store, doubts[0].face.number, "Rosa")
    assert "reddish.png" not in corrections.find_doubts(store)[0].face.files


def test_a_gallery_names_whom_it_knows(store: Store, toy_recognizer: Recognizer, tmp_path: Path) -> None:
    scan(store, toy_recognizer)
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Rosa", [toy_recognizer.template(store.folder / "2020" / "red-0.png")])
        assert name_known(store, gallery) == 1
    assert store.group(group_of(store, "2020/red-2.png")).person == "Rosa"


def test_who_has_no_folder_or_another_file_is_refused(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(AlbumError, match="scan FOLDER"):
        Store.open(tmp_path / "missing.album")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE things (id)")
    with pytest.raises(AlbumError, match="choose another file"):
        Store.open(other, tmp_path)
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(AlbumError, match="not a database"):
        Store.open(tmp_path / "text", tmp_path)
    with Store.open(tmp_path / "gone.album", tmp_path / "gone") as store, pytest.raises(AlbumError, match="disk"):
        scan_folder(store, toy_recognizer)
    assert (tmp_path / "gone.album").stat().st_mode & 0o777 == 0o600


def test_of_two_programs_one_waits_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sameface.albums.store.WAIT_SECONDS", 0.1)
    with Store.open(store.path) as other, store.change(), pytest.raises(AlbumError, match="another program"):
        prune(other)


def test_of_two_corrections_that_contradict_each_other_the_later_counts() -> None:
    rows = np.eye(4, dtype=np.float32)
    links = [(0, 1, True), (1, 2, True), (0, 2, False)]
    labels = group_rows(rows, threshold=0.1, links=links)
    assert labels[1] == labels[2] != labels[0]
    labels = group_rows(rows, threshold=0.1, links=[*links, (0, 2, True)])
    assert labels[0] == labels[2] == labels[1]
    labels = group_rows(rows[[0, 0, 1]], threshold=0.1, cannot_link=[(0, 1)])
    assert labels.tolist() == [0, 1, 2]
    labels = group_rows(rows[[0, 0, 1]], threshold=0.1, links=[(0, 1, True)], cannot_link=[(0, 1)])
    assert labels.tolist() == [0, 0, 1]
    assert group_rows(rows[:0], threshold=0.1).tolist() == []
