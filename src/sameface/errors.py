"""Every error that sameface raises for a fault of the world outside it.

SamefaceError                       code
├── ImageError                      bad_image          not a picture, truncated, unreadable
│   └── ImageTooLargeError          image_too_large    more bytes or pixels than allowed
├── VideoError                      bad_video          no video, damaged, or no such camera
├── FaceError
│   ├── NoFaceError                 no_face            the picture holds no face
│   ├── SeveralFacesError           several_faces      one face was wanted, the picture holds more
│   ├── NoSuchFaceError             no_such_face       the face asked for by number is not there
│   └── PoorFaceError               poor_face          the face is too small, blurred, turned or badly lit
├── WeightsError                    bad_weights        weights file or manifest missing, broken or swapped
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
│   ├── JournalError                bad_journal        what an unfinished run has left cannot be used
│   ├── WorkersError                no_workers         the worker processes die before they begin
│   └── RayError                    no_ray             Ray is not installed, or there is no cluster
├── GalleryError
│   ├── GalleryFileError            bad_gallery        missing, or not a gallery of this version
│   ├── GalleryBusyError            gallery_busy       another program holds the gallery
│   ├── GalleryUnreachableError     gallery_lost       the database of the gallery does not answer
│   ├── SignatureError              other_signature    rows of another pipeline
│   ├── UpgradeError                bad_upgrade        the move to other weights cannot go on
│   ├── KeyFileError                bad_key            the key of a gallery cannot be read
│   ├── MissingKeyError             no_key             the gallery is encrypted, and no key was given
│   ├── WrongKeyError               wrong_key          the key is not the one that the gallery needs
│   ├── BackupError                 bad_backup         a gallery cannot be backed up or restored
│   ├── SealError                   bad_seal           an encrypted value is damaged, or not where it was
│   ├── EncryptionError             bad_encryption     the gallery cannot be encrypted, or is it already
│   ├── UnknownPersonError          unknown_person     nobody of that name or number is enrolled
│   ├── UnknownFaceError            unknown_face       the person has no face of that number
│   ├── LastFaceError               last_face          the only face of a person is not deleted alone
│   ├── PersonExistsError           person_exists      the new name is taken
│   ├── BadNameError                bad_name           not a name that a person can have
│   ├── BadNoteError                bad_note           not a note that is kept with a person
│   ├── BadExpiryError              bad_expiry         not a day on which a person can expire
│   ├── MassExpiryError             mass_expiry        so many would expire that the clock may be wrong
│   └── FaceTakenError              face_taken         this very face is enrolled under another name
├── ClientError
│   ├── UnreachableError            unreachable        no answer comes from the service
│   ├── RefusedError                refused            the service answered with an error; `code` is its code
│   └── StrangeAnswerError          strange_answer     what answered is no service of this version
└── ServiceError
    ├── RequestError                bad_request        a request that does not say what it must
    ├── UnauthorizedError           unauthorized       no key, or one that does not hold
    ├── ForbiddenError              forbidden          the key's role, or the page it comes from, may not
    ├── NotFoundError               not_found          there is nothing at this address
    ├── BodyTooLargeError           too_large          more bytes or pictures than one request may hold
    ├── RateLimitedError            rate_limited       too many requests in a minute
    ├── BusyError                   busy               more work is waiting than is taken on
    ├── NothingEnrolledError        nothing_enrolled   none of the pictures can be used
    └── AccessFileError             bad_access         the file of keys and audit log cannot be used

A fault of the calling code (a wrong shape, an impossible parameter) is a `ValueError` or a `TypeError`
instead; anything else is a bug. Every error keeps its facts as attributes and has a stable `code`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sameface.face import Face
    from sameface.quality import Quality


class SamefaceError(Exception):
    """A fault that the user can mend; the message says how."""

    code = "error"


class ImageError(SamefaceError):
    """A picture that cannot be read."""

    code = "bad_image"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.name = name
        self.reason = reason


class ImageTooLargeError(ImageError):
    """A picture past the limit on bytes or pixels."""

    code = "image_too_large"

    def __init__(self, name: str, unit: str, size: int, limit: int) -> None:
        super().__init__(name, f"it has {size:,} {unit}, the limit is {limit:,} (max_{unit})")
        self.unit = unit
        self.size = size
        self.limit = limit


class VideoError(SamefaceError):
    """A video, stream or camera that gives no frames."""

    code = "bad_video"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.name = name
        self.reason = reason


class FaceError(SamefaceError):
    """The picture does not hold the one face that was wanted."""

    code = "face"


class NoFaceError(FaceError):
    """No face was found."""

    code = "no_face"

    def __init__(self, name: str) -> None:
        super().__init__(f"no face found in {name}")
        self.name = name


class SeveralFacesError(FaceError):
    """One face was wanted and several were found."""

    code = "several_faces"

    def __init__(self, name: str, faces: Sequence[Face]) -> None:
        listed = "; ".join(f"{number}: {face}" for number, face in enumerate(faces))
        super().__init__(
            f"{len(faces)} faces found in {name}, wanted one: choose 'largest', 'first' or a number ({listed})"
        )
        self.name = name
        self.faces = tuple(faces)


class NoSuchFaceError(FaceError):
    """The face asked for by number is not in the picture."""

    code = "no_such_face"

    def __init__(self, name: str, number: int, count: int) -> None:
        last = "only face 0" if count == 1 else f"faces 0 to {count - 1}"
        super().__init__(f"no face {number} in {name}: it has {last}")
        self.name = name
        self.number = number
        self.count = count


class PoorFaceError(FaceError):
    """A face of less quality than was asked for."""

    code = "poor_face"

    def __init__(self, name: str, quality: Quality, minimum: float) -> None:
        super().__init__(
            f"the face in {name} has a quality of {quality.total:.2f}, wanted {minimum:g} or more: "
            f"its {quality.weakest} is worst; take another picture"
        )
        self.name = name
        self.quality = quality
        self.minimum = minimum


class WeightsError(SamefaceError):
    """A weights file or its manifest is missing, broken or not the one described."""

    code = "bad_weights"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"weights {name!r}: {reason}")
        self.name = name
        self.reason = reason


class AdapterError(SamefaceError):
    """An adapter is missing, damaged or made for other pipelines."""

    code = "bad_adapter"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"adapter {path!r}: {reason}")
        self.path = path
        self.reason = reason


class ThresholdError(SamefaceError):
    """The calibration behind the weights is too small for the false-accept rate asked for."""

    code = "no_threshold"

    def __init__(self, asked: float, smallest: float, largest: float, what: str) -> None:
        super().__init__(
            f"no threshold is known for {what} {asked:g}: the calibration supports {smallest:.2g} to {largest:.2g}"
        )
        self.asked = asked
        self.smallest = smallest
        self.largest = largest


class EvaluationError(SamefaceError):
    """The pictures or the list do not allow the measurement."""

    code = "evaluation"


class ProtocolError(EvaluationError):
    """A list of pairs, a table or a folder of people that cannot be used."""

    code = "bad_protocol"

    def __init__(self, path: str, reason: str, line: int | None = None) -> None:
        place = repr(path) if line is None else f"{path!r}, line {line}"
        super().__init__(f"cannot use {place}: {reason}")
        self.path = path
        self.reason = reason
        self.line = line


class TooFewPairsError(EvaluationError):
    """Too few pairs of different people stand behind a false-accept rate; nothing is extrapolated."""

    code = "too_few_pairs"

    def __init__(self, far: float, impostors: int, fewest: int) -> None:
        needed = math.ceil(fewest / far)
        super().__init__(
            f"a false-accept rate of {far:g} needs {needed:,} pairs of different people or more "
            f"({fewest} accepts), there are {impostors:,}"
        )
        self.far = far
        self.impostors = impostors
        self.fewest = fewest
        self.needed = needed


class TrainingError(SamefaceError):
    """A training run cannot start or go on."""

    code = "training"


class TrainingDataError(TrainingError):
    """A folder or tar file cannot be trained on."""

    code = "bad_data"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot train on {source}: {reason}")
        self.source = source
        self.reason = reason


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or does not belong to this run."""

    code = "bad_checkpoint"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"checkpoint {path!r}: {reason}")
        self.path = path
        self.reason = reason


