"""Galleries: enrolled people, their faces, and the search among them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sameface.gallery.records import EnrolledFace, Erasure, Identification, Match, Person, Pipeline, Receipt

if TYPE_CHECKING:
    from sameface.gallery.gallery import Gallery

__all__ = ["EnrolledFace", "Erasure", "Gallery", "Identification", "Match", "Person", "Pipeline", "Receipt"]


def __getattr__(name: str) -> object:
    if name == "Gallery":  # loaded when it is first used: a client of the service needs the records only
        return importlib.import_module("sameface.gallery.gallery").Gallery
    raise AttributeError(f"module 'sameface.gallery' has no attribute {name!r}")
