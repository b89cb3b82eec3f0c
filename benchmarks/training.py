"""Mining against pytorch-metric-learning, the loader's share of a step, and the networks' speed.

    python benchmarks/training.py [CROPS] [--people 45] [--pictures 40]

Mining: 1,800 embeddings (the paper's batch), one process for each contender, so that the peak memory is its
own. The peer's semi-hard miner and its loss, with squared distances and the same margin, are compared with
the rule `semi-hard-all`, which means the same triplets; and with `semi-hard`, the nearest of each pair's.
With CROPS (from `sameface prepare`) the loader is timed under the network it feeds; on a GPU also NN2 with
1,800 pictures a step. Exit code 1 if a target is missed. Run it while nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from report import Target, print_targets
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet, open_pictures
from sameface.training.errors import TrainingDataError
from sameface.training.gradients import backpropagate
from sameface.training.losses import combined_loss, triplet_loss
from sameface.training.mining import Rule, choose_negatives, sort_negatives, squared_distances
from sameface.training.networks.inception import Network
from sameface.training.networks.tables import TABLES, count_table, totals
from sameface.training.train import train

MARGIN = 0.2
ROUNDS = 5
SIZES = (512, 1024, 2048, 4096, 8192)
CONTENDERS = ("pytorch-metric-learning", "semi-hard-all", "semi-hard")
LOADER_STEPS = 40
# Multiplications and additions a second that NVIDIA states for dense bfloat16, by a part of the card's name.
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12}


def make_batch(people: int, pictures: int) -> tuple[Tensor, Tensor]:
    """Return unit rows of people that overlap, as early in a run, and whose each is."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(people).repeat_interleave(pictures)
    centres = torch.randn(people, 128, generator=generator)
    rows = centres[labels] + 2 * torch.randn(len(labels), 128, generator=generator)
    return functional.normalize(rows, dim=1), labels


def peer(rows: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return the loss of the peer's semi-hard triplets and how many there are."""
    from pytorch_metric_learning import distances, losses, miners

    distance = distances.LpDistance(power=2)
    miner = miners.TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=distance)
    triplets = miner(rows, labels)
    loss = losses.TripletMarginLoss(margin=MARGIN, distance=distance)
    return loss(rows, labels, triplets), len(triplets[0])


def ours(rows: Tensor, labels: Tensor, rule: Rule) -> tuple[Tensor, int]:
    """Return our loss and how many triplets a rule chose."""
    loss, stats = triplet_loss(rows, labels, margin=MARGIN, rule=rule)
    return loss, stats.triplets


