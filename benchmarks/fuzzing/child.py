"""The process that reads damaged files: it may crash, hang or eat memory without harm to who counts."""

from __future__ import annotations

import random
import resource
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzzing.targets import TARGETS, Target
from sameface.errors import SamefaceError

MEGABYTE = 1_000_000
ROOM = 4_000 * MEGABYTE  # of address space on top of what a process has at the start: the machine's own safety


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a case.

    Attributes:
        number: Of the case.
        kind: The kind of file.
        outcome: What was read, or the code of one of our errors, or `bug` for any other.
        seconds: Of the processor.
        megabytes: The largest memory of the process while it worked on the case, less that before the first.
        fault: The traceback of a bug, or "".
    """

    number: int
    kind: str
    outcome: str
    seconds: float
    megabytes: float
    fault: str = ""


def make_case(target: Target, number: int) -> tuple[str, bytes]:
    """Return kind and bytes of the file with this number, the same every time."""
    return target.make(random.Random(f"sameface {number}"))


def work(name: str, numbers: range, pipe: Connection) -> None:
    """Read the files with these numbers one after the other, and tell of each."""
    warnings.simplefilter("error")
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as place:
        before = run_case(target, -1, Path(place), 0).megabytes  # loads what is loaded once
        limit_memory()
        for number in numbers:
            pipe.send(number)
            pipe.send(run_case(target, number, Path(place), before))


def limit_memory() -> None:
    """Let the process not take the machine's memory."""
    used = int(read_status("VmSize") * MEGABYTE) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (used, used))


def run_case(target: Target, number: int, place: Path, before: float) -> Told:
    """Make and read one file."""
    kind, data = make_case(target, number)
    folder = place / f"{number}"
    folder.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # begin the largest memory anew
    start, fault = time.process_time(), ""
    try:
        outcome = target.use(kind, data, folder)
    except SamefaceError as error:
        outcome = error.code
    except Exception:  # noqa: BLE001 what is looked for
        outcome, fault = "bug", traceback.format_exc()
    seconds = time.process_time() - start
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return Told(number, kind, outcome, seconds, read_status("VmHWM") - before, fault)


def read_status(entry: str) -> float:
    """Return an entry of the process's status in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{entry}:")]
    return int(line.split()[1]) * 1024 / MEGABYTE
