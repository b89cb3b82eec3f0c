"""A network from elsewhere: its manifest completed, the network put to the test, both kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameface.atomic import replace_file
from sameface.compare import squared_distances
from sameface.embed import Embedder, unit_rows
from sameface.errors import WeightsError
from sameface.image import find_pictures
from sameface.manifest import Manifest, ProbabilityCurve, check_manifest, read_manifest
from sameface.model import Model, list_shipped, open_session
from sameface.recognizer import Recognizer
from sameface.runtime import onnxruntime
from sameface.thresholds import Thresholds
from sameface.training.toml import to_toml

ENTRIES = {
    *("name", "sha256", "kind", "licence", "training_data", "dimension"),
    *("input", "crop", "source", "thresholds", "probability", "accuracy"),
}
WORDS = ("name", "licence", "training_data")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FARTHEST = 0.01  # L2, between the unit rows of one crop alone and in a batch

# Stands where the thresholds will be until the people are measured; it is never written.
UNCALIBRATED = {"calibrated_on": "", "impostor_pairs": 1, "rows": [{"far": 0.5, "distance": 4.0, "pairs": 1}]}


def complete_draft(
    draft: dict[str, Any], path: Path, data: bytes, *, calibrate: bool
) -> tuple[dict[str, Any], Manifest]:
    """Complete a manifest that may lack the SHA-256, and the thresholds if they are to be calibrated.

    Args:
        draft: The tables of the manifest.
        path: Where they are from, for messages.
        data: The weights file.
        calibrate: Thresholds will be measured; those that the manifest may have are left out.

    Returns:
        The tables, completed, and what they say.

    Raises:
        WeightsError: An entry is missing, unknown, empty or not of this network.
    """
    table = {"sha256": hashlib.sha256(data).hexdigest()} | draft
    if calibrate:
        table["thresholds"] = UNCALIBRATED
        table.pop("probability", None)
    elif "thresholds" not in table:
        reason = f"the manifest {str(path)!r} has no thresholds: give people to calibrate on with --people"
        raise WeightsError(path.stem, reason)
    manifest = check_manifest(table, path)
    check_entries(table, path)
    check_hash(manifest, data)
    return table, manifest


def check_entries(table: dict[str, Any], path: Path) -> None:
    """See that the manifest is an embedder's, and that nothing in it is empty or unknown."""
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


def check_hash(manifest: Manifest, data: bytes) -> None:
    """See that the manifest describes this file."""
    found = hashlib.sha256(data).hexdigest()
    if manifest.sha256 != found:
        reason = (
            f"the manifest is of another file (sha-256 {manifest.sha256[:12]}…, this one has {found[:12]}…): "
            "correct the entry, or leave it out to have it filled in"
        )
        raise WeightsError(manifest.name, reason)


def check_free(name: str, folder: Path, *, replace: bool) -> None:
    """See that the name may be used for new weights."""
    if name in list_shipped():
        raise WeightsError(name, "weights of this name ship with sameface: choose another name")
    if (folder / f"{name}.toml").exists() and not replace:
        raise WeightsError(name, "there are weights of this name: choose another name, or give --replace")


def open_tested(data: bytes, manifest: Manifest) -> Embedder:
    """Open a network and see that it gives what its manifest says.

    Raises:
        WeightsError: It cannot be opened or run, takes or gives another shape, or its answer for a crop
            depends on the others of the batch.
    """
    session = open_session(data, manifest.name, None)
    check_form(session, manifest)
    embedder = Embedder(Model(manifest, session))
    size = embedder.spec.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    one, three = (run_batch(embedder, crops[:number]) for number in (1, 3))
    apart = float(np.linalg.norm(unit_rows(one)[0] - unit_rows(three)[0]))
    if apart > FARTHEST:
        reason = f"a crop alone and in a batch of 3 gives rows that are {apart:.3g} apart, wanted {FARTHEST}"
        raise WeightsError(manifest.name, reason)
    return embedder


def check_form(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    """See that the network has one input for any number of crops, and one output."""
    assert manifest.embedding is not None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        reason = f"it has {len(inputs)} inputs and {len(outputs)} outputs, wanted one of each"
        raise WeightsError(manifest.name, reason)
    size, shape = manifest.embedding.crop.size, list(inputs[0].shape)
    wanted = [None, 3, size, size]
    fits = len(shape) == 4 and all(
        not isinstance(given, int) or given == length for given, length in zip(shape, wanted, strict=True)
    )
    if not fits or inputs[0].type != "tensor(float)":
        reason = (
            f"it takes {inputs[0].type} {shape}, wanted tensor(float) ['n', 3, {size}, {size}]: "
            "export it with a free number of pictures, the channels first"
        )
        raise WeightsError(manifest.name, reason)


def run_batch(embedder: Embedder, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the network's own rows of a batch, none of them zero."""
    rows = embedder.run_network(crops)
    if not rows.any(axis=1).all():
        raise WeightsError(embedder.model.manifest.name, "it gives rows that are all zero")
    return rows


def check_samples(recognizer: Recognizer, folder: Path) -> tuple[float, float]:
    """See that the network tells the people of the sample photographs apart.

    Args:
        recognizer: With the network.
        folder: Holds the photographs; the name without the number at its end is the person.

    Returns:
        The largest distance of two photographs of one person, the smallest of two of different people.

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
        reason = (
            f"of the sample photographs two of one person are {farthest:.3f} apart, two of different people "
            f"{nearest:.3f}: mean, scale or crop are not what the network was trained with"
        )
        raise WeightsError(recognizer.embedder.model.manifest.name, reason)
    return farthest, nearest


def calibrated(table: dict[str, Any], thresholds: Thresholds, curve: ProbabilityCurve | None) -> dict[str, Any]:
    """Return the tables of a manifest with a calibration in them."""
    columns: Sequence[tuple[float, float, int]] = list(
        zip(thresholds.far, thresholds.distance, thresholds.pairs, strict=True)
    )
    measured: dict[str, Any] = {
        "thresholds": {
            "calibrated_on": thresholds.calibrated_on,
            "impostor_pairs": thresholds.impostor_pairs,
            "rows": [{"far": far, "distance": distance, "pairs": pairs} for far, distance, pairs in columns],
        }
    }
    if curve is not None:
        measured["probability"] = asdict(curve)
    return table | measured


def keep_weights(data: bytes, table: dict[str, Any], folder: Path) -> Path:
    """Write weights and manifest to a folder, the manifest last, and return the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{table['name']}.onnx"
    with replace_file(target.with_name(f"{table['name']}.toml")) as manifest:
        manifest.write_text(to_toml(table), "utf-8")
        read_manifest(manifest)
        with replace_file(target) as weights:
            weights.write_bytes(data)
    return target
