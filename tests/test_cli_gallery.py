"""An encrypted gallery on the command line and in the service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import toy
from click.testing import Result
from service_world import png
from test_service_processes import service

from sameface.gallery.keys import Key, KeyFile

Run = Callable[..., Result]


@pytest.fixture
def keys(run: Run) -> dict[str, str]:
    """Two keys in files, by name."""
    for name in ("one", "other"):
        assert run("gallery", "new-key", "-o", name).exit_code == 0
    return {name: Path(name).read_text().strip() for name in ("one", "other")}


@pytest.fixture
def sealed(run: Run, keys: dict[str, str]) -> Path:
    """A gallery that was made with the key `one`."""
    toy.save(Path("red.png"), toy.RED)
    result = run("enroll", "Ann", "red.png", "--keep-crops", "--key-file", "one")
    assert (result.exit_code, result.stdout) == (0, "Ann: 1 added\n")
    return Path("people.db")


def named(result: Result) -> list[str | None]:
    """Return who was named in one picture."""
    assert result.exit_code in (0, 1), result.stderr
    return [face["name"] for face in json.loads(result.stdout)["faces"]]


def identify(run: Run, *words: str) -> Result:
    """Identify the red square."""
    return run("identify", "red.png", "--json", *words)


def test_a_new_key_is_private_and_its_fingerprint_is_told(run: Run) -> None:
    result = run("gallery", "new-key", "-o", "key")
    fingerprint = KeyFile("key").read().fingerprint
    assert result.stdout == f"key: key {fingerprint}; keep a copy where the gallery is not\n"
    assert Path("key").stat().st_mode & 0o777 == 0o600
    again = run("gallery", "new-key", "-o", "key")
    assert (again.exit_code, KeyFile("key").read().fingerprint) == (3, fingerprint)


def test_the_key_comes_from_a_file_the_environment_or_a_command(
    run: Run, sealed: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(identify(run, "--key-file", "one")) == ["Ann"]
    for variable, value in {"": keys["one"], "_FILE": "one", "_COMMAND": "cat one"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(f"SAMEFACE_GALLERY_KEY{variable}", value)
            assert named(identify(run)) == ["Ann"]
            assert run("doctor", "--gallery", "people.db").exit_code == 0
    monkeypatch.setenv("SAMEFACE_GALLERY_KEY", keys["other"])
    assert named(identify(run, "--key-file", "one")) == ["Ann"]  # what is on the line counts
    monkeypatch.setenv("SAMEFACE_GALLERY_KEY_COMMAND", "cat one")
    result = identify(run)
    assert (result.exit_code, "set SAMEFACE_GALLERY_KEY or" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [["identify", "red.png"], ["enroll", "Bob", "red.png"], ["serve", "--port", "0"]])
def test_without_the_key_or_with_another_it_is_one_error(run: Run, sealed: Path, words: list[str]) -> None:
    before = sealed.read_bytes()
    for more, told in {"": "is encrypted with key", "other": "needs key"}.items():
        result = run(*words, *(["--key-file", more] if more else []))
        assert result.exit_code == 3
        assert result.stderr.count("\n") == 1
        assert told in result.stderr
    assert sealed.read_bytes() == before


def test_a_key_that_others_may_read_is_refused(run: Run, sealed: Path) -> None:
    Path("one").chmod(0o644)
    result = identify(run, "--key-file", "one")
    assert result.stderr == "Error: cannot take a key from 'one': others may read it (mode 0644): say chmod 600\n"
    assert result.exit_code == 3


def test_no_message_shows_a_key(run: Run, sealed: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for key in (keys["other"], keys["one"][:-3], "0" + keys["one"]):
        monkeypatch.setenv("SAMEFACE_GALLERY_KEY", key)
        result = identify(run)
        assert result.exit_code == 3
        told.append(result.output)
    assert not any(key[:12] in "".join(told) for key in keys.values())


def test_people_are_managed_without_the_key(run: Run, sealed: Path) -> None:
    assert json.loads(run("people", "--json").stdout)["name"] == "Ann"
    assert run("rename", "Ann", "Eva").exit_code == 0
    assert run("forget", "Eva", "--yes").exit_code == 0
    assert run("people", "--json").stdout == ""


def test_a_gallery_is_encrypted_its_keys_are_changed_and_it_is_decrypted(run: Run, keys: dict[str, str]) -> None:
    toy.save(Path("red.png"), toy.RED)
    run("enroll", "Ann", "red.png", "--keep-crops")
    row, png_start = toy.row_of(toy.RED).tobytes(), b"\x89PNG"
    assert row in Path("people.db").read_bytes()
    result = run("gallery", "encrypt", "people.db", "--key-file", "one")
    assert (result.exit_code, result.stdout) == (0, "people.db is encrypted: 1 face changed\n")
    assert not any(secret in Path("people.db").read_bytes() for secret in (row, png_start))
    assert named(identify(run, "--key-file", "one")) == ["Ann"]
    rotate = ("gallery", "rotate-key", "people.db", "--key-file", "one")
    result = run(*rotate, "--data-key", "--new-key-file", "other")
    assert result.stdout.splitlines() == [
        "1 face encrypted anew, the old data key is destroyed",
        "people.db is opened by the key in other now",
    ]
    assert named(identify(run, "--key-file", "other")) == ["Ann"]
    assert identify(run, "--key-file", "one").exit_code == 3
    result = run("gallery", "decrypt", "people.db", "--key-file", "other")
    assert (result.exit_code, result.stdout) == (0, "people.db is not encrypted any more: 1 face changed\n")
    assert named(identify(run)) == ["Ann"]
    assert row in Path("people.db").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["encrypt", "people.db"], "give --key-file"),
        (["decrypt", "people.db"], "give --key-file"),
        (["rotate-key", "people.db", "--key-file", "one"], "give --new-key-file, --data-key or both"),
    ],
)
def test_wrong_usage_is_told(run: Run, words: list[str], told: str) -> None:
    result = run("gallery", *words)
    assert (result.exit_code, told in result.stderr) == (2, True)


def test_the_doctor_tells_how_a_gallery_is_kept(run: Run, sealed: Path) -> None:
    result = run("doctor", "--gallery", "people.db", "--key-file", "one")
    told = "gallery      people.db: 1 people, 1 faces, encrypted with AES-256-GCM\n"
    assert (result.exit_code, told in result.stdout) == (0, True)
    facts = json.loads(run("doctor", "--gallery", "people.db", "--key-file", "one", "--json").stdout)
    assert facts["gallery"]["encryption"] == "encrypted with AES-256-GCM"
    assert json.loads(run("doctor", "--json").stdout)["gallery"] is None
    assert run("doctor", "--gallery", "people.db").exit_code == 3


def test_an_album_and_a_calibration_take_the_key(run: Run, sealed: Path) -> None:
    toy.save(Path("album/a.png"), toy.RED)
    words = ("cluster", "album", "-o", "sorted", "--gallery", "people.db", "--json")
    assert run(*words).exit_code == 3
    assert json.loads(run(*words, "--key-file", "one").stdout)["name"] == "Ann"


def test_an_encrypted_gallery_is_moved_to_other_weights(run: Run, sealed: Path) -> None:
    words = ("gallery", "upgrade", "people.db", "--to", "mobilefacenet", "--no-flip")
    assert run(*words).exit_code == 3
    result = run(*words, "--pictures", ".", "--key-file", "one")
    assert (result.exit_code, result.stdout) == (0, "1 face embedded anew, 0 adapted, 0 left\n")
    assert run("gallery", "upgrade", "people.db", "--confirm").exit_code == 0
    assert named(identify(run, "--no-flip", "--key-file", "one")) == ["Ann"]


@pytest.mark.slow
def test_the_service_works_with_an_encrypted_gallery(tmp_path: Path) -> None:
    (tmp_path / "one").touch(0o600)
    (tmp_path / "one").write_text(Key.generate().text)
    place = ("--gallery", tmp_path / "people.db", "--key-file", tmp_path / "one")
    with service(*place, "--keep-crops", delay=0) as (_, address):
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            made = client.post("/v1/people", data={"name": "Ann"}, files={"pictures": png(toy.RED)})
            assert made.status_code == 201
            faces = client.post("/v1/identify", files={"picture": png(toy.RED)}).json()["faces"]
            assert [face["name"] for face in faces] == ["Ann"]
        data = b"".join(file.read_bytes() for file in tmp_path.glob("people.db*"))
    assert b"Ann" in data
    assert b"\x89PNG" not in data
    assert toy.row_of(toy.RED).tobytes() not in data
