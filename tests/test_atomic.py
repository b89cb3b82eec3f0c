"""Files and folders are written whole or not at all."""

from __future__ import annotations

import pytest

from sameface.atomic import make_folder, replace_file


def test_a_file_appears_with_all_that_was_written(tmp_path):
    with replace_file(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "new")]


def test_a_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replace_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "new")]


def write_badly(path) -> None:
    with replace_file(path) as part:
        part.write_text("half")
        raise RuntimeError("the power went")


def test_an_error_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="the power went"):
        write_badly(path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_an_error_where_no_file_was_leaves_none(tmp_path):
    with pytest.raises(RuntimeError, match="the power went"):
        write_badly(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_never_written_is_an_error_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replace_file(path):
        pass
    assert path.read_text() == "old"


def test_a_folder_appears_with_all_that_was_put_in_it(tmp_path):
    with make_folder(tmp_path / "album") as part:
        (part / "a.txt").write_text("new")
        assert not (tmp_path / "album").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["album", "album/a.txt"]


def test_an_empty_folder_is_a_folder(tmp_path):
    with make_folder(tmp_path / "album"):
        pass
    assert (tmp_path / "album").is_dir()


def test_a_folder_may_lie_in_one_that_is_not_there_yet(tmp_path):
    with make_folder(tmp_path / "years" / "2026"):
        pass
    assert (tmp_path / "years" / "2026").is_dir()


def fill_badly(path) -> None:
    with make_folder(path) as part:
        (part / "a.txt").write_text("half")
        raise RuntimeError("the power went")


def test_an_error_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError, match="the power went"):
        fill_badly(tmp_path / "album")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_what_is_there_already_is_refused_before_anything_is_made(tmp_path, make):
    path = tmp_path / "album"
    getattr(path, make)()
    with pytest.raises(FileExistsError, match=r"choose another place.*album"), make_folder(path):
        pytest.fail("the folder was given")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_somebody_else_fills_meanwhile_is_left_to_them(tmp_path):
    path = tmp_path / "album"
    with pytest.raises(OSError, match="album"), make_folder(path) as part:
        (part / "a.txt").write_text("ours")
        path.mkdir()
        (path / "b.txt").write_text("theirs")
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["album", "album/b.txt"]
