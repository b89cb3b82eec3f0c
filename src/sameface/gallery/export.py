"""Export what a gallery holds of one person, as a ZIP file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from sameface.face import Template
from sameface.gallery.backend import encode_crop
from sameface.gallery.errors import GalleryBusyError
from sameface.gallery.expiry import show_expiry
from sameface.gallery.gallery import Gallery
from sameface.gallery.people import Who
from sameface.gallery.receipts import receipt_to_dict
from sameface.gallery.records import EnrolledFace

FACTS, README = "person.json", "README.txt"
WORDS = """This is everything that a face gallery of the software sameface holds of one person.

person.json holds, in this order:
  name, number    what the person is called there, and the number that stands for them
  gallery         which gallery: a number drawn at random when it was made
  consent         the note on how and when the person agreed, or null
  expires         when the person is to be deleted, or null for never
  enrolled        when the person was first enrolled, as far as the log of the service knows; or null
  pipeline        which version of the recognition made the embeddings
  faces           each enrolled face:
    number          what stands for the face
    picture         the SHA-256 of the file that the face is from (the picture itself is not kept)
    box             where in the picture, in pixels: left, top, right, bottom
    score           how sure the detector was, 0 to 1
    crop            the file in this archive that shows the face, or null if it was not kept
    embedding       the numbers by which the face is recognized
  deleted         receipts for faces of the person that were deleted before
  log             what the service did with the person: when, what, and counts; null if the log is not at hand

Whoever has the embeddings can search for this person with the same software: keep this file in private.
"""


def export_person(gallery: Gallery, who: Who, log: Iterable[Mapping[str, Any]] | None) -> bytes:
    """Return a ZIP file of what a gallery holds of a person.

    Args:
        gallery: Opened with the keys that it needs.
        who: The person, by name or number.
        log: The person's entries of the audit log in order, each with `time` and `action`; None without a log.

    Raises:
        UnknownPersonError: Nobody has this name or number.
        GalleryBusyError: The person was changed meanwhile.
    """
    person = gallery.person(who)
    faces, templates = gallery.faces(person.number), gallery.templates(person.number)
    if len(faces) != len(templates):
        raise GalleryBusyError(gallery.path, "the person was changed meanwhile: try again")
    crops = {
        crop_name(face): encode_crop(template.crop)
        for face, template in zip(faces, templates, strict=True)
        if template.crop is not None
    }
    entries = None if log is None else [dict(entry) for entry in log]
    facts = {
        "name": person.name,
        "number": person.number,
        "gallery": gallery.origin,
        "consent": person.consent,
        "expires": show_expiry(person.expires),
        "enrolled": first_enrolled(entries or []),
        "pipeline": gallery.signature,
        "faces": [face_to_dict(*pair) for pair in zip(faces, templates, strict=True)],
        "deleted": [receipt_to_dict(each) for each in gallery.receipts() if each.person == person.number],
        "log": entries,
    }
    return pack(facts, crops)


def crop_name(face: EnrolledFace) -> str:
    """Return the path of a crop in the archive."""
    return f"crops/{face.number}.png"


def first_enrolled(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """Return when a person was first enrolled, by the log."""
    enrolments = (entry for entry in entries if entry["action"] == "enroll" and "failed" not in entry["detail"])
    return next((str(entry["time"]) for entry in enrolments), None)


def face_to_dict(face: EnrolledFace, template: Template) -> dict[str, Any]:
    """Return an enrolled face as a JSON object."""
    return {
        "number": face.number,
        "picture": template.picture,
        "box": template.box.tolist(),
        "score": template.score,
        "crop": None if template.crop is None else crop_name(face),
        "embedding": template.embedding.tolist(),
    }


def pack(facts: Mapping[str, Any], crops: Mapping[str, bytes]) -> bytes:
    """Return the ZIP file, the same bytes for the same content."""
    data = io.BytesIO()
    words = json.dumps(facts, ensure_ascii=False, indent=1)
    with zipfile.ZipFile(data, "w") as file:
        for name, content in {README: WORDS.encode(), FACTS: words.encode(), **crops}.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()
