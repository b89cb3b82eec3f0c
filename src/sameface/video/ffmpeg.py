"""PyAV, which is FFmpeg for Python, imported when the first video is opened: it is an extra."""

from __future__ import annotations

import importlib
from typing import Any


class PyAV:
    """The module `av`, imported when one of its names is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_av(), name)


def import_av() -> Any:
    """Return the module `av`.

    Raises:
        ModuleNotFoundError: It is not installed; the message names the extra.
    """
    try:
        importlib.import_module("av.stream")
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        needed = "videos need av: pip install 'sameface[video]'"
        raise ModuleNotFoundError(needed, name="av") from error


av = PyAV()
