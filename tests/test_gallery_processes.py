"""A gallery under several programs at once, and under one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import toy

from sameface.face import Template
from sameface.gallery import Gallery, Person
from sameface.gallery.address import parse_address
from sameface.recognizer import Recognizer

pytestmark = pytest.mark.parametrize("place", ["sqlite", "postgres", "milvus"], indirect=True)

# Enrolls people with two faces each and says so, one line after each is in the file.
WORKER = """
import sys
import numpy as np
import pytest
import toy
from sameface import Gallery, Template

path, name, start, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
box, row = np.array([0, 0, 9, 9], np.float32), toy.row_of(toy.RED)
recognizer = toy.make_recognizer()
input()
with Gallery.open(path, recognizer) as gallery:
    for number in range(start, stop):
        person = f"{name} {number}"
        gallery.enroll(person, [Template(f"{person} {half}", box, 1, row) for half in "ab"])
        print(person, flush=True)
"""


@contextmanager
def worker(place: str, name: str, start: int, stop: int) -> Iterator[subprocess.Popen[str]]:
    """Start a program that enrolls from `start` to `stop` as soon as it is sent a line."""
    command = [sys.executable, "-c", WORKER, place, name, str(start), str(stop)]
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def send_line(process: subprocess.Popen[str]) -> None:
    """Let a worker begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_programs_that_enroll_at_once_lose_nothing(place: str, toy_recognizer: Recognizer) -> None:
    with worker(place, "A", 0, 50) as a, worker(place, "B", 0, 50) as b:
        send_line(a)
        send_line(b)
        told = [process.communicate()[0].splitlines() for process in (a, b)]
        assert (a.returncode, b.returncode) == (0, 0)
    assert [len(lines) for lines in told] == [50, 50]
    with Gallery.open(place, toy_recognizer) as gallery:
        assert gallery.people() == sorted(
            (Person(name, 2) for lines in told for name in lines), key=lambda person: person.name
        )
        assert gallery._db.load(toy_recognizer.signature).faces == 200


def test_a_program_sees_at_once_what_another_enrolled(place: str, toy_recognizer: Recognizer) -> None:
    probe = toy.row_of(toy.RED)[None]
    with Gallery.open(place, toy_recognizer) as gallery, worker(place, "A", 0, 1) as process:
        assert gallery.identify(probe, rule="rows")[0].name is None
        send_line(process)
        assert process.communicate()[0] == "A 0\n"
        assert gallery.identify(probe, rule="rows")[0].name == "A 0"


def test_a_killed_program_loses_nothing_that_it_acknowledged(place: str, toy_recognizer: Recognizer) -> None:
    acknowledged: set[str] = set()
    for life in range(4):
        with worker(place, f"Life {life}", 0, 100_000) as process:
            send_line(process)
            assert process.stdout is not None
            seen = [process.stdout.readline().strip() for _ in range(10 + 7 * life)]
            process.kill()
            seen += process.stdout.read().split("\n")[:-1]  # a line without an end was not told
        assert process.returncode == -9
        acknowledged.update(seen)
        with Gallery.open(place, toy_recognizer) as gallery:
            if parse_address(place) is None:
                assert gallery._db.read("PRAGMA integrity_check") == [("ok",)]
                assert gallery._db.read("PRAGMA foreign_key_check") == []
            people = gallery.people()
            assert {person.faces for person in people} == {2}  # nobody is half there
            names = {person.name for person in people}
        assert acknowledged <= names
        assert len(names - acknowledged) <= life + 1  # at most the one in hand at each kill


def test_threads_share_one_gallery(place: str, toy_recognizer: Recognizer) -> None:
    box, row = np.array([0, 0, 9, 9], np.float32), toy.row_of(toy.RED)

    def work(number: int) -> list[bool]:
        seen = []
        for turn in range(15):
            gallery.enroll(f"Person {number}", [Template(f"{number} {turn}", box, 1, row)])
            seen.append(gallery.identify(row[None], rule="rows")[0].name is not None)
            seen.append(gallery.holds(f"Person {number}", f"{number} {turn}"))
        return seen

    with Gallery.open(place, toy_recognizer) as gallery, ThreadPoolExecutor(8) as threads:
        assert all(all(seen) for seen in threads.map(work, range(8)))
        assert gallery.people() == [Person(f"Person {number}", 15) for number in range(8)]
