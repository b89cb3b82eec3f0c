"""The service in the toy world: every request, over a real port."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from service_world import base64_of, enroll, error_of, files, png, serve

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service import app
from sameface.service.access_file import Access
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig


@pytest.fixture
def gallery(tmp_path: Path, toy_recognizer: Recognizer) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        yield gallery


@pytest.fixture
def client(toy_recognizer: Recognizer, gallery: Gallery) -> Iterator[httpx.Client]:
    with serve(create_app(toy_recognizer, gallery, ServiceConfig(keep_crops=True))) as client:
        yield client


def test_every_face_of_a_picture_is_detected(client: httpx.Client) -> None:
    answer = client.post("/v1/detect", files={"picture": png(toy.RED, toy.BLUE)}).json()
    assert (answer["width"], answer["height"]) == (128, 64)
    assert [face["box"] for face in answer["faces"]] == [[16, 16, 48, 48], [80, 16, 112, 48]]
    assert np.shape(answer["faces"][0]["landmarks"]) == (5, 2)


def test_a_picture_without_a_face_has_an_empty_list(client: httpx.Client) -> None:
    assert client.post("/v1/detect", files={"picture": png()}).json()["faces"] == []
    assert client.post("/v1/embed", files={"picture": png()}).json()["faces"] == []
    assert client.post("/v1/identify", files={"picture": png()}).json()["faces"] == []


def test_a_form_and_json_are_answered_alike(client: httpx.Client) -> None:
    data = png(toy.RED, toy.GREEN)
    form = client.post("/v1/embed", files={"picture": data})
    body = client.post("/v1/embed", json={"picture": base64_of(data)})
    assert form.json() == body.json()
    assert [face["embedding"] for face in form.json()["faces"]] == [[1, 0, 0], [0, 1, 0]]


def test_two_pictures_are_verified_at_the_rate_asked_for(client: httpx.Client) -> None:
    pictures = {"a": png(toy.RED), "b": png(toy.REDDISH)}
    strict = client.post("/v1/verify", files=pictures, data={"far": "0.001"}).json()
    loose = client.post("/v1/verify", files=pictures, data={"far": "0.01"}).json()
    assert (strict["same"], strict["threshold"]) == (False, 0.05)
    assert (loose["same"], loose["threshold"]) == (True, 0.2)
    assert loose["distance"] == pytest.approx(toy.distance_of(toy.RED, toy.REDDISH), abs=1e-6)
    assert loose["probability"] is None


def test_a_choice_says_which_face_of_each_picture_counts(client: httpx.Client) -> None:
    pictures = {"a": png(toy.RED, toy.GREEN), "b": png(toy.BLUE, toy.GREEN)}
    chosen = client.post("/v1/verify", files=pictures, data={"face_a": "1", "face_b": "1"}).json()
    assert (chosen["distance"], chosen["same"]) == (0, True)
    assert chosen["a"]["box"] == [80, 16, 112, 48]


def test_several_faces_without_a_choice_are_an_error_that_lists_them(client: httpx.Client) -> None:
    answer = client.post("/v1/verify", files={"a": png(toy.RED), "b": png(toy.RED, toy.BLUE)})
    assert error_of(answer) == (422, "several_faces")
    detail = answer.json()["error"]["detail"]
    assert detail["name"] == "'b'"
    assert [face["box"][0] for face in detail["faces"]] == [16, 80]


def test_everyone_in_a_picture_is_named_or_a_stranger(client: httpx.Client) -> None:
    enroll(client, "Rosa", toy.RED)
    answer = client.post("/v1/identify", files={"picture": png(toy.RED, toy.BLUE)}).json()
    assert [face["name"] for face in answer["faces"]] == ["Rosa", None]
    assert [face["person"] for face in answer["faces"]] == [1, None]
    assert answer["faces"][1]["matches"] == [{"person": 1, "name": "Rosa", "distance": 2, "votes": 0}]


def test_the_search_does_as_it_is_told(client: httpx.Client) -> None:
    for number, (name, colour) in enumerate({"Rosa": toy.RED, "Gil": toy.GREEN, "Blu": toy.BLUE}.items()):
        enroll(client, name, colour, note=number)
    picture = {"picture": png(toy.ORANGE)}
    assert client.post("/v1/identify", files=picture).json()["faces"][0]["name"] is None
    closed = client.post("/v1/identify", files=picture, data={"closed_set": "true", "most": "2", "k": "2"})
    [face] = closed.json()["faces"]
    assert (face["name"], face["closed_set"], len(face["matches"])) == ("Rosa", True, 2)
    assert [match["votes"] for match in face["matches"]] == [1, 1]
    loose = client.post("/v1/identify", json={"picture": base64_of(png(toy.ORANGE)), "far": 0.27})
    assert loose.json()["faces"][0]["name"] == "Rosa"


def test_a_rate_beyond_the_calibration_is_an_error(client: httpx.Client) -> None:
    enroll(client, "Rosa", toy.RED)
    pair = {"a": png(toy.RED), "b": png(toy.RED)}
    assert error_of(client.post("/v1/verify", files=pair, data={"far": "1e-9"})) == (422, "no_threshold")
    picture = {"picture": png(toy.RED)}
    assert error_of(client.post("/v1/identify", files=picture, data={"far": "1e-9"})) == (422, "no_threshold")


def test_a_person_is_enrolled_and_bad_pictures_are_explained(client: httpx.Client) -> None:
    pictures = [png(toy.RED), png(), b"no picture", png(toy.RED, toy.BLUE), png(toy.REDDISH)]
    answer = client.post("/v1/people", data={"name": " Rosa "}, files=files(pictures))
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["Location"] == f"/v1/people/{body['person']['id']}"
    assert (body["person"]["name"], body["person"]["faces"], body["enrolled"]) == ("Rosa", 2, 2)
    told = [(each["number"], each["picture"], each["error"]["code"]) for each in body["skipped"]]
    assert told == [(1, "1.png", "no_face"), (2, "2.png", "bad_image"), (3, "3.png", "several_faces")]


@pytest.mark.parametrize("as_json", [True, False])
def test_each_picture_can_have_a_choice(client: httpx.Client, gallery: Gallery, as_json: bool) -> None:
    pictures = [png(toy.RED, toy.BLUE), png(toy.BLUE, note=1)]
    if as_json:
        body = {"name": "Blu", "pictures": [base64_of(data) for data in pictures], "faces": [1, "only"]}
        answer = client.post("/v1/people", json=body)
    else:
        form = {"name": "Blu", "faces": json.dumps([1, "only"])}
        answer = client.post("/v1/people", data=form, files=files(pictures))
    assert answer.json()["enrolled"] == 2
    assert [list(each.embedding) for each in gallery.templates("Blu")] == [[0, 0, 1], [0, 0, 1]]


def test_choices_can_be_repeated_fields(client: httpx.Client) -> None:
    form = {"name": "Blu", "faces": ["1", "largest"]}
    answer = client.post("/v1/people", data=form, files=files([png(toy.RED, toy.BLUE), png(toy.BLUE, note=1)]))
    assert answer.json()["enrolled"] == 2


def test_choices_must_be_as_many_as_pictures(client: httpx.Client) -> None:
    answer = client.post("/v1/people", data={"name": "Blu", "faces": "[0, 0]"}, files=files([png(toy.BLUE)]))
    assert error_of(answer) == (422, "bad_request")
    assert client.get("/v1/people").json()["total"] == 0


def test_nobody_is_made_of_pictures_that_cannot_be_used(client: httpx.Client) -> None:
    answer = client.post("/v1/people", data={"name": "Rosa"}, files=files([png(), b"no picture"]))
    assert error_of(answer) == (422, "nothing_enrolled")
    assert [reason[1]["code"] for reason in answer.json()["error"]["detail"]["reasons"]] == ["no_face", "bad_image"]
    assert client.get("/v1/people").json() == {"people": [], "next": None, "total": 0}


def test_a_name_is_given_once(client: httpx.Client) -> None:
    enroll(client, "Rosa", toy.RED)
    answer = client.post("/v1/people", data={"name": "Rosa"}, files=files([png(toy.RED, note=9)]))
    assert error_of(answer) == (409, "person_exists")


def test_a_face_of_somebody_else_is_passed_over(client: httpx.Client) -> None:
    enroll(client, "Rosa", toy.RED)
    both = files([png(toy.RED), png(toy.BLUE)])
    answer = client.post("/v1/people", data={"name": "Blu"}, files=both).json()
    assert (answer["enrolled"], [each["error"]["code"] for each in answer["skipped"]]) == (1, ["face_taken"])
    taken = client.post("/v1/people", data={"name": "Ann"}, files=files([png(toy.RED)]))
    assert error_of(taken) == (422, "nothing_enrolled")


def test_people_are_listed_a_page_at_a_time(client: httpx.Client) -> None:
    for number, name in enumerate("DBCAE"):
        enroll(client, name, toy.RED, note=number)
    names, after, pages = [], "", 0
    while after is not None:
        page = client.get("/v1/people", params={"limit": 2, "after": after}).json()
        names += [person["name"] for person in page["people"]]
        after, pages = page["next"], pages + 1
        assert page["total"] == 5
    assert (names, pages) == (list("ABCDE"), 3)


def test_a_person_is_found_by_name(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    enroll(client, "Blu", toy.BLUE)
    found = client.get("/v1/people", params={"name": " Rosa"}).json()
    rosa = {"id": person, "name": "Rosa", "faces": 1, "consent": None, "expires": None}
    assert found == {"people": [rosa], "next": None, "total": 2}
    assert client.get("/v1/people", params={"name": "Ro"}).json()["people"] == []
    assert error_of(client.get("/v1/people", params={"name": ""})) == (422, "bad_name")


def test_pictures_in_json_are_told_apart(client: httpx.Client) -> None:
    body = {"name": "Rosa", "pictures": [base64_of(png(toy.RED)), base64_of(b"no picture")]}
    [skipped] = client.post("/v1/people", json=body).json()["skipped"]
    assert (skipped["picture"], skipped["number"]) == ("pictures[1]", 1)
    assert skipped["error"]["message"].startswith("cannot read 'pictures[1]': ")


def test_as_many_choices_as_pictures_fit_in_a_form(client: httpx.Client) -> None:
    pictures = [png(toy.RED, note=number) for number in range(100)]
    answer = client.post("/v1/people", data={"name": "Rosa", "faces": ["0"] * 100}, files=files(pictures))
    assert answer.json()["enrolled"] == 100


def test_what_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    for address in ("/v1/people", f"/v1/people/{person}"):
        first = client.get(address)
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-store"
    client.patch(f"/v1/people/{person}", json={"name": "Rosie"})
    assert client.get(address, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_a_person_keeps_the_id_under_another_name(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    renamed = client.patch(f"/v1/people/{person}", json={"name": "Rosie"})
    assert renamed.json() == {"id": person, "name": "Rosie", "faces": 1, "consent": None, "expires": None}
    assert client.get(f"/v1/people/{person}").json() == renamed.json()


def test_a_new_name_must_be_free_and_a_name(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    enroll(client, "Blu", toy.BLUE)
    assert error_of(client.patch(f"/v1/people/{person}", json={"name": "Blu"})) == (409, "person_exists")
    assert error_of(client.patch(f"/v1/people/{person}", json={"name": " "})) == (422, "bad_name")


def test_two_people_become_one(client: httpx.Client) -> None:
    one, two = enroll(client, "Rosa", toy.RED), enroll(client, "Rosie", toy.REDDISH, toy.RED, note=5)
    merged = client.post(f"/v1/people/{one}/merge", json={"into": two})
    assert merged.json() == {"id": two, "name": "Rosie", "faces": 3, "consent": None, "expires": None}
    assert error_of(client.get(f"/v1/people/{one}")) == (404, "unknown_person")
    assert error_of(client.post(f"/v1/people/{two}/merge", json={"into": two})) == (422, "bad_name")


def test_a_deleted_person_is_gone_and_the_id_is_not_given_again(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    gone = client.delete(f"/v1/people/{person}")
    receipt = gone.json()
    assert (receipt["person"], receipt["faces"], receipt["pictures"]) == (person, 1, 1)
    assert "Rosa" not in gone.text
    assert client.get("/v1/receipts").json() == {"receipts": [receipt], "next": None}
    assert client.get("/v1/audit").json()["entries"][0]["detail"]["hash"] == receipt["hash"]
    assert error_of(client.delete(f"/v1/people/{person}")) == (404, "unknown_person")
    assert enroll(client, "Rosa", toy.RED) != person


def test_faces_are_listed_added_shown_and_deleted(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED, toy.REDDISH)
    added = client.post(f"/v1/people/{person}/faces", files=files([png(toy.RED, note=7), png(toy.RED)]))
    assert (added.status_code, added.json()["enrolled"]) == (201, 1)  # the second is enrolled already
    page = client.get(f"/v1/people/{person}/faces", params={"limit": 2}).json()
    rest = client.get(f"/v1/people/{person}/faces", params={"after": page["next"]}).json()
    faces = page["faces"] + rest["faces"]
    assert ([face["crop"] for face in faces], rest["next"]) == ([True, True, True], None)
    place = f"/v1/people/{person}/faces/{faces[0]['id']}"
    crop = client.get(f"{place}/crop")
    assert (crop.headers["Content-Type"], crop.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert crop.headers["Cache-Control"] == "no-store"
    gone = client.delete(place).json()
    assert (gone["reason"], gone["person"], gone["faces"], gone["complete"]) == ("forget_face", person, 1, True)
    assert error_of(client.delete(place)) == (404, "unknown_face")
    assert client.get(f"/v1/people/{person}").json()["faces"] == 2


def test_the_last_face_goes_only_with_the_person(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    [face] = client.get(f"/v1/people/{person}/faces").json()["faces"]
    assert error_of(client.delete(f"/v1/people/{person}/faces/{face['id']}")) == (409, "last_face")


def test_a_face_is_found_only_with_its_person(client: httpx.Client) -> None:
    rosa, blu = enroll(client, "Rosa", toy.RED, toy.REDDISH), enroll(client, "Blu", toy.BLUE)
    [face, _] = client.get(f"/v1/people/{rosa}/faces").json()["faces"]
    assert error_of(client.get(f"/v1/people/{blu}/faces/{face['id']}/crop")) == (404, "unknown_face")
    assert error_of(client.delete(f"/v1/people/{blu}/faces/{face['id']}")) == (404, "unknown_face")


def test_crops_are_kept_only_if_told_so(toy_recognizer: Recognizer, gallery: Gallery) -> None:
    with serve(create_app(toy_recognizer, gallery, ServiceConfig())) as client:
        person = enroll(client, "Rosa", toy.RED)
        [face] = client.get(f"/v1/people/{person}/faces").json()["faces"]
        assert face["crop"] is False
        assert error_of(client.get(f"/v1/people/{person}/faces/{face['id']}/crop")) == (404, "not_found")


def test_the_model_is_described(client: httpx.Client, toy_recognizer: Recognizer, gallery: Gallery) -> None:
    enroll(client, "Rosa", toy.RED, toy.REDDISH)
    model = client.get("/v1/model").json()
    assert model["signature"] == toy_recognizer.signature
    assert (model["detector"]["name"], model["embedder"]["name"]) == ("squares", "colours")
    assert model["gallery"] == {"people": 1, "faces": 2}
    assert model["thresholds"][0] == {"far": 0.1, "distance": 0.4, "extrapolated": False}
    assert [each["population"] for each in model["populations"]] == [model["population"]] == ["mixed"]
    assert model["limits"]["picture_bytes"] == ServiceConfig().picture_bytes


def test_the_thresholds_of_the_gallery_come_first(client: httpx.Client, gallery: Gallery) -> None:
    own = toy.replace(toy.THRESHOLDS, distance=(0.3, 0.1, 0.02, 0.005))
    gallery.keep_thresholds(own)
    assert client.get("/v1/model").json()["thresholds"][0] == {"far": 0.1, "distance": 0.3, "extrapolated": False}
    answer = client.post("/v1/verify", files={"a": png(toy.RED), "b": png(toy.RED)}, data={"far": "0.01"})
    assert answer.json()["threshold"] == 0.1


def test_the_model_lists_populations_with_their_tails(tmp_path: Path) -> None:
    recognizer = toy.make_recognizer("tailed")
    with serve(create_app(recognizer, None, ServiceConfig())) as client:
        model = client.get("/v1/model").json()
        assert [each["population"] for each in model["populations"]] == ["alike", "mixed"]
        rates = [(each["far"], each["extrapolated"]) for each in model["thresholds"]]
        assert rates == [(0.1, False), (0.05, False), (0.001, True), (1e-6, True)]
        pictures = {"a": png(toy.RED), "b": png(toy.RED)}
        answer = client.post("/v1/verify", files=pictures, data={"far": "0.00001"}).json()
        assert (answer["rule"], answer["population"], answer["extrapolated"]) == ("pair", "alike", True)


def test_identify_answers_by_which_rule_and_rate(client: httpx.Client) -> None:
    enroll(client, "Rosa", *[toy.RED] * 4, toy.BLUE)
    enroll(client, "Bo", toy.GREEN)
    found = {
        rule: ask_who(client, toy.BLUE, data)
        for rule, data in (("template", {}), ("rows", {"rule": "rows"}), ("votes", {"k": "2"}))
    }
    assert [(face["rule"], face["size"]) for face in found.values()] == [("template", 2), ("rows", 6), ("rows", 6)]
    assert [face["name"] for face in found.values()] == [None, "Rosa", "Rosa"]  # one picture of five is wrong
    for face in found.values():
        assert (face["asked"], face["far"], face["population"]) == (0.01, 0.01, "mixed")
        assert (face["extrapolated"], face["warning"]) == (False, None)
    refused = client.post("/v1/identify", files={"picture": png(toy.RED)}, data={"k": "2", "rule": "template"})
    assert error_of(refused) == (422, "bad_request")


@pytest.mark.parametrize(("weights", "far", "extrapolated"), [("coarse", 0.0975, False), ("tailed", 0.01, True)])
def test_identify_answers_which_rate_it_holds(tmp_path: Path, weights: str, far: float, extrapolated: bool) -> None:
    recognizer = toy.make_recognizer(weights)
    with (
        Gallery.open(tmp_path / "two.db", recognizer) as gallery,
        serve(create_app(recognizer, gallery, ServiceConfig())) as client,
    ):
        enroll(client, "Rosa", toy.RED)
        enroll(client, "Bo", toy.GREEN)
        face = ask_who(client, toy.RED, {})
        assert (face["far"], face["asked"], face["extrapolated"]) == (pytest.approx(far), 0.01, extrapolated)
        assert face["warning"]
        picture = {"picture": png(toy.RED)}
        refused = client.post("/v1/identify", files=picture, data={"far": "0.000001"})
        assert error_of(refused) == (422, "no_threshold")


def ask_who(client: httpx.Client, colour: tuple[int, int, int], data: dict[str, str]) -> dict[str, Any]:
    """Return who the one face of a picture is."""
    answer = client.post("/v1/identify", files={"picture": png(colour)}, data=data)
    assert answer.status_code == 200, answer.text
    [face] = answer.json()["faces"]
    return dict(face)


def test_a_service_without_a_gallery_compares_and_says_what_it_lacks(toy_recognizer: Recognizer) -> None:
    with serve(create_app(toy_recognizer, None, ServiceConfig())) as client:
        assert client.post("/v1/verify", files={"a": png(toy.RED), "b": png(toy.RED)}).json()["same"]
        assert client.get("/v1/model").json()["gallery"] is None
        assert client.get("/ready").status_code == 200
        answer = client.get("/v1/people")
        assert error_of(answer) == (404, "not_found")
        assert "--gallery" in answer.json()["error"]["message"]


def test_the_service_tells_that_it_is_well(client: httpx.Client) -> None:
    assert client.get("/health").json() == client.get("/ready").json() == {"status": "ok"}


def test_it_is_not_ready_when_the_gallery_cannot_be_read(client: httpx.Client, gallery: Gallery) -> None:
    gallery._db.read("DROP TABLE faces")
    assert error_of(client.get("/ready")) == (500, "bad_gallery")
    assert client.get("/health").status_code == 200


def test_a_fault_of_the_gallery_tells_no_path(client: httpx.Client, gallery: Gallery) -> None:
    gallery._db.read("DROP TABLE faces")
    answer = client.get("/v1/people")
    assert error_of(answer) == (500, "bad_gallery")
    assert "people.db" not in answer.text


def test_metrics_count_requests_by_route(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    client.get(f"/v1/people/{person}")
    client.get("/nowhere/special")
    text = client.get("/metrics").text
    assert 'sameface_requests_total{method="GET",route="/v1/people/{person}",status="200"} 1.0' in text
    assert 'route="other",status="404"' in text
    assert "special" not in text
    assert "sameface_pictures_accepted 0.0" in text
    assert "sameface_buffered_bytes 0.0" in text
    assert "sameface_batch_faces_count 1.0" in text


def test_the_audit_log_says_who_was_enrolled_matched_and_deleted(client: httpx.Client) -> None:
    person = enroll(client, "Rosa", toy.RED)
    client.post("/v1/identify", files={"picture": png(toy.RED, toy.BLUE)})
    client.delete(f"/v1/people/{person}")
    entries = client.get("/v1/audit", params={"limit": 2}).json()
    told = [(each["action"], each["person"], each["key"]) for each in entries["entries"]]
    assert told == [("delete_person", person, None), ("identify", person, None)]
    assert entries["entries"][1]["detail"] == {"faces": 2, "named": 1}
    rest = client.get("/v1/audit", params={"after": entries["next"]}).json()
    assert [(each["action"], each["person"]) for each in rest["entries"]] == [("enroll", person)]
    assert rest["next"] is None


def test_the_audit_log_knows_people_by_the_names_they_have_now(client: httpx.Client) -> None:
    person, other = enroll(client, "Rosa", toy.RED), enroll(client, "Gil", toy.GREEN, note=9)
    client.patch(f"/v1/people/{person}", json={"name": "Rosie"})
    assert [each["name"] for each in entries_of(client)] == ["Rosie", "Gil", "Rosie"]
    client.post(f"/v1/people/{other}/merge", json={"into": person})
    [merge, *_] = entries_of(client)
    assert (merge["person"], merge["name"]) == (other, None)
    assert (merge["detail"]["into"], merge["detail"]["faces"]) == (person, 1)
    client.delete(f"/v1/people/{person}")
    assert {each["name"] for each in entries_of(client)} == {None}
    assert {each["person"] for each in entries_of(client)} == {person, other}


def test_the_audit_log_takes_nobody_for_who_has_the_number_in_another_gallery(
    tmp_path: Path, toy_recognizer: Recognizer
) -> None:
    with contextlib.closing(Access.open(str(tmp_path / "access"))) as access:
        for name, colour in (("Rosa", toy.RED), ("Gil", toy.GREEN)):
            with (
                Gallery.open(tmp_path / f"{name}.db", toy_recognizer) as gallery,
                serve(create_app(toy_recognizer, gallery, ServiceConfig(), access=access)) as client,
            ):
                enroll(client, name, colour)
                last = entries_of(client)
    assert [(each["person"], each["name"]) for each in last] == [(1, "Gil"), (1, None)]
    assert last[0]["gallery"] != last[1]["gallery"]


def entries_of(client: httpx.Client) -> list[dict]:
    return client.get("/v1/audit").json()["entries"]


def test_a_note_on_consent_is_kept_with_the_person(client: httpx.Client) -> None:
    made = client.post(
        "/v1/people", data={"name": "Rosa", "consent": "form  7\n"}, files=files([png(toy.RED)])
    ).json()["person"]
    address = f"/v1/people/{made['id']}"
    assert made["consent"] == client.get(address).json()["consent"] == "form 7"
    assert client.get("/v1/people").json()["people"][0]["consent"] == "form 7"
    more = {"pictures": [base64_of(png(toy.REDDISH))]}
    assert client.post(f"{address}/faces", json=more).json()["person"]["consent"] == "form 7"
    assert client.patch(address, json={"name": "Rosie"}).json()["consent"] == "form 7"
    assert client.patch(address, json={"consent": "form 8"}).json()["consent"] == "form 8"
    told = [(each["action"], each["detail"]) for each in entries_of(client)]
    assert told[0][0] == "note_consent"
    assert [detail["consent"] for action, detail in told if action == "enroll"] == [False, True]
    assert client.delete(address).json()["complete"]


@pytest.mark.parametrize("note", ["", " ", "x" * 501, "a\u202eb", "\u0007"], ids=repr)
def test_a_note_that_is_none_changes_nothing(client: httpx.Client, note: str) -> None:
    body = {"name": "Rosa", "pictures": [base64_of(png(toy.RED))], "consent": note}
    assert error_of(client.post("/v1/people", json=body)) == (422, "bad_note")
    person = enroll(client, "Gil", toy.GREEN)
    changed = client.patch(f"/v1/people/{person}", json={"name": "Gilles", "consent": note})
    assert error_of(changed) == (422, "bad_note")
    assert [each["name"] for each in client.get("/v1/people").json()["people"]] == ["Gil"]


@pytest.fixture
def reader(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another program that holds an older view of the gallery, which keeps its log from being emptied."""
    gallery._db.read("PRAGMA busy_timeout = 50")
    with contextlib.closing(sqlite3.connect(gallery.path, check_same_thread=False)) as db:
        yield db


