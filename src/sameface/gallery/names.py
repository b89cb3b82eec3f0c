"""Checks of names of people and of notes on consent."""

from __future__ import annotations

import unicodedata

from sameface.gallery.errors import BadNameError, BadNoteError

LONGEST_NAME = 200
LONGEST_NOTE = 500

# Bidirectional controls: with them a name can look like another, and garble a page.
CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def clean_name(name: str) -> str:
    """Return a name in one spelling (Unicode NFC, no space round it).

    Raises:
        BadNameError: Nothing is left, it is too long, or it holds control characters or broken text.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    reason = find_fault(clean, LONGEST_NAME)
    if reason is not None:
        raise BadNameError(name, reason)
    return clean


def clean_note(note: str) -> str:
    """Return a note on one line; `BadNoteError` for the faults of `clean_name`."""
    clean = " ".join(note.split())
    reason = find_fault(clean, LONGEST_NOTE)
    if reason is not None:
        raise BadNoteError(note, reason)
    return clean


def find_fault(text: str, longest: int) -> str | None:
    """Return why a text cannot be kept, or None."""
    if not text:
        return "it is empty"
    if len(text) > longest:
        return f"it has {len(text)} characters, the limit is {longest}"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        return "it holds control characters or broken text"
    if any(unicodedata.bidirectional(letter) in CONTROLS for letter in text):
        return "it holds characters that turn the direction of the text round it"
    return None
