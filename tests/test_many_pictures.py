"""The whole road in one line: faces with embeddings, all pairs of two pictures, many pictures, a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy

from sameface import Recognizer, embed_many, find
from sameface.errors import ImageError, SeveralFacesError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for note, (name, colours) in enumerate(
        {"red": [toy.RED], "both": [toy.REDDISH, toy.BLUE], "blue": [toy.BLUE], "nobody": []}.items()
    ):
        toy.save(folder / f"{name}.png", *colours, note=note)
    return folder


def test_a_face_holds_its_embedding(toy_recognizer: Recognizer) -> None:
    faces, rows = toy_recognizer.embed(toy.paint(toy.RED, toy.BLUE))
    found = toy_recognizer.faces(toy.paint(toy.RED, toy.BLUE))
    assert [tuple(each.face.box) for each in found] == [tuple(face.box) for face in faces]
    np.testing.assert_array_equal([each.embedding for each in found], rows)
    assert toy_recognizer.faces(toy.paint()) == []


def test_every_pair_of_faces_of_two_pictures_is_compared(toy_recognizer: Recognizer) -> None:
    pairs = toy_recognizer.compare(toy.paint(toy.RED, toy.BLUE), toy.paint(toy.REDDISH), far=0.01)
    assert [(pair.a.face.box[0], pair.b.face.box[0], pair.decision.same) for pair in pairs] == [
        (16, 16, True), (80, 16, False),
    ]  # fmt: skip
    assert pairs[0].decision.distance == pytest.approx(toy.distance_of(toy.RED, toy.REDDISH), abs=1e-6)
    assert toy_recognizer.compare(toy.paint(), toy.paint(toy.RED)) == []


def test_many_pictures_keep_their_order_and_a_bad_one_is_a_result(folder: Path, toy_recognizer: Recognizer) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    paths = [folder / f"{name}.png" for name in ("red", "bad", "both", "nobody", "red")]
    seen: list[int] = []
    results = list(embed_many(toy_recognizer, iter(paths), progress=seen.append))
    assert [each.source for each in results] == paths
    assert [len(each.faces) for each in results] == [1, 0, 2, 0, 1]
    assert [each.rows.shape for each in results] == [(1, 3), (0, 3), (2, 3), (0, 3), (1, 3)]
    assert isinstance(results[1].error, ImageError)
    assert seen == [1, 2, 3, 4, 5]


def test_pictures_are_read_when_they_are_asked_for(folder: Path, toy_recognizer: Recognizer) -> None:
    results = embed_many(toy_recognizer, (folder / name for name in ("red.png", "gone.png")))
    assert len(next(results).faces) == 1
    assert next(results).error is not None


def test_a_face_is_found_in_a_folder_the_nearest_first(folder: Path, toy_recognizer: Recognizer) -> None:
    found = find(toy.paint(toy.RED), folder, recognizer=toy_recognizer, far=0.01)
    assert [Path(match.picture).name for match in found] == ["red.png", "both.png"]
    assert [match.distance for match in found] == pytest.approx([0, toy.distance_of(toy.RED, toy.REDDISH)], abs=1e-6)
    assert found[0].threshold == pytest.approx(0.2)
    assert json.dumps(found[1].to_dict())
    assert find(toy.paint(toy.GREEN), folder, recognizer=toy_recognizer) == []


def test_a_folder_is_searched_once_by_content(folder: Path, tmp_path: Path, toy_recognizer: Recognizer) -> None:
    cache = tmp_path / "faces.cache"
    first = find(toy.paint(toy.RED), folder, recognizer=toy_recognizer, cache=cache)
    assert cache.stat().st_mode & 0o777 == 0o600
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"moved-{path.name}"))
    new: list[bool] = []
    again = find(
        toy.paint(toy.RED), folder, recognizer=toy_recognizer, cache=cache, progress=lambda each: new.append(each.new)
    )
    assert [match.distance for match in again] == [match.distance for match in first]
    assert new == [False] * 4


def test_a_probe_without_one_face_and_a_missing_folder_are_refused(folder: Path, toy_recognizer: Recognizer) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        find(toy.paint(toy.RED), folder / "none", recognizer=toy_recognizer)
    with pytest.raises(SeveralFacesError):
        find(toy.paint(toy.RED, toy.BLUE), folder, recognizer=toy_recognizer)


def test_with_the_shipped_weights_it_is_one_line(samples: dict[str, Path]) -> None:
    found = find(samples["barack-obama-1"], samples["barack-obama-1"].parent)
    assert [Path(match.picture).stem for match in found] == ["barack-obama-1", "barack-obama-3", "barack-obama-2"]
