"""How good the rows are that a network is told to imitate: no copy of them can be expected to be better.

    python benchmarks/teachers.py CROPS resnet29 mobilefacenet.onnx,resnet29:0.6 ... [--toward resnet29]

CROPS are straightened crops, with their `crops.toml`, of people whom no teacher has seen; each of the others
is what `sameface train --teacher` takes. With `--toward` the rows are also moved to where this embedder has
the same faces, as training does for a network that begins with its weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from report import print_table
from sameface.arrays import Embeddings
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.identification import evaluate_identification
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet, open_pictures
from sameface.training.distillation import teacher_targets

WIDTH = 128
ENROLLED, PICTURES = 500, 2  # people, and pictures of each


def judge(rows: Embeddings, crops: PictureSet) -> list[str]:
    """Return VAL at FAR 1e-3 and 1e-4, and DIR at FPIR 1e-2, in percent."""
    rates = evaluate_holdout(rows, crops.owner, fars=(1e-3, 1e-4), repeats=2).rates
    found = evaluate_identification(rows, crops.owner, sizes=[ENROLLED], per_person=PICTURES)
    detection = found[0].votes[0].detections[1].dir
    values = [*(each.val.value for each in rates), float("nan") if detection is None else detection.value]
    return [f"{100 * value:.1f}" for value in values]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("teachers", nargs="+")
    parser.add_argument("--toward")
    arguments = parser.parse_args()
    crops = open_pictures([arguments.crops])
    table = []
    for teacher in arguments.teachers:
        config = TrainConfig(teacher=teacher, dimension=WIDTH)
        table.append([teacher, *judge(teacher_targets(crops, config), crops)])
        if arguments.toward:
            moved = teacher_targets(crops, config, arguments.toward)
            table.append([f"  moved toward {arguments.toward}", *judge(moved, crops)])
    print_table(["rows", "VAL 1e-3", "1e-4", "DIR 1e-2"], table)


if __name__ == "__main__":
    main()
