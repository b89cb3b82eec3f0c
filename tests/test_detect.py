"""Finding faces: the arithmetic slowly, the network on the sample photographs."""

from __future__ import annotations

import csv
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sameface import Detector, Model, align_faces, read_image
from sameface.compare import squared_distances
from sameface.detect import decode, suppress, turn_back, uprightness
from sameface.errors import WeightsError
from sameface.face import overlaps

GROUPS = Path(__file__).parent.parent.parent / "shared" / "data" / "group-photos.tar"


@pytest.fixture(scope="module")
def detector(recognizer):
    return recognizer.detector


def scaled(path: Path, factor: float) -> np.ndarray:
    picture = PIL.Image.open(path).convert("RGB")
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return np.asarray(picture.resize(size, PIL.Image.Resampling.LANCZOS))


def test_each_sample_holds_one_face_with_its_points_in_order(detector, samples):
    for path in samples.values():
        (face,) = detector.find(read_image(path))
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize(("side", "names"), [(400, 5), (1200, 5), (4000, 1)])
def test_a_face_that_fills_the_picture_is_found_once_and_whole(detector, samples, side, names):
    for path in list(samples.values())[-names:]:
        image = read_image(path)
        left, top, right, bottom = detector.find(image)[0].box.astype(int)
        face = PIL.Image.fromarray(image[top:bottom, left:right])
        filled = np.asarray(face.resize((side * face.width // face.height, side)))
        (found,) = detector.find(filled)
        assert found.height > 0.8 * side


def test_a_face_too_large_for_two_passes_is_found_by_the_third(detector, samples):
    image = read_image(samples["joe-biden"])
    left, top, right, bottom = detector.find(image)[0].box.astype(int)
    filled = PIL.Image.fromarray(image[top:bottom, left:right]).resize((1_050, 1_400))
    (found,) = Detector(detector.model, max_side=1_400).find(np.asarray(filled))  # 1400, 350, 87
    assert found.height > 0.7 * 1_400


def test_a_face_of_24_pixels_is_found(detector, samples):
    for path in samples.values():
        height = detector.find(read_image(path))[0].height
        (face,) = detector.find(scaled(path, 24 / height))
        assert face.height == pytest.approx(24, abs=6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (33, 31), (40, 12_000), (3, 2_000)])
def test_no_shape_of_a_picture_breaks_the_search(detector, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert isinstance(detector.find(noise), list)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 3)])
def test_a_picture_without_pixels_holds_no_face(detector, shape):
    assert detector.find(np.zeros(shape, np.uint8)) == []


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_blank_picture_holds_no_face(detector, level):
    assert detector.find(np.full((480, 640, 3), level, np.uint8)) == []


@pytest.mark.parametrize("coarseness", [1, 8, 64])
def test_noise_holds_no_face(detector, coarseness):
    grains = np.random.default_rng(coarseness).integers(0, 256, (512 // coarseness,) * 2 + (3,), np.uint8)
    assert detector.find(grains.repeat(coarseness, axis=0).repeat(coarseness, axis=1)) == []


def test_a_group_pasted_from_the_samples_is_found_whole(detector, samples):
    group = np.zeros((640, 5 * 512, 3), np.uint8)
    centres = []
    for place, path in enumerate(samples.values()):
        image = scaled(path, (place + 1) / 5)  # faces of 39 to 197 pixels
        group[: len(image), 512 * place : 512 * place + image.shape[1]] = image
        centres.append(detector.find(scaled(path, 1))[0].landmarks[2] * (place + 1) / 5 + [512 * place, 0])
    boxes = sorted((face.box for face in detector.find(group)), key=lambda box: box[0])
    assert len(boxes) == 5
    for (left, top, right, bottom), (x, y) in zip(boxes, centres, strict=True):
        assert left < x < right
        assert top < y < bottom


def test_boxes_end_at_the_pictures_edges(detector, samples):
    image = read_image(samples["joe-biden"])
    left, top, right, bottom = detector.find(image)[0].box.astype(int)
    cut = image[top + (bottom - top) // 8 :, left + (right - left) // 8 :]
    box = detector.find(np.ascontiguousarray(cut))[0].box
    assert (box >= 0).all()
    assert box[2] <= cut.shape[1]
    assert box[3] <= cut.shape[0]


def test_faces_come_by_score(detector, samples):
    row = np.concatenate([scaled(path, 1)[:500, :250] for path in samples.values()], axis=1)
    scores = [face.score for face in detector.find(row)]
    assert len(scores) > 1
    assert scores == sorted(scores, reverse=True)


def test_min_size_leaves_out_smaller_faces(detector, samples):
    image = read_image(samples["eileen-collins"])
    size = max(detector.find(image)[0].width, detector.find(image)[0].height)
    kept = [len(Detector(detector.model, min_size=int(size) + more).find(image)) for more in (0, 1)]
    assert kept == [1, 0]


def test_min_score_leaves_out_unsure_faces(detector, samples):
    image = read_image(samples["eileen-collins"])
    assert Detector(detector.model, min_score=0.999).find(image) == []


def test_a_larger_max_side_finds_smaller_faces(detector, samples):
    small = scaled(samples["joe-biden"], 0.25)
    wide = np.pad(small, ((0, 1_000), (0, 2_000), (0, 0)))
    counts = [len(Detector(detector.model, max_side=side).find(wide)) for side in (320, 2_000)]
    assert counts == [0, 1]


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_any_rotation_finds_and_straightens_a_turned_face(detector, recognizer, samples, quarters):
    turning, rule = Detector(detector.model, any_rotation=True), recognizer.embedder.spec.crop
    for path in samples.values():
        upright = scaled(path, 0.5)
        turned = np.ascontiguousarray(np.rot90(upright, quarters))
        (face,), (same,) = detector.find(upright), turning.find(turned)
        crops = [align_faces(upright, [face], rule), align_faces(turned, [same], rule)]
        rows = recognizer.embedder.embed(np.concatenate(crops))
        assert squared_distances(rows[:1], rows[1:])[0, 0] < 0.01


def test_without_any_rotation_a_lying_face_is_found_worse_or_not_at_all(detector, samples):
    lying = np.ascontiguousarray(np.rot90(read_image(samples["joe-biden"]), 3))
    assert detector.find(lying) == []
    assert len(Detector(detector.model, any_rotation=True).find(lying)) == 1


def test_of_a_face_the_most_upright_view_counts_though_another_scores_higher(detector, samples):
    image = read_image(samples["barack-obama-2"])
    upright = detector.find(image)[0].score
    assert detector.find(np.ascontiguousarray(np.rot90(image, 2)))[0].score > upright
    (face,) = Detector(detector.model, any_rotation=True).find(image)
    assert face.score == upright


@pytest.mark.parametrize(("degrees", "cosine"), [(0, 1), (45, 0.5**0.5), (90, 0), (180, -1), (-90, 0), (300, 0.5)])
def test_uprightness_is_the_cosine_of_the_lean(degrees, cosine):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)]) @ turn.T * 7 + 30
    row = np.concatenate([np.zeros(5), points.ravel()]).astype(np.float32)
    assert uprightness(row[None]) == pytest.approx([cosine], abs=1e-6)


