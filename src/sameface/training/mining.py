"""Choose the triplets of a batch (FaceNet, section 3.2): semi-hard negatives and the other mining rules.

All functions are pure. `rows` are `(n, d) float32` unit rows, `labels` `(n,)` the person of each. The distances from
each anchor to its negatives are sorted once. For each positive, the negatives that count are a range of that order,
found by binary search: O(n^2 log n) time and O(n^2) memory.
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

LINES = 64  # sorted by one thread at a time; so many, 2,000 long, fit the second-level cache
NEAREST, FARTHEST = 0.5, 1.4  # distances between which `distance-weighted` draws (Wu et al., 2017)


@dataclass(frozen=True, slots=True, eq=False)
class SortedNegatives:
    """The `t` anchor-positive pairs of a batch, and each anchor's negatives, nearest first."""

    distances: Tensor  # (n, n) squared, no gradient
    anchors: Tensor  # (t,) anchor of each pair
    positives: Tensor  # (t,) positive of each pair
    columns: Tensor  # (t,) the positive's number among those of its anchor
    sorted: Tensor  # (n, n) distances of an anchor's negatives, rising; infinite from `negatives` on
    index: Tensor  # (n, n) the rows that these distances belong to
    negatives: Tensor  # (n,) how many negatives each anchor has
    dimension: int  # width of the rows

    def count_under(self, limits: Tensor, *, or_equal: bool) -> Tensor:
        """Count for each pair the anchor's negatives under its limit: `(t,)` to `(t,)`."""
        width = int(self.columns.max()) + 1 if len(limits) else 0
        table = limits.new_full((len(self.sorted), width), -1.0)
        table[self.anchors, self.columns] = limits
        found = torch.searchsorted(self.sorted, table, right=or_equal)
        return torch.minimum(found[self.anchors, self.columns], self.negatives[self.anchors])

    def at(self, places: Tensor) -> Tensor:
        """Return the distance at each pair's place in the order, infinite past the last negative."""
        inside = places < self.negatives[self.anchors]
        return torch.where(inside, self.sorted[self.anchors, torch.where(inside, places, 0)], torch.inf)


def squared_distances(rows: Tensor) -> Tensor:
    """Return `(n, n)` squared distances of unit rows, 0 to 4; the diagonal is 0."""
    distances = (-2 * rows @ rows.T).add_(2).clamp_(0, 4)  # (n, n)
    return distances.fill_diagonal_(0)


def sort_negatives(rows: Tensor, labels: Tensor) -> SortedNegatives:
    """Return the anchor-positive pairs and each anchor's negatives in order."""
    distances = squared_distances(rows)
    anchors, positives, columns, alike = list_pairs(labels)
    apart = distances.clone().fill_diagonal_(torch.inf)
    apart[anchors, positives] = torch.inf
    ranked, index = sort_lines(apart)
    return SortedNegatives(distances, anchors, positives, columns, ranked, index, len(labels) - alike, rows.shape[1])


def list_pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the anchors, positives and columns of all pairs, and how many rows the person of each row has.

    Sorted by person, an anchor's positives are one range.
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
    """Sort each line of a table of numbers from 0 up; return it and the old places.

    On the CPU, NumPy sorts whole numbers several times as fast as torch, here in all threads.
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
    """Write sorted lines, equal numbers by their places, and these places.

    Floats from 0 up sort like their bits read as whole numbers. With the place in the lower half of 64 bits, one
    sort gives both.
    """
    index[:] = lines.view(np.int32)
    index <<= 32
    index |= np.arange(lines.shape[1])
    index.sort(axis=1)
    np.right_shift(index, 32, out=ranked.view(np.int32), casting="unsafe")
    index &= 0xFFFFFFFF


def choose_negatives(
    order: SortedNegatives,
    margin: float,
    *,
    rule: Rule,
    otherwise: Otherwise = "skip",
    generator: torch.Generator | None = None,
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


def pick(order: SortedNegatives, place: Tensor, found: Tensor) -> Tensor:
    """Return the negative at each pair's place in its anchor's order, -1 where there is none."""
    chosen = order.index[order.anchors, place.clamp(0, max(len(order.index) - 1, 0))]
    return torch.where(found, chosen, -1)


def draw_by_distance(order: SortedNegatives, generator: torch.Generator | None) -> Tensor:
    """Draw a negative for each pair so that all distances are equally likely (Wu et al., 2017).

    On the sphere in d dimensions, distances crowd round the square root of 2. A negative's weight is one over the
    density of its distance. Distances under `NEAREST` count as that; those over `FARTHEST` are excluded.
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
