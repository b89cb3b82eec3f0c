"""The gallery in PostgreSQL: tables, turns, lost connections, the index, and the same as in a file."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import postgres_world
import psycopg
import pytest
import service_world
import toy
from click.testing import Result
from gallery_world import face, identify_one
from psycopg import sql

from sameface.embed import unit_rows
from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.address import PostgresAddress
from sameface.gallery.errors import GalleryBusyError, GalleryFileError, GalleryUnreachableError, UpgradeError
from sameface.gallery.postgres import connections, schema
from sameface.gallery.postgres.database import NEAREST
from sameface.gallery.upgrade import Upgrade, confirm_upgrade, discard_upgrade
from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig


@pytest.fixture
def gallery(postgres_place: str, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(postgres_place, toy_recognizer) as gallery:
        yield gallery


@pytest.fixture
def direct(postgres_place: str) -> Iterator[psycopg.Connection]:
    """A connection of somebody else's, where names are those of the gallery."""
    address = PostgresAddress.parse(postgres_place)
    with psycopg.connect(address.conninfo, autocommit=True) as connection:
        path = sql.SQL("SET search_path TO {}, public").format(sql.Identifier(address.schema))
        connection.execute(path)
        yield connection


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for other programs and for connections a moment only."""
    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 1.0)


# The tables


def test_of_many_that_open_a_new_gallery_at_once_one_makes_it(postgres_place: str, toy_recognizer: Recognizer) -> None:
    def work(number: int) -> int:
        with Gallery.open(postgres_place, toy_recognizer) as gallery:
            return gallery.enroll(f"Person {number}", [face(toy.RED, str(number))])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [1] * 8
    with Gallery.open(postgres_place) as gallery:
        assert gallery.count() == (8, 8)


def test_a_gallery_that_is_not_there_is_made_only_if_that_is_wanted(
    postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection
) -> None:
    for pipeline, create in ((None, True), (toy_recognizer, False)):
        with pytest.raises(GalleryFileError, match="there is no gallery in schema 'gallery"):
            Gallery.open(postgres_place, pipeline, create=create)
    query = "SELECT to_regnamespace(quote_ident(%s)) IS NULL"
    assert direct.execute(query, (PostgresAddress.parse(postgres_place).schema,)).fetchone() == (True,)


def test_galleries_in_two_schemas_know_nothing_of_each_other(postgres_place: str, toy_recognizer: Recognizer) -> None:
    elsewhere = postgres_place.partition("&")[0] + '&schema=the "other"'
    with Gallery.open(postgres_place, toy_recognizer) as one, Gallery.open(elsewhere, toy_recognizer) as other:
        one.enroll("Red", [face(toy.RED)])
        other.enroll("Rouge", [face(toy.RED)])
        assert (one.people(), other.people()) == ([Person("Red", 1)], [Person("Rouge", 1)])
        assert identify_one(other, toy.row_of(toy.RED)).name == "Rouge"


def test_a_schema_of_something_else_is_refused_and_kept(
    postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection
) -> None:
    name = PostgresAddress.parse(postgres_place).schema
    direct.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    direct.execute("CREATE TABLE people (diary text)")
    with pytest.raises(GalleryFileError, match="has a table 'people' of something else: give"):
        Gallery.open(postgres_place, toy_recognizer)
    query = "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))"
    assert direct.execute(query, (name,)).fetchall() == [("people",)]


def test_tables_of_a_later_version_are_refused(
    gallery: Gallery, postgres_place: str, direct: psycopg.Connection
) -> None:
    direct.execute("UPDATE sameface_gallery SET version = version + 1")
    with pytest.raises(GalleryFileError, match="made by a later sameface"):
        Gallery.open(postgres_place)


def test_older_tables_get_the_migrations_they_lack_or_stay_as_they_were(
    gallery: Gallery, postgres_place: str, direct: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    more = ("CREATE TABLE second (x int); CREATE TABLE also (x int)", "ALTER TABLE second ADD COLUMN third int")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *more, "NONSENSE"))
        with pytest.raises(GalleryFileError, match="syntax error"):
            Gallery.open(postgres_place)
    assert direct.execute("SELECT to_regclass('second') IS NULL").fetchone() == (True,)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *more))
    for _ in range(2):
        with Gallery.open(postgres_place) as again:
            assert again.people() == [Person("Red", 1)]
            assert again._db.read("SELECT version FROM sameface_gallery") == [(len(schema.MIGRATIONS),)]
            assert again._db.read("SELECT x, third FROM second") == []


def test_the_database_itself_refuses_rows_of_another_pipeline(gallery: Gallery, direct: psycopg.Connection) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        direct.execute("UPDATE faces SET signature = 'another'")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        direct.execute("UPDATE pipeline SET signature = 'another'")
    with pytest.raises(psycopg.errors.CheckViolation):
        direct.execute("INSERT INTO pipeline (id, signature) VALUES (2, 'another')")


def test_a_role_that_may_not_look_is_told_so(
    gallery: Gallery, postgres_place: str, direct: psycopg.Connection
) -> None:
    direct.execute("CREATE ROLE guest LOGIN")
    try:
        with pytest.raises(GalleryFileError, match="permission denied"):
            Gallery.open(postgres_place.replace("postgres:@", "guest@"))
    finally:
        direct.execute("DROP ROLE guest")


def test_a_role_that_may_not_make_the_extension_is_told_what_to_ask_for(
    postgres_server: str, toy_recognizer: Recognizer
) -> None:
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
        connection.execute("CREATE ROLE newcomer LOGIN")
        try:
            place = postgres_server.replace("postgres:@/postgres?", "newcomer@/bare?")
            with pytest.raises(GalleryFileError, match="let an administrator run CREATE EXTENSION vector"):
                Gallery.open(place, toy_recognizer)
        finally:
            connection.execute("DROP DATABASE bare WITH (FORCE)")
            connection.execute("DROP ROLE newcomer")


# Turns


def test_who_waits_too_long_for_another_writer_changes_nothing(
    impatient: None, postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection
) -> None:
    with Gallery.open(postgres_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        with direct.transaction():
            direct.execute("SELECT 1 FROM sameface_gallery FOR UPDATE")
            for act in (lambda: gallery.forget("Red"), lambda: gallery.enroll("Blue", [face(toy.BLUE, "b")])):
                with pytest.raises(GalleryBusyError, match="waited 0 s for another program"):
                    act()
            assert gallery.people() == [Person("Red", 1)]
        assert gallery.forget("Red").faces == 1


def test_forget_while_another_reads_says_that_traces_stay_and_can_be_repeated(
    impatient: None, postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection
) -> None:
    with Gallery.open(postgres_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        with direct.transaction():
            direct.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            direct.execute("SELECT 1 FROM pg_class")
            with pytest.raises(GalleryBusyError, match="forget again"):
                gallery.forget("Red")
            assert gallery.people() == []
        gallery.forget_traces()


def enroll_last(gallery: Gallery) -> list[bytes]:
    """Enroll somebody behind others, and return the bytes that must not outlive them."""
    for number in range(9):
        gallery.enroll(f"Someone {number}", [face((number + 1, 9, 9), str(number))])
    gallery.enroll("Zacharias", [face((77, 99, 11), "5ec2e7" * 10)])
    return [b"Zacharias", b"5ec2e7" * 10, toy.row_of((77, 99, 11)).tobytes()]


def traces(connection: psycopg.Connection, secrets: list[bytes]) -> list[bytes]:
    """Return which of the secrets stand in the files of the gallery's tables and indexes."""
    connection.execute("CHECKPOINT")
    query = """SELECT pg_read_binary_file(pg_relation_filepath(oid)) FROM pg_class WHERE relkind IN ('r', 'i')
               AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'faces'::regclass)"""
    data = b"".join(bytes(file) for (file,) in connection.execute(query).fetchall())
    return [secret for secret in secrets if secret in data]


