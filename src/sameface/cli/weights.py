"""Commands on weights: the list of embedders; add a network; get one of the catalogue."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import tomli_w

from sameface.atomic import replace_file
from sameface.cli.catalogue import (
    build_network,
    check_downloadable,
    download_files,
    find_entry,
    format_entry,
    read_files,
    remove_parts,
)
from sameface.cli.demo import samples_folder
from sameface.cli.doctor import time_embedding
from sameface.cli.measure import EvaluationRun, embed_people, finish_skipped
from sameface.cli.openvino import import_onnx
from sameface.cli.options import existing_file, existing_folder, join_options, json_option, rate
from sameface.cli.output import finish, print_json, print_table
from sameface.compare import squared_distances
from sameface.detect import Detector
from sameface.embed import BATCH, Embedder, unit_rows
from sameface.errors import WeightsError
from sameface.evaluation.calibration import calibrate_threshold, calibration_tables
from sameface.manifest import Manifest, check_manifest, read_manifest, read_table
from sameface.model import Model, list_added, list_shipped, list_weights, open_session, weights_folder
from sameface.picture_files import find_pictures
from sameface.recognizer import Recognizer
from sameface.runtime import onnxruntime

ENTRIES = {
    *("name", "sha256", "kind", "licence", "training_data", "dimension"),
    *("input", "crop", "source", "thresholds", "probability", "accuracy"),
}
WORDS = ("name", "licence", "training_data")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LARGEST_GAP = 0.01  # L2, between the unit rows of one crop alone and in a batch

# The thresholds of a manifest until the people are measured; never written.
UNCALIBRATED = {"calibrated_on": "", "impostor_pairs": 1, "rows": [{"far": 0.5, "distance": 4.0, "pairs": 1}]}

adding_options = join_options(
    click.option("--people", type=existing_folder, help="Calibrate on this folder, which holds a folder per person."),
    click.option("--far", type=rate, default=1e-3, help="The false-accept rate that --people must support."),
    click.option("--replace", is_flag=True, help="Replace added weights of this name."),
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
    records, failures = [], []
    added = list_added()
    for name, path in list_weights().items():
        try:
            if read_manifest(path.with_suffix(".toml")).embedding is not None:
                records.append(weights_record(path) | {"name": name, "added": path == added.get(name)})
        except WeightsError as error:
            failures.append(str(error))
    if as_json:
        for record in records:
            print_json(record)
    else:
        print_weights(records)
    finish(failures)


def weights_record(path: Path) -> dict[str, Any]:
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


def print_weights(records: Sequence[dict[str, Any]]) -> None:
    cells = ["{name}", "{dimension}", "{size} x {size}", "{megabytes:.1f}", "{ms_per_face:.1f}", "{smallest_far:g}"]
    cells += ["{licence}", "{provenance}"]
    rows = [[cell.format(**one, megabytes=one["bytes"] / 1e6) for cell in cells] for one in records]
    columns = ("name", "numbers", "input", "MB", "ms per face", "smallest FAR", "licence", "provenance")
    print_table(columns, rows)
    for one in records:
        click.echo(f"{one['name']}: {'added, ' + one['path'] if one['added'] else 'ships with sameface'}")
        if one["accuracy"]:
            reached = [f"{measure} {100 * part:.1f} %" for measure, part in one["accuracy"].items()]
            click.echo(f"  reaches: {', '.join(reached)}")
        click.echo(f"  trained on: {one['training_data']}")
        click.echo(f"  calibrated on: {one['calibrated_on']}, {one['impostor_pairs']:,} impostor pairs")
        source = [text for key, text in one["source"].items() if not key.endswith("sha256")]
        click.echo(f"  from: {', '.join(source)}")


@weights.command()
@click.argument("network", metavar="FILE.onnx", type=existing_file)
@click.option(
    "--manifest",
    "draft",
    required=True,
    type=existing_file,
    help="The manifest (docs/model.md); sha256 and [thresholds] may be missing.",
)
@adding_options
def add(*, network: Path, draft: Path, people: Path | None, far: float, replace: bool) -> None:
    """Add your own network, so that every command takes it as --weights NAME.

    The manifest is checked and the network tested first, on noise and on the sample photographs. It is
    copied to $SAMEFACE_WEIGHTS_FOLDER, or else to ~/.local/share/sameface/weights.
    """
    data = network.read_bytes()
    table, manifest = complete_draft(read_table(draft), draft, data, calibrate=people is not None)
    check_free(manifest.name, replace=replace)
    finish_skipped(add_network(data, table, manifest, people, far))


@weights.command()
@click.argument("name")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=existing_file,
    help="Use this file, or an .xml and its .bin, instead of a download.",
)
@adding_options
@click.option("--yes", is_flag=True, help="Do not ask before the download.")
def get(*, name: str, files: tuple[Path, ...], people: Path | None, far: float, replace: bool, yes: bool) -> None:
    """Add a network of the catalogue: downloaded from its publisher, or taken from files.

    Licence, size and source are shown first. An interrupted download resumes. A file of another SHA-256
    than the catalogue's is refused. No other command downloads anything.
    """
    entry = find_entry(name)
    click.echo(format_entry(entry), err=True)
    if not entry.files:
        raise WeightsError(name, "it has no files to get: build it as told above")
    folder = weights_folder()
    check_free(name, replace=replace)
    if any(file.name.endswith(".xml") for file in entry.files):
        import_onnx()  # reports a missing package before the download
    if not files:
        check_downloadable(entry)
        if not yes:
            click.confirm(f"Download {entry.size:,} bytes?", abort=True, err=True)
    data = build_network(entry, read_files(entry, files) if files else download_files(entry, folder))
    place = Path(f"{name}.toml")
    table, manifest = complete_draft(entry.manifest(), place, data, calibrate=people is not None)
    failures = add_network(data, table, manifest, people, far)
    remove_parts(entry, folder)
    finish_skipped(failures)


def complete_draft(
    draft: dict[str, Any], path: Path, data: bytes, *, calibrate: bool
) -> tuple[dict[str, Any], Manifest]:
    """Return a manifest, read from `path`, with the SHA-256 of the weights file `data`, as tables and as a record.

    The thresholds may be missing if they are to be calibrated; those of the draft are then left out.

    Raises:
        WeightsError: An entry is missing, unknown, empty or not of this network.
    """
    found = hashlib.sha256(data).hexdigest()
    table = {"sha256": found} | draft
    if calibrate:
        table["thresholds"] = UNCALIBRATED
        table.pop("probability", None)
    elif "thresholds" not in table:
        reason = f"the manifest {str(path)!r} has no thresholds: give people to calibrate on with --people"
        raise WeightsError(path.stem, reason)
    manifest = check_manifest(table, path)
    check_entries(table, path)
    if manifest.sha256 != found:
        other = f"the manifest is of another file (sha-256 {manifest.sha256[:12]}…, this one has {found[:12]}…)"
        raise WeightsError(manifest.name, f"{other}: correct the entry, or leave it out to have it filled in")
    return table, manifest


def check_entries(table: dict[str, Any], path: Path) -> None:
    """Refuse a manifest that is not an embedder's, or has an empty or unknown entry."""
    fault = None
    if table["kind"] != "embedder":
        fault = f"kind must be 'embedder', got {table['kind']!r}"
    elif unknown := sorted(table.keys() - ENTRIES):
        fault = f"unknown entries {unknown}"
    elif empty := [word for word in WORDS if not isinstance(table[word], str) or not table[word].strip()]:
        fault = f"{empty[0]} must be words, got {table[empty[0]]!r}"
    elif not NAME.fullmatch(table["name"]) or table["name"].endswith(".onnx"):
        fault = f"name must be letters, digits, '.', '_' and '-', without .onnx, got {table['name']!r}"
    if fault is not None:
        raise WeightsError(path.stem, f"the manifest {str(path)!r} is wrong: {fault}")


