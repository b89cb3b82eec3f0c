"""Train: the loop, flat, in the order of the paper (FaceNet, section 3)."""

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

from sameface.training.augment import OFF, USUAL, WHOLE, weaken
from sameface.training.build import begun_from, check_crops
from sameface.training.checkpoint import BEST, LAST, open_run
from sameface.training.config import TrainConfig
from sameface.training.course import Course, make_course
from sameface.training.errors import CollapseError, DivergedError, TrainingDataError
from sameface.training.events import EventFile
from sameface.training.gradients import backpropagate
from sameface.training.loader import Feed, load_batches, to_planes
from sameface.training.objective import combined_loss
from sameface.training.pictures import PictureSet
from sameface.training.rate import rate_at, set_rate
from sameface.training.resnet29 import ResNet29
from sameface.training.run import Run, make_run, save, save_batch
from sameface.training.teacher import Told, fit_last_layer, ignore
from sameface.training.triplets import Stats
from sameface.training.tutor import mix
from sameface.training.validate import embed_pictures, roc_of, val_at_far
from sameface.training.watch import Watch

Batch: TypeAlias = tuple[Tensor, Tensor, list[str]]  # crops, numbers of pictures, faults
RECOVERIES = 3  # how often a run goes back before it gives up


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step tells.

    Attributes:
        step: How many steps are done.
        loss: Of this step.
        stats: What its triplets were.
        rate: The learning rate.
        pictures_per_second: Since the last step.
        waiting: The part of the step's time that was spent waiting for pictures.
        val: VAL at FAR 1e-2 on the held-out people, if this step tested it.
        note: What else happened: a picture that cannot be read, a recovery.
    """

    step: int
    loss: float
    stats: Stats
    rate: float
    pictures_per_second: float
    waiting: float
    val: float | None = None
    note: str = ""


NOTHING = Stats(0, 0, 0, 0, 0, 0, 0)


def train(
    pictures: PictureSet,
    held_out: PictureSet,
    config: TrainConfig,
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    told: Told = ignore,
) -> Iterator[Progress]:
    """Train until the last step, yielding each; go on where the run in `folder` was left.

    Args:
        pictures: Whom to train on.
        held_out: People to test on; may be empty.
        config: Every choice.
        folder: Where checkpoints (`last.pt`, and `best.pt` by VAL), choices and events go.
        stop: Asked after each step; yes saves and ends the run, to be resumed.
        told: Called before the first step while teachers look at the pictures: which, how many of them, of
            how many.

    Raises:
        TrainingDataError: The pictures allow no triplet, or not the K that was asked for.
        CheckpointError: The folder holds another run, or a checkpoint cannot be written.
        CollapseError: The alarm, where it stops the run or recovering has not helped.
        DivergedError: The loss is not a number.
    """
    for each in (pictures, held_out):
        check_crops(each, config)
    if len(held_out) and held_out.rule != pictures.rule:
        raise TrainingDataError(held_out.places[0].source, "it was cut by another rule than the training pictures")
    check_people(pictures, config)
    course = make_course(pictures, held_out, config, folder, told)
    run = open_or_begin(course)
    if run.warning:
        yield Progress(run.step, math.nan, NOTHING, 0, 0, 0, note=run.warning)
    deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
    while True:
        try:
            # Closed, or the workers that decode pictures outlive an error and the program never ends.
            with contextlib.closing(load(run, course)) as batches:
                yield from take_steps(run, course, batches, stop=stop, deadline=deadline)
            return
        except CollapseError as error:
            if config.on_collapse == "stop" or run.recoveries == RECOVERIES:
                raise
            slower, recoveries = run.slower / 2, run.recoveries + 1
            run = open_or_begin(course)
            run.slower, run.recoveries = slower, recoveries
            note = f"{error}; back to step {run.step} with {slower:g} of the rate"
            yield Progress(run.step, math.nan, NOTHING, 0, 0, 0, note=note)


def take_steps(
    run: Run, course: Course, batches: Iterator[Batch], *, stop: Callable[[], bool], deadline: float
) -> Iterator[Progress]:
    """Take the steps that are left, until told to stop or the time is up."""
    config, folder, peers = course.config, course.folder, course.peers
    watch = Watch(config)
    events = EventFile(folder) if peers.rank == 0 else None
    if run.step == 0 and len(course.held_out):
        yield Progress(0, math.nan, NOTHING, 0, 0, 0, validate(run, course))
    began = time.perf_counter()
    while run.step < config.steps:
        # A batch of P people with K pictures each.
        crops, numbers, faults = next(batches)
        waited = time.perf_counter() - began

        # Embed it, choose triplets among these very embeddings, send the gradient of their loss back.
        rate = rate_at(config, run.step) * run.slower
        set_rate(run.optimizer, rate)
        run.optimizer.zero_grad()
        loss, stats = differentiate(run, course, crops, numbers)
        if not math.isfinite(loss):
            raise DivergedError(run.step, save_batch(folder, crops, numbers))
        run.optimizer.step()
        run.step += 1

        # Watch, test, save.
        cause = watch.see(run.step - 1, loss, stats)
        if cause:
            raise CollapseError(run.step, cause)
        over = peers.any(flag=time.monotonic() > deadline, device=course.device)
        ended = peers.any(flag=stop(), device=course.device) or over
        val = validate(run, course) if over or due(run.step, config.validate_every, config) else None
        if ended or (due(run.step, config.save_every, config) and not watch.suspicious):
            save(folder / LAST, run, course)

        now = time.perf_counter()
        seconds, began = now - began, now
        speed = len(numbers) * peers.world / seconds
        done = Progress(run.step, loss, stats, rate, speed, waited / seconds, val, "; ".join(faults))
        if events is not None:
            events.add(run.step, numbers_of(done))
        yield done
        if ended:
            return


def differentiate(run: Run, course: Course, crops: Tensor, numbers: Tensor) -> tuple[float, Stats]:
    """Put the gradient of a batch on the network; return its loss and what its triplets were."""
    config, device, peers = course.config, course.device, course.peers
    owner = torch.as_tensor(course.pictures.owner)
    own = torch.where(numbers < 0, -1, owner[numbers])
    taught = None if course.taught is None else course.taught[numbers]
    if course.tutor is not None:
        count = int(config.mixed * len(crops))
        crops = mix(crops, count, torch.Generator().manual_seed(config.seed_of(run.step)))
        taught = torch.where((numbers < 0)[:, None], 0, course.tutor(crops))
        own[len(own) - count :] = -1  # nobody's face
        crops = course.tutor.frame.cut(crops)
    planes = to_planes(crops, course.pixels.mean, course.pixels.scale, device)
    labels = peers.gather(own.to(device))
    taught = None if taught is None else peers.gather(taught.to(device))

    def objective(rows: Tensor) -> tuple[Tensor, Stats]:
        # Distances need all their digits, whatever the network computes in.
        with torch.autocast(device.type, enabled=False):
            return combined_loss(rows.float(), labels, config, step=run.step, head=run.head, taught=taught)

    with torch.autocast(device.type, torch.bfloat16, enabled=config.halves(device.type)):
        loss, stats = backpropagate(run.network, planes, objective, chunk=config.chunk, peers=peers)
    return loss.item(), stats


def validate(run: Run, course: Course) -> float | None:
    """Return VAL at FAR 1e-2 on the people that the network has not seen; keep the best network."""
    if not len(course.held_out):
        return None
    course.peers.average_buffers(run.network)
    rows, numbers = embed_pictures(run.network, course.held_out, course.pixels)
    val = val_at_far(roc_of(rows, course.held_out.owner[numbers]))
    if val > run.best:
        run.best = val
        save(course.folder / BEST, run, course)
    return val


def check_people(pictures: PictureSet, config: TrainConfig) -> None:
    """Raise unless there are people enough, and one of them has K pictures."""
    counts = pictures.counts
    most = int(counts.max(initial=0))
    if len(pictures.people) < 2:
        raise TrainingDataError("these pictures", f"{len(pictures.people)} person; two or more make a negative")
    wanted = max(stage.pictures for stage in config.stages())
    if wanted > most:
        raise TrainingDataError(
            "these pictures", f"--pictures {wanted}, but nobody has more than {most}: lower --pictures"
        )


def open_or_begin(course: Course) -> Run:
    """Return the run as it was saved, or at its first step."""
    course.peers.wait()
    found = open_run(course.folder, course.config, course.pictures, course.content)
    run = make_run(course.config, len(course.pictures.people), course.device)
    if found is not None:
        state, run.warning = found
        run.restore(state)
    elif course.taught is not None:
        prepare_pupil(run, course, course.taught)
    return run


def prepare_pupil(run: Run, course: Course, taught: Tensor) -> None:
    """Begin near the teachers: the head at their means, and a shortened network with a last layer fitted."""
    owner = torch.as_tensor(course.pictures.owner)
    if run.head is not None:
        run.head.directions.data.zero_().index_add_(0, owner.to(course.device), taught.to(course.device))
    if isinstance(run.network, ResNet29) and not begun_from(course.config):
        fit_last_layer(run.network, course.pictures, course.pixels, taught)


def load(run: Run, course: Course) -> Generator[Batch]:
    """Return the batches from here on."""
    stages = course.config.stages()
    return load_batches(course.pictures.places, course.pictures.owner, stages, feed_of(run, course))


def feed_of(run: Run, course: Course) -> Feed:
    """Return what this process loads from here on."""
    config, peers = course.config, course.peers
    size, view = course.pixels.size, course.pixels.view
    if course.tutor is not None:  # the teachers may look at more than the network does
        size, view = course.tutor.frame.size, WHOLE
    return Feed(
        size,
        config.seed,
        view,
        weaken(USUAL, config.strength) if config.augment else OFF,
        run.step,
        peers.rank,
        peers.world,
        config.workers,
    )


def due(step: int, every: int, config: TrainConfig) -> bool:
    """Return whether something is to be done after this many steps."""
    return step % every == 0 or step == config.steps


def numbers_of(progress: Progress) -> dict[str, float]:
    """Return what TensorBoard shows of a step."""
    numbers = {"loss": progress.loss, "rate": progress.rate, "waiting": progress.waiting}
    numbers |= {"pictures_per_second": progress.pictures_per_second}
    numbers |= {f"triplets/{name}": float(value) for name, value in asdict(progress.stats).items()}
    return numbers if progress.val is None else {**numbers, "val_at_far_1e-2": progress.val}
