"""The family of embedders: what each costs and how well it tells people apart, as a table and a plot.

    python benchmarks/family.py VIEW1.tar CROPS [WEIGHTS ...] [--plot docs/family.svg]

CROPS are straightened crops, with their `crops.toml`, of people whom none of the networks has seen. Each
embedder gets them cut again by its own rule. Mirror images are averaged in for the accuracy and left out of
the times; all networks take turns, so that the ratios hold on a busy machine. DIR is open set: 500 people,
or two thirds of them, are enrolled with two pictures each, the others are strangers; mean of ten draws.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference

from lfw import View1, measure, read_view1
from report import print_table
from sameface.arrays import Image
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.evaluation.degradations import quantise_rows, restore_rows
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.identification import evaluate_identification
from sameface.face import Face
from sameface.model import DEFAULT_WEIGHTS, Model, find_weights, open_session
from sameface.recognizer import Recognizer
from sameface.training.dataset import PictureSet, open_pictures
from sameface.training.distillation import recut
from sameface.training.onnx_export import quantize
from timing import alternate

ENROLLED, PICTURES = 500, 2
ROUNDS = 7
PAPER = {
    "NN1": (1600, 87.9),
    "NN2": (1600, 89.4),
    "NN3": (810, 88.3),
    "NN4": (285, 82.0),
    "NNS1": (220, 82.4),
    "NNS2": (20, 51.9),
}  # multiply-adds in millions, VAL at FAR 1e-3 on the paper's own set, in %


@dataclass(frozen=True)
class Accuracy:
    """What an embedder reaches, in parts of 1."""

    view1: float
    view1_val: float
    val3: float
    val4: float
    dir2: float
    val3_small: float  # VAL at FAR 1e-3 of the same rows kept in a byte a number


class OnceDetector(Detector):
    """Searches every picture once, however many embedders want its faces."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._found: dict[bytes, list[Face]] = {}

    def find(self, image: Image) -> list[Face]:
        """Return the faces of a picture, from memory the second time."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self._found:
            self._found[key] = super().find(image)
        return self._found[key]


def count(path: Path) -> tuple[int, int]:
    """Return the weights and the multiply-adds for one picture of an ONNX file."""
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model = shape_inference.infer_shapes(model)
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    widening = ("Cast", "DequantizeLinear")
    cast = {node.output[0]: node.input[0] for node in graph.node if node.op_type in widening}
    weights = macs = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            size = int(np.prod(shapes[cast.get(node.input[1], node.input[1])]))
            out = shapes.get(node.output[0], [])
            weights += size
            macs += size * (int(np.prod(out[2:])) if len(out) == 4 else 1)
    return weights, macs


def judge(weights: str, detector: Detector, view1: View1, crops: PictureSet) -> Accuracy:
    """Return what an embedder reaches on View 1 and on the crops."""
    embedder = Embedder(Model.load(weights))
    found = measure(Recognizer(detector, embedder), view1)
    own = embed_crops(embedder, crops)
    rates = evaluate_holdout(own, crops.owner, fars=(1e-3, 1e-4), repeats=2).rates
    small = restore_rows(quantise_rows(own))
    enrolled = min(ENROLLED, 2 * len(crops.people) // 3)
    galleries = evaluate_identification(own, crops.owner, sizes=[enrolled], per_person=PICTURES)
    detection = galleries[0].votes[0].detections[1].dir
    return Accuracy(
        found.accuracy,
        found.val,
        rates[0].val.value,
        rates[1].val.value,
        float("nan") if detection is None else detection.value,
        evaluate_holdout(small, crops.owner, fars=(1e-3,), repeats=2).rates[0].val.value,
    )


def embed_crops(embedder: Embedder, crops: PictureSet) -> NDArray[np.float32]:
    """Return the rows of all crops, each cut again as the embedder wants it."""
    rule = embedder.spec.crop
    return embedder.embed(np.stack([recut(place.read(), crops.rule, rule) for place in crops.files]))


def widen(path: Path) -> onnx.ModelProto:
    """Return the network with its weights as float32 and without casts: only such can be quantised."""
    model = onnx.load(str(path))
    graph = model.graph
    kept = []
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        stored = tensors.get(node.input[0]) if node.op_type == "Cast" else None
        if stored is None:
            kept.append(node)
            continue
        values = onnx.numpy_helper.to_array(stored).astype(np.float32)
        stored.CopyFrom(onnx.numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return model


def time_all(names: list[str]) -> dict[str, list[float]]:
    """Return milliseconds per face: as the file is, one by one and in batches of 16, and int8 the same."""
    steps = {}
    for name in names:
        model = Model.load(name)
        assert model.manifest.embedding is not None
        size = model.manifest.embedding.crop.size
        crops = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
        planes = crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5
        planes *= model.manifest.scale
        path = find_weights(name)
        graph = onnx.load(str(path), load_external_data=False).graph
        source = graph.input[0].name
        plain = small = open_session(path.read_bytes(), name, None)
        if all(node.op_type != "QuantizeLinear" for node in graph.node):
            small = open_session(quantize(widen(path), planes), name, None)
        for kind, session in (("file", plain), ("int8", small)):
            for batch in (1, 16):
                feed = {source: np.ascontiguousarray(planes[:batch])}
                steps[f"{name}/{kind}/{batch}"] = lambda session=session, feed=feed: session.run(None, feed)
    seconds = alternate(steps, rounds=ROUNDS)
    return {key: [1000 * value / int(key.rpartition("/")[2]) for value in row] for key, row in seconds.items()}


def draw(points: dict[str, tuple[float, float]], target: Path) -> None:
    """Draw accuracy against cost, with the paper's networks beside ours."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "family"
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for title, family, mark in (("the paper's, on its own set", PAPER, "s"), ("ours, unseen people", points, "o")):
        x, y = zip(*sorted(family.values()), strict=True)
        axes.plot(x, y, mark if family is points else f"{mark}--", label=title, alpha=0.8)
        for name, (cost, value) in family.items():
            axes.annotate(Path(name).stem, (cost, value), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("multiply-adds for a face, millions")
    axes.set_ylabel("VAL at FAR 1e-3, %")
    axes.legend(loc="lower right")
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    """Print the table; draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("view1", type=Path, help="lfw-view1.tar")
    parser.add_argument("crops", type=Path)
    parser.add_argument("weights", nargs="*", default=[DEFAULT_WEIGHTS])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    crops, view1 = open_pictures([arguments.crops]), read_view1(arguments.view1)
    detector = OnceDetector(Model.load("centerface"))
    times = time_all(arguments.weights)
    first = median(times[f"{arguments.weights[0]}/file/16"])
    table, points = [], {}
    for name in arguments.weights:
        path = find_weights(name)
        weights, macs = count(path)
        found = judge(name, detector, view1, crops)
        ms = [median(times[f"{name}/{kind}/{batch}"]) for kind in ("file", "int8") for batch in (1, 16)]
        points[name] = (macs / 1e6, 100 * found.val3)
        table.append(
            [
                path.stem,
                f"{weights / 1e6:.1f} M",
                f"{macs / 1e6:.0f} M",
                f"{path.stat().st_size / 1e6:.1f}",
                *(f"{value:.2f}" for value in ms),
                f"{first / ms[1]:.1f}",
                *(f"{100 * value:.2f}" for value in (found.view1, found.view1_val)),
                *(f"{100 * value:.2f}" for value in (found.val3, found.val3_small, found.val4, found.dir2)),
            ]
        )
    costs = ["network", "weights", "MACs", "MB", "ms b1", "b16", "int8 b1", "b16", "times"]
    print_table([*costs, "View 1 %", "VAL 1e-3", "unseen: VAL 1e-3", "in bytes", "1e-4", "DIR 1e-2"], table)
    people = min(ENROLLED, 2 * len(crops.people) // 3)
    print(f"unseen: {len(crops)} pictures of {len(crops.people)} people; DIR at FPIR 1e-2, {people} enrolled")
    if arguments.plot is not None:
        draw(points, arguments.plot)


if __name__ == "__main__":
    main()
