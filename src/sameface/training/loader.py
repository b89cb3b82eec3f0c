"""Load batches: worker processes decode and augment crops while the network computes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sameface.arrays import Crops
from sameface.errors import ImageError
from sameface.training.augment import STANDARD, WHOLE, Augmentation, CropView, augment
from sameface.training.dataset import PictureFile
from sameface.training.sampler import Stage, draw_batches, share

BatchRequest = tuple[int, list[tuple[int, int]]]  # the step, and each picture with its place in the whole batch
Part = tuple[Crops, NDArray[np.int64], list[str]]


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """The batches that one process loads."""

    size: int  # side of the crops
    seed: int  # decides the order and the augmentation
    view: CropView = WHOLE
    augmentation: Augmentation = STANDARD
    start: int = 0  # the first step
    rank: int = 0  # of this process among `world`
    world: int = 1
    workers: int = 2  # processes that decode; 0 decodes in this one


class StepDataset(Dataset[Part]):
    """The batches of a run, indexed by the request of a step."""

    def __init__(self, files: Sequence[PictureFile], config: LoaderConfig) -> None:
        self.files = files
        self.config = config

    def __getitem__(self, request: BatchRequest) -> Part:
        """Return the crops of a batch, the picture numbers and the faults; an unreadable picture is black, -1."""
        step, wanted = request
        crops, numbers, faults = [], [], []
        for number, place in wanted:
            try:
                crop = self.files[number].read()
            except ImageError as error:
                faults.append(str(error))
                crop, number = np.zeros((self.config.size, self.config.size, 3), np.uint8), -1
            rng = np.random.default_rng([self.config.seed, step, place])
            crops.append(augment(crop, self.config.size, rng, self.config.augmentation, self.config.view))
            numbers.append(number)
        empty = np.zeros((0, self.config.size, self.config.size, 3), np.uint8)
        return np.stack(crops) if crops else empty, np.array(numbers, np.int64), faults


def draw_requests(owner: NDArray[np.int64], stages: Sequence[Stage], config: LoaderConfig) -> Iterator[BatchRequest]:
    """Yield the request of each step without end."""
    batches = draw_batches(owner, stages, seed=config.seed, start=config.start)
    for step, batch in enumerate(batches, start=config.start):
        places = share(np.arange(len(batch)), config.rank, config.world)
        yield step, [(int(batch[place]), int(place)) for place in places]


def load_batches(
    files: Sequence[PictureFile], owner: NDArray[np.int64], stages: Sequence[Stage], config: LoaderConfig
) -> Generator[tuple[Tensor, Tensor, list[str]]]:
    """Yield crops `(n, size, size, 3) uint8`, picture numbers `(n,)` (-1: unreadable) and the faults."""
    loader = DataLoader(
        StepDataset(files, config),
        batch_size=None,
        sampler=draw_requests(owner, stages, config),
        num_workers=config.workers,
        worker_init_fn=prepare_worker,
        prefetch_factor=4 if config.workers else None,
        collate_fn=tuple,  # arrays stay arrays: between processes they are faster than torch's tensors
    )
    for crops, numbers, faults in loader:
        yield torch.as_tensor(crops), torch.as_tensor(numbers), faults


def prepare_worker(_number: int) -> None:
    """Ignore signals, which the main process handles; leave the cores to the network; end with the main process."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def end_with_parent() -> None:
    """End this process when the main one ends, even by SIGKILL.

    torch checks its parent only while it waits for a request. A worker whose results nobody takes would wait for
    ever, because it holds the other end of that pipe itself.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def to_planes(crops: Tensor, mean: Sequence[float], scale: float, device: torch.device) -> Tensor:
    """Return `(n, 3, size, size) float32`, mean subtracted and scaled, on the device.

    The memory layout stays channels-last, which makes convolution and pooling faster.
    """
    pixels = crops.to(device, non_blocking=True).float()
    return ((pixels - torch.tensor(mean, device=device)) * scale).permute(0, 3, 1, 2)
