"""Face regions in XMP: MWG regions and Microsoft's, in a sidecar or in the photograph, through Exiv2.

The Metadata Working Group's guidelines (version 2.0, 2010) define `mwg-rs:Regions`: centre and size of each region,
as parts of the picture as it is stored, before its EXIF orientation is applied. Microsoft's `MP:RegionInfo` holds
left, top, width and height. Names are also written to `dc:subject` and `Iptc4xmpExt:PersonInImage`, the keywords that
every program shows.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sameface.atomic import replace_file
from sameface.errors import SamefaceError
from sameface.face import overlaps

MWG_LIST, AREA = "Xmp.mwg-rs.Regions/mwg-rs:RegionList", "mwg-rs:Area/stArea"
MICROSOFT_LIST = "Xmp.MP.RegionInfo/MPRI:Regions"
KEYWORDS = ("Xmp.dc.subject", "Xmp.iptcExt.PersonInImage")
SAME_FACE = 0.3  # intersection over union from which on two regions are of one face
ORIENTATION = 0x0112  # the EXIF tag

# Where a point (x, y) of the stored picture, 0 to 1, lies in the upright one, by EXIF orientation.
TO_UPRIGHT: dict[int, Callable[[float, float], tuple[float, float]]] = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
INVERSE = {6: 8, 8: 6}  # the others are their own


class TagError(SamefaceError):
    """The metadata of a photograph cannot be read or written."""

    code = "bad_metadata"
    message = "metadata of {path!r}: {reason}"
    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The region of a face, with its name.

    Attributes:
        name: The person; empty if the region has none.
        box: `(4,) float32` left, top, right, bottom, as parts of the upright picture, 0 to 1.
    """

    name: str
    box: NDArray[np.float32]


def import_exiv2() -> Any:
    """Return Exiv2.

    Raises:
        TagError: It is not installed.
    """
    try:
        return importlib.import_module("exiv2")
    except ImportError as error:
        raise TagError("photographs", "needs exiv2: pip install 'sameface[tags]'") from error


def sidecar_of(photo: Path) -> Path:
    """Return the sidecar of a photograph: the one there is, as `a.jpg.xmp` or `a.xmp`, or the first name."""
    names = (photo.with_name(f"{photo.name}.xmp"), photo.with_suffix(".xmp"))
    return next((name for name in names if name.exists()), names[0])


def read_regions(photo: Path) -> list[Region]:
    """Return the face regions of a photograph: those of its sidecar, or without one those in the file.

    Raises:
        TagError: The metadata cannot be read.
    """
    sidecar, orientation = sidecar_of(photo), read_size(photo)[2]
    xmp = read_xmp(sidecar if sidecar.exists() else photo)
    found = [
        (region, turn_box(box, orientation))
        for region, box in [*list_mwg(xmp).values(), *list_microsoft(xmp).values()]
    ]
    regions: list[Region] = []
    for name, box in found:
        known = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
        if not (overlaps(box, known) > SAME_FACE).any():
            regions.append(Region(name, box))
    return regions


