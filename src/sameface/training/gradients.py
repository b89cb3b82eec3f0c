"""The gradient of a batch that is larger than memory, exactly.

The whole batch is embedded without a graph, the loss is computed on the embeddings and its gradient with
respect to them kept; then each chunk goes through the network again, this time with a graph, and takes its
part of that gradient back. The memory is one chunk's; the price is a second forward pass.

This is exact and no approximation: the chain rule splits at the embeddings. With batch norm a chunk is
normalised by its own statistics, in both passes alike, so that what is differentiated is the very function
that was mined; the gradient equals the one of all chunks kept in memory together. It differs from that of one
undivided batch only as its batch norm does. With response normalisation, or in `resnet29`, a picture's row
does not depend on its chunk, and any chunk size gives the gradient of the undivided batch. Running statistics
move once a step, in the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sameface.training.parallel import Peers

Result = TypeVar("Result")
Objective = Callable[[Tensor], tuple[Tensor, Result]]


def backpropagate(
    network: nn.Module, planes: Tensor, objective: Objective[Result], *, chunk: int = 0, peers: Peers | None = None
) -> tuple[Tensor, Result]:
    """Add the gradient of `objective(rows of all processes)` to the network's parameters.

    Args:
        network: Planes to rows.
        planes: `(n, 3, size, size)`, this process's part of the batch.
        objective: All rows `(m, d)` to the loss and whatever else it found; its own parameters, if it has
            any, get their gradient too.
        chunk: Rows that go through the network together; 0 for all at once.
        peers: The processes of the run; None for this one alone.

    Returns:
        The loss, without a graph, and what else the objective gave.
    """
    peers = Peers() if peers is None else peers
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
    everyone = peers.gather(rows).requires_grad_()  # (m, d)
    loss, found = objective(everyone)
    loss.backward()  # type: ignore[no-untyped-call]
    assert everyone.grad is not None
    slopes = peers.own(rows, everyone.grad)
    if kept is not None:
        kept.backward(slopes)  # type: ignore[no-untyped-call]
    else:
        for part, slope in zip(parts, torch.split(slopes, chunk), strict=True):
            network(part).backward(slope)
    peers.add_gradients(network.parameters())
    return loss.detach(), found


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norm use the batch's statistics without adding them to its running ones."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
