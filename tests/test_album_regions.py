"""Names in photographs: what is written here is read by ExifTool, and what ExifTool writes is read here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pictures import store_turned

from sameface.albums.regions import Region, TagError, read_regions, sidecar_of, write_regions

pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs ExifTool, the independent judge")
BOX = np.array([0.1, 0.2, 0.4, 0.6], np.float32)
OTHER = np.array([0.6, 0.2, 0.9, 0.6], np.float32)
DIGIKAM = "XMP-mwg-rs:RegionInfo={AppliedToDimensions={W=400,H=300,Unit=pixel},RegionList=[%s]}"
AREA = "{Area={X=%s,Y=%s,W=%s,H=%s,Unit=normalized},Name=%s,Type=%s}"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph with a title, a camera and a preview in its EXIF data."""
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path, quality=90)
    run_exiftool("-overwrite_original", "-XMP-dc:Title=Seaside", "-EXIF:Model=Camera", "-EXIF:Artist=Ada", str(path))
    return path


def run_exiftool(*arguments: str) -> str:
    return subprocess.run(["exiftool", *arguments], capture_output=True, text=True, check=True).stdout


def tags_of(path: Path) -> dict[str, object]:
    """Return what ExifTool reads."""
    [tags] = json.loads(run_exiftool("-j", "-struct", "-G1", "-n", str(path)))
    return {
        name: value
        for name, value in tags.items()
        if not name.startswith(("System:", "ExifTool:", "SourceFile", "XMP-x:"))
    }


def scan_data(path: Path) -> bytes:
    """Return the coded pixels of a JPEG file: everything from the start of its scan."""
    data = path.read_bytes()
    return data[data.index(b"\xff\xda") :]


@pytest.mark.parametrize("in_place", [False, True])
def test_exiftool_reads_what_is_written(photo: Path, in_place: bool) -> None:
    assert write_regions(photo, [Region("Ada", BOX), Region("Bo Ngô, Jr.", OTHER)], in_place=in_place)
    target = photo if in_place else photo.with_name("photo.jpg.xmp")
    tags = tags_of(target)
    info = tags["XMP-mwg-rs:RegionInfo"]
    assert info["AppliedToDimensions"] == {"W": 400, "H": 300, "Unit": "pixel"}
    first, second = info["RegionList"]
    assert (first["Name"], first["Type"], second["Name"]) == ("Ada", "Face", "Bo Ngô, Jr.")
    assert first["Area"] == pytest.approx({"X": 0.25, "Y": 0.4, "W": 0.3, "H": 0.4, "Unit": "normalized"}, abs=1e-5)
    microsoft = tags["XMP-MP:RegionInfoMP"]["Regions"]
    assert [each["PersonDisplayName"] for each in microsoft] == ["Ada", "Bo Ngô, Jr."]
    assert microsoft[1]["Rectangle"] == "0.600000, 0.200000, 0.300000, 0.400000"
    for keywords in ("XMP-dc:Subject", "XMP-iptcExt:PersonInImage"):
        assert tags[keywords] == ["Ada", "Bo Ngô, Jr."]


def test_in_place_nothing_else_of_the_file_changes(photo: Path) -> None:
    before, pixels = tags_of(photo), scan_data(photo)
    write_regions(photo, [Region("Ada", BOX)], in_place=True)
    after = tags_of(photo)
    ours = ("XMP-mwg-rs:", "XMP-MP:", "XMP-dc:Subject", "XMP-iptcExt:")
    assert {name: value for name, value in after.items() if not name.startswith(ours)} == before
    assert scan_data(photo) == pixels


def test_a_sidecar_leaves_the_photograph_alone_and_takes_its_other_facts_along(photo: Path) -> None:
    before = photo.read_bytes()
    write_regions(photo, [Region("Ada", BOX)])
    assert photo.read_bytes() == before
    assert tags_of(photo.with_name("photo.jpg.xmp"))["XMP-dc:Title"] == "Seaside"


