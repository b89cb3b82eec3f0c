"""The command that checks an installation: doctor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import time

import click
import numpy as np

import sameface
from sameface.cli.options import recognizer_options
from sameface.model import Model
from sameface.recognizer import Recognizer

PACKAGES = ("numpy", "pillow", "onnxruntime", "fastcluster", "click", "rich", "pillow-heif", "pyarrow")


@click.command()
@recognizer_options
def doctor(*, recognizer: Recognizer) -> None:
    """Check the installation: versions, weights, processors, and how long one face takes."""
    line("sameface", sameface.__version__)
    line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    line("sqlite", sqlite3.sqlite_version)
    for package in PACKAGES:
        line(package, version_of(package))
    line("cores", f"{os.cpu_count()}")
    for model in (recognizer.detector.model, recognizer.embedder.model):
        line(model.manifest.name, describe(model))
    thresholds = recognizer.thresholds
    line(
        "thresholds",
        f"false-accept rates {thresholds.far[0]:g} to {thresholds.far[-1]:g}, from "
        f"{thresholds.impostor_pairs:,} pairs of different people: {thresholds.calibrated_on}",
    )
    line("signature", recognizer.signature)
    line("embedding", f"{1000 * time_embedding(recognizer):.1f} ms per face, one at a time")
    click.echo("all is well")


def line(name: str, text: str) -> None:
    """Print one fact."""
    click.echo(f"{name:<12} {text}")


def version_of(package: str) -> str:
    """Return the version of a package, or that it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (optional)"


def describe(model: Model) -> str:
    """Return what a weights file is and where it runs."""
    facts = model.manifest
    return (
        f"sha-256 {facts.sha256[:12]}… checked, licence {facts.licence}, runs on {', '.join(model.providers)}"
    )


def time_embedding(recognizer: Recognizer, repeats: int = 5) -> float:
    """Return the median seconds of embedding one crop."""
    size = recognizer.embedder.spec.crop.size
    crop = np.full((1, size, size, 3), 128, np.uint8)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        recognizer.embedder.embed(crop)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2]
