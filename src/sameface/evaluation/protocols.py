"""Read the input of an evaluation: lists of pairs, folders of people, slices."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np

from sameface.arrays import Embeddings
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.roc import Flags, Integers
from sameface.picture_files import find_pictures

SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}
PAIR_COLUMNS = ("a", "b", "same")
NO_SLICE = "(none)"


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two pictures, or two folders of frames."""

    a: str  # the path of one
    b: str  # the path of the other
    same: bool  # both show one person
    people: tuple[str, str]  # an unknown person is called by the path
    fold: int = 0  # the part of the list it belongs to, 0 and up
    slice: str = ""  # the group it is counted in; empty without slices


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture in a folder of people."""

    person: str
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class PeopleSet:
    """Embeddings with their people, those of one person together."""

    rows: Embeddings  # (n, d) unit rows
    person: Integers  # (n,) the number of each row's person, rising
    names: tuple[str, ...]  # of the people
    paths: tuple[str, ...]  # of the picture of each row
    warnings: tuple[str, ...] = ()  # pictures that were left out, and why

    def pick(self, people: Flags) -> PeopleSet:
        """Return the rows of some people, `(p,) bool`."""
        chosen = people[self.person]
        number = np.cumsum(people) - 1
        names, paths = tuple(compress(self.names, people)), tuple(compress(self.paths, chosen))
        return PeopleSet(self.rows[chosen], number[self.person[chosen]], names, paths)

    def split(self, slices: Mapping[str, str]) -> dict[str, PeopleSet]:
        """Return the people of each slice."""
        groups = np.array([slices.get(name, NO_SLICE) for name in self.names])
        return {str(group): self.pick(groups == group) for group in np.unique(groups)}


def read_pairs(lists: Sequence[Path], pictures: Path | None, *, slice_column: str | None = None) -> list[LabelledPair]:
    """Read lists of pairs; each of several lists is a fold of its own.

    Lists are in LFW's format, or `.csv` files with the columns `a`, `b`, `same`, and perhaps `fold`, `person_a`,
    `person_b` and a column to slice by. Pictures lie in a folder, or beside each list.

    Raises:
        ProtocolError: A line that cannot be used, by its number; an empty list.
    """
    listed: list[LabelledPair] = []
    for number, path in enumerate(lists):
        folder = path.parent if pictures is None else pictures
        if path.suffix.lower() == ".csv":
            pairs = read_pair_table(path, folder, slice_column)
        else:
            pairs = read_lfw(path, folder)
        if not pairs:
            raise ProtocolError(str(path), "it has no pairs")
        listed += pairs if len(lists) == 1 else [replace(pair, fold=number) for pair in pairs]
    return listed


def read_text(path: Path) -> str:
    """Return the text of a file."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProtocolError(str(path), f"not text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise ProtocolError(str(path), (error.strerror or str(error)).lower()) from error