@pytest.mark.parametrize("in_place", [False, True])
def test_what_is_written_is_read_again_and_written_once(photo: Path, in_place: bool) -> None:
    regions = [Region("Ada", BOX), Region("Bo", OTHER)]
    assert write_regions(photo, regions, in_place=in_place)
    read = read_regions(photo)
    assert [region.name for region in read] == ["Ada", "Bo"]
    np.testing.assert_allclose([region.box for region in read], [BOX, OTHER], atol=1e-5)
    assert not write_regions(photo, regions, in_place=in_place)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_of_a_turned_photograph_lie_on_the_stored_picture(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((300, 400, 3), np.uint8)
    upright[60:180, 40:160] = 255  # BOX
    photo = tmp_path / "turned.png"
    stored = store_turned(upright, orientation)
    PIL.Image.fromarray(stored).save(photo)
    run_exiftool("-overwrite_original", "-n", f"-IFD0:Orientation={orientation}", str(photo))
    write_regions(photo, [Region("Ada", BOX)], in_place=True)
    [region] = tags_of(photo)["XMP-mwg-rs:RegionInfo"]["RegionList"]
    area = {side: float(value) for side, value in region["Area"].items() if side != "Unit"}
    rows, columns = np.nonzero(stored[:, :, 0])
    height, width = stored.shape[:2]
    assert (area["X"] - area["W"] / 2) * width == pytest.approx(columns.min(), abs=0.01)
    assert (area["Y"] + area["H"] / 2) * height == pytest.approx(rows.max() + 1, abs=0.01)
    np.testing.assert_allclose(read_regions(photo)[0].box, BOX, atol=1e-5)


def test_regions_of_digikam_lightroom_and_picasa_are_read(photo: Path, tmp_path: Path) -> None:
    face = AREA % (0.25, 0.4, 0.3, 0.4, "Ada", "Face")
    run_exiftool("-overwrite_original", "-" + DIGIKAM % face, str(photo))
    assert [region.name for region in read_regions(photo)] == ["Ada"]
    np.testing.assert_allclose(read_regions(photo)[0].box, BOX, atol=1e-5)
    focus = AREA % (0.75, 0.4, 0.3, 0.4, "centre", "Focus")
    unnamed = "{Area={X=0.75,Y=0.4,W=0.3,H=0.4,Unit=normalized},Type=Face}"
    run_exiftool("-overwrite_original", "-" + DIGIKAM % f"{face},{focus},{unnamed}", str(photo))
    assert [region.name for region in read_regions(photo)] == ["Ada", ""]
    lightroom = tmp_path / "photo.xmp"
    run_exiftool("-overwrite_original", "-" + DIGIKAM % (AREA % (0.25, 0.4, 0.3, 0.4, "Lea", "Face")), str(lightroom))
    assert [region.name for region in read_regions(photo)] == ["Lea"]
    picasa = tmp_path / "picasa.jpg"
    shutil.copy(photo, picasa)
    run_exiftool("-overwrite_original", "-XMP:all=", str(picasa))
    person = "{PersonDisplayName=Pia,Rectangle=0.1|, 0.2|, 0.3|, 0.4}"
    run_exiftool(
        "-overwrite_original",
        f"-XMP-MP:RegionInfoMP={{Regions=[{person},{{PersonDisplayName=Nowhere}}]}}",
        str(picasa),
    )
    [region] = read_regions(picasa)
    assert region.name == "Pia"
    np.testing.assert_allclose(region.box, BOX, atol=1e-5)


def test_regions_of_others_stay_and_a_name_is_corrected_at_its_place(photo: Path) -> None:
    focus = AREA % (0.75, 0.4, 0.3, 0.4, "centre", "Focus")
    wrong = AREA % (0.26, 0.41, 0.3, 0.4, "Adam", "Face")
    run_exiftool("-overwrite_original", "-" + DIGIKAM % f"{focus},{wrong}", "-XMP-dc:Subject=sea", str(photo))
    write_regions(photo, [Region("Ada", BOX), Region("Bo", OTHER)], in_place=True)
    regions = tags_of(photo)["XMP-mwg-rs:RegionInfo"]["RegionList"]
    assert [(each["Type"], each["Name"]) for each in regions] == [("Focus", "centre"), ("Face", "Ada"), ("Face", "Bo")]
    assert float(regions[1]["Area"]["X"]) == 0.26
    assert tags_of(photo)["XMP-dc:Subject"] == ["sea", "Ada", "Bo"]


def test_an_existing_sidecar_is_extended(photo: Path) -> None:
    sidecar = photo.with_suffix(".xmp")
    run_exiftool("-overwrite_original", "-XMP-xmp:Rating=4", str(sidecar))
    assert sidecar_of(photo) == sidecar
    write_regions(photo, [Region("Ada", BOX)])
    assert tags_of(sidecar)["XMP-xmp:Rating"] == 4
    assert not photo.with_name("photo.jpg.xmp").exists()


def test_what_is_no_photograph_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for in_place in (False, True):
        with pytest.raises(TagError, match="not a picture"):
            write_regions(text, [Region("Ada", BOX)], in_place=in_place)
    bmp = tmp_path / "a.bmp"
    PIL.Image.new("RGB", (40, 30)).save(bmp)
    before = bmp.read_bytes()
    with pytest.raises(TagError):
        write_regions(bmp, [Region("Ada", BOX)], in_place=True)
    assert bmp.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [bmp, text]
    assert write_regions(bmp, [Region("Ada", BOX)])
