"""Feed the loop: crops are decoded and changed by worker processes while the network computes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sameface.arrays import Crops
from sameface.errors import ImageError
from sameface.training.augment import USUAL, WHOLE, Changes, View, augment
from sameface.training.pictures import Place
from sameface.training.sampler import Stage, draw_batches, share

Order = tuple[int, list[tuple[int, int]]]  # the step, and each picture with its place in the whole batch
Part = tuple[Crops, NDArray[np.int64], list[str]]


@dataclass(frozen=True, slots=True)
class Feed:
    """What to load, and where in the run and among several processes this one stands.

    Attributes:
        size: The side of the crops.
        view: The part of the stored ones that the network looks at.
        seed: Decides the order and the changes.
        changes: How crops are changed at random.
        start: The first step.
        rank: Which process this is, of `world`.
        world: How many there are.
        workers: Processes that decode; 0 decodes in this one.
    """

    size: int
    seed: int
    view: View = WHOLE
    changes: Changes = USUAL
    start: int = 0
    rank: int = 0
    world: int = 1
    workers: int = 2


class Steps(Dataset[Part]):
    """The batches of a run, each asked for with the pictures that are in it."""

    def __init__(self, places: Sequence[Place], feed: Feed) -> None:
        self.places = places
        self.feed = feed

    def __getitem__(self, order: Order) -> Part:
        """Return the crops of one batch, the numbers of those that could be read, and the faults."""
        step, wanted = order
        crops, numbers, faults = [], [], []
        for number, place in wanted:
            try:
                crop = self.places[number].read()
            except ImageError as error:
                faults.append(str(error))
                # A picture that cannot be read is replaced by black so that every process has its share.
                crop, number = np.zeros((self.feed.size, self.feed.size, 3), np.uint8), -1
            crops.append(self.fit(crop, step, place))
            numbers.append(number)
        empty = np.zeros((0, self.feed.size, self.feed.size, 3), np.uint8)
        return np.stack(crops) if crops else empty, np.array(numbers, np.int64), faults

    def fit(self, crop: Crops, step: int, place: int) -> Crops:
        """Return the crop as the network gets it; the step and the place in its batch decide the change."""
        rng = np.random.default_rng([self.feed.seed, step, place])
        return augment(crop, self.feed.size, rng, self.feed.changes, self.feed.view)


class Orders:
    """The endless list of what each step needs, as torch's loader wants it."""

    def __init__(self, owner: NDArray[np.int64], stages: Sequence[Stage], feed: Feed) -> None:
        self.owner, self.stages, self.feed = owner, stages, feed

    def __iter__(self) -> Iterator[Order]:
        feed = self.feed
        batches = draw_batches(self.owner, self.stages, seed=feed.seed, start=feed.start)
        for step, batch in enumerate(batches, start=feed.start):
            places = share(np.arange(len(batch)), feed.rank, feed.world)
            yield step, [(int(batch[place]), int(place)) for place in places]


def load_batches(
    places: Sequence[Place], owner: NDArray[np.int64], stages: Sequence[Stage], feed: Feed
) -> Generator[tuple[Tensor, Tensor, list[str]]]:
    """Yield crops `(n, size, size, 3) uint8`, picture numbers (-1: it cannot be read) and the faults."""
    loader = DataLoader(
        Steps(places, feed),
        batch_size=None,
        sampler=Orders(owner, stages, feed),
        num_workers=feed.workers,
        worker_init_fn=prepare_worker,
        prefetch_factor=4 if feed.workers else None,
        collate_fn=as_it_is,
    )
    for crops, numbers, faults in loader:
        yield torch.as_tensor(crops), torch.as_tensor(numbers), faults


def as_it_is(part: Any) -> Any:
    """Return a batch unchanged: arrays go from process to process faster than torch's own tensors."""
    return part


def prepare_worker(_number: int) -> None:
    """Leave signals to the main process, which saves first, and the cores to the network; end with it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def end_with_parent() -> None:
    """End this process as soon as the main one is gone, however that was killed.

    torch looks for its parent only while it waits for an order. A worker whose results nobody takes waits for
    ever, because it holds the other end of that pipe itself.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def to_planes(crops: Tensor, mean: Sequence[float], scale: float, device: torch.device) -> Tensor:
    """Return `(n, 3, size, size) float32`, mean taken and scaled, on the device.

    In memory the channels of a pixel stay together: convolution and pooling are faster so.
    """
    pixels = crops.to(device, non_blocking=True).float()
    return ((pixels - torch.tensor(mean, device=device)) * scale).permute(0, 3, 1, 2)