class CollapseError(TrainingError):
    """All embeddings fall together."""

    code = "collapse"

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"collapse at step {step}: {cause}")
        self.step = step
        self.cause = cause


class DivergedError(TrainingError):
    """The loss is not a number any more."""

    code = "diverged"

    def __init__(self, step: int, batch: str) -> None:
        super().__init__(
            f"the loss is not a number at step {step}; the batch is saved in {batch!r}: "
            "go on from the last checkpoint with a lower --learning-rate"
        )
        self.step = step
        self.batch = batch


class ExportError(TrainingError):
    """The exported file does not do what the network does."""

    code = "bad_export"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot export {path!r}: {reason}")
        self.path = path
        self.reason = reason


class BatchError(SamefaceError):
    """The work on many pictures cannot go on."""

    code = "batch"


class JournalError(BatchError):
    """The file that keeps what an unfinished run has done is something else, in use, or cannot be written."""

    code = "bad_journal"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot keep what is done in {path!r}: {reason}")
        self.path = path
        self.reason = reason


class WorkersError(BatchError):
    """A worker process ended before it could begin."""

    code = "no_workers"

    def __init__(self, workers: int) -> None:
        super().__init__(
            f"one of {workers} worker processes ended before it began: is there memory enough? try fewer --workers"
        )
        self.workers = workers


