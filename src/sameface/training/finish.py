"""What is told at the end of a run: the best network, and people whose pictures disagree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sameface.training.build import pixels_of
from sameface.training.checkpoint import BEST, LAST
from sameface.training.config import TrainConfig
from sameface.training.export import open_trained
from sameface.training.pictures import PictureSet
from sameface.training.validate import FAR, Doubt, embed_pictures, find_doubts, roc_of, val_at_far

DOUBTS = "label-noise.tsv"
MOST = 5_000  # pictures that are looked at


def report_run(folder: Path, config: TrainConfig, pictures: PictureSet, held_out: PictureSet) -> Iterator[str]:
    """Yield lines on the run in `folder`; write the doubtful pictures to `label-noise.tsv` there."""
    path = folder / BEST if (folder / BEST).exists() else folder / LAST
    trained = open_trained(path)
    pixels = pixels_of(config, pictures.rule)
    if len(held_out):
        rows, numbers = embed_pictures(trained.network, held_out, pixels)
        val = val_at_far(roc_of(rows, held_out.owner[numbers]))
        people = len(held_out.people)
        yield f"{path}: step {trained.step}, VAL {val:.1%} at FAR {FAR:g} on {people} held-out people"
    some = first_people(pictures, MOST)
    doubts = find_doubts(*embed_pictures(trained.network, some, pixels), some)
    write_doubts(folder / DOUBTS, doubts)
    people = len({doubt.person for doubt in doubts})
    told = f"{len(doubts)} of {len(some)} pictures, of {people} people, are nearer to another person"
    yield f"{folder / DOUBTS}: {told}"


def first_people(pictures: PictureSet, most: int) -> PictureSet:
    """Return the first people that have at most so many pictures together."""
    reached = pictures.counts.cumsum()
    return pictures.of_people([number for number, total in enumerate(reached) if total <= most])


def write_doubts(path: Path, doubts: list[Doubt]) -> None:
    """Write a table, the worst first."""
    lines = ["person\tpicture\town distance\tother distance\tother person"]
    lines += [f"{d.person}\t{d.picture}\t{d.own:.3f}\t{d.other:.3f}\t{d.name}" for d in doubts]
    path.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
