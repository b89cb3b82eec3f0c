"""The commands that measure embeddings: evaluate pairs, ytf, holdout, identification, clusters, sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from sameface.arrays import Embeddings
from sameface.cli.folders import embed_folder, folder_argument, slice_options, split_people, take_slices
from sameface.cli.measure import Run, measuring_options
from sameface.cli.options import Command
from sameface.cli.output import progress
from sameface.cluster import MAX_ROWS
from sameface.evaluation.clusters import sweep_thresholds
from sameface.evaluation.clusters_report import estimate_clusters, report_clusters
from sameface.evaluation.degradations import DEGRADATIONS, DegradationStep, step_cache_key
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.holdout_report import report_holdout
from sameface.evaluation.identification import evaluate_identification
from sameface.evaluation.identification_report import report_identification
from sameface.evaluation.pairs import evaluate_pairs, judge_pairs
from sameface.evaluation.pairs_report import SHOWN_ERRORS, report_pairs, score_pairs, show_errors, worst_errors
from sameface.evaluation.people import PeopleSet
from sameface.evaluation.pictures import FRAMES, EmbeddedPictures, compare_pairs, embed_video
from sameface.evaluation.protocols import LabelledPair, assign_folds, read_pairs, read_slices, read_videos, slice_pairs
from sameface.evaluation.sweeps import SweepOptions, pair_pictures, sweep_bits, sweep_pictures
from sameface.evaluation.sweeps_report import report_sweeps


def slices_of_lists(command: Command) -> Command:
    """Add the options that choose the slices of a list."""
    slices = click.option(
        "--slices",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A CSV file with the columns person and --slice-by.",
    )
    column: Callable[[Any], Command] = click.option("--slice-by", help="A column of the CSV list, or of --slices.")
    return column(slices(command))


@click.group()
def evaluate() -> None:
    """Measure the embeddings on your own pictures, or on a public list of pairs.

    Measures come with their 95 % interval over people. docs/evaluation.md explains each.
    """


@evaluate.command()
@click.argument("lists", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the pictures are; by default beside each list.",
)
@slices_of_lists
@measuring_options
def pairs(*, run: Run, lists: tuple[Path, ...], pictures: Path | None, **choices: Any) -> None:
    """Verification on LISTS of pairs: LFW's pairs.txt, pairsDev*.txt, or CSV with the columns a,b,same.

    Each of several lists is a fold; a single list without folds is dealt to ten.
    """
    listed = read_sliced(lists, partial(read_pairs, lists, pictures), **choices)
    paths = sorted({path for pair in listed for path in (pair.a, pair.b)})
    found = run.embed(paths)
    names = ", ".join(path.name for path in lists)
    facts = run.facts(found, pairs=f"{len(listed):,} of {names}", pictures=f"{len(paths):,}")
    finish_pairs(run, "pairs", facts, listed, found)


@evaluate.command()
@click.argument("listed", metavar="LIST", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--videos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the folders of frames are; by default beside the list.",
)
@click.option("--frames", default=FRAMES, show_default=True, type=click.IntRange(min=1), help="Of each video.")
@slices_of_lists
@measuring_options
def ytf(*, run: Run, listed: Path, videos: Path | None, frames: int, **choices: Any) -> None:
    """Verification on a LIST of pairs of videos: YouTube Faces' splits.txt, or CSV with a,b,same.

    A video is a folder of frames; the mean similarity of all pairs of frames counts, over the first 100 of
    each video in which a face is found.
    """
    paired = read_sliced((listed,), partial(read_videos, listed, videos), **choices)
    paths = sorted({path for pair in paired for path in (pair.a, pair.b)})
    with run.enroller() as enroller:
        found = EmbeddedPictures([embed_video(enroller, path, frames=frames) for path in progress(paths)])
    facts = run.facts(found, pairs=f"{len(paired):,} of {listed.name}", videos=f"{len(paths):,}")
    finish_pairs(run, "ytf", facts, paired, found)


def read_sliced(
    lists: tuple[Path, ...], read: Callable[..., list[LabelledPair]], *, slice_by: str | None, slices: Path | None
) -> list[LabelledPair]:
    """Return the pairs with their folds and slices.

    Args:
        lists: Where they stand.
        read: Reads them, with the `slice_column` of the lists.
        slice_by: The column that holds the slices.
        slices: The table that holds this column; None for the lists themselves.
    """
    if slices is not None and slice_by is None:
        raise click.UsageError("--slices needs --slice-by")
    own_column = slice_by if slices is None else None
    if own_column is not None and not all(path.suffix.lower() == ".csv" for path in lists):
        raise click.UsageError("--slice-by needs CSV lists, or --slices")
    listed = read(slice_column=own_column)
    if len(listed) < 2:
        raise ProtocolError(str(lists[0]), "it has one pair: the threshold to judge it must come from another")
    dealt = assign_folds(listed)
    if slices is None or slice_by is None:
        return dealt
    groups = read_slices(slices, slice_by)
    if not any(person in groups for pair in dealt for person in pair.people):
        raise ProtocolError(str(slices), f"it names nobody of the list, such as {dealt[0].people[0]!r}")
    return slice_pairs(dealt, groups)


def finish_pairs(
    run: Run, kind: str, facts: dict[str, str], listed: list[LabelledPair], found: EmbeddedPictures
) -> None:
    """Measure the pairs and hand the report over."""
    scores = score_pairs(listed, compare_pairs(listed, found))
    slices = [pair.slice for pair in listed] if any(pair.slice for pair in listed) else []
    result = evaluate_pairs(scores, slices=slices, repeats=run.repeats, seed=run.seed)
    report = report_pairs(kind, facts, listed, scores=scores, result=result)
    if run.show_faces:
        places = worst_errors(scores, judge_pairs(scores, result.folds))
        pictures = show_errors(listed, scores, places[:SHOWN_ERRORS], found)
        report = replace(report, pictures=pictures)
    run.finish(replace(report, failures=tuple(found.failures)))


@evaluate.command()
@folder_argument
@slice_options
@measuring_options
def holdout(*, run: Run, folder: Path, **choices: Any) -> None:
    """VAL at FAR over all pairs of PEOPLE_FOLDER, which holds one folder per person."""
    slices = take_slices(choices)
    people, failures, facts = embed_folder(run, folder)
    parts = {"": people} | split_people(people, slices, choices)
    results = {
        name: evaluate_holdout(part.rows, part.person, repeats=run.repeats, seed=run.seed)
        for name, part in parts.items()
    }
    report = report_holdout(facts, people, results.pop(""), results)
    run.finish(replace(report, failures=tuple(failures)))


@evaluate.command()
@folder_argument
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(min=1),
    help="How many people to enroll; may be given several times. By default 10, 100, 1000 and so on.",
)
@click.option(
    "--per-person", default=1, show_default=True, type=click.IntRange(min=1), help="Pictures enrolled of each."
)
@click.option("--draws", default=10, show_default=True, type=click.IntRange(min=1), help="Galleries per size.")
@slice_options
@measuring_options
def identification(
    *, run: Run, folder: Path, sizes: tuple[int, ...], per_person: int, draws: int, **choices: Any
) -> None:
    """Who is this, if anyone? Random galleries of PEOPLE_FOLDER, one folder per person.

    Closed set: rank 1 and up (CMC). Open set: everyone who is not enrolled is a stranger; DIR at FPIR.
    """
    slices = take_slices(choices)
    people, failures, facts = embed_folder(run, folder)
    parts = {"": people} | split_people(people, slices, choices)
    seeds = range(run.seed, run.seed + draws)
    results = {
        name: evaluate_identification(
            part.rows,
            part.person,
            sizes=choose_sizes(part, sizes, per_person, folder),
            per_person=per_person,
            seeds=seeds,
            repeats=run.repeats,
        )
        for name, part in parts.items()
    }
    report = report_identification(facts, people, results.pop(""), results)
    run.finish(replace(report, failures=tuple(failures)))


def choose_sizes(people: PeopleSet, wanted: tuple[int, ...], per_person: int, folder: Path) -> list[int]:
    """Return the sizes of gallery that the people allow; someone must be left to be a stranger."""
    most = min(int((np.bincount(people.person) > per_person).sum()), len(people.names) - 1)
    sizes = sorted(wanted or {10**power for power in range(1, 7)} | {most})
    fitting = [size for size in sizes if 0 < size <= most]
    if not fitting or (wanted and len(fitting) < len(sizes)):
        reason = f"{max(most, 0)} people at most can be enrolled with {per_person} and probed with another"
        raise ProtocolError(str(folder), reason)
    return fitting


@evaluate.command()
@folder_argument
@click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Sets the threshold; by default that of `sameface cluster`.",
)
@slice_options
@measuring_options
def clusters(*, run: Run, folder: Path, far: float | None, **choices: Any) -> None:
    """Groups found without a name, against the people of PEOPLE_FOLDER, one folder per person."""
    slices = take_slices(choices)
    people, failures, facts = embed_folder(run, folder)
    if len(people.rows) > MAX_ROWS:
        reason = f"{MAX_ROWS:,} faces at most can be measured, it has {len(people.rows):,}: take fewer people"
        raise ProtocolError(str(folder), reason)
    threshold = run.recognizer.thresholds.at_album(len(people.rows), far)
    parts = {"": people} | split_people(people, slices, choices)
    chosen = {
        name: estimate_clusters(part, threshold, repeats=run.repeats, seed=run.seed) for name, part in parts.items()
    }
    sweep = sweep_thresholds(people.rows, people.person)
    report = report_clusters(facts, people, chosen.pop(""), sweep, slices=chosen)
    run.finish(replace(report, failures=tuple(failures)))


@evaluate.command()
@folder_argument
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*(degradation.name for degradation in DEGRADATIONS), "bits"]),
    help="What to vary; may be given several times. Everything by default.",
)
@click.option(
    "--far",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The false-accept rate.",
)
@measuring_options
def sweep(*, run: Run, folder: Path, only: tuple[str, ...], far: float) -> None:
    """VAL at FAR as the pictures of PEOPLE_FOLDER get worse: JPEG, size, blur, light, rotation, a bar.

    Both pictures of a pair are made worse, and faces are searched for again. `bits` stores the embeddings in
    fewer bytes instead.
    """
    people, failures, facts = embed_folder(run, folder)
    rng = np.random.default_rng(run.seed)
    pictures = pair_pictures(people.rows, people.person, rng=rng)
    plan = SweepOptions(far=far, repeats=run.repeats, seed=run.seed)

    def embed(step: DegradationStep) -> Embeddings:
        found = run.embed(people.paths, change=step.change, name=step_cache_key(step))
        rows = found.rows
        return rows if rows.shape[1] else np.zeros_like(people.rows)

    curves = [
        sweep_pictures(degradation, pictures, embed=embed, plan=plan)
        for degradation in DEGRADATIONS
        if not only or degradation.name in only
    ]
    curves += [sweep_bits(pictures, plan=plan)] if not only or "bits" in only else []
    report = report_sweeps(facts, curves, warnings=people.warnings)
    run.finish(replace(report, failures=tuple(failures)))
