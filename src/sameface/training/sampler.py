"""Which pictures each step sees: P people with K pictures of each, every picture as often as any other."""

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
    """From step `start` on a batch has `people` times `pictures` pictures and the loss this `margin`."""

    start: int
    people: int
    pictures: int
    margin: float

    @property
    def size(self) -> int:
        """Pictures in a batch."""
        return self.people * self.pictures


def draw_batches(owner: Numbers, stages: Sequence[Stage], *, seed: int, start: int = 0) -> Iterator[Numbers]:
    """Yield the pictures of step `start`, of the next one, and so on without end.

    In an epoch each person with K pictures or more is dealt into groups of K, so that each of these pictures
    is there once, a few twice to fill the last group. Who has fewer than K comes with all of them; who has
    only one serves as a negative. A batch is filled with groups of different people up to P times K pictures;
    so it may hold more people than P, but never more pictures, and no picture twice. Nothing but the
    arguments decides what comes: to resume is to start at a later step, and every process of several draws
    the same.

    Args:
        owner: `(n,)` the person on each picture.
        stages: In the order of their first step; the first is 0. A change of K begins a new epoch.
        seed: The order; another seed gives another.
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
            groups = deal_forever(owner, pictures, seed, epochs)
        batch = fill_batch(waiting, groups, owner, stage)
        if step >= start:
            yield np.concatenate(batch)


def fill_batch(waiting: deque[Numbers], groups: Iterator[Numbers], owner: Numbers, stage: Stage) -> list[Numbers]:
    """Return the groups of one batch, first from `waiting`, where those that must wait stay in order.

    Groups of people who are in the batch already wait. When P of them do, as many of these are taken as
    there is room for: with fewer people than P, one person has several groups.
    """
    batch: list[Numbers] = []
    passed: list[Numbers] = []
    inside: set[int] = set()
    room = stage.size
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
    """Add to a batch the groups that fit and show none of its pictures again; return the rest."""
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


def deal_forever(owner: Numbers, pictures: int, seed: int, epochs: Iterator[int]) -> Iterator[Numbers]:
    """Yield the groups of one epoch after the other; the seed and the epoch's number decide them."""
    for epoch in epochs:
        yield from deal_epoch(owner, pictures, np.random.default_rng([seed, epoch]))


def deal_epoch(owner: Numbers, pictures: int, rng: np.random.Generator) -> list[Numbers]:
    """Return the groups of one epoch, those of one person spread over all of it."""
    shuffled = rng.permutation(len(owner))
    sorted_by_person = shuffled[np.argsort(owner[shuffled], kind="stable")]
    counts = np.bincount(owner)
    starts = np.cumsum(counts) - counts
    groups: list[Numbers] = []
    keys = []
    for count in np.unique(counts[counts > 0]):
        cards = sorted_by_person[starts[counts == count][:, None] + np.arange(count)]  # (people, count)
        dealt = deal_cards(cards, pictures)  # (people, groups of each, pictures of each)
        groups += list(dealt.reshape(-1, dealt.shape[2]))
        keys.append(((np.arange(dealt.shape[1]) + rng.random(dealt.shape[:2])) / dealt.shape[1]).ravel())
    return [groups[place] for place in np.argsort(np.concatenate(keys), kind="stable")]


def deal_cards(cards: Numbers, pictures: int) -> Numbers:
    """Deal the shuffled pictures of each person into groups; the last is filled up from the first.

    Args:
        cards: `(p, c)` of people with equally many pictures.
        pictures: K.

    Returns:
        `(p, c / K rounded up, K)`, or `(p, 1, c)` where c is under K.
    """
    people, count = cards.shape
    if count <= pictures:
        return cards[:, None]
    full = np.hstack([cards, cards[:, : -count % pictures]])
    return full.reshape(people, -1, pictures)


def share(batch: Numbers, rank: int, world: int) -> Numbers:
    """Return the part of a batch that one of several processes embeds; together they are the batch."""
    return np.array_split(batch, world)[rank]
