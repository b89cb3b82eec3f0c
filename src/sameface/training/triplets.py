"""Choose triplets inside a batch and compute their loss (FaceNet, sections 3.1 and 3.2).

    L = mean over active triplets of  |f(a) - f(p)|^2 - |f(a) - f(n)|^2 + margin,  where that is above 0

Everything is a pure function of `rows` `(n, d) float32`, unit rows, and `labels` `(n,)`, the person of each.
No triplet is formed to be thrown away: the distances from each anchor to its negatives are sorted once, and
for each positive the negatives that count are a stretch of that order, found by binary search. That takes
O(n^2 log n) time and O(n^2) memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rule: TypeAlias = Literal[
    "semi-hard", "semi-hard-random", "semi-hard-all", "hardest", "batch-all", "distance-weighted"
]
Otherwise: TypeAlias = Literal["skip", "nearest-below", "hardest-below"]
RULES: tuple[str, ...] = get_args(Rule)

LINES = 64  # that one thread sorts at a time; so many, 2,000 long, fit a processor's second cache
NEAREST, FARTHEST = 0.5, 1.4  # distances between which `distance-weighted` draws (Wu et al., 2017)


@dataclass(frozen=True, slots=True)
class Stats:
    """What a batch held and what was chosen from it.

    Attributes:
        pairs: Anchor-positive pairs, each counted in both directions.
        triplets: Triplets that were chosen; for the rules `batch-all` and `semi-hard-all` those are
            counted, not formed.
        active: Chosen triplets whose loss is above 0.
        active_fraction: The part of the pairs that have an active triplet.
        positive: Mean squared distance of the anchor-positive pairs.
        negative: Mean squared distance of the anchor-negative pairs.
        spread: Mean squared distance of all pairs of different pictures; it falls to 0 in a collapse.
    """

    pairs: int
    triplets: int
    active: int
    active_fraction: float
    positive: float
    negative: float
    spread: float


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The anchor-positive pairs of a batch, and every anchor's negatives in order.

    Attributes:
        distances: `(n, n)` squared distances, no gradient.
        anchors: `(t,)` the anchor of each pair.
        positives: `(t,)` its positive.
        columns: `(t,)` which of its anchor's positives that is.
        sorted: `(n, n)` each anchor's distances to its negatives, rising; infinite from `negatives` on.
        index: `(n, n)` which negative each of these is.
        negatives: `(n,)` how many negatives each anchor has.
        dimension: The width of the rows.
    """

    distances: Tensor
    anchors: Tensor
    positives: Tensor
    columns: Tensor
    sorted: Tensor
    index: Tensor
    negatives: Tensor
    dimension: int

    def count_under(self, limits: Tensor, *, or_equal: bool) -> Tensor:
        """Return for each pair how many negatives of its anchor lie under its limit: `(t,)` to `(t,)`."""
        width = int(self.columns.max()) + 1 if len(limits) else 0
        table = limits.new_full((len(self.sorted), width), -1.0)
        table[self.anchors, self.columns] = limits
        found = torch.searchsorted(self.sorted, table, right=or_equal)
        return torch.minimum(found[self.anchors, self.columns], self.negatives[self.anchors])

    def at(self, places: Tensor) -> Tensor:
        """Return the distance at each pair's place in its anchor's order, infinite past the last negative."""
        inside = places < self.negatives[self.anchors]
        return torch.where(inside, self.sorted[self.anchors, torch.where(inside, places, 0)], torch.inf)


