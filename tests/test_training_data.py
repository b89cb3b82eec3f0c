"""The crops of a run: found in folders and tar files, split by people, fed to the loop."""

import io
import itertools
import shutil
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import toy

from sameface.errors import ImageError
from sameface.manifest import CropRule
from sameface.training.augment import OFF
from sameface.training.dataset import PictureFile, PictureSet, open_pictures, read_rule, split_people
from sameface.training.errors import TrainingDataError
from sameface.training.sampler import Stage, draw_batches

CELEBA = Path(__file__).parent.parent.parent / "shared" / "data" / "celeba-train.tar"
COLOURS = {"red": toy.RED, "green": toy.GREEN, "blue": toy.BLUE, "yellow": toy.YELLOW}
STAGES = (Stage(0, 3, 2, 0.2),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder per colour with 4, 3, 2 and 1 plain crops of 32 pixels; no two are the same."""
    for count, (name, colour) in zip((4, 3, 2, 1), COLOURS.items(), strict=True):
        for number in range(count):
            image = np.full((32, 32, 3), colour, np.uint8)
            image[0, 0] = number
            path = tmp_path / "crops" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(path)
    return tmp_path / "crops"


def pack(folder: Path, target: Path, *people: str) -> Path:
    """Write the folders of these people, or of all, into a tar file; members come in no order."""
    with tarfile.open(target, "w") as tar:
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.name):
            if not people or path.parent.name in people:
                tar.add(path, f"{folder.name}/{path.relative_to(folder)}")
    return target


def pixels(pictures: PictureSet) -> list[np.ndarray]:
    return [place.read() for place in pictures.files]


def make_set(counts: dict[str, int]) -> PictureSet:
    """Return a set of people with so many pictures, none of which exists."""
    names = sorted(counts)
    owner = np.repeat(np.arange(len(names)), [counts[name] for name in names])
    places = tuple(
        PictureFile(f"{names[person]}/{n}.jpg", f"{names[person]}/{n}.jpg") for n, person in enumerate(owner)
    )
    return PictureSet(tuple(names), owner, places)


def test_people_are_sorted_and_every_picture_has_its_owner(folder: Path) -> None:
    pictures = open_pictures([folder])
    assert pictures.people == ("blue", "green", "red", "yellow")
    assert pictures.counts.tolist() == [2, 3, 4, 1]
    assert pictures.owner.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
    for place, person in zip(pictures.files, pictures.owner, strict=True):
        assert place.name.startswith(f"{pictures.people[person]}/")
        assert tuple(place.read()[16, 16]) == COLOURS[pictures.people[person]]


def test_a_tar_file_is_the_same_as_its_folder(folder: Path, tmp_path: Path) -> None:
    plain, packed = open_pictures([folder]), open_pictures([pack(folder, tmp_path / "crops.tar")])
    assert plain.people == packed.people
    assert np.array_equal(plain.owner, packed.owner)
    assert sorted(place.name for place in plain.files) == sorted(place.name for place in packed.files)
    assert all(np.array_equal(a, b) for a, b in zip(pixels(plain), pixels(packed), strict=True))


def test_several_tar_files_are_one_set_and_a_person_may_be_in_two(folder: Path, tmp_path: Path) -> None:
    a = pack(folder, tmp_path / "a.tar", "red", "green")
    b = pack(folder, tmp_path / "b.tar", "blue", "yellow", "red")
    pictures = open_pictures([a, b])
    assert pictures.people == ("blue", "green", "red", "yellow")
    assert pictures.counts.tolist() == [2, 3, 8, 1]


def test_hidden_files_other_files_and_pictures_of_nobody_are_passed_over(folder: Path, tmp_path: Path) -> None:
    wanted = len(open_pictures([folder]))
    (folder / "red" / "notes.txt").write_text("no picture")
    (folder / "red" / "._0.png").write_bytes(b"what a Mac leaves")
    (folder / "crops.png").write_bytes((folder / "red" / "0.png").read_bytes())
    assert len(open_pictures([folder])) == wanted
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(folder / "red", "red")
    assert len(open_pictures([tmp_path / "all.tar"])) == 4


def test_a_picture_in_a_tar_file_that_cannot_be_read_is_called_by_its_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "crops.tar", "w") as tar:
        entry = tarfile.TarInfo("crops/red/bad.jpg")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    (place,) = open_pictures([tmp_path / "crops.tar"]).files
    with pytest.raises(ImageError, match=r"crops\.tar:red/bad\.jpg.*not a picture"):
        place.read()
    (tmp_path / "crops.tar").unlink()
    with pytest.raises(ImageError, match=r"crops\.tar:red/bad\.jpg.*no such file"):
        place.read()


def test_a_source_without_people_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    (tmp_path / "text.tar").write_text("no tar file")
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(folder, "crops")
    for name, reason in (
        ("empty", "no pictures"),
        ("empty.tar", "no pictures"),
        ("text.tar", "neither"),
        ("missing", "neither"),
        ("packed.tar.gz", "not a plain tar file"),
    ):
        with pytest.raises(TrainingDataError, match=reason):
            open_pictures([tmp_path / name])


def test_crops_of_different_rules_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    (folder / "crops.toml").write_text('kind = "box"\nsize = 32\nmargin = 0.25\n')
    tar = pack(folder, tmp_path / "more.tar")
    with pytest.raises(TrainingDataError, match=r"different rules; .*more\.tar' has no crops\.toml"):
        open_pictures([folder, tar])
    shutil.copy(folder / "crops.toml", tmp_path / "more.toml")
    assert open_pictures([folder, tar]).rule == CropRule("box", 32, margin=0.25)
    (tmp_path / "more.toml").write_text('kind = "box"\nsize = 32\nmargin = 0.5\n')
    assert read_rule(tar) == CropRule("box", 32, margin=0.5)
    with pytest.raises(TrainingDataError, match="different rules"):
        open_pictures([folder, tar])


@pytest.mark.parametrize("text", ["kind = ", 'kind = "oval"\nsize = 32\n', 'kind = "box"\n', "size = 32\n"])
def test_a_rule_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "crops.toml").write_text(text)
    with pytest.raises(TrainingDataError, match="not a crop rule"):
        open_pictures([folder])


def test_a_part_of_the_people_keeps_their_pictures_only(folder: Path) -> None:
    pictures = open_pictures([folder])
    part = pictures.of_people([3, 1])
    assert part.people == ("green", "yellow")
    assert part.owner.tolist() == [0, 0, 0, 1]
    assert {place.name.partition("/")[0] for place in part.files} == {"green", "yellow"}
    assert len(pictures.of_people([])) == 0
    assert len(pictures.of_people(range(4))) == len(pictures)


def test_the_two_sides_of_a_split_share_nobody_and_lose_nobody() -> None:
    pictures = make_set({f"person {number}": 1 + number % 4 for number in range(400)})
    kept, held = split_people(pictures, 0.25)
    assert set(kept.people) | set(held.people) == set(pictures.people)
    assert not set(kept.people) & set(held.people)
    assert {place.path for place in (*kept.files, *held.files)} == {place.path for place in pictures.files}
    assert held.counts.min() >= 2


@pytest.mark.parametrize("part", [0, 0.1, 0.5])
def test_about_the_part_asked_for_is_held_out(part: float) -> None:
    held = split_people(make_set({f"person {number}": 2 for number in range(2000)}), part)[1]
    assert len(held.people) == pytest.approx(2000 * part, abs=70)
    assert (len(held.people) == 0) == (part == 0)


def test_who_is_held_out_stays_so_when_others_come_or_go_or_more_are_held_out() -> None:
    names = [f"person {number}" for number in range(500)]
    all_people = dict.fromkeys(names, 3)
    held = set(split_people(make_set(all_people), 0.2)[1].people)
    assert held
    half = set(split_people(make_set(dict.fromkeys(names[::2], 3)), 0.2)[1].people)
    assert half == held & set(names[::2])
    assert held <= set(split_people(make_set(all_people), 0.3)[1].people)


class TestLoader:
    """What the loop gets; needs torch."""

    @pytest.fixture(autouse=True)
    def _needs_torch(self) -> None:
        pytest.importorskip("torch")

    def load(self, pictures: PictureSet, count: int, **choices):
        from sameface.training.loader import LoaderConfig, load_batches

        feed = LoaderConfig(**{"size": 24, "seed": 1, "workers": 0, **choices})
        batches = load_batches(pictures.files, pictures.owner, STAGES, feed)
        return [
            (crops.numpy(), numbers.numpy(), faults) for crops, numbers, faults in itertools.islice(batches, count)
        ]

    def test_each_crop_is_that_of_its_number(self, folder: Path) -> None:
        pictures = open_pictures([folder])
        wanted = draw_batches(pictures.owner, STAGES, seed=1)
        for crops, numbers, faults in self.load(pictures, 6, augmentation=OFF):
            assert np.array_equal(numbers, next(wanted))
            assert crops.shape == (len(numbers), 24, 24, 3)
            assert faults == []
            for crop, number in zip(crops, numbers, strict=True):
                assert tuple(crop[12, 12]) == COLOURS[pictures.people[pictures.owner[number]]]

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_the_number_of_workers_changes_nothing(self, folder: Path, workers: int) -> None:
        pictures = open_pictures([folder])
        alone, many = self.load(pictures, 8), self.load(pictures, 8, workers=workers)
        for (a, b, _), (c, d, _) in zip(alone, many, strict=True):
            assert np.array_equal(a, c)
            assert np.array_equal(b, d)

    def test_a_run_that_goes_on_gets_the_same_crops(self, folder: Path) -> None:
        pictures = open_pictures([folder])
        whole, rest = self.load(pictures, 8), self.load(pictures, 3, start=5, workers=2)
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(whole[5:], rest, strict=True))

    def test_a_crop_is_changed_otherwise_in_each_step_and_with_each_seed(self, folder: Path) -> None:
        pictures = open_pictures([folder]).of_people([0, 1])
        crops = [step[0][0] for step in self.load(pictures, 4)] + [self.load(pictures, 1, seed=2)[0][0][0]]
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(crops, 2))

    @pytest.mark.parametrize("world", [2, 3])
    def test_the_parts_of_all_processes_are_the_batch(self, folder: Path, world: int) -> None:
        pictures = open_pictures([folder])
        whole = self.load(pictures, 4)
        parts = [self.load(pictures, 4, rank=rank, world=world) for rank in range(world)]
        for step, (crops, numbers, _) in enumerate(whole):
            assert np.array_equal(np.concatenate([part[step][0] for part in parts]), crops)
            assert np.array_equal(np.concatenate([part[step][1] for part in parts]), numbers)

    def test_a_picture_that_cannot_be_read_is_told_and_has_no_number(self, folder: Path) -> None:
        pictures = open_pictures([folder])
        (folder / "red" / "2.png").write_bytes(b"broken")
        seen = self.load(pictures, 10, workers=1, augmentation=OFF)
        bad = [number for number, place in enumerate(pictures.files) if place.name == "red/2.png"]
        wanted = list(itertools.islice(draw_batches(pictures.owner, STAGES, seed=1), 10))
        assert any(faults for *_, faults in seen)
        for (crops, numbers, faults), batch in zip(seen, wanted, strict=True):
            lost = np.isin(batch, bad)
            assert np.array_equal(numbers, np.where(lost, -1, batch))
            assert len(faults) == lost.sum()
            assert all("red/2.png" in fault for fault in faults)
            assert not crops[lost].any()


@pytest.mark.skipif(not CELEBA.exists(), reason="needs ../shared/data/celeba-train.tar")
def test_the_celeba_tar_file_is_read_in_place() -> None:
    pictures = open_pictures([CELEBA])
    assert (len(pictures), len(pictures.people)) == (35_615, 6_548)
    assert pictures.counts.min() >= 1
    assert all(pictures.files[number].read().shape == (128, 128, 3) for number in (0, 20_000, 35_614))
    held = split_people(pictures, 0.05)[1]
    assert len(held.people) == pytest.approx(327, abs=60)
