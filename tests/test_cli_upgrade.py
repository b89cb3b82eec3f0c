"""A gallery is moved to other weights, end to end in the toy world."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import Result
from gallery_world import face

import sameface.cli.options
from sameface.adapter import Adapter
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.gallery import Gallery
from sameface.gallery.errors import SignatureError, UpgradeError
from sameface.gallery.upgrade import Upgrade, confirm_upgrade
from sameface.recognizer import Recognizer

Run = Callable[..., Result]

TURN = np.array([[0, 1, 0, 0], [0, 0, 0.6, 0.8], [1, 0, 0, 0]], np.float32)  # into a wider space
COLOURS = {"Red": toy.RED, "Blue": toy.BLUE, "Yellow": toy.YELLOW}


class TurnedColour(toy.SeeColour):
    """A second embedder: the colour, turned into four dimensions."""

    manifest = replace(
        toy.SeeColour.manifest,
        name="turned",
        sha256="e" * 64,
        embedding=replace(toy.SeeColour.manifest.embedding, dimension=4),
    )

    def run(self, pixels: np.ndarray) -> Sequence[np.ndarray]:
        return [super().run(pixels)[0] @ TURN]


class StopsAtBlue(TurnedColour):
    """Somebody presses Ctrl-C at the blue picture."""

    def run(self, pixels: np.ndarray) -> Sequence[np.ndarray]:
        if (pixels[0, 4, 4] == toy.BLUE).all():
            raise KeyboardInterrupt
        return super().run(pixels)


class Models:
    """The toy world's weights and the turned ones."""

    turned = TurnedColour

    @classmethod
    def load(cls, weights: str, *, threads: int | None = None) -> object:
        return cls.turned() if weights == "turned" else toy.ToyModel.load(weights, threads=threads)


@pytest.fixture(autouse=True)
def _models(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sameface.cli.options, "Model", Models)


@pytest.fixture
def turned() -> Recognizer:
    return Recognizer(Detector(toy.FindSquares()), Embedder(TurnedColour()))


