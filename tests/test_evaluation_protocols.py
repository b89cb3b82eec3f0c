"""Lists of pairs, folders of people and slices, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.protocols import (
    NO_SLICE,
    LabelledPair,
    assign_folds,
    read_pairs,
    read_people,
    read_slices,
    read_videos,
    slice_pairs,
)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_lfws_list_has_folds_of_both_kinds(tmp_path):
    lines = ["2\t1", "Ann\t1\t2", "Ann\t1\tBob\t12", "Bob\t3\t4", "Cy\t1\tBob\t2"]
    pairs = read_pairs([write(tmp_path / "pairs.txt", *lines)], tmp_path)
    assert [pair.fold for pair in pairs] == [0, 0, 1, 1]
    assert [pair.same for pair in pairs] == [True, False, True, False]
    assert pairs[1].people == ("Ann", "Bob")
    assert pairs[1].b == str(tmp_path / "Bob" / "Bob_0012.jpg")


def test_a_list_with_one_number_has_one_fold_and_several_lists_are_folds(tmp_path):
    train = write(tmp_path / "pairsDevTrain.txt", "1", "Ann\t1\t2", "Ann\t1\tBob\t1")
    test = write(tmp_path / "pairsDevTest.txt", "1", "Cy\t1\t2", "Cy\t1\tDi\t1")
    assert {pair.fold for pair in read_pairs([train], None)} == {0}
    assert [pair.fold for pair in read_pairs([train, test], None)] == [0, 0, 1, 1]


def test_lfws_pictures_may_have_another_ending(tmp_path):
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "Ann_0002.png").touch()
    pairs = read_pairs([write(tmp_path / "p.txt", "1", "Ann\t1\t2", "Ann\t1\tBob\t1")], None)
    assert Path(pairs[0].b).name == "Ann_0002.png"
    assert Path(pairs[0].a).name == "Ann_0001.jpg"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["many"], "line 1: wanted one or two numbers, got 'many'"),
        (["1", "Ann\t1"], "line 2: wanted person, number"),
        (["1", "Ann\t1\t2", "Ann\tone\tBob\t1"], "line 3: wanted person, number"),
        (["1", "Ann\t1\t2", "Ann\t1\tAnn\t2"], "line 3: a pair of different people names 'Ann' twice"),
        (["2", "Ann\t1\t2"], "line 1 announces 4 pairs, there are 1"),
        ([""], "line 1: wanted one or two numbers"),
        (["0"], "line 1: wanted one or two numbers"),
    ],
)
def test_a_line_of_lfws_list_that_cannot_be_used_is_named(tmp_path, lines, words):
    with pytest.raises(ProtocolError, match=words):
        read_pairs([write(tmp_path / "pairs.txt", *lines)], None)


def test_a_table_has_labels_folds_people_and_a_column_to_slice_by(tmp_path):
    table = write(
        tmp_path / "pairs.csv",
        "a,b,same,fold,person_a,person_b,camera",
        "1.png,2.png,same,0,Ann,Ann,front",
        "1.png,3.png,0,1,Ann,Bob,",
    )
    first, second = read_pairs([table], None, slice_column="camera")
    assert first == LabelledPair(str(tmp_path / "1.png"), str(tmp_path / "2.png"), True, ("Ann", "Ann"), 0, "front")
    assert (second.same, second.fold, second.slice) == (False, 1, "(none)")


def test_pictures_that_pairs_of_one_person_hold_together_are_one_persons(tmp_path):
    table = write(tmp_path / "p.csv", "a,b,same", "1,2,1", "3,2,1", "4,5,1", "1,4,0", "6,1,0")
    people = [pair.people for pair in read_pairs([table], None)]
    assert people[0] == people[1] == (people[0][0],) * 2
    assert people[3] == (people[0][0], people[2][0])
    assert len({person for pair in people for person in pair}) == 3


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b"], "line 1: the header has no column same"),
        (["a,b,same", "1,2"], "line 2: wanted 3 columns, got 2"),
        (["a,b,same", "", "1,2,perhaps"], "line 3: same must be one of"),
        (["a,b,same", "1,,1"], "line 2: wanted two paths"),
        (["a,b,same,fold", "1,2,1,first"], "line 2: wanted two paths, and a fold"),
        (["a,b,same", '1,"2,1'], "line 2: unexpected end of data"),
        (["a,b,same,person_a,person_b", "1,2,1,Ann,Bob"], "line 2: same does not fit"),
        (["a,b,same"], "it has no pairs"),
        ([""], "the header has no column a, b, same"),
    ],
)
def test_a_line_of_a_table_that_cannot_be_used_is_named(tmp_path, lines, words):
    with pytest.raises(ProtocolError, match=words):
        read_pairs([write(tmp_path / "pairs.csv", *lines)], None)


def test_a_list_that_is_missing_or_not_text_is_refused(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProtocolError, match="not text"):
        read_pairs([tmp_path / "bytes.csv"], None)
    with pytest.raises(ProtocolError, match="no such file"):
        read_pairs([tmp_path / "none.txt"], None)


def test_pairs_without_folds_are_dealt_evenly_by_kind():
    pairs = [LabelledPair(f"{n}", "x", n % 3 == 0, ("p", "q")) for n in range(50)]
    dealt = assign_folds(pairs, folds=5)
    for fold in range(5):
        own = [pair for pair in dealt if pair.fold == fold]
        assert sum(pair.same for pair in own) in (3, 4)
        assert sum(not pair.same for pair in own) in (6, 7)
    assert assign_folds(dealt, folds=2) == dealt
    assert assign_folds(pairs, folds=5) == dealt
    assert assign_folds(pairs, folds=5, seed=1) != dealt


def test_people_are_folders_and_hidden_ones_are_left_out(tmp_path):
    for name in ("Bob/2.png", "Bob/1.jpg", "Ann/1.png", ".trash/1.png", "Ann/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [(photo.person, Path(photo.path).name) for photo in read_people(tmp_path)]
    assert found == [("Ann", "1.png"), ("Bob", "1.jpg"), ("Bob", "2.png")]


def test_two_folders_for_one_person_are_refused(tmp_path):
    for name in ("Ann", "ann"):
        (tmp_path / name).mkdir()
    with pytest.raises(ProtocolError, match="'Ann' and 'ann' look like one person"):
        read_people(tmp_path)


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(ProtocolError, match="no folders with pictures"):
        read_people(tmp_path)


def test_pairs_of_two_slices_make_a_slice_of_their_own(tmp_path):
    slices = read_slices(write(tmp_path / "s.csv", "person,age", "Ann,old", "Bob,young"), "age")
    pairs = [LabelledPair("1", "2", p == q, (p, q)) for p, q in (("Ann", "Ann"), ("Ann", "Bob"), ("Bob", "Cy"))]
    assert [pair.slice for pair in slice_pairs(pairs, slices)] == ["old", "old × young", "(none) × young"]


def test_a_person_in_two_slices_is_refused(tmp_path):
    with pytest.raises(ProtocolError, match="line 3: 'Ann' is in two slices"):
        read_slices(write(tmp_path / "s.csv", "person,age", "Ann,old", "Ann,young"), "age")


def test_youtube_faces_list_has_a_heading_folds_and_folders(tmp_path):
    lines = ["split number, first, second, is same", "1, Ann/0, Ann/3, 1", "2, Ann/0, Bob/1, 0", ""]
    same, other = read_videos(write(tmp_path / "splits.txt", *lines), tmp_path / "frames")
    assert same == LabelledPair(
        str(tmp_path / "frames/Ann/0"), str(tmp_path / "frames/Ann/3"), True, ("Ann", "Ann"), 0
    )
    assert (other.same, other.fold, other.people) == (False, 1, ("Ann", "Bob"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1, Ann/0, Ann/3", "line 1: wanted split"),
        ("1, Ann/0, Ann/3, maybe", "line 1: wanted split"),
        ("1, Ann/0, Bob/3, 1", "line 1: the label does not fit 'Ann' and 'Bob'"),
        ("", "it has no pairs"),
    ],
)
def test_a_line_of_youtube_faces_list_that_cannot_be_used_is_named(tmp_path, line, words):
    with pytest.raises(ProtocolError, match=words):
        read_videos(write(tmp_path / "splits.txt", line), None)


def test_a_list_of_videos_may_be_a_csv_file_with_slices(tmp_path):
    lines = ["a,b,same,fold,person_a,person_b,light", "Ann/0,Ann/1,1,0,Ann,Ann,day", "Ann/0,Bob/3,0,1,Ann,Bob,"]
    same, other = read_videos(write(tmp_path / "list.csv", *lines), tmp_path / "frames", slice_column="light")
    assert (same.a, same.b) == (str(tmp_path / "frames/Ann/0"), str(tmp_path / "frames/Ann/1"))
    assert (same.same, other.same, same.fold, other.fold) == (True, False, 0, 1)
    assert (same.slice, other.slice) == ("day", NO_SLICE)


def test_a_name_that_no_file_can_have_is_a_picture_that_is_not_there(tmp_path):
    name = "A" * 5_000
    path = tmp_path / "pairs.txt"
    path.write_text(f"1\n{name}\t1\t2\nAnn\t1\tBob\t1\n")
    assert read_pairs([path], None)[0].a.endswith("_0001.jpg")
