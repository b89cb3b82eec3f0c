"""Crops of a folder of people: which, how, where, and what happens on the second call."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import toy
from click.testing import Result

from sameface.align import align_faces
from sameface.detect import Detector
from sameface.errors import WeightsError
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import rule_of_weights
from sameface.training.dataset import open_pictures, read_rule
from sameface.training.errors import TrainingDataError
from sameface.training.prepare import Cutter, cut_middle, make_rule, prepare_pictures

Run = Callable[..., Result]
BOX = CropRule("box", 16)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Red with two pictures, green with two of which one is empty, and a picture of nobody's."""
    toy.save(tmp_path / "people" / "red" / "a.png", toy.RED)
    toy.save(tmp_path / "people" / "red" / "b.png", toy.REDDISH, toy.BLUE)
    toy.save(tmp_path / "people" / "green" / "a.png", toy.GREEN)
    toy.save(tmp_path / "people" / "green" / "empty.png")
    toy.save(tmp_path / "people" / "nobody.png", toy.WHITE)
    return tmp_path / "people"


@pytest.fixture
def cutter() -> Cutter:
    return Cutter(toy.make_recognizer().detector, BOX)


def crops_in(folder: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(folder)): read_image(path) for path in sorted(folder.rglob("*.jpg"))}


def colour_of(crop: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in crop[8, 8])


