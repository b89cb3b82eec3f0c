"""What is fed with damaged files: one function per kind of file that comes from outside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from fuzzing import lies, seeds
from fuzzing.mutate import mutate
from sameface.adapter import Adapter, fit_adapter
from sameface.batch.sources import open_pictures
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.errors import ImageError
from sameface.evaluation.protocols import read_pairs, read_videos
from sameface.evaluation.report import FORMAT, read_json
from sameface.face import Template
from sameface.gallery import Gallery
from sameface.image import read_image
from sameface.manifest import read_manifest
from sameface.model import Model, list_shipped
from sameface.thresholds import Thresholds

SIDE = 128  # pixels of the longer side in which faces are searched for
THRESHOLDS = Thresholds((0.1, 0.01), (0.4, 0.2), (100, 10), 1000, "noise")


class Target(Protocol):
    """One kind of file."""

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        """Return the kind and the bytes of a damaged file."""

    def use(self, kind: str, data: bytes, folder: Path) -> str:
        """Read the file as sameface does, in a folder of its own, and say in a word what came out."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """`read_image`, and `Detector.find` for what it lets through."""

    detector: Detector = field(default_factory=lambda: Detector(Model.load("centerface", threads=1), max_side=SIDE))
    seeds: list[seeds.Seed] = field(default_factory=seeds.make_seeds)

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        """Return a picture."""
        seed = rng.choice(self.seeds)
        return seed.kind, lies.change(seed, self.seeds, rng)

    def use(self, kind: str, data: bytes, folder: Path) -> str:  # noqa: ARG002
        """Read it and search it."""
        image = read_image(data)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise AssertionError(f"{image.dtype} {image.shape}")
        faces = self.detector.find(image)
        if not all(np.isfinite(face.landmarks).all() and 0 <= face.score <= 1 for face in faces):
            raise AssertionError("a face that is not finite")
        return "read, faces found" if faces else "read, no face"


@dataclass(frozen=True, slots=True)
class Files:
    """A reader of files that are given by path.

    Attributes:
        read: Takes the path of the file.
        originals: What is damaged: the name of a file and its bytes.
    """

    read: Callable[[Path], object]
    originals: Sequence[tuple[str, bytes]]

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        """Return a file."""
        name, data = rng.choice(self.originals)
        return name, mutate(data, rng, rng.choice(self.originals)[1])

    def use(self, kind: str, data: bytes, folder: Path) -> str:
        """Read it."""
        path = folder / kind
        path.write_bytes(data)
        self.read(path)
        return "read"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a gallery must know of who made its rows."""

    signature: str = "noise"
    thresholds: Thresholds = THRESHOLDS


@dataclass(frozen=True, slots=True)
class Galleries:
    """A gallery file: opened, listed, searched, written to, and a person forgotten."""

    original: bytes = field(default_factory=lambda: make_gallery())

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        """Return a gallery: damaged bytes, or a sound SQLite file with a value that does not belong there."""
        if rng.random() < 0.5:
            return "bytes", mutate(self.original, rng, self.original)
        return "values", with_wrong_value(self.original, rng)

    def use(self, kind: str, data: bytes, folder: Path) -> str:  # noqa: ARG002
        """Do with it what the commands do."""
        path = folder / "given.db"
        path.write_bytes(data)
        box, row = np.array([0, 0, 9, 9], np.float32), make_rows(1, 9)
        with Gallery.open(path, Pipeline()) as gallery:
            people = gallery.people()
            for person in people:
                for face in gallery.faces(person.number):
                    gallery.crop(person.number, face.number)
            found = gallery.identify(make_rows(3, 1))
            if not all(0 <= match.distance <= 4 for answer in found for match in answer.matches):
                raise AssertionError(f"a distance that there is not: {found}")
            gallery.enroll("Somebody New", [Template("new", box, 1.0, row[0])])
            gallery.forget("Somebody New")
        return "used"