def triplet_loss(
    rows: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    rule: Rule = "semi-hard",
    otherwise: Otherwise = "skip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Stats]:
    """Return the loss of the triplets that a rule chooses, averaged over the active ones, and statistics.

    Args:
        rows: `(n, d) float32` unit rows; the gradient flows back into them.
        labels: `(n,)` whole numbers, the person of each row; any number of rows of each.
        margin: By how much a negative must be farther from the anchor than the positive.
        rule: All take every anchor-positive pair. `semi-hard` adds the nearest negative beyond the positive,
            if it is inside the margin; `semi-hard-random` a random one of those; `semi-hard-all` each of
            them; `hardest` the negative nearest to the anchor; `batch-all` every negative;
            `distance-weighted` one drawn so that all distances are as likely.
        otherwise: What `semi-hard` and `semi-hard-random` do for a pair without such a negative: leave it
            out, or take the nearest one below the positive, or the hardest of those below.
        generator: Where the two random rules draw from; needed only there.

    Returns:
        A scalar, 0 with a gradient of 0 where no triplet is active, and what was found.
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
    return loss, describe(order, found, rows.detach())


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a rule chose.

    Attributes:
        weights: `(n, n)` how often each distance counts in the active triplets: as a positive's, less how
            often as a negative's.
        triplets: How many were chosen.
        active: How many of them have a loss above 0.
        pairs: How many anchor-positive pairs have an active triplet.
    """

    weights: Tensor
    triplets: int
    active: int
    pairs: int


def squared_distances(rows: Tensor) -> Tensor:
    """Return `(n, n)` squared distances of unit rows, 0 to 4; the diagonal is 0."""
    distances = (-2 * rows @ rows.T).add_(2).clamp_(0, 4)  # (n, n)
    return distances.fill_diagonal_(0)


def sort_negatives(rows: Tensor, labels: Tensor) -> Order:
    """Return the anchor-positive pairs and each anchor's negatives in order."""
    distances = squared_distances(rows)
    anchors, positives, columns, alike = list_pairs(labels)
    apart = distances.clone().fill_diagonal_(torch.inf)
    apart[anchors, positives] = torch.inf
    ranked, index = sort_lines(apart)
    return Order(distances, anchors, positives, columns, ranked, index, len(labels) - alike, rows.shape[1])


def list_pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the anchors, positives and columns of all pairs, and how many rows each row's person has.

    Rows of one person stand side by side once they are sorted; an anchor's positives are that stretch.
    """
    ranked, place = torch.sort(labels)
    first = torch.searchsorted(ranked, labels)
    alike = torch.searchsorted(ranked, labels, right=True) - first  # (n,)
    anchors = torch.arange(len(labels), device=labels.device).repeat_interleave(alike)
    columns = torch.arange(len(anchors), device=labels.device) - (alike.cumsum(0) - alike)[anchors]
    positives = place[first[anchors] + columns]
    other = positives != anchors
    return anchors[other], positives[other], columns[other], alike


def sort_lines(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return each line of numbers from 0 up in rising order, and where its numbers stood.

    On a processor NumPy sorts whole numbers several times as fast as torch; all its threads take part.
    """
    if table.is_cuda:
        ranked, index = torch.sort(table, dim=1)
        return ranked, index
    numbers = table.numpy()
    ranked_lines, index_lines = np.empty_like(numbers), np.empty(numbers.shape, np.int64)

    def sort_some(start: int) -> None:
        some = slice(start, start + LINES)
        sort_keys(numbers[some], ranked_lines[some], index_lines[some])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(sort_some, range(0, len(numbers), LINES)))
    return torch.from_numpy(ranked_lines), torch.from_numpy(index_lines)


def sort_keys(lines: NDArray[np.float32], ranked: NDArray[np.float32], index: NDArray[np.int64]) -> None:
    """Write some lines in rising order, equal numbers in the order of their places, and these places.

    A float32 from 0 up is as large as its bits read as a whole number. With the place in the lower half of 64
    bits one sort yields both.
    """
    index[:] = lines.view(np.int32)
    index <<= 32
    index |= np.arange(lines.shape[1])
    index.sort(axis=1)
    np.right_shift(index, 32, out=ranked.view(np.int32), casting="unsafe")
    index &= 0xFFFFFFFF


def choose_negatives(
    order: Order, margin: float, *, rule: Rule, otherwise: Otherwise = "skip", generator: torch.Generator | None = None
) -> Tensor:
    """Return one negative for each pair of `order`, `(t,)`, -1 where the rule finds none."""
    if rule == "hardest":
        place = torch.zeros_like(order.anchors)
        return pick(order, place, place < order.negatives[order.anchors])
    if rule == "distance-weighted":
        return draw_by_distance(order, generator)
    positive = order.distances[order.anchors, order.positives]
    low = order.count_under(positive, or_equal=True)
    place = low
    if rule == "semi-hard-random":
        width = order.count_under(positive + margin, or_equal=False) - low
        drawn = torch.rand(len(low), generator=generator, device=low.device)
        place = low + torch.minimum((drawn * width).long(), width - 1).clamp(min=0)
    found = order.at(low) < positive + margin
    if otherwise != "skip":
        below = low - 1 if otherwise == "nearest-below" else torch.zeros_like(low)
        place = torch.where(found, place, below)
        found = found | (low > 0)
    return pick(order, place, found)


