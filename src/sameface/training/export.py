"""Turn a checkpoint into weights that the rest of sameface takes: an ONNX file and its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray
from torch import nn

from sameface.arrays import Crops, Embeddings
from sameface.atomic import replace_file
from sameface.embed import unit_rows
from sameface.errors import ImageError
from sameface.evaluation.roc import Numbers, Roc, allowed_accepts, operate_at_far
from sameface.manifest import CropRule, Manifest
from sameface.model import Model, open_session
from sameface.training.augment import WHOLE, CropView, resize
from sameface.training.checkpoint import TrainedNetwork
from sameface.training.dataset import PictureSet
from sameface.training.errors import ExportError
from sameface.training.graph import store_float16, to_bytes, write_network
from sameface.training.loader import to_planes
from sameface.training.networks.build import InputSpec, build_network, make_input_spec, start_weights
from sameface.training.quantize import quantize
from sameface.training.validate import FAR, roc_of, val_at_far

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
FEWEST = 29  # pairs behind a rate: the "rule of 30" of biometric testing (ISO/IEC 19795-1)
TOLERANCE = 1e-4
CHECKED = 64  # crops on which the exported file is compared with torch
CALIBRATED = 128  # crops that show the ranges of int8
BATCH = 16

Store = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What only the person who exports can say: the licence, and what the training data was, in words."""

    licence: str
    training_data: str

    def __post_init__(self) -> None:
        if not self.licence.strip() or not self.training_data.strip():
            raise ValueError("licence and training_data must be said in words")


