"""Where a gallery is: a file, or the address of one in a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, unquote, urlencode

from sameface.errors import GalleryFileError

SCHEMES = ("postgresql://", "postgres://")
SCHEMA = "sameface"
SECRETS = ("password", "sslpassword")
OURS = ("schema", "index")
LONGEST_SCHEMA = 63  # bytes; PostgreSQL cuts longer names off


def is_address(place: str) -> bool:
    """Return whether a gallery is in a database and not in a file."""
    return place.startswith(SCHEMES)


@dataclass(frozen=True, slots=True)
class Address:
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
        return "".join(letter if letter.isalnum() else "-" for letter in f"{database}.{self.schema}")


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
