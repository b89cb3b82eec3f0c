"""Batch work: any number of pictures searched by worker processes; an interrupted run can resume."""

from sameface.batch.engine import Finder, Result, embed_pictures
from sameface.batch.journal import FoundFaces, Journal
from sameface.batch.sources import Picture, count_pictures, is_packed, open_pictures

__all__ = [
    "Finder",
    "FoundFaces",
    "Journal",
    "Picture",
    "Result",
    "count_pictures",
    "embed_pictures",
    "is_packed",
    "open_pictures",
]
