"""Drawing faces, and writing the picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import pytest
import toy

from sameface import draw
from sameface.draw import GOOD, PLAIN, UNASSIGNED, choose_font, count_missing, draw_faces, save_picture, writable
from sameface.face import Face


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