def test_points_in_one_place_are_neither_upright_nor_upside_down():
    assert uprightness(np.zeros((1, 15), np.float32)).tolist() == [0]
    assert uprightness(np.zeros((0, 15), np.float32)).shape == (0,)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_places_in_a_turned_picture_are_carried_back_exactly(quarters):
    height, width, (u, v) = 7, 12, (3, 5)
    image = np.zeros((height, width), int)
    image[v, u] = 1
    turned = np.rot90(image, quarters)
    (y,), (x,) = np.nonzero(turned)
    row = np.concatenate([[x, y, x + 1, y + 1, 0.9], np.tile([x + 0.5, y + 0.5], 5)]).astype(np.float32)
    back = turn_back(row[None], quarters, turned.shape[1], turned.shape[0])[0]
    assert back[:4].tolist() == [u, v, u + 1, v + 1]
    assert back[5:].tolist() == [u + 0.5, v + 0.5] * 5


def test_decoding_equals_a_slow_loop():
    rng = np.random.default_rng(4)
    heat = rng.uniform(0, 1, (6, 9)).astype(np.float32)
    size, offset, points = (rng.normal(size=(n, 6, 9)).astype(np.float32) for n in (2, 2, 10))
    slow = []
    for row in range(6):
        for column in range(9):
            if heat[row, column] >= 0.6:
                high, wide = 4 * np.exp(size[:, row, column])
                top = 4 * (row + offset[0, row, column] + 0.5) - high / 2
                left = 4 * (column + offset[1, row, column] + 0.5) - wide / 2
                marks = []
                for point in range(5):
                    marks.append(left + wide * points[2 * point + 1, row, column])
                    marks.append(top + high * points[2 * point, row, column])
                slow.append([left, top, left + wide, top + high, heat[row, column], *marks])
    assert decode(heat, size, offset, points, 0.6) == pytest.approx(np.array(slow), rel=1e-4, abs=1e-3)


def test_suppression_keeps_the_best_of_each_overlapping_group():
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.hstack([corner, corner + rng.uniform(10, 40, (80, 2))])
    found = np.hstack([boxes, rng.uniform(0, 1, (80, 1)), np.zeros((80, 10))]).astype(np.float32)
    kept: list[np.ndarray] = []
    for row in sorted(found, key=lambda row: -row[4]):
        if all(overlaps(row[:4], other[None, :4])[0] <= 0.3 for other in kept):
            kept.append(row)
    assert suppress(found, found[:, 4], 0.3).tolist() == np.array(kept).tolist()


def test_suppression_of_nothing_is_nothing():
    nothing = np.zeros((0, 15), np.float32)
    assert suppress(nothing, nothing[:, 4], 0.3).shape == (0, 15)


