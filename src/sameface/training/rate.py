"""The optimiser and how its rate rises and falls."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from sameface.training.config import TrainConfig

STEPS_DOWN = ((0.6, 0.1), (0.85, 0.01))  # after this part of the run, this part of the rate


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """Return the paper's AdaGrad (section 3), or AdamW."""
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=config.rate, initial_accumulator_value=0.1)
    return torch.optim.AdamW(parameters, lr=config.rate, weight_decay=config.weight_decay)


def rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: up in a line, then down as the schedule says."""
    if step < config.warm_up:
        return config.rate * (step + 1) / config.warm_up
    part = (step - config.warm_up) / max(config.steps - config.warm_up, 1)
    if config.schedule == "cosine":
        return config.rate * 0.5 * (1 + math.cos(math.pi * min(part, 1)))
    if config.schedule == "step":
        return config.rate * min([factor for after, factor in STEPS_DOWN if part >= after], default=1.0)
    return config.rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use this rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
