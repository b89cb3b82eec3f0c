"""Keys, roles, rates, foreign pages: who may use the service, and who may not."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import toy
from click.testing import Result
from service_world import base64_of, enroll, error_of, files, png, serve

from sameface.gallery import Gallery
from sameface.gallery.errors import BadNameError
from sameface.recognizer import Recognizer
from sameface.service.access_file import APPLICATION_ID, MIGRATIONS, ROLES, Access, ApiKey, hash_token
from sameface.service.app import create_app
from sameface.service.auth import BUCKETS, RateLimiter, make_token
from sameface.service.config import ServiceConfig
from sameface.service.errors import AccessFileError, RateLimitedError


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    access = Access.open(str(tmp_path / "people.db.access"))
    yield access
    access.close()


def test_a_key_is_found_by_itself_and_by_nothing_else(access: Access) -> None:
    token = access.make_key("reception", "enroll")
    assert token.startswith("sf_")
    assert len(token) == 46
    found = access.find_key(token)
    assert found is not None
    assert (found.name, found.role) == ("reception", "enroll")
    assert access.find_key(token[:-1]) is access.find_key("") is None


def test_no_byte_of_a_key_is_kept(access: Access, tmp_path: Path) -> None:
    token = access.make_key("reception", "read")
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"reception" in kept
    assert token.removeprefix("sf_").encode() not in kept
    assert stat.S_IMODE((tmp_path / "people.db.access").stat().st_mode) == 0o600


def test_a_revoked_key_does_not_hold_and_its_name_is_free(access: Access) -> None:
    token = access.make_key("reception", "read")
    access.revoke_key("reception")
    assert access.find_key(token) is None
    assert access.keys() == []
    assert access.make_key("reception", "read") != token


def test_a_name_belongs_to_one_key(access: Access) -> None:
    access.make_key("reception", "read")
    with pytest.raises(AccessFileError, match="there is a key named 'reception': revoke it first"):
        access.make_key("reception", "admin")
    with pytest.raises(AccessFileError, match="there is no key named 'other'"):
        access.revoke_key("other")
    with pytest.raises(BadNameError):
        access.make_key(" ", "read")


@pytest.mark.parametrize("content", [b"hello" * 1000, b""], ids=["text", "empty"])
def test_another_file_is_not_taken_for_keys(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.access"
    path.write_bytes(content)
    if content:
        with pytest.raises(AccessFileError, match="file is not a database"):
            Access.open(str(path))
    else:
        Access.open(str(path)).close()


def test_a_gallery_is_not_taken_for_keys(tmp_path: Path, toy_recognizer: Recognizer) -> None:
    Gallery.open(tmp_path / "people.db", toy_recognizer).close()
    with pytest.raises(AccessFileError, match="not a file of keys that this version reads"):
        Access.open(str(tmp_path / "people.db"))
    with pytest.raises(AccessFileError, match="cannot make it"):
        Access.open(str(tmp_path / "none" / "people.db"))


def test_the_log_forgets_after_days(access: Access) -> None:
    key = "reception"
    access.log.record(key, "identify", [("a", 1), ("b", 2)], {"faces": 2})
    access.run("UPDATE audit SET time = time - 86400 * 3 WHERE person = 1")
    access.log.forget_entries(2)
    assert [entry.person for entry in access.log.entries(10)] == [("b", 2)]


def test_a_file_of_version_1_keeps_its_keys_and_loses_the_names_of_people(tmp_path: Path) -> None:
    path = tmp_path / "people.db.access"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}")
        db.execute("INSERT INTO keys VALUES (1, 'reception', 'read', ?, 0)", (hash_token("sf_old"),))
        db.execute("INSERT INTO audit VALUES (7, 0, 'reception', 'rename', 'Rosa', '{\"to\": \"Rosie\"}')")
        db.execute("INSERT INTO audit VALUES (8, 0, 'reception', 'enroll', 'Rosie', '{\"faces\": 2}')")
        db.commit()
    for _ in range(2):
        with contextlib.closing(Access.open(str(path))) as access:
            assert access.find_key("sf_old") is not None
            entries = access.log.entries(10)
    assert [(each.number, each.action, each.person, each.detail) for each in entries] == [
        (8, "enroll", None, {"faces": 2}),
        (7, "rename", None, {}),
    ]
    assert all(b"Ros" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_file_of_a_later_version_is_refused(access: Access) -> None:
    access.run(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(AccessFileError, match="not a file of keys that this version reads"):
        Access.open(access.path)


@pytest.mark.parametrize("have", ROLES)
@pytest.mark.parametrize("wanted", ROLES)
def test_a_role_may_what_those_before_it_may(have: str, wanted: str) -> None:
    assert ApiKey("k", have).may(wanted) == (ROLES.index(have) >= ROLES.index(wanted))  # type: ignore[arg-type]


def test_a_bucket_empties_and_fills_again() -> None:
    now = [0.0]
    rates = RateLimiter(60, clock=lambda: now[0])
    for _ in range(60):
        rates.take("ann")
    with pytest.raises(RateLimitedError) as caught:
        rates.take("ann")
    assert caught.value.seconds == 1
    rates.take("bob")
    now[0] = 2.0
    rates.take("ann")
    rates.take("ann")
    with pytest.raises(RateLimitedError):
        rates.take("ann")


def test_only_so_many_buckets_are_remembered() -> None:
    rates = RateLimiter(1)
    for number in range(BUCKETS + 10):
        rates.take(str(number))
    assert len(rates._buckets) == BUCKETS


RATED = ServiceConfig(keys_required=True, keep_crops=True)


@pytest.fixture
def place(
    tmp_path: Path, toy_recognizer: Recognizer, access: Access
) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]]]]:
    """A service that wants keys, and the headers of a key of each role."""
    headers = {role: {"Authorization": f"Bearer {access.make_key(f'the {role} key', role)}"} for role in ROLES}
    with (
        Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery,
        serve(create_app(toy_recognizer, gallery, RATED, access=access)) as client,
    ):
        yield client, headers


PICTURE = base64_of(png(toy.RED))
NEW = base64_of(png(toy.GREEN))
# Every operation that wants a key, the role it wants, a body, and the status when it may.
MATRIX = {
    ("POST", "/v1/detect"): ("read", {"picture": PICTURE}, 200),
    ("POST", "/v1/embed"): ("read", {"picture": PICTURE}, 200),
    ("POST", "/v1/verify"): ("read", {"a": PICTURE, "b": PICTURE}, 200),
    ("POST", "/v1/identify"): ("read", {"picture": PICTURE}, 200),
    ("POST", "/v1/challenge"): ("read", None, 201),
    ("POST", "/v1/challenge/{challenge}"): ("read", {"picture": PICTURE}, 404),
    ("GET", "/v1/people"): ("read", None, 200),
    ("POST", "/v1/people"): ("enroll", {"name": "New", "pictures": [NEW]}, 201),
    ("GET", "/v1/people/{person}"): ("read", None, 200),
    ("PATCH", "/v1/people/{person}"): ("enroll", {"name": "Rosie"}, 200),
    ("POST", "/v1/people/{person}/merge"): ("enroll", {"into": 3}, 200),
    ("DELETE", "/v1/people/{person}"): ("admin", None, 200),
    ("GET", "/v1/people/{person}/faces"): ("read", None, 200),
    ("POST", "/v1/people/{person}/faces"): ("enroll", {"pictures": [NEW]}, 201),
    ("GET", "/v1/people/{person}/faces/{face}/crop"): ("read", None, 200),
    ("DELETE", "/v1/people/{person}/faces/{face}"): ("admin", None, 200),
    ("POST", "/v1/cluster"): ("read", {"pictures": [PICTURE]}, 202),
    ("GET", "/v1/jobs/{job}"): ("read", None, 404),
    ("DELETE", "/v1/jobs/{job}"): ("read", None, 404),
    ("GET", "/v1/model"): ("read", None, 200),
    ("GET", "/v1/audit"): ("admin", None, 200),
    ("GET", "/v1/receipts"): ("admin", None, 200),
    ("GET", "/v1/people/{person}/export"): ("admin", None, 200),
    ("GET", "/metrics"): ("read", None, 200),
}
OPEN = {("GET", "/health"), ("GET", "/ready")}


def test_the_matrix_holds_every_operation(toy_recognizer: Recognizer) -> None:
    paths = create_app(toy_recognizer, None, ServiceConfig()).openapi()["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert operations == set(MATRIX) | OPEN


@pytest.mark.parametrize("operation", MATRIX, ids=" ".join)
def test_each_role_may_what_it_should_and_no_more(
    place: tuple[httpx.Client, dict[str, dict[str, str]]], operation: tuple[str, str]
) -> None:
    client, headers = place
    role, body, status = MATRIX[operation]
    client.headers.update(headers["admin"])
    person = enroll(client, "Rosa", toy.BLUE, toy.BLUE)
    enroll(client, "Rita", toy.BLUE, note=9)
    [face, _] = client.get(f"/v1/people/{person}/faces").json()["faces"]
    into = client.get("/v1/people").json()["people"][0]["id"]
    del client.headers["Authorization"]
    method, address = (operation[0], operation[1].format(person=person, face=face["id"], job="none", challenge="none"))
    body = {"into": into} if address.endswith("merge") else body

    assert error_of(client.request(method, address, json=body)) == (401, "unauthorized")
    wrong = {"Authorization": "Bearer sf_wrong"}
    assert error_of(client.request(method, address, json=body, headers=wrong)) == (401, "unauthorized")
    for lower in ROLES[: ROLES.index(role)]:
        answer = client.request(method, address, json=body, headers=headers[lower])
        assert error_of(answer) == (403, "forbidden")
    assert client.request(method, address, json=body, headers=headers[role]).status_code == status


@pytest.mark.parametrize("address", ["/health", "/ready", "/", "/web/api.js", "/openapi.json"])
def test_some_things_need_no_key(place: tuple[httpx.Client, dict], address: str) -> None:
    client, _ = place
    assert client.get(address).status_code == 200


def test_a_body_is_not_read_before_the_key(place: tuple[httpx.Client, dict]) -> None:
    client, _ = place
    asked = 0

    def body() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(10_000):
            asked += 1
            yield bytes(65_536)

    try:
        answer = client.post("/v1/detect", content=body(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 401
    except httpx.TransportError:  # the answer came while the body was still being sent
        assert asked < 1000


def test_the_log_names_the_key_and_holds_no_picture(
    place: tuple[httpx.Client, dict], access: Access, tmp_path: Path
) -> None:
    client, headers = place
    client.post("/v1/people", data={"name": "Rosa"}, files=files([png(toy.RED)]), headers=headers["enroll"])
    client.post("/v1/identify", files={"picture": png(toy.RED)}, headers=headers["read"])
    entries = client.get("/v1/audit", headers=headers["admin"]).json()["entries"]
    told = [(each["action"], each["key"], each["name"]) for each in entries]
    assert told[:2] == [("identify", "the read key", "Rosa"), ("enroll", "the enroll key", "Rosa")]
    assert {each[0] for each in told[2:]} == {"add_key"}
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("people.db.access*"))
    assert b"Rosa" not in kept
    assert png(toy.RED)[:20] not in kept
    assert toy.row_of(toy.RED).tobytes() not in kept


def test_a_key_that_is_revoked_meanwhile_does_not_hold(place: tuple[httpx.Client, dict], access: Access) -> None:
    client, headers = place
    assert client.get("/v1/model", headers=headers["read"]).status_code == 200
    other = Access.open(access.path)  # as `sameface keys revoke` does
    other.revoke_key("the read key")
    other.close()
    assert error_of(client.get("/v1/model", headers=headers["read"])) == (401, "unauthorized")


def test_a_job_belongs_to_its_key(place: tuple[httpx.Client, dict]) -> None:
    client, headers = place
    begun = client.post("/v1/cluster", files=files([png(toy.RED)]), headers=headers["read"])
    address = begun.headers["Location"]
    assert error_of(client.get(address, headers=headers["admin"])) == (404, "not_found")
    assert error_of(client.delete(address, headers=headers["admin"])) == (404, "not_found")
    assert client.get(address, headers=headers["read"]).status_code == 200


def test_who_asks_too_often_waits(toy_recognizer: Recognizer) -> None:
    config = ServiceConfig(rate_per_minute=5)
    with serve(create_app(toy_recognizer, None, config)) as client:
        answers = [client.get("/v1/model") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert error_of(answers[-1]) == (429, "rate_limited")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 12
        assert client.get("/health").status_code == 200


def test_wrong_keys_count_for_the_address(toy_recognizer: Recognizer, access: Access) -> None:
    config = ServiceConfig(keys_required=True, rate_per_minute=5)
    good = {"Authorization": f"Bearer {access.make_key('good', 'read')}"}
    with serve(create_app(toy_recognizer, None, config, access=access)) as client:
        bad = [client.get("/v1/model", headers={"Authorization": "Bearer sf_x"}) for _ in range(6)]
        assert [answer.status_code for answer in bad] == [401] * 5 + [429]
        assert client.get("/v1/model", headers=good).status_code == 200


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8000"},
    {"Host": ""},
    {"Host": "["},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_without_keys_no_foreign_page_gets_through(toy_recognizer: Recognizer, headers: dict[str, str]) -> None:
    with serve(create_app(toy_recognizer, None, ServiceConfig())) as client:
        for method, address in (("GET", "/v1/model"), ("POST", "/v1/detect"), ("GET", "/")):
            assert error_of(client.request(method, address, headers=headers)) == (403, "forbidden")


def test_without_keys_our_own_page_and_links_to_it_get_through(toy_recognizer: Recognizer) -> None:
    with serve(create_app(toy_recognizer, None, ServiceConfig())) as client:
        address = str(client.base_url)
        own = {"Origin": address, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/v1/detect", files={"picture": png(toy.RED)}, headers=own).status_code == 200
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert client.get("/", headers=link).status_code == 200
        for host in ("localhost", "LOCALHOST:80", "[::1]:8000"):
            assert client.get("/v1/model", headers={"Host": host}).status_code == 200


def test_with_keys_any_name_will_do(place: tuple[httpx.Client, dict]) -> None:
    client, headers = place
    named = {"Host": "faces.example", "Origin": "https://intranet.example"}
    assert client.get("/v1/model", headers=headers["read"] | named).status_code == 200


def test_other_origins_are_told_nothing_unless_they_are_named(toy_recognizer: Recognizer) -> None:
    asking = {"Origin": "https://intranet.example", "Access-Control-Request-Method": "GET"}
    closed, opened = ServiceConfig(), ServiceConfig(cors_origins=("https://intranet.example",))
    with serve(create_app(toy_recognizer, None, closed)) as client:
        answer = client.options("/v1/model", headers=asking)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    with serve(create_app(toy_recognizer, None, opened)) as client:
        assert client.options("/v1/model", headers=asking).status_code == 200
        answer = client.get("/v1/model", headers={"Origin": "https://intranet.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://intranet.example"
        other = client.get("/v1/model", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403


def test_keys_are_made_listed_and_revoked_at_the_command_line(run: Callable[..., Result], tmp_path: Path) -> None:
    made = run("keys", "add", "reception", "--role", "enroll")
    assert made.exit_code == 0
    access = Access.open(str(tmp_path / "people.db.access"))
    found = access.find_key(made.stdout.strip())
    access.close()
    assert found is not None
    assert (found.name, found.role) == ("reception", "enroll")
    assert run("keys", "add", "reception").exit_code == 3
    listed = run("keys", "list")
    assert "reception" in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert '"role": "enroll"' in run("keys", "list", "--json").stdout
    assert '"key": "sf_' in run("keys", "add", "other", "--json").stdout
    assert run("keys", "revoke", "reception").stdout == "reception is revoked\n"
    assert run("keys", "revoke", "reception").exit_code == 3
    assert run("keys", "add", "x", "--access", "elsewhere.db").exit_code == 0
    assert (tmp_path / "elsewhere.db").exists()


def test_without_a_key_nothing_is_served_to_others(run: Callable[..., Result]) -> None:
    for words in (["--host", "0.0.0.0"], ["--host", "::"], ["--require-keys"]):
        refused = run("serve", *words, "--port", "0")
        assert refused.exit_code == 3
        assert "there is no key yet: make one with `sameface keys add NAME --role admin" in refused.stderr


TOKEN = "a-token-of-the-tests"


@pytest.fixture
def local(toy_recognizer: Recognizer, tmp_path: Path) -> Iterator[tuple[httpx.Client, str]]:
    """A service without keys but with a start-up token, and a key that it knows all the same."""
    access = Access.open()
    key = access.make_key("reader", "read")
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        app = create_app(toy_recognizer, gallery, ServiceConfig(token=TOKEN), access=access)
        with serve(app) as client:
            yield client, key
    access.close()


def test_without_the_token_no_operation_is_done(local: tuple[httpx.Client, str]) -> None:
    client, _ = local
    for name, path in client.get("/openapi.json").json()["paths"].items():
        for method in path:
            answer = client.request(method, name.replace("{", "").replace("}", ""))
            assert answer.status_code == (200 if name in ("/health", "/ready") else 401), (method, name)
    wrong = {"Authorization": "Bearer a-token-of-the-test"}
    assert client.get("/v1/people", headers=wrong).status_code == 401
    assert client.get("/v1/people", headers={"Cookie": "sameface=" + TOKEN}).status_code == 401
    assert client.get(f"/v1/people?token={TOKEN}").status_code == 401
    assert "printed" in client.get("/v1/people").json()["error"]["message"]


def test_the_token_counts_as_a_header_as_a_cookie_and_beside_keys(local: tuple[httpx.Client, str]) -> None:
    client, key = local
    for word in (TOKEN, key):
        headers = {"Authorization": f"Bearer {word}"}
        assert client.get("/v1/people", headers=headers).status_code == 200
    refused = client.delete("/v1/people/1", headers={"Authorization": f"Bearer {key}"})
    assert error_of(refused) == (403, "forbidden")
    assert client.get("/?token=wrong-wrong-wrong").status_code == 200
    assert not client.cookies
    answer = client.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert client.get("/v1/people").status_code == 200  # with the cookie


def test_a_page_on_another_port_gets_nothing_with_the_cookie(local: tuple[httpx.Client, str]) -> None:
    client, _ = local
    client.get(f"/?token={TOKEN}")
    for site in ("same-site", "cross-site"):
        answer = client.get("/v1/people", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        assert error_of(answer) == (403, "forbidden")


def test_a_short_token_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEFACE_TOKEN", "secret")
    with pytest.raises(ValueError, match="16 to 200"):
        make_token()
    monkeypatch.setenv("SAMEFACE_TOKEN", TOKEN)
    assert make_token() == TOKEN
    monkeypatch.delenv("SAMEFACE_TOKEN")
    assert make_token() != make_token()
