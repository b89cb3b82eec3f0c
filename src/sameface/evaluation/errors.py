"""Errors of evaluation; the whole tree is drawn in `sameface.errors`."""

from __future__ import annotations

import math

from sameface.errors import EvaluationError


class ProtocolError(EvaluationError):
    """A list of pairs, a table or a folder of people that cannot be used."""

    code = "bad_protocol"
    path: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = repr(self.path) if self.line is None else f"{self.path!r}, line {self.line}"
        return f"cannot use {place}: {self.reason}"


class TooFewPairsError(EvaluationError):
    """Too few pairs of different people stand behind a false-accept rate; nothing is extrapolated."""

    code = "too_few_pairs"
    far: float
    impostors: int
    fewest: int

    @property
    def needed(self) -> int:
        """How many pairs of different people the rate needs."""
        return math.ceil(self.fewest / self.far)

    def __str__(self) -> str:
        return (
            f"a false-accept rate of {self.far:g} needs {self.needed:,} pairs of different people or more "
            f"({self.fewest} accepts), there are {self.impostors:,}"
        )