def test_forget_leaves_no_byte_in_the_tables(gallery: Gallery, direct: psycopg.Connection) -> None:
    secrets = enroll_last(gallery)
    assert traces(direct, secrets) == secrets
    gallery.forget("Zacharias")
    assert traces(direct, secrets) == []
    assert gallery.count() == (9, 9)


def test_forget_by_one_who_may_not_vacuum_deletes_and_says_so_in_the_log(
    gallery: Gallery, postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gallery.enroll("Red", [face(toy.RED)])
    name = sql.Identifier(PostgresAddress.parse(postgres_place).schema)
    direct.execute("CREATE ROLE writer LOGIN")
    try:
        direct.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO writer").format(name))
        direct.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO writer").format(name)
        )
        with (
            caplog.at_level(logging.WARNING, "sameface"),
            Gallery.open(postgres_place.replace("postgres:@", "writer@"), toy_recognizer) as other,
        ):
            assert other.enroll("Blue", [face(toy.BLUE, "b")]) == 1
            assert identify_one(other, toy.row_of(toy.RED)).name == "Red"
            assert other.forget("Red").faces == 1
        assert gallery.people() == [Person("Blue", 1)]
        assert "permission denied to vacuum" in caplog.text
    finally:
        direct.execute("DROP OWNED BY writer")
        direct.execute("DROP ROLE writer")


