"""The command that finds a threshold for your own pictures: calibrate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from sameface.cli.folders import embed_folder, folder_argument
from sameface.cli.measure import Run, measuring_options
from sameface.cli.unlock import key_options
from sameface.evaluation.calibration import CalibrationResult, check_reliability, split_people
from sameface.evaluation.calibration import calibrate as find_threshold
from sameface.evaluation.calibration_report import report_calibration
from sameface.evaluation.save import save_calibrated_weights
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys


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
@click.option(
    "--save",
    type=click.Path(dir_okay=False),
    help="Keep all thresholds in this gallery, or in a copy of the weights if it ends in .onnx.",
)
@key_options
@measuring_options
def calibrate(*, run: Run, folder: Path, far: float, gallery_size: int | None, save: str | None, keys: Keys) -> None:
    """Find the threshold for a false-accept rate on the pictures of PEOPLE_FOLDER, one folder per person.

    It is refused where fewer than 30 false accepts would stand behind the rate. With --save GALLERY,
    `identify` uses the thresholds from then on; with --save NAME.onnx, every command with --weights NAME.onnx
    does, and `verify` tells a probability.
    """
    people, failures, facts = embed_folder(run, folder)
    words = facts["pictures"]
    found = find_threshold(people.rows, people.person, far=far, words=words, repeats=run.repeats, seed=run.seed)
    first = split_people(people.person, seed=run.seed)
    halves = [people.pick(part) for part in (first, ~first)]
    reliability = check_reliability([(half.rows, half.person) for half in halves])
    report = report_calibration(facts, people, found, reliability=reliability, gallery_size=gallery_size)
    if save is not None:
        keep(run, found, save, keys)
    run.finish(replace(report, failures=tuple(failures)))


def keep(run: Run, found: CalibrationResult, target: str, keys: Keys) -> None:
    """Save the thresholds in a copy of the weights or in a gallery."""
    if target.endswith(".onnx"):
        weights, copy = click.get_current_context().params["weights"], Path(target)
        save_calibrated_weights(weights, copy, found.thresholds, found.curve)
        click.echo(f"saved: {copy} and {copy.with_suffix('.toml').name}", err=True)
        return
    with Gallery.open(target, run.recognizer, create=False, keys=keys) as gallery:
        gallery.keep_thresholds(found.thresholds)
    click.echo(f"saved: {gallery.path} now has thresholds of its own", err=True)
