"""How many strangers are named at the default thresholds: asked against met, by the size of the gallery.

    python benchmarks/fpir.py DATA CACHE [WEIGHTS ...]

DATA holds `portraits.tar` and `lfw-view1.tar`. Portraits that the thresholds were calibrated on are enrolled,
one each. The strangers are people whom the thresholds have not seen: portraits that were left out, of the
same population, and the test half of LFW's View 1, one photograph of each. Politicians are in both sets, so
that nobody with the family name of a portrait is taken. Galleries up to all portraits are real; beyond, each
portrait is repeated with noise. Smaller ones are drawn `DRAWS` times. The interval is over strangers
(Clopper and Pearson, 1934). CACHE keeps landmarks and rows.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from identification import Network, Photographs, embed, find_faces, open_network, read_portraits
from lfw import read_view1
from report import print_table
from sameface.arrays import Embeddings
from sameface.compare import unit_distances
from sameface.embed import Embedder, unit_rows
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.thresholds import Thresholds

SIZES = (100, 1000, 5000, 100_000, 1_000_000)
FARS = (1e-1, 1e-2, 1e-3)
DRAWS = 20
NOISE = 0.5  # its length, where a row has 1
BLOCK = 50_000  # enrolled rows at a time


def plain_words(name: str) -> set[str]:
    """Return the words of a name in small letters, without accents."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    return set(re.findall("[a-z]+", letters))


def read_family_names(path: Path) -> set[str]:
    """Return the family names of the portraits, a word each."""
    with tarfile.open(path) as tar:
        stream = tar.extractfile("portraits/people.csv")
        assert stream is not None
        table = csv.DictReader(io.TextIOWrapper(stream, "utf-8"))
        return set().union(*(plain_words(row["name"].partition(",")[0]) for row in table))


def read_test_half(path: Path, cache: Path, known: set[str]) -> Photographs:
    """Return the first photograph of each person of the test half of View 1 with no known family name."""
    view = read_view1(path)
    firsts = {
        each.person: each
        for each in reversed(view.pictures(view.test))
        if not plain_words(each.person.rpartition("_")[2]) & known
    }
    files = {f"{who}/{firsts[who].number:04d}": view.files[firsts[who]] for who in sorted(firsts)}
    return find_faces("view1-strangers", files, cache)


def embed_all(network: Network, photographs: Photographs, cache: Path) -> Embeddings:
    """Return unit rows of crop and mirror image."""
    crop, mirrored = embed(network, photographs, cache)
    return unit_rows(crop + mirrored)


def fill_gallery(enrolled: Embeddings, size: int, rng: np.random.Generator) -> Iterator[Embeddings]:
    """Yield the rows of a gallery in blocks: some enrolled rows, or all again and again with noise."""
    if size <= len(enrolled):
        yield enrolled[rng.permutation(len(enrolled))[:size]]
        return
    for start in range(0, size, BLOCK):
        rows = enrolled[np.arange(start, min(start + BLOCK, size)) % len(enrolled)]
        noise = rng.standard_normal(rows.shape, np.float32) * np.float32(NOISE / np.sqrt(rows.shape[1]))
        yield unit_rows(rows + noise)


def count_named(strangers: Embeddings, enrolled: Embeddings, size: int, thresholds: Thresholds) -> NDArray[np.float64]:
    """Return how many strangers get a name at each of `FARS`, the mean of the draws."""
    rng = np.random.default_rng(0)
    limits = [thresholds.at_gallery(size, far).distance for far in FARS]
    draws = DRAWS if size < len(enrolled) else 1
    counts = np.zeros(len(FARS))
    for _ in range(draws):
        blocks = fill_gallery(enrolled, size, rng)
        nearest = np.min([unit_distances(strangers, rows).min(axis=1) for rows in blocks], axis=0)
        counts += [(nearest <= limit).sum() for limit in limits]
    return counts / draws


def tell(named: float, strangers: int, far: float) -> str:
    """Return a rate in percent with its interval, and how many times what was asked it is."""
    low = beta.ppf(0.025, named, strangers - named + 1) if named else 0.0
    high = beta.ppf(0.975, named + 1, strangers - named)
    rate = named / strangers
    return f"{100 * rate:.2f} ({100 * low:.2f} to {100 * high:.2f}), x {rate / far:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("weights", nargs="*", default=[DEFAULT_WEIGHTS])
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    tar = arguments.data / "portraits.tar"
    known = read_portraits(tar, arguments.cache)
    strange = [
        read_portraits(tar, arguments.cache, left_out=True),
        read_test_half(arguments.data / "lfw-view1.tar", arguments.cache, read_family_names(tar)),
    ]
    lines = []
    for name in arguments.weights:
        network, thresholds = open_network(name, arguments.data), Embedder(Model.load(name)).spec.thresholds
        enrolled = embed_all(network, known, arguments.cache)
        for photographs in strange:
            rows = embed_all(network, photographs, arguments.cache)
            for size in (min(size, len(enrolled)) if size <= 5000 else size for size in SIZES):
                named = count_named(rows, enrolled, size, thresholds)
                rates = [tell(count, len(rows), far) for count, far in zip(named, FARS, strict=True)]
                lines.append([name, photographs.name, f"{size:,}", *rates])
    print_table(["network", "strangers", "enrolled", *(f"% named, asked {100 * far:g} %" for far in FARS)], lines)


if __name__ == "__main__":
    main()
