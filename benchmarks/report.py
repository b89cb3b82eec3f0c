"""Print measurements as a plain table, and say which targets they meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A number that was measured and how large it has to be, or may be."""

    name: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the number is on the right side of its limit."""
        return self.measured >= self.limit if self.at_least else self.measured < self.limit

    def cells(self) -> list[str]:
        """Return the target as a row of the table."""
        sign = ">=" if self.at_least else "<"
        wanted = f"{sign} {self.limit:g} {self.unit}"
        return [self.name, f"{self.measured:.3g} {self.unit}", wanted, "yes" if self.met else "NO"]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as they need to be: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    print(flush=True)


def print_targets(targets: Sequence[Target]) -> int:
    """Print the targets and return the exit code: 1 if one is missed."""
    print_table(["target", "measured", "wanted", "met"], [target.cells() for target in targets])
    return 0 if all(target.met for target in targets) else 1
