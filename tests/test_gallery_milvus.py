"""The gallery in Milvus: what is sent when, what breaks in between, and the same as in a file."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import milvus_world
import numpy as np
import psycopg
import pytest
import service_world
import toy
from click.testing import Result
from gallery_world import face, identify_one
from psycopg import sql
from test_gallery_processes import send_line, worker

from sameface.embed import unit_rows
from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.address import PostgresAddress
from sameface.gallery.errors import GalleryBusyError, GalleryFileError, GalleryUnreachableError, UpgradeError
from sameface.gallery.upgrade import Upgrade, confirm_upgrade
from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig

pytest.importorskip("pymilvus", reason=milvus_world.INSTALL)

from sameface.gallery.milvus import collection
from sameface.gallery.milvus.collection import MilvusCollection
from sameface.gallery.milvus.database import CANDIDATES

BOX = np.array([0, 0, 9, 9], np.float32)


@pytest.fixture
def gallery(milvus_place: str, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(milvus_place, toy_recognizer) as gallery:
        yield gallery


@pytest.fixture
def people(tmp_path: Path) -> str:
    """The file with the people of `milvus_place`."""
    return str(tmp_path / "people.db")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a server a moment only."""
    monkeypatch.setattr(collection, "WAIT_SECONDS", 2.5)
    monkeypatch.setattr(collection, "ANSWER_SECONDS", 2.5)


@pytest.fixture(scope="module")
def fragile() -> Iterator[milvus_world.Server]:
    """A server of one's own, to be stopped."""
    with milvus_world.served() as server:
        yield server


@pytest.fixture
def fragile_place(fragile: milvus_world.Server, tmp_path: Path) -> str:
    """Where a gallery can be made whose server may stop."""
    return fragile.place(str(tmp_path / "people.db"))


def index_of(gallery: Gallery) -> MilvusCollection:
    """Return what a gallery has in Milvus."""
    return gallery._db._collection  # type: ignore[attr-defined, no-any-return]


def numbers_in(gallery: Gallery) -> list[int]:
    """Return the numbers of the faces that Milvus has, in order."""
    index = index_of(gallery)
    index.reach()
    found = index._call("query", filter="id >= 0", output_fields=["id"], limit=1000, consistency_level="Strong")
    return sorted(int(row["id"]) for row in found)


def faces_of(gallery: Gallery) -> list[int]:
    """Return the numbers of the faces that are enrolled, in order."""
    return [number for (number,) in gallery._db.read("SELECT id FROM faces ORDER BY id")]


# What is in Milvus


def test_milvus_has_numbers_and_rows_bit_for_bit_and_no_names(gallery: Gallery) -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    gallery.enroll("Red", [Template(str(number), BOX, 1, row) for number, row in enumerate(rows)])
    index = index_of(gallery)
    told = index._call("describe_collection")
    assert [field["name"] for field in told["fields"]] == ["id", "embedding"]
    found = index._call("query", filter="id > 0", output_fields=["embedding"], limit=99)
    kept = {row["id"]: np.array(row["embedding"], np.float32) for row in found}
    assert [kept[number].tobytes() for number in faces_of(gallery)] == [row.tobytes() for row in rows]


def test_whoever_is_forgotten_is_gone_from_milvus_at_once(gallery: Gallery) -> None:
    gallery.enroll("Red", [face(toy.RED, str(number)) for number in range(3)])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    assert numbers_in(gallery) == faces_of(gallery)
    gallery.forget("Red")
    assert numbers_in(gallery) == faces_of(gallery)
    assert len(faces_of(gallery)) == 1
    gallery.enroll("Blue", [face(toy.BLUE, "c")])
    gallery.forget_face("Blue", faces_of(gallery)[0])
    assert numbers_in(gallery) == faces_of(gallery)


def test_two_galleries_of_one_name_have_collections_of_their_own(
    gallery: Gallery, milvus_place: str, toy_recognizer: Recognizer, tmp_path: Path
) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    elsewhere = milvus_place.replace("people.db", "other.db")
    with Gallery.open(elsewhere, toy_recognizer) as other:
        other.enroll("Rouge", [face(toy.REDDISH, "r")])
        assert identify_one(other, toy.row_of(toy.RED), rule="rows").matches[0].name == "Rouge"
        other.forget("Rouge")
    assert identify_one(gallery, toy.row_of(toy.RED), rule="rows").name == "Red"