def measure_one(name: str, people: int, pictures: int, target: Path) -> None:
    """Time one contender in this process and write its gradient; print the rest as JSON."""
    rows, labels = make_batch(people, pictures)
    few, few_labels = make_batch(4, 4)
    step: Callable[[Tensor, Tensor], tuple[Tensor, int]] = (
        peer if name == CONTENDERS[0] else lambda r, n: ours(r, n, name)  # type: ignore[arg-type]
    )
    step(few.requires_grad_(), few_labels)[0].backward()  # type: ignore[no-untyped-call]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, processor = [], []
    for _ in range(1 if name == CONTENDERS[0] else ROUNDS):
        given = rows.clone().requires_grad_()
        start, cpu = time.perf_counter(), time.process_time()
        loss, triplets = step(given, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert given.grad is not None
    along = given.grad - (given.grad * rows).sum(dim=1, keepdim=True) * rows
    np.save(target, along.numpy())
    facts = {"seconds": float(np.median(seconds)), "cpu": float(np.median(processor)), "megabytes": peak}
    print(json.dumps({**facts, "triplets": triplets, "loss": loss.item()}))


def compare_mining(people: int, pictures: int) -> list[Target]:
    """Print the table of contenders, and whether they found the same; return how much better ours is."""
    print(f"{people * pictures:,} embeddings, {people} people x {pictures}, forward and backward of the loss")
    print(f"{'':26}{'seconds':>9}{'CPU s':>8}{'MB':>9}{'triplets':>13}{'loss':>11}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CONTENDERS:
            words = ["--one", name, "--people", str(people), "--pictures", str(pictures)]
            target = Path(folder, f"{name}.npy")
            told = subprocess.run(
                [sys.executable, __file__, *words, "--target", str(target)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            facts = found[name] = {**json.loads(told), "gradient": np.load(target)}
            print(
                f"{name:26}{facts['seconds']:9.3f}{facts['cpu']:8.2f}{facts['megabytes']:9.0f}"
                f"{facts['triplets']:13,}{facts['loss']:11.6f}"
            )
    theirs, same = found[CONTENDERS[0]], found[CONTENDERS[1]]
    scale = np.abs(theirs["gradient"]).max()
    apart = np.abs(theirs["gradient"] - same["gradient"]).max() / scale
    print(f"gradients differ by at most {apart:.1e} of the largest entry")
    targets = []
    for name in CONTENDERS[1:]:
        faster, cpu, less = (theirs[key] / found[name][key] for key in ("seconds", "cpu", "megabytes"))
        print(f"{name}: {faster:.0f} times faster ({cpu:.0f} times in CPU time), {less:.0f} times less memory")
        targets.append(Target(f"times the peer's speed, {name}", faster, 100, at_least=True))
        targets.append(Target(f"times less memory than the peer, {name}", less, 20, at_least=True))
    return targets


def compare_sets(people: int, pictures: int) -> None:
    """Print how many triplets only one of the two has, and how near they are to an edge of the band."""
    from pytorch_metric_learning import distances

    rows, labels = make_batch(people, pictures)
    theirs, ours = distances.LpDistance(power=2)(rows), squared_distances(rows)
    exact = 2 - 2 * rows.double() @ rows.double().T
    edges = []
    for anchor, label in enumerate(labels):
        positives, negatives = labels == label, labels != label
        positives[anchor] = False

        def gaps(table: Tensor, line: int = anchor, p: Tensor = positives, n: Tensor = negatives) -> Tensor:
            return table[line, n][None] - table[line, p][:, None]

        other = ((gaps(theirs) > 0) & (gaps(theirs) <= MARGIN)) ^ ((gaps(ours) > 0) & (gaps(ours) < MARGIN))
        gap = gaps(exact)[other]
        edges.append(torch.minimum(gap.abs(), (gap - MARGIN).abs()))
    found = torch.cat(edges)
    print(f"{len(found)} triplets are in one set only, each within {found.max():.1e} of an edge of the band")


def check_nearest(people: int, pictures: int) -> None:
    """Print whether `semi-hard` takes the nearest of the negatives that the peer's miner allows."""
    rows, labels = make_batch(people, pictures)
    order = sort_negatives(rows, labels)
    chosen = choose_negatives(order, MARGIN, rule="semi-hard")
    wrong = 0
    for anchor, positive, negative in zip(
        order.anchors.tolist(), order.positives.tolist(), chosen.tolist(), strict=True
    ):
        line = order.distances[anchor]
        low, others = line[positive], line[labels != labels[anchor]]
        band = others[(others > low) & (others < low + MARGIN)]
        wrong += (negative >= 0) != bool(len(band)) or (negative >= 0 and bool(line[negative] != band.min()))
    print(f"of {len(chosen):,} pairs (loop over {people} x {pictures}) {wrong} have another nearest negative")


def show_growth() -> None:
    """Print how the time grows with the batch."""
    print("\nembeddings   seconds   microseconds for each of n^2")
    for n in SIZES:
        rows, labels = make_batch(n // 32, 32)
        seconds = []
        for _ in range(3):
            given = rows.clone().requires_grad_()
            start = time.perf_counter()
            ours(given, labels, "semi-hard")[0].backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - start)
        print(f"{n:10,}{min(seconds):10.3f}{1e6 * min(seconds) / n**2:12.4f}")


def time_loader(pictures: PictureSet) -> Target:
    """Print which part of its time NNS2 waits for pictures, 128 in a batch."""
    side = 0 if pictures.rule is not None else len(pictures.files[0].read())
    config = TrainConfig(steps=LOADER_STEPS, people=32, pictures=4, workers=2, save_every=10**6, as_is=side)
    with tempfile.TemporaryDirectory() as folder:
        # The first steps start the workers; the last saves.
        steps = list(train(pictures, pictures.of_people([]), config, Path(folder)))[5:-1]
    seconds = np.array([128 / step.pictures_per_second for step in steps])
    waiting = float(np.average([step.waiting for step in steps], weights=seconds))
    speed = 128 * len(steps) / seconds.sum()
    print(
        f"\nNNS2, 128 a batch, two workers: {speed:.0f} pictures/s, "
        f"{waiting:.1%} of {len(steps)} steps spent waiting for them"
    )
    return Target("part of the time that the network waits", 100 * waiting, 10, "%")


def time_gpu(batch: int = 1800, chunk: int = 300) -> None:
    """Print how fast NN2 trains with the paper's batch, in one pass and in two."""
    device = torch.device("cuda")
    network: nn.Module = Network(TABLES["nn2"]).to(device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    planes = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) // 40
    work = 2 * batch * totals(count_table(TABLES["nn2"]))[1]  # of one forward pass
    card = torch.cuda.get_device_name()
    peak = next((peak for name, peak in PEAKS.items() if name in card), None)
    for name, size, passes in (("two passes", chunk, 4), ("one pass", 0, 3)):  # back is twice forth
        torch.cuda.reset_peak_memory_stats()
        try:
            best = min([time_step(network, planes, labels, size) for _ in range(6)][1:])
        except torch.cuda.OutOfMemoryError:
            print(f"NN2 at 224, {batch} a step, {name}: more than the memory of {card}")
            continue
        memory = torch.cuda.max_memory_allocated() / 2**30
        part = "its peak is unknown here" if peak is None else f"{work * passes / best / peak:.1%} of its peak"
        speed = f"{batch / best:.0f} pictures/s, {memory:.0f} GiB"
        print(f"NN2 at 224, {batch} a step, {name}: {speed}; {card}, {part}")


def time_step(network: nn.Module, planes: Tensor, labels: Tensor, chunk: int) -> float:
    """Return the seconds that one step's gradient takes on a GPU."""
    config = TrainConfig()
    network.zero_grad()
    torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16):
        backpropagate(network, planes, lambda rows: combined_loss(rows.float(), labels, config, step=0), chunk=chunk)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def compare_passes(device: torch.device, batch: int = 64, chunk: int = 24) -> None:
    """Print how far the gradient of NN2 in two passes lies from that in one, in float32.

    Without batch norm, whose statistics are a chunk's, the two are the same but for rounding.
    """
    planes = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(batch, device=device) // 4
    found = []
    for size in (0, chunk):
        network = Network(TABLES["nn2"], norm="response").to(device).train()
        config = TrainConfig(rule="batch-all")
        backpropagate(network, planes, lambda rows: combined_loss(rows, labels, config, step=0), chunk=size)  # noqa: B023
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    apart = float((found[0] - found[1]).norm() / found[0].norm())
    print(f"NN2, {batch} pictures, on {device}: the gradient in two passes differs by {apart:.1e} of its length")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path, nargs="?", help="folder or tar file with a folder per person")
    parser.add_argument("--people", type=int, default=45)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        measure_one(arguments.one, arguments.people, arguments.pictures, arguments.target)
        return 0
    try:
        pictures = None if arguments.crops is None else open_pictures([arguments.crops])
    except TrainingDataError as error:
        parser.error(str(error))
    targets = compare_mining(arguments.people, arguments.pictures)
    compare_sets(arguments.people, arguments.pictures)
    check_nearest(12, 10)
    show_growth()
    if pictures is not None:
        targets.append(time_loader(pictures))
    if torch.cuda.is_available():
        compare_passes(torch.device("cuda"))
        time_gpu()
    print()
    return print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
