"""The command that checks an installation and its speed: doctor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np

import sameface
from sameface.cli.gallery_options import key_options, warn_of_others
from sameface.cli.options import json_option, recognizer_options
from sameface.cli.output import print_json, print_table
from sameface.embed import BATCH, Embedder
from sameface.errors import WeightsError
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys
from sameface.manifest import Manifest, read_manifest
from sameface.model import Model, list_weights
from sameface.recognizer import Recognizer

FIXED_SQLITE = (3, 51, 3)  # the first without the WAL-reset fault
PACKAGES = (
    *("numpy", "pillow", "onnxruntime", "fastcluster", "click", "rich"),
    *("pillow-heif", "pyarrow", "av", "cryptography"),
)


@click.command()
@click.option("--tune", is_flag=True, help="Time every embedder on 1, 2, 4 ... cores; print the fastest.")
@click.option("--gallery", "gallery_path", callback=warn_of_others, help="Also open a gallery, with its key.")
@key_options
@json_option
@recognizer_options
def doctor(*, recognizer: Recognizer, tune: bool, gallery_path: str | None, keys: Keys, as_json: bool) -> None:
    """Check the installation: versions, weights, processors, and how long one face takes.

    --tune changes nothing: it prints the fastest options.
    """
    gallery = None if gallery_path is None else gallery_record(gallery_path, recognizer, keys)
    record = installation_record(recognizer) | {"gallery": gallery}
    timings = list(time_embedders()) if tune else []
    used = recognizer.embedder.model.manifest
    if as_json:
        if tune:
            fastest = {use: asdict(each) for use, each in pick_fastest(timings, used).items()}
            record |= {"timings": [asdict(each) for each in timings], "fastest": fastest}
        print_json(record)
        return
    print_facts(record, recognizer)
    click.echo("all is well")
    if tune:
        print_timings(timings, used)


def installation_record(recognizer: Recognizer) -> dict[str, Any]:
    """Return the facts of the installation for JSON; the version of a missing package is null."""
    models = (recognizer.detector.model, recognizer.embedder.model)
    return {
        "sameface": sameface.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "sqlite_warning": warn_of_sqlite(sqlite3.sqlite_version_info),
        "packages": {package: version_of(package) for package in PACKAGES},
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
        "ms_per_face": round(1000 * time_embedding(recognizer.embedder), 2),
    }


def print_facts(record: dict[str, Any], recognizer: Recognizer) -> None:
    lines = [
        ("sameface", record["sameface"]),
        ("python", f"{record['python']} on {record['system']}"),
        ("sqlite", record["sqlite"]),
    ]
    if record["sqlite_warning"] is not None:
        lines.append(("", record["sqlite_warning"]))
    lines += [(package, version or "not installed (optional)") for package, version in record["packages"].items()]
    lines.append(("cores", record["cores"]))
    for weights in record["weights"]:
        where = f"licence {weights['licence']}, runs on {', '.join(weights['providers'])}"
        lines.append((weights["name"], f"sha-256 {weights['sha256'][:12]}… checked, {where}"))
    known = recognizer.thresholds
    rates = f"false-accept rates {known.far[0]:g} to {known.far[-1]:g}"
    pairs = f"{known.impostor_pairs:,} pairs of different people: {known.calibrated_on}"
    lines.append(("thresholds", f"{rates}, from {pairs}"))
    lines.append(("signature", record["signature"]))
    lines.append(("embedding", f"{record['ms_per_face']:.1f} ms per face, one at a time"))
    if record["gallery"] is not None:
        lines.append(("gallery", "{path}: {people} people, {faces} faces, {encryption}".format(**record["gallery"])))
    for name, text in lines:
        click.echo(f"{name:<12} {text}")


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


def gallery_record(path: str, recognizer: Recognizer, keys: Keys) -> dict[str, Any]:
    with Gallery.open(path, recognizer, create=False, keys=keys) as gallery:
        people, faces = gallery.count()
    encryption = "not encrypted" if keys.encryption is None else "encrypted with AES-256-GCM"
    return {"path": path, "people": people, "faces": faces, "encryption": encryption}


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class EmbedderTiming:
    """The time that one face takes, without the mirror image."""

    weights: str
    threads: int
    alone: float  # milliseconds, one face at a time
    batch: float  # milliseconds for each of sixteen together
    licence: str


def time_embedders() -> Iterator[EmbedderTiming]:
    """Time every embedder with a name, on 1, 2, 4 and more cores; report those that cannot be opened."""
    for name, path in list_weights().items():
        try:
            if read_manifest(path.with_suffix(".toml")).embedding is None:
                continue
            for threads in core_counts(os.cpu_count() or 1):
                embedder = Embedder(Model.load(path, threads=threads), flip=False)
                alone, batch = (round(1000 * time_embedding(embedder, batch=size), 2) for size in (1, BATCH))
                yield EmbedderTiming(name, threads, alone, batch, embedder.model.manifest.licence)
        except WeightsError as error:
            click.echo(f"left out: {error}", err=True)


def core_counts(cores: int) -> list[int]:
    """Return 1, 2, 4 and so on, and as the last all cores."""
    counts = [1]
    while 2 * counts[-1] < cores:
        counts.append(2 * counts[-1])
    return counts if cores == 1 else [*counts, cores]


def time_embedding(embedder: Embedder, *, batch: int = 1, repeats: int = 5) -> float:
    """Return the seconds that one crop of a batch takes, the median of `repeats` runs."""
    size = embedder.spec.crop.size
    crops = np.full((batch, size, size, 3), 128, np.uint8)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        embedder.embed(crops)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2] / batch


def pick_fastest(timings: Sequence[EmbedderTiming], used: Manifest) -> dict[str, EmbedderTiming]:
    """Return the fastest for one face and for many, of those under the licence of the weights in use."""
    allowed = [each for each in timings if each.licence == used.licence] or timings
    return {
        "one face at a time": min(allowed, key=lambda each: each.alone),
        "many faces": min(allowed, key=lambda each: each.batch),
    }


def print_timings(timings: Sequence[EmbedderTiming], used: Manifest) -> None:
    rows = [(each.weights, each.threads, f"{each.alone:.2f}", f"{each.batch:.2f}", each.licence) for each in timings]
    print_table(("weights", "cores", "ms alone", "ms in batches", "licence"), rows)
    fastest = pick_fastest(timings, used)
    for use, each in fastest.items():
        click.echo(f"fastest for {use}: --weights {each.weights} --threads {each.threads}")
    for name in sorted({each.weights for each in fastest.values()} - {used.name}):
        click.echo(
            f"rows of {name} and of {used.name} are never compared with each other: a gallery made with "
            f"{used.name} stays with it until 'sameface gallery upgrade' moves it"
        )