def test_of_two_finds_of_one_face_the_rank_decides_and_not_the_score():
    found = np.zeros((2, 15), np.float32)
    found[:, :5] = [[0, 0, 10, 10, 0.9], [0, 0, 10, 11, 0.6]]
    assert suppress(found, np.array([0.1, 0.6], np.float32), 0.3).tolist() == found[1:].tolist()


def test_the_weights_of_an_embedder_are_refused():
    with pytest.raises(WeightsError, match="wanted a detector's"):
        Detector(Model.load("resnet29"))


class Answers:
    """A network that gives the same arrays whatever it sees."""

    def __init__(self, manifest, arrays):
        self.manifest = manifest
        self.arrays = arrays

    def run(self, pixels):
        return self.arrays


def make_answers() -> list[np.ndarray]:
    """Return what the network gives for 64 x 32 pixels, with a face in the middle."""
    heat, size, offset, points = (np.zeros((1, planes, 8, 16), np.float32) for planes in (1, 2, 2, 10))
    heat[0, 0, 4, 8] = 0.9
    size[0, :, 4, 8] = 2.0
    return [heat, size, offset, points]


def widened(number: int) -> list[np.ndarray]:
    answers = make_answers()
    answers[number] = np.concatenate([answers[number]] * 2, axis=3)
    return answers


def with_size(value: float) -> list[np.ndarray]:
    heat, size, *others = make_answers()
    return [heat, np.where(size, np.float32(value), 0), *others]


def test_a_network_that_gives_what_centerface_gives_is_a_detector(detector):
    found = Detector(Answers(detector.model.manifest, make_answers())).find(np.zeros((32, 64, 3), np.uint8))
    assert [face.box.round().tolist() for face in found] == [[19, 3, 49, 32]]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], r"it gives \[\], a detector gives \[\('float32', \(1, 1, 8, 16\)\)"),
        (make_answers()[:3], "a detector gives"),
        ([*make_answers(), make_answers()[0]], "a detector gives"),
        *((widened(number), r"8, 32\)") for number in range(4)),
        ([each.astype(np.float64) for each in make_answers()], "it gives .*float64"),
        (with_size(np.nan), "not finite"),
        (with_size(1000.0), "not finite"),
    ],
)
def test_a_network_that_gives_something_else_than_a_detector_is_refused(detector, answers, message):
    foreign = Detector(Answers(detector.model.manifest, answers))
    with pytest.raises(WeightsError, match=message):
        foreign.find(np.zeros((32, 64, 3), np.uint8))


def test_a_max_side_under_one_step_of_the_network_is_refused(detector):
    with pytest.raises(ValueError, match="max_side must be 32 or more, got 31"):
        Detector(detector.model, max_side=31)


def test_a_grey_picture_without_channels_is_refused(detector):
    with pytest.raises(ValueError, match="image must have shape"):
        detector.find(np.zeros((9, 9), np.uint8))


def read_groups() -> dict[str, bytes]:
    """Return the files of the archive of everyday group photographs."""
    with tarfile.open(GROUPS) as tar:
        return {Path(member.name).name: tar.extractfile(member).read() for member in tar if member.isfile()}


def count_hits(found: list[np.ndarray], wanted: list[object], fits) -> int:
    """Return how many of `wanted` have a box of their own."""
    left = list(found)
    for each in wanted:
        hit = next((index for index, box in enumerate(left) if fits(box, each)), None)
        if hit is not None:
            del left[hit]
    return len(found) - len(left)


def holds(box: np.ndarray, row: dict[str, str]) -> bool:
    x, y = float(row["nose_x"]), float(row["nose_y"])
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def covers(box: np.ndarray, row: dict[str, str]) -> bool:
    sides = [float(row[side]) for side in ("left", "top", "right", "bottom")]
    return overlaps(box, np.array([sides], np.float32))[0] > 0.3


@pytest.mark.slow
@pytest.mark.skipif(not GROUPS.exists(), reason="needs ../shared/data/group-photos.tar")
@pytest.mark.parametrize(
    ("table", "fits", "photographs", "fewest", "most_extra"),
    # All 46 and all 43 were found when this was written, with one box too many (a blurred face behind).
    [("noses.csv", holds, 18, 45, 2), ("boxes.csv", covers, 9, 42, 1)],
)
def test_everyone_in_everyday_group_photographs_is_found(detector, table, fits, photographs, fewest, most_extra):
    files = read_groups()
    wanted = defaultdict(list)
    for row in csv.DictReader(files[table].decode().splitlines()):
        wanted[row["file"]] += [row] if row.get("nose_x") != "" else []
    boxes = {name: [face.box for face in detector.find(read_image(files[name]))] for name in wanted}
    hits = sum(count_hits(boxes[name], rows, fits) for name, rows in wanted.items())
    assert len(wanted) == photographs
    assert hits >= fewest
    assert sum(map(len, boxes.values())) - hits <= most_extra


@pytest.mark.skipif(not GROUPS.exists(), reason="needs ../shared/data/group-photos.tar")
def test_dogs_have_no_faces(detector):
    assert detector.find(read_image(read_groups()["dogs.jpg"])) == []
