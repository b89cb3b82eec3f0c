"""Cut the faces out of photographs, once before training."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import PIL.Image
import tomli_w

from sameface.align import align_faces
from sameface.arrays import Image
from sameface.atomic import replace_file
from sameface.detect import Detector
from sameface.errors import FaceError, ImageError, NoFaceError
from sameface.evaluation.pictures import FacePolicy, choose_face
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import rule_of_weights
from sameface.picture_files import hash_image
from sameface.training.augment import WHOLE, CropView, resize
from sameface.training.dataset import RULE_FILE, PictureFile, open_pictures
from sameface.training.errors import TrainingDataError

QUALITY = 95  # of the JPEG files
REPORT = "left-out.jsonl"  # pictures without a crop, as JSON lines
MARGIN = 0.3  # round a box by default


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """The result for one picture."""

    picture: str  # its path
    crop: Path | None  # the path of its crop
    reason: str  # why there is none
    new: bool  # whether this call searched it, and not an earlier one
    total: int  # number of pictures


@dataclass(frozen=True, slots=True, eq=False)
class Cutter:
    """Cuts the crop out of a photograph."""

    detector: Detector | None  # None for pictures that are crops already, by the rule at some size
    rule: CropRule
    face: FacePolicy = "largest"  # which of several

    @property
    def facts(self) -> dict[str, object]:
        """The facts that all crops of a folder share, as `crops.toml` stores them."""
        how = "as it is" if self.detector is None else self.face
        return {**asdict(self.rule), "prepared": {"face": how}}

    @property
    def search(self) -> str:
        """The detector and its options; a picture without a face is searched again with others."""
        if self.detector is None:
            return ""
        return "/".join(map(str, (self.detector.model.manifest.sha256[:16], *self.detector.options)))

    def cut(self, image: Image, name: str) -> Image:
        """Cut the crop `(size, size, 3) uint8` out of a picture; without a face, raise `NoFaceError`."""
        if self.detector is None:
            return cut_middle(image, self.rule.size)
        faces = self.detector.find(image)
        if not faces:
            raise NoFaceError(name)
        crop: Image = align_faces(image, [choose_face(faces, image, self.face)], self.rule)[0]
        return crop


def prepare_pictures(source: Path, target: Path, cutter: Cutter) -> Iterator[PreparedPicture]:
    """Write the crop of every picture in a folder per person, or a tar file of such folders; yield each result.

    A crop keeps the SHA-256 of its photograph as its JPEG comment. A later call skips crops of the same bytes, and
    cuts a replaced photograph again. Pictures without a face are listed in `left-out.jsonl` and not searched again
    with the same detector and options.

    Raises:
        TrainingDataError: The source has no person's folder with pictures, or the target holds something else.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise TrainingDataError(str(target), "it lies inside the photographs: choose another --output")
    pictures = open_pictures([source])
    write_facts(target, cutter.facts)
    known = keep_failures(target / REPORT, cutter.search, pictures.files)
    for file in pictures.files:
        crop, reason, new = target / crop_name(file), known.get(file.name, ""), False
        if not reason and not (crop.exists() and read_comment(crop) == file.digest().hex()):
            reason, new = prepare_picture(file, crop, cutter, target / REPORT), True
        yield PreparedPicture(str(file), None if reason else crop, reason, new, len(pictures))


def prepare_picture(file: PictureFile, crop: Path, cutter: Cutter, report: Path) -> str:
    """Write one crop and return ""; or remove an older one, and report and return the reason."""
    sha256 = ""
    try:
        picture = file.load()
        sha256 = hash_image(picture)
        pixels = cutter.cut(read_image(picture), repr(str(file)))
    except (ImageError, FaceError) as error:
        entry = {"picture": file.name, "sha256": sha256, "code": error.code, "reason": str(error)}
        with report.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**entry, "search": cutter.search}) + "\n")
        crop.unlink(missing_ok=True)
        return str(error)
    crop.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(crop) as part:
        PIL.Image.fromarray(pixels).save(part, "JPEG", quality=QUALITY, comment=sha256)
    return ""


def read_comment(crop: Path) -> str:
    """Return the SHA-256 of the photograph of a crop; "" if its JPEG comment lacks it."""
    try:
        with PIL.Image.open(crop, formats=("JPEG",)) as picture:
            return bytes(picture.info.get("comment", b"")).decode("ascii", "replace")
    except (OSError, SyntaxError, ValueError):  # damaged
        return ""


def check_names(sources: Sequence[Path]) -> None:
    """Raise `TrainingDataError` if two sources have pictures whose crops would be one file."""
    seen: dict[PurePosixPath, str] = {}
    for source in sources:
        names = {crop_name(file): file.name for file in open_pictures([source]).files}
        for name in names.keys() & seen.keys():
            reason = f"both hold {names[name]!r}: rename one, or give each an --output of its own"
            raise TrainingDataError(f"{seen[name]} and {source}", reason)
        seen |= dict.fromkeys(names, str(source))


def crop_name(file: PictureFile) -> PurePosixPath:
    """Return the path of a picture's crop in the folder of crops; `a.png` and `a.jpg` give two."""
    name = PurePosixPath(file.name)
    return name if name.suffix == ".jpg" else name.with_name(f"{name.name}.jpg")


def cut_middle(image: Image, size: int) -> Image:
    """Return the largest square in the middle of a picture, at this size."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], size)


def make_rule(kind: str, size: int, *, margin: float | None = None) -> CropRule:
    """Return a crop rule of this size: `similarity` as `resnet29` sees faces, or the paper's `box`.

    `margin` is the part of the side that is added round it; None adds `MARGIN` to a box and nothing else.
    """
    if kind == "box":
        return CropRule("box", size, margin=MARGIN if margin is None else margin)
    added = margin or 0
    return scale_rule(rule_of_weights("resnet29"), size, CropView(-added / 2, -added / 2, 1 + added))


def scale_rule(rule: CropRule, size: int, view: CropView = WHOLE) -> CropRule:
    """Return the rule that cuts this view of a crop at another size."""
    factor = size / rule.size / view.side
    left, top = view.left * rule.size, view.top * rule.size
    points = tuple((round((x - left) * factor, 4), round((y - top) * factor, 4)) for x, y in rule.template)
    margin = (1 + rule.margin) * view.side - 1 if rule.kind == "box" else rule.margin
    return replace(rule, size=size, template=points, margin=margin)


def write_facts(target: Path, facts: dict[str, object]) -> None:
    """Write `crops.toml`, or check that the crops in the folder were cut the same way."""
    text = tomli_w.dumps(facts)
    path = target / RULE_FILE
    if path.exists():
        try:
            same = tomllib.loads(path.read_text("utf-8")) == tomllib.loads(text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            same = False
        if not same:
            raise TrainingDataError(str(target), "it holds crops cut in another way: choose another --output")
        return
    if target.exists() and any(target.iterdir()):
        raise TrainingDataError(str(target), "it holds something else: choose another --output")
    target.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        part.write_text(text, "utf-8")


def keep_failures(path: Path, search: str, files: Sequence[PictureFile]) -> dict[str, str]:
    """Return why pictures have no face, by their names; remove all other lines from the report.

    An unreadable or replaced picture is tried again, as is one whose line is incomplete or of another search.
    """
    kept, file_of = [], {file.name: file for file in files}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        file = file_of.get(entry["picture"])
        same = file is None or entry.get("sha256") == file.digest().hex()
        if same and entry["search"] == search and entry["code"] == NoFaceError.code:
            kept.append(entry)
    with replace_file(path) as part:
        part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
    return {entry["picture"]: entry["reason"] for entry in kept}