def pack(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as tar:
        tar.add(folder, folder.name)
    return target


def test_each_picture_with_a_face_becomes_a_crop_in_its_persons_folder(
    people: Path, tmp_path: Path, cutter: Cutter
) -> None:
    done = list(prepare_pictures(people, tmp_path / "crops", cutter))
    crops = crops_in(tmp_path / "crops")
    assert list(crops) == ["green/a.png.jpg", "red/a.png.jpg", "red/b.png.jpg"]
    assert np.abs(np.subtract(colour_of(crops["green/a.png.jpg"]), toy.GREEN)).max() < 8
    assert all(crop.shape == (16, 16, 3) for crop in crops.values())
    assert [one.crop is None for one in done] == [False, True, False, False]
    assert all(one.new and one.total == 4 for one in done)


def test_the_crops_are_those_of_the_rule(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    for kind, margin in (("box", 0.5), ("similarity", 0.3)):
        rule = make_rule(kind, 24, margin=margin)
        target = tmp_path / kind
        list(prepare_pictures(people, target, Cutter(cutter.detector, rule)))
        image = read_image(people / "red" / "a.png")
        (face,) = cutter.detector.find(image)
        wanted = align_faces(image, [face], rule)[0].astype(int)
        assert np.abs(wanted - crops_in(target)["red/a.png.jpg"]).mean() < 10


def test_the_rule_stands_beside_the_crops_and_is_read_back(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    for rule in (BOX, make_rule("similarity", 96)):
        target = tmp_path / rule.kind
        list(prepare_pictures(people, target, Cutter(cutter.detector, rule)))
        assert read_rule(target) == rule
        assert open_pictures([target]).rule == rule


def test_the_largest_face_or_the_one_nearest_to_the_middle_is_cut(tmp_path: Path, cutter: Cutter) -> None:
    squares = [toy.Square(toy.RED, 8, 8, side=48), toy.Square(toy.GREEN, 96, 40, side=24)]
    (tmp_path / "people" / "x").mkdir(parents=True)
    PIL.Image.fromarray(toy.paint_squares(squares, 224, 104)).save(tmp_path / "people" / "x" / "a.png")
    for face, colour in (("largest", toy.RED), ("central", toy.GREEN)):
        chosen = Cutter(cutter.detector, BOX, face)
        list(prepare_pictures(tmp_path / "people", tmp_path / face, chosen))
        assert np.abs(np.subtract(colour_of(crops_in(tmp_path / face)["x/a.png.jpg"]), colour)).max() < 40


def test_a_second_call_does_nothing_again(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    target = tmp_path / "crops"
    first = list(prepare_pictures(people, target, cutter))
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*.jpg")}
    second = list(prepare_pictures(people, target, cutter))
    assert not any(one.new for one in second)
    assert [(one.picture, one.crop, one.reason) for one in first] == [
        (one.picture, one.crop, one.reason) for one in second
    ]
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*.jpg")} == times


def test_a_call_that_was_ended_goes_on_with_what_is_missing(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    target = tmp_path / "crops"
    work = prepare_pictures(people, target, cutter)
    next(work)
    work.close()
    assert len(crops_in(target)) == 1
    assert [one.new for one in prepare_pictures(people, target, cutter)] == [False, True, True, True]
    toy.save(people / "blue" / "a.png", toy.BLUE)
    assert [one.new for one in prepare_pictures(people, target, cutter)] == [True, *[False] * 4]


def test_a_photograph_that_was_replaced_is_cut_again(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    target = tmp_path / "crops"
    list(prepare_pictures(people, target, cutter))
    old = (people / "red" / "a.png").stat()
    toy.save(people / "red" / "a.png", toy.BLUE)
    os.utime(people / "red" / "a.png", ns=(old.st_atime_ns, old.st_mtime_ns))
    toy.save(people / "red" / "b.png")
    toy.save(people / "green" / "empty.png", toy.GREEN)
    done = list(prepare_pictures(people, target, cutter))
    assert [one.new for one in done] == [False, True, True, True]
    crops = crops_in(target)
    assert list(crops) == ["green/a.png.jpg", "green/empty.png.jpg", "red/a.png.jpg"]
    assert np.abs(np.subtract(colour_of(crops["red/a.png.jpg"]), toy.BLUE)).max() < 8
    (line,) = (target / "left-out.jsonl").read_text().splitlines()
    assert json.loads(line)["picture"] == "red/b.png"
    assert not any(one.new for one in prepare_pictures(people, target, cutter))


def test_a_crop_that_does_not_say_of_which_photograph_it_is_is_cut_again(
    people: Path, tmp_path: Path, cutter: Cutter
) -> None:
    target = tmp_path / "crops"
    list(prepare_pictures(people, target, cutter))
    (target / "green" / "a.png.jpg").write_bytes(b"damaged")
    PIL.Image.fromarray(toy.paint(toy.WHITE)).save(target / "red" / "a.png.jpg")
    assert [one.new for one in prepare_pictures(people, target, cutter)] == [True, False, True, False]
    assert np.abs(np.subtract(colour_of(crops_in(target)["red/a.png.jpg"]), toy.RED)).max() < 8


def test_the_report_names_the_pictures_without_a_crop_and_why(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    (people / "red" / "c.jpg").write_bytes(b"no picture")
    list(prepare_pictures(people, tmp_path / "crops", cutter))
    lines = (tmp_path / "crops" / "left-out.jsonl").read_text().splitlines()
    report = {entry["picture"]: entry for entry in map(json.loads, lines)}
    assert list(report) == ["green/empty.png", "red/c.jpg"]
    assert [entry["code"] for entry in report.values()] == ["no_face", "bad_image"]
    assert "no face found" in report["green/empty.png"]["reason"]


def test_a_broken_picture_is_tried_again_and_leaves_the_report_once_it_is_whole(
    people: Path, tmp_path: Path, cutter: Cutter
) -> None:
    target = tmp_path / "crops"
    (people / "red" / "c.png").write_bytes(b"no picture")
    list(prepare_pictures(people, target, cutter))
    toy.save(people / "red" / "c.png", toy.RED)
    assert [one.picture for one in prepare_pictures(people, target, cutter) if one.new] == [
        str(people / "red" / "c.png")
    ]
    assert [json.loads(line)["picture"] for line in (target / "left-out.jsonl").read_text().splitlines()] == [
        "green/empty.png"
    ]


def test_a_picture_without_a_face_is_searched_again_with_other_options(
    people: Path, tmp_path: Path, cutter: Cutter
) -> None:
    small = toy.paint_squares([toy.Square(toy.GREEN, 24, 24, side=12)])
    PIL.Image.fromarray(small).save(people / "green" / "empty.png")
    target = tmp_path / "crops"
    assert sum(one.crop is None for one in prepare_pictures(people, target, cutter)) == 1
    finer = Cutter(Detector(cutter.detector.model, min_size=8), BOX)
    done = list(prepare_pictures(people, target, finer))
    assert [one.picture for one in done if one.new] == [str(people / "green" / "empty.png")]
    assert all(one.crop is not None for one in done)


def test_a_report_that_was_cut_off_in_a_line_is_mended(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    target = tmp_path / "crops"
    list(prepare_pictures(people, target, cutter))
    report = target / "left-out.jsonl"
    whole = report.read_text()
    report.write_text(whole[: len(whole) // 2])
    list(prepare_pictures(people, target, cutter))
    assert report.read_text() == whole


@pytest.mark.parametrize("other", [CropRule("box", 32), CropRule("box", 16, margin=0.1)])
def test_a_folder_with_crops_of_another_rule_is_refused(
    people: Path, tmp_path: Path, cutter: Cutter, other: CropRule
) -> None:
    list(prepare_pictures(people, tmp_path / "crops", cutter))
    with pytest.raises(TrainingDataError, match="cut in another way"):
        next(prepare_pictures(people, tmp_path / "crops", Cutter(cutter.detector, other)))


def test_a_folder_with_crops_of_other_faces_is_refused(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    list(prepare_pictures(people, tmp_path / "crops", cutter))
    with pytest.raises(TrainingDataError, match="cut in another way"):
        next(prepare_pictures(people, tmp_path / "crops", Cutter(cutter.detector, BOX, "central")))


def test_a_folder_that_holds_something_else_is_refused(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(TrainingDataError, match="something else"):
        next(prepare_pictures(people, tmp_path / "photos", cutter))


def test_crops_inside_the_photographs_are_refused(people: Path, cutter: Cutter) -> None:
    for target in (people, people / "crops"):
        with pytest.raises(TrainingDataError, match="inside the photographs"):
            next(prepare_pictures(people, target, cutter))


def test_a_tar_file_gives_the_same_crops_as_its_folder(people: Path, tmp_path: Path, cutter: Cutter) -> None:
    tar = pack(people, tmp_path / "people.tar")
    list(prepare_pictures(people, tmp_path / "a", cutter))
    done = list(prepare_pictures(tar, tmp_path / "b", cutter))
    a, b = crops_in(tmp_path / "a"), crops_in(tmp_path / "b")
    # Outside a person's folder, a picture of the tar file belongs to its uppermost folder.
    assert {name: crop for name, crop in b.items() if not name.startswith("people/")}.keys() == a.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert [one.reason for one in done if one.crop is None] == [f"no face found in '{tar}:green/empty.png'"]


@pytest.mark.parametrize(
    "name", ["../outside/a.jpg", "../a.jpg", "/a.jpg", "./a.jpg", "a.jpg", "..//a.jpg", ".x/a.jpg", "x/.a.jpg"]
)
def test_no_name_in_a_tar_file_leads_out_of_the_folder_of_crops(tmp_path: Path, cutter: Cutter, name: str) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(toy.paint(toy.RED)).save(file, "PNG")
    with tarfile.open(tmp_path / "people.tar", "w") as tar:
        for inside in (name, "people/good/a.jpg"):
            entry = tarfile.TarInfo(inside)
            entry.size = len(file.getvalue())
            tar.addfile(entry, io.BytesIO(file.getvalue()))
    target = tmp_path / "deep" / "crops"
    list(prepare_pictures(tmp_path / "people.tar", target, cutter))
    everything = {path for path in tmp_path.rglob("*.jpg") if path.is_file()}
    assert all(path.is_relative_to(target) for path in everything)
    assert "good/a.jpg" in crops_in(target)
    assert len(everything) == (2 if name.startswith("../outside") else 1)


def test_as_they_are_crops_are_cut_square_in_the_middle_and_resized(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 200
    (tmp_path / "people" / "x").mkdir(parents=True)
    PIL.Image.fromarray(image).save(tmp_path / "people" / "x" / "a.png")
    list(prepare_pictures(tmp_path / "people", tmp_path / "crops", Cutter(None, CropRule("box", 32))))
    crop = crops_in(tmp_path / "crops")["x/a.png.jpg"]
    assert crop.shape == (32, 32, 3)
    assert np.abs(crop.astype(int) - 200).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(7, 3), (3, 7), (5, 5), (1, 9)])
def test_the_middle_of_a_picture_is_as_large_as_it_can_be(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    assert np.array_equal(cut_middle(image, side), image[top : top + side, left : left + side])


def test_a_rule_of_another_size_is_the_shipped_one_scaled() -> None:
    known = rule_of_weights("resnet29")
    assert make_rule("similarity", known.size) == known
    half = make_rule("similarity", known.size // 2)
    assert np.allclose(np.array(half.template) * 2, known.template, atol=1e-3)


def test_a_margin_shrinks_the_template_towards_the_middle() -> None:
    plain, wide = (np.array(make_rule("similarity", 100, margin=margin).template) for margin in (0, 0.25))
    assert np.allclose((wide - 50) * 1.25, plain - 50, atol=1e-3)


def test_a_box_has_a_margin_unless_told_otherwise() -> None:
    assert [make_rule("box", 96, margin=margin).margin for margin in (None, 0, 1.5)] == [0.3, 0, 1.5]


def test_a_detector_has_no_crop_rule() -> None:
    with pytest.raises(WeightsError, match="wanted an embedder's"):
        rule_of_weights("centerface")


def test_the_command_cuts_goes_on_and_reports(run: Run, people: Path) -> None:
    result = run("prepare", people, "-o", "crops", "--rule", "box", "--size", 32)
    assert result.exit_code == 3
    assert "3 crops in crops (4 pictures looked at)" in result.stderr
    assert "1 pictures gave none: crops/left-out.jsonl" in result.stderr
    assert "empty.png" in result.stderr
    again = run("prepare", people, "-o", "crops", "--rule", "box", "--size", 32)
    assert "3 crops in crops (0 pictures looked at)" in again.stderr
    assert read_rule(Path("crops")) == CropRule("box", 32, margin=0.3)


def test_the_command_takes_the_rule_of_weights_and_several_sources(run: Run, people: Path) -> None:
    (people / "green" / "empty.png").unlink()
    toy.save(Path("more/blue/a.png"), toy.BLUE)
    result = run(
        "prepare", people, pack(Path("more").resolve(), Path("more.tar")), "-o", "crops", "--weights", "resnet29"
    )
    assert result.exit_code == 0
    assert read_rule(Path("crops")) == rule_of_weights("resnet29")
    assert [path.name for path in sorted(Path("crops").iterdir()) if path.is_dir()] == ["blue", "green", "red"]


def test_two_sources_with_pictures_of_one_name_are_refused(run: Run, people: Path) -> None:
    toy.save(Path("more/red/a.png"), toy.BLUE)
    result = run("prepare", people, "more", "-o", "crops")
    assert result.exit_code == 3
    assert "both hold 'red/a.png': rename one" in result.stderr
    assert not Path("crops").exists()


def test_the_command_resizes_crops_as_they_are(run: Run, people: Path) -> None:
    assert run("prepare", people, "-o", "crops", "--as-is", "--size", 24).exit_code == 0
    assert {crop.shape for crop in crops_in(Path("crops")).values()} == {(24, 24, 3)}
    assert len(crops_in(Path("crops"))) == 4


@pytest.mark.parametrize("option", [("--rule", "box"), ("--size", "96"), ("--margin", "0")])
def test_weights_and_a_rule_of_ones_own_exclude_each_other(run: Run, people: Path, option: tuple[str, str]) -> None:
    result = run("prepare", people, "-o", "crops", "--weights", "resnet29", *option)
    assert result.exit_code == 2
    assert "--weights brings its own" in result.stderr
    assert not Path("crops").exists()


def test_the_command_needs_a_folder_per_person(run: Run, tmp_path: Path) -> None:
    toy.save(tmp_path / "flat" / "a.png", toy.RED)
    result = run("prepare", tmp_path / "flat", "-o", "crops")
    assert result.exit_code == 3
    assert "wanted a folder per person" in result.stderr


def test_ctrl_c_leaves_whole_crops_and_the_same_call_goes_on(tmp_path: Path) -> None:
    source = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for number in range(400):
        path = tmp_path / "people" / f"p{number % 20}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(source).save(path)
    words = [sys.executable, "-c", "from sameface.cli import main; main()", "prepare", "people", "-o", "crops"]
    words += ["--as-is", "--size", "200"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("crops/*/*.jpg"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    crops = crops_in(tmp_path / "crops")
    assert 5 <= len(crops) < 400
    assert not list(tmp_path.rglob("*.part"))
    assert {crop.shape for crop in crops.values()} == {(200, 200, 3)}
    assert subprocess.run(words, cwd=tmp_path, capture_output=True).returncode == 0
    assert len(crops_in(tmp_path / "crops")) == 400


def test_a_replaced_photograph_is_cut_again_by_the_shipped_detector(samples: dict[str, Path], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("sameface")
    words = [program, "prepare", "people", "-o", "crops"]
    photograph = tmp_path / "people" / "x" / "a.jpg"
    photograph.parent.mkdir(parents=True)
    crops = []
    for name in ("barack-obama-1", "joe-biden", "joe-biden"):
        shutil.copyfile(samples[name], photograph)
        told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
        assert f"({int(len(crops) < 2)} pictures looked at)" in told
        crops.append(crops_in(tmp_path / "crops")["x/a.jpg"])
    assert not np.array_equal(crops[0], crops[1])
    assert np.array_equal(crops[1], crops[2])
