"""Who is found, and who is named wrongly: several embedders and decision rules in one table.

    python benchmarks/identification.py DATA CACHE [WEIGHTS ...] [--no-flip] [--repeats 200]

DATA holds `lfw-view1.tar` and `celeba-train.tar`, and perhaps `teacher/` with the IR of retail-0095, which
the package `openvino` runs. CACHE keeps landmarks and rows of crop and mirror image for a fast second run.

View 1: accuracy on pairsDevTest with the threshold of pairsDevTrain, and VAL over all pairs of the 4,992
photographs. Unseen CelebA: VAL over all pairs of the people whose number ends in 0. DIR is open set. With 1
or 2 pictures 500 of these people are enrolled; with 5 or 20, half of all people who have more. All others
are strangers; mean of the galleries of `SEEDS`. Every interval is over people (95 %). A wrong picture is
one of a stranger whose other pictures are searched for.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfw import Picture, best_threshold, central, pair_distances, read_view1
from report import print_table
from sameface.align import align_faces
from sameface.arrays import Crops, Embeddings
from sameface.compare import squared_distances
from sameface.detect import Detector
from sameface.embed import BATCH, unit_rows
from sameface.evaluation.bootstrap import Estimate, draw_people
from sameface.evaluation.degradations import quantise_rows, restore_rows
from sameface.evaluation.holdout import evaluate_holdout
from sameface.evaluation.identification import Detection, summarise_galleries
from sameface.evaluation.ranking import GallerySplit, Ranking, pick_nearest, rank_probes, split_gallery
from sameface.face import Face
from sameface.image import read_image
from sameface.manifest import CropRule
from sameface.model import Model
from sameface.quality import measure_quality

SEEDS = range(5)
ENROLLED = 500
MANY = 10  # pictures from which a person of CelebA counts beside the unseen ones
FEWEST_WEIGHT = 0.05  # of a picture whose quality is 0
RETAIL = "retail-0095"
LEFT_OUT = 6  # portraits whose number it divides are kept for tests
# Where the five points lie in the crops of CelebA, which are 128 pixels wide (DATA's README).
STRAIGHT = [[46.0642, 45.9999], [82.0644, 45.2285], [63.4857, 66.7], [48.7642, 83.4144], [78.9787, 82.7072]]
RETAIL_POINTS = (
    (0.31556875, 0.46157411),
    (0.68262292, 0.45983393),
    (0.50026249, 0.64050536),
    (0.34947187, 0.82469195),
    (0.65343644, 0.82325078),
)

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """One way to fill galleries.

    Attributes:
        enrolled: How many people.
        pictures: How many of each.
        wrong: Whether one of them is a stranger's.
    """

    enrolled: int
    pictures: int
    wrong: bool = False


@dataclass(frozen=True, eq=False)
class Photographs:
    """A set of photographs with the face of each.

    Attributes:
        name: What the set is called.
        files: The files' bytes by `person/picture`, those of one person together.
        faces: One for each file, in their order.
    """

    name: str
    files: Mapping[str, bytes]
    faces: Sequence[Face]

    @property
    def people(self) -> NDArray[np.str_]:
        """`(n,)` whom each photograph shows."""
        return np.array([name.partition("/")[0] for name in self.files])


@dataclass(frozen=True)
class Network:
    """Gives rows of crops.

    Attributes:
        name: What it is called.
        rule: How its crops are cut.
        run: From crops to rows of any length.
    """

    name: str
    rule: CropRule
    run: Callable[[Crops], Embeddings]


def open_network(name: str, data: Path) -> Network:
    """Open an embedder by name, on one core."""
    if name == RETAIL:
        return open_retail(data / "teacher" / "face-reidentification-retail-0095.xml")
    model = Model.load(name, threads=1)
    if model.manifest.embedding is None:
        raise ValueError(f"{name} is no embedder")
    return Network(name, model.manifest.embedding.crop, lambda crops: model.run(crops)[0])


def open_retail(path: Path) -> Network:
    """Open retail-0095 with OpenVINO; its rows are scaled to length 1."""
    import openvino

    network = openvino.Core().read_model(path)
    network.reshape([-1, 3, 128, 128])
    request = openvino.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": 1})
    points = tuple((128 * x, 128 * y) for x, y in RETAIL_POINTS)

    def run(crops: Crops) -> Embeddings:
        planes = np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        return unit_rows(np.array(request([planes])[0], np.float32).reshape(len(crops), -1))

    return Network(RETAIL, CropRule("similarity", 128, points, (1.0,) * 5), run)


def read_celeba(path: Path) -> Photographs:
    """Read the unseen people of CelebA and those with `MANY` pictures, aligned crops of 128 pixels."""
    files: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None and member.name.endswith(".jpg"):
                files["/".join(Path(member.name).parts[-2:])] = stream.read()
    owners, counts = np.unique([name.partition("/")[0] for name in files], return_counts=True)
    wanted = {str(who) for who, count in zip(owners, counts, strict=True) if who.endswith("0") or count >= MANY}
    kept = {name: files[name] for name in sorted(files) if name.partition("/")[0] in wanted}
    face = Face(np.array([0, 0, 128, 128], np.float32), np.array(STRAIGHT, np.float32), 1.0)
    return Photographs("celeba", kept, [face] * len(kept))


def read_portraits(path: Path, cache: Path, *, left_out: bool = False) -> Photographs:
    """Return the portraits that thresholds are calibrated on, or those left out; each of another person."""
    files = {}
    with tarfile.open(path) as tar:
        for member in tar:
            file, stream = Path(member.name), tar.extractfile(member)
            if stream is not None and file.suffix == ".jpg" and (int(file.stem) % LEFT_OUT == 0) == left_out:
                files[f"{file.stem}/{file.name}"] = stream.read()
    name = "portraits-left-out" if left_out else "portraits"
    return find_faces(name, dict(sorted(files.items())), cache)


def find_faces(name: str, files: Mapping[str, bytes], cache: Path) -> Photographs:
    """Return the central face of each photograph that has one, from the cache the second time."""
    path = cache / f"{name}-faces.npz"
    if not path.exists():
        detector = Detector(Model.load("centerface", threads=1))
        found = {}
        for key, data in files.items():
            image = read_image(data)
            if faces := detector.find(image):
                found[key] = central(faces, image.shape)
        np.savez(
            path,
            names=np.array([*found]),
            box=np.array([face.box for face in found.values()]),
            landmarks=np.array([face.landmarks for face in found.values()]),
            score=np.array([face.score for face in found.values()]),
        )
    kept = np.load(path)
    parts = zip(kept["box"], kept["landmarks"], kept["score"], strict=True)
    faces = [Face(box, points, float(score)) for box, points, score in parts]
    return Photographs(name, {key: files[key] for key in kept["names"].tolist()}, faces)


def embed(network: Network, photographs: Photographs, cache: Path) -> tuple[Embeddings, Embeddings]:
    """Return the network's rows of every crop and of its mirror image, from the cache the second time."""
    path = cache / f"{photographs.name}-{network.name}.npz"
    if not path.exists():
        rows: tuple[list[Embeddings], list[Embeddings]] = ([], [])
        pairs = list(zip(photographs.files.values(), photographs.faces, strict=True))
        for start in range(0, len(pairs), BATCH):
            crops = np.concatenate(
                [align_faces(read_image(data), [face], network.rule) for data, face in pairs[start : start + BATCH]]
            )
            rows[0].append(network.run(crops))
            rows[1].append(network.run(crops[:, :, ::-1]))
        np.savez(path, a=np.concatenate(rows[0]), b=np.concatenate(rows[1]))
    kept = np.load(path)
    return kept["a"], kept["b"]


