"""Errors of the gallery; the whole tree is drawn in `sameface.errors`."""

from __future__ import annotations

from sameface.errors import GalleryError


class GalleryFileError(GalleryError):
    """The gallery file is missing, or it is not a gallery that this version reads."""

    code = "bad_gallery"
    message = "gallery {path!r}: {reason}"
    path: str
    reason: str


class GalleryBusyError(GalleryError):
    """Another program holds the gallery for longer than we wait."""

    code = "gallery_busy"
    message = "gallery {path!r} is in use: {reason}"
    path: str
    reason: str


class GalleryUnreachableError(GalleryError):
    """The database that holds the gallery does not answer, or refuses the connection."""

    code = "gallery_lost"
    message = "gallery {path!r} cannot be reached: {reason}"
    path: str
    reason: str


class SignatureError(GalleryError):
    """The rows of the gallery were made by another pipeline and cannot be compared with ours."""

    code = "other_signature"
    message = (
        "gallery {path!r} was made with pipeline {theirs}; this is {ours}: "
        "use the weights and options it was made with (`--weights resnet29`, the default up to version "
        "0.1.0), move it with `sameface gallery upgrade`, or enroll again into a new gallery"
    )
    path: str
    theirs: str
    ours: str


class UpgradeError(GalleryError):
    """The move of a gallery to other weights cannot proceed as asked."""

    code = "bad_upgrade"
    message = "cannot upgrade {path!r}: {reason}"
    path: str
    reason: str


class KeyFileError(GalleryError):
    """The key of a gallery cannot be read from the given source."""

    code = "bad_key"
    message = "cannot take a key from {source}: {reason}"
    source: str
    reason: str


class MissingKeyError(GalleryError):
    """The gallery is encrypted, and no key was given."""

    code = "no_key"
    message = (
        "gallery {path!r} is encrypted with key {fingerprint}: give it with --key-file, "
        "SAMEFACE_GALLERY_KEY or SAMEFACE_GALLERY_KEY_COMMAND"
    )
    path: str
    fingerprint: str


class WrongKeyError(GalleryError):
    """The key is not the one that the gallery needs; both are named by their fingerprints."""

    code = "wrong_key"
    message = "gallery {path!r} needs key {wanted}, given {given}"
    path: str
    wanted: str
    given: str


class BackupError(GalleryError):
    """A gallery cannot be backed up, or a backup cannot be restored; nothing is changed."""

    code = "bad_backup"
    message = "cannot back up or restore {path!r}: {reason}"
    path: str
    reason: str


class SealError(GalleryError):
    """An encrypted value is not what was written there."""

    code = "bad_seal"
    message = "gallery {path!r}: the encrypted {place} is damaged, or was moved there from elsewhere: take a backup"
    path: str
    place: str


class EncryptionError(GalleryError):
    """The state of the gallery's encryption does not allow this change."""

    code = "bad_encryption"
    message = "gallery {path!r}: {reason}"
    path: str
    reason: str


class UnknownPersonError(GalleryError):
    """No person of that name or number is enrolled."""

    code = "unknown_person"
    name: str | int

    def __str__(self) -> str:
        called = f"number {self.name}" if isinstance(self.name, int) else f"named {self.name!r}"
        return f"nobody {called} is enrolled"


class UnknownFaceError(GalleryError):
    """The person has no such face."""

    code = "unknown_face"
    message = "the person has no face number {number}"
    number: int


class LastFaceError(GalleryError):
    """The only face of a person cannot be deleted without the person."""

    code = "last_face"
    message = "face number {number} is the only one of this person: delete the person instead"
    number: int


class PersonExistsError(GalleryError):
    """The new name belongs to another person."""

    code = "person_exists"
    message = "a person named {name!r} is enrolled already: merge the two instead"
    name: str


class BadNameError(GalleryError):
    """A name that no person can be enrolled under."""

    code = "bad_name"
    message = "cannot use the name {name!r}: {reason}"
    name: str
    reason: str


class BadNoteError(GalleryError):
    """A note on a person's consent that cannot be kept."""

    code = "bad_note"
    note: str
    reason: str

    def __str__(self) -> str:
        return f"cannot keep the note {self.note[:40]!r}: {self.reason}"


class BadExpiryError(GalleryError):
    """A day on which a person cannot expire."""

    code = "bad_expiry"
    given: str
    reason: str

    def __str__(self) -> str:
        return f"nobody can expire at {self.given[:40]!r}: {self.reason}"


class MassExpiryError(GalleryError):
    """A deletion of expired people that a wrong clock may have caused, and that an operator must confirm."""

    code = "mass_expiry"
    message = (
        "gallery {path!r}: the time of {people} of its people is over, but nobody is deleted: {reason}; "
        "if the clock is right, confirm with `sameface forget --expired --yes`"
    )
    path: str
    people: int
    reason: str


class FaceTakenError(GalleryError):
    """The face of this picture is enrolled under another name."""

    code = "face_taken"
    message = "cannot enroll this face as {name!r}: the same face of the same picture is enrolled as {owner!r}"
    name: str
    owner: str
