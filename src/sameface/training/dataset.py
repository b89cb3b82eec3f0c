"""The crops to train on: a folder per person, or tar files with the same layout inside."""

from __future__ import annotations

import hashlib
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.errors import ImageError
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.picture_files import SUFFIXES, BufferedPicture, ImageSource, buffer_image, find_pictures
from sameface.training.errors import TrainingDataError

RULE_FILE = "crops.toml"  # what `sameface prepare` leaves beside the crops: the rule they were cut by


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Where a picture's bytes are.

    Attributes:
        path: A picture, or a tar file that holds it.
        name: Person, `/`, and what the picture is called inside the source.
        start: Where it begins in the tar file.
        size: Its bytes there; -1 for a file of its own.
    """

    path: str
    name: str
    start: int = 0
    size: int = -1

    def __str__(self) -> str:
        return self.path if self.size < 0 else f"{self.path}:{self.name}"

    def read(self) -> Image:
        """Return the picture, `(h, w, 3) uint8`.

        Raises:
            ImageError: It cannot be read.
        """
        return read_image(self.load())

    def load(self) -> ImageSource:
        """Return the bytes of the picture as an open file, for `hash_image` and `read_image`.

        Raises:
            ImageError: They cannot be read.
        """
        if self.size < 0:
            return buffer_image(self.path)
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start)
                return BufferedPicture(file.read(self.size), str(self))
        except OSError as error:
            raise ImageError(repr(str(self)), (error.strerror or str(error)).lower()) from error

    @property
    def source(self) -> str:
        """The folder or tar file that it was found in."""
        return self.path if self.size >= 0 else self.path.removesuffix(self.name).rstrip("/") or "/"

    def digest(self) -> bytes:
        """Return the SHA-256 of the picture's bytes; 32 zeros where they cannot be read."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start)
                return hashlib.sha256(file.read(self.size)).digest()
        except OSError:
            return bytes(32)


@dataclass(frozen=True, slots=True, eq=False)
class PictureSet:
    """Pictures and whose they are.

    Attributes:
        people: Names, sorted.
        owner: `(n,) int64` the number of the person on each picture, rising.
        places: Where each picture is.
        rule: How the crops were cut, as far as the data says.
    """

    people: tuple[str, ...]
    owner: NDArray[np.int64]
    files: tuple[PictureFile, ...]
    rule: CropRule | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many pictures each person has."""
        return np.bincount(self.owner, minlength=len(self.people))

    def of_people(self, chosen: Sequence[int]) -> PictureSet:
        """Return the set of some people, by their numbers."""
        keep = np.isin(self.owner, chosen)
        people = [self.people[number] for number in sorted(chosen)]
        owner = np.searchsorted(np.array(sorted(chosen), np.int64), self.owner[keep])
        places = tuple(place for place, kept in zip(self.files, keep, strict=True) if kept)
        return PictureSet(tuple(people), owner, places, self.rule)


def open_pictures(sources: Sequence[str | Path]) -> PictureSet:
    """List the pictures of folders and tar files; one name in several of them is one person.

    Raises:
        TrainingDataError: A source is missing or holds no picture in a person's folder, or two sources were
            cut by different rules.
    """
    found: dict[str, list[PictureFile]] = {}
    rules: dict[CropRule | None, str] = {}
    for source in map(Path, sources):
        before = sum(map(len, found.values()))
        for name, place in list_files(source):
            found.setdefault(name, []).append(place)
        if sum(map(len, found.values())) == before:
            raise TrainingDataError(str(source), "no pictures: wanted a folder per person, with pictures in it")
        rules[read_rule(source)] = str(source)
    if len(rules) > 1:
        told = "these were cut by different rules"
        told += f"; {rules[None]!r} has no crops.toml: run `sameface prepare` on it" if None in rules else ""
        raise TrainingDataError(" and ".join(rules.values()), told)
    people = tuple(sorted(found))
    owner = np.repeat(np.arange(len(people)), [len(found[name]) for name in people])
    places = tuple(place for name in people for place in found[name])
    return PictureSet(people, owner, places, next(iter(rules), None))


def list_files(source: Path) -> Iterator[tuple[str, PictureFile]]:
    """Yield the person and the place of every picture of a folder or tar file, in a fixed order."""
    if source.is_dir():
        for path in find_pictures(source):
            if path.parent != source:
                name = path.relative_to(source).as_posix()
                yield name.partition("/")[0], PictureFile(str(path), name)
    elif source.is_file() and tarfile.is_tarfile(source):
        yield from sorted(list_members(source), key=lambda item: (item[0], item[1].start))
    else:
        raise TrainingDataError(str(source), "neither a folder nor a tar file")


def list_members(source: Path) -> Iterator[tuple[str, PictureFile]]:
    """Yield the person (the last folder of the path) and the place of every picture in a tar file."""
    try:
        with tarfile.open(source, "r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                person = path.parent.name
                if member.isfile() and is_picture(path.name) and person and not person.startswith("."):
                    name = f"{person}/{path.name}"
                    yield person, PictureFile(str(source), name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise TrainingDataError(str(source), f"not a plain tar file ({error}): unpack it") from error


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its name; hidden ones are none, as in `find_pictures`."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def read_rule(source: Path) -> CropRule | None:
    """Return the rule that a folder's crops were cut by, None where it does not say.

    Of a tar file the rule stands beside it, in a file of the same name that ends in `.toml`. How the face was
    chosen, which `sameface prepare` notes there too, does not count.
    """
    path = source / RULE_FILE if source.is_dir() else source.with_suffix(".toml")
    if not path.is_file():
        return None
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        table.pop("prepared", None)
        points = tuple((float(x), float(y)) for x, y in table.pop("template", ()))
        weights = tuple(map(float, table.pop("point_weights", ())))
        return CropRule(template=points, point_weights=weights, **table)
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise TrainingDataError(str(path), f"not a crop rule ({error})") from error


def split_people(pictures: PictureSet, part: float) -> tuple[PictureSet, PictureSet]:
    """Return the pictures to train on and those of the people that are held out.

    Held out is about this part of the people with two pictures or more, by a hash of their names: the same
    people every time, whoever else is added.
    """
    several = np.flatnonzero(pictures.counts > 1).tolist()
    held = [number for number in several if hash_name(pictures.people[number]) < part]
    rest = sorted(set(range(len(pictures.people))) - set(held))
    return pictures.of_people(rest), pictures.of_people(held)


def hash_name(name: str) -> float:
    """Return a number from 0 to under 1 that a name alone decides."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6]) / 2**48
