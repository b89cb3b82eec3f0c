"""Turn a checkpoint into weights for all other commands: an ONNX file and its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
import torch

from sameface.arrays import Crops, Embeddings
from sameface.atomic import replace_file
from sameface.embed import unit_rows
from sameface.evaluation.roc import Roc, allowed_accepts, operate_at_far
from sameface.manifest import CropRule
from sameface.model import open_session
from sameface.training.augment import resize
from sameface.training.checkpoint import TrainedNetwork
from sameface.training.dataset import PictureSet, read_batches
from sameface.training.errors import ExportError
from sameface.training.loader import to_planes
from sameface.training.networks.build import InputSpec, build_network, make_input_spec, start_weights
from sameface.training.onnx_export import quantize, store_float16, to_bytes, write_network
from sameface.training.prepare import scale_rule
from sameface.training.sampler import Numbers
from sameface.training.validate import FAR, embed_pictures, roc_of, val_at_far

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
FEWEST = 29  # pairs behind a rate: the "rule of 30" of biometric testing (ISO/IEC 19795-1)
TOLERANCE = 1e-4
CHECKED = 64  # crops on which the exported file is compared with torch
CALIBRATED = 128  # crops that give the ranges of int8
BATCH = 16

Store = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Facts that only the user knows: the licence, and the training data in words."""

    licence: str
    training_data: str

    def __post_init__(self) -> None:
        if not self.licence.strip() or not self.training_data.strip():
            raise ValueError("licence and training_data must be said in words")


def blend(trained: TrainedNetwork, part: float) -> TrainedNetwork:
    """Interpolate between the weights that a run started with and those it reached (Wortsman et al., 2022).

    Raises:
        ExportError: The run started at random, or with a part of a larger network.
        ValueError: `part` is not over 0 and up to 1.
    """
    if not 0 < part <= 1:
        raise ValueError(f"blend must be over 0 and up to 1, got {part:g}")
    config = trained.config
    if part == 1:
        return trained
    if not start_weights(config):
        raise ExportError(trained.name, f"{config.network} began with nothing worth keeping: leave out --blend")
    network = build_network(config)
    begun, ended = network.state_dict(), trained.network.state_dict()
    network.load_state_dict({name: torch.lerp(begun[name], ended[name], part) for name in begun})
    return replace(trained, network=network.eval())


def export_weights(
    trained: TrainedNetwork, target: Path, held_out: PictureSet, *, terms: Terms, store: Store = "float32"
) -> Iterator[str]:
    """Write the `.onnx` file `target` and, last, the `.toml` beside it; yield the measurements in words.

    The thresholds come from `held_out`, crops of people that the network has not seen. `float16` halves the bytes,
    and `int8` computes in 8 bits.

    Raises:
        ExportError: ONNX Runtime and torch differ, the crops have no rule, or they are too few to calibrate on.
            Nothing is written.
    """
    if held_out.rule is None:
        raise ExportError(str(target), "the crops come without crops.toml: cut them with `sameface prepare`")
    spec = make_input_spec(trained.config, held_out.rule)
    crops, owner = read_crops(held_out, spec)
    model = write_network(trained.network)
    data = to_bytes(model)
    rows = embed(data, crops, spec)
    checked = replace(held_out, owner=held_out.owner[:CHECKED], files=held_out.files[:CHECKED])
    wanted, _ = embed_pictures(trained.network, checked, spec)
    difference = float(np.abs(rows[: len(wanted)] - wanted).max(initial=0))
    if difference > TOLERANCE:
        raise ExportError(str(target), f"ONNX Runtime and torch differ by {difference:.1e} in {target.name}")
    yield f"equal to torch within {difference:.1e} on {len(wanted)} crops"
    roc = roc_of(rows, owner)
    if store != "float32":
        planes = planes_of(crops[:CALIBRATED], spec)
        data = to_bytes(store_float16(model)) if store == "float16" else quantize(model, planes.numpy())
        small = embed(data, crops, spec)
        smaller = roc_of(small, owner)
        moved = float(((small - rows) ** 2).sum(axis=1).mean())
        yield (
            f"{store}: embeddings move by {moved:.1e} (mean squared distance), VAL at FAR {FAR:g} "
            f"from {val_at_far(roc):.2%} to {val_at_far(smaller):.2%}"
        )
        roc = smaller
    table = make_manifest(trained, target, data, spec, rule=held_out.rule, terms=terms)
    table["thresholds"] = calibrate(roc, target, len(crops), len(held_out.people))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(target) as part:
        part.write_bytes(data)
    with replace_file(target.with_suffix(".toml")) as part:
        part.write_text(tomli_w.dumps(table), "utf-8")
    yield f"written: {target} ({len(data):,} bytes), VAL {val_at_far(roc):.1%} at FAR {FAR:g} held out"