def test_the_roles_of_the_docs_can_do_what_the_docs_say(postgres_server: str, toy_recognizer: Recognizer) -> None:
    text = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text("utf-8")
    first, then = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    outside, inside = first.split("\\connect faces\n")
    faces = postgres_server.replace("/postgres?", "/faces?")
    owner, door = (faces.replace("postgres:@", f"{role}@") for role in ("sameface", "door"))
    with psycopg.connect(postgres_server, autocommit=True) as administrator:
        for statement in outside.strip().splitlines():
            administrator.execute(statement.encode())
        try:
            with psycopg.connect(faces, autocommit=True) as connection:
                connection.execute(inside.encode())
            with Gallery.open(owner, toy_recognizer) as gallery:
                gallery.enroll("Red", [face(toy.RED)])
                with psycopg.connect(owner, autocommit=True) as connection:
                    connection.execute(then.encode())
                check_that_it_only_looks(door, toy_recognizer)
                gone = gallery.forget("Red")
                assert gone.erasure is not None
                assert gone.erasure.places == {"table": True, "log": False}
        finally:
            administrator.execute("DROP DATABASE faces WITH (FORCE)")
            administrator.execute("DROP ROLE sameface")
            administrator.execute("DROP ROLE door")


def check_that_it_only_looks(place: str, recognizer: Recognizer) -> None:
    """See that a role names Red, and changes nothing."""
    with Gallery.open(place, recognizer) as gallery:
        assert identify_one(gallery, toy.row_of(toy.RED)).name == "Red"
        for act in (lambda: gallery.enroll("Blue", [face(toy.BLUE, "b")]), lambda: gallery.forget("Red")):
            with pytest.raises(GalleryFileError, match="permission denied"):
                act()
        assert gallery.people() == [Person("Red", 1)]


# Lost connections


@pytest.fixture
def team(postgres_server: str, toy_recognizer: Recognizer) -> Iterator[tuple[str, Gallery]]:
    """A gallery in a database of its own, which can be cut off."""
    name = "team"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE team")
        try:
            place = postgres_server.replace("/postgres?", f"/{name}?")
            with Gallery.open(place, toy_recognizer) as gallery:
                gallery.enroll("Red", [face(toy.RED)])
                yield postgres_server, gallery
        finally:
            connection.execute("DROP DATABASE team WITH (FORCE)")


def test_what_reads_or_begins_to_write_does_not_notice_a_lost_connection(team: tuple[str, Gallery]) -> None:
    server, gallery = team
    for act, wanted in (
        (gallery.people, [Person("Red", 1)]),
        (lambda: identify_one(gallery, toy.row_of(toy.RED)).name, "Red"),
        (lambda: gallery.enroll("Blue", [face(toy.BLUE, "b")]), 1),
        (lambda: gallery.forget("Blue").faces, 1),
    ):
        assert postgres_world.cut(server, "team") > 0
        assert act() == wanted


