"""Kill `sameface album` in the middle of scan, name and write-tags, again and again, and look at what is left.

    python benchmarks/album_kills.py PHOTOS [--runs 100]

PHOTOS is a folder of photographs; a part of them is copied to a temporary folder. After every kill (SIGKILL at a
random moment) each photograph must be there with the same pixels, the state must be whole, and every name that was
given must be there. The same command then has to succeed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import PIL.Image

from sameface.picture_files import find_pictures

MOST = 24  # photographs
LONGEST = {"scan": 6.0, "name": 1.5, "write-tags": 2.5}  # seconds until a command has ended by itself, about
COMMAND = [sys.executable, "-c", "from sameface.cli import main; main()", "album"]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)


def kill(seconds: float, *words: str | Path) -> bool:
    """Run a command and kill it after some seconds; return whether it was still running."""
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def hash_pixels(folder: Path) -> dict[str, int]:
    """Return a hash of the decoded pixels of every photograph."""
    hashes = {}
    for path in find_pictures(folder):
        with PIL.Image.open(path) as image:
            hashes[path.name] = hash(image.tobytes())
    return hashes


def check(folder: Path, pixels: dict[str, int], names: set[str]) -> list[str]:
    """Return what is wrong after a kill."""
    faults = [] if hash_pixels(folder) == pixels else ["a photograph is missing or has other pixels"]
    with sqlite3.connect(folder.with_name(f"{folder.name}.sameface")) as db:
        [(whole,)] = db.execute("PRAGMA integrity_check").fetchall()
        if whole != "ok" or db.execute("PRAGMA foreign_key_check").fetchall():
            faults.append("the state is damaged")
    listed = run("people", folder, "--json", "--least", "1")
    found = {json.loads(line)["person"] for line in listed.stdout.splitlines()} - {None}
    if listed.returncode or not names <= found:
        faults.append(f"names are gone: {sorted(names - found)} {listed.stderr}")
    return faults


def main() -> None:
    """Print how many kills hit a running command, and every fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    hits: Counter[str] = Counter()
    faults: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        folder.mkdir()
        for number, path in enumerate(list(find_pictures(given.photos))[:MOST]):
            shutil.copy(path, folder / f"{number:03d}{path.suffix}")
        pixels, names = hash_pixels(folder), set[str]()
        run("scan", folder)
        for turn in range(given.runs):
            verb = ("scan", "name", "write-tags")[turn % 3]
            if verb == "scan":
                words: list[str | Path] = ["scan", folder, "--upgrade", *(["--no-flip"] if turn % 2 else [])]
            elif verb == "name":
                [first, *_] = run("people", folder, "--json", "--least", "1").stdout.splitlines()
                names.discard(json.loads(first)["person"] or "")
                words = ["name", folder, str(json.loads(first)["group"]), f"Person {turn}"]
            else:
                words = ["write-tags", folder, "--in-place"]
            hits[verb] += kill(rng.uniform(0, LONGEST[verb]), *words)
            faults += [f"turn {turn}, {verb}: {fault}" for fault in check(folder, pixels, names)]
            done = run(*words)
            if done.returncode:
                faults.append(f"turn {turn}, {verb}: the command fails afterwards: {done.stderr}")
            elif verb == "name":
                names.add(f"Person {turn}")
    seconds = time.monotonic() - began
    print(f"{given.runs} kills ({dict(hits)} of running commands), {len(faults)} faults, {seconds:.0f} s")
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
