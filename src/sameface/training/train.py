"""The training loop, flat, in the order of the paper (FaceNet, section 3)."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sameface.training.augment import OFF, STANDARD, WHOLE, scale_augmentation
from sameface.training.checkpoint import BEST, LAST, save_checkpoint
from sameface.training.config import TrainConfig
from sameface.training.context import RunContext, RunState, make_context, open_state, save_state
from sameface.training.dataset import PictureSet
from sameface.training.distillation import OnProgress, ignore_progress, mix_faces
from sameface.training.errors import CollapseError, DivergedError, TrainingDataError
from sameface.training.gradients import backpropagate
from sameface.training.loader import LoaderConfig, load_batches, to_planes
from sameface.training.losses import TripletStats, combined_loss
from sameface.training.monitor import CollapseMonitor
from sameface.training.networks.build import check_crops
from sameface.training.validate import embed_pictures, roc_of, val_at_far

Batch: TypeAlias = tuple[Tensor, Tensor, list[str]]  # crops, numbers of the pictures, faults
NO_TRIPLETS = TripletStats(0, 0, 0, 0, 0, 0, 0)
RECOVERIES = 3  # from a collapse, before the run gives up


@dataclass(frozen=True, slots=True)
class StepReport:
    """The figures of one step."""

    step: int  # steps done
    loss: float = math.nan
    stats: TripletStats = NO_TRIPLETS
    rate: float = 0
    pictures_per_second: float = 0
    waiting: float = 0  # the part of the step's time spent waiting for pictures
    val: float | None = None  # VAL at FAR 1e-2 on the held-out people, if this step measured it
    note: str = ""  # an unreadable picture, a recovery


def train(
    pictures: PictureSet,
    held_out: PictureSet,
    config: TrainConfig,
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[StepReport]:
    """Train until the last step and yield each; resume the run in `folder`.

    Args:
        pictures: People to train on.
        held_out: People to test on; may be empty.
        config: Options of the run.
        folder: For checkpoints (`last.pt`, and `best.pt` by VAL), options and TensorBoard events.
        stop: Called after each step; true saves and ends the run, to be resumed.
        on_progress: Called while teachers embed the pictures.

    Raises:
        TrainingDataError: The pictures allow no triplet, or too few people have K pictures.
        CheckpointError: The folder holds another run, or a checkpoint cannot be written.
        CollapseError: The embeddings collapsed, and recovery is off or has not helped.
        DivergedError: The loss is not a number.
    """
    for each in (pictures, held_out):
        check_crops(each, config)
    if len(held_out) and held_out.rule != pictures.rule:
        raise TrainingDataError(held_out.files[0].source, "it was cut by another rule than the training pictures")
    check_people(pictures, config)
    context = make_context(pictures, held_out, config, folder, on_progress)
    run = open_state(context)
    if run.warning:
        yield StepReport(run.step, note=run.warning)
    deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
    while True:
        try:
            # Closed, or the workers that decode pictures outlive an error and the program never ends.
            with contextlib.closing(load(run, context)) as batches:
                yield from record(take_steps(run, context, batches, stop=stop, deadline=deadline), context)
            return
        except CollapseError as error:
            if config.on_collapse == "stop" or run.recoveries == RECOVERIES:
                raise
            rate_factor, recoveries = run.rate_factor / 2, run.recoveries + 1
            run = open_state(context)
            run.rate_factor, run.recoveries = rate_factor, recoveries
            note = f"{error}; back to step {run.step} with {rate_factor:g} of the rate"
            yield StepReport(run.step, note=note)


def record(reports: Iterator[StepReport], context: RunContext) -> Iterator[StepReport]:
    """Yield the reports, and write them as TensorBoard events in the first of several processes."""
    if context.group.rank:
        yield from reports
        return
    with SummaryWriter(str(context.folder), flush_secs=10) as events:
        for report in reports:
            if report.step:
                numbers = {name: getattr(report, name) for name in ("loss", "rate", "waiting", "pictures_per_second")}
                numbers |= {f"triplets/{name}": value for name, value in asdict(report.stats).items()}
                numbers |= {} if report.val is None else {"val_at_far_1e-2": report.val}
                for name, value in numbers.items():
                    events.add_scalar(name, value, report.step)
            yield report


def take_steps(
    run: RunState, context: RunContext, batches: Iterator[Batch], *, stop: Callable[[], bool], deadline: float
) -> Iterator[StepReport]:
    """Take the remaining steps, until `stop` or the deadline."""
    config, folder, group = context.config, context.folder, context.group
    monitor = CollapseMonitor(config)
    if run.step == 0 and len(context.held_out):
        yield StepReport(0, val=validate(run, context))
    began = time.perf_counter()
    while run.step < config.steps:
        # A batch of P people with K pictures each.
        crops, numbers, faults = next(batches)
        waited = time.perf_counter() - began

        # Embed it, choose triplets among these very embeddings, send the gradient of their loss back.
        rate = config.rate_at(run.step) * run.rate_factor
        for parameters in run.optimizer.param_groups:
            parameters["lr"] = rate
        run.optimizer.zero_grad()
        loss, stats = differentiate(run, context, crops, numbers)
        if not math.isfinite(loss):
            path = folder / "diverged.pt"
            save_checkpoint(path, {"crops": crops, "numbers": numbers})
            raise DivergedError(run.step, str(path))
        run.optimizer.step()
        run.step += 1

        # Monitor, test, save.
        cause = monitor.update(run.step - 1, loss, stats)
        if cause:
            raise CollapseError(run.step, cause)
        over = group.any(flag=time.monotonic() > deadline, device=context.device)
        ended = group.any(flag=stop(), device=context.device) or over
        val = validate(run, context) if over or due(run.step, config.validate_every, config) else None
        # Recovery goes back to the last checkpoint: a step that looks like a collapse must not replace it.
        periodic = due(run.step, config.save_every, config) and not monitor.suspicious
        if ended or periodic or run.step == config.steps:
            save_state(folder / LAST, run, context)

        now = time.perf_counter()
        seconds, began = now - began, now
        speed = len(numbers) * group.world / seconds
        yield StepReport(run.step, loss, stats, rate, speed, waited / seconds, val, "; ".join(faults))
        if ended:
            return


def differentiate(run: RunState, context: RunContext, crops: Tensor, numbers: Tensor) -> tuple[float, TripletStats]:
    """Put the gradient of a batch on the network; return the loss and the statistics of the triplets."""
    config, device, group = context.config, context.device, context.group
    owner = torch.as_tensor(context.pictures.owner)
    own = torch.where(numbers < 0, -1, owner[numbers])
    targets = None if context.targets is None else context.targets[numbers]
    if context.teacher is not None:
        count = int(config.mixed * len(crops))
        crops = mix_faces(crops, count, torch.Generator().manual_seed(config.seed_of(run.step)))
        targets = torch.where((numbers < 0)[:, None], 0, context.teacher(crops))
        own[len(own) - count :] = -1  # a mix of two people
        crops = context.teacher.frame.cut(crops)
    planes = to_planes(crops, context.spec.mean, context.spec.scale, device)
    labels = group.gather(own.to(device))
    targets = None if targets is None else group.gather(targets.to(device))

    def objective(rows: Tensor) -> tuple[Tensor, TripletStats]:
        # Distances need all their digits, whatever the network computes in.
        with torch.autocast(device.type, enabled=False):
            return combined_loss(rows.float(), labels, config, step=run.step, head=run.head, targets=targets)

    with torch.autocast(device.type, torch.bfloat16, enabled=config.uses_bfloat16(device.type)):
        loss, stats = backpropagate(run.network, planes, objective, chunk=config.chunk, group=group)
    return loss.item(), stats


def validate(run: RunState, context: RunContext) -> float | None:
    """Return VAL at FAR 1e-2 on the held-out people; save the best network."""
    if not len(context.held_out):
        return None
    context.group.average_buffers(run.network)
    rows, numbers = embed_pictures(run.network, context.held_out, context.spec)
    val = val_at_far(roc_of(rows, context.held_out.owner[numbers]))
    if val > run.best:
        run.best = val
        save_state(context.folder / BEST, run, context)
    return val


def check_people(pictures: PictureSet, config: TrainConfig) -> None:
    """Raise unless there are two people or more, and one of them has K pictures."""
    most = int(pictures.counts.max(initial=0))
    if len(pictures.people) < 2:
        raise TrainingDataError("these pictures", f"{len(pictures.people)} person; two or more make a negative")
    wanted = max(stage.pictures for stage in config.stages())
    if wanted > most:
        reason = f"--pictures {wanted}, but nobody has more than {most}: lower --pictures"
        raise TrainingDataError("these pictures", reason)


def load(run: RunState, context: RunContext) -> Generator[Batch]:
    """Yield the batches of this process from the state's step on."""
    config, group = context.config, context.group
    size, view = context.spec.size, context.spec.view
    if context.teacher is not None:  # the teachers may need more of the crop than the network
        size, view = context.teacher.frame.size, WHOLE
    augmentation = scale_augmentation(STANDARD, config.strength) if config.augment else OFF
    given = LoaderConfig(size, config.seed, view, augmentation, run.step, group.rank, group.world, config.workers)
    return load_batches(context.pictures.files, context.pictures.owner, config.stages(), given)


def due(step: int, every: int, config: TrainConfig) -> bool:
    """Return whether a periodic task runs after this many steps."""
    return step % every == 0 or step == config.steps
