"""What is fastest on this machine: which embedder, on how many cores."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np

from sameface.cli.output import print_table
from sameface.embed import BATCH, Embedder
from sameface.errors import WeightsError
from sameface.manifest import Manifest, read_manifest
from sameface.model import Model, list_weights

COLUMNS = ("weights", "cores", "ms alone", "ms in batches", "licence")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one face takes, without its mirror image.

    Attributes:
        weights: The embedder's name.
        threads: Processor cores.
        alone: Milliseconds, one face at a time.
        batch: Milliseconds for each of sixteen together.
        licence: The embedder's.
    """

    weights: str
    threads: int
    alone: float
    batch: float
    licence: str


def time_embedders() -> Iterator[Timing]:
    """Time every embedder that has a name, on 1, 2, 4 and more cores, and tell which cannot be opened."""
    for name, path in list_weights().items():
        try:
            if read_manifest(path.with_suffix(".toml")).embedding is None:
                continue
            for threads in core_counts(os.cpu_count() or 1):
                embedder = Embedder(Model.load(path, threads=threads), flip=False)
                alone, batch = (1000 * time_embedding(embedder, batch=size) for size in (1, BATCH))
                licence = embedder.model.manifest.licence
                yield Timing(name, threads, round(alone, 2), round(batch, 2), licence)
        except WeightsError as error:
            click.echo(f"left out: {error}", err=True)


def core_counts(cores: int) -> list[int]:
    """Return 1, 2, 4 and so on, and as the last all cores."""
    counts = [1]
    while 2 * counts[-1] < cores:
        counts.append(2 * counts[-1])
    return counts if cores == 1 else [*counts, cores]


def time_embedding(embedder: Embedder, *, batch: int = 1, repeats: int = 5) -> float:
    """Return the seconds that one crop of a batch takes, the median of `repeats` runs."""
    size = embedder.spec.crop.size
    crops = np.full((batch, size, size, 3), 128, np.uint8)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        embedder.embed(crops)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2] / batch


def pick(timings: Sequence[Timing], used: Manifest) -> dict[str, Timing]:
    """Return the fastest for one face and for many, of those under the licence of the weights in use."""
    allowed = [each for each in timings if each.licence == used.licence] or timings
    return {
        "one face at a time": min(allowed, key=lambda each: each.alone),
        "many faces": min(allowed, key=lambda each: each.batch),
    }


def record_timings(timings: Sequence[Timing], used: Manifest) -> dict[str, Any]:
    """Return the timings and the picks as they are printed in JSON."""
    picks = {use: asdict(each) for use, each in pick(timings, used).items()}
    return {"timings": [asdict(each) for each in timings], "fastest": picks}


def print_timings(timings: Sequence[Timing], used: Manifest) -> None:
    """Print the timings, and which options are fastest."""
    rows = [(each.weights, each.threads, f"{each.alone:.2f}", f"{each.batch:.2f}", each.licence) for each in timings]
    print_table(COLUMNS, rows)
    picks = pick(timings, used)
    for use, each in picks.items():
        click.echo(f"fastest for {use}: --weights {each.weights} --threads {each.threads}")
    for name in sorted({each.weights for each in picks.values()} - {used.name}):
        click.echo(
            f"rows of {name} and of {used.name} are never compared with each other: a gallery made with "
            f"{used.name} stays with it until 'sameface gallery upgrade' moves it"
        )
