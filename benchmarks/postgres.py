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
from galleries import TOP, Pipeline, compare, enroll, is_same
from report import print_table
from sameface.arrays import Embeddings
from sameface.compare import squared_distances
from sameface.embed import Embedder
from sameface.gallery import Gallery
from sameface.gallery.address import PostgresAddress
from sameface.gallery.postgres.connections import connect
from sameface.gallery.postgres.database import format_vector
from sameface.gallery.postgres.schema import Connection
from sameface.model import Model
from sameface.training.dataset import open_pictures


def ask(connection: Connection, probes: Embeddings, kind: str, *, index: bool) -> NDArray[np.int64]:
    """Return the numbers of the nearest faces as the database orders them, `(n, TOP)`."""
    connection.execute(f"SET enable_seqscan = {'off' if index else 'on'}".encode())
    connection.execute(f"SET enable_indexscan = {'on' if index else 'off'}".encode())
    query = f"SELECT id FROM faces ORDER BY embedding::{kind} <#> %s::{kind} LIMIT {TOP}".encode()
    found = [connection.execute(query, (format_vector(probe),)).fetchall() for probe in probes]
    return np.array(found)[:, :, 0]


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
    address = PostgresAddress.parse(place)
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
            compare("exact scan in the database, float32", ask(connection, probes, "vector", index=False), truth),
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
