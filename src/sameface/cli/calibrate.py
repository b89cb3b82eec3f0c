"""The command that finds a threshold for your own pictures: calibrate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from sameface.cli.folders import embed_folder, folder_argument
from sameface.cli.measure import Run, measuring_options
from sameface.evaluation.calibration import calibrate as find_threshold
from sameface.evaluation.calibration import check_reliability, split_people
from sameface.evaluation.calibration_report import report_calibration


@click.command()
@folder_argument
@click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-3,
    show_default=True,
    help="The part of the pairs of different people to accept.",
)
@click.option("--gallery-size", type=click.IntRange(min=1), help="Also tell the FPIR among so many faces.")
@measuring_options
def calibrate(*, run: Run, folder: Path, far: float, gallery_size: int | None) -> None:
    """Find the threshold for a false-accept rate on the pictures of PEOPLE_FOLDER, one folder per person.

    It is refused where fewer than 30 false accepts would stand behind the rate.
    """
    people, failures, facts = embed_folder(run, folder)
    words = facts["pictures"]
    found = find_threshold(
        people.rows, people.person, far=far, words=words, repeats=run.repeats, seed=run.seed
    )
    first = split_people(people.person, seed=run.seed)
    halves = [people.pick(part) for part in (first, ~first)]
    reliability = check_reliability([(half.rows, half.person) for half in halves])
    report = report_calibration(facts, people, found, reliability=reliability, gallery_size=gallery_size)
    run.finish(replace(report, failures=tuple(failures)))
