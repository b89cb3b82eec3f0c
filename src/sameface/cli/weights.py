"""The embedders: a list, a network of one's own added, one of the catalogue fetched and added."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from sameface.cli.adopt import calibrated, check_free, check_samples, complete_draft, keep_weights, open_tested
from sameface.cli.catalogue import (
    build_network,
    check_downloadable,
    describe,
    download_files,
    find_entry,
    read_files,
    remove_parts,
)
from sameface.cli.demo import samples_folder
from sameface.cli.folders import embed_folder
from sameface.cli.measure import Run, finish_skipped
from sameface.cli.openvino import import_onnx
from sameface.cli.options import json_option
from sameface.cli.output import finish, print_json, print_table
from sameface.cli.tune import time_embedding
from sameface.detect import Detector
from sameface.embed import BATCH, Embedder
from sameface.errors import WeightsError
from sameface.evaluation.calibration import CalibrationResult
from sameface.evaluation.calibration import calibrate as find_threshold
from sameface.manifest import Manifest, read_manifest, read_table
from sameface.model import Model, list_added, list_weights, weights_folder
from sameface.recognizer import Recognizer

COLUMNS = ("name", "numbers", "input", "MB", "ms per face", "smallest FAR", "licence", "provenance")


people_option = click.option(
    "--people",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Calibrate the thresholds on this folder, which holds a folder per person.",
)
calibrated_far_option = click.option(
    "--far",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-3,
    show_default=True,
    help="The false-accept rate that --people must support at least.",
)
replace_option = click.option(
    "--replace", is_flag=True, help="Take the place of weights that were added under this name."
)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def weights(ctx: click.Context, *, as_json: bool) -> None:
    """List the embedders that --weights takes by name: those that ship, then those that were added.

    Milliseconds per face are measured now, 16 crops at a time, without their mirror images.
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("--json belongs to the list alone")
        return
    records, failures = read_records()
    if as_json:
        for record in records:
            print_json(record)
    else:
        print_records(records)
    finish(failures)


def read_records() -> tuple[list[dict[str, Any]], list[str]]:
    """Return the facts of every embedder that can be opened, and why the others cannot."""
    records, failures = [], []
    added = list_added()
    for name, path in list_weights().items():
        try:
            if read_manifest(path.with_suffix(".toml")).embedding is not None:
                records.append(record_of(path) | {"name": name, "added": path == added.get(name)})
        except WeightsError as error:
            failures.append(str(error))
    return records, failures


def record_of(path: Path) -> dict[str, Any]:
    """Return the facts of an embedder as they are printed in JSON."""
    embedder = Embedder(Model.load(path), flip=False)
    facts, spec = embedder.model.manifest, embedder.spec
    return {
        "name": facts.name,
        "added": False,
        "dimension": spec.dimension,
        "size": spec.crop.size,
        "bytes": path.stat().st_size,
        "ms_per_face": round(1000 * time_embedding(embedder, batch=BATCH, repeats=3), 2),
        "licence": facts.licence,
        "provenance": facts.provenance,
        "training_data": facts.training_data,
        "source": dict(facts.source),
        "accuracy": dict(facts.accuracy),
        "smallest_far": spec.thresholds.far[-1],
        "impostor_pairs": spec.thresholds.impostor_pairs,
        "calibrated_on": spec.thresholds.calibrated_on,
        "path": str(path),
    }


def print_records(records: Iterable[dict[str, Any]]) -> None:
    """Print a table of what is short, and below it what takes words."""
    rows = [
        (
            record["name"],
            record["dimension"],
            f"{record['size']} x {record['size']}",
            f"{record['bytes'] / 1e6:.1f}",
            f"{record['ms_per_face']:.1f}",
            f"{record['smallest_far']:g}",
            record["licence"],
            record["provenance"],
        )
        for record in records
    ]
    print_table(COLUMNS, rows)
    for record in records:
        place = f"added, {record['path']}" if record["added"] else "ships with sameface"
        click.echo(f"{record['name']}: {place}")
        if record["accuracy"]:
            reached = [f"{measure} {100 * part:.1f} %" for measure, part in record["accuracy"].items()]
            click.echo(f"  reaches: {', '.join(reached)}")
        click.echo(f"  trained on: {record['training_data']}")
        click.echo(f"  calibrated on: {record['calibrated_on']}, {record['impostor_pairs']:,} impostor pairs")
        source = [text for key, text in record["source"].items() if not key.endswith("sha256")]
        click.echo(f"  from: {', '.join(source)}")