@pytest.mark.parametrize(("was", "given"), [("/faces", "/persons"), ("?", "?index=hnsw&")])
def test_another_collection_or_index_than_it_has_is_refused(
    gallery: Gallery, milvus_place: str, toy_recognizer: Recognizer, was: str, given: str
) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    with pytest.raises(GalleryFileError, match="its faces are in the collection 'faces_flat_"):
        Gallery.open(milvus_place.replace(was, given), toy_recognizer)
    gallery._db._people.read("DELETE FROM milvus_index")  # type: ignore[attr-defined]
    with Gallery.open(milvus_place.replace(was, given), toy_recognizer) as moved:
        assert identify_one(moved, toy.row_of(toy.RED), rule="rows").name == "Red"


# What breaks in between


def test_what_is_changed_without_milvus_is_sent_by_the_next_who_searches(
    gallery: Gallery, milvus_place: str, people: str, toy_recognizer: Recognizer
) -> None:
    gallery.enroll("Red", [face(toy.RED)])
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    with Gallery.open(people, toy_recognizer) as file:
        file.forget("Red")
        file.enroll("Green", [face(toy.GREEN, "g")])
    assert identify_one(gallery, toy.row_of(toy.GREEN), rule="rows").name == "Green"
    assert [match.name for match in identify_one(gallery, toy.row_of(toy.RED), rule="rows").matches] == [
        "Blue",
        "Green",
    ]
    assert numbers_in(gallery) == faces_of(gallery)


def test_who_is_not_enrolled_is_not_found_whatever_milvus_has(gallery: Gallery, toy_recognizer: Recognizer) -> None:
    gallery.enroll("Blue", [face(toy.BLUE, "b")])
    identify_one(gallery, toy.row_of(toy.RED), rule="rows")
    index_of(gallery).put([900 + number for number in range(2 * CANDIDATES)], [toy.row_of(toy.RED)] * 128)
    answer = identify_one(gallery, toy.row_of(toy.RED), rule="rows")
    assert [match.name for match in answer.matches] == ["Blue"]


@pytest.mark.parametrize("damage", ["dropped", "more", "fewer", "emptied"])
def test_a_collection_that_is_not_as_it_was_is_made_anew(
    milvus_place: str, toy_recognizer: Recognizer, damage: str
) -> None:
    with Gallery.open(milvus_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED), face(toy.REDDISH, "r")])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        index = index_of(gallery)
        if damage == "dropped":
            index._call("drop_collection")
        elif damage == "more":
            index.put([900], [toy.row_of(toy.RED)])
        elif damage == "fewer":
            index.delete(faces_of(gallery)[:1])
        else:
            index.make(3)
    with Gallery.open(milvus_place, toy_recognizer) as gallery:
        assert identify_one(gallery, toy.row_of(toy.RED), rule="rows").name == "Red"
        assert numbers_in(gallery) == faces_of(gallery)