def write_regions(photo: Path, regions: Sequence[Region], *, in_place: bool = False) -> bool:
    """Add face regions to a photograph's sidecar, or with `in_place` to the photograph.

    A region that lies over one of the file's gives that one its name. Everything else in the file stays as it is, the
    coded pixels byte for byte.

    Args:
        photo: The photograph.
        regions: The faces that have a name.
        in_place: Write into the file, whole or not at all, instead of a sidecar.

    Returns:
        Whether anything was written: False if all of it was there already.

    Raises:
        TagError: The metadata cannot be read or written, or the pixels would not be the same afterwards.
    """
    width, height, orientation = read_size(photo)
    target = photo if in_place else sidecar_of(photo)
    source = target if target.exists() else photo
    xmp = read_xmp(source)
    before = list(entries(xmp))
    merge_mwg(xmp, regions, (width, height), orientation)
    merge_microsoft(xmp, regions, orientation)
    for key in KEYWORDS:
        add_keywords(xmp, key, [region.name for region in regions])
    if source == target and list(entries(xmp)) == before:
        return False
    with failing(photo), replace_file(target) as part:
        if in_place:
            shutil.copy2(photo, part)
            write_xmp(part, xmp)
            if hash_pixels(part) != hash_pixels(photo):
                raise TagError(str(photo), "the pixels would change: nothing was written, use a sidecar")
        else:
            create_sidecar(part, xmp)
    return True


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Turn the errors of Exiv2 and of files into ours."""
    try:
        yield
    except (import_exiv2().Exiv2Error, OSError, ValueError) as error:
        raise TagError(str(path), str(error)) from error


def read_size(photo: Path) -> tuple[int, int, int]:
    """Return width and height of a photograph as it is stored, and its EXIF orientation, 1 to 8."""
    try:
        with PIL.Image.open(photo) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            return image.width, image.height, orientation if orientation in TO_UPRIGHT else 1
    except (OSError, ValueError, SyntaxError) as error:
        raise TagError(str(photo), f"not a picture ({error})") from error


def hash_pixels(path: Path) -> bytes:
    """Return the decoded pixels as bytes, to be compared."""
    with PIL.Image.open(path) as image:
        return image.tobytes()


def read_xmp(path: Path) -> Any:
    """Return the XMP properties of a file."""
    with failing(path):
        image = import_exiv2().ImageFactory.open(str(path))
        image.readMetadata()
        return image.xmpData()


def write_xmp(path: Path, xmp: Any) -> None:
    """Replace the XMP properties of a file; nothing else of it."""
    image = import_exiv2().ImageFactory.open(str(path))
    image.readMetadata()
    image.setXmpData(xmp)
    image.writeMetadata()


def create_sidecar(path: Path, xmp: Any) -> None:
    """Write a sidecar."""
    exiv2 = import_exiv2()
    image = exiv2.ImageFactory.create(exiv2.ImageType.xmp, str(path))
    image.setXmpData(xmp)
    image.writeMetadata()


def entries(xmp: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of XMP properties."""
    for datum in xmp:
        yield datum.key(), datum.toString()


def list_items(xmp: Any, bag: str) -> dict[int, dict[str, str]]:
    """Return the items of an XMP bag by number: their properties by the rest of their key."""
    items: dict[int, dict[str, str]] = {}
    for key, value in entries(xmp):
        found = re.fullmatch(rf"{re.escape(bag)}\[(\d+)\]/?(.*)", key)
        if found:
            items.setdefault(int(found[1]), {})[found[2]] = value
    return items


def list_mwg(xmp: Any) -> dict[int, tuple[str, NDArray[np.float32]]]:
    """Return name and stored box of each MWG region of a face, by its number in the list."""
    found = {}
    for number, item in list_items(xmp, MWG_LIST).items():
        with suppress(KeyError, ValueError):  # a point, a circle, or damaged
            x, y, width, height = (float(item[f"{AREA}:{side}"]) for side in "xywh")
            box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32)
            if item.get("mwg-rs:Type", "Face") == "Face":
                found[number] = (item.get("mwg-rs:Name", ""), box)
    return found


def list_microsoft(xmp: Any) -> dict[int, tuple[str, NDArray[np.float32]]]:
    """Return name and stored box of each of Microsoft's regions, by its number in the list."""
    found = {}
    for number, item in list_items(xmp, MICROSOFT_LIST).items():
        with suppress(KeyError, ValueError):  # a person without a place, or damaged
            x, y, width, height = (float(side) for side in item["MPReg:Rectangle"].split(","))
            box = np.array([x, y, x + width, y + height], np.float32)
            found[number] = (item.get("MPReg:PersonDisplayName", ""), box)
    return found


