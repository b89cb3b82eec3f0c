"""The crops to train on: a folder per person, or tar files with the same layout inside."""

from __future__ import annotations

import hashlib
import tarfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
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

RULE_FILE = "crops.toml"  # the crop rule, beside the crops that `sameface prepare` writes


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture: a file, or a member of a tar file."""

    path: str  # of the picture, or of the tar file
    name: str  # person, `/` and the picture's name in the source
    start: int = 0  # first byte in the tar file
    size: int = -1  # bytes in the tar file; -1 for a file outside

    def __str__(self) -> str:
        return self.path if self.size < 0 else f"{self.path}:{self.name}"

    @property
    def source(self) -> str:
        """The folder or tar file that was listed."""
        return self.path if self.size >= 0 else self.path.removesuffix(self.name).rstrip("/") or "/"

    def read(self) -> Image:
        """Decode the picture, `(h, w, 3) uint8`, or raise `ImageError`."""
        return read_image(self.load())

    def load(self) -> ImageSource:
        """Read the bytes, for `hash_image` and `read_image`, or raise `ImageError`."""
        if self.size < 0:
            return buffer_image(self.path)
        try:
            return BufferedPicture(self._read_bytes(), str(self))
        except OSError as error:
            raise ImageError(repr(str(self)), (error.strerror or str(error)).lower()) from error

    def digest(self) -> bytes:
        """Return the SHA-256 of the bytes; 32 zeros if they cannot be read."""
        try:
            return hashlib.sha256(self._read_bytes()).digest()
        except OSError:
            return bytes(32)

    def _read_bytes(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@dataclass(frozen=True, slots=True, eq=False)
class PictureSet:
    """Pictures with the person on each."""

    people: tuple[str, ...]  # names, sorted
    owner: NDArray[np.int64]  # (n,) number of the person on each picture, rising
    files: tuple[PictureFile, ...]
    rule: CropRule | None = None  # how the crops were cut, if known

    def __len__(self) -> int:
        return len(self.files)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many pictures each person has."""
        return np.bincount(self.owner, minlength=len(self.people))

    def of_people(self, chosen: Sequence[int]) -> PictureSet:
        """Return the pictures of some people, by their numbers."""
        numbers = np.array(sorted(chosen), np.int64)
        kept = np.flatnonzero(np.isin(self.owner, numbers))
        people = tuple(self.people[number] for number in numbers)
        owner = np.searchsorted(numbers, self.owner[kept])
        return PictureSet(people, owner, tuple(self.files[place] for place in kept), self.rule)


def read_batches(
    pictures: PictureSet,
    numbers: Sequence[int],
    size: int,
    on_progress: Callable[[int, int], None] = lambda _done, _count: None,
) -> Iterator[tuple[list[Image], list[int]]]:
    """Yield the readable crops of these numbers in batches, with their places in `numbers`.

    `on_progress` is called before each batch with the pictures done and their number.
    """
    for start in range(0, len(numbers), size):
        on_progress(start, len(numbers))
        crops, places = [], []
        for place, number in enumerate(numbers[start : start + size], start):
            try:
                crops.append(pictures.files[number].read())
                places.append(place)
            except ImageError:
                continue
        if crops:
            yield crops, places


def open_pictures(sources: Sequence[str | Path]) -> PictureSet:
    """List the pictures of folders and tar files; one name in several of them is one person.

    Raises:
        TrainingDataError: A source is missing or has no picture in a person's folder, or the sources were cut
            by different rules.
    """
    found: dict[str, list[PictureFile]] = {}
    rules: dict[CropRule | None, str] = {}
    for source in map(Path, sources):
        files = list(list_files(source))
        if not files:
            raise TrainingDataError(str(source), "no pictures: wanted a folder per person, with pictures in it")
        for name, file in files:
            found.setdefault(name, []).append(file)
        rules[read_rule(source)] = str(source)
    if len(rules) > 1:
        reason = "these were cut by different rules"
        reason += f"; {rules[None]!r} has no crops.toml: run `sameface prepare` on it" if None in rules else ""
        raise TrainingDataError(" and ".join(rules.values()), reason)
    people = tuple(sorted(found))
    owner = np.repeat(np.arange(len(people)), [len(found[name]) for name in people])
    return PictureSet(people, owner, tuple(file for name in people for file in found[name]), next(iter(rules), None))


def list_files(source: Path) -> Iterator[tuple[str, PictureFile]]:
    """Yield the person and the file of every picture of a folder or tar file, in a fixed order."""
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
    """Yield the person (the last folder of the path) and the file of every picture in a tar file."""
    try:
        with tarfile.open(source, "r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                person = path.parent.name
                hidden = path.name.startswith(".") or person.startswith(".")  # as `find_pictures` sees it
                if member.isfile() and path.suffix.lower() in SUFFIXES and person and not hidden:
                    name = f"{person}/{path.name}"
                    yield person, PictureFile(str(source), name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise TrainingDataError(str(source), f"not a plain tar file ({error}): unpack it") from error


def read_rule(source: Path) -> CropRule | None:
    """Return the crop rule of a folder, or of the `.toml` file beside a tar file; None without one."""
    path = source / RULE_FILE if source.is_dir() else source.with_suffix(".toml")
    if not path.is_file():
        return None
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        table.pop("prepared", None)  # how the face was chosen, which does not count
        points = tuple((float(x), float(y)) for x, y in table.pop("template", ()))
        weights = tuple(map(float, table.pop("point_weights", ())))
        return CropRule(template=points, point_weights=weights, **table)
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise TrainingDataError(str(path), f"not a crop rule ({error})") from error


def split_people(pictures: PictureSet, part: float) -> tuple[PictureSet, PictureSet]:
    """Return the pictures to train on, and those of the held-out people.

    About this part of the people with two pictures or more is held out, by a hash of the name: always the same
    people, whoever is added.
    """
    held, rest = list[int](), list[int]()
    for number, (name, count) in enumerate(zip(pictures.people, pictures.counts, strict=True)):
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        chosen = count > 1 and int.from_bytes(digest[:6]) / 2**48 < part
        (held if chosen else rest).append(number)
    return pictures.of_people(rest), pictures.of_people(held)
