"""The gallery: who is enrolled, and who is this, over any back end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self

from sameface.arrays import Embeddings, Image, expect_unit_rows
from sameface.face import Template
from sameface.gallery.address import open_backend
from sameface.gallery.backend import Backend, Row, Transaction, undamaged
from sameface.gallery.errors import (
    GalleryBusyError,
    SignatureError,
    UnknownFaceError,
    UnknownPersonError,
    UpgradeError,
)
from sameface.gallery.expiry import check_expiry, needs_note, note_clock, to_seconds
from sameface.gallery.faces import BOX, OWNERS, add_face, check_width, find_owner, read_template
from sameface.gallery.hash_chain import ChainCheck
from sameface.gallery.keys import NO_KEYS, Keys
from sameface.gallery.names import clean_name, clean_note
from sameface.gallery.people import (
    EXPIRED,
    Who,
    add_person,
    delete_face,
    delete_person,
    expire_person,
    find_person,
    list_faces,
    list_people,
    merge_people,
    note_consent,
    read_crop,
    read_person,
    rename_person,
)
from sameface.gallery.person_templates import TemplateCache, renew_templates
from sameface.gallery.receipts import (
    Deletion,
    is_unfinished,
    last_number,
    read_receipt,
    read_receipts,
    verify_receipts,
    write_erasure,
    write_merge,
    write_receipt,
)
from sameface.gallery.records import EnrolledFace, Identification, Person, Pipeline, Reason, Receipt, Rule
from sameface.gallery.search import SearchIndex, SearchOptions, choose_rule, compute_limits, decide, empty_answer
from sameface.gallery.thresholds import read_thresholds, write_thresholds
from sameface.gallery.upgrade import erase_in_upgrade
from sameface.thresholds import Thresholds

SIGNATURE = "SELECT signature FROM pipeline"


class Gallery:
    """People and their faces. Threads may share one; several programs may open the same."""

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
            pipeline: Who makes the rows, such as a `Recognizer`. Without it people can be listed, renamed,
                merged and forgotten, but not enrolled or identified, and no new gallery is made.
            create: Make it if it is not there.
            keys: What opens it. A file that is made with an encryption key is encrypted from the first.
            clock: Seconds since 1970, for who expires and for receipts.

        Raises:
            MissingKeyError, WrongKeyError, KeyFileError: It is encrypted, and the key is not at hand. Without
                a pipeline no key is needed for what touches neither embeddings nor crops.
            EncryptionError: A key was given, but it is not encrypted, or cannot be.
            GalleryFileError: It is missing, not a gallery, of a later version, or its rows are turned by a
                template key, which versions up to 0.1.0 did.
            GalleryUnreachableError: The database does not answer, or does not let us in.
            GalleryBusyError: Another program kept it locked for 30 seconds.
            SignatureError: Its rows were made by another pipeline.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def thresholds(self) -> Thresholds:
        """Which distance means "same": the gallery's own thresholds, or else those of the pipeline."""
        own = read_thresholds(self._db)
        return self._need_pipeline().thresholds if own is None else own

    def keep_thresholds(self, thresholds: Thresholds | None) -> None:
        """Keep thresholds in the file; None goes back to those of the pipeline.

        Raises:
            ValueError: The gallery was opened without a pipeline.
        """
        self._need_pipeline()
        with self._db.write() as db:
            write_thresholds(db, thresholds)

    @property
    def origin(self) -> str:
        """What tells the numbers of this gallery from those of any other; its copies share it."""
        [(origin,)] = self._db.read("SELECT origin FROM numbers")
        return str(origin)

    @property
    def signature(self) -> str | None:
        """Which pipeline made the rows; None as long as nobody was ever enrolled."""
        found = self._db.read(SIGNATURE)
        return str(found[0][0]) if found else None

    def people(self, *, limit: int | None = None, after: str = "") -> list[Person]:
        """Return who is enrolled, by name.

        Args:
            limit: How many at most; None means everyone.
            after: Only those whose name comes behind this one.
        """
        return list_people(self._db, limit, after)

    def person(self, who: Who) -> Person:
        """Return the person of this name or number.

        Raises:
            UnknownPersonError: Nobody like that is enrolled.
        """
        return read_person(self._db, who)

    def count(self) -> tuple[int, int]:
        """Return how many people and how many faces are enrolled."""
        [counts] = self._db.read("SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces)")
        return int(counts[0]), int(counts[1])

    def faces(self, who: Who, *, limit: int | None = None, after: int = 0) -> list[EnrolledFace]:
        """Return a person's faces in the order of enrolment.

        Args:
            who: The person, by name or number.
            limit: How many at most; None means all.
            after: Only those behind the face of this number.

        Raises:
            UnknownPersonError: Nobody like that is enrolled.
        """
        return list_faces(self._db, self.person(who).number, limit, after)

    def crop(self, who: Who, face: int) -> Image | None:
        """Return what was cut out of the picture of a face, or None if that was not kept.

        Raises:
            UnknownPersonError, UnknownFaceError: There is no such person, or the face is not theirs.
        """
        return read_crop(self._db, self.person(who).number, face)

    def owner_of(self, template: Template) -> str | None:
        """Return whose face is enrolled from this place of this picture, or None."""
        return find_owner(self._db.read(OWNERS, template.picture), template.box)

    def templates(self, who: Who) -> list[Template]:
        """Return the enrolled faces of a person, in the order of enrolment.

        Raises:
            UnknownPersonError: Nobody of that name or number is enrolled.
            MissingKeyError, WrongKeyError, KeyFileError: They are encrypted, and the key is not at hand.
        """
        person = self.person(who).number
        query = f"""SELECT faces.id, {self._db.row_column}, crop, sha256, {", ".join(BOX)}, score FROM faces
                    JOIN pictures ON pictures.id = picture_id WHERE person_id = ? ORDER BY faces.id"""
        with self._db.snapshot():
            found = self._db.read(query, person)
            rows = self._db.decode_rows([number for number, *_ in found], [row for _, row, *_ in found])
            return [
                self._decode_template(number, row, crop, tuple(face))
                for (number, _, crop, *face), row in zip(found, rows, strict=True)
            ]

    def pictures(self, who: Who) -> list[str]:
        """Return the SHA-256 of every picture that a face of a person is from.

        Raises:
            UnknownPersonError: Nobody like that is enrolled.
        """
        query = """SELECT DISTINCT sha256 FROM pictures JOIN faces ON picture_id = pictures.id
                   WHERE person_id = ? ORDER BY sha256"""
        return [sha256 for (sha256,) in self._db.read(query, self.person(who).number)]

    def expired(self) -> list[int]:
        """Return the numbers of the people whose time is over, who wait to be deleted."""
        return [person for (person,) in self._db.read(EXPIRED, self._clock())]

    def holds(self, name: str, picture: str) -> bool:
        """Return whether a face of this person from this picture (its SHA-256) is enrolled."""
        query = """SELECT 1 FROM faces JOIN people ON people.id = person_id
                   JOIN pictures ON pictures.id = picture_id WHERE name = ? AND sha256 = ?"""
        return bool(self._db.read(query, clean_name(name), picture))

    def enroll(
        self,
        who: Who,
        templates: Sequence[Template],
        *,
        new: bool = False,
        consent: str | None = None,
        expires: datetime | None = None,
    ) -> int:
        """Enroll faces of one person, all of them or, on an error, none.

        A face of a picture that is already enrolled for this person is passed over, whatever the file is
        called.

        Args:
            who: The person; a new name makes a new person, except with no templates. A number stands for
                somebody who is enrolled.
            templates: Faces from this gallery's pipeline.
            new: There must be nobody of this name yet.
            consent: A note on how and when the person agreed, kept with them; None leaves what is there.
            expires: From when on the person is not named any more, and is deleted; None leaves what is there.

        Returns:
            How many faces were added.

        Raises:
            BadNameError: The name is empty, too long or not text.
            BadNoteError: The note is.
            BadExpiryError: `expires` has passed.
            PersonExistsError: There is somebody of this name, and `new` is set.
            UnknownPersonError: Nobody has this number.
            FaceTakenError: One of the faces is enrolled under another name.
            SignatureError: The gallery was moved to another pipeline since it was opened.
            UpgradeError: The file is an upgrade that nobody confirmed yet.
            ValueError: The gallery was opened without a pipeline, or an embedding has another width.
        """
        clean = who if isinstance(who, int) else clean_name(who)
        note = None if consent is None else clean_note(consent)
        over = None if expires is None else to_seconds(expires, self._clock())
        pipeline = self._need_pipeline()
        with self._change() as db:
            self._compare_signature(db.execute(SIGNATURE).fetchall(), pipeline.signature)
            check_width(db, templates)
            if not templates:
                return 0
            known = isinstance(clean, int)
            person = find_person(db, clean) if known else add_person(db, str(clean), new=new)
            if note is not None:
                note_consent(db, person, note)
            if over is not None:
                expire_person(db, person, over)
            note_clock(db, self._clock())
            encode = partial(self._encode_face, pipeline.signature)
            added = sum(add_face(db, person, template, encode) for template in templates)
            renew_templates(self._db, db)
            return added

    def rename(self, old: Who, new: str) -> None:
        """Give a person another name.

        Raises:
            UnknownPersonError: Nobody has the name or number `old`.
            PersonExistsError: Somebody else is called `new`.
            BadNameError: `new` is empty, too long or not text.
        """
        clean = clean_name(new)
        with self._change() as db:
            rename_person(db, old, clean)

    def note_consent(self, who: Who, note: str) -> None:
        """Keep a note on how and when a person agreed, in the place of the one before.

        Raises:
            UnknownPersonError: Nobody has this name or number.
            BadNoteError: It is empty, too long or not text.
        """
        clean = clean_note(note)
        with self._change() as db:
            note_consent(db, find_person(db, who), clean)

    def expire(self, who: Who, expires: datetime | None) -> None:
        """Keep when a person's time is over; None for never.

        From then on they are not named any more. `forget_expired` deletes them.

        Raises:
            UnknownPersonError: Nobody has this name or number.
            BadExpiryError: It has passed.
            ValueError: It has no time zone.
        """
        over = None if expires is None else to_seconds(expires, self._clock())
        with self._change() as db:
            expire_person(db, find_person(db, who), over)
            note_clock(db, self._clock())

    def merge(self, source: Who, into: Who) -> Receipt:
        """Move every face of the person `source` to the person `into`; `source` is no more.

        The note on the consent of `into` stays; where there is none, that of `source` moves too. Of two days
        on which they expire, the earlier holds.

        Returns:
            The receipt, which is kept in the gallery, without names; `faces` says how many moved.

        Raises:
            UnknownPersonError: One of the two is not enrolled.
            BadNameError: Both are the same person.
        """
        with self._change() as db:
            merged = merge_people(db, source, into)
            with undamaged(self.path, "a receipt"):
                number = write_merge(db, merged, self._clock())
            self._renew(db)
        return read_receipt(self._db, number)

    def find_receipt(self, reasons: Collection[Reason], person: int, face: int | None = None) -> Receipt | None:
        """Return the receipt of what was done to a person, or to a face of theirs; None if there is none."""
        same = (
            receipt
            for receipt in self.receipts()
            if (receipt.person, receipt.face) == (person, face) and receipt.reason in reasons
        )
        return next(same, None)

    def forget(self, who: Who) -> Receipt:
        """Delete a person so that nothing of them stays in the file.

        The rows are deleted and overwritten, the file is packed unless it is large (`compact`), and the
        write-ahead log is emptied; the last two also if nobody has that name, so that the call can be
        repeated. An upgrade that was begun beside the file loses them too. Copies of the file, such as
        backups, are beyond our reach.

        Returns:
            The receipt, which is kept in the gallery, without the name.

        Raises:
            UnknownPersonError: Nobody of that name or number is enrolled.
            GalleryBusyError: Another program writes, and nothing is deleted; or it holds an older view of the
                file: then the person is deleted, but traces stay until `forget` or `forget_traces` succeeds.
        """
        try:
            with self._change() as db:
                number = self._write_receipt(db, "forget", delete_person(db, who), self._clock())
        except UnknownPersonError:
            self.forget_traces()
            raise
        self.forget_traces()
        return read_receipt(self._db, number)

    def check_expiry(self) -> None:
        """Raise if `forget_expired` needs to be confirmed, since the clock may be wrong.

        Raises:
            MassExpiryError: The clock is over 30 days after the last entry in the gallery, or over 20 people
                and over a tenth of all would be deleted at once.
        """
        check_expiry(self._db, self._clock())

    def forget_expired(self, *, confirmed: bool = False, people: Collection[int] | None = None) -> list[Receipt]:
        """Delete everybody whose time is over, as `forget` does, and return the receipts.

        If an earlier deletion left traces, they are deleted. The gallery notes the moment of each change, and
        once a day that of this call, so that a clock that jumps is noticed.

        Args:
            confirmed: Also where `check_expiry` raises.
            people: The numbers of those who may be deleted, of `expired`; None for all.

        Raises:
            MassExpiryError: As in `check_expiry`; nobody is deleted.
            GalleryBusyError: As in `forget`; the receipts of who was deleted are among `receipts`.
        """
        now = self._clock()
        if self._db.is_trial:
            return []  # whoever goes from the gallery beside it goes from here too
        if not self._db.read(EXPIRED, now):
            if needs_note(self._db, now):
                with self._db.write() as db:
                    note_clock(db, now)
            if is_unfinished(self._db):
                self.forget_traces()
            return []
        with self._db.write() as db:
            if not confirmed:
                check_expiry(self._db, now)
            expired = [person for (person,) in db.execute(EXPIRED, (now,)).fetchall()]
            gone = [person for person in expired if people is None or person in people]
            numbers = [self._write_receipt(db, "expire", delete_person(db, person), now) for person in gone]
            note_clock(db, now)
        self.forget_traces()
        before = min(numbers, default=1) - 1
        return [receipt for receipt in self.receipts(after=before) if receipt.number in numbers]

    def receipts(self, *, after: int = 0) -> list[Receipt]:
        """Return what was deleted in this gallery, in order; only those behind the receipt `after`."""
        return read_receipts(self._db, after)

    def verify_receipts(self, expected: Collection[str] = ()) -> ChainCheck:
        """Return whether the receipts are as they were written, as far as their hashes tell.

        Args:
            expected: Hashes that were kept elsewhere, and must be among them.
        """
        return verify_receipts(self._db, expected)

    def forget_face(self, who: Who, face: int) -> Receipt:
        """Delete one face of a person so that nothing of it stays in the file; repeatable, as `forget` is.

        Raises:
            UnknownPersonError, UnknownFaceError: There is no such person, or the face is not theirs.
            LastFaceError: The person has no other.
            GalleryBusyError: As in `forget`.
        """
        try:
            with self._change() as db:
                number = self._write_receipt(db, "forget_face", delete_face(db, who, face), self._clock())
                self._renew(db)
        except UnknownFaceError:
            self.forget_traces()
            raise
        self.forget_traces()
        return read_receipt(self._db, number)

    def forget_traces(self) -> None:
        """Pack the file and empty the write-ahead log, so that only live rows are on the disk.

        That it is done is written down behind the receipts of what was deleted. A file of over 16 MB is not
        packed, since that takes long: then receipts are not complete until `compact`.

        Raises:
            GalleryBusyError: Another program holds an older view of the file.
        """
        self._pack(whole=False)

    def compact(self) -> None:
        """Write the file anew, however large it is, so that no trace of what was deleted stays in it.

        It takes as much memory, and as much space on the disk, as the file is large. Others who write wait.

        Raises:
            GalleryBusyError: Another program holds an older view of the file.
        """
        self._pack(whole=True)

    def _pack(self, *, whole: bool) -> None:
        """Remove traces, and write down where they are gone."""
        through = last_number(self._db)
        if not self._db.pack(whole=whole):
            reason = "who was deleted leaves traces in it until another program is done: forget again"
            raise GalleryBusyError(self.path, reason)
        self._templates.drop_deleted()
        places = self._db.packed_places()
        if self._db.file is not None:
            places |= erase_in_upgrade(self._db.file, whole=whole)
        with self._db.write() as db, undamaged(self.path, "a receipt"):
            write_erasure(db, through, places, self._clock())

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
        """Say who each probe is.

        A probe is compared with one template per person, the mean of their embeddings: one wrong or poor
        picture among them counts little. By the rule `rows` it is compared with every enrolled face, and the
        `k` nearest vote. What is farther than the threshold does not count; a probe that nothing is near
        enough to is a stranger (open set). The distance to a face that an adapter moved here, and that to a
        mean of several faces, is scaled so that the threshold for one face holds for it. Who has expired is
        passed over.

        Args:
            rows: `(n, d) float32` unit rows from this gallery's pipeline.
            k: How many nearest faces vote; more than 1 needs the rule `rows`.
            far: The chance that a stranger is given any name (FPIR). The threshold follows from it and from
                the number of templates or faces. None means 1e-2, or the smallest that the calibration
                reaches in a gallery of this size; the answer says which.
            closed_set: The probe is certainly enrolled: name the nearest at any distance.
            most: How many people to return for each probe. Whom the votes name is always among them.
            rule: `template` or `rows`; None takes `rows` if `k` is more than 1, else `template`.

        Returns:
            One answer for each row. In an empty gallery everyone is a stranger.

        Raises:
            ThresholdError: The calibration does not reach to this `far` in a gallery of this size.
            ValueError: `k` or `most` under 1, `k` over 1 by the rule `template`, rows of another width or
                length, or no pipeline.
        """
        pipeline = self._need_pipeline()
        expect_unit_rows("rows", rows)
        options = SearchOptions(k, most, closed_set, frozenset(self.expired()), choose_rule(rule, k))
        by_person = options.rule == "template"
        known: SearchIndex = (self._templates if by_person else self._db).load(pipeline.signature)
        limits = compute_limits(pipeline.thresholds, known, far)
        answer = empty_answer(limits, options, known.faces)
        if not known.faces:
            return [answer] * len(rows)
        return [decide(near, options, answer) for near in known.search(rows, limits, options)]

    @contextmanager
    def _change(self) -> Iterator[Transaction]:
        """Hold one transaction that changes people or their faces.

        Raises:
            UpgradeError: It is an upgrade that nobody confirmed yet: the gallery beside it would not change.
        """
        with self._db.write() as db:
            if self._db.is_trial:
                reason = "it is a trial: change the gallery itself, or confirm it first"
                raise UpgradeError(self.path, reason)
            yield db

    def _renew(self, db: Transaction) -> None:
        """Make the templates anew that a change has deleted; without the key the next search makes them."""
        if self._pipeline is not None:
            renew_templates(self._db, db)

    def _write_receipt(self, db: Transaction, reason: Reason, gone: Deletion, now: float) -> int:
        """Write down what was deleted, in the transaction that deletes it; return the receipt's number."""
        with undamaged(self.path, "a receipt"):
            return write_receipt(db, reason, gone, now)

    def _decode_template(self, number: int, row: Embeddings, crop: bytes | None, face: Row) -> Template:
        """Return an enrolled face from its row and its columns."""
        return read_template(face, row, None if crop is None else self._db.decode_crop(number, crop))

    def _encode_face(self, signature: str, number: int, template: Template) -> dict[str, object]:
        """Return the columns that hold the row and the crop of a face."""
        crop = None if template.crop is None else self._db.encode_crop(number, template.crop)
        return {**self._db.encode_row(number, template.embedding, signature), "crop": crop}

    def _check_signature(self, signature: str) -> None:
        """Compare the signature with the gallery's; a new one gets it."""
        if not self._db.read(SIGNATURE):
            with self._db.write() as db:
                unsigned = "INSERT INTO pipeline (signature) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM pipeline)"
                db.execute(unsigned, (signature,))
        self._compare_signature(self._db.read(SIGNATURE), signature)

    def _compare_signature(self, found: Sequence[Row], signature: str) -> None:
        """Raise unless the rows are of this pipeline: an upgrade may change them at any time."""
        theirs = str(found[0][0]) if found else "none"
        if theirs != signature:
            raise SignatureError(self.path, theirs, signature)

    def _need_pipeline(self) -> Pipeline:
        """Return the pipeline, or raise if the gallery was opened without one."""
        if self._pipeline is None:
            raise ValueError("the gallery was opened without a pipeline: Gallery.open(path, recognizer)")
        return self._pipeline
