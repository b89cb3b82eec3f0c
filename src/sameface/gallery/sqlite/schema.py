"""The tables of a gallery file, version by version."""

from __future__ import annotations

from sameface.gallery.hash_chain import TABLE as CHAIN

APPLICATION_ID = 0x5A3EFACE  # marks the file as ours

CHANGES = 100_000  # that are kept

# Each entry takes the file from the version before it to its own: the first makes version 1. Entries
# are never changed, only added.
MIGRATIONS = (
    """
    CREATE TABLE pipeline (signature TEXT NOT NULL, dimension INTEGER);
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE pictures (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE);
    CREATE TABLE faces (
        id INTEGER PRIMARY KEY,
        person_id INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,
        picture_id INTEGER NOT NULL REFERENCES pictures ON DELETE CASCADE,
        "left" REAL NOT NULL, top REAL NOT NULL, "right" REAL NOT NULL, bottom REAL NOT NULL,
        score REAL NOT NULL,
        embedding BLOB NOT NULL,
        crop BLOB
    );
    CREATE INDEX faces_by_person ON faces (person_id);
    CREATE INDEX faces_by_picture ON faces (picture_id);
    """,
    """
    CREATE TABLE calibration (id INTEGER PRIMARY KEY CHECK (id = 1), thresholds TEXT NOT NULL);
    """,
    """
    ALTER TABLE faces ADD COLUMN adapted INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE adapted (
        id INTEGER PRIMARY KEY CHECK (id = 1), source TEXT NOT NULL, thresholds TEXT NOT NULL
    );
    CREATE TABLE upgrade (
        id INTEGER PRIMARY KEY CHECK (id = 1), source TEXT NOT NULL, target TEXT NOT NULL
    );
    CREATE TABLE pending (face_id INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE);
    """,
    """
    CREATE TABLE numbers (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL);
    INSERT INTO numbers SELECT 1, max(
        (SELECT ifnull(max(id), 0) FROM people), (SELECT ifnull(max(id), 0) FROM faces)
    );
    """,
    """
    ALTER TABLE people ADD COLUMN consent TEXT;
    ALTER TABLE numbers ADD COLUMN origin TEXT NOT NULL DEFAULT '';
    UPDATE numbers SET origin = lower(hex(randomblob(16)));
    """,
    # One entry for each face that was added, changed or deleted. Rows in memory as of an entry with the same
    # stamp are brought up to the last entry. Old entries are deleted; rows from before them are read anew.
    f"""
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        face_id INTEGER NOT NULL,
        stamp INTEGER NOT NULL DEFAULT (random())
    );
    INSERT INTO changes (face_id) VALUES (0);
    CREATE TRIGGER face_added AFTER INSERT ON faces
        BEGIN INSERT INTO changes (face_id) VALUES (NEW.id); END;
    CREATE TRIGGER face_changed AFTER UPDATE OF embedding ON faces
        BEGIN INSERT INTO changes (face_id) VALUES (NEW.id); END;
    CREATE TRIGGER face_deleted AFTER DELETE ON faces
        BEGIN INSERT INTO changes (face_id) VALUES (OLD.id); END;
    CREATE TRIGGER change_added AFTER INSERT ON changes
        BEGIN DELETE FROM changes WHERE id <= NEW.id - {CHANGES}; END;
    CREATE INDEX faces_adapted ON faces (id) WHERE adapted;
    """,
    # `expires` is in seconds since 1970. Receipts say what was deleted, in canonical JSON.
    f"""
    ALTER TABLE people ADD COLUMN expires INTEGER;
    CREATE INDEX people_by_expiry ON people (expires) WHERE expires IS NOT NULL;
    {CHAIN}
    CREATE TABLE receipts (number INTEGER PRIMARY KEY, facts TEXT NOT NULL, hash TEXT NOT NULL);
    """,
    # What seals embeddings and crops, if anything does: the last. `number` is drawn at random, and stands in
    # every value; `wrapped_by` is the fingerprint of the user's key.
    """
    CREATE TABLE data_keys (
        turn INTEGER PRIMARY KEY AUTOINCREMENT,
        number INTEGER NOT NULL, wrapped BLOB NOT NULL, wrapped_by TEXT NOT NULL
    );
    """,
    # The moment of the last change, in seconds since 1970: a clock that jumps ahead is told by it.
    """
    ALTER TABLE numbers ADD COLUMN clock INTEGER;
    """
    # A program that began before the file was encrypted may still write plain values. A sealed value begins
    # with the byte 1 and the number of a data key (`crypto.HEADER`).
    + "".join(
        f"""
    CREATE TRIGGER face_sealed_{event.split()[0].lower()} BEFORE {event} ON faces
        WHEN EXISTS (SELECT 1 FROM data_keys) AND EXISTS (
            SELECT 1 FROM (SELECT NEW.embedding AS value UNION ALL SELECT NEW.crop) WHERE value IS NOT NULL
            AND hex(substr(value, 1, 5)) NOT IN (SELECT printf('01%08X', number) FROM data_keys)
        )
        BEGIN SELECT RAISE(ABORT, 'the gallery is encrypted, and a value is not: open it again'); END;
    """
        for event in ("INSERT", "UPDATE OF embedding, crop")
    )
    # One template per person, which a change of their faces deletes (person_templates.py). `turn` rises.
    + """
    CREATE TABLE templates (
        person_id INTEGER PRIMARY KEY REFERENCES people ON DELETE CASCADE,
        turn INTEGER NOT NULL UNIQUE, faces INTEGER NOT NULL, adapted INTEGER NOT NULL,
        embedding BLOB NOT NULL
    );
    CREATE TABLE stale_templates (person_id INTEGER PRIMARY KEY REFERENCES people ON DELETE CASCADE);
    INSERT INTO stale_templates SELECT id FROM people;
    ALTER TABLE numbers ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    CREATE TRIGGER template_of_added AFTER INSERT ON faces BEGIN
        DELETE FROM templates WHERE person_id IN (NEW.person_id);
        INSERT OR IGNORE INTO stale_templates SELECT id FROM people WHERE id IN (NEW.person_id);
    END;
    CREATE TRIGGER template_of_changed AFTER UPDATE OF embedding, person_id ON faces BEGIN
        DELETE FROM templates WHERE person_id IN (OLD.person_id, NEW.person_id);
        INSERT OR IGNORE INTO stale_templates
            SELECT id FROM people WHERE id IN (OLD.person_id, NEW.person_id);
    END;
    CREATE TRIGGER template_of_deleted AFTER DELETE ON faces BEGIN
        DELETE FROM templates WHERE person_id IN (OLD.person_id);
        INSERT OR IGNORE INTO stale_templates SELECT id FROM people WHERE id IN (OLD.person_id);
    END;
    CREATE TRIGGER template_deleted AFTER DELETE ON templates
        BEGIN UPDATE numbers SET turn = turn + 1; END;
    CREATE TRIGGER template_sealed BEFORE INSERT ON templates
        WHEN EXISTS (SELECT 1 FROM data_keys) AND hex(substr(NEW.embedding, 1, 5)) NOT IN
            (SELECT printf('01%08X', number) FROM data_keys)
        BEGIN SELECT RAISE(ABORT, 'the gallery is encrypted, and a value is not: open it again'); END;
    """,
)
