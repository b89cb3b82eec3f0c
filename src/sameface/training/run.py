"""What a run is made of: what changes from step to step, and what does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sameface.training.build import build_network
from sameface.training.checkpoint import LAST, PREVIOUS, describe_run, save_checkpoint
from sameface.training.config import TrainConfig
from sameface.training.course import Course
from sameface.training.objective import Head
from sameface.training.rate import make_optimizer


@dataclass(slots=True)
class Run:
    """Everything that a checkpoint restores."""

    network: nn.Module
    head: Head | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    slower: float = 1.0  # factor on the rate, halved by each recovery
    recoveries: int = 0
    warning: str = ""  # of a checkpoint that was damaged

    def state(self) -> dict[str, Any]:
        """Return it as tensors, numbers and text."""
        return {
            "network": self.network.state_dict(),
            "head": None if self.head is None else self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "numbers": [self.step, self.best, self.slower, self.recoveries],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what was saved."""
        self.network.load_state_dict(state["network"])
        if self.head is not None:
            self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.slower, self.recoveries = state["numbers"]


def make_run(config: TrainConfig, people: int, device: torch.device) -> Run:
    """Return a run at its first step."""
    network = build_network(config).to(device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = None
    if config.head != "none" and config.head_steps:
        head = Head(people, config.dimension, kind=config.head, seed=config.seed).to(device)
    parameters = [*network.parameters(), *([] if head is None else head.parameters())]
    return Run(network, head, make_optimizer(parameters, config))


def save(path: Path, run: Run, course: Course) -> None:
    """Write a checkpoint; of several processes one does."""
    course.peers.average_buffers(run.network)
    if course.peers.rank == 0:
        told = describe_run(course.config, course.pictures, course.content)
        previous = path.with_name(PREVIOUS) if path.name == LAST else None
        save_checkpoint(path, {**run.state(), **told}, previous)


def save_batch(folder: Path, crops: Tensor, numbers: Tensor) -> str:
    """Keep the batch whose loss is not a number."""
    path = folder / "diverged.pt"
    save_checkpoint(path, {"crops": crops, "numbers": numbers})
    return str(path)
