"""Embedding: the same weights and crops through ONNX Runtime (ours) and through dlib (the peer).

    python benchmarks/embed.py

Shows the time per face, how much of the machine's own matrix product (NumPy's sgemm) is reached, and that
both compute the same. Exit code 1 if a target is missed. Run it while nothing else runs: a second program
slows work on all cores far more than dlib's, which uses one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import dlib
import numpy as np
import onnx
from numpy.typing import NDArray

from peer import NETWORK, ROOT, describe, float32_network, peer_file
from report import Target, print_table, print_targets
from sameface.align import align_faces
from sameface.arrays import Crops
from sameface.embed import Embedder, unit_rows
from sameface.image import read_image
from sameface.model import Model, open_session
from sameface.recognizer import Recognizer
from timing import alternate

FACES = 16
ROUNDS = 7
SIDE = 2048  # of the matrices whose product is the limit
Rows = NDArray[np.float32]


def sample_crops(recognizer: Recognizer) -> Crops:
    """Return 16 crops: the samples' faces, their mirror images, and the faces a little out of place."""
    crops = []
    for path in sorted((ROOT / "samples").glob("*.jpg")):
        image = read_image(path)
        crops.append(align_faces(image, recognizer.detector.find(image)[:1], recognizer.embedder.spec.crop))
    faces = np.concatenate(crops)
    moved = [np.roll(faces, shift, axis=(1, 2)) for shift in ((3, 2), (-4, 5))]
    return np.ascontiguousarray(np.concatenate([faces, faces[:, :, ::-1], *moved])[:FACES])


def compare_rows(crops: Crops, network: dlib.face_recognition_model_v1, data: bytes) -> list[Target]:
    """Return how far our rows lie from dlib's: with its own weights, and with those that ship."""
    theirs = np.array(network.compute_face_descriptor(list(crops)), np.float32)  # (n, 128)
    shipped = Model.load("resnet29")
    exact = Model(shipped.manifest, open_session(data, "float32", None))
    (raw,) = exact.run(crops)
    rows = Embedder(shipped, flip=False).embed(crops)
    moved = np.linalg.norm(rows - unit_rows(theirs), axis=1)
    return [
        Target("float32 weights, raw rows, largest difference", float(np.abs(raw - theirs).max()), 1e-4),
        Target("shipped float16 file, unit rows, largest L2 distance", float(moved.max()), 2e-3),
    ]


def count_multiply_adds(model: onnx.ModelProto) -> int:
    """Return the multiply-adds of the convolutions and matrix products for one sample.

    Each output of a convolution sums over one filter, each of a matrix product over one column; the free
    batch dimension counts as 1.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for info in [*graph.value_info, *graph.output]:
        shapes[info.name] = [axis.dim_value or 1 for axis in info.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul"):
            weight = shapes[node.input[1]]
            summed = weight[1:] if node.op_type == "Conv" else weight[:1]
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(summed))
    return total


def run_dlib(network: dlib.face_recognition_model_v1, crops: Crops) -> object:
    """Embed aligned crops with dlib, each once: one by its call for a face, several by that for a batch."""
    return network.compute_face_descriptor(crops[0] if len(crops) == 1 else list(crops))


def run_singly(run: Callable[[Crops], object], crops: Crops) -> None:
    """Run every crop on its own."""
    for index in range(len(crops)):
        run(crops[index : index + 1])


def build_steps(crops: Crops, network: dlib.face_recognition_model_v1) -> dict[str, Callable[[], object]]:
    """Return what is timed: all crops one at a time and together, by ours and by dlib, and the limit."""
    plain, single = Model.load("resnet29"), Model.load("resnet29", threads=1)
    runs: dict[str, Callable[[Crops], object]] = {
        "ours": Embedder(plain, flip=False).embed,
        "ours, one core": Embedder(single, flip=False).embed,
        "ours with flip": Embedder(plain).embed,
        "dlib": partial(run_dlib, network),
    }
    steps: dict[str, Callable[[], object]] = {}
    for name, run in runs.items():
        steps[f"{name}, 1"] = partial(run_singly, run, crops)
        steps[f"{name}, {FACES}"] = partial(run, crops)
    square = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    steps["sgemm"] = lambda: square @ square
    return steps


def print_times(seconds: dict[str, list[float]], multiply_adds: int) -> list[Target]:
    """Print the times per face, and return the targets."""
    limit = 2 * SIDE**3 / min(seconds["sgemm"]) / 1e9
    per_face = {name: median(times) / FACES for name, times in seconds.items()}
    rows, targets = [], []
    for batch in (1, FACES):
        for name in ("dlib", "ours, one core", "ours", "ours with flip"):
            once = per_face[f"{name}, {batch}"]
            times = per_face[f"dlib, {batch}"] / once
            rate = 2 * multiply_adds * (2 if "flip" in name else 1) / once / 1e9
            rows.append([name, str(batch), f"{1000 * once:.2f}", f"{times:.1f}", f"{rate:.1f}", f"{rate / limit:.0%}"])
            if name == "ours":
                targets.append(Target(f"times dlib's speed, batch {batch}", times, 15, at_least=True))
    header = ["network", "batch", "ms per face", "times dlib", "GFLOP/s", "of the limit"]
    print_table(header, rows)
    print(f"limit: sgemm {SIDE} x {SIDE}, float32, best of {ROUNDS}: {limit:.1f} GFLOP/s on all cores")
    print(f"network: {multiply_adds / 1e6:.1f} million multiply-adds a face, 2 FLOP each; {describe()}\n")
    return targets


def main() -> int:
    """Print the tables."""
    data = float32_network()
    network = dlib.face_recognition_model_v1(str(peer_file(NETWORK)))
    crops = sample_crops(Recognizer.load())
    targets = compare_rows(crops, network, data)
    seconds = alternate(build_steps(crops, network), rounds=ROUNDS)
    targets += print_times(seconds, count_multiply_adds(onnx.load_from_string(data)))
    return print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
