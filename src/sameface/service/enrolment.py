"""Enroll the pictures of a request: those that can be used in one transaction, or none."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from functools import partial

from sameface.api_records import EnrollAnswer
from sameface.errors import SamefaceError
from sameface.face import Choice, Template
from sameface.gallery import Gallery
from sameface.gallery.errors import FaceTakenError, PersonExistsError
from sameface.gallery.expiry import parse_moment
from sameface.gallery.names import clean_name, clean_note
from sameface.picture_files import hash_image
from sameface.service.access_file import ApiKey
from sameface.service.auth import check_expiry_role
from sameface.service.error_responses import skipped_picture
from sameface.service.errors import NothingEnrolledError, RequestError
from sameface.service.schemas import FacesBody, Upload
from sameface.service.state import State, find_person


async def enroll_pictures(state: State, key: ApiKey, who: str | int, body: FacesBody) -> EnrollAnswer:
    """Enroll pictures of one person.

    `who` is the name of a new person, or the number of an enrolled one.

    Raises:
        PersonExistsError, UnknownPersonError, BadNameError, BadNoteError, BadExpiryError, BusyError: Before
            any picture was decoded.
        NothingEnrolledError: No picture can be used.
    """
    gallery = state.gallery
    if body.consent is not None:
        clean_note(body.consent)
    expires = read_expiry(state, body.expire_after, new=isinstance(who, str))
    if isinstance(who, int):
        check_expiry_role(key, expires)
    await state.call_gallery(check_person, gallery, who)
    choices: list[Choice] = list(body.faces) or ["only"] * len(body.pictures)
    if len(choices) != len(body.pictures):
        raise RequestError(f"faces must name one for each of {len(body.pictures)} pictures, got {len(choices)}")
    turns = asyncio.Semaphore(state.config.workers)  # at once, so that other requests get theirs in between
    with state.inference.admitted(len(body.pictures)):
        pairs = zip(body.pictures, choices, strict=True)
        made = await asyncio.gather(*[make_template(state, *pair, turns) for pair in pairs])
    checked = await state.call_gallery(refuse_taken_faces, gallery, who, made)
    usable = [each for each in checked if isinstance(each, Template)]
    faults = [(number, each) for number, each in enumerate(checked) if isinstance(each, SamefaceError)]
    if not usable:
        raise NothingEnrolledError([(body.pictures[number].name, fault) for number, fault in faults])
    enroll = partial(gallery.enroll, who, new=isinstance(who, str), consent=body.consent, expires=expires)
    known = {"consent": body.consent is not None, "expires": expires is not None, "skipped": len(faults)}
    async with state.audited(key, "enroll", who if isinstance(who, int) else None, known) as outcome:
        added = await state.call_gallery(enroll, usable)
        person = await state.call_gallery(gallery.person, who)
        outcome.entries = [(person.number, {"faces": added, **known})]
        outcome.expires = None if expires is None else int(expires.timestamp())
    skipped = tuple(skipped_picture(body.pictures[number].name, number, fault) for number, fault in faults)
    return EnrollAnswer(person, added, skipped)


def read_expiry(state: State, words: str | None, *, new: bool) -> datetime | None:
    """Return the expiry of a person: as requested, or for a new person by the setting of the service."""
    days = state.config.expire_days
    if words is None and new and days is not None:
        words = f"{days}d"
    return None if words is None else parse_moment(words, time.time())


def check_person(gallery: Gallery, who: str | int) -> None:
    """Refuse a name that is taken, or an unknown number, before any work is done."""
    if isinstance(who, int):
        gallery.person(who)
    elif find_person(gallery, who) is not None:
        raise PersonExistsError(who)


async def make_template(
    state: State, upload: Upload, choice: Choice, turns: asyncio.Semaphore
) -> Template | SamefaceError:
    """Return the chosen face of a picture, ready to be enrolled, or the error."""
    async with turns:
        try:
            least = state.config.min_quality
            seen = await state.inference.detect(upload, choice, min_quality=least, patient=True)
        except SamefaceError as error:
            return error
        rows = await state.inference.embed(seen)
    [face], [crop] = seen.faces, seen.crops
    picture = await asyncio.to_thread(hash_image, upload.getvalue())
    return Template(picture, face.box, face.score, rows[0], crop if state.config.keep_crops else None)


def refuse_taken_faces(
    gallery: Gallery, who: str | int, made: list[Template | SamefaceError]
) -> list[Template | SamefaceError]:
    """Return the faces and errors of pictures, with an error in the place of a face that another person has."""
    name = clean_name(who) if isinstance(who, str) else gallery.person(who).name
    checked: list[Template | SamefaceError] = []
    for each in made:
        owner = gallery.owner_of(each) if isinstance(each, Template) else None
        checked.append(each if owner is None or owner == name else FaceTakenError(name, owner))
    return checked
