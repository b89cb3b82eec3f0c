"""Every rule of choosing triplets, against loops over all triplets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.training.losses import triplet_loss
from sameface.training.mining import (
    FARTHEST,
    NEAREST,
    choose_negatives,
    distance_weights,
    sort_negatives,
    squared_distances,
)

torch.set_num_threads(1)

MARGIN = 0.2


def unit_rows(n, d=4, seed=0, *, coarse=False):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (n, d)) + (0 if coarse else rng.normal(0, 0.3, (n, d)))
    rows[np.abs(rows).sum(axis=1) == 0] = 1
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.tensor(rows, dtype=torch.float32)


batches = st.builds(
    lambda labels, seed, coarse: (
        unit_rows(len(labels), seed=seed, coarse=coarse),
        torch.tensor(labels, dtype=torch.long),
    ),
    st.lists(st.integers(0, 4), max_size=14),
    st.integers(0, 10_000),
    st.booleans(),
)


def every_pair(labels):
    n = len(labels)
    return [(a, p) for a in range(n) for p in range(n) if a != p and labels[a] == labels[p]]


def negatives_of(a, labels):
    return [n for n in range(len(labels)) if labels[n] != labels[a]]


def choose_slowly(d, labels, rule, otherwise):
    """Return for each pair the distance of the negative that the rule chooses, None for none."""
    chosen = []
    for a, p in every_pair(labels):
        found = [d[a, n] for n in negatives_of(a, labels)]
        band = [x for x in found if d[a, p] < x < d[a, p] + np.float32(MARGIN)]
        below = [x for x in found if x <= d[a, p]]
        if rule == "hardest":
            chosen.append(min(found, default=None))
        elif band:
            chosen.append(min(band))
        elif otherwise != "skip" and below:
            chosen.append(max(below) if otherwise == "nearest-below" else min(below))
        else:
            chosen.append(None)
    return chosen


@settings(max_examples=150, deadline=None)
@given(batches, st.sampled_from(["semi-hard", "hardest"]), st.sampled_from(["skip", "nearest-below", "hardest-below"]))
def test_the_chosen_negative_is_the_one_a_loop_over_all_triplets_chooses(batch, rule, otherwise):
    rows, labels = batch
    order = sort_negatives(rows, labels)
    chosen = choose_negatives(order, MARGIN, rule=rule, otherwise=otherwise)
    d = squared_distances(rows).numpy()
    assert list(zip(order.anchors.tolist(), order.positives.tolist(), strict=True)) == every_pair(labels)
    ours = [None if n < 0 else d[a, n] for a, n in zip(order.anchors.tolist(), chosen.tolist(), strict=True)]
    assert ours == choose_slowly(d, labels, rule, otherwise)
    assert all(n < 0 or labels[n] != labels[a] for a, n in zip(order.anchors, chosen, strict=True))


@settings(max_examples=100, deadline=None)
@given(batches, st.integers(0, 100))
def test_a_random_semi_hard_negative_is_in_the_band_and_missing_only_if_the_band_is_empty(batch, seed):
    rows, labels = batch
    order = sort_negatives(rows, labels)
    generator = torch.Generator().manual_seed(seed)
    chosen = choose_negatives(order, MARGIN, rule="semi-hard-random", generator=generator)
    d = squared_distances(rows).numpy()
    for a, p, n in zip(order.anchors.tolist(), order.positives.tolist(), chosen.tolist(), strict=True):
        band = [x for x in negatives_of(a, labels) if d[a, p] < d[a, x] < d[a, p] + np.float32(MARGIN)]
        assert (n in band) if band else n == -1


def test_random_negatives_come_from_the_whole_band_and_from_the_seed():
    angles = torch.tensor([0.0, 0.3, 0.35, 0.38, 0.41, 0.44])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    order = sort_negatives(rows, torch.tensor([0, 0, 1, 2, 3, 4]))

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return choose_negatives(order, MARGIN, rule="semi-hard-random", generator=generator)

    assert {int(draw(seed)[0]) for seed in range(60)} == {2, 3, 4, 5}
    assert torch.equal(draw(7), draw(7))


def loss_slowly(rows, triplets, margin):
    """Return the mean over the active triplets, and how many they are."""
    losses = [((rows[a] - rows[p]) ** 2).sum() - ((rows[a] - rows[n]) ** 2).sum() + margin for a, p, n in triplets]
    active = [loss for loss in losses if loss > 0]
    return (torch.stack(active).mean() if active else rows.sum() * 0), len(active)


def all_triplets(d, labels, rule):
    return [
        (a, p, n)
        for a, p in every_pair(labels)
        for n in negatives_of(a, labels)
        if rule == "batch-all" or d[a, p] < d[a, n] < d[a, p] + np.float32(MARGIN)
    ]


@settings(max_examples=80, deadline=None)
@given(batches, st.sampled_from(["batch-all", "semi-hard-all"]))
def test_the_rules_that_never_form_their_triplets_have_the_loss_and_gradient_of_the_loop(batch, rule):
    rows, labels = batch
    d = squared_distances(rows).numpy()
    triplets = all_triplets(d, labels, rule)
    ours, theirs = rows.clone().requires_grad_(), rows.clone().double().requires_grad_()
    loss, stats = triplet_loss(ours, labels, margin=MARGIN, rule=rule)
    slow, active = loss_slowly(theirs, triplets, MARGIN)
    # On a tie float32 and float64 may disagree on which side of the margin a triplet lies.
    near = sum(abs(float(d[a, p] - d[a, n]) + MARGIN) < 1e-5 for a, p, n in triplets)
    assert abs(stats.active - active) <= near
    assert stats.triplets == len(triplets)
    if not near:
        loss.backward()
        slow.backward()
        assert loss.item() == pytest.approx(slow.item(), abs=1e-5)
        across = tangent(theirs.grad, rows.double())
        torch.testing.assert_close(tangent(ours.grad, rows), across.float(), atol=1e-4, rtol=1e-4)


def tangent(gradient, rows):
    """Return the part of a gradient along the sphere: the rows never leave it, the rest is arbitrary."""
    return gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows


@pytest.mark.parametrize("rule", ["semi-hard", "semi-hard-random", "hardest", "distance-weighted"])
def test_the_loss_of_chosen_triplets_has_the_value_and_gradient_of_the_definition(rule):
    rows, labels = unit_rows(24, seed=5), torch.arange(24) % 6
    ours, theirs = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    loss, stats = triplet_loss(ours, labels, margin=MARGIN, rule=rule, generator=generator)
    order = sort_negatives(rows, labels)
    again = torch.Generator().manual_seed(3)
    chosen = choose_negatives(order, MARGIN, rule=rule, generator=again)
    triplets = [
        (a, p, n)
        for a, p, n in zip(order.anchors.tolist(), order.positives.tolist(), chosen.tolist(), strict=True)
        if n >= 0
    ]
    slow, active = loss_slowly(theirs, triplets, MARGIN)
    loss.backward()
    slow.backward()
    assert loss.item() == pytest.approx(slow.item(), abs=1e-5)
    assert (stats.triplets, stats.active) == (len(triplets), active)
    assert active > 0
    torch.testing.assert_close(tangent(ours.grad, rows), tangent(theirs.grad, rows), atol=1e-5, rtol=1e-4)


def test_the_weight_of_a_distance_is_one_over_its_density_on_the_sphere():
    d = torch.tensor([[0.1, NEAREST, 0.8, 1.2, FARTHEST, 1.5, 2], [1.3, 1.35, 1.0, 2, 2, 2, 2]]).double()
    found = distance_weights((d**2).float(), 16)
    x = d.clamp(min=NEAREST)
    wanted = torch.where(d < FARTHEST, 1 / (x**14 * (1 - x**2 / 4) ** 6.5), 0)
    wanted /= wanted.amax(dim=1, keepdim=True)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[:, [0, 1, 2, 3, 5, 6]], wanted[:, [0, 1, 2, 3, 5, 6]], rtol=1e-4)
    assert distance_weights(torch.zeros(0, 0), 16).shape == (0, 0)
    assert not distance_weights(torch.full((2, 3), 4.0), 16).any()


def test_a_distance_of_just_the_farthest_has_no_weight():
    d = torch.tensor([[FARTHEST, 1.0]])
    squared = torch.where(d == 1, d, torch.nextafter(d**2, torch.zeros(1)))
    assert (distance_weights(squared, 3)[0, 0] > 0) == (squared.double().sqrt()[0, 0] < FARTHEST)


def test_distance_weighted_draws_as_often_as_the_inverse_density_says():
    rows = unit_rows(9, d=16, seed=2)
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 7])
    order = sort_negatives(rows, labels)
    d = squared_distances(rows).sqrt().numpy()
    generator = torch.Generator().manual_seed(0)
    drawn = np.zeros(9)
    for _ in range(3000):
        drawn[choose_negatives(order, MARGIN, rule="distance-weighted", generator=generator)[0]] += 1
    weight = np.zeros(9)
    for n in range(2, 9):
        x = max(float(d[0, n]), NEAREST)
        weight[n] = 0 if x >= FARTHEST else 1 / (x**14 * (1 - x * x / 4) ** 6.5)
    np.testing.assert_allclose(drawn / 3000, weight / weight.sum(), atol=0.03)


@given(batches)
@settings(max_examples=60, deadline=None)
def test_the_statistics_are_the_means_of_the_loops(batch):
    rows, labels = batch
    d = squared_distances(rows).double().numpy()
    n = len(labels)
    _, stats = triplet_loss(rows, labels, margin=MARGIN)
    same = [d[a, p] for a, p in every_pair(labels)]
    other = [d[a, b] for a in range(n) for b in negatives_of(a, labels)]
    assert stats.pairs == len(same)
    assert stats.positive == pytest.approx(np.mean(same) if same else 0, abs=1e-5)
    assert stats.negative == pytest.approx(np.mean(other) if other else 0, abs=1e-5)
    assert stats.spread == pytest.approx(np.mean(same + other) if same + other else 0, abs=1e-5)


@pytest.mark.parametrize("rule", ["semi-hard", "hardest", "batch-all", "semi-hard-all", "distance-weighted"])
@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [0, 1, 2]])
def test_without_a_triplet_the_loss_and_its_gradient_are_zero(rule, labels):
    rows = unit_rows(len(labels)).requires_grad_()
    loss, stats = triplet_loss(rows, torch.tensor(labels, dtype=torch.long), rule=rule)
    loss.backward()
    assert loss.item() == 0
    assert stats.active == 0
    assert not rows.grad.any()


def test_a_negative_as_far_as_the_positive_is_not_semi_hard():
    rows = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    _, stats = triplet_loss(rows, torch.tensor([0, 0, 1]), rule="semi-hard")
    assert (stats.pairs, stats.triplets) == (2, 0)
    _, below = triplet_loss(rows, torch.tensor([0, 0, 1]), rule="semi-hard", otherwise="nearest-below")
    assert below.active == 2


@pytest.mark.parametrize("rule", ["hardest", "batch-all", "semi-hard-all", "distance-weighted"])
def test_a_triplet_whose_loss_is_0_is_not_active(rule):
    rows = torch.eye(3)  # all distances are 2
    generator = torch.Generator().manual_seed(0)
    _, stats = triplet_loss(rows, torch.tensor([0, 0, 1]), margin=0.0, rule=rule, generator=generator)
    assert (stats.pairs, stats.active, stats.active_fraction) == (2, 0, 0)


@pytest.mark.parametrize(("rule", "triplets", "active"), [("batch-all", 8, 4), ("hardest", 4, 2)])
def test_the_active_fraction_is_of_pairs(rule, triplets, active):
    rows = torch.eye(4)[[0, 0, 1, 2]]  # of the first person both rows are alike, all else is 2 apart
    _, stats = triplet_loss(rows, torch.tensor([0, 0, 1, 1]), rule=rule)
    assert (stats.pairs, stats.triplets, stats.active) == (4, triplets, active)
    assert stats.active_fraction == 0.5
    _, one = triplet_loss(torch.eye(3), torch.tensor([0, 0, 1]), rule=rule)  # one negative for each pair
    assert one.active_fraction == 1


def test_the_only_negative_is_drawn_whatever_the_generator_says():
    rows = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0.6, 0, 0.8]])
    order = sort_negatives(rows, torch.tensor([0, 0, 1]))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        assert choose_negatives(order, MARGIN, rule="distance-weighted", generator=generator).tolist() == [2, 2]


def test_a_wider_margin_finds_more():
    rows, labels = unit_rows(30, seed=9), torch.arange(30) % 10
    found = [triplet_loss(rows, labels, margin=margin, rule="semi-hard")[1].triplets for margin in (0.02, 0.5)]
    assert found[0] < found[1]
