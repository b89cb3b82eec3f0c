"""Write the groups of an album: a folder per person, a contact sheet, a list."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.atomic import make_folder, make_private
from sameface.errors import ImageError
from sameface.face import Face

THUMBNAIL = 96
GROUPS = 100  # on a page of the contact sheet
SHOWN = 100  # faces of a person on the contact sheet, about 4 kB each
LIST, SHEET = "clusters.json", "contact-sheet.html"
LONGEST = 240  # bytes of a file's name; systems take 255, the rest is for a number
UNNAMED = re.compile(r"(person-|group )\d+")
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\.|$)", re.IGNORECASE)  # on Windows


@dataclass(frozen=True, slots=True, eq=False)
class PictureFace:
    """One face of the album."""

    picture: Path  # the file it is in
    face: Face
    thumbnail: str  # a data address, from `thumbnail`


def write_album(
    folder: Path,
    faces: Sequence[PictureFace],
    labels: NDArray[np.int64],
    names: Sequence[str],
    *,
    copy: bool,
    files: Mapping[Path, Path] | None = None,
) -> None:
    """Write the groups into a new folder, whole or not at all: named groups first, then the largest.

    Args:
        folder: Where to; it must not exist.
        faces: Every face of the album.
        labels: `(n,) int64` the number of each face's group.
        names: The name of each group; groups of one name share a folder.
        copy: Copy the pictures instead of linking to them.
        files: Files with the bytes of pictures from a tar or Parquet file; those are copied.
    """
    groups: dict[str, list[PictureFace]] = {}
    for face, label in zip(faces, labels, strict=True):
        groups.setdefault(names[label], []).append(face)
    ordered = dict(sorted(groups.items(), key=lambda item: (is_unnamed(item[0]), -len(item[1]))))
    pages = to_html(ordered)
    with make_folder(folder) as part:
        taken, names_of = {LIST, *pages}, {}
        for name, members in ordered.items():
            place = part / free_name(folder_name(name), taken)
            place.mkdir()
            names_of[name] = fill(place, members, files or {}, copy=copy)
        # The bytes of a file's name need not be text; JSON and HTML are.
        for name, text in {LIST: to_json(ordered, names_of), **pages}.items():
            make_private(part / name)
            (part / name).write_text(text, "utf-8", errors="backslashreplace")


def fill(place: Path, members: Sequence[PictureFace], files: Mapping[Path, Path], *, copy: bool) -> dict[Path, str]:
    """Put every picture of a group into its folder once, and return the names; a number tells equal names apart."""
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for face in members:
        picture = face.picture if face.picture in files else face.picture.resolve()
        if picture in names:
            continue
        names[picture] = free_name(picture.name, taken)
        target = place / names[picture]
        if picture in files:
            shutil.copyfile(files[picture], target)
        elif copy:
            shutil.copy2(picture, target)
        else:
            target.symlink_to(picture)
    return names


def free_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a number in it if it is taken, and take it."""
    path = Path(name)
    numbered = (f"{shorten(path.stem)}-{number}{path.suffix}" for number in itertools.count(2))
    free = next(free for free in itertools.chain([name], numbered) if free.lower() not in taken)
    taken.add(free.lower())
    return free


def folder_name(name: str) -> str:
    """Return a name that is safe for a folder on any system: no separators, no leading or final dots."""
    clean = shorten(re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(" .")).rstrip(" .")
    return f"_{clean}" if RESERVED.match(clean) else clean or "_"


def shorten(name: str) -> str:
    """Cut a name to as many bytes as fit, between two letters."""
    data = os.fsencode(name)
    return name if len(data) <= LONGEST else data[:LONGEST].decode(errors="ignore")


def to_json(groups: dict[str, list[PictureFace]], names_of: dict[str, dict[Path, str]]) -> str:
    """Return the groups as JSON; `names_of` holds the name of each picture in the folder of its group."""
    people = []
    for name, members in groups.items():
        faces = []
        for face in members:
            files = names_of[name]
            file = files[face.picture] if face.picture in files else files[face.picture.resolve()]
            box = [round(float(side), 2) for side in face.face.box]
            faces.append({"picture": str(face.picture), "file": file, "box": box})
        people.append({"name": name, "faces": faces})
    return json.dumps({"people": people}, ensure_ascii=False, indent=1)


def read_boxes(folder: Path) -> dict[str, NDArray[np.float32]] | None:
    """Return the face for which each picture is in a folder that `write_album` made, by the path of the picture.

    Folders may have been renamed and pictures moved between them: a folder is of the group whose pictures it mostly
    holds. A picture from elsewhere has its face if it has only one; else it is left out.

    Returns:
        Boxes, `(4,) float32`; None if there is no list in the folder.

    Raises:
        ImageError: The list is damaged.
    """
    try:
        people = json.loads((folder / LIST).read_text("utf-8"))["people"]
        boxes: list[dict[str, list[NDArray[np.float32]]]] = []
        for person in people:
            boxes.append({})
            for face in person["faces"]:
                name = face.get("file") or Path(face["picture"]).name
                boxes[-1].setdefault(name, []).append(np.array(face["box"], np.float32).reshape(4))
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ImageError(str(folder / LIST), f"damaged, or not written by `sameface cluster` ({error})") from error
    found: dict[str, NDArray[np.float32]] = {}
    for place in sorted(each for each in folder.iterdir() if each.is_dir()):
        files = [file.name for file in place.iterdir()]
        group = max(boxes, key=lambda each: sum(name in each for name in files), default={})
        for name in files:
            of_picture = group.get(name) or [box for each in boxes for box in each.get(name, ())]
            if len(of_picture) == 1:
                found[str(place / name)] = of_picture[0]
    return found


def is_unnamed(name: str) -> bool:
    """Return whether a folder still has the name that was made for a group without a name."""
    return UNNAMED.fullmatch(name) is not None


def to_html(groups: dict[str, list[PictureFace]]) -> dict[str, str]:
    """Return the pages that show the first faces of every group, by file name, with nothing loaded from elsewhere."""
    templates = jinja2.Environment(loader=jinja2.PackageLoader("sameface"), autoescape=True, trim_blocks=True)
    title = f"{sum(map(len, groups.values()))} faces, {len(groups)} people"
    items = list(groups.items())
    parts = [dict(items[start : start + GROUPS]) for start in range(0, max(len(items), 1), GROUPS)]
    files = [SHEET, *(SHEET.replace(".", f"-{number}.") for number in range(2, len(parts) + 1))]
    sheet = templates.get_template(SHEET)
    return {
        file: sheet.render(title=title, groups=part, size=THUMBNAIL, shown=SHOWN, files=files, file=file)
        for file, part in zip(files, parts, strict=True)
    }


def thumbnail(crop: Image) -> str:
    """Return a small JPEG of a crop as a data address."""
    return f"data:image/jpeg;base64,{base64.b64encode(make_thumbnail(crop)).decode()}"


def make_thumbnail(crop: Image) -> bytes:
    """Return a small JPEG of a crop."""
    small = PIL.Image.fromarray(crop).resize((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