def rate_quality(photographs: Photographs, rule: CropRule) -> NDArray[np.float64]:
    """Return the quality of each crop; size and certainty are not known of crops and count as full."""
    totals = []
    for data, face in zip(photographs.files.values(), photographs.faces, strict=True):
        crop = align_faces(read_image(data), [face], rule)[0]
        totals.append(replace(measure_quality(face, crop), size=1.0, certainty=1.0).total)
    return np.array(totals)


def rank_people(distances: NDArray[np.float32], owners: Places, person: Places) -> Ranking:
    """Return what the distances of probes to enrolled people say.

    Args:
        distances: `(n, p) float32`.
        owners: `(p,) int64` the enrolled people.
        person: `(n,) int64` whom the probes show.
    """
    truth = np.where(np.isin(person, owners), person, -1)
    own = np.where(truth[:, None] == owners, distances, -1).max(axis=1)
    rank = (distances <= own[:, None]).sum(axis=1)
    near, places = pick_nearest(distances.copy(), 5)
    return Ranking(person, truth, rank, near, owners[places])


def rank_by_rules(
    rows: Embeddings, person: Places, split: GallerySplit, weights: NDArray[np.float64]
) -> dict[str, Ranking]:
    """Return what each rule says of the probes of one gallery."""
    owners, starts = np.unique(person[split.gallery], return_index=True)
    order = np.argsort(starts)
    owners, starts = owners[order], starts[order]
    enrolled, probes = rows[split.gallery], rows[split.probes]
    shown = person[split.probes]
    nearest = np.minimum.reduceat(squared_distances(probes, enrolled), starts, axis=1)
    mean = squared_distances(probes, unit_rows(np.add.reduceat(enrolled, starts)))
    weighed = np.add.reduceat(enrolled * weights[split.gallery, None].astype(np.float32), starts)
    weighted = squared_distances(probes, unit_rows(weighed))
    return {
        "row": rank_people(nearest, owners, shown),
        "vote": rank_probes(rows, person, split, faces=5),
        "template": rank_people(mean, owners, shown),
        "by quality": rank_people(weighted, owners, shown),
        "template + row": rank_people((mean + nearest) * np.float32(0.5), owners, shown),
    }