@weights.command()
@click.argument("network", metavar="FILE.onnx", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--manifest",
    "draft",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What is known of the network, as docs/model.md tells; sha256 and [thresholds] may be left out.",
)
@people_option
@calibrated_far_option
@replace_option
def add(*, network: Path, draft: Path, people: Path | None, far: float, replace: bool) -> None:
    """Add a network of one's own, so that every command takes it as --weights NAME.

    The manifest is checked and the network tested first, on noise and on the sample photographs. It is
    copied to $SAMEFACE_WEIGHTS_FOLDER, or else to ~/.local/share/sameface/weights.
    """
    data = network.read_bytes()
    table, manifest = complete_draft(read_table(draft), draft, data, calibrate=people is not None)
    check_free(manifest.name, weights_folder(), replace=replace)
    finish_skipped(add_network(data, table, manifest, people, far))


def add_network(data: bytes, table: dict[str, Any], manifest: Manifest, people: Path | None, far: float) -> list[str]:
    """Test a network, calibrate it on people if there are any, and keep it; return what was skipped."""
    embedder = open_tested(data, manifest)
    click.echo(f"network: rows of {embedder.spec.dimension} numbers, the same alone and in a batch", err=True)
    recognizer = Recognizer(Detector(Model.load("centerface")), embedder)
    farthest, nearest = check_samples(recognizer, samples_folder())
    click.echo(f"samples: one person up to {farthest:.3f}, different people from {nearest:.3f}", err=True)
    failures: list[str] = []
    if people is not None:
        found, failures = calibrate(recognizer, people, far)
        table = calibrated(table, found.thresholds, found.curve)
        click.echo(f"thresholds: down to {found.thresholds.far[-1]:g}", err=True)
    kept = keep_weights(data, table, weights_folder())
    click.echo(f"added: --weights {manifest.name} ({kept})")
    return failures


@weights.command()
@click.argument("name")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take this file instead of a download; an .xml and its .bin are given one after the other.",
)
@people_option
@calibrated_far_option
@replace_option
@click.option("--yes", is_flag=True, help="Do not ask before the download.")
def get(*, name: str, files: tuple[Path, ...], people: Path | None, far: float, replace: bool, yes: bool) -> None:
    """Add a network of the catalogue: downloaded from its publisher, or taken from files.

    Licence, size and source are shown first. An interrupted download resumes. A file of another SHA-256
    than the catalogue's is refused. Nothing is downloaded by any other command.
    """
    entry = find_entry(name)
    click.echo(describe(entry), err=True)
    if not entry.files:
        raise WeightsError(name, "it has no files to get: build it as told above")
    folder = weights_folder()
    check_free(name, folder, replace=replace)
    if any(file.name.endswith(".xml") for file in entry.files):
        import_onnx()  # a missing package is told before the download
    if not files:
        check_downloadable(entry)
        if not yes:
            click.confirm(f"Download {entry.size:,} bytes?", abort=True, err=True)
    contents = read_files(entry, files) if files else download_files(entry, folder)
    data = build_network(entry, contents)
    place = Path(f"{name}.toml")
    table, manifest = complete_draft(entry.manifest(), place, data, calibrate=people is not None)
    failures = add_network(data, table, manifest, people, far)
    remove_parts(entry, folder)
    finish_skipped(failures)


def calibrate(recognizer: Recognizer, folder: Path, far: float) -> tuple[CalibrationResult, list[str]]:
    """Return what the people of a folder say of the distances, and which pictures could not be used."""
    with tempfile.TemporaryDirectory() as place:
        run = Run(
            recognizer=recognizer,
            cache=str(Path(place, "cache.db")),
            policy="central",
            report_path=None,
            show_faces=False,
            compare=None,
            as_json=False,
            seed=0,
            repeats=2,
        )
        people, failures, facts = embed_folder(run, folder)
    words = facts["pictures"]
    return find_threshold(people.rows, people.person, far=far, words=words, repeats=2), failures
