"""Write a weights file and the manifest beside it. Everything known of the shipped weights stands here."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "sameface" / "weights"

RESNET29 = {
    "kind": "embedder",
    "licence": "CC0-1.0",
    "training_data": (
        "about 3 million photographs of 7,485 people (FaceScrub, VGG and pictures from the web), "
        "metric learning with a pairwise hinge, as stated by dlib's author"
    ),
    "dimension": 128,
    "input": {"size": 150, "mean": [122.782, 117.001, 104.298], "scale": 1 / 256},
    "crop": {
        "kind": "similarity",
        # Where CenterFace's five points lie in dlib's own chips (means over 300 photographs).
        "template": [[47.1, 47.0], [103.1, 45.8], [74.2, 79.2], [51.3, 105.2], [98.3, 104.1]],
        "point_weights": [1.0, 1.0, 1.0, 1.0, 1.0],
    },
}

MOBILEFACENET = {
    "kind": "embedder",
    "licence": "MIT",
    "training_data": (
        "not stated, nor is the author: the package says MIT and no more. Likely, not proven: the "
        "MobileFaceNet of TreB1eN/InsightFace_Pytorch (MIT), trained on refined MS-Celeb-1M, whose "
        "architecture, 512 numbers, normalisation and accuracy fit"
    ),
    "dimension": 128,
    "input": {"size": 112, "mean": [127.5, 127.5, 127.5], "scale": 1 / 128},
    "crop": {
        "kind": "similarity",
        # ArcFace's five points.
        "template": [
            [38.2946, 51.6963],
            [73.5318, 51.5014],
            [56.0252, 71.7366],
            [41.5493, 92.3655],
            [70.7299, 92.2041],
        ],
        "point_weights": [1.0, 1.0, 1.0, 1.0, 1.0],
    },
}

FACTS: dict[str, dict[str, Any]] = {
    "mobilefacenet": MOBILEFACENET,
    "resnet29": RESNET29,
    "resnet29-int8": RESNET29,
    "centerface": {
        "kind": "detector",
        "licence": "MIT",
        "training_data": "WIDER FACE (CenterFace, Xu et al. 2019)",
        "input": {"mean": [0.0, 0.0, 0.0], "scale": 1.0},
        "detection": {"score": 0.5, "overlap": 0.3},
    },
}


def write_weights(name: str, data: bytes, source: dict[str, str]) -> None:
    """Write `data` as the weights `name`, then the manifest that names its SHA-256.

    The tables of thresholds and chances of an embedder come from `<name>-thresholds.toml`, which
    `calibrate.py` writes, and what it reaches from `<name>-accuracy.toml`, the figures that
    `benchmarks/family.py` or `benchmarks/identification.py` printed.
    """
    manifest = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), **FACTS[name], "source": source}
    thresholds, accuracy = (HERE / f"{name}-{table}.toml" for table in ("thresholds", "accuracy"))
    if thresholds.exists():
        manifest |= tomllib.loads(thresholds.read_text("utf-8"))
    if accuracy.exists():
        manifest["accuracy"] = tomllib.loads(accuracy.read_text("utf-8"))
    (WEIGHTS / f"{name}.onnx").write_bytes(data)
    (WEIGHTS / f"{name}.toml").write_text(tomli_w.dumps(manifest), "utf-8")
    print(f"{name}: {len(data):,} bytes, sha-256 {manifest['sha256']}")