@pytest.fixture
def enrolled(run: Run, tmp_path: Path) -> Path:
    """A gallery of three people, and their pictures."""
    for name, colour in COLOURS.items():
        toy.save(tmp_path / "pictures" / name / "a.png", colour)
    assert run("enroll", "--people", "pictures").exit_code == 0
    return tmp_path / "people.db"


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 60 other people, to fit an adapter on."""
    folder = tmp_path_factory.mktemp("strangers")
    rng = np.random.default_rng(0)
    for person in range(60):
        for picture in range(4):
            colour = tuple(int(part) for part in rng.integers(60, 255, 3))
            toy.save(folder / f"{person:02}" / f"{picture}.png", colour, note=person * 4 + picture)
    return folder


@pytest.fixture
def adapter(run: Run, strangers: Path) -> Path:
    result = run("gallery", "fit-adapter", strangers, "--from", "mobilefacenet", "--to", "turned", "-o", "a.npz")
    assert result.exit_code == 0, result.output
    return Path("a.npz")


def names(run: Run, gallery: str, weights: str) -> list[str]:
    """Return who is named on the pictures of the three people."""
    result = run("identify", "pictures", "--gallery", gallery, "--weights", weights, "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return [face["name"] for record in records for face in record["faces"]]


def upgrade(run: Run, *words: object) -> Result:
    return run("gallery", "upgrade", "people.db", *words)


def test_an_adapter_tells_what_it_is_worth(run: Run, strangers: Path, turned: Recognizer) -> None:
    words = ("gallery", "fit-adapter", strangers, "--from", "mobilefacenet", "--to", "turned", "-o", "a.npz")
    record = json.loads(run(*words, "--json").stdout)
    adapter = Adapter.load(Path("a.npz"))
    assert (record["target"], record["pairs"]) == (turned.signature, 216)
    assert adapter.matrix.shape == (3, 4)
    np.testing.assert_allclose(adapter.matrix, TURN, atol=5e-2)
    assert record["residual"] == pytest.approx(adapter.residual) == pytest.approx(0, abs=1e-4)
    assert record["val"] == {"v1-v1": None, "v2-v2": None, "v2-v1": None}  # 480 pairs say nothing of 0.001
    assert adapter.thresholds is not None
    assert adapter.thresholds.impostor_pairs == 24 * 20
    assert "too few pairs" in run(*words).stdout


def test_two_times_the_same_weights_are_wrong_usage(run: Run, strangers: Path) -> None:
    words = ("gallery", "fit-adapter", strangers, "--from", "mobilefacenet", "--to", "mobilefacenet", "-o", "a.npz")
    assert run(*words).exit_code == 2
    assert run(*words, "--no-flip").exit_code == 0


def test_pictures_that_are_found_are_embedded_anew(run: Run, enrolled: Path, turned: Recognizer) -> None:
    before = enrolled.read_bytes()
    result = upgrade(run, "--to", "turned", "--pictures", "pictures")
    assert (result.exit_code, result.stdout) == (0, "3 faces embedded anew, 0 adapted, 0 left\n")
    assert names(run, "people.db", "mobilefacenet") == ["Blue", "Red", "Yellow"]
    assert names(run, "people.db.upgraded", "turned") == ["Blue", "Red", "Yellow"]
    assert len(enrolled.read_bytes()) == len(before)
    assert upgrade(run, "--confirm").exit_code == 0
    assert names(run, "people.db", "turned") == ["Blue", "Red", "Yellow"]
    assert run("identify", "pictures").exit_code == 3
    assert not list(enrolled.parent.glob("people.db.*"))
    with Gallery.open(enrolled, turned) as gallery:
        wanted = turned.template("pictures/Red/a.png").embedding
        np.testing.assert_array_equal(gallery.templates("Red")[0].embedding, wanted)


def test_what_is_not_found_is_moved_by_the_adapter_and_judged_by_its_threshold(
    run: Run, enrolled: Path, adapter: Path, turned: Recognizer
) -> None:
    shutil.move("pictures/Red", "gone")
    result = upgrade(run, "--to", "turned", "--pictures", "pictures", "--adapter", adapter)
    assert (result.exit_code, result.stdout) == (0, "2 faces embedded anew, 1 adapted, 0 left\n")
    assert upgrade(run, "--confirm", "--json").stdout == '{"embedded": 2, "adapted": 1, "left": 0}\n'
    probe = turned.template(toy.paint(toy.ORANGE)).embedding[None]
    moved = Adapter.load(adapter).move(toy.row_of(toy.RED)[None])
    distance = float(((moved - probe) ** 2).sum())
    mixed = Adapter.load(adapter).thresholds.at_gallery(3).distance
    with Gallery.open(enrolled, turned) as gallery:
        [answer] = gallery.identify(probe)
        own = turned.thresholds.at_gallery(3).distance
        red = next(match for match in answer.matches if match.name == "Red")
    assert answer.threshold == own
    assert red.distance == pytest.approx(distance * own / mixed, rel=1e-3)
    assert (answer.name == "Red") == (distance <= mixed)


def test_with_neither_picture_nor_adapter_a_face_is_left_and_nothing_is_confirmed(run: Run, enrolled: Path) -> None:
    shutil.move("pictures/Red", "gone")
    result = upgrade(run, "--to", "turned", "--pictures", "pictures")
    assert (result.exit_code, result.stdout) == (1, "2 faces embedded anew, 0 adapted, 1 left\n")
    refused = upgrade(run, "--confirm")
    assert refused.exit_code == 3
    assert "faces without a new row: 1" in refused.stderr
    assert run("identify", "pictures", "--gallery", "people.db.upgraded", "--weights", "turned").exit_code == 3
    assert upgrade(run, "--confirm", "--drop-rest").stdout.endswith("1 deleted\n")
    assert names(run, "people.db", "turned") == ["Blue", "Yellow"]


def test_an_interrupted_upgrade_goes_on_where_it_was(
    run: Run, enrolled: Path, monkeypatch: pytest.MonkeyPatch, turned: Recognizer
) -> None:
    shutil.move("pictures/Blue", "pictures/Sea")  # after Red
    monkeypatch.setattr(Models, "turned", StopsAtBlue)
    assert upgrade(run, "--to", "turned", "--pictures", "pictures").exit_code == 130
    with Upgrade.open(enrolled, turned.signature) as begun:
        assert begun.progress.embedded == 1
    monkeypatch.setattr(Models, "turned", TurnedColour)
    shutil.rmtree("pictures/Red")  # done already
    assert upgrade(run, "--to", "turned", "--pictures", "pictures").stdout.startswith("3 faces embedded anew")


def test_who_comes_and_goes_meanwhile_is_taken_over(run: Run, enrolled: Path, tmp_path: Path) -> None:
    assert upgrade(run, "--to", "turned", "--pictures", "pictures").exit_code == 0
    toy.save(tmp_path / "pictures" / "Green" / "a.png", toy.GREEN)
    assert run("enroll", "Green", "pictures/Green").exit_code == 0
    assert run("forget", "Blue", "--yes").exit_code == 0
    assert run("rename", "Red", "Crimson").exit_code == 0
    late = upgrade(run, "--confirm")
    assert late.exit_code == 3
    assert "faces enrolled since: 1" in late.stderr
    assert upgrade(run, "--to", "turned", "--pictures", "pictures").stdout.startswith("3 faces embedded anew")
    assert upgrade(run, "--confirm").exit_code == 0
    assert names(run, "people.db", "turned") == [None, "Green", "Crimson", "Yellow"]


def test_a_discarded_upgrade_leaves_the_gallery_as_it_was(run: Run, enrolled: Path) -> None:
    upgrade(run, "--to", "turned", "--pictures", "pictures")
    assert upgrade(run, "--discard").exit_code == 0
    assert not list(enrolled.parent.glob("people.db.*"))
    assert names(run, "people.db", "mobilefacenet") == ["Blue", "Red", "Yellow"]
    assert upgrade(run, "--confirm").exit_code == 3
    assert upgrade(run, "--discard").exit_code == 3


def test_a_confirmation_that_broke_off_before_the_end_can_be_repeated(
    run: Run, enrolled: Path, turned: Recognizer
) -> None:
    upgrade(run, "--to", "turned", "--pictures", "pictures")
    shutil.copy("people.db.upgraded", "kept")
    confirm_upgrade(enrolled)
    shutil.move("kept", "people.db.upgraded")
    assert upgrade(run, "--confirm").exit_code == 0
    assert names(run, "people.db", "turned") == ["Blue", "Red", "Yellow"]


def test_a_program_that_holds_the_old_gallery_open_is_told(
    run: Run, enrolled: Path, toy_recognizer: Recognizer
) -> None:
    made = toy_recognizer.template(toy.paint(toy.GREEN))
    with Gallery.open(enrolled, toy_recognizer) as gallery:
        assert gallery.identify(made.embedding[None])
        upgrade(run, "--to", "turned", "--pictures", "pictures")
        assert upgrade(run, "--confirm").exit_code == 0
        with pytest.raises(SignatureError):
            gallery.identify(made.embedding[None])
        with pytest.raises(SignatureError):
            gallery.enroll("Green", [made])


def test_nobody_is_enrolled_in_a_trial(run: Run, enrolled: Path, turned: Recognizer) -> None:
    upgrade(run, "--to", "turned", "--pictures", "pictures")
    with Gallery.open("people.db.upgraded", turned) as trial, pytest.raises(UpgradeError, match="it is a trial"):
        trial.enroll("Green", [turned.template(toy.paint(toy.GREEN))])


def test_nobody_is_changed_or_deleted_in_a_trial_alone(run: Run, enrolled: Path, turned: Recognizer) -> None:
    upgrade(run, "--to", "turned", "--pictures", "pictures")
    with Gallery.open("people.db.upgraded", turned) as trial:
        face = trial.faces("Red")[0].number
        acts = (
            lambda: trial.forget("Red"),
            lambda: trial.forget_face("Red", face),
            lambda: trial.rename("Red", "Crimson"),
            lambda: trial.merge("Red", "Blue"),
            lambda: trial.note_consent("Red", "on paper"),
            lambda: trial.expire("Red", None),
        )
        for act in acts:
            with pytest.raises(UpgradeError, match="it is a trial: change the gallery itself"):
                act()
        assert trial.forget_expired() == []
        assert trial.receipts() == []


def test_an_upgrade_that_was_killed_before_it_began_can_be_discarded(run: Run, enrolled: Path) -> None:
    Path("people.db.upgraded").touch()
    assert upgrade(run, "--discard").exit_code == 0
    assert not Path("people.db.upgraded").exists()


def test_an_upgrade_to_where_it_is_or_to_two_places_is_refused(run: Run, enrolled: Path) -> None:
    same = upgrade(run, "--to", "mobilefacenet")
    assert same.exit_code == 3
    assert "already" in same.stderr
    assert upgrade(run, "--to", "turned").exit_code == 1
    other = upgrade(run, "--to", "other")
    assert other.exit_code == 3
    assert "--discard it first" in other.stderr
    nested = run("gallery", "upgrade", "people.db.upgraded", "--to", "other")
    assert "an upgrade that is not confirmed" in nested.stderr


def test_a_gallery_in_the_place_of_the_upgrade_is_left_alone(run: Run, enrolled: Path) -> None:
    shutil.copy("people.db", "people.db.upgraded")
    for words in (["--to", "turned"], ["--confirm"], ["--discard"]):
        refused = upgrade(run, *words)
        assert refused.exit_code == 3
        assert "a gallery of its own" in refused.stderr
    assert Path("people.db.upgraded").exists()


def test_an_adapter_of_other_weights_is_refused(run: Run, enrolled: Path, adapter: Path) -> None:
    refused = upgrade(run, "--to", "other", "--adapter", adapter)
    assert refused.exit_code == 3
    assert "it leads from" in refused.stderr


def test_rows_that_were_adapted_once_are_not_adapted_again(
    run: Run, enrolled: Path, strangers: Path, adapter: Path
) -> None:
    upgrade(run, "--to", "turned", "--adapter", adapter)
    upgrade(run, "--confirm")
    run("gallery", "fit-adapter", strangers, "--from", "turned", "--to", "mobilefacenet", "-o", "back.npz")
    assert upgrade(run, "--to", "mobilefacenet", "--adapter", "back.npz").stdout.endswith("3 left\n")
    again = upgrade(run, "--to", "mobilefacenet", "--adapter", "back.npz", "--pictures", "pictures")
    assert again.stdout == "3 faces embedded anew, 0 adapted, 0 left\n"


@pytest.mark.parametrize(
    "words", [[], ["--confirm", "--discard"], ["--to", "turned", "--confirm"], ["--discard", "--drop-rest"]]
)
def test_what_cannot_be_meant_is_wrong_usage(run: Run, enrolled: Path, words: list[str]) -> None:
    assert upgrade(run, *words).exit_code == 2


FULL = """
import resource, sys
from sameface.gallery.upgrade import Upgrade
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
Upgrade.open(sys.argv[1], "another pipeline")
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no such limit")
@pytest.mark.parametrize("most", [40_000, 100_000, 300_000])
def test_an_upgrade_that_cannot_be_begun_leaves_nothing(tmp_path: Path, toy_recognizer: Recognizer, most: int) -> None:
    path, crop = tmp_path / "people.db", np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    with Gallery.open(path, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED, str(number), crop=crop) for number in range(3)])
    command = [sys.executable, "-c", FULL, str(path), str(most)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "GalleryFileError" in ran.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["people.db"]
    with Upgrade.open(path, "another pipeline") as begun:
        assert begun.progress.left == 3