def test_a_connection_lost_in_the_middle_of_a_reading_is_not_noticed_either(gallery: Gallery) -> None:
    killed = iter(["SELECT pg_terminate_backend(pg_backend_pid())"])

    def work(connection: psycopg.Connection) -> list[tuple[object, ...]]:
        return connection.execute(next(killed, "SELECT 7")).fetchall()

    assert gallery._db._connections.run(work) == [(7,)]  # type: ignore[attr-defined]


def test_a_server_that_stays_away_is_one_clear_error_until_it_is_back(
    impatient: None, team: tuple[str, Gallery], toy_recognizer: Recognizer
) -> None:
    server, _ = team
    with Gallery.open(server.replace("/postgres?", "/team?"), toy_recognizer) as gallery:
        gallery.people()
        with postgres_world.closed_to_all(server, "team"):
            for act in (
                gallery.people,
                lambda: identify_one(gallery, toy.row_of(toy.RED)),
                lambda: gallery.enroll("Blue", [face(toy.BLUE, "b")]),
            ):
                with pytest.raises(GalleryUnreachableError, match="cannot be reached: no connection within 1 s"):
                    act()
        assert gallery.people() == [Person("Red", 1)]


def test_a_connection_lost_in_the_middle_of_a_change_leaves_nothing_half_written(team: tuple[str, Gallery]) -> None:
    server, gallery = team

    def enroll_and_cut() -> None:
        with gallery._db.write() as db:
            db.execute("INSERT INTO people (id, name) VALUES (77, 'Half')")
            postgres_world.cut(server, "team")
            db.execute("INSERT INTO people (id, name) VALUES (78, 'Whole')")

    with pytest.raises(GalleryUnreachableError, match="nothing was changed: "):
        enroll_and_cut()
    assert gallery.people() == [Person("Red", 1)]
    assert gallery.enroll("Blue", [face(toy.BLUE, "b")]) == 1


def test_a_connection_lost_while_it_commits_is_told_as_unsure(team: tuple[str, Gallery]) -> None:
    _, gallery = team
    with gallery._db.write() as db:
        db.execute(
            """CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"""
        )
        db.execute(
            """CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON people DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION cut()"""
        )
    with pytest.raises(GalleryUnreachableError, match="may be done or not"):
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
    assert gallery.people() == [Person("Red", 1)]
    assert gallery._db.read("SELECT count(*) FROM pictures") == [(1,)]


@pytest.fixture(scope="module")
def fragile() -> Iterator[postgres_world.Server]:
    """A server of one's own, to be stopped."""
    with postgres_world.served() as server:
        yield server


