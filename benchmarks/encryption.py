"""What encryption costs a gallery.

    python benchmarks/encryption.py CROPS FOLDER [--faces N] [--parts PART ...]

CROPS are straightened crops, with their `crops.toml`, as in `search.py`, which embeds them and widens the
rows to N (100,000 unless given). FOLDER keeps the rows. `cost` enrolls, searches and forgets in a plain
and an encrypted gallery by turns, and `first` asks once after each was opened.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from report import print_table
from sameface.arrays import Embeddings
from sameface.embed import Embedder
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.gallery.file_encryption import decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, Keys, KeyText
from sameface.model import Model
from search import BOX, Pipeline, World, build
from timing import alternate

ONE, OTHER = (KeyText(Key(bytes([n]) * 32).text, f"key {n}") for n in (1, 2))
KINDS = {"plain": Keys(), "encrypted": Keys(ONE)}
ROUNDS = 15
PARTS = ("cost", "first")


def clock(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def copy_gallery(world: World, kind: str) -> Path:
    """Return a new copy of the plain gallery."""
    place = world.place.with_name(f"{kind}.db")
    for file in place.parent.glob(f"{place.name}*"):
        file.unlink()
    shutil.copy(world.place, place)
    return place


def measure_cost(world: World, pipeline: Pipeline) -> None:
    """Print what plain and encrypted galleries cost, and what it costs to make one of another."""
    places = {kind: copy_gallery(world, kind) for kind in KINDS}
    made = {"encrypt": clock(partial(encrypt_gallery, places["encrypted"], ONE))}
    opening = {kind: open_once(place, pipeline, KINDS[kind], world.probes) for kind, place in places.items()}
    with ExitStack() as stack:
        galleries = {
            kind: stack.enter_context(Gallery.open(place, pipeline, keys=KINDS[kind]))
            for kind, place in places.items()
        }
        first = {kind: clock(partial(each.identify, world.probes[:1])) for kind, each in galleries.items()}
        acts = {"identify one": identify_one, "identify 64": identify_all, "enroll one": enroll_one}
        acts["identify after an enrolment"] = identify_one
        seconds = {name: by_turns(galleries, world, act) for name, act in acts.items()}
        seconds["forget one"] = by_turns(galleries, world, forget_one, rounds=3)
    rows = {
        "open and identify, all rows in memory": opening,
        "first identify, which reads the templates": first,
        **seconds,
    }
    print_table(
        [f"{len(world.rows):,} faces, ms", *KINDS, *(f"{kind} / plain" for kind in list(KINDS)[1:])],
        [row_of(name, values) for name, values in rows.items()],
    )
    place = places["encrypted"]
    made["rotate-key"] = clock(partial(rotate_key, place, ONE, OTHER))
    made["rotate-key --data-key"] = clock(partial(rotate_data_key, place, OTHER))
    sizes = [place.stat().st_size / 1e6 for place in places.values()]
    made["decrypt"] = clock(partial(decrypt_gallery, place, OTHER))
    print_table(["all faces", "s"], [[name, f"{value:.2f}"] for name, value in made.items()])
    print("MB of the files:", ", ".join(f"{kind} {size:.1f}" for kind, size in zip(KINDS, sizes, strict=True)))


def row_of(name: str, values: dict[str, float]) -> list[str]:
    """Return a row of the table: milliseconds, then how many times those of the plain gallery."""
    plain = values["plain"]
    ratios = [f"{value / plain:.2f}" for kind, value in values.items() if kind != "plain"]
    return [name, *(f"{value * 1e3:,.1f}" for value in values.values()), *ratios]


def open_once(place: Path, pipeline: Pipeline, keys: Keys, probes: Embeddings) -> float:
    """Return the seconds from opening a gallery to an answer, if all rows are read into memory."""

    def act() -> None:
        with Gallery.open(place, pipeline, keys=keys) as gallery:
            gallery.identify(probes[:1], rule="rows")

    return median(alternate({"": act}, rounds=3)[""])


def measure_first(world: World, pipeline: Pipeline) -> None:
    """Print how long the first answer takes, which reads the templates, and the next ones."""
    table = []
    for kind in ("plain", "encrypted"):
        place = copy_gallery(world, kind)
        if kind == "encrypted":
            print(f"encrypt: {clock(partial(encrypt_gallery, place, ONE)):.1f} s")
        with Gallery.open(place, pipeline, keys=KINDS[kind]) as gallery:
            first = clock(partial(gallery.identify, world.probes[:1]))
            later = median(alternate({"": partial(gallery.identify, world.probes[:1])}, rounds=ROUNDS)[""])
        table.append([kind, f"{first:.2f}", f"{later * 1e3:.1f}"])
    print_table([f"{len(world.rows):,} faces", "first answer, s", "later ones, ms"], table)


Act = Callable[[Gallery, World, int], object]


def by_turns(galleries: dict[str, Gallery], world: World, act: Act, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of something that each gallery does in turn."""
    numbers = iter(range(len(galleries) * rounds))
    steps = {kind: lambda each=each: act(each, world, next(numbers)) for kind, each in galleries.items()}
    return {kind: median(seconds) for kind, seconds in alternate(steps, rounds=rounds).items()}


def identify_one(gallery: Gallery, world: World, number: int) -> None:
    """Identify one probe."""
    gallery.identify(world.probes[number % len(world.probes)][None], rule="rows")


def identify_all(gallery: Gallery, world: World, _number: int) -> None:
    """Identify a batch."""
    gallery.identify(world.probes, rule="rows")


def enroll_one(gallery: Gallery, world: World, number: int) -> None:
    """Enroll one face of somebody new."""
    row = world.probes[number % len(world.probes)]
    gallery.enroll(f"Zacharias {number}", [Template(f"new {number}", BOX, 1, row)])


def forget_one(gallery: Gallery, _world: World, number: int) -> None:
    """Forget somebody."""
    gallery.forget(f"person {number}")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    choices = parser.parse_args()
    pipeline = Pipeline(Embedder(Model.load("resnet29")))
    if {"cost", "first"} & set(choices.parts):
        world = build(choices.crops, choices.folder, choices.faces, pipeline)
    if "cost" in choices.parts:
        measure_cost(world, pipeline)
    if "first" in choices.parts:
        measure_first(world, pipeline)


if __name__ == "__main__":
    main()
