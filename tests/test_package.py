"""The package as a whole: what it exports, and what importing it costs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys

import pytest

import sameface

HEAVY = ["PIL", "click", "fastapi", "fastcluster", "matplotlib", "numpy", "onnxruntime", "psycopg", "rich", "torch"]


EXPORTS = """
CropRule Decision Detector Embedder Face FaceEmbedding FacePair FolderMatch Gallery Identification Manifest Match
Model Person PictureEmbeddings Receipt Recognizer SamefaceError Template Thresholds Timeline Track Video VideoSearch
Watcher align_faces annotate_video cluster_embeddings embed_many extend_clusters find find_pictures hash_image
identify_video read_image squared_distances
"""


def test_the_public_names_are_these():
    assert sameface.__all__ == EXPORTS.split()


def test_every_exported_name_has_one_home():
    homes = [name for names in sameface.HOMES.values() for name in names]
    assert sorted(homes) == sameface.__all__ == sorted(set(homes))


@pytest.mark.parametrize("name", sameface.__all__)
def test_every_exported_name_can_be_had(name):
    assert getattr(sameface, name).__module__.startswith("sameface")
    assert name in dir(sameface)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'recognise'"):
        sameface.recognise  # noqa: B018


def test_importing_the_package_loads_none_of_its_dependencies():
    code = f"import sys, sameface; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_client_loads_no_network_and_no_pictures():
    code = "import sys, sameface.client; print([name for name in ('onnxruntime', 'PIL') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_help_of_the_command_loads_no_network_and_no_numbers():
    code = (
        "import sys, sameface.cli\n"
        "try: sameface.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules and name != 'click'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_the_runtime_of_the_networks_reports_to_nobody_and_leaves_no_file(tmp_path):
    code = "import sameface.training.onnx_export; from sameface import Recognizer; Recognizer.load()"
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    quiet = {"CI", "ORT_DISABLE_TELEMETRY"}  # with either it reports nothing in any case
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    subprocess.run([sys.executable, "-c", code], env=environment | places, cwd=tmp_path, check=True)
    assert list(tmp_path.rglob("*")) == []


def public_functions() -> list[tuple[str, str]]:
    """Return module and name of every public function outside the command line and training.

    The gallery in Milvus is looked at where its client is installed.
    """
    passed_over = ["sameface.cli", "sameface.training"]
    if importlib.util.find_spec("pymilvus") is None:
        passed_over.append("sameface.gallery.milvus")
    found = []
    for info in pkgutil.walk_packages(sameface.__path__, "sameface."):
        if info.name.startswith(tuple(passed_over)):
            continue
        module = importlib.import_module(info.name)
        for name, value in inspect.getmembers(module, inspect.isfunction):
            if value.__module__ == info.name and not name.startswith("_"):
                found.append((info.name, name))
    return found


def test_no_function_is_called_like_its_module():
    assert [pair for pair in public_functions() if pair[0].rpartition(".")[2] == pair[1]] == []