def merge_mwg(xmp: Any, regions: Sequence[Region], size: tuple[int, int], orientation: int) -> None:
    """Add regions to the MWG list, or rename those that lie at the same place."""
    add_struct(xmp, "Xmp.mwg-rs.Regions")
    dimensions = "Xmp.mwg-rs.Regions/mwg-rs:AppliedToDimensions"
    if add_struct(xmp, dimensions):
        for name, value in (("w", str(size[0])), ("h", str(size[1])), ("unit", "pixel")):
            xmp[f"{dimensions}/stDim:{name}"] = value
    for item, name, box in place_regions(xmp, MWG_LIST, list_mwg(xmp), regions, orientation):
        xmp[f"{item}/mwg-rs:Name"] = name
        if box is not None:
            xmp[f"{item}/mwg-rs:Type"] = "Face"
            add_struct(xmp, f"{item}/mwg-rs:Area")
            for side, value in zip("xywh", (*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])), strict=True):
                xmp[f"{item}/{AREA}:{side}"] = f"{value:.6f}"
            xmp[f"{item}/{AREA}:unit"] = "normalized"


def merge_microsoft(xmp: Any, regions: Sequence[Region], orientation: int) -> None:
    """Add regions to Microsoft's list, or rename those that lie at the same place."""
    add_struct(xmp, "Xmp.MP.RegionInfo")
    for item, name, box in place_regions(xmp, MICROSOFT_LIST, list_microsoft(xmp), regions, orientation):
        xmp[f"{item}/MPReg:PersonDisplayName"] = name
        if box is not None:
            xmp[f"{item}/MPReg:Rectangle"] = ", ".join(f"{value:.6f}" for value in (*box[:2], *(box[2:] - box[:2])))


def place_regions(
    xmp: Any,
    bag: str,
    known: Mapping[int, tuple[str, NDArray[np.float32]]],
    regions: Sequence[Region],
    orientation: int,
) -> Iterator[tuple[str, str, NDArray[np.float32] | None]]:
    """Yield for each region the key of its item, its name, and its stored box; None for an item that is there."""
    add_bag(xmp, bag)
    last = max(list_items(xmp, bag), default=0)
    numbers = list(known)
    boxes = np.array([box for _, box in known.values()], np.float32).reshape(-1, 4)
    for region in regions:
        box = turn_box(region.box, INVERSE.get(orientation, orientation))
        shared = overlaps(box, boxes)
        if shared.size and shared.max() > SAME_FACE:
            yield f"{bag}[{numbers[int(shared.argmax())]}]", region.name, None
        else:
            last += 1
            add_struct(xmp, f"{bag}[{last}]")
            yield f"{bag}[{last}]", region.name, box


def turn_box(box: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Return a box of the stored picture, as parts of its sides, in the upright picture."""
    turn = TO_UPRIGHT[orientation]
    corners = np.array([turn(*map(float, box[:2])), turn(*map(float, box[2:]))])
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)


def add_struct(xmp: Any, key: str) -> bool:
    """Add an empty structure unless it is there; return whether it was added."""
    if key in dict(entries(xmp)):
        return False
    exiv2 = import_exiv2()
    value = exiv2.XmpTextValue()
    value.setXmpStruct()
    xmp.add(exiv2.XmpKey(key), value)
    return True


def add_bag(xmp: Any, key: str) -> None:
    """Add an empty unordered list unless it is there."""
    if key not in dict(entries(xmp)):
        exiv2 = import_exiv2()
        value = exiv2.XmpTextValue()
        value.setXmpArrayType(exiv2.XmpValue.XmpArrayType.xaBag)
        xmp.add(exiv2.XmpKey(key), value)


def add_keywords(xmp: Any, key: str, names: Sequence[str]) -> None:
    """Add names to a list of keywords; those that are there stay as they are."""
    known = [str(value) for value in xmp[key].value()] if key in dict(entries(xmp)) else []
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing:
        xmp[key] = [*known, *missing]
