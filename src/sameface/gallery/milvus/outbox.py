"""What Milvus was not told yet: kept by triggers beside the faces, in the same transactions as these."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sameface.gallery.backend import Backend
from sameface.gallery.errors import SignatureError
from sameface.gallery.thresholds import decode_thresholds
from sameface.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the databases of people say in their own ways.

    Attributes:
        there: Finds a row if the tables are there.
        tables: Makes them, and the triggers; the faces that are there are to be sent.
        adapted: The column of `faces` that says if an adapter moved the row.
        mixed: Selects the thresholds for such rows, if there are any.
    """

    there: str
    tables: tuple[str, ...]
    adapted: str
    mixed: str


# `faces` is how many there are, so that nobody has to count a million before each search.
SQLITE = Dialect(
    there="SELECT 1 FROM sqlite_master WHERE name = 'milvus_index'",
    tables=(
        """CREATE TABLE milvus_index (
               id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, faces INTEGER NOT NULL)""",
        "CREATE TABLE milvus_unsent (face_id INTEGER PRIMARY KEY)",
        """CREATE TRIGGER milvus_added AFTER INSERT ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (new.id);
               UPDATE milvus_index SET faces = faces + 1;
           END""",
        """CREATE TRIGGER milvus_deleted AFTER DELETE ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (old.id);
               UPDATE milvus_index SET faces = faces - 1;
           END""",
        """CREATE TRIGGER milvus_changed AFTER UPDATE OF embedding ON faces BEGIN
               INSERT OR IGNORE INTO milvus_unsent VALUES (new.id);
           END""",
    ),
    adapted="adapted",
    mixed="SELECT thresholds FROM adapted WHERE EXISTS (SELECT 1 FROM faces WHERE adapted)",
)
POSTGRES = Dialect(
    there="SELECT 1 WHERE to_regclass('milvus_index') IS NOT NULL",
    tables=(
        """CREATE TABLE milvus_index (
               id integer PRIMARY KEY CHECK (id = 1), name text NOT NULL, faces bigint NOT NULL)""",
        "CREATE TABLE milvus_unsent (face_id bigint PRIMARY KEY)",
        """CREATE FUNCTION milvus_note() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
               EXECUTE format('INSERT INTO %I.milvus_unsent SELECT id FROM changed ON CONFLICT DO NOTHING',
                              TG_TABLE_SCHEMA);
               EXECUTE format('UPDATE %I.milvus_index
                               SET faces = faces + %s * (SELECT count(*) FROM changed)',
                              TG_TABLE_SCHEMA, TG_ARGV[0]);
               RETURN NULL;
           END $$""",
        """CREATE TRIGGER milvus_added AFTER INSERT ON faces REFERENCING NEW TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('1')""",
        """CREATE TRIGGER milvus_deleted AFTER DELETE ON faces REFERENCING OLD TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('-1')""",
        """CREATE TRIGGER milvus_changed AFTER UPDATE ON faces REFERENCING NEW TABLE AS changed
               FOR EACH STATEMENT EXECUTE FUNCTION milvus_note('0')""",
    ),
    adapted="false",
    mixed="SELECT '' WHERE false",  # no upgrade is made in PostgreSQL
)


@dataclass(frozen=True, slots=True)
class MilvusState:
    """What a search must know.

    Attributes:
        faces: How many there are.
        dimension: How wide their rows are; None as long as nobody was ever enrolled.
        own: The thresholds that the gallery keeps, or None.
        mixed: Those for adapted rows, or None if there are no such rows.
    """

    faces: int
    dimension: int | None
    own: Thresholds | None
    mixed: Thresholds | None


def make_outbox(people: Backend, dialect: Dialect, stem: str) -> str:
    """Make the tables if they are missing, and return what the collection is called.

    Args:
        people: The database of people.
        dialect: What it speaks.
        stem: What the name begins with; the rest is drawn, so that no two galleries share a collection.
    """
    if not people.read(dialect.there):
        with people.write() as db:
            if not db.execute(dialect.there).fetchone():  # unless another program has just made them
                for statement in dialect.tables:
                    db.execute(statement)
    if not people.read("SELECT name FROM milvus_index"):
        with people.write() as db:
            db.execute("INSERT INTO milvus_unsent SELECT id FROM faces WHERE true ON CONFLICT DO NOTHING")
            db.execute(
                """INSERT INTO milvus_index (id, name, faces) SELECT 1, ?, count(*) FROM faces
                   WHERE true ON CONFLICT DO NOTHING""",
                (f"{stem}_{secrets.token_hex(4)}",),
            )
    [(name,)] = people.read("SELECT name FROM milvus_index")
    return str(name)


def read_state(people: Backend, dialect: Dialect, signature: str) -> MilvusState:
    """Return what the gallery is at now.

    Raises:
        SignatureError: The rows are not of this pipeline.
    """
    query = """SELECT signature, dimension, faces, (SELECT thresholds FROM calibration)
               FROM pipeline CROSS JOIN milvus_index"""
    [(theirs, dimension, faces, own)] = people.read(query)
    if theirs != signature:
        raise SignatureError(people.path, theirs, signature)
    mixed = people.read(dialect.mixed)
    kept = (own, mixed[0][0] if mixed else None)
    return MilvusState(faces, dimension, *(decode_thresholds(people.path, facts) for facts in kept))