class RayError(BatchError):
    """Ray is not installed, or there is no cluster at the address."""

    code = "no_ray"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot use the Ray cluster {address!r}: {reason}")
        self.address = address
        self.reason = reason


class GalleryError(SamefaceError):
    """The gallery cannot do what was asked."""

    code = "gallery"


class GalleryFileError(GalleryError):
    """The gallery file is missing, or it is not a gallery that this version reads."""

    code = "bad_gallery"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"gallery {path!r}: {reason}")
        self.path = path
        self.reason = reason


class GalleryBusyError(GalleryError):
    """Another program holds the gallery for longer than we wait."""

    code = "gallery_busy"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"gallery {path!r} is in use: {reason}")
        self.path = path
        self.reason = reason


class GalleryUnreachableError(GalleryError):
    """The database that holds the gallery does not answer, or does not let us in."""

    code = "gallery_lost"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"gallery {path!r} cannot be reached: {reason}")
        self.path = path
        self.reason = reason


class SignatureError(GalleryError):
    """The rows of the gallery were made by another pipeline and cannot be compared with ours."""

    code = "other_signature"

    def __init__(self, path: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"gallery {path!r} was made with pipeline {theirs}; this is {ours}: "
            "use the weights and options it was made with (`--weights resnet29`, the default up to version "
            "0.1.0), move it with `sameface gallery upgrade`, or enroll again into a new gallery"
        )
        self.path = path
        self.theirs = theirs
        self.ours = ours


class UpgradeError(GalleryError):
    """The move of a gallery to other weights cannot go on as asked."""

    code = "bad_upgrade"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot upgrade {path!r}: {reason}")
        self.path = path
        self.reason = reason


class KeyFileError(GalleryError):
    """The key of a gallery cannot be read from where it is said to be."""

    code = "bad_key"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot take a key from {source}: {reason}")
        self.source = source
        self.reason = reason


class MissingKeyError(GalleryError):
    """The gallery is encrypted, and no key was given."""

    code = "no_key"

    def __init__(self, path: str, fingerprint: str) -> None:
        super().__init__(
            f"gallery {path!r} is encrypted with key {fingerprint}: give it with --key-file, "
            "SAMEFACE_GALLERY_KEY or SAMEFACE_GALLERY_KEY_COMMAND"
        )
        self.path = path
        self.fingerprint = fingerprint


class WrongKeyError(GalleryError):
    """The key is not the one that the gallery needs; keys are told by their fingerprints."""

    code = "wrong_key"

    def __init__(self, path: str, wanted: str, given: str) -> None:
        super().__init__(f"gallery {path!r} needs key {wanted}, given {given}")
        self.path = path
        self.wanted = wanted
        self.given = given


class BackupError(GalleryError):
    """A gallery cannot be backed up, or a backup cannot be restored; nothing is changed."""

    code = "bad_backup"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot back up or restore {path!r}: {reason}")
        self.path = path
        self.reason = reason


class SealError(GalleryError):
    """An encrypted value is not what was written there."""

    code = "bad_seal"

    def __init__(self, path: str, place: str) -> None:
        super().__init__(
            f"gallery {path!r}: the encrypted {place} is damaged, or was moved there from elsewhere: take a backup"
        )
        self.path = path
        self.place = place


class EncryptionError(GalleryError):
    """The gallery is not in a state in which this can be done to its encryption."""

    code = "bad_encryption"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"gallery {path!r}: {reason}")
        self.path = path
        self.reason = reason


class UnknownPersonError(GalleryError):
    """Nobody of that name is enrolled."""

    code = "unknown_person"

    def __init__(self, name: str | int) -> None:
        called = f"number {name}" if isinstance(name, int) else f"named {name!r}"
        super().__init__(f"nobody {called} is enrolled")
        self.name = name


class UnknownFaceError(GalleryError):
    """The person has no such face."""

    code = "unknown_face"

    def __init__(self, number: int) -> None:
        super().__init__(f"the person has no face number {number}")
        self.number = number


class LastFaceError(GalleryError):
    """The only face of a person cannot be deleted without the person."""

    code = "last_face"

    def __init__(self, number: int) -> None:
        super().__init__(f"face number {number} is the only one of this person: delete the person instead")
        self.number = number


class PersonExistsError(GalleryError):
    """The new name belongs to another person."""

    code = "person_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"a person named {name!r} is enrolled already: merge the two instead")
        self.name = name


class BadNameError(GalleryError):
    """A name that nobody can be enrolled under."""

    code = "bad_name"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot use the name {name!r}: {reason}")
        self.name = name
        self.reason = reason


