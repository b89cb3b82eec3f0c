"""The soak finds what is wrong, and finds nothing in a few seconds; `benchmarks/soak.py` runs for hours."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import soak
from sameface.face import Face
from sameface.thresholds import Thresholds
from soaking import pictures, rude, truth

THRESHOLDS = Thresholds((0.5, 1e-5), (1.0, 0.5), (5000, 1), 10_000, "nothing")
BOX, POINTS = np.array([1, 2, 30, 40], np.float32), np.ones((5, 2), np.float32)


def make_picture(name: str, *rows: list[float]) -> pictures.Picture:
    """Return a picture whose faces have these rows."""
    table = np.array(rows, np.float32).reshape(len(rows), 2)
    return pictures.Picture(name, b"", (50, 50), [Face(BOX, POINTS, 0.9) for _ in rows], table)


@pytest.fixture
def known() -> truth.Truth:
    """Ann and Bob are enrolled, at a right angle."""
    single = [make_picture("a", [1, 0]), make_picture("b", [0, 1]), make_picture("probe", [0.8, 0.6])]
    album = pictures.Album(single, [], [], [])
    recorded = truth.Truth(album, THRESHOLDS)
    people = {
        name: truth.Enrolled(number, ((number, (name[0].lower(), 0)),)) for number, name in ((1, "Ann"), (2, "Bob"))
    }
    recorded.begin(people)
    recorded.settle(done=True)
    return recorded


def answer(known: truth.Truth) -> dict[str, Any]:
    """Return what a service that is right says of the probe: 0.4 from Ann, 0.8 from Bob."""
    limit = THRESHOLDS.at_gallery(2)
    threshold, far = limit.distance, limit.fpir
    matches = [{"name": "Ann", "distance": 0.4, "votes": 1}, {"name": "Bob", "distance": 0.8, "votes": 0}]
    face = {"box": BOX.tolist(), "landmarks": POINTS.tolist(), "score": 0.9, "threshold": threshold, "far": far}
    face |= {"name": "Ann", "person": 1, "ambiguous": threshold >= 0.8, "matches": matches}
    return {"faces": [face]}


def faults_of(known: truth.Truth, body: dict[str, Any]) -> list[str]:
    """Return what is wrong with an answer about the probe."""
    wish = {"far": None, "k": 1, "most": 5, "closed_set": False}
    return known.check_identified(known.album.find("probe"), wish, body, known.now)


def test_a_right_answer_has_no_fault(known: truth.Truth) -> None:
    assert faults_of(known, answer(known)) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda face: face.update(name="Bob", person=2),
        lambda face: face.update(name=None),
        lambda face: face.update(person=2),
        lambda face: face.update(threshold=0.41),
        lambda face: face.update(ambiguous=not face["ambiguous"]),
        lambda face: face.update(box=[1, 2, 30, 41]),
        lambda face: face["matches"][0].update(distance=0.401),
        lambda face: face["matches"][1].update(name="Ann"),
        lambda face: face["matches"][1].update(votes=1),
        lambda face: face["matches"].pop(),
    ],
)
def test_an_answer_that_is_wrong_anywhere_is_found(
    known: truth.Truth, harm: Callable[[dict[str, Any]], object]
) -> None:
    body = copy.deepcopy(answer(known))
    harm(body["faces"][0])
    assert faults_of(known, body)


def test_an_answer_may_be_of_any_moment_since_it_was_asked_for_and_of_no_earlier_one(known: truth.Truth) -> None:
    def find(people: truth.People) -> list[str]:
        return truth.expect("people", sorted(people), ["Ann", "Bob"])

    asked = known.certain
    known.begin(truth.without(known.now, "Bob"))
    assert known.faults_since(asked, find) == []
    known.settle(done=True)
    assert known.faults_since(asked, find) == []
    assert known.faults_since(known.certain, find) == ["people ['Ann'], wanted ['Ann', 'Bob']"]
    assert known.gone == {"Bob"}


def test_merged_people_have_all_faces_in_the_order_of_enrolment(known: truth.Truth) -> None:
    people = truth.merged(known.now, "Ann", "Bob")
    assert people == {"Bob": truth.Enrolled(2, ((1, ("a", 0)), (2, ("b", 0))))}


def test_a_service_that_grows_misses_its_target(known: truth.Truth, capsys: pytest.CaptureFixture[str]) -> None:
    codes = []
    for growth in (0, 1):
        record = soak.Record([soak.Sample(at, 100 + growth * at, 10, 5, at) for at in range(60)])
        record.seconds["identify"].append(0.1)
        world = soak.World(None, known, None, None, Path())  # type: ignore[arg-type]
        codes.append(soak.print_record(record, world))
    assert codes == [0, 1]
    assert "growth of the memory" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_few_seconds_of_everything_have_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(soak.ACTS, rude.stall)  # which takes 30 s
    (tmp_path / "gallery").mkdir()
    record, world = soak.run(tmp_path / "gallery", tmp_path / "log", seconds=8, rate=6, variants=3)
    assert record.faults == []
    assert record.acts > 10
    assert len(world.truth.now) > 0
    assert {sample.threads > 1 and sample.handles > 3 for sample in record.samples} == {True}
