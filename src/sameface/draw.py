"""Draw boxes, landmarks and labels onto a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from sameface.arrays import Image
from sameface.atomic import replace_file
from sameface.face import Face

GOOD, PLAIN = (22, 163, 74), (234, 88, 12)
BLOCKS = 4  # mean colours across a face that is blurred
AROUND = 0.2  # of a face's sides that are blurred around it
UNASSIGNED = "\U0010ffff"  # no font has it
# Fonts of Linux, macOS and Windows for the scripts that Pillow's font lacks.
WIDE_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf"),
    *("AppleSDGothicNeo.ttc", "PingFang.ttc", "Arial Unicode.ttf"),
    *("malgun.ttf", "msyh.ttc", "YuGothM.ttc", "arial.ttf"),
)

Font: TypeAlias = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont


def draw_faces(image: Image, faces: Sequence[Face], labels: Sequence[str], known: Sequence[bool]) -> Image:
    """Return a copy of the picture, `(h, w, 3) uint8` RGB, with a box, the landmarks and a label on each face.

    Characters that Pillow's font lacks are drawn in the system's fonts, or as a box. Faces that are `known` are green,
    others orange.
    """
    picture = PIL.Image.fromarray(image)
    pen = PIL.ImageDraw.Draw(picture)
    line = max(1, round(max(image.shape[:2]) / 400))
    for face, label, good in zip(faces, labels, known, strict=True):
        draw_face(pen, face, label, GOOD if good else PLAIN, line)
    return np.asarray(picture)


def blur_faces(image: Image, faces: Sequence[Face]) -> Image:
    """Return a copy of the picture in which faces cannot be recognised any more.

    The pixels of each face, with a fifth of its sides around it, are replaced by a smooth surface through the mean
    colours of `BLOCKS` x `BLOCKS` parts. What it looked like is not in the copy.

    Args:
        image: `(h, w, 3) uint8` RGB.
        faces: Faces of this picture.

    Returns:
        `(h, w, 3) uint8` RGB.
    """
    picture = PIL.Image.fromarray(image)
    for face in faces:
        margin = AROUND * np.array([-face.width, -face.height, face.width, face.height])
        left, top, right, bottom = np.clip(face.box + margin, 0, [*picture.size] * 2).round().astype(int).tolist()
        if right <= left or bottom <= top:
            continue
        region = picture.crop((left, top, right, bottom))
        few = region.resize((BLOCKS, BLOCKS), PIL.Image.Resampling.BOX)
        picture.paste(few.resize(region.size, PIL.Image.Resampling.BICUBIC), (left, top))
    return np.asarray(picture)


def draw_face(pen: PIL.ImageDraw.ImageDraw, face: Face, label: str, colour: tuple[int, int, int], line: int) -> None:
    """Draw one face with lines of `line` pixels."""
    left, top, right, bottom = face.box.tolist()
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    for x, y in face.landmarks.tolist():
        pen.ellipse((x - line, y - line, x + line, y + line), fill=colour)
    font = choose_font(label, max(11, 7 * line))
    _, over, right_end, under = font.getbbox(label, anchor="ls")
    above = max(top, under - over + 2 * line)  # a label above the picture's edge moves into it
    low = above - line - under
    pen.rectangle((left, low + over - line, left + right_end + 2 * line, above), fill=colour)
    pen.text((left + line, low), label, font=font, anchor="ls", fill="white")


@cache
def choose_font(text: str, size: int) -> Font:
    """Return the font that lacks the fewest characters of a text, Pillow's own first."""
    own = PIL.ImageFont.load_default(size)
    if not count_missing(own, text):
        return own
    fonts: list[Font] = [own, *(font for name in WIDE_FONTS if (font := find_font(name, size)))]
    return min(fonts, key=lambda font: count_missing(font, text))


@cache
def find_font(name: str, size: int) -> Font | None:
    """Return the system's font of this file name, or None."""
    try:
        return PIL.ImageFont.truetype(name, size)
    except OSError:
        return None


def count_missing(font: Font, text: str) -> int:
    """Return how many characters a font lacks: it draws them like an unassigned one."""
    box = bytes(font.getmask(UNASSIGNED))
    return sum(bytes(font.getmask(character)) == box for character in text if not character.isspace())


def save_picture(image: Image, path: Path) -> None:
    """Write a picture whole or not at all, in the format of its ending; `ValueError` if Pillow cannot."""
    if not writable(path):
        raise ValueError(f"path must end in .png, .jpg or another picture format, got {str(path)!r}")
    with replace_file(path) as part:
        PIL.Image.fromarray(image).save(part, PIL.Image.registered_extensions()[path.suffix.lower()])


def writable(path: Path) -> bool:
    """Return whether Pillow writes the format of the ending."""
    return PIL.Image.registered_extensions().get(path.suffix.lower()) in PIL.Image.SAVE
