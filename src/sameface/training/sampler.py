"""Sample batches of P people with K pictures each, so that every picture comes equally often."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stage:
    """Size of a batch and margin of the loss from step `start` on."""

    start: int
    people: int
    pictures: int
    margin: float


def draw_batches(owner: Numbers, stages: Sequence[Stage], *, seed: int, start: int = 0) -> Iterator[Numbers]:
    """Yield the pictures of step `start`, of the next one, and so on without end.

    In an epoch the pictures of each person are dealt into groups of K; a few come twice to fill the last group. A
    person with fewer than K gives one group of them all. A batch takes groups of different people up to P times K
    pictures: it may hold more people than P, but never more pictures, and none twice. The result depends only on
    the arguments, so that a resumed run and every one of several processes draw the same.

    Args:
        owner: `(n,)` the person on each picture.
        stages: By their first step, of which the first is 0. A change of K starts a new epoch.
        seed: Decides the order.
        start: The first step to yield.
    """
    epochs = itertools.count()
    groups: Iterator[Numbers] = iter(())
    waiting: deque[Numbers] = deque()
    pictures = 0
    for step in itertools.count():
        stage = [candidate for candidate in stages if candidate.start <= step][-1]
        if stage.pictures != pictures:
            pictures = stage.pictures
            waiting.clear()
            rngs = (np.random.default_rng([seed, epoch]) for epoch in epochs)
            groups = itertools.chain.from_iterable(deal_epoch(owner, stage.pictures, rng) for rng in rngs)
        batch = fill_batch(waiting, groups, owner, stage)
        if step >= start:
            yield np.concatenate(batch)


def fill_batch(waiting: deque[Numbers], groups: Iterator[Numbers], owner: Numbers, stage: Stage) -> list[Numbers]:
    """Return the groups of one batch, first from `waiting`.

    A second group of a person waits for the next batch. Once P groups wait, those that fit are taken after all:
    with fewer people than P, one person has several groups.
    """
    batch: list[Numbers] = []
    passed: list[Numbers] = []
    inside: set[int] = set()
    room = stage.people * stage.pictures
    while room and len(passed) < stage.people:
        group = waiting.popleft() if waiting else next(groups)
        person = int(owner[group[0]])
        if person in inside or len(group) > room:
            passed.append(group)
        else:
            inside.add(person)
            batch.append(group)
            room -= len(group)
    waiting.extendleft(reversed(take_passed(batch, passed, room)))
    return batch


def take_passed(batch: list[Numbers], passed: list[Numbers], room: int) -> list[Numbers]:
    """Add the groups that fit and repeat no picture of the batch; return the rest."""
    seen = set(np.concatenate(batch).tolist())
    rest = []
    for group in passed:
        if len(group) <= room and seen.isdisjoint(group.tolist()):
            batch.append(group)
            seen.update(group.tolist())
            room -= len(group)
        else:
            rest.append(group)
    return rest


def deal_epoch(owner: Numbers, pictures: int, rng: np.random.Generator) -> list[Numbers]:
    """Return the groups of an epoch, those of one person spread over all of it."""
    shuffled = rng.permutation(len(owner))
    sorted_by_person = shuffled[np.argsort(owner[shuffled], kind="stable")]
    counts = np.bincount(owner)
    starts = np.cumsum(counts) - counts
    groups: list[Numbers] = []
    keys = []
    for count in np.unique(counts[counts > 0]):
        cards = sorted_by_person[starts[counts == count][:, None] + np.arange(count)]  # (people, count)
        if count > pictures:  # the first pictures of a person fill up the last group
            cards = np.hstack([cards, cards[:, : -count % pictures]])
        dealt = cards.reshape(len(cards), -1, min(count, pictures))  # (people, groups of each, pictures of each)
        groups += list(dealt.reshape(-1, dealt.shape[2]))
        keys.append(((np.arange(dealt.shape[1]) + rng.random(dealt.shape[:2])) / dealt.shape[1]).ravel())
    return [groups[place] for place in np.argsort(np.concatenate(keys), kind="stable")]


def share(batch: Numbers, rank: int, world: int) -> Numbers:
    """Return the part of a batch that one of several processes embeds."""
    return np.array_split(batch, world)[rank]
