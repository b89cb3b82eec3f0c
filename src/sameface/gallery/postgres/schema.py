"""The tables of a gallery in PostgreSQL, version by version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg import sql

from sameface.gallery.backend import check_not_turned
from sameface.gallery.errors import GalleryFileError
from sameface.gallery.hash_chain import TABLE as CHAIN

if TYPE_CHECKING:
    from sameface.gallery.address import PostgresAddress

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

LOCK = 0x5A3EFACE  # who migrates holds it: one at a time in a database
TABLES = ("people", "pictures", "faces", "pipeline", "calibration", "numbers", "chain", "receipts", "templates")
OLDEST_INDEX = (0, 8)  # the pgvector that searches its index on until it has found enough

# Each entry takes the tables from the version before it to its own: the first makes version 1. Entries are
# never changed, only added. `revision` grows with every change that a search must see; `rewritten` is the
# revision of the last that did anything but add. A face names the pipeline that made it, and the only
# pipeline there can be is the gallery's: the database itself refuses rows of another.
MIGRATIONS = (
    """
    CREATE TABLE sameface_gallery (
        id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
        version integer NOT NULL,
        revision bigint NOT NULL DEFAULT 0,
        rewritten bigint NOT NULL DEFAULT 0
    );
    INSERT INTO sameface_gallery (version) VALUES (0);
    CREATE TABLE pipeline (
        id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
        signature text NOT NULL UNIQUE,
        dimension integer
    );
    CREATE TABLE calibration (id integer PRIMARY KEY CHECK (id = 1), thresholds text NOT NULL);
    CREATE TABLE numbers (id integer PRIMARY KEY CHECK (id = 1), last bigint NOT NULL);
    INSERT INTO numbers VALUES (1, 0);
    CREATE TABLE people (id bigint PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE);
    CREATE TABLE pictures (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        sha256 text COLLATE "C" NOT NULL UNIQUE
    );
    CREATE TABLE faces (
        id bigint PRIMARY KEY,
        person_id bigint NOT NULL REFERENCES people ON DELETE CASCADE,
        picture_id bigint NOT NULL REFERENCES pictures ON DELETE CASCADE,
        "left" double precision NOT NULL, top double precision NOT NULL,
        "right" double precision NOT NULL, bottom double precision NOT NULL,
        score double precision NOT NULL,
        signature text NOT NULL REFERENCES pipeline (signature),
        embedding vector NOT NULL,
        crop bytea
    );
    CREATE INDEX faces_by_person ON faces (person_id);
    CREATE INDEX faces_by_picture ON faces (picture_id);
    CREATE FUNCTION note_addition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('UPDATE %I.sameface_gallery SET revision = revision + 1', TG_TABLE_SCHEMA);
        RETURN NULL;
    END $$;
    CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('UPDATE %I.sameface_gallery
                        SET revision = revision + 1, rewritten = revision + 1', TG_TABLE_SCHEMA);
        RETURN NULL;
    END $$;
    CREATE TRIGGER added AFTER INSERT ON faces EXECUTE FUNCTION note_addition();
    CREATE TRIGGER calibrated AFTER INSERT OR UPDATE OR DELETE ON calibration
        EXECUTE FUNCTION note_addition();
    CREATE TRIGGER changed AFTER UPDATE OR DELETE OR TRUNCATE ON faces EXECUTE FUNCTION note_change();
    CREATE TRIGGER renamed AFTER UPDATE ON people EXECUTE FUNCTION note_change();
    """,
    """
    ALTER TABLE people ADD COLUMN consent text;
    ALTER TABLE numbers ADD COLUMN origin text NOT NULL DEFAULT gen_random_uuid();
    """,
    # `expires` is in seconds since 1970. Receipts say what was deleted, in canonical JSON.
    f"""
    ALTER TABLE people ADD COLUMN expires bigint;
    CREATE INDEX people_by_expiry ON people (expires) WHERE expires IS NOT NULL;
    {CHAIN}
    CREATE TABLE receipts (number bigint PRIMARY KEY, facts text NOT NULL, hash text NOT NULL);
    """,
    # Up to 0.1.0 a template key was part of the signature, and could be changed.
    """
    ALTER TABLE faces DROP CONSTRAINT faces_signature_fkey;
    ALTER TABLE faces ADD CONSTRAINT faces_signature_fkey
        FOREIGN KEY (signature) REFERENCES pipeline (signature) DEFERRABLE;
    """,
    # The moment of the last change, in seconds since 1970: a clock that jumps ahead is told by it.
    """
    ALTER TABLE numbers ADD COLUMN clock bigint;
    """,
    # One template per person, which a change of their faces deletes (person_templates.py). `turn` rises.
    """
    CREATE TABLE templates (
        person_id bigint PRIMARY KEY REFERENCES people ON DELETE CASCADE,
        turn bigint NOT NULL UNIQUE, faces integer NOT NULL, adapted integer NOT NULL,
        embedding vector NOT NULL
    );
    CREATE TABLE stale_templates (person_id bigint PRIMARY KEY REFERENCES people ON DELETE CASCADE);
    INSERT INTO stale_templates SELECT id FROM people;
    ALTER TABLE numbers ADD COLUMN turn bigint NOT NULL DEFAULT 0;
    CREATE FUNCTION drop_template() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE touched bigint[];
    BEGIN
        IF TG_OP <> 'INSERT' THEN touched := touched || OLD.person_id; END IF;
        IF TG_OP <> 'DELETE' THEN touched := touched || NEW.person_id; END IF;
        EXECUTE format('DELETE FROM %I.templates WHERE person_id = ANY ($1)', TG_TABLE_SCHEMA)
            USING touched;
        EXECUTE format('INSERT INTO %1$I.stale_templates SELECT id FROM %1$I.people
                        WHERE id = ANY ($1) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA) USING touched;
        RETURN NULL;
    END $$;
    CREATE TRIGGER template_dropped AFTER INSERT OR UPDATE OR DELETE ON faces
        FOR EACH ROW EXECUTE FUNCTION drop_template();
    CREATE FUNCTION note_template() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('UPDATE %I.numbers SET turn = turn + 1', TG_TABLE_SCHEMA);
        RETURN NULL;
    END $$;
    CREATE TRIGGER template_deleted AFTER DELETE OR TRUNCATE ON templates
        EXECUTE FUNCTION note_template();
    CREATE FUNCTION drop_templates() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('TRUNCATE %1$I.templates, %1$I.stale_templates', TG_TABLE_SCHEMA);
        RETURN NULL;
    END $$;
    CREATE TRIGGER templates_dropped AFTER TRUNCATE ON faces EXECUTE FUNCTION drop_templates();
    """,
)


def prepare(connection: Connection, address: PostgresAddress, *, create: bool) -> None:
    """Bring the tables to this version in one transaction; make missing ones if `create` is true."""
    version = read_version(connection, address.schema)
    if version > len(MIGRATIONS):
        reason = f"made by a later sameface (version {version}, this one reads {len(MIGRATIONS)})"
        raise GalleryFileError(address.shown, reason)
    if not version and not create:
        reason = f"there is no gallery in schema {address.schema!r}: enroll someone first"
        raise GalleryFileError(address.shown, reason)
    if version:
        pipeline = sql.SQL("SELECT signature FROM {}").format(sql.Identifier(address.schema, "pipeline"))
        check_not_turned(address.shown, connection.execute(pipeline).fetchall())
    if version < len(MIGRATIONS):
        # Before the transaction: one that began while another made the tables might not see them.
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            with connection.transaction():
                migrate(connection, address)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    if address.indexed:
        [(found,)] = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchall()
        if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_INDEX:
            raise GalleryFileError(address.shown, f"index=hnsw needs pgvector 0.8 or later, this is {found}")


def migrate(connection: Connection, address: PostgresAddress) -> None:
    """Run the missing migrations, inside the open transaction."""
    version = read_version(connection, address.schema)
    if not version:
        make_schema(connection, address)
    use_schema(connection, address.schema)
    for number in range(version, len(MIGRATIONS)):
        connection.execute(MIGRATIONS[number].encode())
    connection.execute("UPDATE sameface_gallery SET version = %s", (len(MIGRATIONS),))


def make_schema(connection: Connection, address: PostgresAddress) -> None:
    """Make the extension and the schema if they are missing; refuse a schema with other tables."""
    query = """SELECT relname FROM pg_class
               WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = ANY(%s)"""
    found = connection.execute(query, (address.schema, list(TABLES))).fetchone()
    if found is not None:
        reason = f"schema {address.schema!r} has a table {found[0]!r} of something else: give ?schema=NAME"
        raise GalleryFileError(address.shown, reason)
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.Error as error:
        reason = f"it needs pgvector, let an administrator run CREATE EXTENSION vector: {error}"
        raise GalleryFileError(address.shown, " ".join(reason.split())) from error
    query = "SELECT to_regnamespace(quote_ident(%s)) IS NULL"
    [(missing,)] = connection.execute(query, (address.schema,)).fetchall()
    if missing:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.schema)))


def read_version(connection: Connection, schema: str) -> int:
    """Return the version of the tables, 0 if there are none."""
    query = "SELECT to_regclass(quote_ident(%s) || '.sameface_gallery') IS NOT NULL"
    [(there,)] = connection.execute(query, (schema,)).fetchall()
    if not there:
        return 0
    table = sql.Identifier(schema, "sameface_gallery")
    [(version,)] = connection.execute(sql.SQL("SELECT version FROM {}").format(table)).fetchall()
    return int(version)


def use_schema(connection: Connection, schema: str) -> None:
    """Search for names in the schema, and in that of pgvector."""
    query = """SELECT set_config('search_path', concat_ws(', ', quote_ident(%s), (
                   SELECT quote_ident(nspname) FROM pg_extension
                   JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'
               )), false)"""
    connection.execute(query, (schema,))
