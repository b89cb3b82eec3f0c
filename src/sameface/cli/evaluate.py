"""Commands that measure embeddings: evaluate pairs, ytf, holdout, identification, clusters, sweep; calibrate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from sameface.arrays import Embeddings
from sameface.cli.gallery_options import key_options
from sameface.cli.measure import (
    EvaluationRun,
    embed_people,
    embed_slices,
    folder_argument,
    measuring_options,
    slice_options,
    slices_option,
)
from sameface.cli.options import existing_file, existing_folder, join_options, positive, rate
from sameface.cli.output import progress
from sameface.cluster import MAX_ROWS
from sameface.evaluation.calibration import (
    CalibrationResult,
    calibrate_threshold,
    check_reliability,
    report_calibration,
    save_calibrated_weights,
    split_people,
)
from sameface.evaluation.clusters import estimate_clusters, report_clusters, sweep_thresholds
from sameface.evaluation.degradations import DEGRADATIONS, DegradationStep, step_cache_key
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.holdout import evaluate_holdout, report_holdout
from sameface.evaluation.identification import evaluate_identification, report_identification
from sameface.evaluation.pairs import (
    SHOWN_ERRORS,
    evaluate_pairs,
    judge_pairs,
    report_pairs,
    score_pairs,
    show_errors,
    worst_errors,
)
from sameface.evaluation.pictures import FRAMES, EmbeddedPictures, embed_video, pair_distances
from sameface.evaluation.protocols import (
    LabelledPair,
    PeopleSet,
    assign_folds,
    read_pairs,
    read_slices,
    read_videos,
    slice_pairs,
)
from sameface.evaluation.sweeps import SweepOptions, pair_pictures, report_sweeps, sweep_bits, sweep_pictures
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys

VARIED = (*(degradation.name for degradation in DEGRADATIONS), "bits")

list_slice_options = join_options(
    click.option("--slice-by", help="A column of the CSV list, or of --slices."), slices_option
)


@click.group()
def evaluate() -> None:
    """Measure the embeddings on your own pictures, or on a public list of pairs.

    Measures come with their 95 % interval over people. docs/evaluation.md explains each.
    """


@evaluate.command()
@click.argument("lists", nargs=-1, required=True, type=existing_file)
@click.option("--pictures", type=existing_folder, help="Where the pictures are; by default beside each list.")
@list_slice_options
@measuring_options
def pairs(
    *, run: EvaluationRun, lists: tuple[Path, ...], pictures: Path | None, slices: Path | None, slice_by: str | None
) -> None:
    """Verification on LISTS of pairs: LFW's pairs.txt, pairsDev*.txt, or CSV with the columns a,b,same.

    Each of several lists is a fold; a single list without folds is split into ten.
    """
    listed = read_sliced(lists, partial(read_pairs, lists, pictures), slices, slice_by)
    paths = sorted({path for pair in listed for path in (pair.a, pair.b)})
    found = run.embed(paths)
    names = ", ".join(path.name for path in lists)
    facts = run.facts(found, pairs=f"{len(listed):,} of {names}", pictures=f"{len(paths):,}")
    finish_pairs(run, "pairs", facts, listed, found)


@evaluate.command()
@click.argument("listed", metavar="LIST", type=existing_file)
@click.option("--videos", type=existing_folder, help="Where the folders of frames are; by default beside the list.")
@click.option("--frames", default=FRAMES, type=positive, help="Of each video.")
@list_slice_options
@measuring_options
def ytf(
    *, run: EvaluationRun, listed: Path, videos: Path | None, frames: int, slices: Path | None, slice_by: str | None
) -> None:
    """Verification on a LIST of pairs of videos: YouTube Faces' splits.txt, or CSV with a,b,same.

    A video is a folder of frames; the mean similarity of all pairs of frames counts, over the first 100 of
    each video in which a face is found.
    """
    paired = read_sliced((listed,), partial(read_videos, listed, videos), slices, slice_by)
    paths = sorted({path for pair in paired for path in (pair.a, pair.b)})
    with run.embedder() as embedder:
        found = EmbeddedPictures([embed_video(embedder, path, frames=frames) for path in progress(paths)])
    facts = run.facts(found, pairs=f"{len(paired):,} of {listed.name}", videos=f"{len(paths):,}")
    finish_pairs(run, "ytf", facts, paired, found)


def read_sliced(
    lists: tuple[Path, ...], read: Callable[..., list[LabelledPair]], slices: Path | None, slice_by: str | None
) -> list[LabelledPair]:
    """Return the pairs with their folds and slices.

    `read` takes the `slice_column` of the lists; with `slices`, the column `slice_by` is in that table instead.
    """
    if slices is not None and slice_by is None:
        raise click.UsageError("--slices needs --slice-by")
    own_column = slice_by if slices is None else None
    if own_column is not None and not all(path.suffix.lower() == ".csv" for path in lists):
        raise click.UsageError("--slice-by needs CSV lists, or --slices")
    listed = read(slice_column=own_column)
    if len(listed) < 2:
        raise ProtocolError(str(lists[0]), "it has one pair: the threshold to judge it must come from another")
    folded = assign_folds(listed)
    if slices is None or slice_by is None:
        return folded
    groups = read_slices(slices, slice_by)
    if not any(person in groups for pair in folded for person in pair.people):
        raise ProtocolError(str(slices), f"it names nobody of the list, such as {folded[0].people[0]!r}")
    return slice_pairs(folded, groups)


def finish_pairs(
    run: EvaluationRun, kind: str, facts: dict[str, str], listed: list[LabelledPair], found: EmbeddedPictures
) -> None:
    scores = score_pairs(listed, pair_distances(listed, found))
    slices = [pair.slice for pair in listed] if any(pair.slice for pair in listed) else []
    result = evaluate_pairs(scores, slices=slices, repeats=run.repeats, seed=run.seed)
    report = report_pairs(kind, facts, listed, scores=scores, result=result)
    if run.show_faces:
        places = worst_errors(scores, judge_pairs(scores, result.folds))
        report = replace(report, pictures=show_errors(listed, scores, places[:SHOWN_ERRORS], found))
    run.finish(report, found.failures)


@evaluate.command()
@folder_argument
@slice_options
@measuring_options
def holdout(*, run: EvaluationRun, folder: Path, slices: Path | None, slice_by: str | None) -> None:
    """VAL at FAR over all pairs of PEOPLE_FOLDER, which holds one folder per person."""
    (people, failures, facts), parts = embed_slices(run, folder, slices, slice_by)
    results = {
        name: evaluate_holdout(part.rows, part.person, repeats=run.repeats, seed=run.seed)
        for name, part in parts.items()
    }
    run.finish(report_holdout(facts, people, results.pop(""), results), failures)


@evaluate.command()
@folder_argument
@click.option(
    "--size", "sizes", multiple=True, type=positive, help="People to enroll; repeatable. 10, 100, 1000 ... by default."
)
@click.option("--per-person", default=1, type=positive, help="Pictures enrolled of each.")
@click.option("--draws", default=10, type=positive, help="Galleries per size.")
@slice_options
@measuring_options
def identification(
    *,
    run: EvaluationRun,
    folder: Path,
    sizes: tuple[int, ...],
    per_person: int,
    draws: int,
    slices: Path | None,
    slice_by: str | None,
) -> None:
    """Identification in random galleries of PEOPLE_FOLDER, one folder per person.

    Closed set: rank 1 and up (CMC). Open set: people who are not enrolled are strangers; DIR at FPIR.
    """
    (people, failures, facts), parts = embed_slices(run, folder, slices, slice_by)
    results = {
        name: evaluate_identification(
            part.rows,
            part.person,
            sizes=choose_sizes(part, sizes, per_person, folder),
            per_person=per_person,
            seeds=range(run.seed, run.seed + draws),
            repeats=run.repeats,
        )
        for name, part in parts.items()
    }
    run.finish(report_identification(facts, people, results.pop(""), results), failures)


def choose_sizes(people: PeopleSet, wanted: tuple[int, ...], per_person: int, folder: Path) -> list[int]:
    """Return the sizes of gallery that the people allow; at least one person must be left as a stranger."""
    most = min(int((np.bincount(people.person) > per_person).sum()), len(people.names) - 1)
    sizes = sorted(wanted or {10**power for power in range(1, 7)} | {most})
    fitting = [size for size in sizes if 0 < size <= most]
    if not fitting or (wanted and len(fitting) < len(sizes)):
        reason = f"{max(most, 0)} people at most can be enrolled with {per_person} and probed with another"
        raise ProtocolError(str(folder), reason)
    return fitting


@evaluate.command()
@folder_argument
@click.option("--far", type=rate, help="Sets the threshold; by default that of `sameface cluster`.")
@slice_options
@measuring_options
def clusters(
    *, run: EvaluationRun, folder: Path, far: float | None, slices: Path | None, slice_by: str | None
) -> None:
    """Groups found without a name, against the people of PEOPLE_FOLDER, one folder per person."""
    (people, failures, facts), parts = embed_slices(run, folder, slices, slice_by)
    if len(people.rows) > MAX_ROWS:
        reason = f"{MAX_ROWS:,} faces at most can be measured, it has {len(people.rows):,}: take fewer people"
        raise ProtocolError(str(folder), reason)
    threshold = run.recognizer.thresholds.at_album(len(people.rows), far)
    results = {
        name: estimate_clusters(part, threshold, repeats=run.repeats, seed=run.seed) for name, part in parts.items()
    }
    sweep = sweep_thresholds(people.rows, people.person)
    run.finish(report_clusters(facts, people, results.pop(""), sweep, slices=results), failures)


@evaluate.command()
@folder_argument
@click.option(
    "--only", multiple=True, type=click.Choice(VARIED), help="What to vary; repeatable. Everything by default."
)
@click.option("--far", default=1e-3, type=rate, help="The false-accept rate.")
@measuring_options
def sweep(*, run: EvaluationRun, folder: Path, only: tuple[str, ...], far: float) -> None:
    """VAL at FAR as the pictures of PEOPLE_FOLDER get worse: JPEG, size, blur, light, rotation, a bar.

    Both pictures of a pair are made worse, and faces are searched for again. `bits` stores the embeddings in
    fewer bytes instead.
    """
    people, failures, facts = embed_people(run, folder)
    pictures = pair_pictures(people.rows, people.person, rng=np.random.default_rng(run.seed))
    options = SweepOptions(far=far, repeats=run.repeats, seed=run.seed)

    def embed(step: DegradationStep) -> Embeddings:
        rows = run.embed(people.paths, change=step.change, name=step_cache_key(step)).rows
        return rows if rows.shape[1] else np.zeros_like(people.rows)

    curves = [
        sweep_pictures(degradation, pictures, embed=embed, options=options)
        for degradation in DEGRADATIONS
        if not only or degradation.name in only
    ]
    curves += [sweep_bits(pictures, options=options)] if not only or "bits" in only else []
    run.finish(report_sweeps(facts, curves, warnings=people.warnings), failures)


@click.command()
@folder_argument
@click.option("--far", type=rate, default=1e-3, help="The part of the pairs of different people to accept.")
@click.option("--gallery-size", type=positive, help="Also print the FPIR among so many faces.")
@click.option(
    "--save", type=click.Path(dir_okay=False), help="Save to this gallery, or to a copy of the weights (.onnx)."
)
@key_options
@measuring_options
def calibrate(
    *, run: EvaluationRun, folder: Path, far: float, gallery_size: int | None, save: str | None, keys: Keys
) -> None:
    """Find the threshold for a false-accept rate on the pictures of PEOPLE_FOLDER, one folder per person.

    A rate with fewer than 30 false accepts is refused. With --save GALLERY,
    `identify` uses the thresholds from then on; with --save NAME.onnx, every command with --weights NAME.onnx
    does, and `verify` prints a probability.
    """
    people, failures, facts = embed_people(run, folder)
    words = facts["pictures"]
    found = calibrate_threshold(people.rows, people.person, far=far, words=words, repeats=run.repeats, seed=run.seed)
    first = split_people(people.person, seed=run.seed)
    halves = [people.pick(part) for part in (first, ~first)]
    reliability = check_reliability([(half.rows, half.person) for half in halves])
    report = report_calibration(facts, people, found, reliability=reliability, gallery_size=gallery_size)
    if save is not None:
        save_thresholds(run, found, save, keys)
    run.finish(report, failures)


def save_thresholds(run: EvaluationRun, found: CalibrationResult, target: str, keys: Keys) -> None:
    if target.endswith(".onnx"):
        weights, copy = click.get_current_context().params["weights"], Path(target)
        save_calibrated_weights(weights, copy, found.thresholds, found.curve)
        click.echo(f"saved: {copy} and {copy.with_suffix('.toml').name}", err=True)
        return
    with Gallery.open(target, run.recognizer, create=False, keys=keys) as gallery:
        gallery.keep_thresholds(found.thresholds)
    click.echo(f"saved: {gallery.path} now has thresholds of its own", err=True)
