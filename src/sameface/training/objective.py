"""What a step minimises: triplets, a classifier to begin with, or the distance to a teacher."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sameface.training.config import TrainConfig
from sameface.training.triplets import Stats, triplet_loss

SOFTMAX_SCALE = 16.0
COSFACE_SCALE, COSFACE_MARGIN = 30.0, 0.35  # Wang et al., 2018


class Head(nn.Module):
    """A direction for each person; cosines to them are the scores of a classifier."""

    def __init__(self, people: int, dimension: int, *, kind: str, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.kind = kind
        drawn = torch.randn(people, dimension, generator=generator)
        self.directions = nn.Parameter(drawn / math.sqrt(dimension))  # as long as rows: long ones turn slowly

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy; CosFace asks for a cosine larger by a margin."""
        cosines = rows @ functional.normalize(self.directions, dim=1).T  # (n, people)
        if self.kind == "softmax":
            return functional.cross_entropy(SOFTMAX_SCALE * cosines, labels)
        hit = functional.one_hot(labels, cosines.shape[1])
        return functional.cross_entropy(COSFACE_SCALE * (cosines - COSFACE_MARGIN * hit), labels)


def combined_loss(
    rows: Tensor,
    labels: Tensor,
    config: TrainConfig,
    *,
    step: int,
    head: Head | None = None,
    taught: Tensor | None = None,
) -> tuple[Tensor, Stats]:
    """Return the loss of a step and the statistics of its triplets.

    Args:
        rows: `(n, d)` unit rows.
        labels: `(n,)` the person of each; -1 for a picture that could not be read, or shows two people.
        config: The run's choices.
        step: Decides the stage, and the draw of the random rules.
        head: The classifier of the first steps.
        taught: `(n, d)` the teacher's rows; zeros where there is none to imitate.
    """
    seen = labels >= 0
    known, named = rows[seen], labels[seen]
    loss, stats = triplet_loss(
        known,
        named,
        margin=config.stage(step).margin,
        rule=config.rule,  # type: ignore[arg-type]
        otherwise=config.otherwise,  # type: ignore[arg-type]
        generator=torch.Generator(rows.device).manual_seed(config.seed_of(step)),
    )
    if head is not None and step < config.head_steps:
        loss = head(known, named)
    if taught is not None:
        # Mean squared distance to the teacher's point; also of mixed faces, which are nobody's.
        told = taught.any(dim=1)
        imitation = ((rows[told] - taught[told]) ** 2).sum(dim=1).mean()
        loss = config.teacher_weight * imitation + (1 - config.teacher_weight) * loss
    return loss, stats
