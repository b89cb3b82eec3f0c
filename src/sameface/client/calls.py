"""Every call of a service."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import httpx

from sameface.api_json import copy_fields
from sameface.api_records import (
    AuditAnswer,
    ChallengeAnswer,
    DetectAnswer,
    EmbedAnswer,
    EnrollAnswer,
    EntryAnswer,
    FacesAnswer,
    FrameAnswer,
    IdentifyAnswer,
    JobAnswer,
    ModelAnswer,
    PeopleAnswer,
    PersonAnswer,
    ReceiptAnswer,
    ReceiptsAnswer,
    VerifyAnswer,
)
from sameface.client.wire import Picture, Wire, fields, place, upload, uploads
from sameface.face import Choice
from sameface.gallery.records import EnrolledFace, Person, Receipt, Rule

TIMEOUT = 60.0  # seconds without a byte; the service lets a picture wait for 30
PAGE = 200  # people, faces or entries to ask for at a time


class Client:
    """A service, for any number of threads. Close it, or use it in a `with` block.

    A picture is a path, the bytes of a file, or an open binary file. Every method may raise

        UnreachableError     no answer came
        RefusedError         the service answered with an error, whose `code` it has
        StrangeAnswerError   the answer is not that of a service of this version

    and those that send pictures `ImageError` for a file that cannot be read.

    Args:
        http: Has the address and the key, and proxies or certificates. It is closed with the client.
        patience: How many seconds in all to repeat a call while the service is busy; deletions and merges, whose
            repetitions get the receipt of the first, also when no answer came.
    """

    def __init__(self, http: httpx.Client, *, patience: float = 0.0) -> None:
        self._wire = Wire(http, patience=patience)

    @classmethod
    def connect(cls, address: str, key: str | None = None, *, timeout: float = TIMEOUT, patience: float = 0.0) -> Self:
        """Return a client for the service at an address such as `http://127.0.0.1:8000`.

        Args:
            address: The part before `/v1`.
            key: Of `sameface keys add`, or the start-up token; None where the service wants neither.
            timeout: Seconds without a byte.
            patience: As for the class.
        """
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return cls(httpx.Client(base_url=address, headers=headers, timeout=timeout), patience=patience)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def detect(self, picture: Picture) -> DetectAnswer:
        """Find the faces in a picture."""
        return self._wire.ask(DetectAnswer, "POST", place("detect"), files=[upload("picture", picture)])

    def embed(self, picture: Picture) -> EmbedAnswer:
        """Return the embedding of every face in a picture."""
        return self._wire.ask(EmbedAnswer, "POST", place("embed"), files=[upload("picture", picture)])

    def begin_challenge(self) -> ChallengeAnswer:
        """Ask somebody before a camera to turn the head."""
        return self._wire.ask(ChallengeAnswer, "POST", place("challenge"))

    def show_challenge(self, challenge: str, picture: Picture) -> FrameAnswer:
        """Send the next picture of the camera, and return what to do now, or how it ended."""
        files = [upload("picture", picture)]
        return self._wire.ask(FrameAnswer, "POST", place("challenge", challenge), files=files)

    def verify(
        self,
        a: Picture,
        b: Picture,
        *,
        far: float = 1e-3,
        face: Choice | tuple[Choice, Choice] = "only",
        challenge: str | None = None,
    ) -> VerifyAnswer:
        """Decide whether two pictures show the same person.

        Args:
            a: A picture.
            b: Another.
            far: The part of the pairs of different people that may be accepted.
            face: As in `Recognizer.verify`; one choice for both, or a pair.
            challenge: A passed challenge, to be used up: does `a` show the same person?
        """
        face_a, face_b = face if isinstance(face, tuple) else (face, face)
        return self._wire.ask(
            VerifyAnswer,
            "POST",
            place("verify"),
            files=[upload("a", a), upload("b", b)],
            data=fields(face_a=face_a, face_b=face_b, far=far, challenge=challenge),
        )

    def identify(  # noqa: PLR0913, one for each field of the request
        self,
        picture: Picture,
        *,
        k: int = 1,
        rule: Rule | None = None,
        far: float | None = None,
        closed_set: bool = False,
        most: int = 5,
        challenge: str | None = None,
    ) -> IdentifyAnswer:
        """Name every face in a picture, or reject it as a stranger.

        Args:
            picture: The picture.
            k: How many nearest faces vote; more than 1 by the rule `rows` only.
            rule: As in `Gallery.identify`.
            far: The part of the strangers that may be given a name; None takes the service's.
            closed_set: Everyone is enrolled for certain: name the nearest.
            most: How many people to list for each face.
            challenge: A passed challenge, to be used up: which faces are the same person's?
        """
        return self._wire.ask(
            IdentifyAnswer,
            "POST",
            place("identify"),
            files=[upload("picture", picture)],
            data=fields(k=k, rule=rule, far=far, closed_set=closed_set, most=most, challenge=challenge),
        )

    def people(self) -> Iterator[Person]:
        """Yield everybody who is enrolled, by name, page after page."""
        return self._people()

    def find(self, name: str) -> Person | None:
        """Return the person of exactly this name, or None."""
        return next(self._people(name=name), None)

    def person(self, number: int) -> Person:
        """Return one person."""
        return copy_fields(Person, self._wire.ask(PersonAnswer, "GET", place("people", number)))

    def enroll(
        self,
        name: str,
        pictures: Sequence[Picture],
        *,
        faces: Sequence[Choice] = (),
        consent: str | None = None,
        expire_after: str | None = None,
    ) -> EnrollAnswer:
        """Enroll a new person; pictures that cannot be used are listed.

        Args:
            name: Nobody else has it.
            pictures: One or more.
            faces: Which face of each picture; without any the only one of each.
            consent: A note on how and when the person agreed, kept with them.
            expire_after: When the person is to be deleted, as in `expire`; None leaves it to the service.
        """
        return self._wire.ask(
            EnrollAnswer,
            "POST",
            place("people"),
            files=uploads(pictures),
            data=fields(name=name, faces=list(faces) or None, consent=consent, expire_after=expire_after),
        )

    def add_faces(
        self,
        number: int,
        pictures: Sequence[Picture],
        *,
        faces: Sequence[Choice] = (),
        consent: str | None = None,
        expire_after: str | None = None,
    ) -> EnrollAnswer:
        """Add faces to a person who is enrolled; else as `enroll`."""
        return self._wire.ask(
            EnrollAnswer,
            "POST",
            place("people", number, "faces"),
            files=uploads(pictures),
            data=fields(faces=list(faces) or None, consent=consent, expire_after=expire_after),
        )

    def rename(self, number: int, name: str) -> Person:
        """Give a person another name."""
        return self._change(number, {"name": name})

    def note_consent(self, number: int, note: str) -> Person:
        """Keep another note on how and when a person agreed."""
        return self._change(number, {"consent": note})

    def merge(self, number: int, into: int) -> Person:
        """Move every face of a person to another, who is returned; the first is no more."""
        path = place("people", number, "merge")
        return copy_fields(Person, self._wire.ask_once(PersonAnswer, "POST", path, json={"into": into}))

    def expire(self, number: int, expire_after: str) -> Person:
        """Say when a person is to be deleted: `365d`, `2030-01-31` (that day begins in UTC) or `never`."""
        return self._change(number, {"expire_after": expire_after})

    def export_person(self, number: int) -> bytes:
        """Return everything that is held of a person, as a ZIP file to give them."""
        return self._wire.send("GET", place("people", number, "export")).content

    def forget(self, number: int) -> Receipt:
        """Delete a person with every face, for good."""
        return copy_fields(Receipt, self._wire.ask_once(ReceiptAnswer, "DELETE", place("people", number)))

    def receipts(self) -> Iterator[Receipt]:
        """Yield what was deleted, the oldest first, page after page."""
        found = self._pages(ReceiptsAnswer, "receipts", place("receipts"))
        return (copy_fields(Receipt, receipt) for receipt in found)

    def faces(self, number: int) -> Iterator[EnrolledFace]:
        """Yield the faces of a person in the order of enrolment, page after page."""
        found = self._pages(FacesAnswer, "faces", place("people", number, "faces"))
        return (copy_fields(EnrolledFace, face) for face in found)

    def crop(self, number: int, face: int) -> bytes:
        """Return what was cut out for an enrolled face, as a JPEG file, where that is kept."""
        return self._wire.send("GET", place("people", number, "faces", face, "crop")).content

    def forget_face(self, number: int, face: int) -> Receipt:
        """Delete one face of a person, for good; the last one only goes with the person."""
        path = place("people", number, "faces", face)
        return copy_fields(Receipt, self._wire.ask_once(ReceiptAnswer, "DELETE", path))

    def cluster(self, pictures: Sequence[Picture], *, far: float = 3e-4) -> JobAnswer:
        """Begin to sort pictures into groups of one person each.

        Args:
            pictures: An album.
            far: How near the faces of one person must be.
        """
        return self._wire.ask(JobAnswer, "POST", place("cluster"), files=uploads(pictures), data=fields(far=far))

    def job(self, job: str) -> JobAnswer:
        """Return how far a job is; once it is done, with the groups."""
        return self._wire.ask(JobAnswer, "GET", place("jobs", job))

    def wait(self, job: str, *, pause: float = 0.5) -> JobAnswer:
        """Return a job when it has ended, in whatever way; ask every `pause` seconds."""
        while not (found := self.job(job)).ended:
            time.sleep(pause)
        return found

    def forget_job(self, job: str) -> None:
        """Cancel a job, and forget its result."""
        self._wire.send("DELETE", place("jobs", job))

    def model(self) -> ModelAnswer:
        """Return what the service runs on: manifests, thresholds, limits."""
        return self._wire.ask(ModelAnswer, "GET", place("model"))

    def audit(self) -> Iterator[EntryAnswer]:
        """Yield who did what, the latest first, page after page."""
        return self._pages(AuditAnswer, "entries", place("audit"))

    def check_ready(self) -> None:
        """Return if the service can do its work, and raise why not if it cannot."""
        self._wire.send("GET", "/ready")

    def metrics(self) -> str:
        """Return the counters in the text format of Prometheus."""
        return self._wire.send("GET", "/metrics").text

    def _people(self, **query: str) -> Iterator[Person]:
        """Yield people by name, page after page."""
        found = self._pages(PeopleAnswer, "people", place("people"), **query)
        return (copy_fields(Person, person) for person in found)

    def _change(self, number: int, change: dict[str, str]) -> Person:
        """Change a person, and return the result."""
        return copy_fields(Person, self._wire.ask(PersonAnswer, "PATCH", place("people", number), json=change))

    def _pages(self, kind: type, items: str, path: str, **query: str) -> Iterator[Any]:
        """Yield the items of a list, page after page; `items` is their field in a page."""
        after: dict[str, Any] = {}
        while True:
            page: Any = self._wire.ask(kind, "GET", path, params={"limit": PAGE, **query, **after})
            yield from getattr(page, items)
            if page.next is None:
                return
            after = {"after": page.next}
