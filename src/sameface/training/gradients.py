"""The exact gradient of a batch that is larger than memory, or spread over several processes.

Gradient caching: embed the whole batch without a graph, take the gradient of the loss at the embeddings, then send
each chunk through the network again, with a graph, and its part of that gradient back. The memory is one chunk's;
the price is a second forward pass. By the chain rule this is exact. Batch norm normalises each chunk by its own
statistics, in both passes alike; running statistics move once a step, in the second pass.

Several processes (started by `torchrun`): each gathers all embeddings, mines the whole batch and computes the same
loss. Each sends the gradients of its own rows back, and the sum over the processes is the gradient of the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Result = TypeVar("Result")
Objective = Callable[[Tensor], tuple[Tensor, Result]]


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of a run, and the rank of this one."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> ProcessGroup:
        """Join the processes that `torchrun` started, if it did."""
        if "RANK" not in os.environ:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate the parts of all processes: `(n_i, ...)` to `(n, ...)`."""
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

    def own_rows(self, part: Tensor, whole: Tensor) -> Tensor:
        """Return the rows of a gathered tensor that belong to this process, which sent `part`."""
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
        """Average the running statistics of all processes."""
        if self.world > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.world

    def any(self, *, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is true in any process."""
        if self.world == 1:
            return flag
        flags = torch.tensor([int(flag)], device=device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


def pick_device(name: str) -> torch.device:
    """Return the device of a run; `auto` is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def backpropagate(
    network: nn.Module,
    planes: Tensor,
    objective: Objective[Result],
    *,
    chunk: int = 0,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Result]:
    """Add the gradient of `objective(rows of all processes)` to the parameters; return the loss and a second result.

    Args:
        network: Planes to rows.
        planes: `(n, 3, size, size)`, this process's part of the batch.
        objective: All rows `(m, d)` to the loss and a second result; its parameters get their gradient too.
        chunk: Rows that go through the network together; 0 for all at once.
        group: The processes; None for this one alone.
    """
    group = ProcessGroup() if group is None else group
    parts = torch.split(planes, chunk) if chunk and len(planes) > chunk else (planes,)
    kept: Tensor | None = None
    if len(parts) == 1:
        kept = network(planes)
        rows = kept.detach()
    else:
        with torch.no_grad(), still_statistics(network):
            rows = torch.cat([network(part) for part in parts])  # (n, d)
        # Weights that autocast kept in bfloat16 have no graph here; torch 2.6 uses them again below.
        torch.clear_autocast_cache()
    everyone = group.gather(rows).requires_grad_()  # (m, d)
    loss, found = objective(everyone)
    loss.backward()  # type: ignore[no-untyped-call]
    assert everyone.grad is not None
    slopes = group.own_rows(rows, everyone.grad)
    if kept is not None:
        kept.backward(slopes)  # type: ignore[no-untyped-call]
    else:
        for part, slope in zip(parts, torch.split(slopes, chunk), strict=True):
            network(part).backward(slope)
    group.add_gradients(network.parameters())
    return loss.detach(), found


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Normalise by the batch's statistics without updating the running ones."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
