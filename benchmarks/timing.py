"""Time things that take turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

PAUSE = 0.1  # seconds before each step, in which the threads of the step before fall asleep


def alternate(steps: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step in each round; a round runs every step once, in turn.

    The first round is the slowest; a median over three or more does not mind.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return dict(seconds)