class BadNoteError(GalleryError):
    """A note on a person's consent that cannot be kept."""

    code = "bad_note"

    def __init__(self, note: str, reason: str) -> None:
        super().__init__(f"cannot keep the note {note[:40]!r}: {reason}")
        self.note = note
        self.reason = reason


class BadExpiryError(GalleryError):
    """A day on which a person cannot expire."""

    code = "bad_expiry"

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(f"nobody can expire at {given[:40]!r}: {reason}")
        self.given = given
        self.reason = reason


class MassExpiryError(GalleryError):
    """A deletion of expired people that a wrong clock may have caused, and that somebody must confirm."""

    code = "mass_expiry"

    def __init__(self, path: str, people: int, reason: str) -> None:
        super().__init__(
            f"gallery {path!r}: the time of {people} of its people is over, but nobody is deleted: {reason}; "
            "if the clock is right, confirm with `sameface forget --expired --yes`"
        )
        self.path = path
        self.people = people
        self.reason = reason


class FaceTakenError(GalleryError):
    """The face of this picture is enrolled under another name."""

    code = "face_taken"

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(
            f"cannot enroll this face as {name!r}: the same face of the same picture is enrolled as {owner!r}"
        )
        self.name = name
        self.owner = owner


class ClientError(SamefaceError):
    """A service does not do what a client asked it for."""

    code = "client"


class UnreachableError(ClientError):
    """No answer comes from the service."""

    code = "unreachable"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no answer from {address}: {reason}")
        self.address = address
        self.reason = reason


class RefusedError(ClientError):
    """The service answered with an error, whose code this takes over."""

    code = "refused"

    def __init__(
        self, status: int, code: str, message: str, detail: dict[str, Any], headers: Mapping[str, str]
    ) -> None:
        self.headers = {name.lower(): value for name, value in headers.items()}
        super().__init__(f"{message} (status {status}, request {self.request_id})")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail

    @property
    def request_id(self) -> str | None:
        """What the service's log calls the request."""
        return self.headers.get("x-request-id")

    @property
    def retry_after(self) -> int:
        """After how many seconds it is worth while to try again; 0 if the service does not say."""
        given = self.headers.get("retry-after", "")
        return int(given) if given.isdecimal() else 0


class StrangeAnswerError(ClientError):
    """What answered is no service, or one of another version."""

    code = "strange_answer"

    def __init__(self, address: str, status: int) -> None:
        super().__init__(
            f"the answer of {address} (status {status}) is not that of a sameface service of this version: "
            "check the address, and what stands between"
        )
        self.address = address
        self.status = status


class ServiceError(SamefaceError):
    """The service does not take on a request."""

    code = "service"


class RequestError(ServiceError):
    """A request that does not say what it must."""

    code = "bad_request"

    def __init__(self, reason: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        listed = "; ".join(f"{field}: {problem}" for field, problem in problems)
        super().__init__(f"{reason}: {listed}" if listed else reason)
        self.reason = reason
        self.problems = tuple(problems)


class UnauthorizedError(ServiceError):
    """No key, or one that does not hold."""

    code = "unauthorized"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: send a key as `Authorization: Bearer sf_...`")
        self.reason = reason


class ForbiddenError(ServiceError):
    """Whoever asks may not do this."""

    code = "forbidden"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotFoundError(ServiceError):
    """There is nothing at this address."""

    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no {what} here")
        self.what = what


class BodyTooLargeError(ServiceError):
    """More bytes or pictures than one request may hold."""

    code = "too_large"

    def __init__(self, unit: str, limit: int) -> None:
        super().__init__(f"the request holds over {limit:,} {unit}: send fewer at a time")
        self.unit = unit
        self.limit = limit


class RateLimitedError(ServiceError):
    """Too many requests in a minute."""

    code = "rate_limited"

    def __init__(self, limit: int, seconds: int) -> None:
        super().__init__(f"over {limit} requests in a minute: try again in {seconds} s")
        self.limit = limit
        self.seconds = seconds


class BusyError(ServiceError):
    """More work is waiting than is taken on."""

    code = "busy"

    def __init__(self, reason: str, seconds: int = 1) -> None:
        super().__init__(f"{reason}: try again in {seconds} s")
        self.reason = reason
        self.seconds = seconds


class NothingEnrolledError(ServiceError):
    """None of the pictures can be used."""

    code = "nothing_enrolled"

    def __init__(self, reasons: Sequence[tuple[str, SamefaceError]]) -> None:
        listed = "; ".join(dict.fromkeys(str(reason) for _, reason in reasons))
        super().__init__(f"nobody was enrolled, no picture can be used: {listed}")
        self.reasons = tuple(reasons)


class AccessFileError(ServiceError):
    """The file of keys and audit log cannot be used."""

    code = "bad_access"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"keys {path!r}: {reason}")
        self.path = path
        self.reason = reason
