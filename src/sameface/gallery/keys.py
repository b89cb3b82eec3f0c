"""The keys of a gallery: 32 random bytes each, read from a file, a text or the output of a command."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from sameface.gallery.errors import KeyFileError

SIZE = 32  # bytes
LONGEST = 1024  # bytes of a file or an output that hold one
WAIT_SECONDS = 60
WANTED = "wanted 32 random bytes in base64, 44 letters on one line; `sameface gallery new-key` makes them"


@dataclass(frozen=True, slots=True)
class Key:
    """A key, which is shown in no message."""

    secret: bytes = field(repr=False)  # 32 random bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SIZE:
            raise ValueError(f"a key must have {SIZE} bytes, got {len(self.secret)}")

    @classmethod
    def generate(cls) -> Self:
        """Return a new key."""
        return cls(secrets.token_bytes(SIZE))

    @classmethod
    def parse(cls, text: bytes, source: str) -> Self:
        """Return the key of a base64 text; `source` names its origin in a `KeyFileError`."""
        try:
            secret = base64.b64decode(text.strip(), validate=True)
        except binascii.Error as error:
            raise KeyFileError(source, WANTED) from error
        if len(secret) != SIZE:
            raise KeyFileError(source, f"{WANTED}, got {len(secret)} bytes")
        return cls(secret)

    @property
    def text(self) -> str:
        """The key in base64, as `parse` reads it."""
        return base64.b64encode(self.secret).decode()

    @property
    def fingerprint(self) -> str:
        """A public name of the key, 16 hexadecimal digits."""
        return hashlib.shake_256(b"sameface fingerprint" + self.secret).hexdigest(8)


class KeySource(Protocol):
    """The place of a key. It is read each time a key is needed, so that a service finds a changed one."""

    def read(self) -> Key:
        """Return the key, or raise `KeyFileError`."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file that holds a key and that only its owner may read."""

    path: str

    def read(self) -> Key:
        """Return the key in the file."""
        source = repr(self.path)
        try:
            with open(self.path, "rb") as file:
                check_private(os.fstat(file.fileno()), source)
                text = file.read(LONGEST)
        except OSError as error:
            raise KeyFileError(source, str(error.strerror)) from error
        return Key.parse(text, source)


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key in base64, and its origin in words."""

    text: str = field(repr=False)
    source: str

    def read(self) -> Key:
        """Return the key."""
        return Key.parse(self.text.encode(), self.source)


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """A command that prints a key, such as the client of a key store. It is run without a shell."""

    command: str  # its words are quoted as in a shell

    def read(self) -> Key:
        """Run the command and return the key that it prints."""
        source = f"the command {self.command!r}"
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise KeyFileError(source, str(error)) from error
        if not words:
            raise KeyFileError(source, "it is empty")
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=WAIT_SECONDS, check=False
            )
        except OSError as error:
            raise KeyFileError(source, str(error.strerror)) from error
        except subprocess.TimeoutExpired as error:
            raise KeyFileError(source, f"it did not end within {WAIT_SECONDS} seconds") from error
        if done.returncode:
            raise KeyFileError(source, f"it ended with exit code {done.returncode}")
        return Key.parse(done.stdout[:LONGEST], source)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that a gallery is opened with."""

    encryption: KeySource | None = None  # None for a gallery that is not encrypted


NO_KEYS = Keys()


def check_private(status: os.stat_result, source: str) -> None:
    """Raise unless only the owner may read a file, and that is this user or root."""
    if os.name != "posix":
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(source, f"others may read it (mode {mode:04o}): say chmod 600")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(source, f"it belongs to somebody else (user {status.st_uid})")


def write_key(path: Path, key: Key) -> None:
    """Write a key into a new file that only its owner may read; raise `KeyFileError` if it cannot be made."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise KeyFileError(repr(str(path)), f"it cannot be made: {error.strerror}") from error
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key.text}\n")
        file.flush()
        os.fsync(descriptor)
