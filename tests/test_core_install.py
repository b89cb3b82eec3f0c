"""What works without any extra: imports and help. The modules of the extras cannot be imported here."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import sys

EXTRAS = {
    "av", "cryptography", "fastapi", "httpx", "matplotlib", "multipart", "onnx", "onnxscript", "pillow_heif",
    "prometheus_client", "psycopg", "psycopg_pool", "pyarrow", "pydantic", "pymilvus", "python_multipart",
    "ray", "scipy", "sklearn", "starlette", "tensorboard", "torch", "uvicorn",
}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
"""


def run_without_extras(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "from sameface import *; Recognizer, annotate_video",
        "import sameface, pydoc; pydoc.render_doc(sameface)",
        "import inspect, sameface; assert len(inspect.getmembers(sameface)) >= len(sameface.__all__)",
    ],
)
def test_every_public_name_can_be_looked_at(code: str) -> None:
    done = run_without_extras(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["serve", "--help"], ["watch", "--help"], ["identify", "--help"], ["--help"]])
def test_help_needs_no_extra(words: list[str]) -> None:
    done = run_without_extras(f"from sameface.cli import main; main({words})")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize(
    ("words", "extra"), [(["serve", "--gallery", "none.db"], "serve"), (["watch", "--stream", "none.mp4"], "video")]
)
def test_a_missing_extra_is_named_when_it_is_needed(words: list[str], extra: str, tmp_path: object) -> None:
    done = run_without_extras(f"import os; os.chdir({str(tmp_path)!r})\nfrom sameface.cli import main; main({words})")
    assert done.returncode == 2, done.stderr
    assert done.stderr.rstrip().endswith(f"pip install 'sameface[{extra}]'")


def test_a_video_opened_without_its_extra_says_which_it_is() -> None:
    done = run_without_extras("import sameface; sameface.Video.open(sameface.__file__)")
    assert "ModuleNotFoundError: videos need av: pip install 'sameface[video]'" in done.stderr
