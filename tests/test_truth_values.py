"""The truth value of an answer is its yes: `if decision:` does what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from sameface import challenge, client
from sameface.compare import Decision
from sameface.face import Face
from sameface.gallery import check, hash_chain
from sameface.gallery.records import Identification, Match
from sameface.service import serializers

SOURCE = Path(__file__).parent.parent / "src" / "sameface"
FACE = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0)


def identification(votes: int) -> Identification:
    return Identification((Match("Ann", 0.5, votes),), 1.0, 0.01, ambiguous=False, closed_set=False)


def verification(distance: float) -> client.Verification:
    return serializers.verify_answer(Decision(distance, 1.0, 1e-3), FACE, FACE, live=None)


def identified(*votes: int) -> client.Identified:
    faces = [serializers.identified_face(FACE, identification(each), live=None) for each in votes]
    return client.Identified(9, 9, tuple(faces))


def step(state: str) -> client.ChallengeStep:
    return client.ChallengeStep(state, None, None, 1, 2, too_fast=False, width=None, height=None, face=None)


ANSWERS = {
    "same": (Decision(1.0, 1.0, 1e-3), True),
    "different": (Decision(1.1, 1.0, 1e-3), False),
    "named": (identification(1), True),
    "a stranger": (identification(0), False),
    "nobody enrolled": (Identification((), 1.0, 0.01, ambiguous=False, closed_set=True), False),
    "an intact chain": (hash_chain.ChainCheck(1, "", None, frozenset()), True),
    "a broken chain": (hash_chain.ChainCheck(1, "", "entry 1", frozenset()), False),
    "a chain without an expected hash": (hash_chain.ChainCheck(1, "", None, frozenset({"a"})), False),
    "a passed challenge": (challenge.ChallengeVerdict(2, 2), True),
    "a running challenge": (challenge.ChallengeVerdict(1, 2), False),
    "a failed challenge": (challenge.ChallengeVerdict(2, 2, reason="late"), False),
    "same, told by a service": (verification(1.0), True),
    "different, told by a service": (verification(1.1), False),
    "one of two named by a service": (identified(0, 1), True),
    "nobody named by a service": (identified(0), False),
    "no face found by a service": (identified(), False),
    "a sound gallery": (check.CheckReport(0, 0, ()), True),
    "a gallery with a fault": (check.CheckReport(1, 1, (check.GalleryFault("row", "face 1"),)), False),
    "a challenge passed at a service": (step("passed"), True),
    "a challenge under way at a service": (step("running"), False),
}


@pytest.mark.parametrize(("answer", "yes"), ANSWERS.values(), ids=ANSWERS)
def test_the_truth_value_of_an_answer_is_its_yes(answer: object, yes: bool) -> None:
    assert bool(answer) is yes


# Facts of a record, and no answer to a question: `if erasure:` asks whether there is one.
RECORDS = {
    "Erasure": "complete",  # of the places where bytes were erased
    "ReceiptAnswer": "complete",  # the same, in JSON
    "Timeline": "complete",  # of a video that was read to its end
    "Backup": "faults",  # of the gallery that was copied
    "Restored": "faults",  # of the backup that was put in place
}


def test_every_class_with_a_yes_or_no_has_a_truth_value() -> None:
    records = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                fields = {ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)}
                facts = {"passed", "intact", "complete", "faults"} & (methods | fields)
                if "__bool__" not in methods:
                    assert not {"same", "named"} & methods, f"{path.name}: {node.name}"
                    records += [(node.name, fact) for fact in facts]
    assert sorted(records) == sorted(RECORDS.items())
