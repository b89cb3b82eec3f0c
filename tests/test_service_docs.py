"""docs/service.md and docs/api.md say what the service does."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from service_world import serve

from sameface import errors
from sameface.errors import FaceError, GalleryError, ImageError, SamefaceError, ServiceError, ThresholdError
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.access_file import ROLES, Access
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig
from sameface.service.error_responses import REFUSED, status_of
from sameface.service.metrics import Metrics

ROOT = Path(__file__).parent.parent
SERVICE = (ROOT / "docs" / "service.md").read_text("utf-8")
LINES = "".join(re.findall(r"^<!-- tested -->\n```sh\n(.*?)^```$", SERVICE, re.MULTILINE | re.DOTALL))
Description = dict[str, Any]


@pytest.fixture(scope="module")
def writer(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    """The program that writes docs/api.md."""
    return load_tool("write_api_docs")


@pytest.fixture(scope="module")
def description(writer: ModuleType) -> Description:
    found: Description = writer.describe()
    return found


def test_the_api_in_the_docs_is_that_of_the_service(writer: ModuleType, description: Description) -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert writer.write_page(description) == page, "run: python tools/write_api_docs.py"


def test_every_link_within_the_api_page_leads_somewhere() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    headings = {name.lower() for name in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) > 20
    assert set(links) <= headings


def test_an_operation_of_an_unknown_tag_is_not_left_out(writer: ModuleType, description: Description) -> None:
    strange = {"tags": ["strange"], "description": "", "responses": {}}
    with pytest.raises(ValueError, match="TAGS lacks strange"):
        writer.write_page(description | {"paths": description["paths"] | {"/v1/x": {"get": strange}}})


def names_of(description: Description) -> list[tuple[str, str, Description]]:
    """Return method, path and description of every operation."""
    paths = description["paths"].items()
    return [(method.upper(), path, each) for path, found in paths for method, each in found.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the sample photographs."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    return tmp_path


@pytest.fixture
def service(folder: Path, recognizer: Recognizer) -> Iterator[tuple[str, str]]:
    """The service with the shipped weights and an empty gallery; its address, and a key for everything."""
    access = Access.open()
    key = access.make_key("me", "admin")
    config = ServiceConfig(keys_required=True, keep_crops=True)
    with (
        Gallery.open(folder / "people.db", recognizer) as gallery,
        serve(create_app(recognizer, gallery, config, access=access)) as plain,
    ):
        yield str(plain.base_url).rstrip("/"), key
    access.close()


def told_curl(folder: Path) -> Path:
    """Make a `curl` that tells method, address and status of each request on stderr, and fails with it."""
    real = shutil.which("curl")
    if real is None:
        pytest.skip("no curl on the PATH: apt-get install curl")
    place = folder / "bin"
    place.mkdir()
    words = "%{stderr}%{method} %{url_effective} %{http_code}\\n"
    script = f"#!/bin/sh\nexec {real} --fail-with-body --noproxy '*' -w '{words}' \"$@\"\n"
    (place / "curl").write_text(script)
    (place / "curl").chmod(0o755)
    return place


def test_every_line_of_curl_works_and_every_operation_has_one(
    folder: Path, service: tuple[str, str], description: Description
) -> None:
    address, key = service
    place = told_curl(folder)
    done = subprocess.run(
        ["sh", "-eu", "-c", f'url={address}\nauth="Authorization: Bearer {key}"\n{LINES}'],
        cwd=folder,
        env=os.environ | {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [line.split() for line in done.stderr.splitlines()]
    assert len(asked) == LINES.count("curl ")
    assert {status for _, _, status in asked} <= {"200", "201", "202", "204"}
    for method, path, _ in names_of(description):
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        found = [each for each, url, _ in asked if re.fullmatch(pattern, httpx.URL(url).path)]
        assert method in found, f"no line for {method} {path}"
    assert (folder / "face.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_lines_of_python_run_and_print_what_their_comments_say(
    folder: Path, service: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, key = service
    [text] = re.findall(r"^```python\n(.*?)^```$", SERVICE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(text.replace("http://127.0.0.1:8000", address).replace("sf_...", key), {})  # noqa: S102
    promised = re.findall(r"^ *print\(.*\)  # (.+)$", text, re.MULTILINE)
    assert output.getvalue().splitlines() == promised
    assert len(promised) > 3


@pytest.mark.parametrize("role", ROLES)
def test_an_operation_takes_the_roles_that_it_says(
    role: str, toy_recognizer: Recognizer, description: Description
) -> None:
    access = Access.open()
    key = access.make_key("somebody", role)  # type: ignore[arg-type]
    app = create_app(toy_recognizer, None, ServiceConfig(keys_required=True), access=access)
    with serve(app, headers={"Authorization": f"Bearer {key}"}) as client:
        for method, path, operation in names_of(description):
            status = client.request(method, re.sub(r"{\w+}", "1", path)).status_code
            [[wanted]] = [each.values() for each in operation.get("security", [{"key": [ROLES[0]]}])]
            reaches = ROLES.index(role) >= ROLES.index(wanted[0])  # type: ignore[arg-type]
            assert (status == 403) is not reaches, (method, path, status)
    access.close()


def test_an_operation_without_a_role_needs_no_key(toy_recognizer: Recognizer, description: Description) -> None:
    with serve(create_app(toy_recognizer, None, ServiceConfig(keys_required=True))) as client:
        for method, path, operation in names_of(description):
            status = client.request(method, re.sub(r"{\w+}", "1", path)).status_code
            assert (status == 401) is ("security" in operation), (method, path, status)


def table_under(mark: str) -> list[list[str]]:
    """Return the rows of a table of docs/service.md."""
    rows = SERVICE.partition(f"<!-- {mark} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    return [row.strip("|").split("|") for row in rows]


def test_every_code_stands_in_the_docs_with_its_status() -> None:
    told = {
        (int(status), code) for status, codes in table_under("codes") for code in re.findall(r"`([a-z_]+)`", codes)
    }
    kinds = (ImageError, FaceError, ThresholdError, GalleryError, ServiceError)
    raised = [
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, SamefaceError) and issubclass(each, kinds) and "__init__" in vars(each)
    ]
    ours = {(status_of(each.__new__(each)), each.code) for each in raised}
    framework = {(status, code) for status, (code, _) in REFUSED.items()}
    assert told == ours | framework | {(400, "bad_request"), (500, "internal")}


def test_every_metric_stands_in_the_docs() -> None:
    told = [re.findall(r"`(\w+)`", row[0])[0] for row in table_under("metrics")]
    found: list[Metric] = list(Metrics().registry.collect())
    names = [f"{each.name}_total" if each.type == "counter" else each.name for each in found]
    assert sorted(told) == sorted(name for name in names if name.startswith("sameface_"))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("bytes of a picture", "picture_bytes"),
        ("pixels of a picture", "picture_pixels"),
        ("bytes of a request", "request_bytes"),
        ("bytes of a request", "album_bytes"),
        ("pictures of an enrolment", "request_pictures"),
        ("pictures, faces of an album", "album_pictures"),
        ("pictures, faces of an album", "album_faces"),
        ("bytes of all requests in memory", "buffer_bytes"),
        ("pictures that wait", "queue"),
        ("seconds that a picture waits for its turn", "wait_seconds"),
        ("seconds in which nothing comes of a body", "wait_seconds"),
        ("albums under way", "jobs"),
    ],
)
def test_the_limits_in_the_docs_are_those_of_the_service(words: str, name: str) -> None:
    [limit] = re.findall(rf"^\| {words} \|([^|]*)\|", SERVICE, re.MULTILINE)
    assert f"{getattr(ServiceConfig(), name):,.0f}" in re.findall(r"[\d,]*\d", limit)