def read_lfw(path: Path, pictures: Path) -> list[LabelledPair]:
    """Read LFW's format: `pairs.txt` with its folds, or `pairsDevTrain.txt` and the like with one.

    The first line holds the number of folds, if there are several, and how many pairs of each kind a fold
    has. Then come `person, number, number` and `person, number, person, number`, set apart by tabs.
    """
    header, *lines = read_text(path).splitlines() or [""]
    words = header.split()
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ProtocolError(str(path), f"wanted one or two numbers, got {header!r}", 1)
    folds, size = int(words[0]) if len(words) == 2 else 1, 2 * int(words[-1])
    pairs = [read_lfw_line(path, line, number, pictures) for number, line in enumerate(lines, start=2) if line.strip()]
    if len(pairs) != folds * size:
        raise ProtocolError(str(path), f"line 1 announces {folds * size:,} pairs, there are {len(pairs):,}")
    return [replace(pair, fold=number // size) for number, pair in enumerate(pairs)]


def read_lfw_line(path: Path, line: str, number: int, pictures: Path) -> LabelledPair:
    """Return the pair of one line."""
    match line.strip().split("\t"):
        case [person, first, second] if first.isdecimal() and second.isdecimal():
            other = person
        case [person, first, other, second] if first.isdecimal() and second.isdecimal():
            if person == other:
                raise ProtocolError(str(path), f"a pair of different people names {person!r} twice", number)
        case _:
            reason = f"wanted person, number, number or person, number, person, number, got {line!r}"
            raise ProtocolError(str(path), reason, number)
    places = [lfw_picture(pictures, *photo) for photo in ((person, first), (other, second))]
    return LabelledPair(places[0], places[1], person == other, (person, other))


def lfw_picture(pictures: Path, person: str, number: str) -> str:
    """Return the path of a picture in LFW: `Person/Person_0001.jpg`, or another ending if that file exists."""
    plain = pictures / person / f"{person}_{int(number):04d}.jpg"
    files = map(plain.with_suffix, (".jpg", ".png", ".jpeg", ".webp"))
    # Unlike Path.is_file, this is False for a name that no file can have.
    return str(next(filter(os.path.isfile, files), plain))


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and values of each row of a table with a header that has these columns."""
    reader = csv.reader(read_text(path).splitlines(), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise ProtocolError(str(path), f"the header has no column {', '.join(missing)}: {header}", 1)
        for values in filter(None, reader):
            if len(values) != len(header):
                raise ProtocolError(str(path), f"wanted {len(header)} columns, got {len(values)}", reader.line_num)
            yield reader.line_num, dict(zip(header, (value.strip() for value in values), strict=True))
    except csv.Error as error:
        raise ProtocolError(str(path), str(error), reader.line_num) from error


def read_pair_table(path: Path, pictures: Path, slice_column: str | None) -> list[LabelledPair]:
    """Read a `.csv` list of pairs."""
    columns = PAIR_COLUMNS if slice_column is None else (*PAIR_COLUMNS, slice_column)
    pairs = []
    for line, row in read_rows(path, columns):
        same = SAME.get(row["same"].lower())
        fold = row.get("fold", "0")
        if same is None:
            raise ProtocolError(str(path), f"same must be one of {', '.join(SAME)}, got {row['same']!r}", line)
        if not fold.isdecimal() or not row["a"] or not row["b"]:
            raise ProtocolError(str(path), "wanted two paths, and a fold that is a number", line)
        if same != (row.get("person_a") == row.get("person_b")) and row.get("person_a"):
            raise ProtocolError(str(path), "same does not fit person_a and person_b", line)
        a, b = str(pictures / row["a"]), str(pictures / row["b"])
        people = (row.get("person_a") or a, row.get("person_b") or b)
        group = "" if slice_column is None else row[slice_column] or NO_SLICE
        pairs.append(LabelledPair(a, b, same, people, int(fold), group))
    return merge_people(pairs) if pairs and "person_a" not in row else pairs


def read_videos(path: Path, videos: Path | None, *, slice_column: str | None = None) -> list[LabelledPair]:
    """Read a list of pairs of videos, each a folder of frames.

    Either YouTube Faces' `splits.txt`: a heading, then split (1 and up), first folder, second folder, 0 or 1 for
    the same person, who is the first folder of a path; or a `.csv` file as in `read_pairs`.

    Raises:
        ProtocolError: A line that cannot be used, by its number; an empty list.
    """
    if path.suffix.lower() == ".csv":
        return read_pairs([path], videos, slice_column=slice_column)
    folder = path.parent if videos is None else videos
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = [word.strip() for word in line.split(",")]
        heading = number == 1 and not words[0].isdecimal()
        if any(words) and not heading:
            pairs.append(read_video_line(path, words, number, folder))
    if not pairs:
        raise ProtocolError(str(path), "it has no pairs")
    return pairs


def read_video_line(path: Path, words: Sequence[str], number: int, videos: Path) -> LabelledPair:
    """Return the pair of one line of YouTube Faces' list."""
    same = SAME.get(words[3].lower()) if len(words) >= 4 else None
    if same is None or not words[0].isdecimal() or not words[1] or not words[2]:
        raise ProtocolError(str(path), f"wanted split, folder, folder, 0 or 1, got {', '.join(words)!r}", number)
    people = (Path(words[1]).parts[0], Path(words[2]).parts[0])
    if same != (people[0] == people[1]):
        raise ProtocolError(str(path), f"the label does not fit {people[0]!r} and {people[1]!r}", number)
    return LabelledPair(str(videos / words[1]), str(videos / words[2]), same, people, int(words[0]) - 1)


def merge_people(pairs: Sequence[LabelledPair]) -> list[LabelledPair]:
    """Return the pairs with one name for all pictures that pairs of one person hold together."""
    names = {path: path for pair in pairs for path in (pair.a, pair.b)}

    def find(path: str) -> str:
        while names[path] != path:
            names[path] = names[names[path]]
            path = names[path]
        return path

    for pair in pairs:
        if pair.same:
            names[find(pair.a)] = find(pair.b)
    return [replace(pair, people=(find(pair.a), find(pair.b))) for pair in pairs]


def assign_folds(pairs: Sequence[LabelledPair], *, folds: int = 10, seed: int = 0) -> list[LabelledPair]:
    """Return pairs of a single fold dealt to several, each kind evenly; pairs that have folds stay."""
    if len({pair.fold for pair in pairs}) > 1:
        return list(pairs)
    order = np.random.default_rng(seed).permutation(len(pairs))
    by_kind = sorted(order, key=lambda number: not pairs[number].same)
    dealt = np.zeros(len(pairs), np.int64)
    dealt[by_kind] = np.arange(len(pairs)) % folds
    return [replace(pair, fold=int(fold)) for pair, fold in zip(pairs, dealt, strict=True)]


def read_people(folder: Path) -> list[LabelledPicture]:
    """Return the pictures of a folder that holds one folder per person.

    Raises:
        ProtocolError: There are none, or two folders have one name but for upper case or accents' spelling.
    """
    people = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    seen: dict[str, str] = {}
    for place in people:
        key = unicodedata.normalize("NFC", place.name).strip().casefold()
        if key in seen:
            raise ProtocolError(str(folder), f"{seen[key]!r} and {place.name!r} look like one person: merge them")
        seen[key] = place.name
    photos = [LabelledPicture(place.name, str(picture)) for place in people for picture in find_pictures(place)]
    if not photos:
        raise ProtocolError(str(folder), "it holds no folders with pictures, one per person")
    return photos


def read_slices(path: Path, column: str) -> dict[str, str]:
    """Return the slice of every person of a `.csv` file with a column `person` and this one.

    Raises:
        ProtocolError: A line that cannot be used, or a person in two slices.
    """
    slices: dict[str, str] = {}
    for line, row in read_rows(path, ("person", column)):
        group = row[column] or NO_SLICE
        if slices.setdefault(row["person"], group) != group:
            raise ProtocolError(str(path), f"{row['person']!r} is in two slices", line)
    return slices


def slice_pairs(pairs: Sequence[LabelledPair], slices: Mapping[str, str]) -> list[LabelledPair]:
    """Return the pairs in the slice of their people; two people of two slices make a slice `a × b`."""
    groups = [sorted({slices.get(person, NO_SLICE) for person in pair.people}) for pair in pairs]
    return [replace(pair, slice=" × ".join(group)) for pair, group in zip(pairs, groups, strict=True)]
