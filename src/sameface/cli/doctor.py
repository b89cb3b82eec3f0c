"""The command that checks an installation: doctor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

import sameface
from sameface.cli.options import json_option, recognizer_options, warn_of_others
from sameface.cli.output import print_json
from sameface.cli.tune import print_timings, record_timings, time_embedders, time_embedding
from sameface.cli.unlock import key_options
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys
from sameface.model import Model
from sameface.recognizer import Recognizer

FIXED_SQLITE = (3, 51, 3)  # the first without the WAL-reset fault
PACKAGES = (
    *("numpy", "pillow", "onnxruntime", "fastcluster", "click", "rich"),
    *("pillow-heif", "pyarrow", "av", "cryptography"),
)


@click.command()
@click.option("--tune", is_flag=True, help="Time every embedder on 1, 2, 4 ... cores; say what is fastest.")
@click.option(
    "--gallery", "gallery_path", callback=warn_of_others, help="Also open a gallery, with the keys that it needs."
)
@key_options
@json_option
@recognizer_options
def doctor(*, recognizer: Recognizer, tune: bool, gallery_path: str | None, keys: Keys, as_json: bool) -> None:
    """Check the installation: versions, weights, processors, and how long one face takes.

    --tune changes nothing: it tells which options to give.
    """
    opened = None if gallery_path is None else look_into(gallery_path, recognizer, keys)
    versions = {package: version_of(package) for package in PACKAGES}
    models = (recognizer.detector.model, recognizer.embedder.model)
    seconds = time_embedding(recognizer.embedder)
    used = recognizer.embedder.model.manifest
    timings = list(time_embedders()) if tune else []
    if as_json:
        found = record_timings(timings, used) if tune else {}
        print_json(record_of(recognizer, models, versions, seconds) | {"gallery": opened} | found)
        return
    line("sameface", sameface.__version__)
    line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    line("sqlite", sqlite3.sqlite_version)
    if (warning := warn_of_sqlite(sqlite3.sqlite_version_info)) is not None:
        line("", warning)
    for package, version in versions.items():
        line(package, "not installed (optional)" if version is None else version)
    line("cores", f"{os.cpu_count()}")
    for model in models:
        line(model.manifest.name, describe(model))
    thresholds = recognizer.thresholds
    line(
        "thresholds",
        f"false-accept rates {thresholds.far[0]:g} to {thresholds.far[-1]:g}, from "
        f"{thresholds.impostor_pairs:,} pairs of different people: {thresholds.calibrated_on}",
    )
    line("signature", recognizer.signature)
    line("embedding", f"{1000 * seconds:.1f} ms per face, one at a time")
    if opened is not None:
        line("gallery", "{path}: {people} people, {faces} faces, {encryption}".format(**opened))
    click.echo("all is well")
    if tune:
        print_timings(timings, used)


def warn_of_sqlite(version: tuple[int, ...]) -> str | None:
    """Return what is wrong with a version of SQLite for galleries, or None.

    Before 3.51.3 a write-ahead log that one program resets while another writes may damage the file.
    """
    if version >= FIXED_SQLITE:
        return None
    fixed = ".".join(map(str, FIXED_SQLITE))
    return (
        f"WARNING: before {fixed} SQLite can damage a gallery that two programs write at once (its WAL-reset "
        "fault). Take a Python with a later SQLite, or let one program at a time write; keep backups: "
        "sameface gallery backup"
    )


def record_of(
    recognizer: Recognizer, models: Iterable[Model], versions: dict[str, str | None], seconds: float
) -> dict[str, Any]:
    """Return the facts as they are printed in JSON; the version of a package that is not there is null."""
    return {
        "sameface": sameface.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "sqlite_warning": warn_of_sqlite(sqlite3.sqlite_version_info),
        "packages": versions,
        "cores": os.cpu_count(),
        "weights": [
            {
                "name": model.manifest.name,
                "sha256": model.manifest.sha256,
                "licence": model.manifest.licence,
                "providers": list(model.providers),
            }
            for model in models
        ],
        "thresholds": asdict(recognizer.thresholds),
        "signature": recognizer.signature,
        "ms_per_face": round(1000 * seconds, 2),
    }


def look_into(path: str, recognizer: Recognizer, keys: Keys) -> dict[str, Any]:
    """Open a gallery and return what it is: it opens only with the keys that it needs, and no others."""
    with Gallery.open(path, recognizer, create=False, keys=keys) as gallery:
        people, faces = gallery.count()
    return {
        "path": path,
        "people": people,
        "faces": faces,
        "encryption": "not encrypted" if keys.encryption is None else "encrypted with AES-256-GCM",
    }


def line(name: str, text: str) -> None:
    """Print one fact."""
    click.echo(f"{name:<12} {text}")


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(model: Model) -> str:
    """Return what a weights file is and where it runs."""
    facts = model.manifest
    return f"sha-256 {facts.sha256[:12]}… checked, licence {facts.licence}, runs on {', '.join(model.providers)}"
