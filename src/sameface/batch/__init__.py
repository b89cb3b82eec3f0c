"""Batch work: any number of pictures searched by worker processes, remembered so that it can go on later."""

from sameface.batch.engine import Result, embed_pictures
from sameface.batch.finder import Finder, Found
from sameface.batch.journal import Journal
from sameface.batch.sources import Picture, count_pictures, is_packed, open_pictures

__all__ = [
    "Finder",
    "Found",
    "Journal",
    "Picture",
    "Result",
    "count_pictures",
    "embed_pictures",
    "is_packed",
    "open_pictures",
]
