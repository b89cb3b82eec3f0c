"""`Gallery`: people and their faces, enrolled, searched and deleted, over any back end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Self

from sameface.arrays import Embeddings, Image, expect_unit_rows
from sameface.face import Template
from sameface.gallery import expiry, people, receipts
from sameface.gallery.address import open_backend
from sameface.gallery.backend import Backend, Row, Transaction, undamaged
from sameface.gallery.decision import SearchIndex, SearchOptions, choose_rule, compute_limits, decide, empty_answer
from sameface.gallery.errors import SignatureError, UnknownFaceError, UnknownPersonError, UpgradeError
from sameface.gallery.hash_chain import ChainCheck
from sameface.gallery.keys import NO_KEYS, Keys
from sameface.gallery.names import clean_name, clean_note
from sameface.gallery.people import Who, delete_person
from sameface.gallery.person_templates import TemplateCache, renew_templates
from sameface.gallery.receipts import Deletion
from sameface.gallery.records import EnrolledFace, Identification, Person, Pipeline, Reason, Receipt, Rule
from sameface.gallery.stored_thresholds import read_thresholds, write_thresholds
from sameface.thresholds import Thresholds

SIGNATURE = "SELECT signature FROM pipeline"


class Gallery:
    """People and their faces. Threads may share one; several programs may open the same.

    Methods take a person by name or number (`who`), and raise `UnknownPersonError` if nobody has it. What needs
    the pipeline raises `ValueError` if the gallery was opened without one.
    """

    def __init__(self, database: Backend, pipeline: Pipeline | None, clock: Callable[[], float]) -> None:
        self.path = database.path
        self._db = database
        self._pipeline = pipeline
        self._clock = clock
        self._templates = TemplateCache(database)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        pipeline: Pipeline | None = None,
        *,
        create: bool = True,
        keys: Keys = NO_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open a gallery, or make one that only its owner may read.

        Args:
            path: A file, `postgresql://user@host/database`, or `milvus://host/collection?people=PLACE`.
            pipeline: What makes the embeddings, such as a `Recognizer`. Without it people can be listed,
                renamed, merged and forgotten, but not enrolled or identified, and no gallery is made.
            create: Make it if it is missing.
            keys: Open an encrypted gallery. A new file is encrypted if there is an encryption key.
            clock: Seconds since 1970, for expiry and receipts.

        Raises:
            MissingKeyError, WrongKeyError, KeyFileError: It is encrypted, and the key is not at hand. Without
                a pipeline only methods that touch embeddings or crops need the key.
            EncryptionError: A key was given, but it is not encrypted, or cannot be.
            GalleryFileError: It is missing, not a gallery, of a later version, or has rows turned by a template key.
            GalleryUnreachableError: The database does not answer, or does not let us in.
            GalleryBusyError: Another program kept it locked for 30 seconds.
            SignatureError: Its embeddings were made by another pipeline.
        """
        database = open_backend(os.fspath(path), keys, create=create and pipeline is not None)
        gallery = cls(database, pipeline, clock)
        try:
            if pipeline is not None:
                database.check_key()
                gallery._check_signature(pipeline.signature)
        except BaseException:
            database.close()
            raise
        return gallery

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def thresholds(self) -> Thresholds:
        """The gallery's own thresholds, or else those of the pipeline."""
        own = read_thresholds(self._db)
        return self._need_pipeline().thresholds if own is None else own

    def keep_thresholds(self, thresholds: Thresholds | None) -> None:
        """Keep thresholds in the gallery; None goes back to those of the pipeline."""
        self._need_pipeline()
        with self._db.write() as db:
            write_thresholds(db, thresholds)

    @property
    def origin(self) -> str:
        """The random number of this gallery; its copies share it."""
        [(origin,)] = self._db.read("SELECT origin FROM numbers")
        return str(origin)

    @property
    def signature(self) -> str | None:
        """The signature of the pipeline that made the embeddings; None before the first enrolment."""
        found = self._db.read(SIGNATURE)
        return str(found[0][0]) if found else None

    def people(self, *, limit: int | None = None, after: str = "") -> list[Person]:
        """Return at most `limit` people by name, those whose name comes behind `after`; None means all."""
        return people.list_people(self._db, limit, after)

    def person(self, who: Who) -> Person:
        """Return a person."""
        return people.read_person(self._db, who)

    def count(self) -> tuple[int, int]:
        """Return how many people and how many faces are enrolled."""
        [counts] = self._db.read("SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces)")
        return int(counts[0]), int(counts[1])

    def faces(self, who: Who, *, limit: int | None = None, after: int = 0) -> list[EnrolledFace]:
        """Return at most `limit` faces of a person in the order of enrolment, those behind the face `after`."""
        return people.list_faces(self._db, self.person(who).number, limit, after)

    def crop(self, who: Who, face: int) -> Image | None:
        """Return the crop of a face, or None if it was not kept; `UnknownFaceError` if the face is unknown."""
        return people.read_crop(self._db, self.person(who).number, face)

    def owner_of(self, template: Template) -> str | None:
        """Return whose face is enrolled from this place of this picture, or None."""
        return people.find_owner(self._db.read(people.OWNERS, template.picture), template.box)

    def templates(self, who: Who) -> list[Template]:
        """Return a person's faces with embeddings and crops, in the order of enrolment; it needs the key."""
        return people.read_templates(self._db, self.person(who).number)

    def pictures(self, who: Who) -> list[str]:
        """Return the SHA-256 of every picture of a person's faces."""
        return people.read_pictures(self._db, self.person(who).number)

    def expired(self) -> list[int]:
        """Return the numbers of people who have expired and wait to be deleted."""
        return [person for (person,) in self._db.read(expiry.EXPIRED, self._clock())]

    def holds(self, name: str, picture: str) -> bool:
        """Return whether a face of this person from this picture (its SHA-256) is enrolled."""
        return people.holds_picture(self._db, name, picture)

    def enroll(
        self,
        who: Who,
        templates: Sequence[Template],
        *,
        new: bool = False,
        consent: str | None = None,
        expires: datetime | None = None,
    ) -> int:
        """Enroll faces of one person and return how many were added; on an error none is.

        Faces that are enrolled already from the same picture, whatever the name of its file, are skipped.

        Args:
            who: A name, which makes a new person unless there are no templates, or the number of a person.
            templates: Faces from this gallery's pipeline.
            new: Refuse a name that is enrolled.
            consent: A note on how and when the person agreed; None leaves the note as it is.
            expires: When the person expires: is not named from then on, and is deleted. None leaves it.

        Raises:
            BadNameError, BadNoteError: The name or the note is empty, too long or not text.
            BadExpiryError: `expires` has passed.
            PersonExistsError: The name is enrolled, and `new` is set.
            FaceTakenError: One of the faces is enrolled under another name.
            SignatureError: The gallery was moved to another pipeline since it was opened.
            UpgradeError: The file is an unconfirmed upgrade.
            ValueError: An embedding has another width.
        """
        clean = who if isinstance(who, int) else clean_name(who)
        note = None if consent is None else clean_note(consent)
        over = None if expires is None else expiry.to_seconds(expires, self._clock())
        pipeline = self._need_pipeline()
        with self._change() as db:
            self._compare_signature(db.execute(SIGNATURE).fetchall(), pipeline.signature)
            people.check_width(db, templates)
            if not templates:
                return 0
            known = isinstance(clean, int)
            person = people.find_person(db, clean) if known else people.add_person(db, str(clean), new=new)
            if note is not None:
                people.note_consent(db, person, note)
            if over is not None:
                people.expire_person(db, person, over)
            expiry.note_clock(db, self._clock())
            added = sum(people.add_face(self._db, db, person, face, pipeline.signature) for face in templates)
            renew_templates(self._db, db)
            return added

    def rename(self, old: Who, new: str) -> None:
        """Give a person another name; `PersonExistsError` if it is taken, `BadNameError` as in `enroll`."""
        clean = clean_name(new)
        with self._change() as db:
            people.rename_person(db, old, clean)

    def note_consent(self, who: Who, note: str) -> None:
        """Replace the note on how and when a person agreed; `BadNoteError` if it is empty or too long."""
        clean = clean_note(note)
        with self._change() as db:
            people.note_consent(db, people.find_person(db, who), clean)

    def expire(self, who: Who, expires: datetime | None) -> None:
        """Set when a person expires; None for never.

        From then on the person is not named any more, and `forget_expired` deletes them. `BadExpiryError` if it
        has passed, `ValueError` without a time zone.
        """
        over = None if expires is None else expiry.to_seconds(expires, self._clock())
        with self._change() as db:
            people.expire_person(db, people.find_person(db, who), over)
            expiry.note_clock(db, self._clock())

    def merge(self, source: Who, into: Who) -> Receipt:
        """Move every face of the person `source` to the person `into`, delete `source`, and return the receipt.

        The note on the consent of `into` stays; without one it gets that of `source`. The earlier expiry holds.
        `BadNameError` if both are the same person.
        """
        with self._change() as db:
            merged = people.merge_people(db, source, into)
            with undamaged(self.path, "a receipt"):
                number = receipts.write_merge(db, merged, self._clock())
            self._renew(db)
        return receipts.read_receipt(self._db, number)

    def find_receipt(self, reasons: Collection[Reason], person: int, face: int | None = None) -> Receipt | None:
        """Return the first receipt of a person, or of one of their faces, with one of the reasons, or None."""
        same = (each for each in self.receipts() if (each.person, each.face) == (person, face))
        return next((receipt for receipt in same if receipt.reason in reasons), None)

    def forget(self, who: Who) -> Receipt:
        """Delete a person so that nothing of them stays in the file, and return the receipt, without the name.

        The rows are deleted and overwritten, the file is packed unless it is large (`compact`), and the
        write-ahead log is emptied. The last two also happen if nobody has that name, so the call can be
        repeated. An upgrade that was begun beside the file loses them too. Backups are beyond reach.

        Raises:
            GalleryBusyError: Another program writes, and nothing is deleted; or it holds an older view of the
                file: then the person is deleted, but traces stay until `forget` or `forget_traces` succeeds.
        """
        return self._forget("forget", lambda db: delete_person(db, who))

    def forget_face(self, who: Who, face: int) -> Receipt:
        """Delete one face of a person, as `forget` does; `LastFaceError` if it is the only one."""

        def delete(db: Transaction) -> Deletion:
            gone = people.delete_face(db, who, face)
            self._renew(db)
            return gone

        return self._forget("forget_face", delete)

    def check_expiry(self) -> None:
        """Raise `MassExpiryError` if `forget_expired` needs a confirmation, since the clock may be wrong."""
        expiry.check_expiry(self._db, self._clock())

    def forget_expired(self, *, confirmed: bool = False, people: Collection[int] | None = None) -> list[Receipt]:
        """Delete everybody who has expired, as `forget` does, and return the receipts.

        Traces of earlier deletions go too. The gallery notes the moment of each change, and once a day that of
        this call, to notice a clock that jumps.

        Args:
            confirmed: Skip `check_expiry`.
            people: Delete only these numbers of `expired`; None for all.

        Raises:
            MassExpiryError: Nobody is deleted: the clock is over 30 days after the last entry in the gallery, or
                over 20 people and over a tenth of all would go.
            GalleryBusyError: As in `forget`; `receipts` has the receipts.
        """
        now = self._clock()
        if self._db.is_trial:
            return []  # people deleted from the gallery beside it are deleted here too
        if not self.expired():
            if expiry.needs_note(self._db, now):
                with self._db.write() as db:
                    expiry.note_clock(db, now)
            if receipts.is_unfinished(self._db):
                self.forget_traces()
            return []
        with self._db.write() as db:
            if not confirmed:
                expiry.check_expiry(self._db, now)
            gone = [each for (each,) in db.execute(expiry.EXPIRED, (now,)) if people is None or each in people]
            numbers = [self._write_receipt(db, "expire", delete_person(db, each), now) for each in gone]
            expiry.note_clock(db, now)
        self.forget_traces()
        before = min(numbers, default=1) - 1
        return [receipt for receipt in self.receipts(after=before) if receipt.number in numbers]

    def receipts(self, *, after: int = 0) -> list[Receipt]:
        """Return the receipts of deletions and merges in order, those behind the receipt `after`."""
        return receipts.read_receipts(self._db, after)

    def verify_receipts(self, expected: Collection[str] = ()) -> ChainCheck:
        """Check the hashes of the receipts; hashes in `expected`, kept elsewhere, must be among them."""
        return receipts.verify_receipts(self._db, expected)

    def forget_traces(self) -> None:
        """Pack the file and empty the write-ahead log, so that only live rows are on the disk.

        An entry behind the receipts says that it is done. A file of over 16 MB is not packed, which takes
        long: then receipts are not complete until `compact`. `GalleryBusyError`: as in `forget`.
        """
        self._pack(whole=False)

    def compact(self) -> None:
        """Write the file anew, however large it is, so that no trace of what was deleted stays in it.

        It takes as much memory, and as much space on the disk, as the file is large. Other writers wait.
        `GalleryBusyError`: as in `forget`.
        """
        self._pack(whole=True)

    def identify(
        self,
        rows: Embeddings,
        *,
        k: int = 1,
        far: float | None = None,
        closed_set: bool = False,
        most: int = 5,
        rule: Rule | None = None,
    ) -> list[Identification]:
        """Name each probe, or call it a stranger (open set); one answer a row.

        By the rule `template` a probe is compared with one template per person, the mean of their embeddings.
        By the rule `rows` it is compared with every enrolled face, and the `k` nearest vote. Faces farther
        than the threshold do not vote. Distances to adapted faces, and to means of several, are scaled so
        that the threshold for one face holds for them. Expired people are not found.

        Args:
            rows: `(n, d) float32` unit rows from this gallery's pipeline.
            k: How many nearest faces vote; more than 1 needs the rule `rows`.
            far: The chance that a stranger is given any name (FPIR). The threshold follows from it and from
                the number of templates or faces. None means 1e-2, or the smallest that the calibration
                reaches in a gallery of this size; the answer says which.
            closed_set: The probe is certainly enrolled: name the nearest at any distance.
            most: How many people to return for each probe; the named person is always among them.
            rule: None takes `rows` if `k` is more than 1, else `template`.

        Raises:
            ThresholdError: The calibration does not reach to this `far` in a gallery of this size.
            ValueError: `k` or `most` under 1, `k` over 1 by the rule `template`, rows of another width or length.
        """
        pipeline = self._need_pipeline()
        expect_unit_rows("rows", rows)
        options = SearchOptions(k, most, closed_set, frozenset(self.expired()), choose_rule(rule, k))
        by_person = options.rule == "template"
        index: SearchIndex = (self._templates if by_person else self._db).load(pipeline.signature)
        limits = compute_limits(pipeline.thresholds, index, far)
        answer = empty_answer(limits, options, index.faces)
        if not index.faces:
            return [answer] * len(rows)
        return [decide(near, options, answer) for near in index.search(rows, limits, options)]

    @contextmanager
    def _change(self) -> Iterator[Transaction]:
        """Hold one transaction that changes people or their faces; refuse an unconfirmed upgrade."""
        with self._db.write() as db:
            if self._db.is_trial:
                reason = "it is a trial: change the gallery itself, or confirm it first"
                raise UpgradeError(self.path, reason)
            yield db

    def _forget(self, reason: Reason, delete: Callable[[Transaction], Deletion]) -> Receipt:
        """Delete something, remove its traces, and return the receipt; also remove earlier traces without it."""
        try:
            with self._change() as db:
                number = self._write_receipt(db, reason, delete(db), self._clock())
        except (UnknownPersonError, UnknownFaceError):
            self.forget_traces()
            raise
        self.forget_traces()
        return receipts.read_receipt(self._db, number)

    def _pack(self, *, whole: bool) -> None:
        """Remove traces from memory and files, and write down where they are gone."""
        self._templates.drop_deleted()
        receipts.erase_traces(self._db, self._clock, whole=whole)

    def _renew(self, db: Transaction) -> None:
        """Make deleted templates anew; without the key the next search makes them."""
        if self._pipeline is not None:
            renew_templates(self._db, db)

    def _write_receipt(self, db: Transaction, reason: Reason, gone: Deletion, now: float) -> int:
        """Write down a deletion in its transaction; return the receipt's number."""
        with undamaged(self.path, "a receipt"):
            return receipts.write_receipt(db, reason, gone, now)

    def _check_signature(self, signature: str) -> None:
        """Compare the signature with the gallery's; a new gallery gets it."""
        if not self._db.read(SIGNATURE):
            with self._db.write() as db:
                unsigned = "INSERT INTO pipeline (signature) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM pipeline)"
                db.execute(unsigned, (signature,))
        self._compare_signature(self._db.read(SIGNATURE), signature)

    def _compare_signature(self, found: Sequence[Row], signature: str) -> None:
        """Raise unless the embeddings are of this pipeline: an upgrade may change them at any time."""
        kept = str(found[0][0]) if found else "none"
        if kept != signature:
            raise SignatureError(self.path, kept, signature)

    def _need_pipeline(self) -> Pipeline:
        """Return the pipeline, or raise if the gallery was opened without one."""
        if self._pipeline is None:
            raise ValueError("the gallery was opened without a pipeline: Gallery.open(path, recognizer)")
        return self._pipeline
