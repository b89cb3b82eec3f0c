"""Batch work on a Ray cluster of two workers on this machine; the toy world."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from click.testing import Result

from sameface.batch import Finder, Journal, embed_pictures, open_pictures
from sameface.batch.distributed import RayError, embed_on_ray

HERE = str(Path(__file__).parent)
INSTALL = "needs Ray: pip install -c constraints.txt --group ci"


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    results = embed_on_ray([], Finder(toy.make_recognizer()), address="local", workers=2)
    with pytest.raises(RayError, match=r"pip install 'sameface\[ray\]'"):
        next(results)


def test_where_there_is_no_cluster_it_says_so_soon() -> None:
    pytest.importorskip("ray", reason=INSTALL)
    results = embed_on_ray([], Finder(toy.make_recognizer()), address="127.0.0.1:1", workers=2)
    with pytest.raises(RayError, match=r"cannot use the Ray cluster '127\.0\.0\.1:1': .*[Rr]efused"):
        next(results)


class Deadly(toy.FindSquares):
    """A detector whose process dies of the picture with the note 20, once, and that tells who ran it."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def run(self, pixels: np.ndarray) -> object:
        with (self.notes / f"{os.getpid()}").open("a") as file:
            file.write("x")
        if pixels[0, -1, -1, 0] == 20 and not (self.notes / "died").exists():
            (self.notes / "died").touch()
            os.kill(os.getpid(), 9)
        return super().run(pixels)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local Ray with two cores whose workers know the toy world."""
    ray = pytest.importorskip("ray", reason=INSTALL)
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([HERE, *filter(None, sys.path)])}}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield ray
    ray.shutdown()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Forty pictures: some are alike, some hold two faces, one is broken twice."""
    album = tmp_path / "album"
    for number in range(40):
        colours = (toy.RED, toy.BLUE) if number % 3 else (toy.GREEN,)
        toy.save(album / f"{number:02d}.png", *colours, note=number if number < 30 else number - 30)
    for number in (7, 9):
        (album / f"{number:02d}.png").write_bytes(b"no picture")
    return album


def plain(results: Any) -> list[tuple[object, ...]]:
    """Return results as something that can be compared."""
    return [
        (one.picture.name, one.sha256, one.failure, one.same_as, one.new, one.found and one.found.rows.tobytes())
        for one in results
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Ray itself warns of
def test_every_picture_is_there_once_though_a_worker_is_killed(cluster: Any, album: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    recognizer = toy.make_recognizer()
    recognizer.detector.model = Deadly(tmp_path / "notes")  # type: ignore[assignment]
    wanted = plain(embed_pictures(open_pictures([album]), Finder(toy.make_recognizer())))
    with Journal.open(tmp_path / "journal") as journal:
        results = embed_on_ray(open_pictures([album]), Finder(recognizer), address="local", workers=2, journal=journal)
        found = plain(results)
        entries = [entry.picture for entry in journal.entries(Finder(recognizer).pipeline)]
    assert found == wanted
    assert entries == [one[0] for one in wanted]
    assert (tmp_path / "notes" / "died").exists()
    assert len(list((tmp_path / "notes").iterdir())) >= 4  # two workers, one in the place of the dead one, the note


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_on_ray_goes_on_from_the_journal(cluster: Any, album: Path, tmp_path: Path) -> None:
    finder = Finder(toy.make_recognizer())
    wanted = plain(embed_pictures(open_pictures([album]), finder))
    with Journal.open(tmp_path / "journal") as journal:
        list(embed_pictures(open_pictures(sorted(album.iterdir())[:15]), finder, journal=journal))
        results = list(embed_on_ray(open_pictures([album]), finder, address="local", workers=2, journal=journal))
    assert [one[:4] for one in plain(results)] == [one[:4] for one in wanted]
    assert [one.new for one in results][:15] == [number in (7, 9) for number in range(15)]  # failed ones


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["faces.npz", "faces.jsonl"])
def test_the_command_writes_the_same_bytes_with_ray_as_without(
    cluster: Any, run: Callable[..., Result], album: Path, tmp_path: Path, output: str
) -> None:
    assert run("embed", album, "-o", output).exit_code == 3
    assert run("embed", album, "-o", f"ray-{output}", "--ray", "local", "--workers", "2").exit_code == 3
    assert (tmp_path / f"ray-{output}").read_bytes() == (tmp_path / output).read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_ray_reads_plain_tar_files_and_refuses_compressed_ones(
    cluster: Any, album: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"photos.{ending}"
    with tarfile.open(path, "w" if ending == "tar" else "w:gz") as tar:  # type: ignore[call-overload]
        for picture in sorted(album.iterdir())[:6]:
            tar.add(picture, picture.name)
    results = list(embed_on_ray(open_pictures([path]), Finder(toy.make_recognizer()), address="local", workers=2))
    if ending == "tar":
        assert [one.found is not None for one in results] == [True] * 6
    else:
        reasons = {one.failure.reason.partition(": ")[2] for one in results if one.failure is not None}
        assert (len(results), reasons) == (6, {"a compressed tar file: unpack it for Ray"})
