"""The place of a gallery, a file or an address in a database, and the back end that opens it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote, urlencode

from sameface.errors import GalleryError
from sameface.gallery.errors import EncryptionError, GalleryFileError
from sameface.gallery.keys import NO_KEYS, Keys

if TYPE_CHECKING:
    from sameface.gallery.backend import Backend

SCHEMES = ("postgresql://", "postgres://")
MILVUS = "milvus://"
SCHEMA = "sameface"
SECRETS = ("password", "sslpassword")
LONGEST_SCHEMA = 63  # bytes; PostgreSQL cuts longer names off
MILVUS_PORT = 19530
MILVUS_CHOICES = {"index", "tls", "database"}
COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The address of a gallery in PostgreSQL."""

    shown: str  # in messages, without a password
    conninfo: str  # for the client library, without a password
    secrets: dict[str, str] = field(repr=False)  # passwords, by the names of the client library
    schema: str = SCHEMA  # that holds the tables
    indexed: bool = False  # search with the index, approximately

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `postgresql://user@host:port/database?schema=NAME&index=hnsw`; other parameters are libpq's."""
        place, _, _, password, parameters = split_address(text)
        ours = {name: parameters.pop(name) for name in ("schema", "index") if name in parameters}
        secrets = {name: parameters.pop(name) for name in SECRETS if name in parameters}
        if password is not None:
            secrets["password"] = password
        schema, index = ours.get("schema", SCHEMA), ours.get("index")
        if not schema or "\0" in schema or len(schema.encode()) > LONGEST_SCHEMA:
            raise GalleryFileError(place, f"schema must be 1 to {LONGEST_SCHEMA} bytes of text, got {schema!r}")
        if index not in (None, "hnsw"):
            raise GalleryFileError(place, f"index must be 'hnsw' or left out, got {index!r}")
        shown, conninfo = join_parameters(place, parameters | ours), join_parameters(place, parameters)
        return cls(shown, conninfo, secrets, schema, index is not None)

    @property
    def file_name(self) -> str:
        """The name of files on this machine for the gallery."""
        database = self.conninfo.partition("?")[0].rpartition("/")[2] or "database"
        return plain_name(f"{database}.{self.schema}")


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """The address of a gallery whose faces Milvus searches."""

    shown: str  # in messages, without passwords
    uri: str  # for the client of Milvus
    collection: str  # the beginning of the collection's name
    people: str = field(repr=False)  # the file or address of the database of people
    index: str  # `flat`, which compares every face, or `hnsw`
    database: str  # of Milvus
    user: str  # empty for none
    password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `milvus://user@host:port/collection?people=PLACE&index=hnsw&tls=on&database=NAME`."""
        place, server, user, password, parameters = split_address(text)
        host, _, collection = server.partition("/")
        people = parameters.pop("people", "")
        choices = {"index": "flat", "tls": "off", "database": "default"} | parameters
        check_milvus(choices, host, collection, people, place)
        secure, port = choices["tls"] == "on", "" if ":" in host else f":{MILVUS_PORT}"
        known = parse_address(people)
        return cls(
            shown=join_parameters(place, {"people": people if known is None else known.shown} | parameters),
            uri=f"{'https' if secure else 'http'}://{host}{port}",
            collection=collection,
            people=people,
            index=choices["index"],
            database=choices["database"],
            user=unquote(user),
            password=password or "",
        )

    @property
    def in_postgres(self) -> bool:
        """Whether people are in PostgreSQL, and not in a file."""
        return self.people.startswith(SCHEMES)

    @property
    def file_name(self) -> str:
        """The name of files on this machine for the gallery."""
        return plain_name(f"{self.database}.{self.collection}")


def parse_address(place: str) -> PostgresAddress | MilvusAddress | None:
    """Return the address of a gallery in a database, or None for a file; refuse other kinds of addresses."""
    if place.startswith(SCHEMES):
        return PostgresAddress.parse(place)
    if place.startswith(MILVUS):
        return MilvusAddress.parse(place)
    scheme, found, _ = place.partition("://")
    if found and scheme.isalpha():
        reason = "a gallery is a file, or at postgresql://user@host/database or milvus://host/collection"
        raise GalleryFileError(f"{scheme}://", reason)
    return None


def expect_file(
    path: str | os.PathLike[str], error: Callable[[str, str], GalleryError], reason: str, milvus: str | None = None
) -> None:
    """Raise an error with its reason unless a gallery is in a file; `milvus` is the one if only people are."""
    address = parse_address(os.fspath(path))
    if isinstance(address, MilvusAddress) and not address.in_postgres and milvus is not None:
        raise error(address.shown, milvus.format(people=address.people))
    if address is not None:
        raise error(address.shown, reason)


def split_address(text: str) -> tuple[str, str, str, str | None, dict[str, str]]:
    """Return an address without password and parameters, its server, user, password and parameters.

    The last `@` before the parameters ends the password: no part of one that is not percent-encoded is taken
    for the host, and shown in a message.
    """
    scheme, _, rest = text.partition("://")
    place, _, query = rest.partition("?")
    account, at, server = place.rpartition("@")
    user, colon, password = account.partition(":")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if not all(name and sign for name, sign, _ in pairs):  # the rest may hold a password with a question mark
        reason = "after '?' there must be name=value, joined by '&'; in a password write '?' as %3F"
        raise GalleryFileError(f"{scheme}://", reason)
    parameters = {unquote(name): unquote(value) for name, _, value in pairs}
    return f"{scheme}://{user}{at}{server}", server, user, unquote(password) if colon else None, parameters


def join_parameters(place: str, parameters: dict[str, str]) -> str:
    """Return an address with its parameters."""
    return f"{place}?{urlencode(parameters, safe='/', quote_via=quote)}" if parameters else place


def plain_name(words: str) -> str:
    """Return words that can be the name of a file anywhere."""
    return "".join(letter if letter.isalnum() else "-" for letter in words)


def check_milvus(choices: dict[str, str], host: str, collection: str, people: str, shown: str) -> None:
    """Raise unless the parts of an address of Milvus are valid."""
    reasons = {
        "there must be milvus://host/collection": bool(host),
        "a collection has a name of letters, digits and _, no digit first, up to 200": bool(
            COLLECTION.fullmatch(collection)
        ),
        "say where its people are: ?people=people.db, or an address of PostgreSQL with & as %26": bool(people),
        "people must be in a file or in PostgreSQL": not people.startswith(MILVUS),
        f"index must be 'flat' or 'hnsw', got {choices['index']!r}": choices["index"] in ("flat", "hnsw"),
        f"tls must be 'on' or 'off', got {choices['tls']!r}": choices["tls"] in ("on", "off"),
        f"it has no parameter {', '.join(map(repr, sorted(choices.keys() - MILVUS_CHOICES)))}": (
            choices.keys() <= MILVUS_CHOICES
        ),
    }
    for reason, holds in reasons.items():
        if not holds:
            raise GalleryFileError(shown, reason)


def open_backend(place: str, keys: Keys, *, create: bool) -> Backend:
    """Open the database at a place.

    Raises:
        GalleryFileError: It is at an address of an unknown kind, or what reaches it is not installed.
        EncryptionError: An encryption key was given, and it is not in a file.
    """
    address = parse_address(place)
    backend: Backend
    if address is None:
        sqlite = import_module("sameface.gallery.sqlite.database")
        backend = sqlite.SqliteDatabase.open(place, keys.encryption, create=create)
    elif keys.encryption is not None:
        reason = "sameface encrypts galleries in files only: encrypt the disk of the database, and give no key"
        raise EncryptionError(address.shown, reason)
    elif isinstance(address, PostgresAddress):
        backend = import_backend("postgres", address).PostgresDatabase.open(place, create=create)
    else:
        milvus = import_backend("milvus", address)
        people = open_backend(address.people, NO_KEYS, create=create)
        try:
            backend = milvus.MilvusDatabase(address, people)
        except BaseException:
            people.close()
            raise
    return backend


def import_backend(name: str, address: PostgresAddress | MilvusAddress) -> ModuleType:
    """Return the module of a back end whose client library may be missing."""
    try:
        return import_module(f"sameface.gallery.{name}.database")
    except ModuleNotFoundError as error:
        raise GalleryFileError(address.shown, f"this needs {error.name}: pip install 'sameface[{name}]'") from error