def check_free(name: str, *, replace: bool) -> None:
    """Refuse the name of other weights."""
    if name in list_shipped():
        raise WeightsError(name, "weights of this name ship with sameface: choose another name")
    if (weights_folder() / f"{name}.toml").exists() and not replace:
        raise WeightsError(name, "there are weights of this name: choose another name, or give --replace")


def add_network(data: bytes, table: dict[str, Any], manifest: Manifest, people: Path | None, far: float) -> list[str]:
    """Test a network, calibrate it on the people, and save it; return why pictures were skipped."""
    embedder = open_tested(data, manifest)
    click.echo(f"network: rows of {embedder.spec.dimension} numbers, the same alone and in a batch", err=True)
    recognizer = Recognizer(Detector(Model.load("centerface")), embedder)
    farthest, nearest = check_samples(recognizer, samples_folder())
    click.echo(f"samples: one person up to {farthest:.3f}, different people from {nearest:.3f}", err=True)
    failures: list[str] = []
    if people is not None:
        with tempfile.TemporaryDirectory() as place:
            run = EvaluationRun(recognizer=recognizer, cache=str(Path(place, "cache.db")))
            rows, failures, facts = embed_people(run, people)
        found = calibrate_threshold(rows.rows, rows.person, far=far, words=facts["pictures"], repeats=2)
        table = table | calibration_tables(found.thresholds, found.curve)
        click.echo(f"thresholds: down to {found.thresholds.far[-1]:g}", err=True)
    saved = save_weights(data, table, weights_folder())
    click.echo(f"added: --weights {manifest.name} ({saved})")
    return failures


