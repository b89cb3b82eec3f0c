"""The commands that measure embeddings: evaluate pairs, ytf, holdout, identification, clusters, sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from sameface.cli.folders import embed_folder, folder_argument, slice_options, split_people
from sameface.cli.measure import Run, measuring_options
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.holdout_report import report_holdout
from sameface.evaluation.pairs import evaluate_pairs
from sameface.evaluation.pairs_report import report_pairs, score_pairs
from sameface.evaluation.pictures import compare_pairs
from sameface.evaluation.protocols import Pair, deal_folds, read_pairs, read_slices, slice_pairs
from sameface.evaluation.roc import Numbers


class PairFaces(NamedTuple):
    """The distance of each pair, and which pictures have no face."""

    distance: Numbers
    failures: list[str]


@click.group()
def evaluate() -> None:
    """Measure the embeddings on your own pictures, or on a public list of pairs.

    Every measure comes with its 95 % interval over people. docs/evaluation.md explains each.
    """


@evaluate.command()
@click.argument(
    "lists", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the pictures are; by default beside each list.",
)
@click.option("--slice-by", help="A column of the CSV list, or of --slices.")
@click.option(
    "--slices",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV file with the columns person and --slice-by.",
)
@measuring_options
def pairs(*, run: Run, lists: tuple[Path, ...], **choices: Any) -> None:
    """Verification on LISTS of pairs: LFW's pairs.txt, pairsDev*.txt, or CSV with the columns a,b,same.

    Each of several lists is a fold; a single list without folds is dealt to ten.
    """
    listed = read_sliced(lists, **choices)
    paths = sorted({path for pair in listed for path in (pair.a, pair.b)})
    found = run.embed(paths)
    names = ", ".join(path.name for path in lists)
    facts = run.facts(pairs=f"{len(listed):,} of {names}", pictures=f"{len(paths):,}")
    finish_pairs(run, "pairs", facts, listed, PairFaces(compare_pairs(listed, found), found.failures))


def read_sliced(
    lists: tuple[Path, ...], *, pictures: Path | None, slice_by: str | None, slices: Path | None
) -> list[Pair]:
    """Return the pairs with their folds and slices."""
    if slices is not None and slice_by is None:
        raise click.UsageError("--slices needs --slice-by")
    own_column = slice_by if slices is None else None
    listed = deal_folds(read_pairs(lists, pictures, slice_column=own_column))
    if own_column is not None and not all(path.suffix.lower() == ".csv" for path in lists):
        raise click.UsageError("--slice-by needs CSV lists, or --slices")
    if slices is None or slice_by is None:
        return listed
    return slice_pairs(listed, read_slices(slices, slice_by))


def finish_pairs(
    run: Run, report_kind: str, facts: dict[str, str], listed: list[Pair], found: PairFaces
) -> None:
    """Measure pairs with known distances and hand the report over."""
    scores = score_pairs(listed, found.distance)
    slices = [pair.slice for pair in listed] if any(pair.slice for pair in listed) else []
    result = evaluate_pairs(scores, slices=slices, repeats=run.repeats, seed=run.seed)
    report = report_pairs(report_kind, facts, listed, scores=scores, result=result)
    run.finish(replace(report, failures=tuple(found.failures)))


@evaluate.command()
@folder_argument
@slice_options
@measuring_options
def holdout(*, run: Run, folder: Path, **choices: Any) -> None:
    """VAL at FAR over all pairs of PEOPLE_FOLDER, which holds one folder per person."""
    people, failures, facts = embed_folder(run, folder)
    parts = {"": people} | split_people(people, **choices)
    results = {
        name: evaluate_holdout(part.rows, part.person, repeats=run.repeats, seed=run.seed)
        for name, part in parts.items()
    }
    report = report_holdout(facts, people, results.pop(""), results)
    run.finish(replace(report, failures=tuple(failures)))