def pick(order: Order, place: Tensor, found: Tensor) -> Tensor:
    """Return the negative at each pair's place in its anchor's order, -1 where there is none."""
    chosen = order.index[order.anchors, place.clamp(0, max(len(order.index) - 1, 0))]
    return torch.where(found, chosen, -1)


def draw_by_distance(order: Order, generator: torch.Generator | None) -> Tensor:
    """Return a negative for each pair, drawn so that all distances are as likely (Wu et al., 2017).

    On the sphere in d dimensions distances crowd round the square root of 2; a negative's weight is one over
    the density of its distance there. Distances under `NEAREST` count as that, those over `FARTHEST` are out.
    """
    reach = distance_weights(order.sorted, order.dimension).cumsum(dim=1)  # (n, n)
    total = reach[:, -1:].sum(dim=1)
    drawn = torch.rand(len(order.anchors), generator=generator, device=reach.device, dtype=reach.dtype)
    limits = drawn * total[order.anchors]
    place = replace(order, sorted=reach).count_under(limits, or_equal=True)
    return pick(order, place, total[order.anchors] > 0)


def distance_weights(squared: Tensor, dimension: int) -> Tensor:
    """Return the weight of a negative at each squared distance, float64, the largest of each line 1."""
    d = squared.double().sqrt().clamp(min=NEAREST)
    density = (dimension - 2) * d.log() + (dimension - 3) / 2 * (1 - d**2 / 4).clamp(min=1e-9).log()
    logs = torch.where(d < FARTHEST, -density, -torch.inf)
    if not logs.numel():
        return logs
    top = logs.amax(dim=1, keepdim=True).clamp(min=torch.finfo(logs.dtype).min)
    return (logs - top).exp()


def weigh_chosen(order: Order, chosen: Tensor, margin: float) -> Found:
    """Weigh triplets that have one negative for each pair, -1 for none."""
    distances = order.distances
    has = chosen >= 0
    anchors, positives, negatives = order.anchors[has], order.positives[has], chosen[has]
    active = distances[anchors, positives] - distances[anchors, negatives] + margin > 0
    anchors, positives, negatives = anchors[active], positives[active], negatives[active]
    weights = torch.zeros_like(distances)
    ones = distances.new_ones(len(anchors))
    weights.view(-1).scatter_add_(0, anchors * len(weights) + positives, ones)
    weights.view(-1).scatter_add_(0, anchors * len(weights) + negatives, -ones)
    return Found(weights, triplets=int(has.sum()), active=len(anchors), pairs=len(anchors))


def weigh_band(order: Order, margin: float, *, beyond: bool) -> Found:
    """Weigh every triplet whose negative is inside the margin, and beyond the positive if so wanted.

    Of each pair these negatives are a stretch of its anchor's order. How many stretches cover each negative
    is the running sum of where they start less where they end.
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
    return Found(weights, triplets=triplets, active=active, pairs=int((length > 0).sum()))


def describe(order: Order, found: Found, rows: Tensor) -> Stats:
    """Return the statistics of a batch; the sum of all |x - y|^2 is 2 n^2 - 2 |sum of rows|^2."""
    n, pairs = len(rows), len(order.anchors)
    positive = float(order.distances[order.anchors, order.positives].sum(dtype=torch.float64))
    total = 2 * n * n - 2 * float((rows.sum(dim=0, dtype=torch.float64) ** 2).sum())
    others = int(order.negatives.sum())
    return Stats(
        pairs=pairs,
        triplets=found.triplets,
        active=found.active,
        active_fraction=found.pairs / max(pairs, 1),
        positive=positive / max(pairs, 1),
        negative=(total - positive) / max(others, 1),
        spread=total / max(n * (n - 1), 1),
    )
