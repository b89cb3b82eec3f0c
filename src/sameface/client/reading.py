"""From the JSON of an answer to records."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime
from typing import Any

import numpy as np

from sameface.client.records import (
    Album,
    AlbumFace,
    Calibration,
    Challenge,
    ChallengeStep,
    Embedded,
    Enrolment,
    Entry,
    Fault,
    Identified,
    Job,
    ModelFacts,
    Seen,
    Skipped,
    Verification,
)
from sameface.face import Face
from sameface.gallery.records import EnrolledFace, Erasure, Identification, Match, Person, Receipt

Json = Any


def read_face(answer: Json) -> Face:
    """Return where a face is."""
    box = np.array(answer["box"], np.float32).reshape(4)
    landmarks = np.array(answer["landmarks"], np.float32).reshape(5, 2)
    return Face(box, landmarks, float(answer["score"]))


def read_faces(answers: Json) -> tuple[Face, ...]:
    """Return where several faces are."""
    return tuple(read_face(each) for each in answers)


def read_seen(answer: Json) -> Seen:
    """Return the faces of a picture."""
    return Seen(answer["width"], answer["height"], read_faces(answer["faces"]))


def read_embedded(answer: Json) -> Embedded:
    """Return the embeddings of a picture's faces."""
    faces = answer["faces"]
    rows = np.array([face["embedding"] for face in faces], np.float32).reshape(-1, answer["dimension"])
    return Embedded(answer["signature"], read_faces(faces), rows)


def read_verification(answer: Json) -> Verification:
    """Return a decision."""
    names = ("distance", "threshold", "far", "population", "extrapolated", "probability", "in_range")
    facts = {name: answer[name] for name in names}
    return Verification(**facts, a=read_face(answer["a"]), b=read_face(answer["b"]), live=answer["live"])


def read_identified(answer: Json) -> Identified:
    """Return who the faces of a picture are."""
    faces = answer["faces"]
    answers = tuple(read_identification(face) for face in faces)
    live = tuple(face["live"] for face in faces)
    return Identified(answer["width"], answer["height"], read_faces(faces), answers, live)


def read_challenge(answer: Json) -> Challenge:
    """Return what somebody is to do."""
    return Challenge(answer["id"], answer["wanted"], answer["total"], answer["seconds"])


def read_challenge_step(answer: Json) -> ChallengeStep:
    """Return how far somebody is with it."""
    names = ("state", "reason", "wanted", "met", "total", "too_fast")
    face = None if answer["face"] is None else read_face(answer["face"])
    return ChallengeStep(**{name: answer[name] for name in names}, face=face)


def read_identification(answer: Json) -> Identification:
    """Return who one face is."""
    matches = tuple(Match(each["name"], each["distance"], each["votes"], each["person"]) for each in answer["matches"])
    names = (
        "threshold", "far", "ambiguous", "closed_set", "rule", "asked", "population", "extrapolated", "size",
    )  # fmt: skip
    return Identification(matches, **{name: answer[name] for name in names})


def read_person(answer: Json) -> Person:
    """Return a person."""
    expires = answer["expires"]
    moment = None if expires is None else datetime.fromisoformat(expires)
    return Person(answer["name"], answer["faces"], answer["id"], answer["consent"], moment)


def read_enrolled_face(answer: Json) -> EnrolledFace:
    """Return an enrolled face."""
    box = np.array(answer["box"], np.float32).reshape(4)
    return EnrolledFace(answer["id"], box, answer["score"], answer["crop"])


def read_receipt(answer: Json) -> Receipt:
    """Return that something was deleted."""
    names = ("number", "gallery", "reason", "person", "face", "into", "faces", "crops", "pictures", "hash")
    erasure = answer["erasure"]
    return Receipt(
        **{name: answer[name] for name in names},
        time=datetime.fromisoformat(answer["time"]),
        erasure=None if erasure is None else read_erasure(erasure),
    )


def read_erasure(answer: Json) -> Erasure:
    """Return that bytes were overwritten."""
    moment = datetime.fromisoformat(answer["time"])
    return Erasure(answer["number"], moment, answer["places"], answer["hash"])


def read_fault(answer: Json) -> Fault:
    """Return why something was not done."""
    return Fault(answer["code"], answer["message"], answer["detail"])


def read_skipped(answers: Json) -> tuple[Skipped, ...]:
    """Return the pictures that were not used."""
    return tuple(Skipped(each["picture"], each["number"], read_fault(each["error"])) for each in answers)


def read_enrolment(answer: Json) -> Enrolment:
    """Return what came of the pictures of a person."""
    return Enrolment(read_person(answer["person"]), answer["enrolled"], read_skipped(answer["skipped"]))


def read_job(answer: Json) -> Job:
    """Return how far an album is."""
    error, result = answer["error"], answer["result"]
    return Job(
        id=answer["id"],
        state=answer["state"],
        done=answer["done"],
        total=answer["total"],
        fault=None if error is None else read_fault(error),
        album=None if result is None else read_album(result),
    )


def read_album(answer: Json) -> Album:
    """Return the groups of an album."""
    return Album(
        threshold=answer["threshold"],
        far=answer["far"],
        faces=tuple(read_album_face(each) for each in answer["faces"]),
        groups=tuple(tuple(group) for group in answer["groups"]),
        skipped=read_skipped(answer["skipped"]),
    )


def read_album_face(answer: Json) -> AlbumFace:
    """Return a face of an album."""
    thumbnail = b64decode(answer["thumbnail"].partition(",")[2], validate=True)
    return AlbumFace(read_face(answer), answer["picture"], answer["filename"], thumbnail)


def read_model(answer: Json) -> ModelFacts:
    """Return what a service runs on."""
    gallery = answer["gallery"]
    names = ("signature", "detector", "embedder", "dimension", "population", "limits", "version")
    return ModelFacts(
        **{name: answer[name] for name in names},
        thresholds=read_rates(answer["thresholds"]),
        populations=tuple(map(read_calibration, answer["populations"])),
        people=None if gallery is None else gallery["people"],
        faces=None if gallery is None else gallery["faces"],
    )


def read_rates(answers: Json) -> dict[float, float]:
    """Return the distance that holds each rate."""
    return {each["far"]: each["distance"] for each in answers}


def read_calibration(answer: Json) -> Calibration:
    """Return the thresholds that hold for a population."""
    rates = answer["thresholds"]
    extrapolated = tuple(each["far"] for each in rates if each["extrapolated"])
    return Calibration(answer["population"], answer["calibrated_on"], read_rates(rates), extrapolated)


def read_entry(answer: Json) -> Entry:
    """Return something that was done."""
    facts = {name: answer[name] for name in ("key", "action", "gallery", "person", "name", "detail", "hash")}
    return Entry(answer["id"], datetime.fromisoformat(answer["time"]), **facts)