def stop_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int, server: postgres_world.Server) -> None:
    """Stop a server before a method of the gallery is called for the so-manieth time."""
    whole, calls = getattr(Gallery, method), []

    def work(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == call:
            server.stop()
        return whole(*args, **more)

    monkeypatch.setattr(Gallery, method, work)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_enrolment_whose_server_stops_ends_with_one_error_and_goes_on_when_it_is_back(
    impatient: None, run: Callable[..., Result], tmp_path: Path, fragile: postgres_world.Server,
    monkeypatch: pytest.MonkeyPatch, workers: int,
) -> None:  # fmt: skip
    for number in range(6):
        toy.save(tmp_path / "many" / f"{number}.png", toy.RED, note=number)
    place = f"{fragile.address}&schema=enrol{workers}"
    words = ("enroll", "Rosa", "many", "--workers", workers, "--gallery", place)
    with monkeypatch.context() as patch:
        stop_at(patch, "enroll", 4, fragile)
        result = run(*words)
    fragile.start()
    assert (result.exit_code, result.stdout) == (3, "")
    first, second = result.stderr.splitlines()
    assert first == "3 faces added before this: the same command goes on from there"
    assert second.startswith("Error: gallery 'postgresql://postgres@/postgres?host=")
    assert second.endswith("cannot be reached: no connection within 1 s")
    with Gallery.open(place) as gallery:
        assert gallery.people() == [Person("Rosa", 3)]
        assert gallery._db.read("SELECT count(*) FROM pictures") == [(3,)]
    assert run(*words).stdout == "Rosa: 3 added\n"


def test_to_identify_many_ends_with_one_error_where_the_server_stops(
    impatient: None, run: Callable[..., Result], tmp_path: Path, fragile: postgres_world.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for number in range(4):
        toy.save(tmp_path / "many" / f"{number}.png", toy.RED, note=number)
    place = ("--gallery", f"{fragile.address}&schema=identify")
    assert run("enroll", "Rosa", "many/0.png", *place).exit_code == 0
    stop_at(monkeypatch, "identify", 2, fragile)
    result = run("identify", "many", "--json", *place)
    fragile.start()
    assert (result.exit_code, result.stdout.count("Rosa")) == (3, 2)  # as the name and as the one match
    assert result.stderr.splitlines()[0].endswith("cannot be reached: no connection within 1 s")
    assert "skipped" not in result.stderr


# What a search sees


def test_faces_that_are_added_are_read_alone(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    gallery.enroll("Red", [face(toy.RED, str(number)) for number in range(10)])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    seen = []
    for number in range(3):
        gallery.enroll("Green", [face(toy.GREEN, f"g{number}")])
        seen.append(gallery._db.load(toy_recognizer.signature))
    assert [rows.faces for rows in seen] == [12, 13, 14]
    assert seen[1].table.matrix.base is seen[2].table.matrix.base is not None
    assert seen[1].faces == len(seen[1].table.matrix) == 13
    assert identify_one(gallery, toy.row_of(toy.GREEN)).name == "Green"


def test_what_is_changed_by_hand_is_seen_at_once(gallery: Gallery, direct: psycopg.Connection) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    assert identify_one(gallery, toy.row_of(toy.BLUE)).name == "Blue"
    direct.execute("UPDATE people SET name = 'Bleu' WHERE name = 'Blue'")
    assert identify_one(gallery, toy.row_of(toy.BLUE)).name == "Bleu"
    direct.execute("DELETE FROM people WHERE name = 'Bleu'")
    assert identify_one(gallery, toy.row_of(toy.BLUE)).name is None
    direct.execute("TRUNCATE faces")
    assert identify_one(gallery, toy.row_of(toy.RED)).matches == ()


def test_kept_thresholds_are_seen_by_other_programs(
    gallery: Gallery, postgres_place: str, toy_recognizer: Recognizer
) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    before = identify_one(gallery, toy.row_of(toy.RED)).threshold
    own = toy.THRESHOLDS.__class__((0.1, 0.001), (0.3, 0.1), (1000, 10), 10_000, "doors")
    with Gallery.open(postgres_place, toy_recognizer) as other:
        other.keep_thresholds(own)
        assert identify_one(gallery, toy.row_of(toy.RED)).threshold == pytest.approx(own.at(0.01))
        other.keep_thresholds(None)
        assert identify_one(gallery, toy.row_of(toy.RED)).threshold == before


@pytest.mark.parametrize("width", [1, 3, 128])
def test_rows_come_back_bit_for_bit(gallery: Gallery, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = [unit_rows(rng.normal(size=(1, width)).astype(np.float32))[0] for _ in range(20)]
    for row, odd in zip(rows, (-0.0, 1e-42), strict=False):  # the second has fewer digits than the others
        row[0] = odd if width > 1 else row[0]
        row /= np.linalg.norm(row)
    box = np.array([0, 0, 9, 9], np.float32)
    gallery.enroll("Red", [Template(str(number), box, 0.1, row) for number, row in enumerate(rows)])
    found = gallery.templates("Red")
    assert [template.embedding.tobytes() for template in found] == [row.tobytes() for row in rows]
    matrix = gallery._db.load(gallery._pipeline.signature).table.matrix  # type: ignore[union-attr]
    assert matrix.tobytes() == np.stack(rows).tobytes()


def test_a_page_may_begin_behind_a_name_that_nobody_can_have(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    assert gallery.people(after="A\0") == [Person("Red", 1)]
    assert gallery.people(after="Red\0") == []


def test_threads_see_their_own_writes(gallery: Gallery) -> None:
    def work(number: int) -> bool:
        name = f"Person {number}"
        for turn in range(10):
            row = unit_rows(np.array([[number + 1, turn + 1, 1]], np.float32))[0]
            gallery.enroll(name, [Template(f"{number} {turn}", np.array([0, 0, 9, 9], np.float32), 1, row)])
            if identify_one(gallery, row, closed_set=True, rule="rows").matches[0].distance > 1e-6:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


# The index


PEOPLE, EACH = 500, 4


@pytest.fixture
def crowd(gallery: Gallery, direct: psycopg.Connection, toy_recognizer: Recognizer) -> np.ndarray:
    """The rows of 2,000 faces of 500 people, `(m, 16) float32`, put straight into the tables."""
    rng = np.random.default_rng(0)
    rows = unit_rows(
        (np.repeat(rng.normal(size=(PEOPLE, 16)), EACH, axis=0) + rng.normal(size=(PEOPLE * EACH, 16)) / 3)
        .astype(np.float32)
    )  # fmt: skip
    with direct.transaction():
        direct.execute("INSERT INTO people SELECT n, 'Person ' || n FROM generate_series(1, %s) n", (PEOPLE,))
        direct.execute("INSERT INTO pictures (sha256) VALUES ('p')")
        direct.execute("UPDATE pipeline SET dimension = 16")
        direct.execute("UPDATE numbers SET last = %s", (PEOPLE * EACH,))
        with direct.cursor().copy(
            """COPY faces (id, person_id, picture_id, "left", top, "right", bottom, score, signature,
                           embedding) FROM STDIN"""
        ) as copy:
            for number, row in enumerate(rows):
                words = str(row.tolist())
                copy.write_row((number + 1, number // EACH + 1, 1, 0, 0, 1, 1, 1, toy_recognizer.signature, words))
    direct.execute("ANALYZE faces")
    return rows


def test_the_index_is_used_and_names_whom_the_exact_search_names(
    crowd: np.ndarray, gallery: Gallery, postgres_place: str, toy_recognizer: Recognizer,
    direct: psycopg.Connection,
) -> None:  # fmt: skip
    probes = unit_rows(crowd[::20] + np.random.default_rng(1).normal(size=crowd[::20].shape).astype(np.float32) / 9)
    with Gallery.open(f"{postgres_place}&index=hnsw", toy_recognizer) as indexed:
        found, exact = (each.identify(probes, k=3, closed_set=True) for each in (indexed, gallery))
    same = [one.matches[0].name == other.matches[0].name for one, other in zip(found, exact, strict=True)]
    assert sum(same) >= 0.98 * len(probes)
    near = [(one.matches[0].distance, other.matches[0].distance) for one, other in zip(found, exact, strict=True)]
    assert all(one == pytest.approx(other, abs=1e-6) for (one, other), kept in zip(near, same, strict=True) if kept)
    plan = direct.execute("EXPLAIN " + NEAREST.format(16), (str(probes[0].tolist()), 10)).fetchall()
    assert any("faces_nearest" in line for (line,) in plan)


def test_the_index_knows_nobody_who_was_forgotten_and_everybody_who_was_added(
    crowd: np.ndarray, postgres_place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(f"{postgres_place}&index=hnsw", toy_recognizer) as indexed:
        assert identify_one(indexed, crowd[40], closed_set=True).name == "Person 11"
        indexed.forget("Person 11")
        answer = identify_one(indexed, crowd[40], closed_set=True)
        assert "Person 11" not in [match.name for match in answer.matches]
        indexed.enroll("Back", [Template("q", np.array([0, 0, 9, 9], np.float32), 1, crowd[40])])
        assert identify_one(indexed, crowd[40], closed_set=True).name == "Back"
        assert indexed.count() == (PEOPLE, PEOPLE * EACH - EACH + 1)


def test_a_few_people_with_very_many_faces_do_not_hide_the_others(
    gallery: Gallery, postgres_place: str, toy_recognizer: Recognizer, direct: psycopg.Connection
) -> None:
    gallery.enroll("Many", [face(toy.RED, str(number)) for number in range(300)])
    gallery.enroll("Other", [face(toy.BLUE, "b")])
    with Gallery.open(f"{postgres_place}&index=hnsw", toy_recognizer) as indexed:
        answer = identify_one(indexed, toy.row_of(toy.RED))
    assert [match.name for match in answer.matches] == ["Many", "Other"]


def test_an_index_that_another_program_wants_too_is_built_once(
    crowd: np.ndarray, postgres_place: str, toy_recognizer: Recognizer
) -> None:
    start = threading.Barrier(4)

    def work(_: int) -> str | None:
        with Gallery.open(f"{postgres_place}&index=hnsw", toy_recognizer) as indexed:
            start.wait()
            return identify_one(indexed, crowd[40], closed_set=True).name

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == ["Person 11"] * 4


def test_an_older_pgvector_cannot_search_with_the_index(
    gallery: Gallery, postgres_place: str, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "OLDEST_INDEX", (99, 0))
    with pytest.raises(GalleryFileError, match=r"index=hnsw needs pgvector 0\.8 or later, this is"):
        Gallery.open(f"{postgres_place}&index=hnsw", toy_recognizer)
    Gallery.open(postgres_place, toy_recognizer).close()


# The commands


def test_every_command_takes_an_address(run: Callable[..., Result], tmp_path: Path, postgres_place: str) -> None:
    for name, colour in (("red", toy.RED), ("reddish", toy.REDDISH), ("blue", toy.BLUE)):
        toy.save(tmp_path / f"{name}.png", colour)
    place = ("--gallery", postgres_place)
    assert run("enroll", "Red", "red.png", *place).stdout == "Red: 1 added\n"
    assert run("enroll", "Blue", "blue.png", *place).exit_code == 0
    assert '"name": "Red"' in run("identify", "reddish.png", "--json", *place).stdout
    assert run("rename", "Red", "Rouge", *place).stdout == "Red is now Rouge\n"
    assert run("people", "--json", *place).stdout.splitlines() == [
        '{"name": "Blue", "faces": 1, "consent": null, "expires": null}',
        '{"name": "Rouge", "faces": 1, "consent": null, "expires": null}',
    ]
    assert run("merge", "Blue", "Rouge", *place).stdout == "Blue is now Rouge: 1 face moved\n"
    assert run("forget", "Rouge", "--yes", *place).exit_code == 0
    assert run("people", "--json", *place).stdout == ""
    assert run("keys", "add", "door", "--role", "read", *place).exit_code == 0
    assert [file.name for file in tmp_path.glob("*.access")] == [
        f"postgres-{PostgresAddress.parse(postgres_place).schema.replace(' ', '-')}.access"
    ]


def test_a_gallery_in_a_database_is_not_upgraded(run: Callable[..., Result]) -> None:
    place = "postgresql://ann:s3cret@h/d"
    for act in (lambda: Upgrade.open(place, "s"), lambda: confirm_upgrade(place), lambda: discard_upgrade(place)):
        with pytest.raises(UpgradeError, match="cannot be moved yet: enroll again into another schema") as caught:
            act()
        assert "s3cret" not in str(caught.value)
    result = run("gallery", "upgrade", place, "--discard")
    assert result.exit_code == 3
    assert "'postgresql://ann@h/d'" in result.stderr


def test_the_service_runs_on_a_database_and_says_when_it_is_gone(
    impatient: None, team: tuple[str, Gallery], toy_recognizer: Recognizer
) -> None:
    server, _ = team
    with Gallery.open(server.replace("/postgres?", "/team?"), toy_recognizer) as gallery:
        app = create_app(toy_recognizer, gallery, ServiceConfig(keep_crops=True))
        with service_world.serve(app) as client:
            person = service_world.enroll(client, "Blue", toy.BLUE, note=5)
            found = client.post("/v1/identify", files={"picture": service_world.png(toy.BLUE)}).json()
            assert [face["name"] for face in found["faces"]] == ["Blue"]
            assert len(client.get(f"/v1/people/{person}/faces").json()["faces"]) == 1
            with postgres_world.closed_to_all(server, "team"):
                answer = client.get("/ready")
                assert service_world.error_of(answer) == (503, "gallery_lost")
                assert "team" not in answer.text
            assert client.get("/ready").status_code == 200
            assert client.delete(f"/v1/people/{person}").status_code == 200
            assert gallery.people() == [Person("Red", 1)]
