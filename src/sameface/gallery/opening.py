"""Which database is meant by what names a gallery: a file, PostgreSQL, or Milvus beside one of these."""

from __future__ import annotations

import importlib
from types import ModuleType

from sameface.gallery.address import Address, MilvusAddress, parse_address
from sameface.gallery.backend import Backend
from sameface.gallery.database import Database
from sameface.gallery.errors import EncryptionError, GalleryFileError
from sameface.gallery.keys import NO_KEYS, Keys


def open_backend(place: str, keys: Keys, *, create: bool) -> Backend:
    """Open the database that is meant.

    Raises:
        GalleryFileError: It is at an address of an unknown kind, or what reaches it is not installed.
        EncryptionError: An encryption key was given, and it is not in a file.
    """
    address = parse_address(place)
    if address is not None and keys.encryption is not None:
        reason = "sameface encrypts galleries in files only: encrypt the disk of the database, and give no key"
        raise EncryptionError(address.shown, reason)
    if isinstance(address, Address):
        postgres = import_backend("postgres", address)
        backend: Backend = postgres.PostgresDatabase.open(place, create=create)
        return backend
    if isinstance(address, MilvusAddress):
        milvus = import_backend("milvus", address)
        people = open_backend(address.people, NO_KEYS, create=create)
        try:
            backend = milvus.MilvusDatabase(address, people)
        except BaseException:
            people.close()
            raise
        return backend
    return Database.open(place, keys.encryption, create=create)


def import_backend(name: str, address: Address | MilvusAddress) -> ModuleType:
    """Return the module of a back end that not everybody has installed."""
    try:
        return importlib.import_module(f"sameface.gallery.{name}.database")
    except ModuleNotFoundError as error:
        reason = f"this needs {error.name}: pip install 'sameface[{name}]'"
        raise GalleryFileError(address.shown, reason) from error