def test_a_deletion_that_leaves_traces_is_logged_and_can_be_repeated(
    client: httpx.Client, reader: sqlite3.Connection
) -> None:
    person = enroll(client, "Rosa", toy.RED, toy.REDDISH)
    face = client.get(f"/v1/people/{person}/faces").json()["faces"][0]["id"]
    for address, code in (
        (f"/v1/people/{person}/faces/{face}", "unknown_face"),
        (f"/v1/people/{person}", "unknown_person"),
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM people").fetchall()
        assert error_of(client.delete(address)) == (503, "gallery_busy")
        reader.execute("ROLLBACK")
        assert error_of(client.delete(address)) == (404, code)
    told = [(each["action"], each["detail"]) for each in entries_of(client) if "traces" in each["detail"]]
    assert [(action, detail["failed"]) for action, detail in told] == [
        ("delete_person", "gallery_busy"),
        ("delete_face", "gallery_busy"),
    ]
    assert told[1][1]["face"] == face


def wait_for(client: httpx.Client, address: str) -> dict:
    """Return a job once it has ended."""
    for _ in range(500):
        job = client.get(address).json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def test_an_album_is_sorted_into_people(client: httpx.Client) -> None:
    pictures = [png(toy.RED, toy.BLUE), png(toy.BLUE, note=1), b"no picture", png(toy.BLUE, note=2), png()]
    begun = client.post("/v1/cluster", files=files(pictures))
    assert (begun.status_code, begun.json()["total"]) == (202, 5)
    job = wait_for(client, begun.headers["Location"])
    assert (job["state"], job["done"], job["error"]) == ("done", 5, None)
    result = job["result"]
    assert [face["picture"] for face in result["faces"]] == [0, 0, 1, 3]
    assert result["groups"] == [[1, 2, 3], [0]]
    assert result["faces"][0]["thumbnail"].startswith("data:image/jpeg;base64,")
    assert [(each["number"], each["error"]["code"]) for each in result["skipped"]] == [(2, "bad_image")]


def test_a_job_that_is_deleted_is_gone(client: httpx.Client) -> None:
    begun = client.post("/v1/cluster", files=files([png(toy.RED, note=n) for n in range(30)]))
    assert client.delete(begun.headers["Location"]).status_code == 204
    assert error_of(client.get(begun.headers["Location"])) == (404, "not_found")
    assert "sameface_buffered_bytes 0.0" in client.get("/metrics").text


def test_an_album_with_too_many_faces_fails(toy_recognizer: Recognizer) -> None:
    with serve(create_app(toy_recognizer, None, ServiceConfig(album_faces=2))) as client:
        begun = client.post("/v1/cluster", files=files([png(toy.RED, toy.BLUE), png(toy.RED)]))
        job = wait_for(client, begun.headers["Location"])
        assert (job["state"], job["error"]["code"], job["result"]) == ("failed", "too_large", None)


def test_the_page_is_served_with_a_strict_policy(client: httpx.Client) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 304


def test_the_files_of_the_page_have_its_policy_and_none_lie_outside(client: httpx.Client) -> None:
    script = client.get("/web/api.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "Content-Security-Policy" in script.headers
    for address in ("/web/../app.py", "/web/%2e%2e/app.py", "/web/", "/web/none.js"):
        assert error_of(client.get(address)) == (404, "not_found")


def test_an_unknown_address_and_a_wrong_method_have_the_shape_of_errors(client: httpx.Client) -> None:
    for address in ("/v1/nothing", "/v1/people/", "/web"):
        assert error_of(client.get(address)) == (404, "not_found")
    assert error_of(client.put("/v1/people")) == (405, "method_not_allowed")


def test_a_request_keeps_its_id_if_that_is_harmless(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    made = [client.get("/health", headers={"X-Request-ID": "a b!"}).headers["X-Request-ID"] for _ in range(2)]
    assert made[0] != made[1]
    assert len(made[0]) == 32


def change_something(client: httpx.Client, rng: np.random.Generator, note: int) -> int:
    """Do one thing to somebody, and return the status of the answer."""
    name, picture = f"Person {rng.integers(6)}", png([toy.RED, toy.GREEN, toy.BLUE][note % 3], note=note)
    ids = [person["id"] for person in client.get("/v1/people").json()["people"]] or [1]
    person, other = (f"/v1/people/{number}" for number in rng.choice(ids, 2))
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/people", {"data": {"name": name}, "files": files([picture])}),
        ("POST", f"{person}/faces", {"files": files([picture])}),
        ("PATCH", person, {"json": {"name": name}}),
        ("POST", f"{person}/merge", {"json": {"into": int(other.rpartition("/")[2])}}),
        ("DELETE", person, {}),
        ("POST", "/v1/identify", {"files": {"picture": picture}}),
    ]
    method, address, body = requests[rng.integers(len(requests))]
    return client.request(method, address, **body).status_code


@pytest.mark.slow
def test_many_clients_that_change_everything_at_once_break_nothing(client: httpx.Client, gallery: Gallery) -> None:
    def live(number: int) -> list[int]:
        rng = np.random.default_rng(number)
        return [change_something(client, rng, 100 * number + turn) for turn in range(12)]

    with ThreadPoolExecutor(8) as threads:
        statuses = {status for seen in threads.map(live, range(8)) for status in seen}
    assert {200, 201} < statuses <= {200, 201, 404, 409, 422}
    assert gallery._db.read("PRAGMA integrity_check") == [("ok",)]
    assert gallery._db.read("PRAGMA foreign_key_check") == []
    assert all(person.faces > 0 for person in gallery.people())
    assert sum(person.faces for person in gallery.people()) == gallery.count()[1]


# Retention


def test_people_are_enrolled_for_a_time_which_can_be_changed(client: httpx.Client) -> None:
    told = {"name": "Rosa", "expire_after": "2100-01-01"}
    made = client.post("/v1/people", data=told, files=files([png(toy.RED)])).json()["person"]
    address = f"/v1/people/{made['id']}"
    assert made["expires"] == client.get(address).json()["expires"] == "2100-01-01T00:00:00+00:00"
    assert client.patch(address, json={"expire_after": "never"}).json()["expires"] is None
    assert client.patch(address, json={"expire_after": "30d"}).json()["expires"] is not None
    more = {"pictures": [base64_of(png(toy.REDDISH))], "expire_after": "2100-01-02"}
    added = client.post(f"{address}/faces", json=more).json()["person"]
    assert added["expires"] == "2100-01-02T00:00:00+00:00"
    told = [(each["action"], each["detail"]) for each in entries_of(client)]
    assert [(action, detail["never"]) for action, detail in told[1:3]] == [("set_expiry", False), ("set_expiry", True)]
    assert [detail["expires"] for action, detail in told if action == "enroll"] == [True, True]


@pytest.mark.parametrize("words", ["", "soon", "0d", "1999-01-01", "36526d"])
def test_a_day_on_which_nobody_can_expire_changes_nothing(client: httpx.Client, words: str) -> None:
    body = {"name": "Rosa", "pictures": [base64_of(png(toy.RED))], "expire_after": words}
    assert error_of(client.post("/v1/people", json=body)) == (422, "bad_expiry")
    person = enroll(client, "Gil", toy.BLUE)
    changed = client.patch(f"/v1/people/{person}", json={"name": "Gilles", "expire_after": words})
    assert error_of(changed) == (422, "bad_expiry")
    assert [each["name"] for each in client.get("/v1/people").json()["people"]] == ["Gil"]


def test_the_service_deletes_who_has_expired_while_it_runs(
    tmp_path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CLEAN_SECONDS", 0.05)
    with (
        Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery,
        serve(create_app(toy_recognizer, gallery, ServiceConfig(expire_days=30))) as client,
    ):
        bo, rosa = enroll(client, "Bo", toy.BLUE), enroll(client, "Rosa", toy.RED)
        assert client.get(f"/v1/people/{bo}").json()["expires"] is not None
        gallery.expire(rosa, datetime.now(UTC) + timedelta(seconds=1.2))
        while client.get(f"/v1/people/{rosa}").status_code == 200:
            time.sleep(0.05)
        while (entry := entries_of(client)[0])["action"] != "expire":
            time.sleep(0.05)
        [receipt] = client.get("/v1/receipts").json()["receipts"]
        assert (receipt["reason"], receipt["person"], receipt["complete"]) == ("expire", rosa, True)
        assert (entry["person"], entry["key"], entry["name"]) == (rosa, None, None)
        told = {name: entry["detail"][name] for name in ("faces", "receipt", "hash", "set_by")}
        assert told == {"faces": 1, "receipt": 1, "hash": receipt["hash"], "set_by": None}
        assert [each["name"] for each in client.get("/v1/people").json()["people"]] == ["Bo"]


def test_the_service_deletes_nobody_after_a_jump_of_the_clock_and_tells_it(
    tmp_path: Path, toy_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "CLEAN_SECONDS", 0.05)
    clock = [1e9]
    with (
        Gallery.open(tmp_path / "people.db", toy_recognizer, clock=lambda: clock[0]) as gallery,
        serve(create_app(toy_recognizer, gallery, ServiceConfig())) as client,
    ):
        rosa = enroll(client, "Rosa", toy.RED)
        gallery.expire(rosa, datetime.fromtimestamp(1e9 + 60, UTC))
        clock[0] += 40 * 86_400
        while "sameface_expiry_refused 1.0" not in client.get("/metrics").text:
            time.sleep(0.05)
        assert client.get(f"/v1/people/{rosa}").status_code == 200
        assert "the clock is 40 days after its last entry" in caplog.text
        assert [receipt.reason for receipt in gallery.forget_expired(confirmed=True)] == ["expire"]
        while "sameface_expiry_refused 0.0" not in client.get("/metrics").text:
            time.sleep(0.05)