def test_faces_of_a_file_are_sent_when_it_comes_to_milvus(
    milvus_place: str, people: str, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sameface.gallery.milvus.database.SENT_AT_ONCE", 7)
    with Gallery.open(people, toy_recognizer) as file:
        for number in range(20):
            file.enroll(f"Person {number}", [face((number + 1, 9, 9), str(number))])
    with Gallery.open(milvus_place, toy_recognizer) as gallery:
        assert identify_one(gallery, toy.row_of((20, 9, 9)), rule="rows").matches[0].name == "Person 19"
        assert numbers_in(gallery) == faces_of(gallery)


def test_without_milvus_the_first_change_is_kept_the_next_refused_and_nobody_named(
    impatient: None, fragile: milvus_world.Server, fragile_place: str, toy_recognizer: Recognizer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with Gallery.open(fragile_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        fragile.stop()
        with caplog.at_level(logging.WARNING, "sameface"):
            assert gallery.enroll("Blue", [face(toy.BLUE, "b")]) == 1
        assert "the change is kept, and sent to Milvus later: " in caplog.text
        for act in (
            lambda: gallery.enroll("Green", [face(toy.GREEN, "g")]),
            lambda: gallery.forget("Red"),
            lambda: identify_one(gallery, toy.row_of(toy.RED), rule="rows"),
        ):
            with pytest.raises(GalleryUnreachableError, match="cannot be reached: Milvus does not answer: "):
                act()
        assert gallery.people() == [Person("Blue", 1), Person("Red", 1)]
        fragile.start()
        assert identify_one(gallery, toy.row_of(toy.BLUE), rule="rows").name == "Blue"
        assert gallery.enroll("Green", [face(toy.GREEN, "g")]) == 1
        assert numbers_in(gallery) == faces_of(gallery)


def test_who_is_forgotten_while_milvus_is_away_is_gone_and_can_be_forgotten_again(
    impatient: None, fragile: milvus_world.Server, fragile_place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(fragile_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        fragile.stop()
        with pytest.raises(GalleryBusyError, match="stays in Milvus: forget again"):
            gallery.forget("Red")
        assert gallery.people() == [Person("Blue", 1)]
        fragile.start()
        assert len(numbers_in(gallery)) == 2
        gallery.forget_traces()
        assert numbers_in(gallery) == faces_of(gallery)


def test_a_server_that_hangs_is_one_clear_error(
    impatient: None, fragile: milvus_world.Server, fragile_place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(fragile_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        identify_one(gallery, toy.row_of(toy.RED), rule="rows")
        fragile.pause()
        try:
            with pytest.raises(GalleryUnreachableError, match="Milvus does not answer: "):
                identify_one(gallery, toy.row_of(toy.RED), rule="rows")
        finally:
            fragile.resume()
        assert identify_one(gallery, toy.row_of(toy.RED), rule="rows").name == "Red"


def test_a_search_waits_for_a_server_that_is_started_again(
    fragile: milvus_world.Server, fragile_place: str, toy_recognizer: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(collection, "WAIT_SECONDS", 60)  # it takes seconds to start
    with Gallery.open(fragile_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        fragile.stop()
        starting = threading.Timer(0.5, fragile.start)
        starting.start()
        assert identify_one(gallery, toy.row_of(toy.RED), rule="rows").name == "Red"
        starting.join()


def test_an_enrolment_whose_milvus_stops_ends_with_one_error_and_goes_on_when_it_is_back(
    impatient: None, run: Callable[..., Result], tmp_path: Path, fragile: milvus_world.Server,
    fragile_place: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for number in range(6):
        toy.save(tmp_path / "many" / f"{number}.png", toy.RED, note=number)
    words = ("enroll", "Rosa", "many", "--gallery", fragile_place)
    enroll, calls = Gallery.enroll, []

    def stop_at_the_third(*args: object, **more: object) -> int:
        calls.append(1)
        if len(calls) == 3:
            fragile.stop()
        return enroll(*args, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "enroll", stop_at_the_third)
        result = run(*words)
    fragile.start()
    assert (result.exit_code, result.stdout) == (3, "")
    first, second = result.stderr.splitlines()[-2:]
    assert first == "3 faces added before this: the same command goes on from there"
    assert "cannot be reached: Milvus does not answer: " in second
    assert run(*words).stdout == "Rosa: 3 added\n"
    with Gallery.open(fragile_place, toy.make_recognizer()) as gallery:
        assert identify_one(gallery, toy.row_of(toy.RED), rule="rows").name == "Rosa"
        assert numbers_in(gallery) == faces_of(gallery)
        assert gallery.count() == (1, 6)


def test_a_killed_program_leaves_milvus_with_all_that_it_acknowledged(
    milvus_place: str, toy_recognizer: Recognizer
) -> None:
    for life in range(3):
        with worker(milvus_place, f"Life {life}", 0, 100_000) as process:
            send_line(process)
            assert process.stdout is not None
            acknowledged = [process.stdout.readline().strip() for _ in range(5 + 2 * life)]
            process.kill()
            process.wait()
        with Gallery.open(milvus_place, toy_recognizer) as gallery:
            near = identify_one(gallery, toy.row_of(toy.RED), most=1000, rule="rows").matches
            assert set(acknowledged) <= {match.name for match in near}
            assert numbers_in(gallery) == faces_of(gallery)


def test_with_people_in_postgresql_a_role_that_searches_needs_what_the_docs_say(
    milvus_server: milvus_world.Server, postgres_place: str, toy_recognizer: Recognizer
) -> None:
    place = milvus_server.place(postgres_place)
    address = PostgresAddress.parse(postgres_place)
    tables = sql.Identifier(address.schema)
    with Gallery.open(place, toy_recognizer) as gallery, psycopg.connect(address.conninfo, autocommit=True) as direct:
        gallery.enroll("Red", [face(toy.RED)])
        direct.execute("CREATE ROLE searcher LOGIN")
        try:
            for grant in (
                "USAGE ON SCHEMA {0}",
                "SELECT ON ALL TABLES IN SCHEMA {0}",
                "UPDATE ON {0}.sameface_gallery",
                "INSERT, DELETE ON {0}.milvus_unsent",
            ):
                direct.execute(sql.SQL(f"GRANT {grant} TO searcher").format(tables))  # type: ignore[arg-type]
            with Gallery.open(place.replace("postgres%3A%40", "searcher%40"), toy_recognizer) as other:
                direct.execute(sql.SQL("INSERT INTO {}.milvus_unsent SELECT id FROM {}.faces").format(tables, tables))
                assert identify_one(other, toy.row_of(toy.RED), rule="rows").name == "Red"
                with pytest.raises(GalleryFileError, match="permission denied"):
                    other.forget("Red")
        finally:
            direct.execute("DROP OWNED BY searcher")
            direct.execute("DROP ROLE searcher")


def test_a_password_is_in_no_message(toy_recognizer: Recognizer, impatient: None, tmp_path: Path) -> None:
    place = f"milvus://ann:s3cret@127.0.0.1:1/faces?people={tmp_path / 'people.db'}"
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as file, Gallery.open(place, toy_recognizer) as gallery:
        file.enroll("Red", [face(toy.RED)])
        with pytest.raises(GalleryUnreachableError, match=re.escape("'milvus://ann@127.0.0.1:1/")) as caught:
            identify_one(gallery, toy.row_of(toy.RED), rule="rows")
    assert "s3cret" not in str(caught.value)


# What a search sees


PEOPLE, EACH = 300, 4


@pytest.fixture(params=["flat", "hnsw"])
def crowd(
    request: pytest.FixtureRequest, milvus_place: str, people: str, toy_recognizer: Recognizer
) -> Iterator[tuple[str, Gallery, Gallery, np.ndarray]]:
    """The index, the gallery in Milvus, its file, and the rows of 1,200 faces of 300 people."""
    rng = np.random.default_rng(0)
    middles = np.repeat(rng.normal(size=(PEOPLE, 16)), EACH, axis=0)
    rows = unit_rows((middles + rng.normal(size=(PEOPLE * EACH, 16)) / 3).astype(np.float32))
    rows[5] = rows[400]  # two people with the very same face
    with Gallery.open(people, toy_recognizer) as file:
        for person in range(PEOPLE):
            mine = range(person * EACH, person * EACH + EACH)
            file.enroll(f"Person {person}", [Template(str(number), BOX, 1, rows[number]) for number in mine])
        with Gallery.open(f"{milvus_place}&index={request.param}", toy_recognizer) as gallery:
            yield request.param, gallery, file, rows


def test_answers_are_those_of_the_file(crowd: tuple[str, Gallery, Gallery, np.ndarray]) -> None:
    index, gallery, file, rows = crowd
    noise = np.random.default_rng(1).normal(size=rows[::7].shape).astype(np.float32)
    probes = np.concatenate([unit_rows(rows[::7] + noise / 9), rows[[5, 400]]])
    for search in ({}, {"k": 7, "most": 3}, {"closed_set": True, "k": 3, "most": 40}, {"far": 0.2, "most": 1}):
        answers, others = (each.identify(probes, **search, rule="rows") for each in (gallery, file))  # type: ignore[arg-type]
        if index == "flat":
            assert answers == others
        else:
            same = [one.name == other.name for one, other in zip(answers, others, strict=True)]
            assert sum(same) >= 0.98 * len(probes)


def test_of_equally_near_faces_the_first_are_taken_however_many_there_are(
    gallery: Gallery, people: str, toy_recognizer: Recognizer
) -> None:
    gallery.enroll("Many", [face(toy.RED, str(number)) for number in range(3 * CANDIDATES)])
    gallery.enroll("Other", [face(toy.RED, "o"), face(toy.BLUE, "b")])
    gallery.enroll("Third", [face(toy.GREEN, "g")])
    with Gallery.open(people, toy_recognizer) as file:
        for search in ({}, {"k": 5}, {"most": 1}, {"k": 3 * CANDIDATES + 1, "most": 3}):
            rows = np.stack([toy.row_of(toy.RED), toy.row_of(toy.ORANGE)])
            assert gallery.identify(rows, **search, rule="rows") == file.identify(rows, **search, rule="rows")  # type: ignore[arg-type]
        assert identify_one(gallery, toy.row_of(toy.RED), most=1, rule="rows").ambiguous


# Other weights


class Other:
    """Another pipeline."""

    signature = "other"
    thresholds = toy.THRESHOLDS


def test_a_gallery_is_upgraded_in_its_file_and_milvus_follows(
    milvus_place: str, people: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(milvus_place, toy_recognizer) as gallery:
        gallery.enroll("Red", [face(toy.RED)])
        gallery.enroll("Blue", [face(toy.BLUE, "b")])
        identify_one(gallery, toy.row_of(toy.RED), rule="rows")
    with pytest.raises(UpgradeError, match=re.escape(f"sameface gallery upgrade {people}")):
        Upgrade.open(milvus_place, "other")
    wide = np.eye(4, dtype=np.float32)
    with Upgrade.open(people, "other") as upgrade:
        pending = [one for faces in upgrade.pending().values() for one in faces]
        upgrade.put(pending, wide[: len(pending)])
    confirm_upgrade(people)
    with Gallery.open(milvus_place, Other()) as gallery:
        assert {identify_one(gallery, row, rule="rows").matches[0].name for row in wide[:2]} == {"Red", "Blue"}
        assert identify_one(gallery, wide[0], rule="rows").matches[0].distance == 0
        assert numbers_in(gallery) == faces_of(gallery)


def test_rows_that_an_adapter_moved_are_judged_as_in_the_file(
    milvus_place: str, people: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(people, toy_recognizer) as file:
        file.enroll("Red", [face(toy.RED)])
        file.enroll("Blue", [face(toy.BLUE, "b")])
    loose = toy.THRESHOLDS.__class__((0.1, 0.001), (0.8, 0.1), (1000, 10), 10_000, "moved")
    with Upgrade.open(people, "other") as upgrade:
        upgrade.adapt(lambda rows: rows, loose)
    confirm_upgrade(people)
    with Gallery.open(people, Other()) as file, Gallery.open(milvus_place, Other()) as gallery:
        file.enroll("Reddish", [face(toy.REDDISH, "r")])
        probes = np.stack([toy.row_of(colour) for colour in (toy.RED, toy.ORANGE, toy.BLUE, toy.WHITE)])
        assert gallery.identify(probes, rule="rows") == file.identify(probes, rule="rows")
        assert identify_one(gallery, probes[1], rule="rows").matches != ()


# The commands


def test_every_command_takes_an_address_of_milvus(
    run: Callable[..., Result], tmp_path: Path, milvus_place: str
) -> None:
    for name, colour in (("red", toy.RED), ("reddish", toy.REDDISH), ("blue", toy.BLUE)):
        toy.save(tmp_path / f"{name}.png", colour)
    place = ("--gallery", milvus_place)
    assert run("enroll", "Red", "red.png", *place).stdout == "Red: 1 added\n"
    assert run("enroll", "Blue", "blue.png", *place).exit_code == 0
    assert '"name": "Red"' in run("identify", "reddish.png", "--json", *place).stdout
    assert run("rename", "Red", "Rouge", *place).stdout == "Red is now Rouge\n"
    assert '"name": "Rouge"' in run("identify", "reddish.png", "--json", *place).stdout
    assert run("merge", "Blue", "Rouge", *place).stdout == "Blue is now Rouge: 1 face moved\n"
    assert run("forget", "Rouge", "--yes", *place).exit_code == 0
    assert run("people", "--json", *place).stdout == ""
    assert run("keys", "add", "door", "--role", "read", *place).exit_code == 0
    assert [file.name for file in tmp_path.glob("*.access")] == ["default-faces.access"]


def test_the_service_runs_on_milvus_and_says_when_it_is_gone(
    impatient: None, fragile: milvus_world.Server, fragile_place: str, toy_recognizer: Recognizer
) -> None:
    with Gallery.open(fragile_place, toy_recognizer) as gallery:
        app = create_app(toy_recognizer, gallery, ServiceConfig())
        with service_world.serve(app) as client:
            person = service_world.enroll(client, "Blue", toy.BLUE, note=5)
            picture = {"picture": service_world.png(toy.BLUE)}
            by_rows = {"rule": "rows"}  # templates are searched in memory, not by Milvus
            found = client.post("/v1/identify", files=picture, data=by_rows).json()
            assert [face["name"] for face in found["faces"]] == ["Blue"]
            fragile.stop()
            answer = client.post("/v1/identify", files=picture, data=by_rows)
            assert service_world.error_of(answer) == (503, "gallery_lost")
            fragile.start()
            assert client.delete(f"/v1/people/{person}").status_code == 200
            assert numbers_in(gallery) == []
