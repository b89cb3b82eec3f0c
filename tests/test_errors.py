"""The tree of errors, and what each message says."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from sameface import errors
from sameface.errors import (
    ImageError,
    ImageTooLargeError,
    NoFaceError,
    NoSuchFaceError,
    PoorFaceError,
    SamefaceError,
    SeveralFacesError,
    ThresholdError,
    WeightsError,
)
from sameface.evaluation.errors import ProtocolError, TooFewPairsError
from sameface.face import Face
from sameface.gallery.errors import SignatureError
from sameface.quality import Quality

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, SamefaceError)]
GROUPS = [each for each in CLASSES if each.__subclasses__() and "__init__" not in vars(each)]


def drawing() -> list[tuple[int, str, str | None]]:
    """Return depth, name and code of every line of the tree in the docstring."""
    lines = re.findall(r"^([│├└─ ]*)(\w+Error)(?: +([a-z_]+)(?: |$))?", errors.__doc__, re.MULTILINE)
    return [(len(indent) // 4, name, code or None) for indent, name, code in lines]


def drawn_parents() -> dict[str, str]:
    """Return the parent of every error as the tree draws it."""
    path: list[str] = []
    parents = {}
    for depth, name, _ in drawing():
        path[depth:] = [name]
        if depth:
            parents[name] = path[depth - 1]
    return parents


def test_the_drawing_shows_every_error_once():
    assert sorted(name for _, name, _ in drawing()) == sorted(each.__name__ for each in CLASSES)


def test_the_drawing_shows_the_parent_of_every_error():
    parents = {each.__name__: each.__base__.__name__ for each in CLASSES if each is not SamefaceError}
    assert drawn_parents() == parents


def test_the_drawing_shows_the_code_of_every_error_that_is_raised():
    raised = {each.__name__: each.code for each in CLASSES if each not in GROUPS}
    assert {name: code for _, name, code in drawing() if code not in (None, "code")} == raised


def test_every_error_has_a_code_of_its_own():
    assert len({each.code for each in CLASSES}) == len(CLASSES)
    assert all("code" in vars(each) for each in CLASSES)


def test_an_unknown_error_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'StrangeError'"):
        errors.StrangeError  # noqa: B018


def test_no_error_passes_for_a_fault_of_the_calling_code():
    assert not any(issubclass(each, ValueError | TypeError | OSError) for each in CLASSES)


def make_face(left: float) -> Face:
    return Face(np.array([left, 5, left + 30, 45], np.float32), np.zeros((5, 2), np.float32), 0.875)


MESSAGES = [
    (ImageError("'a.jpg'", "no such file"), "cannot read 'a.jpg': no such file"),
    (
        ImageTooLargeError("'a.jpg'", "pixels", 1_000_000, 2_000),
        "cannot read 'a.jpg': it has 1,000,000 pixels, the limit is 2,000 (max_pixels)",
    ),
    (NoFaceError("'a.jpg'"), "no face found in 'a.jpg'"),
    (
        SeveralFacesError("'a.jpg'", [make_face(0), make_face(60)]),
        "2 faces found in 'a.jpg', wanted one: choose 'largest', 'first' or a number "
        "(0: 30x40 at 0,5 score 0.88; 1: 30x40 at 60,5 score 0.88)",
    ),
    (NoSuchFaceError("'a.jpg'", 4, 1), "no face 4 in 'a.jpg': it has only face 0"),
    (NoSuchFaceError("'a.jpg'", 4, 2), "no face 4 in 'a.jpg': it has faces 0 to 1"),
    (
        PoorFaceError("'a.jpg'", Quality(certainty=0.9, size=1, sharpness=0.2, pose=1, light=1), 0.3),
        "the face in 'a.jpg' has a quality of 0.18, wanted 0.3 or more: its sharpness is worst; take another picture",
    ),
    (WeightsError("resnet29", "gone"), "weights 'resnet29': gone"),
    (
        ThresholdError(1e-9, 5e-6, 0.1, "a false-accept rate of"),
        "no threshold is known for a false-accept rate of 1e-09: the calibration supports 5e-06 to 0.1",
    ),
    (ProtocolError("pairs.csv", "no header"), "cannot use 'pairs.csv': no header"),
    (ProtocolError("pairs.csv", "no header", 3), "cannot use 'pairs.csv', line 3: no header"),
    (
        TooFewPairsError(1e-4, 500, 30),
        "a false-accept rate of 0.0001 needs 300,000 pairs of different people or more (30 accepts), there are 500",
    ),
    (
        SignatureError("staff.db", "3f9a", "77c1"),
        "gallery 'staff.db' was made with pipeline 3f9a; this is 77c1: "
        "use the weights and options it was made with (`--weights resnet29`, the default up to version "
        "0.1.0), move it with `sameface gallery upgrade`, or enroll again into a new gallery",
    ),
]


@pytest.mark.parametrize(("error", "message"), MESSAGES, ids=lambda value: type(value).__name__)
def test_a_message_says_what_was_wanted_and_what_was_given(error: SamefaceError, message: str):
    assert str(error) == message


GIVEN = {
    "str": "somewhere",
    "str | int": 7,
    "str | None": "75aa03165864eb4e",
    "int": 7,
    "int | None": 3,
    "float": 0.5,
    "dict[str, Any]": {"seconds": 3},
    "Mapping[str, str]": {"retry-after": "3"},
    "Quality": Quality(certainty=1, size=1, sharpness=0.2, pose=1, light=1),
    "Sequence[Face]": (make_face(0),),
    "Sequence[tuple[str, str]]": (("far", "too small"),),
    "Sequence[tuple[str, SamefaceError]]": (("a.jpg", NoFaceError("'a.jpg'")),),
}
RAISED = [each for each in CLASSES if each not in GROUPS]


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_facts_as_attributes(kind: type[SamefaceError]):
    parameters = list(inspect.signature(kind).parameters.values())
    facts = {parameter.name: GIVEN[parameter.annotation] for parameter in parameters}
    error = kind(**facts)
    facts.pop("what", None)  # only words for the message
    assert {name: getattr(error, name) for name in facts} == facts


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_message_is_one_line_that_begins_small_and_ends_without_a_stop(kind: type[SamefaceError]):
    parameters = inspect.signature(kind).parameters.values()
    message = str(kind(*[GIVEN[parameter.annotation] for parameter in parameters]))
    assert re.fullmatch(r"[a-z0-9].*[^.]", message)
