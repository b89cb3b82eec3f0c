"""Validate a network on held-out people, find mislabelled pictures, and report a finished run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import unit_rows
from sameface.evaluation.roc import Roc, allowed_accepts, make_roc, operate_at_far
from sameface.training.checkpoint import BEST, LAST, load_trained
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet, read_batches
from sameface.training.errors import TrainingDataError
from sameface.training.networks.build import InputSpec, make_input_spec
from sameface.training.sampler import Numbers

FAR = 1e-2  # small enough to mean something, large enough for the pairs of 50 people
BATCH = 64
SUSPECTS = "label-noise.tsv"
MOST = 5_000  # pictures that are searched for wrong labels


@dataclass(frozen=True, slots=True)
class SuspectLabel:
    """A picture that is nearer to another person than to the rest of its own."""

    person: str  # its folder
    picture: str  # its path
    own: float  # squared distance to the mean of the person's other pictures
    other: float  # squared distance to the mean of the nearest other person
    name: str  # of that person


def embed_pictures(network: nn.Module, pictures: PictureSet, spec: InputSpec) -> tuple[Embeddings, Numbers]:
    """Return `(n, d)` unit rows, averaged with the mirror images, and `(n,)` the numbers of the readable pictures."""
    device = next(network.parameters()).device
    rows, numbers = [], list[int]()
    training = network.training
    network.eval()
    for crops, places in read_batches(pictures, range(len(pictures)), BATCH):
        planes = spec.to_planes(crops, device)
        with torch.no_grad():
            both = network(planes) + network(planes.flip(-1))
        rows.append(both.float().cpu().numpy())
        numbers += places
    network.train(training)
    joined = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
    return unit_rows(joined), np.array(numbers, np.int64)


def roc_of(rows: Embeddings, owner: Numbers) -> Roc:
    """Return VAL and FAR over all pairs of rows."""
    upper = np.triu_indices(len(rows), 1)
    distance = squared_distances(rows, rows)[upper].astype(np.float64)
    return make_roc(distance, (owner[:, None] == owner[None, :])[upper])


def val_at_far(roc: Roc, far: float = FAR) -> float:
    """Return VAL at a false-accept rate.

    Raises:
        TrainingDataError: There are too few pairs of one kind.
    """
    if roc.genuine == 0 or allowed_accepts(far, roc.impostors) < 1:
        pairs = f"{roc.genuine} pairs of one person and {roc.impostors} of different people"
        reason = f"{pairs} are too few to test at FAR {far:g}: hold out more people (--held-out)"
        raise TrainingDataError("these people", reason)
    return operate_at_far(roc, far).val


def find_suspects(rows: Embeddings, numbers: Numbers, pictures: PictureSet) -> list[SuspectLabel]:
    """Return the pictures that are nearer to another person than to their own, the worst first."""
    owner = pictures.owner[numbers]
    sums = np.zeros((len(pictures.people), rows.shape[1]), np.float32)
    np.add.at(sums, owner, rows)
    means = unit_rows(sums)
    counts = np.bincount(owner, minlength=len(means))
    distance = squared_distances(rows, means)  # (n, people)
    rest = unit_rows(sums[owner] - rows)
    own = 2 - 2 * (rows * rest).sum(axis=1)
    places = np.arange(len(rows))
    distance[places, owner] = np.inf
    nearest = distance.argmin(axis=1)
    other = distance[places, nearest]
    doubtful = np.flatnonzero((counts[owner] > 1) & (other < own) & np.isfinite(other))
    return [
        SuspectLabel(
            pictures.people[owner[place]],
            pictures.files[numbers[place]].path,
            float(own[place]),
            float(other[place]),
            pictures.people[nearest[place]],
        )
        for place in doubtful[np.argsort((other - own)[doubtful])]
    ]


def report_run(folder: Path, config: TrainConfig, pictures: PictureSet, held_out: PictureSet) -> Iterator[str]:
    """Yield a report of the run in `folder`; write the suspect labels to `label-noise.tsv` there."""
    path = folder / BEST if (folder / BEST).exists() else folder / LAST
    trained = load_trained(path)
    spec = make_input_spec(config, pictures.rule)
    if len(held_out):
        rows, numbers = embed_pictures(trained.network, held_out, spec)
        val = val_at_far(roc_of(rows, held_out.owner[numbers]))
        people = len(held_out.people)
        yield f"{path}: step {trained.step}, VAL {val:.1%} at FAR {FAR:g} on {people} held-out people"
    reached = pictures.counts.cumsum()
    some = pictures.of_people([number for number, total in enumerate(reached) if total <= MOST])
    suspects = find_suspects(*embed_pictures(trained.network, some, spec), some)
    lines = ["person\tpicture\town distance\tother distance\tother person"]
    lines += [f"{each.person}\t{each.picture}\t{each.own:.3f}\t{each.other:.3f}\t{each.name}" for each in suspects]
    (folder / SUSPECTS).write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    people = len({suspect.person for suspect in suspects})
    yield (
        f"{folder / SUSPECTS}: {len(suspects)} of {len(some)} pictures, of {people} people, "
        "are nearer to another person"
    )
