"""What the searches of Milvus lose against the exact one, on real embeddings.

    python benchmarks/milvus.py CROPS HOST:PORT [--people N] [--faces N] [--weights NAME]

CROPS are straightened crops, with their `crops.toml`. One picture of each person is a probe, the others are
enrolled. With --faces rows are added until there are so many: each is a real row, moved by the difference
between two rows of somebody. The truth are the ten nearest faces by float32 in this process. An answer is the
same if name, verdict and the five nearest people with their votes are (k = 3). Collections are called
`benchmark_...` and are dropped in the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from galleries import TOP, Pipeline, compare, enroll, is_same
from report import print_table
from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import Embedder, unit_rows
from sameface.gallery import Gallery, Identification
from sameface.gallery.address import MilvusAddress
from sameface.gallery.milvus import collection as milvus_collection
from sameface.gallery.milvus.collection import MilvusCollection
from sameface.model import Model
from sameface.training.dataset import open_pictures

AT_ONCE = 100  # faces of one made-up person, and probes of a search


def widen(rows: Embeddings, owner: NDArray[np.int64], faces: int) -> tuple[Embeddings, NDArray[np.int64]]:
    """Return the rows with made-up ones behind them, and whose each is."""
    rng = np.random.default_rng(0)
    follows = np.flatnonzero(owner[1:] == owner[:-1])
    more = max(faces - len(rows), 0)
    moved = rows[rng.integers(len(rows), size=more)]
    picked = rng.choice(follows, size=more)
    moved = moved + rng.normal(size=(more, 1)).astype(np.float32) * (rows[picked + 1] - rows[picked])
    made_up = owner.max() + 1 + np.arange(more) // AT_ONCE
    return np.concatenate([rows, unit_rows(moved)]), np.concatenate([owner, made_up])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("server")
    parser.add_argument("--people", type=int)
    parser.add_argument("--faces", type=int, default=0)
    parser.add_argument("--weights", default="resnet29")
    arguments = parser.parse_args()
    milvus_collection.ANSWER_SECONDS = 600  # milvus-lite is slow to count
    crops = open_pictures([arguments.crops])
    crops = crops.of_people(range(len(crops.people))[: arguments.people])
    embedder = Embedder(Model.load(arguments.weights))
    rows = embed_crops(embedder, crops)
    probe = np.unique(crops.owner, return_index=True)[1]
    kept = np.setdiff1d(np.arange(len(rows)), probe)
    enrolled = widen(rows[kept], crops.owner[kept], arguments.faces)
    print(f"{len(kept):,} faces of {len(probe):,} people and {len(enrolled[0]) - len(kept):,} made up\n")
    measure(Pipeline(embedder), arguments.server, rows[probe], enrolled)


def measure(
    pipeline: Pipeline, server: str, probes: Embeddings, enrolled: tuple[Embeddings, NDArray[np.int64]]
) -> None:
    """Enroll in a file, search with each index, and print what differs."""
    table = []
    with tempfile.TemporaryDirectory() as folder, Gallery.open(f"{folder}/0.db", pipeline) as file:
        numbers = enroll(file, *enrolled)
        truth = numbers[np.concatenate([nearest(probe, enrolled[0]) for probe in np.split(probes, len(probes))])]
        exact = file.identify(probes, k=3)
        for index in ("flat", "hnsw"):
            place = f"milvus://{server}/benchmark?people={folder}/0.db&index={index}"
            table.append(search(place, pipeline, probes, (truth, exact)))
            file._db.read("DELETE FROM milvus_index")
    columns = ["index", "first", "recall", "in order", "same answer", "same name", "faces/s sent", "ms a probe"]
    print_table(columns, table)


def nearest(probe: Embeddings, rows: Embeddings) -> NDArray[np.intp]:
    """Return the places of the rows nearest to one probe, `(1, TOP)`."""
    return np.argsort(squared_distances(probe, rows), axis=1, kind="stable")[:, :TOP]


def search(
    place: str, pipeline: Pipeline, probes: Embeddings, wanted: tuple[NDArray[np.int64], list[Identification]]
) -> list[str]:
    """Send all faces, search, and return what is right of it."""
    truth, exact = wanted
    with Gallery.open(place, pipeline) as gallery:
        started = time.perf_counter()
        gallery.identify(probes[:1])
        sent = gallery.count()[1] / (time.perf_counter() - started)
        [(name,)] = gallery._db.read("SELECT name FROM milvus_index")
        vectors = MilvusCollection(MilvusAddress.parse(place), name)
        settle(vectors)
        started = time.perf_counter()
        answers = [answer for part in parts(probes) for answer in gallery.identify(part, k=3)]
        each = (time.perf_counter() - started) / len(probes) * 1000
        found = np.stack([near[:TOP] for part in parts(probes) for near, _ in vectors.search(part, TOP)])
        vectors.drop()
    same = np.mean([is_same(one, other) for one, other in zip(answers, exact, strict=True)])
    names = np.mean([one.name == other.name for one, other in zip(answers, exact, strict=True)])
    index = place.rpartition("=")[2]
    return [*compare(index, found, truth), f"{same:.4f}", f"{names:.4f}", f"{sent:,.0f}", f"{each:.1f}"]


def settle(vectors: MilvusCollection) -> None:
    """Wait until the index holds every face; milvus-lite makes it when the collection is loaded."""
    client = vectors._connect()
    client.flush(vectors.name)
    while client.describe_index(vectors.name, "embedding")["pending_index_rows"]:
        time.sleep(1)
    client.release_collection(vectors.name)
    client.load_collection(vectors.name)


def parts(probes: Embeddings) -> list[Embeddings]:
    """Return the probes, some at a time."""
    return [probes[start : start + AT_ONCE] for start in range(0, len(probes), AT_ONCE)]


if __name__ == "__main__":
    main()