def spoil(split: GallerySplit, person: Places, rng: np.random.Generator) -> tuple[GallerySplit, Places]:
    """Replace the first picture of everyone enrolled by a stranger's, which is then no probe.

    Returns:
        The split, and `person` with the wrong pictures under the names that they were enrolled as.
    """
    firsts = np.unique(person[split.gallery], return_index=True)[1]
    strangers = split.probes[~np.isin(person[split.probes], person[split.gallery])]
    wrong = rng.choice(strangers, len(firsts), replace=False)
    named, gallery = person.copy(), split.gallery.copy()
    named[wrong] = person[gallery[firsts]]
    gallery[firsts] = wrong
    return GallerySplit(gallery, np.setdiff1d(split.probes, wrong)), named


def identify(
    rows: Embeddings, people: NDArray[np.str_], weights: NDArray[np.float64], trial: Trial, repeats: int
) -> dict[str, tuple[Detection, ...]]:
    """Return DIR by rule, with one `Detection` for each rate of `FPIRS`."""
    names, person = np.unique(people, return_inverse=True)
    draws = draw_people(len(names), repeats=repeats, rng=np.random.default_rng(0))
    rankings: dict[str, list[Ranking]] = {}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        split = split_gallery(person, enrolled=trial.enrolled, per_person=trial.pictures, rng=rng)
        labels = person
        if trial.wrong:
            split, labels = spoil(split, person, rng)
        for rule, ranking in rank_by_rules(rows, labels, split, weights).items():
            rankings.setdefault(rule, []).append(ranking)
    return {rule: sum_detections(rule, found, draws, trial) for rule, found in rankings.items()}


def sum_detections(
    rule: str, rankings: Sequence[Ranking], draws: NDArray[np.int64], trial: Trial
) -> tuple[Detection, ...]:
    """Return DIR of one rule over several galleries; in a vote the five nearest faces count."""
    result = summarise_galleries(rankings, draws, enrolled=trial.enrolled, per_person=trial.pictures)
    return result.votes[2 if rule == "vote" else 0].detections


def percent(estimate: Estimate | None) -> str:
    """Return a part with its interval in words."""
    if estimate is None:
        return "too few"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def rates(rows: Embeddings, people: NDArray[np.str_], fars: Sequence[float], repeats: int) -> list[str]:
    """Return VAL over all pairs at each rate, with its interval."""
    person = np.unique(people, return_inverse=True)[1]
    order = np.argsort(person, kind="stable")
    found = evaluate_holdout(rows[order], person[order], fars=fars, repeats=repeats).rates
    return [percent(rate.val) for rate in found]


