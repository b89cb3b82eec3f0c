"""Drawing faces, and writing the picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
import toy

from sameface import draw
from sameface.compare import squared_distances
from sameface.draw import (
    GOOD,
    PLAIN,
    UNASSIGNED,
    blur_faces,
    choose_font,
    count_missing,
    draw_faces,
    save_picture,
    writable,
)
from sameface.face import Face
from sameface.image import read_image
from sameface.recognizer import Recognizer


def make_face(left: float, top: float, right: float, bottom: float) -> Face:
    marks = np.full((5, 2), [(left + right) / 2, (top + bottom) / 2], np.float32)
    return Face(np.array([left, top, right, bottom], np.float32), marks, 0.9)


GROUND = np.zeros((200, 300, 3), np.uint8)


def test_the_picture_itself_stays_as_it_was() -> None:
    image = GROUND.copy()
    drawn = draw_faces(image, [make_face(100, 80, 160, 150)], ["Ann"], [True])
    assert not image.any()
    assert drawn.any()
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)


def test_without_faces_nothing_is_drawn() -> None:
    image = toy.paint(toy.RED)
    np.testing.assert_array_equal(draw_faces(image, [], [], []), image)


@pytest.mark.parametrize(("known", "colour"), [(True, GOOD), (False, PLAIN)])
def test_a_box_and_the_landmarks_have_the_colour_of_what_is_known(known: bool, colour: tuple[int, int, int]) -> None:
    drawn = draw_faces(GROUND, [make_face(100, 80, 160, 150)], ["Ann"], [known])
    for x, y in ((100, 120), (160, 120), (130, 150), (130, 115)):
        assert tuple(drawn[y, x]) == colour
    assert not drawn[140, 110].any()  # inside the box nothing is hidden


def test_the_label_stands_on_the_box() -> None:
    drawn = draw_faces(GROUND, [make_face(100, 80, 160, 150)], ["Ann"], [True])
    above = drawn[:80, 100:]
    assert (above > 180).all(axis=2).any()  # letters, nearly white
    assert not drawn[85:, 165:].any()


def test_a_label_at_the_upper_edge_stays_in_the_picture() -> None:
    at_edge = draw_faces(GROUND, [make_face(100, 0, 160, 150)], ["Ann"], [True])
    below = draw_faces(GROUND, [make_face(100, 80, 160, 150)], ["Ann"], [True])
    white = [int((drawn > 180).all(axis=2).sum()) for drawn in (at_edge, below)]
    assert white[0] == white[1] > 0


@pytest.mark.parametrize("label", ["", "名前", "👩‍🚀", "[bold]x", "a" * 200])
def test_a_label_may_be_any_text(label: str) -> None:
    assert draw_faces(GROUND, [make_face(100, 80, 160, 150)], [label], [True]).any()


def test_lines_grow_with_the_picture() -> None:
    large = np.zeros((2000, 3000, 3), np.uint8)
    drawn = draw_faces(large, [make_face(1000, 800, 1600, 1500)], [""], [True])
    across = (drawn[1300, 990:1020] == GOOD).all(axis=1).sum()
    assert across >= 7


def test_every_face_needs_a_label() -> None:
    with pytest.raises(ValueError, match="shorter"):
        draw_faces(GROUND, [make_face(0, 0, 9, 9)], [], [True])


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.webp", "a.tiff"])
def test_a_picture_is_written_in_the_format_of_its_name(tmp_path: Path, name: str) -> None:
    image = toy.paint(toy.RED)
    save_picture(image, tmp_path / name)
    with PIL.Image.open(tmp_path / name) as picture:
        assert picture.format == {"jpg": "JPEG", "tiff": "TIFF"}.get(name[2:], name[2:].upper())
        np.testing.assert_allclose(np.asarray(picture.convert("RGB"))[24, 24], toy.RED, atol=40)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a", "a.txt", "a.psd", ".png"])
def test_a_name_without_a_format_is_refused(tmp_path: Path, name: str) -> None:
    assert not writable(tmp_path / name)
    with pytest.raises(ValueError, match=r"path must end in \.png"):
        save_picture(toy.paint(toy.RED), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


DEJAVU = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


def test_a_name_that_the_usual_font_lacks_gets_one_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "WIDE_FONTS", ("there-is-no-such-font.ttf", DEJAVU))
    usual, other = choose_font("Rosa", 23), choose_font("Ольга П", 23)
    assert [font.getname()[0] for font in (usual, other)] == ["Aileron", "DejaVu Sans"]
    assert count_missing(usual, "Ольга П") == 6
    assert count_missing(other, "Ольга П") == 0


def test_what_no_font_has_is_drawn_with_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "WIDE_FONTS", (DEJAVU,))
    assert choose_font(f"Ann {UNASSIGNED}", 29).getname()[0] == "Aileron"


def test_a_blurred_face_keeps_no_detail_and_the_rest_of_the_picture_stays(samples: dict[str, Path]) -> None:
    image = read_image(samples["joe-biden"])
    face = Face(np.array([50, 40, 150, 160], np.float32), np.zeros((5, 2), np.float32), 0.9)
    blurred = blur_faces(image, [face])
    inside = np.zeros(image.shape[:2], bool)
    inside[16:184, 30:170] = True  # a fifth of its sides around it
    assert (blurred[~inside] == image[~inside]).all()
    few = np.asarray(PIL.Image.fromarray(blurred[16:184, 30:170]).resize((4, 4), PIL.Image.Resampling.BOX))
    again = np.asarray(PIL.Image.fromarray(few).resize((140, 168), PIL.Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(again - blurred[16:184, 30:170]).mean() < 6  # sixteen colours tell all there is
    assert (blur_faces(image, []) == image).all()


def test_a_face_at_the_edge_is_blurred_as_far_as_it_is_in_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    outside = Face(np.array([60, 60, 90, 90], np.float32), np.zeros((5, 2), np.float32), 0.9)
    edge = Face(np.array([-20, -20, 10, 10], np.float32), np.zeros((5, 2), np.float32), 0.9)
    blurred = blur_faces(image, [outside, edge])
    assert (blurred[20:, 20:] == image[20:, 20:]).all()
    assert (blurred[:10, :10] != image[:10, :10]).any()


def test_nobody_is_recognised_in_a_blurred_picture(recognizer: Recognizer, samples: dict[str, Path]) -> None:
    image = read_image(samples["barack-obama-1"])
    faces, rows = recognizer.embed(image)
    again, found = recognizer.embed(blur_faces(image, faces))
    assert all(squared_distances(rows, row[None]).min() > recognizer.thresholds.at(0.03) for row in found)
    assert len(again) == len(found)