def blend(trained: TrainedNetwork, part: float) -> TrainedNetwork:
    """Return a network a part of the way from the weights that its run began with to those it came to.

    Such a mean forgets less of what the first ones knew, and is often better at both (Wortsman et al., 2022).

    Raises:
        ExportError: The run began from nothing, or with a part of a larger network.
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
    """Write the `.onnx` file and, last, the `.toml` beside it; yield what was measured, in words.

    Args:
        trained: From `load_trained`.
        target: A path that ends in `.onnx`.
        held_out: Crops of people that the network has not seen; the thresholds come from them.
        terms: Licence and training data.
        store: `float32`; `float16`, half the bytes; or `int8`, which computes in 8 bits.

    Raises:
        ExportError: ONNX Runtime's answers differ from torch's, the crops do not say how they were cut, or
            they are too few to calibrate on. Nothing is written.
    """
    if held_out.rule is None:
        raise ExportError(str(target), "the crops come without crops.toml: cut them with `sameface prepare`")
    spec = make_input_spec(trained.config, held_out.rule)
    crops, owner = read_crops(held_out, spec)
    model = write_network(trained.network)
    data = to_bytes(model)
    plain = manifest_of(target, data, spec, terms)
    rows = embed(plain, data, crops)
    difference = compare(trained.network, rows, crops, spec)
    if difference > TOLERANCE:
        raise ExportError(str(target), f"ONNX Runtime and torch differ by {difference:.1e} in {target.name}")
    yield f"equal to torch within {difference:.1e} on {min(len(crops), CHECKED)} crops"
    roc = roc_of(rows, owner)
    if store != "float32":
        planes = to_planes(torch.from_numpy(crops[:CALIBRATED]), spec.mean, spec.scale, torch.device("cpu"))
        data = to_bytes(store_float16(model)) if store == "float16" else quantize(model, planes.numpy())
        small = embed(manifest_of(target, data, spec, terms), data, crops)
        smaller = roc_of(small, owner)
        moved = float(((small - rows) ** 2).sum(axis=1).mean())
        yield (
            f"{store}: embeddings move by {moved:.1e} (mean squared distance), VAL at FAR {FAR:g} "
            f"from {val_at_far(roc):.2%} to {val_at_far(smaller):.2%}"
        )
        roc = smaller
    table = manifest_table(trained, target, data, held_out, terms=terms)
    table["thresholds"] = calibrate(roc, target, len(crops), len(held_out.people))
    write(target, data, table)
    yield f"written: {target} ({len(data):,} bytes), VAL {val_at_far(roc):.1%} at FAR {FAR:g} held out"


def read_crops(pictures: PictureSet, spec: InputSpec) -> tuple[Crops, Numbers]:
    """Return the crops that can be read, as the network sees them, and whose they are."""
    crops, owner = [], []
    for place, person in zip(pictures.files, pictures.owner, strict=True):
        try:
            crops.append(resize(place.read(), spec.size, spec.view))
        except ImageError:
            continue
        owner.append(person)
    empty = np.zeros((0, spec.size, spec.size, 3), np.uint8)
    return np.stack(crops) if crops else empty, np.array(owner, np.int64)


def manifest_of(target: Path, data: bytes, spec: InputSpec, terms: Terms) -> Manifest:
    """Return the manifest as far as it can be said before the thresholds are known."""
    return Manifest(
        name=target.stem,
        sha256=hashlib.sha256(data).hexdigest(),
        licence=terms.licence,
        training_data=terms.training_data,
        source={},
        mean=spec.mean,
        scale=spec.scale,
        embedding=None,
        detection=None,
    )


def embed(manifest: Manifest, data: bytes, crops: Crops) -> Embeddings:
    """Return the rows that the exported file gives, mirror image averaged in as `Embedder` does."""
    model = Model(manifest, open_session(data, manifest.name, None))
    rows = []
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        rows.append(np.add(model.run(part)[0], model.run(part[:, :, ::-1])[0]))
    return unit_rows(np.concatenate(rows)) if rows else np.zeros((0, 1), np.float32)


def compare(network: nn.Module, rows: Embeddings, crops: Crops, spec: InputSpec) -> float:
    """Return the largest difference between the file's rows and torch's."""
    planes = to_planes(torch.from_numpy(crops[:CHECKED]), spec.mean, spec.scale, torch.device("cpu"))
    with torch.no_grad():
        both = network(planes) + network(planes.flip(-1))
    theirs: NDArray[np.float32] = unit_rows(both.numpy())
    return float(np.abs(rows[:CHECKED] - theirs).max(initial=0))


def calibrate(roc: Roc, target: Path, pictures: int, people: int) -> dict[str, object]:
    """Return the thresholds as the manifest holds them."""
    rows = []
    for rate in RATES:
        if allowed_accepts(rate, roc.impostors) >= FEWEST:
            found = operate_at_far(roc, rate, fewest=FEWEST)
            # Rounded down, or the last pair that the rate allows would let others in with it.
            distance = float(np.floor(found.threshold * 1e5) / 1e5)
            rows.append({"far": rate, "distance": distance, "pairs": found.accepted})
    if not rows:
        raise ExportError(str(target), f"{roc.impostors} pairs of different people are too few to calibrate on")
    told = f"{pictures:,} crops of {people:,} people held out of the training"
    return {"calibrated_on": told, "impostor_pairs": roc.impostors, "rows": rows}


def manifest_table(
    trained: TrainedNetwork, target: Path, data: bytes, held_out: PictureSet, *, terms: Terms
) -> dict[str, object]:
    """Return the manifest without its thresholds."""
    assert held_out.rule is not None
    spec = make_input_spec(trained.config, held_out.rule)
    rule = asdict(scale_rule(held_out.rule, spec.size, spec.view))
    del rule["size"]
    if rule["kind"] == "box":
        del rule["template"], rule["point_weights"]
    return {
        "name": target.stem,
        "sha256": hashlib.sha256(data).hexdigest(),
        "kind": "embedder",
        "licence": terms.licence,
        "training_data": terms.training_data,
        "dimension": trained.config.dimension,
        "input": {"size": spec.size, "mean": list(spec.mean), "scale": spec.scale},
        "crop": rule,
        "source": {"checkpoint": trained.name, "network": trained.config.network, "steps": str(trained.step)},
    }


def scale_rule(rule: CropRule, size: int, view: CropView = WHOLE) -> CropRule:
    """Return the rule that cuts what a network looks at, at another size."""
    factor = size / rule.size / view.side
    left, top = view.left * rule.size, view.top * rule.size
    points = tuple((round((x - left) * factor, 4), round((y - top) * factor, 4)) for x, y in rule.template)
    margin = (1 + rule.margin) * view.side - 1 if rule.kind == "box" else rule.margin
    return replace(rule, size=size, template=points, margin=margin)


def write(target: Path, data: bytes, table: dict[str, object]) -> None:
    """Write the weights, then the manifest that names their SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(target) as part:
        part.write_bytes(data)
    with replace_file(target.with_suffix(".toml")) as part:
        part.write_text(tomli_w.dumps(table), "utf-8")
