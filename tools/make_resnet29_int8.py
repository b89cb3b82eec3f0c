"""Make `resnet29-int8.onnx` and its manifest: `resnet29` with 8-bit weights and 8-bit arithmetic.

The ranges of the activations are those that the faces of `samples/` and their mirror images show. It is
another network with rows of its own: its signature differs, and so do its thresholds (`calibrate.py`).

    python tools/make_resnet29_int8.py
"""

from __future__ import annotations

import numpy as np

from manifests import WEIGHTS, write_weights
from sameface.image import read_image
from sameface.manifest import read_manifest
from sameface.picture_files import find_pictures
from sameface.recognizer import Recognizer
from sameface.training.graph import write_network
from sameface.training.networks.resnet29 import load_resnet29
from sameface.training.quantize import quantize

SAMPLES = WEIGHTS.parents[2] / "samples"


def main() -> None:
    """Write `resnet29-int8.onnx` and its manifest."""
    recognizer = Recognizer.load()
    crops = np.concatenate([recognizer.cut_faces(read_image(path))[1] for path in find_pictures(SAMPLES)])
    crops = np.concatenate([crops, crops[:, :, ::-1]])
    manifest = read_manifest(WEIGHTS / "resnet29.toml")
    planes = (crops.astype(np.float32) - np.array(manifest.mean, np.float32)) * np.float32(manifest.scale)
    data = quantize(write_network(load_resnet29()), np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))
    write_weights("resnet29-int8", data, {"weights": "resnet29", "file_sha256": manifest.sha256})


if __name__ == "__main__":
    main()
