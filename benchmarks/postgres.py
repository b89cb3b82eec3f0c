"""What the approximate searches of PostgreSQL lose against the exact one, on real embeddings.

    python benchmarks/postgres.py CROPS ADDRESS [--people N] [--weights NAME]

CROPS are straightened crops, with their `crops.toml`. One picture of each person is a probe, the others are
enrolled, in a schema `benchmark` at ADDRESS (postgresql://...) that is dropped in the end. The truth are the
ten nearest faces by float32 in this process. An answer is the same if name, verdict and the five nearest
people with their votes are (k = 3); distances are compared to 1e-6, in which float32 sums differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from family import embed_crops
from report import print_table
from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import Embedder
from sameface.gallery import Gallery, Identification
from sameface.gallery.address import Address
from sameface.gallery.postgres.connections import connect
from sameface.gallery.postgres.rows import encode_row
from sameface.gallery.postgres.schema import Connection
from sameface.manifest import Thresholds
from sameface.model import Model
from sameface.template import Template
from sameface.training.pictures import open_pictures

TOP = 10
BOX = np.array([0, 0, 1, 1], np.float32)


class Pipeline:
    """An embedder in the place of a whole pipeline: the crops are cut already."""

    def __init__(self, embedder: Embedder) -> None:
        self.signature = f"benchmark of {embedder.model.manifest.sha256[:8]}"
        self.thresholds: Thresholds = embedder.spec.thresholds


def enroll(gallery: Gallery, rows: Embeddings, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Enroll the rows of each person, and return the number of the face that each became."""
    numbers = np.zeros(len(rows), np.int64)
    for person in np.unique(owner):
        own = np.flatnonzero(owner == person)
        name = f"person {person}"
        gallery.enroll(name, [Template(f"{place}", BOX, 1, rows[place]) for place in own])
        numbers[own] = [face.number for face in gallery.faces(name)]
    return numbers


def ask(connection: Connection, probes: Embeddings, kind: str, *, index: bool) -> NDArray[np.int64]:
    """Return the numbers of the nearest faces as the database orders them, `(n, TOP)`."""
    connection.execute(f"SET enable_seqscan = {'off' if index else 'on'}".encode())
    connection.execute(f"SET enable_indexscan = {'on' if index else 'off'}".encode())
    query = f"SELECT id FROM faces ORDER BY embedding::{kind} <#> %s::{kind} LIMIT {TOP}".encode()
    found = [connection.execute(query, (encode_row(probe),)).fetchall() for probe in probes]
    return np.array(found)[:, :, 0]


def compare(name: str, found: NDArray[np.int64], truth: NDArray[np.int64]) -> list[str]:
    """Return a row of the table: the first right, of the ten how many, and in their order."""
    first = (found[:, 0] == truth[:, 0]).mean()
    recall = np.mean([len(set(one) & set(other)) / TOP for one, other in zip(found, truth, strict=True)])
    ordered = (found == truth).all(axis=1).mean()
    return [name, f"{first:.4f}", f"{recall:.4f}", f"{ordered:.4f}"]


def is_same(one: Identification, other: Identification) -> bool:
    """Return whether two answers say the same."""
    nearest = [[(match.name, match.votes) for match in answer.matches] for answer in (one, other)]
    apart = [abs(a.distance - b.distance) for a, b in zip(one.matches, other.matches, strict=False)]
    return (one.name, one.ambiguous, nearest[0]) == (other.name, other.ambiguous, nearest[1]) and (
        max(apart, default=0) <= 1e-6
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("address")
    parser.add_argument("--people", type=int)
    parser.add_argument("--weights", default="resnet29")
    arguments = parser.parse_args()
    crops = open_pictures([arguments.crops])
    crops = crops.of_people(range(len(crops.people))[: arguments.people])
    embedder = Embedder(Model.load(arguments.weights))
    rows = embed_crops(embedder, crops)
    probe = np.unique(crops.owner, return_index=True)[1]
    kept = np.setdiff1d(np.arange(len(rows)), probe)
    measure(Pipeline(embedder), arguments.address, rows[probe], (rows[kept], crops.owner[kept]))


def measure(
    pipeline: Pipeline, server: str, probes: Embeddings, enrolled: tuple[Embeddings, NDArray[np.int64]]
) -> None:
    """Enroll, search in every way, and print what differs."""
    place = f"{server}{'&' if '?' in server else '?'}schema=benchmark"
    indexed_place = f"{place}&index=hnsw"
    address = Address.parse(place)
    with connect(address) as connection:
        connection.execute("DROP SCHEMA IF EXISTS benchmark CASCADE")
        with Gallery.open(place, pipeline) as exact, Gallery.open(indexed_place, pipeline) as indexed:
            numbers = enroll(exact, *enrolled)
            answers = [gallery.identify(probes, k=3) for gallery in (exact, indexed)]
        connection.execute("SET search_path TO benchmark, public")
        connection.execute("SET hnsw.ef_search = 200")
        connection.execute("ANALYZE faces")
        distances = squared_distances(probes, enrolled[0])
        truth = numbers[np.argsort(distances, axis=1, kind="stable")[:, :TOP]]
        half = f"halfvec({probes.shape[1]})"
        table = [
            compare(
                "exact scan in the database, float32", ask(connection, probes, "vector", index=False), truth
            ),
            compare("exact scan, half precision", ask(connection, probes, half, index=False), truth),
            compare("HNSW, half precision", ask(connection, probes, half, index=True), truth),
        ]
        connection.execute("DROP SCHEMA benchmark CASCADE")
    print(f"{len(enrolled[0]):,} faces of {len(probes):,} people enrolled, {len(probes):,} probes\n")
    print_table(["the ten nearest faces", "first", "recall", "in order"], table)
    same = np.mean([is_same(one, other) for one, other in zip(*answers, strict=True)])
    names = np.mean([one.name == other.name for one, other in zip(*answers, strict=True)])
    print(f"index=hnsw (200 candidates ranked by float32) against the default: {same:.4f} of the answers")
    print(f"are the same to the last match, {names:.4f} give the same name")


if __name__ == "__main__":
    main()