def judge_pairs(rows: Embeddings, view: Photographs, path: Path) -> float:
    """Return the accuracy on View 1's test half with the threshold of its training half."""
    lists = read_view1(path)
    pictures = [Picture(*split_name(name)) for name in view.files]
    train, test = (pair_distances(rows, pictures, pairs) for pairs in (lists.train, lists.test))
    threshold = best_threshold(train, np.array([pair.same for pair in lists.train]))
    return float(((test <= threshold) == np.array([pair.same for pair in lists.test])).mean())


def split_name(name: str) -> tuple[str, int]:
    """Return person and number of a photograph of LFW, `person/person_0001.jpg`."""
    person, _, number = Path(name).stem.rpartition("_")
    return person, int(number)


def read_lfw(path: Path, cache: Path) -> Photographs:
    """Return the photographs of View 1 with their central faces."""
    files = read_view1(path).files
    named = {f"{who}/{who}_{number:04d}.jpg": data for (who, number), data in sorted(files.items())}
    return find_faces("view1", named, cache)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("weights", nargs="*", default=["resnet29", "mobilefacenet"])
    parser.add_argument("--no-flip", action="store_true", help="leave the mirror images out")
    parser.add_argument("--bytes", action="store_true", help="round the rows to a byte a number")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    tar = arguments.data / "lfw-view1.tar"
    view, celeba = read_lfw(tar, arguments.cache), read_celeba(arguments.data / "celeba-train.tar")
    networks = [open_network(name, arguments.data) for name in arguments.weights]
    weights = np.maximum(rate_quality(celeba, networks[0].rule), FEWEST_WEIGHT)
    unseen = np.char.endswith(celeba.people, "0")
    table, found = [], []
    for network in networks:
        of_view, of_celeba = (join(*embed(network, each, arguments.cache), arguments) for each in (view, celeba))
        accuracy = judge_pairs(of_view, view, tar)
        val = rates(of_view, view.people, (1e-3, 1e-4, 1e-5), arguments.repeats)
        val += rates(of_celeba[unseen], celeba.people[unseen], (1e-3, 1e-4), arguments.repeats)
        table.append([network.name, f"{100 * accuracy:.1f}", *val])
        found += list_detections(network.name, of_celeba, celeba.people, unseen, weights, arguments.repeats)
    print_table(["network", "View 1", "VAL 1e-3", "1e-4", "1e-5", "unseen: VAL 1e-3", "1e-4"], table)
    print_table(["network", "enrolled", "pictures", "rule", "DIR at FPIR 1e-2", "1e-3"], found)


def join(a: Embeddings, b: Embeddings, arguments: argparse.Namespace) -> Embeddings:
    """Return unit rows of crop and mirror image, as the options want them."""
    rows = unit_rows(a if arguments.no_flip else a + b)
    return restore_rows(quantise_rows(rows)) if arguments.bytes else rows


def list_detections(
    name: str,
    rows: Embeddings,
    people: NDArray[np.str_],
    unseen: NDArray[np.bool_],
    weights: NDArray[np.float64],
    repeats: int,
) -> list[list[str]]:
    """Return the lines of the table of DIR."""
    lines = []
    counts = np.unique(people, return_counts=True)[1]
    for pictures, wrong in ((1, False), (2, False), (5, False), (5, True), (20, False)):
        own = unseen if pictures < 5 else np.ones(len(people), bool)
        enrolled = ENROLLED if pictures < 5 else int((counts > pictures).sum()) // 2
        trial = Trial(enrolled, pictures, wrong)
        told = f"{pictures}, one wrong" if wrong else str(pictures)
        for rule, (_, *rated) in identify(rows[own], people[own], weights[own], trial, repeats).items():
            cells = [percent(each.dir) for each in rated]
            lines.append([name, str(enrolled), told, rule, *cells])
    return lines


if __name__ == "__main__":
    main()
