"""What a reader of `sameface verify` must read: the modules that it loads, and those whose code it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
CODE = """
import json, sys
import sameface.cli
import sameface.cli.pictures

files = set()

def note(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.endswith(".py") and frame.f_globals.get("__name__", "").startswith("sameface."):
        files.add(name)

sys.setprofile(note)
try:
    sameface.cli.main(["verify", *sys.argv[1:], "--json"])
except SystemExit as ended:
    code = ended.code
sys.setprofile(None)
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "sameface")
print(json.dumps({"code": code, "files": sorted(files), "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def verified() -> dict[str, list[str]]:
    """The files and modules of one `verify` of two samples, in a process of its own."""
    pictures = [str(SAMPLES / f"barack-obama-{number}.jpg") for number in (1, 2)]
    done = subprocess.run([sys.executable, "-c", CODE, *pictures], capture_output=True, text=True, check=True)
    decision, found = map(json.loads, done.stdout.splitlines())
    assert (decision["same"], found["code"]) == (True, 0)
    return found


def test_verify_loads_no_code_of_batches_galleries_or_the_service(verified: dict[str, list[str]]) -> None:
    parts = {name.split(".")[1] for name in verified["loaded"] if "." in name}
    assert not parts & {"batch", "cluster", "evaluation", "gallery", "service", "training", "video"}
    cli = {name for name in verified["loaded"] if name.startswith("sameface.cli.")}
    assert cli == {"sameface.cli.options", "sameface.cli.output", "sameface.cli.pictures"}


def test_verify_is_read_in_few_files(verified: dict[str, list[str]]) -> None:
    lines = {file: len(Path(file).read_text("utf-8").splitlines()) for file in verified["files"]}
    assert len(lines) <= 16, sorted(lines)
    assert sum(lines.values()) <= 2_300
    assert sum(count for file, count in lines.items() if Path(file).parent.name == "cli") <= 500
