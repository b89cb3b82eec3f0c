"""The pictures of a soak, with what the library says of each: recorded before the service is asked."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageEnhance

from fuzzing.mutate import mutate
from fuzzing.seeds import SAMPLES, encode, png_chunk
from sameface.arrays import Embeddings
from sameface.errors import SamefaceError
from sameface.face import Face
from sameface.image import read_image
from sameface.recognizer import Recognizer
from sameface.service.config import ServiceConfig

SIDE = 400  # pixels of the longer side: large enough for a face, small enough for many
KEPT = 40_000_000  # pixels; a damaged picture that claims more is left out, for the sake of the rate

Pixels: TypeAlias = PIL.Image.Image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A file, and what the library says of it.

    Attributes:
        name: What the file is called.
        data: Its bytes.
        size: Width and height; None if it cannot be read.
        faces: Its faces, the highest score first.
        rows: `(n, d) float32` of them.
        error: The code of the error that reading it is; None if it can be read.
    """

    name: str
    data: bytes
    size: tuple[int, int] | None
    faces: list[Face]
    rows: Embeddings
    error: str | None = None

    @property
    def form(self) -> tuple[str, bytes]:
        """The picture as a form carries it."""
        return self.name, self.data


@dataclass(frozen=True, slots=True)
class Album:
    """All pictures of a soak.

    Attributes:
        single: Those with one face.
        several: Those with two or three.
        empty: Those with none.
        broken: Those that cannot be read.
    """

    single: list[Picture]
    several: list[Picture]
    empty: list[Picture]
    broken: list[Picture]

    @classmethod
    def record(cls, recognizer: Recognizer, *, variants: int, damaged: int) -> Album:
        """Make the pictures and write down what the library says of them.

        Args:
            recognizer: With the weights of the service.
            variants: Pictures made from each sample photograph.
            damaged: Files that are damaged at random; those that can be read all the same count as they are.
        """
        files = [*draw_variants(variants), *draw_groups(variants), *draw_empty(), *damage(damaged)]
        every = [look(recognizer, name, data) for name, data in files]
        return cls(
            single=[picture for picture in every if len(picture.faces) == 1],
            several=[picture for picture in every if len(picture.faces) > 1],
            empty=[picture for picture in every if not picture.faces and picture.error is None],
            broken=[picture for picture in every if picture.error is not None],
        )

    @property
    def readable(self) -> list[Picture]:
        """Those that can be read."""
        return self.single + self.several + self.empty

    def find(self, name: str) -> Picture:
        """Return the picture of this name."""
        return next(picture for picture in self.readable if picture.name == name)


def look(recognizer: Recognizer, name: str, data: bytes) -> Picture:
    """Return a file with what the library says of it, within the limits of the service."""
    limits = ServiceConfig()
    try:
        image = read_image(data, max_bytes=limits.picture_bytes, max_pixels=limits.picture_pixels)
    except SamefaceError as error:
        return Picture(name, data, None, [], np.zeros((0, 0), np.float32), error.code)
    faces, rows = recognizer.embed(image)
    return Picture(name, data, (image.shape[1], image.shape[0]), faces, rows)


def draw_variants(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many files from each sample photograph: other sizes, turned a little, brighter, darker."""
    for path in sorted(SAMPLES.glob("*.jpg")):
        with PIL.Image.open(path) as file:
            photograph = file.convert("RGB")
        for number in range(count):
            rng = random.Random(f"{path.stem} {number}")
            yield (f"{path.stem}-{number}.jpg", encode(vary(photograph, rng), "JPEG", quality=rng.randint(60, 95)))


def vary(photograph: Pixels, rng: random.Random) -> Pixels:
    """Return a photograph that is a little other."""
    picture = photograph.copy()
    picture.thumbnail((rng.randint(SIDE * 3 // 4, SIDE),) * 2)
    if rng.random() < 0.5:
        picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(rng.uniform(-12, 12), PIL.Image.Resampling.BILINEAR)
    picture = PIL.ImageEnhance.Brightness(picture).enhance(rng.uniform(0.6, 1.4))
    return PIL.ImageEnhance.Color(picture).enhance(rng.uniform(0.2, 1.5))


def draw_groups(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many pictures of two or three people beside each other."""
    paths = sorted(SAMPLES.glob("*.jpg"))
    for number in range(count):
        rng = random.Random(f"group {number}")
        people = [PIL.Image.open(path).convert("RGB") for path in rng.sample(paths, rng.choice((2, 2, 3)))]
        parts = [vary(person, rng) for person in people]
        group = PIL.Image.new("RGB", (sum(part.width for part in parts), max(part.height for part in parts)))
        left = 0
        for part in parts:
            group.paste(part, (left, 0))
            left += part.width
        yield f"group-{number}.jpg", encode(group, "JPEG", quality=85)


def draw_empty() -> Iterator[tuple[str, bytes]]:
    """Yield pictures of nobody: plain grounds, stripes and noise."""
    for number in range(4):
        picture = PIL.Image.new("RGB", (160 + 40 * number, 120), (40 * number, 90, 120))
        pen = PIL.ImageDraw.Draw(picture)
        for x in range(0, picture.width, 12 + number):
            pen.line((x, 0, x, 120), fill=(200, 200, 40 * number), width=number + 1)
        yield f"stripes-{number}.png", encode(picture, "PNG")
    noise = np.random.default_rng(4).integers(0, 256, (90, 120, 3), np.uint8)
    yield "noise.png", encode(PIL.Image.fromarray(noise), "PNG")


def damage(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield files that are broken, and so many that are damaged at random."""
    yield "empty.jpg", b""
    yield "words.jpg", b"not a picture"
    yield "large.png", claim_pixels(60_000, 60_000)
    files = list(draw_variants(2))
    for number in range(count):
        rng = random.Random(number)
        _, data = rng.choice(files)
        changed = mutate(data, rng, rng.choice(files)[1])
        if pixels_of(changed) <= KEPT:
            yield f"damaged-{number}.jpg", changed


def pixels_of(data: bytes) -> int:
    """Return how many pixels a file claims to have; 0 if that cannot be read."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            return picture.width * picture.height
    except Exception:  # noqa: BLE001, whatever a decoder makes of it
        return 0


def claim_pixels(width: int, height: int) -> bytes:
    """Return the head of a PNG file that claims to be of this size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IEND", b"")
