"""Where a gallery is: a file, or the address of one in a database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Self
from urllib.parse import quote, unquote, urlencode

from sameface.gallery.backend import Backend
from sameface.gallery.errors import EncryptionError, GalleryFileError
from sameface.gallery.keys import NO_KEYS, Keys

SCHEMES = ("postgresql://", "postgres://")
MILVUS = "milvus://"
SCHEMA = "sameface"
SECRETS = ("password", "sslpassword")
OURS = ("schema", "index")
LONGEST_SCHEMA = 63  # bytes; PostgreSQL cuts longer names off
MILVUS_PORT = 19530
MILVUS_CHOICES = {"index", "tls", "database"}
COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a gallery is in PostgreSQL.

    Attributes:
        shown: The address as messages show it, without a password.
        conninfo: What the client library takes, without a password.
        secrets: The passwords, by the names that the library has for them.
        schema: The schema that holds the tables.
        indexed: Search with the index, approximately, and not every face exactly.
    """

    shown: str
    conninfo: str
    secrets: dict[str, str] = field(repr=False)
    schema: str = SCHEMA
    indexed: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `postgresql://user@host:port/database?schema=NAME&index=hnsw`; other parameters are libpq's.

        The last `@` before the parameters ends the password, so that one that is not percent-encoded is not
        taken for a part of the host and shown in a message.

        Raises:
            GalleryFileError: It does not read like that.
        """
        scheme, _, rest = text.partition("://")
        place, _, query = rest.partition("?")
        account, at, server = place.rpartition("@")
        user, colon, password = account.partition(":")
        shown = f"{scheme}://{user}{at}{server}"
        given = read_parameters(query, shown)
        schema, index = (given.pop(name, None) for name in OURS)
        secrets = {name: given.pop(name) for name in SECRETS if name in given}
        if colon:
            secrets["password"] = unquote(password)
        wanted = given | ({} if schema is None else {"schema": schema})
        wanted |= {} if index is None else {"index": index}
        check_schema(schema, shown)
        if index not in (None, "hnsw"):
            raise GalleryFileError(shown, f"index must be 'hnsw' or left out, got {index!r}")
        return cls(
            shown=with_parameters(shown, wanted),
            conninfo=with_parameters(shown, given),
            secrets=secrets,
            schema=SCHEMA if schema is None else schema,
            indexed=index is not None,
        )

    @property
    def file_name(self) -> str:
        """What to call files on this machine that go with the gallery."""
        database = self.conninfo.partition("?")[0].rpartition("/")[2] or "database"
        return plain_name(f"{database}.{self.schema}")


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """Where the faces of a gallery are searched by Milvus, and where its people are.

    Attributes:
        shown: The address as messages show it, without passwords.
        uri: Where Milvus is, as its client takes it.
        collection: What the name of the collection begins with.
        people: The file or the address of the database of people.
        index: `flat`, which compares every face, or `hnsw`.
        database: Of Milvus.
        user: Whom Milvus lets in; empty for nobody in particular.
        password: The user's.
    """

    shown: str
    uri: str
    collection: str
    people: str = field(repr=False)
    index: str
    database: str
    user: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `milvus://user@host:port/collection?people=PLACE&index=hnsw&tls=on&database=NAME`.

        Raises:
            GalleryFileError: It does not read like that.
        """
        place, _, query = text.removeprefix(MILVUS).partition("?")
        account, at, server = place.rpartition("@")
        user, _, password = account.partition(":")
        host, _, collection = server.partition("/")
        shown = f"{MILVUS}{user}{at}{server}"
        given = read_parameters(query, shown)
        people = given.pop("people", "")
        choices = {"index": "flat", "tls": "off", "database": "default"} | given
        check_milvus(choices, host, collection, people, shown)
        secure, port = choices["tls"] == "on", "" if ":" in host else f":{MILVUS_PORT}"
        return cls(
            shown=with_parameters(shown, {"people": show(people)} | given),
            uri=f"{'https' if secure else 'http'}://{host}{port}",
            collection=collection,
            people=people,
            index=choices["index"],
            database=choices["database"],
            user=unquote(user),
            password=unquote(password),
        )

    @property
    def in_postgres(self) -> bool:
        """Whether people are in PostgreSQL, and not in a file."""
        return self.people.startswith(SCHEMES)

    @property
    def file_name(self) -> str:
        """What to call files on this machine that go with the gallery."""
        return plain_name(f"{self.database}.{self.collection}")


def parse_address(place: str) -> PostgresAddress | MilvusAddress | None:
    """Return where a gallery is, if that is in a database; None is a file.

    Raises:
        GalleryFileError: It is an address of an unknown kind, or does not read like one.
    """
    if place.startswith(SCHEMES):
        return PostgresAddress.parse(place)
    if place.startswith(MILVUS):
        return MilvusAddress.parse(place)
    scheme, found, _ = place.partition("://")
    if found and scheme.isalpha():
        reason = "a gallery is a file, or at postgresql://user@host/database or milvus://host/collection"
        raise GalleryFileError(f"{scheme}://", reason)
    return None


def show(place: str) -> str:
    """Return where a gallery is as messages show it, without passwords."""
    address = parse_address(place)
    return place if address is None else address.shown


def plain_name(words: str) -> str:
    """Return words that can be the name of a file anywhere."""
    return "".join(letter if letter.isalnum() else "-" for letter in words)


def read_parameters(query: str, shown: str) -> dict[str, str]:
    """Return what stands behind the question mark."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if not all(name and sign for name, sign, _ in pairs):
        scheme = shown.partition("://")[0]  # a password with a question mark may be in the rest
        reason = "after '?' there must be name=value, joined by '&'; in a password write '?' as %3F"
        raise GalleryFileError(f"{scheme}://", reason)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def with_parameters(place: str, parameters: dict[str, str]) -> str:
    """Return an address with its parameters."""
    return f"{place}?{urlencode(parameters, safe='/', quote_via=quote)}" if parameters else place


def check_schema(schema: str | None, shown: str) -> None:
    """Raise unless this can be the name of a schema."""
    if schema is not None and (not schema or "\0" in schema or len(schema.encode()) > LONGEST_SCHEMA):
        raise GalleryFileError(shown, f"schema must be 1 to {LONGEST_SCHEMA} bytes of text, got {schema!r}")


def check_milvus(choices: dict[str, str], host: str, collection: str, people: str, shown: str) -> None:
    """Raise unless these can be the parts of an address of Milvus."""
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
    """Open the database that is meant.

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
        reason = f"this needs {error.name}: pip install 'sameface[{name}]'"
        raise GalleryFileError(address.shown, reason) from error
