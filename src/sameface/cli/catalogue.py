"""The catalogue of published networks: its entries, their download, and the ONNX file made of them."""

from __future__ import annotations

import hashlib
import http.client
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from sameface.cli.openvino import convert_ir
from sameface.cli.output import progress_bar
from sameface.errors import WeightsError

CHUNK = 1 << 16
TIMEOUT = 30  # seconds without a byte
SECURE = ("https",)
MANIFEST = ("licence", "training_data", "dimension", "input", "crop", "thresholds", "probability", "accuracy")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a publisher; without an address, size or hash it is not downloaded."""

    name: str
    url: str = ""
    size: int = 0  # bytes
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A network of the catalogue; one without files is built by a recipe in its note."""

    name: str
    facts: Mapping[str, Any]
    files: tuple[PublishedFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, without what only the network can tell."""
        known = {key: self.facts[key] for key in MANIFEST if key in self.facts}
        source = {"publisher": self.facts["publisher"]}
        source |= {file.name: file.url or "a file of yours" for file in self.files}
        return {"name": self.name, "kind": "embedder", "source": source} | known


def read_catalogue() -> dict[str, CatalogueEntry]:
    text = (resources.files("sameface.cli") / "catalogue.toml").read_text("utf-8")
    return {
        name: CatalogueEntry(name, facts, tuple(PublishedFile(**file) for file in facts.get("files", ())))
        for name, facts in tomllib.loads(text).items()
    }


def find_entry(name: str) -> CatalogueEntry:
    """Return an entry of the catalogue.

    Raises:
        WeightsError: There is none of this name.
    """
    known = read_catalogue()
    if name not in known:
        raise WeightsError(name, f"not in the catalogue, which has {sorted(known)}")
    return known[name]


def format_entry(entry: CatalogueEntry) -> str:
    facts = entry.facts
    lines = [
        entry.name,
        f"  licence: {facts['licence']} {facts.get('licence_url', '')}".rstrip(),
        f"  publisher: {facts['publisher']}",
        f"  trained on: {facts['training_data']}",
        *(f"  file: {file.url or file.name}, {f'{file.size:,}' if file.size else '?'} bytes" for file in entry.files),
        *(f"  {measure}: {100 * part:.1f} %" for measure, part in facts.get("accuracy", {}).items()),
        *(f"  {line}" for line in facts.get("note", "").splitlines()),
    ]
    return "\n".join(lines)


def check_downloadable(entry: CatalogueEntry) -> None:
    """Refuse an entry with a file that has no address, size or hash."""
    if not all(file.url and file.size and file.sha256 for file in entry.files):
        names = " ".join(f"--file {file.name}" for file in entry.files)
        raise WeightsError(entry.name, f"it is not downloaded: fetch the file yourself, and give {names}")


def read_files(entry: CatalogueEntry, paths: Sequence[Path]) -> list[bytes]:
    """Return the contents of local files, in the order of the entry's files.

    Raises:
        WeightsError: There are not as many of each kind as the entry has, or one has another hash.
    """
    wanted = [Path(file.name).suffix for file in entry.files]
    if sorted(path.suffix for path in paths) != sorted(wanted):
        given = ", ".join(map(str, paths))
        raise WeightsError(entry.name, f"wanted a --file for each of {', '.join(wanted)}, got {given}")
    by_suffix = {path.suffix: path.read_bytes() for path in paths}
    contents = [by_suffix[suffix] for suffix in wanted]
    for file, data in zip(entry.files, contents, strict=True):
        if file.sha256:
            check_sha256(entry.name, file, data)
    return contents


def check_sha256(name: str, file: PublishedFile, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        reason = f"{file.name} is another file (sha-256 {found[:12]}…, wanted {file.sha256[:12]}…)"
        raise WeightsError(name, reason)


def build_network(entry: CatalogueEntry, contents: Sequence[bytes]) -> bytes:
    """Return the ONNX file that is made of an entry's files."""
    by_suffix = {Path(file.name).suffix: data for file, data in zip(entry.files, contents, strict=True)}
    if ".xml" not in by_suffix:
        return contents[0]
    swap = bool(entry.facts.get("swap_channels", False))
    return convert_ir(by_suffix[".xml"], by_suffix[".bin"], swap_channels=swap)


def part_of(file: PublishedFile, folder: Path) -> Path:
    """Return where a download is kept until its network was added."""
    return folder / f"{file.name}.part"


def remove_parts(entry: CatalogueEntry, folder: Path) -> None:
    for file in entry.files:
        part_of(file, folder).unlink(missing_ok=True)


def download_files(entry: CatalogueEntry, folder: Path, *, schemes: Sequence[str] = SECURE) -> list[bytes]:
    """Download the files of an entry, or the missing part of each, and return their contents.

    Raises:
        WeightsError: A file cannot be downloaded or written, or has another hash.
    """
    contents = []
    for file in entry.files:
        part = part_of(file, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download(file, part, schemes)
            data = part.read_bytes()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            kept = "what is there is kept, run the command again to resume"
            raise WeightsError(entry.name, f"cannot download {file.name}: {reason}: {kept}") from error
        if len(data) == file.size and hashlib.sha256(data).hexdigest() != file.sha256:
            part.unlink()  # there is nothing in it to resume
        check_sha256(entry.name, file, data)
        contents.append(data)
    return contents


def download(file: PublishedFile, part: Path, schemes: Sequence[str]) -> None:
    """Resume a partial download, or begin anew if the server cannot resume.

    Raises:
        OSError: The server cannot be reached or refuses, or the file cannot be written.
        ValueError: The address has another scheme, or the file another size than the catalogue's.
    """
    held = part.stat().st_size if part.exists() else 0
    if held == file.size:
        return
    held = held if held < file.size else 0
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={held}-"} if held else {})
    check_scheme(file.url, schemes)
    with urllib.request.build_opener(SchemeHandler(schemes)).open(request, timeout=TIMEOUT) as answer:
        stated = answer.headers.get("Content-Range", "")
        resumed = answer.status == 206 and stated.startswith(f"bytes {held}-")
        with part.open("ab" if resumed else "wb") as target:
            copy(answer, target, file, held if resumed else 0)


def copy(answer: IO[bytes], target: IO[bytes], file: PublishedFile, done: int) -> None:
    """Copy an answer to a file that has `done` bytes, up to the size in the catalogue, with a progress bar."""
    with progress_bar() as bar:
        task = bar.add_task(file.name, total=file.size, completed=done)
        while chunk := answer.read(CHUNK):
            done += len(chunk)
            if done > file.size:
                raise ValueError(f"the server sends more than {file.size:,} bytes")
            target.write(chunk)
            bar.update(task, completed=done)
    if done < file.size:
        raise ValueError(f"the server ended after {done:,} of {file.size:,} bytes")


class SchemeHandler(urllib.request.HTTPRedirectHandler):
    """Refuses redirections to other schemes."""

    def __init__(self, schemes: Sequence[str]) -> None:
        self.schemes = schemes

    def redirect_request(self, *words: Any) -> urllib.request.Request | None:
        try:
            check_scheme(words[-1], self.schemes)
        except ValueError:
            words[1].close()  # the answer
            raise
        return super().redirect_request(*words)


def check_scheme(url: str, schemes: Sequence[str]) -> None:
    if urlsplit(url).scheme not in schemes:
        raise ValueError(f"{url} is not an address of {' or '.join(schemes)}")
