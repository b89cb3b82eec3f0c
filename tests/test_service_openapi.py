"""The description of the service is complete, and requests made up from it are never answered with a fault.

    SAMEFACE_REQUESTS=2000 pytest tests/test_service_openapi.py

makes up so many requests; without the variable they are as many as fit into some twenty seconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
import toy
from hypothesis import strategies as st
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from service_world import base64_of, enroll, png, serve

from sameface import api_records
from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig

REQUESTS = int(os.environ.get("SAMEFACE_REQUESTS", "250"))
PICTURES = [png(), png(toy.RED), png(toy.RED, toy.GREEN), png(toy.BLUE, note=1), b"", b"no picture"]

schemathesis.openapi.format("byte", st.sampled_from(PICTURES).map(base64_of) | st.text(max_size=20))
schemathesis.openapi.format("binary", st.sampled_from(PICTURES) | st.binary(max_size=50))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, toy_recognizer: Recognizer) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("service") / "people.db"
    with (
        Gallery.open(path, toy_recognizer) as gallery,
        serve(create_app(toy_recognizer, gallery, ServiceConfig(keep_crops=True, jobs=REQUESTS))) as client,
    ):
        enroll(client, "Rosa", toy.RED, toy.REDDISH)
        enroll(client, "Blu", toy.BLUE, note=9)
        yield client


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def operations(description: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in description["paths"].values() for operation in path.values()]


@pytest.mark.slow
def test_requests_made_up_from_the_description_are_never_a_fault(client: httpx.Client) -> None:
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    for operation in found:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try_operation(operation, mode, REQUESTS // len(found), statuses)
    logging.getLogger(__name__).warning("%d requests: %s", statuses.total(), sorted(statuses.items()))
    assert statuses.total() >= REQUESTS  # twice as many were tried, but not all can differ
    assert min(statuses[200], statuses[404], statuses[422]) > 0


def try_operation(operation: Any, mode: GenerationMode, examples: int, statuses: Counter[int]) -> None:
    """Send requests of one kind, right ones or wrong ones, and check every answer."""

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=max(examples, 1),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def check(case: Any) -> None:
        case.headers.pop("Authorization", None)  # a wrong key would end every request at the door
        answer = case.call(timeout=30)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        checks = schemathesis.checks
        case.validate_response(
            answer,
            checks=[
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong without parameters
        check()


def test_every_operation_has_words_a_tag_and_its_errors(description: dict[str, Any]) -> None:
    for operation in operations(description):
        assert operation["description"].strip()
        assert operation["tags"]
        told = {int(status) for status in operation["responses"] if int(status) >= 400}
        if "security" in operation:
            assert {401, 403, 422, 429, 500, 503} <= told
        else:
            assert told == {"health": {403}, "ready": {403, 500, 503}}[operation["operationId"]]


def test_every_error_has_the_one_shape(description: dict[str, Any]) -> None:
    for operation in operations(description):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                [content] = answer["content"].values()
                assert content["schema"]["$ref"].endswith("/ErrorAnswer")


def test_every_body_is_described_as_a_form_and_as_json_with_an_example(description: dict[str, Any]) -> None:
    bodies = [operation["requestBody"] for operation in operations(description) if "requestBody" in operation]
    assert len(bodies) == 10
    for body in bodies:
        assert set(body["content"]) == {"multipart/form-data", "application/json"}
        assert body["content"]["application/json"]["example"]
        assert "base64" not in str(body["content"]["multipart/form-data"])


def test_every_answer_has_an_example_that_is_one(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    for operation in operations(description):
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get("application/json")
            if content is not None:
                name = content["schema"]["$ref"].rpartition("/")[2]
                assert schemas[name]["example"]
                adapter = TypeAdapter(getattr(api_records, name))
                adapter.validate_python(schemas[name]["example"])  # also what may be null is there


def test_the_description_names_no_file_of_this_machine(description: dict[str, Any]) -> None:
    assert str(Path(__file__).parent.parent) not in str(description)
