"""Every error that sameface raises for a fault of the world outside it.

SamefaceError                       code
├── ImageError                      bad_image          not a picture, truncated, unreadable
│   └── ImageTooLargeError          image_too_large    more bytes or pixels than allowed
├── VideoError                      bad_video          no video, damaged, or no such camera
├── FaceError
│   ├── NoFaceError                 no_face            the picture holds no face
│   ├── SeveralFacesError           several_faces      one face was wanted, the picture holds more
│   ├── NoSuchFaceError             no_such_face       the picture has no face of that number
│   └── PoorFaceError               poor_face          the face is too small, blurred, turned or badly lit
├── WeightsError                    bad_weights        weights file or manifest missing, broken or swapped
├── AlbumError                      bad_album          the state of an album is missing or another file
├── TagError                        bad_metadata       metadata of a photograph cannot be read or written
├── AdapterError                    bad_adapter        an adapter is missing, damaged, or of other pipelines
├── ThresholdError                  no_threshold       no threshold is known for that false-accept rate
├── EvaluationError
│   ├── ProtocolError               bad_protocol       a list of pairs or a folder of people cannot be used
│   └── TooFewPairsError            too_few_pairs      the pairs do not support that false-accept rate
├── TrainingError
│   ├── TrainingDataError           bad_data           a folder or tar file cannot be trained on
│   ├── CheckpointError             bad_checkpoint     missing, damaged, or of another run
│   ├── CollapseError               collapse           all embeddings fall together, with the cause
│   ├── DivergedError               diverged           the loss is not a number any more
│   └── ExportError                 bad_export         the exported file does not do what the network does
├── BatchError
│   ├── JournalError                bad_journal        the journal of an unfinished run cannot be used
│   ├── WorkersError                no_workers         the worker processes die before they begin
│   └── RayError                    no_ray             Ray is not installed, or there is no cluster
├── GalleryError
│   ├── GalleryFileError            bad_gallery        missing, or not a gallery of this version
│   ├── GalleryBusyError            gallery_busy       another program holds the gallery
│   ├── GalleryUnreachableError     gallery_lost       the database of the gallery does not answer
│   ├── SignatureError              other_signature    rows of another pipeline
│   ├── UpgradeError                bad_upgrade        the move to other weights cannot proceed
│   ├── KeyFileError                bad_key            the key of a gallery cannot be read
│   ├── MissingKeyError             no_key             the gallery is encrypted, and no key was given
│   ├── WrongKeyError               wrong_key          the key is not the one that the gallery needs
│   ├── BackupError                 bad_backup         a gallery cannot be backed up or restored
│   ├── SealError                   bad_seal           an encrypted value is damaged, or not where it was
│   ├── EncryptionError             bad_encryption     the gallery cannot be encrypted, or already is
│   ├── UnknownPersonError          unknown_person     no person of that name or number is enrolled
│   ├── UnknownFaceError            unknown_face       the person has no face of that number
│   ├── LastFaceError               last_face          the only face of a person cannot be deleted
│   ├── PersonExistsError           person_exists      the new name is taken
│   ├── BadNameError                bad_name           not a valid name of a person
│   ├── BadNoteError                bad_note           not a valid note
│   ├── BadExpiryError              bad_expiry         not a valid day of expiry
│   ├── MassExpiryError             mass_expiry        so many would expire that the clock may be wrong
│   └── FaceTakenError              face_taken         the same face is enrolled under another name
├── ClientError
│   ├── UnreachableError            unreachable        the service does not answer
│   ├── RefusedError                refused            the service answered with an error; `code` is its code
│   └── StrangeAnswerError          strange_answer     the answer is not that of a service of this version
└── ServiceError
    ├── RequestError                bad_request        a missing or wrong field
    ├── UnauthorizedError           unauthorized       a missing, invalid or revoked key
    ├── ForbiddenError              forbidden          not allowed for the key's role or for this page
    ├── NotFoundError               not_found          there is nothing at this address
    ├── BodyTooLargeError           too_large          more bytes or pictures than one request may hold
    ├── RateLimitedError            rate_limited       too many requests in a minute
    ├── BusyError                   busy               the queue of waiting work is full
    ├── NothingEnrolledError        nothing_enrolled   none of the pictures can be used
    └── AccessFileError             bad_access         the file of keys and audit log cannot be used

Errors of one package live there (`sameface.gallery.errors`) and can be imported from here too. Every error keeps
its facts as attributes and has a stable `code`. A fault of the calling code (a wrong shape, an impossible parameter)
is a `ValueError` or a `TypeError` instead; anything else is a bug.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, dataclass_transform

if TYPE_CHECKING:
    from sameface.adapter import AdapterError as AdapterError
    from sameface.albums.regions import TagError as TagError
    from sameface.batch.distributed import RayError as RayError
    from sameface.batch.engine import WorkersError as WorkersError
    from sameface.batch.journal import JournalError as JournalError
    from sameface.client.errors import *  # noqa: F403
    from sameface.evaluation.errors import *  # noqa: F403
    from sameface.face import Face
    from sameface.gallery.errors import *  # noqa: F403
    from sameface.quality import Quality
    from sameface.service.errors import *  # noqa: F403
    from sameface.training.errors import *  # noqa: F403

HOMES = {
    "adapter": ("AdapterError",),
    "albums.regions": ("TagError",),
    "batch.distributed": ("RayError",),
    "batch.engine": ("WorkersError",),
    "batch.journal": ("JournalError",),
    "client.errors": ("RefusedError", "StrangeAnswerError", "UnreachableError"),
    "evaluation.errors": ("ProtocolError", "TooFewPairsError"),
    "gallery.errors": (
        *("BackupError", "BadExpiryError", "BadNameError", "BadNoteError", "EncryptionError", "FaceTakenError"),
        *("GalleryBusyError", "GalleryFileError", "GalleryUnreachableError", "KeyFileError", "LastFaceError"),
        *("MassExpiryError", "MissingKeyError", "PersonExistsError", "SealError", "SignatureError"),
        *("UnknownFaceError", "UnknownPersonError", "UpgradeError", "WrongKeyError"),
    ),
    "service.errors": (
        *("AccessFileError", "BodyTooLargeError", "BusyError", "ForbiddenError", "NotFoundError"),
        *("NothingEnrolledError", "RateLimitedError", "RequestError", "UnauthorizedError"),
    ),
    "training.errors": ("CheckpointError", "CollapseError", "DivergedError", "ExportError", "TrainingDataError"),
}


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class SamefaceError(Exception):
    """A fault that the user can mend; the message says how.

    A subclass is a dataclass of the facts that it declares, and `message` is formatted with them.
    """

    code = "error"
    message = ""

    def __init_subclass__(cls) -> None:
        if inspect.get_annotations(cls):
            dataclass(eq=False, repr=False)(cls)

    def __str__(self) -> str:
        return self.message.format_map(vars(self)) or super().__str__()


class ImageError(SamefaceError):
    """A picture that cannot be read."""

    code = "bad_image"
    message = "cannot read {name}: {reason}"
    name: str
    reason: str


class ImageTooLargeError(ImageError):
    """A picture past the limit on bytes or pixels."""

    code = "image_too_large"
    reason: str = field(init=False)
    unit: str
    size: int
    limit: int

    def __post_init__(self) -> None:
        self.reason = f"it has {self.size:,} {self.unit}, the limit is {self.limit:,} (max_{self.unit})"


class VideoError(SamefaceError):
    """A video, stream or camera that gives no frames."""

    code = "bad_video"
    message = "cannot read {name}: {reason}"
    name: str
    reason: str


class FaceError(SamefaceError):
    """The picture does not hold the one face that was wanted."""

    code = "face"


class NoFaceError(FaceError):
    """No face was found."""

    code = "no_face"
    message = "no face found in {name}"
    name: str


class SeveralFacesError(FaceError):
    """One face was wanted and several were found."""

    code = "several_faces"
    name: str
    faces: Sequence[Face]

    def __str__(self) -> str:
        listed = "; ".join(f"{number}: {face}" for number, face in enumerate(self.faces))
        found = f"{len(self.faces)} faces found in {self.name}"
        return f"{found}, wanted one: choose 'largest', 'first' or a number ({listed})"


class NoSuchFaceError(FaceError):
    """The face asked for by number is not in the picture."""

    code = "no_such_face"
    name: str
    number: int
    count: int

    def __str__(self) -> str:
        existing = "only face 0" if self.count == 1 else f"faces 0 to {self.count - 1}"
        return f"no face {self.number} in {self.name}: it has {existing}"


class PoorFaceError(FaceError):
    """A face of less quality than was asked for."""

    code = "poor_face"
    message = (
        "the face in {name} has a quality of {quality.total:.2f}, wanted {minimum:g} or more: "
        "its {quality.weakest} is worst; take another picture"
    )
    name: str
    quality: Quality
    minimum: float


class WeightsError(SamefaceError):
    """A weights file or its manifest is missing, broken or not the one described."""

    code = "bad_weights"
    message = "weights {name!r}: {reason}"
    name: str
    reason: str


class AlbumError(SamefaceError):
    """The state of an album is missing, another kind of file, or has no such face or group."""

    code = "bad_album"
    message = "album {path!r}: {reason}"
    path: str
    reason: str


class ThresholdError(SamefaceError):
    """The calibration behind the weights is too small for the false-accept rate asked for."""

    code = "no_threshold"
    message = "no threshold is known for {what} {asked:g}: the calibration supports {smallest:.2g} to {largest:.2g}"
    asked: float
    smallest: float
    largest: float
    what: str


class EvaluationError(SamefaceError):
    """The pictures or the list do not allow the measurement."""

    code = "evaluation"


class TrainingError(SamefaceError):
    """A training run cannot start or continue."""

    code = "training"


class BatchError(SamefaceError):
    """The work on many pictures cannot continue."""

    code = "batch"


class GalleryError(SamefaceError):
    """The gallery cannot do what was asked."""

    code = "gallery"


class ClientError(SamefaceError):
    """A service does not do what a client asked it for."""

    code = "client"


class ServiceError(SamefaceError):
    """The service does not accept a request."""

    code = "service"


def __getattr__(name: str) -> object:
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sameface.{home}"), name)
    raise AttributeError(f"module 'sameface.errors' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in HOMES.values() for name in names)])
