"""Several processes that train one network, each on its part of every batch (started by `torchrun`).

Only embeddings and gradients travel. Every process gathers all embeddings, so that each mines the whole batch
and computes the same loss; each sends back through its network only its own rows' gradients, and the sum over
the processes is the gradient of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Peers:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Peers:
        """Join the processes that `torchrun` started; one that stands alone needs nobody."""
        if "RANK" not in os.environ:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, part: Tensor) -> Tensor:
        """Return the parts of all processes one after the other: `(n_i, ...)` to `(n, ...)`."""
        if self.world == 1:
            return part
        sizes = [torch.zeros(1, dtype=torch.long, device=part.device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(part)], device=part.device))
        counts = [int(size) for size in sizes]
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def own(self, part: Tensor, whole: Tensor) -> Tensor:
        """Return of something gathered the rows that came from this process, which sent `part`."""
        if self.world == 1:
            return whole
        counts = self.gather(torch.tensor([len(part)], device=part.device)).tolist()
        start = sum(counts[: self.rank])
        return whole[start : start + len(part)]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all processes."""
        if self.world > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)

    def average_buffers(self, network: nn.Module) -> None:
        """Make the running statistics of all processes their mean."""
        if self.world > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.world

    def any(self, *, flag: bool, device: torch.device) -> bool:
        """Return whether any process says yes."""
        if self.world == 1:
            return flag
        told = torch.tensor([int(flag)], device=device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()


def pick_device(name: str) -> torch.device:
    """Return the device that a run uses; `auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)
