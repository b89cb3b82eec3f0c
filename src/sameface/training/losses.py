"""The loss of a step: triplets, a classifier in the first steps, or the distance to a teacher's targets.

    triplet loss = mean over active triplets of  |f(a) - f(p)|^2 - |f(a) - f(n)|^2 + margin,  where that is above 0

(FaceNet, section 3.1). `mining.py` chooses the negatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sameface.training.config import TrainConfig
from sameface.training.mining import Otherwise, Rule, SortedNegatives, choose_negatives, sort_negatives

SOFTMAX_SCALE = 16.0
COSFACE_SCALE, COSFACE_MARGIN = 30.0, 0.35  # Wang et al., 2018


@dataclass(frozen=True, slots=True)
class TripletStats:
    """The triplets of a batch."""

    pairs: int  # anchor-positive pairs, each counted in both directions
    triplets: int  # chosen; `batch-all` and `semi-hard-all` count them without forming them
    active: int  # of these, with a loss above 0
    active_fraction: float  # the part of the pairs that have an active triplet
    positive: float  # mean squared distance of the anchor-positive pairs
    negative: float  # of the anchor-negative pairs
    spread: float  # of all pairs of different pictures; it falls to 0 in a collapse


@dataclass(frozen=True, slots=True, eq=False)
class TripletWeights:
    """The chosen triplets, summed into one weight per distance."""

    weights: Tensor  # (n, n) how often a distance counts as a positive's, less how often as a negative's
    triplets: int
    active: int  # of these, with a loss above 0
    pairs: int  # anchor-positive pairs with an active triplet


def triplet_loss(
    rows: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    rule: Rule = "semi-hard",
    otherwise: Otherwise = "skip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, TripletStats]:
    """Return the mean loss of the active triplets that a rule chooses, and statistics.

    Args:
        rows: `(n, d) float32` unit rows.
        labels: `(n,)` whole numbers, the person of each row.
        margin: By how much a negative must be farther from the anchor than the positive.
        rule: Which negatives join each anchor-positive pair. `semi-hard`: the nearest one beyond the positive and
            inside the margin; `semi-hard-random`: a random one of those; `semi-hard-all`: all of those; `hardest`:
            the nearest to the anchor; `batch-all`: all; `distance-weighted`: one drawn so that all distances are
            equally likely.
        otherwise: For a pair without a semi-hard negative: skip it, or take the nearest one below the positive, or
            the hardest of those below.
        generator: Source of the two random rules.

    Returns:
        A scalar, 0 with a gradient of 0 if no triplet is active, and the statistics.
    """
    with torch.no_grad():
        order = sort_negatives(rows, labels)
        if rule in ("semi-hard-all", "batch-all"):
            found = weigh_band(order, margin, beyond=rule == "semi-hard-all")
        else:
            chosen = choose_negatives(order, margin, rule=rule, otherwise=otherwise, generator=generator)
            found = weigh_chosen(order, chosen, margin)
    # Every triplet adds 1 to `weights` at (a, p) and takes 1 at (a, n): the 2 of |x - y|^2 = 2 - 2 x.y
    # cancels and the sum over the triplets is margin * active + sum of weights * (-2 x.y).
    products = (rows * (found.weights @ rows)).sum()
    loss = (margin * found.active - 2 * products) / max(found.active, 1)
    return loss, summarize(order, found, rows.detach())


def weigh_chosen(order: SortedNegatives, chosen: Tensor, margin: float) -> TripletWeights:
    """Weigh triplets with one negative for each pair, -1 for none."""
    distances = order.distances
    has = chosen >= 0
    anchors, positives, negatives = order.anchors[has], order.positives[has], chosen[has]
    active = distances[anchors, positives] - distances[anchors, negatives] + margin > 0
    anchors, positives, negatives = anchors[active], positives[active], negatives[active]
    weights = torch.zeros_like(distances)
    ones = distances.new_ones(len(anchors))
    weights.view(-1).scatter_add_(0, anchors * len(weights) + positives, ones)
    weights.view(-1).scatter_add_(0, anchors * len(weights) + negatives, -ones)
    return TripletWeights(weights, triplets=int(has.sum()), active=len(anchors), pairs=len(anchors))


def weigh_band(order: SortedNegatives, margin: float, *, beyond: bool) -> TripletWeights:
    """Weigh every triplet whose negative is inside the margin, with `beyond` only those beyond the positive.

    These negatives are a range of the anchor's order. The running sum of range starts less range ends counts how
    many ranges cover each negative.
    """
    positive = order.distances[order.anchors, order.positives]
    high = order.count_under(positive + margin, or_equal=False)
    low = order.count_under(positive, or_equal=True) if beyond else torch.zeros_like(high)
    length = (high - low).clamp(min=0)
    steps = order.distances.new_zeros(len(order.distances), len(order.distances) + 1)
    width, ones = steps.shape[1], steps.new_ones(len(low))
    steps.view(-1).scatter_add_(0, order.anchors * width + low, ones)
    steps.view(-1).scatter_add_(0, order.anchors * width + low + length, -ones)
    covered = steps.cumsum_(dim=1)[:, :-1]
    weights = torch.empty_like(order.distances).scatter_(1, order.index, covered.neg_())  # each place once
    weights[order.anchors, order.positives] += length
    active = int(length.sum())
    triplets = active if beyond else int(order.negatives[order.anchors].sum())
    return TripletWeights(weights, triplets=triplets, active=active, pairs=int((length > 0).sum()))


def summarize(order: SortedNegatives, found: TripletWeights, rows: Tensor) -> TripletStats:
    """Return the statistics of a batch; the sum of all |x - y|^2 is 2 n^2 - 2 |sum of rows|^2."""
    n, pairs = len(rows), len(order.anchors)
    positive = float(order.distances[order.anchors, order.positives].sum(dtype=torch.float64))
    total = 2 * n * n - 2 * float((rows.sum(dim=0, dtype=torch.float64) ** 2).sum())
    others = int(order.negatives.sum())
    return TripletStats(
        pairs=pairs,
        triplets=found.triplets,
        active=found.active,
        active_fraction=found.pairs / max(pairs, 1),
        positive=positive / max(pairs, 1),
        negative=(total - positive) / max(others, 1),
        spread=total / max(n * (n - 1), 1),
    )


class ClassifierHead(nn.Module):
    """A classifier of the people: its scores are the cosines to one direction for each person."""

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
    head: ClassifierHead | None = None,
    targets: Tensor | None = None,
) -> tuple[Tensor, TripletStats]:
    """Return the loss of `(n, d)` unit rows in a step, and the statistics of their triplets.

    Args:
        rows: `(n, d)` unit rows.
        labels: `(n,)` the person of each; -1 for an unreadable picture, or a mix of two people.
        config: Options of the run.
        step: Decides the stage, and seeds the random rules.
        head: The classifier of the first steps.
        targets: `(n, d)` rows of the teachers; zeros for none.
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
    if targets is not None:
        # Mean squared distance to the targets, of mixed faces too.
        given = targets.any(dim=1)
        imitation = ((rows[given] - targets[given]) ** 2).sum(dim=1).mean()
        loss = config.teacher_weight * imitation + (1 - config.teacher_weight) * loss
    return loss, stats
