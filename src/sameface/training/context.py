"""A training run: what stays the same (`RunContext`) and what each step changes (`RunState`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sameface.model import find_weights
from sameface.training.checkpoint import LAST, PREVIOUS, content_hash, load_checkpoint, open_run, save_checkpoint
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet
from sameface.training.distillation import OnlineTeacher, OnProgress, TargetSpace, fit_last_layer, teacher_targets
from sameface.training.errors import CheckpointError
from sameface.training.gradients import ProcessGroup, pick_device
from sameface.training.losses import ClassifierHead
from sameface.training.networks.build import InputSpec, build_network, make_input_spec, start_weights
from sameface.training.networks.resnet29 import ResNet29

TARGETS = "taught.pt"


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What stays the same during a run."""

    pictures: PictureSet
    held_out: PictureSet
    config: TrainConfig
    folder: Path
    device: torch.device
    group: ProcessGroup
    spec: InputSpec
    content: str  # the `content_hash` of the pictures
    targets: Tensor | None = None  # (n, d) of the clean pictures
    teacher: OnlineTeacher | None = None  # gives targets for the crops of each step instead


@dataclass(slots=True)
class RunState:
    """What a checkpoint saves and restores."""

    network: nn.Module
    head: ClassifierHead | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    rate_factor: float = 1.0  # halved by each recovery from a collapse
    recoveries: int = 0
    warning: str = ""  # about a damaged checkpoint

    def to_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and text."""
        return {
            "network": self.network.state_dict(),
            "head": None if self.head is None else self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "numbers": [self.step, self.best, self.rate_factor, self.recoveries],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `to_dict` returned."""
        self.network.load_state_dict(state["network"])
        if self.head is not None:
            self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.rate_factor, self.recoveries = state["numbers"]


def make_context(
    pictures: PictureSet, held_out: PictureSet, config: TrainConfig, folder: Path, on_progress: OnProgress
) -> RunContext:
    """Return the context of a run; teachers embed the pictures here, once for all resumed runs of a folder."""
    device = pick_device(config.device)
    group = ProcessGroup.join(device)
    spec = make_input_spec(config, pictures.rule)
    context = RunContext(pictures, held_out, config, folder, device, group, spec, content_hash(pictures))
    if not config.teachers():
        return context
    start, path = start_weights(config), folder / TARGETS
    names = [*(name for name, _ in config.teachers()), *([start] if start else [])]
    hashes = [hashlib.sha256(find_weights(name).read_bytes()).hexdigest() for name in names]
    key = json.dumps([context.content, hashes, config.teachers(), config.dimension, config.teacher_sees])
    if config.teacher_sees == "clean":
        targets = cached(path, key, lambda: torch.from_numpy(teacher_targets(pictures, config, start, on_progress)))
        return replace(context, targets=targets)
    teacher = OnlineTeacher(pictures.rule, spec, config, device)
    space = cached(path, key, lambda: teacher.fit(pictures, start, on_progress).to_dict())
    teacher.space = TargetSpace.from_dict(space)
    return replace(context, teacher=teacher)


def cached(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """Return the value that a file holds under this key; else make it and write the file."""
    with contextlib.suppress(CheckpointError):
        state = load_checkpoint(path)
        if state["key"] == key:
            return state["network"]
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, {"key": key, "network": made})
    return made


def open_state(context: RunContext) -> RunState:
    """Return the state that the folder's checkpoint holds, or that of the first step."""
    context.group.wait()
    found = open_run(context.folder, context.config, context.pictures, context.content)
    state = make_state(context.config, len(context.pictures.people), context.device)
    if found is not None:
        saved, state.warning = found
        state.restore(saved)
    elif context.targets is not None:
        start_at_targets(state, context, context.targets)
    return state


def make_state(config: TrainConfig, people: int, device: torch.device) -> RunState:
    """Return the state before the first step."""
    network = build_network(config).to(device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = None
    if config.head != "none" and config.head_steps:
        head = ClassifierHead(people, config.dimension, kind=config.head, seed=config.seed).to(device)
    parameters = [*network.parameters(), *([] if head is None else head.parameters())]
    if config.optimizer == "adagrad":  # the paper's (section 3)
        return RunState(network, head, torch.optim.Adagrad(parameters, config.rate, initial_accumulator_value=0.1))
    return RunState(network, head, torch.optim.AdamW(parameters, config.rate, weight_decay=config.weight_decay))


def start_at_targets(state: RunState, context: RunContext, targets: Tensor) -> None:
    """Set the classifier to the mean target of each person, and fit the last layer of a shortened network."""
    owner = torch.as_tensor(context.pictures.owner)
    if state.head is not None:
        state.head.directions.data.zero_().index_add_(0, owner.to(context.device), targets.to(context.device))
    if isinstance(state.network, ResNet29) and not start_weights(context.config):
        fit_last_layer(state.network, context.pictures, context.spec, targets)


def save_state(path: Path, state: RunState, context: RunContext) -> None:
    """Write a checkpoint; of several processes the first writes."""
    context.group.average_buffers(state.network)
    if context.group.rank == 0:
        facts: dict[str, Any] = {"config": json.dumps(asdict(context.config)), "content": context.content}
        facts |= {"people": len(context.pictures.people), "count": len(context.pictures)}
        previous = path.with_name(PREVIOUS) if path.name == LAST else None
        save_checkpoint(path, {**state.to_dict(), **facts}, previous)
