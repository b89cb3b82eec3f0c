"""Detect a collapse of the embeddings during a run, and name its likeliest cause."""

from __future__ import annotations

from dataclasses import dataclass

from sameface.training.config import RATES, TrainConfig
from sameface.training.losses import TripletStats

TOO_NEAR = 0.05  # mean squared distance of all pairs, below which all faces look the same
RECOVERING = 1.2  # a spread that has grown by this factor belongs to a run that starts, not to one that fails
SMALL_BATCH = 32


@dataclass(slots=True)
class CollapseMonitor:
    """Counts the steps in a row that look like a collapse.

    A run that has just begun looks like one, too (near embeddings, a loss near the margin). So the alarm goes off
    only after `patience` such steps without improvement. A classifier of thousands of people draws all faces
    together for hundreds of steps before it separates them, and is left alone.
    """

    config: TrainConfig
    suspicious: int = 0  # such steps in a row
    start: float = 0.0  # the spread at the first of them
    widest: float = 0.0  # the largest spread so far

    def update(self, step: int, loss: float, stats: TripletStats) -> str:
        """Count a step; return the cause of a collapse, or an empty text."""
        self.widest = max(self.widest, stats.spread)
        classifying = self.config.head != "none" and step < self.config.head_steps
        near = stats.spread < TOO_NEAR and not classifying
        margin = self.config.stage(step).margin
        mining = not classifying and self.config.teacher == "none"
        flat = mining and abs(loss - margin) < 0.01 * margin and stats.active_fraction > 0.99
        if not (near or flat) or (self.suspicious and stats.spread > RECOVERING * self.start):
            self.suspicious = 0
            return ""
        if not self.suspicious:
            self.start = stats.spread
        self.suspicious += 1
        if self.suspicious < self.config.patience:
            return ""
        spread = f"mean squared distance of all pairs {stats.spread:.4f} (at most {self.widest:.3f} before)"
        return f"{spread}, loss {loss:.4f} at margin {margin:g}; {find_cause(self.config)}"


def find_cause(config: TrainConfig) -> str:
    """Return the likeliest cause among the options, and the way out."""
    if config.rule == "hardest" or config.otherwise == "hardest-below":
        return (
            "the hardest negatives pull all faces together: "
            "use --rule semi-hard, or begin with --head softmax --head-steps 1000"
        )
    if config.rate > 2 * RATES[config.optimizer]:
        return f"the learning rate {config.rate:g} is high for {config.optimizer}: lower --learning-rate"
    if config.warm_up == 0:
        return "the full learning rate from the first step: give --warm-up"
    if config.people * config.pictures < SMALL_BATCH:
        return f"a batch of {config.people} x {config.pictures} holds few triplets: raise --people, --pictures"
    return (
        f"no option stands out: lower --learning-rate (now {config.rate:g}), begin with --head softmax or "
        "--teacher resnet29, and check that each folder holds one person"
    )