def read_crops(pictures: PictureSet, spec: InputSpec) -> tuple[Crops, Numbers]:
    """Return the readable crops as the network sees them, and the person on each."""
    crops, numbers = [np.zeros((0, spec.size, spec.size, 3), np.uint8)], list[int]()
    for batch, places in read_batches(pictures, range(len(pictures)), BATCH):
        crops.append(np.stack([resize(crop, spec.size, spec.view) for crop in batch]))
        numbers += places
    return np.concatenate(crops), pictures.owner[numbers]


def planes_of(crops: Crops, spec: InputSpec) -> torch.Tensor:
    """Return the network's input `(n, 3, size, size) float32` of crops that have its size."""
    return to_planes(torch.from_numpy(crops), spec.mean, spec.scale, torch.device("cpu")).contiguous()


def embed(data: bytes, crops: Crops, spec: InputSpec) -> Embeddings:
    """Return the rows of an ONNX file, averaged with those of the mirror images as `Embedder` does."""
    session = open_session(data, "the exported network", None)
    rows = []
    for start in range(0, len(crops), BATCH):
        planes = planes_of(crops[start : start + BATCH], spec)
        both = [session.run(None, {"crops": each.numpy()})[0] for each in (planes, planes.flip(-1))]
        rows.append(np.add(*both))
    return unit_rows(np.concatenate(rows)) if rows else np.zeros((0, 1), np.float32)


def calibrate(roc: Roc, target: Path, pictures: int, people: int) -> dict[str, object]:
    """Return the thresholds as the manifest stores them."""
    rows = []
    for rate in RATES:
        if allowed_accepts(rate, roc.impostors) >= FEWEST:
            found = operate_at_far(roc, rate, fewest=FEWEST)
            # Rounded down: rounded up, it would accept more pairs than the rate allows.
            distance = float(np.floor(found.threshold * 1e5) / 1e5)
            rows.append({"far": rate, "distance": distance, "pairs": found.accepted})
    if not rows:
        raise ExportError(str(target), f"{roc.impostors} pairs of different people are too few to calibrate on")
    source = f"{pictures:,} crops of {people:,} people held out of the training"
    return {"calibrated_on": source, "impostor_pairs": roc.impostors, "rows": rows}


def make_manifest(
    trained: TrainedNetwork, target: Path, data: bytes, spec: InputSpec, *, rule: CropRule, terms: Terms
) -> dict[str, Any]:
    """Return the manifest without its thresholds."""
    crop = asdict(scale_rule(rule, spec.size, spec.view))
    del crop["size"]
    if rule.kind == "box":
        del crop["template"], crop["point_weights"]
    return {
        "name": target.stem,
        "sha256": hashlib.sha256(data).hexdigest(),
        "kind": "embedder",
        "licence": terms.licence,
        "training_data": terms.training_data,
        "dimension": trained.config.dimension,
        "input": {"size": spec.size, "mean": list(spec.mean), "scale": spec.scale},
        "crop": crop,
        "source": {"checkpoint": trained.name, "network": trained.config.network, "steps": str(trained.step)},
    }
