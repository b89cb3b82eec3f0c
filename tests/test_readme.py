"""What README.md shows runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
LONG = 40  # lines from which a README without a block that runs is a fault
BLOCK = re.compile(r"^(<!-- tested -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def find_blocks(page: str) -> list[tuple[str, str]]:
    """Return language and text of every block of Python, and of every block of shell marked as tested."""
    found = BLOCK.findall(page)
    return [(kind, text) for mark, kind, text in found if kind == "python" or (kind == "sh" and mark)]


def needs_blocks(page: str) -> bool:
    """Return whether a page is long enough that some block must run."""
    return len(page.splitlines()) > LONG


def run_block(kind: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in `folder`, with our `sameface` and `python` first on the path."""
    command = [sys.executable, "-W", "error", "-c", text] if kind == "python" else ["sh", "-eu", "-c", text]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if name != "SAMEFACE_GALLERY"}
    return subprocess.run(
        command, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the sample photographs."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    return tmp_path


@pytest.mark.parametrize(("kind", "text"), find_blocks(README))
def test_a_block_runs_and_prints_what_its_comments_say(kind: str, text: str, folder: Path) -> None:
    result = run_block(kind, text, folder)
    assert result.returncode == 0, result.stderr
    promised = re.findall(r"^\s*print\(.*\)  # ([^\s:]+)", text, re.MULTILINE)
    assert result.stdout.splitlines()[: len(promised)] == promised


def test_a_long_readme_has_blocks_that_run() -> None:
    assert find_blocks(README) or not needs_blocks(README)


PAGE = """
```python
print(1)
```
```sh
exit 1
```
<!-- tested -->
```sh
ls samples
```

<!-- tested -->

```sh
not directly under its mark
```
"""


def test_marked_blocks_and_python_are_found() -> None:
    assert find_blocks(PAGE) == [("python", "print(1)\n"), ("sh", "ls samples\n")]
    assert needs_blocks("\n" * (LONG + 1))
    assert not needs_blocks("\n" * LONG)


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("python", "import sameface", 0),
        ("python", "1 / 0", 1),
        ("python", "import warnings; warnings.warn('old')", 1),
        ("sh", "test -f samples/joe-biden.jpg && sameface --version", 0),
        ("sh", "false\ntrue", 1),
    ],
)
def test_a_block_that_fails_is_seen(kind: str, text: str, code: int, folder: Path) -> None:
    assert run_block(kind, text, folder).returncode == code
