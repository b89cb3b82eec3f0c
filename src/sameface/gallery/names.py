"""The names that a person can have."""

from __future__ import annotations

import unicodedata

from sameface.errors import BadNameError

LONGEST_NAME = 200

# Of no use in a name, whatever its script; with them a name can look like another, and garble a page.
TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def clean_name(name: str) -> str:
    """Return a name in one spelling (Unicode NFC, no space round it).

    Raises:
        BadNameError: Nothing is left, it is too long, or it holds control characters or broken text.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not clean:
        raise BadNameError(name, "it is empty")
    if len(clean) > LONGEST_NAME:
        raise BadNameError(name, f"it has {len(clean)} characters, the limit is {LONGEST_NAME}")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in clean):
        raise BadNameError(name, "it holds control characters or broken text")
    if any(unicodedata.bidirectional(letter) in TURNS for letter in clean):
        raise BadNameError(name, "it holds characters that turn the direction of the text round it")
    return clean
