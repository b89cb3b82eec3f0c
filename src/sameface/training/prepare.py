"""Cut the faces out of photographs once, before training."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
from sameface.training.augment import resize
from sameface.training.dataset import RULE_FILE, PictureFile, open_pictures
from sameface.training.errors import TrainingDataError

QUALITY = 95  # of the JPEG files
REPORT = "left-out.jsonl"  # the pictures that gave no crop, one JSON object on a line
MARGIN = 0.3  # round a box, unless told otherwise


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """What became of one picture.

    Attributes:
        picture: What it is called.
        crop: Where its crop is; None without one.
        reason: Why there is none.
        new: Whether this call did it, and not one before.
        total: How many pictures there are.
    """

    picture: str
    crop: Path | None
    reason: str
    new: bool
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class Cutter:
    """How a photograph becomes a crop.

    Attributes:
        detector: Finds the faces; None where the pictures are crops already, cut by the rule at some size.
        rule: How to cut.
        face: Which face of several counts.
    """

    detector: Detector | None
    rule: CropRule
    face: FacePolicy = "largest"

    @property
    def facts(self) -> dict[str, object]:
        """What all crops of a folder must have in common, as it is written beside them."""
        how = "as it is" if self.detector is None else self.face
        return {**asdict(self.rule), "prepared": {"face": how}}

    @property
    def search(self) -> str:
        """How faces are searched for; a picture without a face is searched again in another way."""
        found = self.detector
        if found is None:
            return ""
        model = found.model.manifest.sha256[:16]
        return "/".join(map(str, (model, *found.options)))

    def cut(self, image: Image, name: str) -> Image:
        """Return the crop of a picture, `(size, size, 3) uint8`.

        Raises:
            NoFaceError: It holds no face.
        """
        if self.detector is None:
            return cut_middle(image, self.rule.size)
        faces = self.detector.find(image)
        if not faces:
            raise NoFaceError(name)
        crop: Image = align_faces(image, [choose_face(faces, image, self.face)], self.rule)[0]
        return crop


def prepare_pictures(source: Path, target: Path, cutter: Cutter) -> Iterator[PreparedPicture]:
    """Write the crop of every picture in a person's folder, and yield what became of each.

    A crop keeps the SHA-256 of its photograph as its JPEG comment. A second call goes on where the first was
    ended: it leaves the crops of the same bytes as they are, and cuts a photograph that was replaced again.
    Pictures without a face are listed in `left-out.jsonl` and not searched again in the same way.

    Args:
        source: A folder per person, or a tar file of such folders.
        target: The same folders with crops, and `crops.toml`, the rule.
        cutter: How to cut.

    Raises:
        TrainingDataError: The source holds no person's folder with pictures, or the target something else.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise TrainingDataError(str(target), "it lies inside the photographs: choose another --output")
    pictures = open_pictures([source])
    write_facts(target, cutter.facts)
    known = keep_failures(target / REPORT, cutter.search, pictures.files)
    for place in pictures.files:
        crop, reason, new = target / crop_name(place), known.get(place.name, ""), False
        if not reason and not (crop.exists() and read_comment(crop) == place.digest().hex()):
            reason, new = prepare_picture(place, crop, cutter, target / REPORT), True
        yield PreparedPicture(str(place), None if reason else crop, reason, new, len(pictures))


def prepare_picture(place: PictureFile, crop: Path, cutter: Cutter, report: Path) -> str:
    """Write one crop; or remove an older one, note why there is none, and return it."""
    sha256 = ""
    try:
        picture = place.load()
        sha256 = hash_image(picture)
        pixels = cutter.cut(read_image(picture), repr(str(place)))
    except (ImageError, FaceError) as error:
        entry = {
            "picture": place.name,
            "sha256": sha256,
            "code": error.code,
            "reason": str(error),
            "search": cutter.search,
        }
        with report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        crop.unlink(missing_ok=True)
        return str(error)
    crop.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(crop) as part:
        PIL.Image.fromarray(pixels).save(part, "JPEG", quality=QUALITY, comment=sha256)
    return ""


def read_comment(crop: Path) -> str:
    """Return the SHA-256 of the photograph that a crop was cut from; nothing where it does not say."""
    try:
        with PIL.Image.open(crop, formats=("JPEG",)) as picture:
            return bytes(picture.info.get("comment", b"")).decode("ascii", "replace")
    except (OSError, SyntaxError, ValueError):  # damaged
        return ""


def check_names(sources: Sequence[Path]) -> None:
    """Raise if two sources hold pictures whose crops would be one file.

    Raises:
        TrainingDataError: They do, or a source holds no person's folder with pictures.
    """
    seen: dict[PurePosixPath, str] = {}
    for source in sources:
        names = {crop_name(place): place.name for place in open_pictures([source]).files}
        for name in names.keys() & seen.keys():
            reason = f"both hold {names[name]!r}: rename one, or give each an --output of its own"
            raise TrainingDataError(f"{seen[name]} and {source}", reason)
        seen |= dict.fromkeys(names, str(source))


def crop_name(place: PictureFile) -> PurePosixPath:
    """Return where in the folder of crops that of a picture stands: `a.png` and `a.jpg` are two."""
    name = PurePosixPath(place.name)
    return name if name.suffix == ".jpg" else name.with_name(f"{name.name}.jpg")


def cut_middle(image: Image, size: int) -> Image:
    """Return the largest square in the middle of a picture, at this size."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], size)


def make_rule(kind: str, size: int, *, margin: float | None = None) -> CropRule:
    """Return a crop rule of this size: `similarity` as `resnet29` sees faces, or the paper's `box`.

    Args:
        kind: Which of the two.
        size: The side of a crop.
        margin: The part of the side that is added round it; None adds `MARGIN` to a box, and nothing to
            what `resnet29` sees.
    """
    if kind == "box":
        return CropRule("box", size, margin=MARGIN if margin is None else margin)
    known = rule_of_weights("resnet29")
    factor = size / known.size / (1 + (margin or 0))
    middle, known_middle = size / 2, known.size / 2
    points = tuple(
        (round(middle + (x - known_middle) * factor, 4), round(middle + (y - known_middle) * factor, 4))
        for x, y in known.template
    )
    return CropRule("similarity", size, points, known.point_weights)


def write_facts(target: Path, facts: dict[str, object]) -> None:
    """Write beside the crops how they are cut, or see that those there were cut the same way."""
    text = tomli_w.dumps(facts)
    path = target / RULE_FILE
    if path.exists():
        if same_facts(path, text):
            return
        raise TrainingDataError(str(target), "it holds crops cut in another way: choose another --output")
    if target.exists() and any(target.iterdir()):
        raise TrainingDataError(str(target), "it holds something else: choose another --output")
    target.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        part.write_text(text, "utf-8")


def same_facts(path: Path, text: str) -> bool:
    """Return whether a file says the same as a text, in whatever form."""
    try:
        return tomllib.loads(path.read_text("utf-8")) == tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def keep_failures(path: Path, search: str, places: Sequence[PictureFile]) -> dict[str, str]:
    """Return the pictures in which this search found no face, and why; take the others off the report.

    A picture that could not be read is tried again, as is one that was replaced or whose line was cut off.
    """
    kept, place_of = [], {place.name: place for place in places}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        place = place_of.get(entry["picture"])
        same = place is None or entry.get("sha256") == place.digest().hex()
        if same and entry["search"] == search and entry["code"] == NoFaceError.code:
            kept.append(entry)
    with replace_file(path) as part:
        part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
    return {entry["picture"]: entry["reason"] for entry in kept}