def open_tested(data: bytes, manifest: Manifest) -> Embedder:
    """Open a network and test it against its manifest.

    Raises:
        WeightsError: It cannot be opened or run, takes or gives another shape, or its answer for a crop
            depends on the others of the batch.
    """
    session = open_session(data, manifest.name, None)
    check_shapes(session, manifest)
    embedder = Embedder(Model(manifest, session))
    size = embedder.spec.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    one, three = embedder.run_network(crops[:1]), embedder.run_network(crops)
    if not (one.any(axis=1).all() and three.any(axis=1).all()):
        raise WeightsError(manifest.name, "it gives rows that are all zero")
    apart = float(np.linalg.norm(unit_rows(one)[0] - unit_rows(three)[0]))
    if apart > LARGEST_GAP:
        reason = f"a crop alone and in a batch of 3 gives rows that are {apart:.3g} apart, wanted {LARGEST_GAP}"
        raise WeightsError(manifest.name, reason)
    return embedder


def check_shapes(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    """Refuse a network without one input for any number of crops, and one output."""
    assert manifest.embedding is not None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        given = f"it has {len(inputs)} inputs and {len(outputs)} outputs"
        raise WeightsError(manifest.name, f"{given}, wanted one of each")
    size, shape = manifest.embedding.crop.size, list(inputs[0].shape)
    wanted = [None, 3, size, size]
    fits = len(shape) == 4 and all(
        given == length or not isinstance(given, int) for given, length in zip(shape, wanted, strict=True)
    )
    if not fits or inputs[0].type != "tensor(float)":
        given = f"it takes {inputs[0].type} {shape}, wanted tensor(float) ['n', 3, {size}, {size}]"
        way = "export it with a free number of pictures, the channels first"
        raise WeightsError(manifest.name, f"{given}: {way}")


def check_samples(recognizer: Recognizer, folder: Path) -> tuple[float, float]:
    """Return the largest distance within one person of the sample photographs, and the smallest between two.

    The person is the name of the file without the number at its end.

    Raises:
        WeightsError: The first is not below the second.
    """
    photos = list(find_pictures(folder))
    rows = np.stack([recognizer.embed_face(photo)[1] for photo in photos])
    people = np.array([photo.stem.rstrip("-0123456789") for photo in photos])
    a, b = np.triu_indices(len(people), 1)
    distance, same = squared_distances(rows, rows)[a, b], people[a] == people[b]
    farthest, nearest = float(distance[same].max()), float(distance[~same].min())
    if not farthest < nearest:
        found = f"two of one person are {farthest:.3f} apart, two of different people {nearest:.3f}"
        reason = f"of the sample photographs {found}: mean, scale or crop are not what the network was trained with"
        raise WeightsError(recognizer.embedder.model.manifest.name, reason)
    return farthest, nearest


def save_weights(data: bytes, table: dict[str, Any], folder: Path) -> Path:
    """Write weights and manifest to a folder, the manifest last, and return the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{table['name']}.onnx"
    with replace_file(target.with_name(f"{table['name']}.toml")) as manifest:
        manifest.write_text(tomli_w.dumps(table), "utf-8")
        read_manifest(manifest)
        with replace_file(target) as weights:
            weights.write_bytes(data)
    return target