def make_rows(count: int, seed: int) -> NDArray[np.float32]:
    """Return `(count, 8) float32` unit rows."""
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def make_gallery() -> bytes:
    """Return the bytes of a gallery of three people."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "people.db")
        crop = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        box = np.array([0, 0, 9, 9], np.float32)
        with Gallery.open(path, Pipeline()) as gallery:
            for number, name in enumerate(("Ann", "Bob", "Cleo")):
                rows = make_rows(2, number)
                gallery.enroll(name, [Template(f"{name}{n}", box, 1.0, row, crop=crop) for n, row in enumerate(rows)])
            gallery.keep_thresholds(THRESHOLDS)
        return path.read_bytes()


def with_wrong_value(original: bytes, rng: random.Random) -> bytes:
    """Return a gallery in which one column of one table holds something else."""
    db = sqlite3.connect(":memory:")
    db.deserialize(with_journal(original, 1))
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    table = rng.choice(tables)
    column = rng.choice([row[1] for row in db.execute(f"PRAGMA table_info('{table}')")])
    value = rng.choice(
        (None, -1, 0, 1e308, float("inf"), 2**62, "", "text", "\ud7ff", b"", b"\0" * 31, rng.randbytes(32), "[]", "{}")
    )
    with db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        try:
            db.execute(
                f'UPDATE "{table}" SET "{column}" = ? WHERE rowid IN (SELECT rowid FROM "{table}" LIMIT ?)',
                (value, rng.choice((1, 100))),
            )
        except sqlite3.IntegrityError:
            db.execute(f'DROP TABLE "{table}"')
    data = db.serialize()
    db.close()
    return with_journal(data, 2)


def with_journal(data: bytes, kind: int) -> bytes:
    """Return a SQLite file that asks for a rollback journal (1) or a write-ahead log (2)."""
    return data[:18] + bytes([kind, kind]) + data[20:]


@dataclass(frozen=True, slots=True)
class Networks:
    """An ONNX file whose manifest fits it: opened and run."""

    original: bytes = field(default_factory=lambda: make_network())

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        """Return a network."""
        return "network", mutate(self.original, rng, self.original)

    def use(self, kind: str, data: bytes, folder: Path) -> str:  # noqa: ARG002
        """Open it and run it on one crop."""
        path = folder / "given.onnx"
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        path.with_suffix(".toml").write_text(re.sub(r'sha256 = ".*"', f'sha256 = "{sha256}"', EMBEDDER, count=1))
        Embedder(Model.load(path, threads=1)).embed(np.zeros((1, 8, 8, 3), np.uint8))
        return "run"


def make_network() -> bytes:
    """Return the bytes of a small network: a convolution, the mean over the crop, a matrix."""
    rng = np.random.default_rng(0)
    weights = {"kernel": (4, 3, 3, 3), "matrix": (4, 3)}
    stored = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "kernel"], ["a"]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("ReduceMean", ["b"], ["c"], axes=[2, 3], keepdims=0),
        onnx.helper.make_node("MatMul", ["c", "matrix"], ["y"]),
    ]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    graph = onnx.helper.make_graph(nodes, "small", [x], [y], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


EMBEDDER = """
name = "given"
sha256 = ""
kind = "embedder"
licence = "none"
training_data = "none"
dimension = 3
[source]
file = "none"
[input]
size = 8
mean = [127.5, 127.5, 127.5]
scale = 0.0078125
[crop]
kind = "box"
margin = 0.2
[thresholds]
calibrated_on = "noise"
impostor_pairs = 1000
rows = [{far = 0.1, distance = 0.4, pairs = 100}, {far = 0.01, distance = 0.2, pairs = 10}]
"""


def make_manifests() -> Files:
    """Return manifests, which are read and whose thresholds are looked up."""

    def read(path: Path) -> None:
        manifest = read_manifest(path)
        if manifest.embedding is not None:
            manifest.embedding.thresholds.at_gallery(100)

    shipped = [(f"{name}.toml", path.with_suffix(".toml").read_bytes()) for name, path in list_shipped().items()]
    return Files(read, [*shipped, ("given.toml", EMBEDDER.encode())])


def make_adapters() -> Files:
    """Return adapters, which are loaded and move rows."""

    def read(path: Path) -> None:
        moved = Adapter.load(path).move(make_rows(3, 1))
        if not np.isfinite(moved).all():
            raise AssertionError("rows that are not finite")

    adapter = fit_adapter(make_rows(50, 1), make_rows(50, 2), signatures=("a", "b"), hidden=4)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "a.npz")
        adapter.calibrated(THRESHOLDS).save(path)
        return Files(read, [("given.npz", path.read_bytes())])


def make_lists() -> Files:
    """Return lists of pairs in every format."""

    def read(path: Path) -> None:
        reader = read_videos if path.name == "splits.txt" else lambda given, folder: read_pairs([given], folder)
        reader(path, path.parent)

    table = "a,b,same,fold,person_a,person_b\n" + "A/1.jpg,A/2.jpg,1,0,A,A\nA/1.jpg,B/1.jpg,0,1,A,B\n" * 3
    lfw = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\nCleo\t1\t4\nAnn\t1\tCleo\t3\n"
    videos = "split, first, second, same\n1, A/1, A/2, 1\n2, A/1, B/2, 0\n"
    lists = {"pairs.csv": table, "pairs.txt": lfw, "splits.txt": videos}
    return Files(read, [(name, text.encode()) for name, text in lists.items()])


def make_packed() -> Files:
    """Return tar and Parquet files of pictures, which are read to the end."""

    def read(path: Path) -> None:
        for picture in open_pictures([path]):
            with contextlib.suppress(ImageError):
                read_image(picture.read())

    pictures = [seed.data for seed in seeds.make_seeds()[:5]]
    files = [(f"given.{ending}", make_tar(pictures, form)) for ending, form in TAR_FORMS.items()]
    return Files(read, [*files, ("given.parquet", make_parquet(pictures))])


TAR_FORMS = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def make_tar(pictures: Sequence[bytes], form: str) -> bytes:
    """Return a tar file with a long name in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=form) as tar:  # type: ignore[call-overload]
        for number, data in enumerate(pictures):
            member = tarfile.TarInfo(f"{'folder/' * 30 * number}{number}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def make_parquet(pictures: Sequence[bytes]) -> bytes:
    """Return a Parquet file as Hugging Face has it."""
    file = io.BytesIO()
    rows = [{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(pictures)]
    people = ["Ann"] * len(rows)
    pyarrow.parquet.write_table(pyarrow.table({"image": rows, "person": people}), file, row_group_size=2)
    return file.getvalue()


def make_reports() -> Files:
    """Return the JSON of a report, as `--compare` reads it."""
    record = {"format": FORMAT, "facts": {"a": "b"}, "tables": [], "charts": [{"title": "t", "lines": []}]}
    return Files(read_json, [("report.json", json.dumps(record).encode())])


TARGETS: dict[str, Callable[[], Target]] = {
    "pictures": Pictures,
    "galleries": Galleries,
    "networks": Networks,
    "manifests": make_manifests,
    "adapters": make_adapters,
    "lists": make_lists,
    "packed": make_packed,
    "reports": make_reports,
}
