"""What the tests share: the shipped weights, the sample photographs, and the toy world of `toy.py`."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import milvus_world
import postgres_world
import pytest
import toy
from click.testing import CliRunner, Result

import sameface.cli
import sameface.cli.options
from sameface.recognizer import Recognizer

pytest_plugins = ["left_out"]
ROOT = Path(__file__).parent.parent
NUMBERS = itertools.count()
KEYS = [f"SAMEFACE_{which}_KEY{how}" for which in ("GALLERY", "TEMPLATE") for how in ("", "_FILE", "_COMMAND")]

# A busy machine is slow now and then; how long an example takes says nothing about right or wrong.
hypothesis.settings.register_profile("sameface", deadline=None)
hypothesis.settings.load_profile("sameface")


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    """The shipped weights."""
    return Recognizer.load()


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """Return what loads a program of tools/ by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look for it
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def samples() -> dict[str, Path]:
    """The sample photographs by the stem of their name."""
    return {path.stem: path for path in sorted((ROOT / "samples").glob("*.jpg"))}


@pytest.fixture(scope="session")
def toy_recognizer() -> Recognizer:
    """A recognizer of the toy world: coloured squares."""
    return toy.make_recognizer()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server with nothing in it."""
    with postgres_world.served() as server:
        yield server.address


@pytest.fixture
def postgres_place(postgres_server: str) -> str:
    """Where a gallery in PostgreSQL can be made; it goes with the server."""
    return f"{postgres_server}&schema=gallery {next(NUMBERS)}"


@pytest.fixture(scope="session")
def milvus_server() -> Iterator[milvus_world.Server]:
    """A Milvus server with nothing in it."""
    with milvus_world.served() as server:
        yield server


@pytest.fixture
def milvus_place(milvus_server: milvus_world.Server, tmp_path: Path) -> str:
    """Where a gallery can be made with people in a file and faces in Milvus."""
    return milvus_server.place(str(tmp_path / "people.db"))


@pytest.fixture(params=["sqlite", "postgres", "index", "milvus"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a gallery can be made: in a file, in PostgreSQL, there with the approximate search, in Milvus."""
    if request.param == "sqlite":
        return str(tmp_path / "people.db")
    if request.param == "milvus":
        return str(request.getfixturevalue("milvus_place"))
    address: str = request.getfixturevalue("postgres_place")
    if request.param == "milvus on postgres":
        server: milvus_world.Server = request.getfixturevalue("milvus_server")
        return server.place(address)
    return address if request.param == "postgres" else f"{address}&index=hnsw"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in the toy world and in an empty folder: `run("detect", "a.png").exit_code`."""
    monkeypatch.setattr(sameface.cli.options, "Model", toy.ToyModel)
    monkeypatch.chdir(tmp_path)
    for variable in ("SAMEFACE_GALLERY", *KEYS, "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)

    def call(*words: str | Path, stdin: str | bytes | None = None) -> Result:
        arguments = [str(word) for word in words]
        return CliRunner().invoke(sameface.cli.main, arguments, input=stdin, catch_exceptions=False)

    return call
