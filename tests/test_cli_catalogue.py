"""`weights get`: the catalogue, a download from a server on this machine, the conversion from IR."""

from __future__ import annotations

import hashlib
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sameface.cli import main
from sameface.cli.catalogue import (
    SECURE,
    CatalogueEntry,
    PublishedFile,
    download_files,
    find_entry,
    read_catalogue,
    read_files,
    remove_parts,
)
from sameface.cli.openvino import convert_ir
from sameface.embed import unit_rows
from sameface.errors import WeightsError
from sameface.manifest import read_manifest
from sameface.model import open_session

TEACHER = Path(__file__).parent.parent.parent / "shared" / "data" / "teacher"
IR = [TEACHER / f"face-reidentification-retail-0095.{kind}" for kind in ("xml", "bin")]
needs_ir = pytest.mark.skipif(not IR[0].exists(), reason="needs ../shared/data/teacher")
DATA = np.random.default_rng(0).bytes(300_000)
FACTS = {"licence": "MIT", "publisher": "nobody", "training_data": "not stated", "dimension": 3}


@dataclass
class Server:
    """What a server does, and what it was asked for."""

    url: str = ""
    ranges: bool = True
    cut: int = 0  # bytes of an answer after which the connection ends
    pause: float = 0  # seconds between parts of an answer
    body: bytes = DATA
    location: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server():
    """A server of one file on this machine."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range", "")
            state.asked.append(asked)
            if state.location:
                self.send_response(302)
                self.send_header("Location", state.location)
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            end = start + state.cut if state.cut else len(state.body)
            for place in range(start, min(end, len(state.body)), 10_000):
                with suppress(OSError):  # whoever asked has gone
                    self.wfile.write(state.body[place : min(place + 10_000, end)])
                time.sleep(state.pause)

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}/network.onnx"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def entry_of(server: Server, data: bytes = DATA) -> CatalogueEntry:
    file = PublishedFile("network.onnx", server.url, len(data), hashlib.sha256(data).hexdigest())
    return CatalogueEntry("mine", FACTS, (file,))


def download(server: Server, folder: Path) -> bytes:
    [data] = download_files(entry_of(server), folder, schemes=("http",))
    return data


# The download


def test_a_download_is_whole_and_its_part_goes_when_the_network_is_kept(server, tmp_path):
    assert download(server, tmp_path / "new") == DATA
    assert download(server, tmp_path / "new") == DATA  # it is there: nothing is asked for again
    assert server.asked == [""]
    remove_parts(entry_of(server), tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_interrupted_download_resumes(server, tmp_path):
    server.cut = 120_000
    with pytest.raises(WeightsError, match=r"ended after 120,000 of 300,000 bytes.*run the command again"):
        download(server, tmp_path)
    server.cut = 0
    assert download(server, tmp_path) == DATA
    assert server.asked == ["", "bytes=120000-"]


def test_a_server_that_cannot_resume_sends_all_of_it_again(server, tmp_path):
    server.cut, server.ranges = 120_000, False
    with pytest.raises(WeightsError, match="ended after"):
        download(server, tmp_path)
    server.cut = 0
    assert download(server, tmp_path) == DATA
    assert (tmp_path / "network.onnx.part").read_bytes() == DATA


def test_another_hash_is_refused_and_deletes_nothing_else(server, tmp_path):
    (tmp_path / "network.onnx").write_bytes(b"mine")
    server.body = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(WeightsError, match=r"network\.onnx is another file"):
        download(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_more_bytes_than_the_catalogue_says_are_not_taken(server, tmp_path):
    server.body = DATA + DATA
    with pytest.raises(WeightsError, match="sends more than 300,000 bytes"):
        download(server, tmp_path)
    assert (tmp_path / "network.onnx.part").stat().st_size <= len(DATA)


def test_a_full_disk_is_told(server, tmp_path):
    (tmp_path / "network.onnx.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="No space left on device"):
        download(server, tmp_path)


def test_a_place_that_is_no_folder_is_told(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="Not a directory"):
        download(server, tmp_path / "file" / "weights")
    assert server.asked == []


def test_a_server_that_is_not_there_is_told(tmp_path):
    nobody = Server(url="http://127.0.0.1:9/network.onnx")
    with pytest.raises(WeightsError, match="refused"):
        download(nobody, tmp_path)


def test_nothing_but_https_is_opened_nor_redirected_to(server, tmp_path):
    assert SECURE == ("https",)
    with pytest.raises(WeightsError, match="not an address of https"):
        download_files(entry_of(server), tmp_path)
    assert server.asked == []
    server.location = "ftp://127.0.0.1/network.onnx"
    with pytest.raises(WeightsError, match=r"ftp://.* is not an address of http"):
        download(server, tmp_path)


def test_a_download_that_is_interrupted_by_the_keyboard_resumes(server, tmp_path):
    server.pause = 0.1
    code = (
        "import sys; from pathlib import Path; from test_cli_catalogue import Server, download\n"
        "download(Server(url=sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path)]
    part = tmp_path / "network.onnx.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=Path(__file__).parent) as process:
        while not part.exists() or part.stat().st_size < 50_000:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert 0 < part.stat().st_size < len(DATA)
    server.pause = 0
    assert download(server, tmp_path) == DATA
    assert server.asked[1].startswith("bytes=")


# The catalogue


def test_every_entry_says_what_is_known_and_invents_nothing():
    catalogue = read_catalogue()
    assert {"retail-0095", "sface", "resnet29-celeba"} <= catalogue.keys()
    for entry in catalogue.values():
        assert entry.facts["licence"]
        assert entry.facts["training_data"]
        for file in entry.files:
            assert not file.url or (file.url.startswith("https://") and file.size and len(file.sha256) == 64)
        assert entry.facts.get("note") or all(file.url for file in entry.files)


def get(*words: str | Path, answer: str | None = None):
    return CliRunner().invoke(main, ["weights", "get", *map(str, words)], input=answer, catch_exceptions=False)


@pytest.fixture
def added(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SAMEFACE_WEIGHTS_FOLDER", str(tmp_path / "added"))
    return tmp_path / "added"


def test_nothing_is_downloaded_without_a_yes(added):
    result = get("retail-0095", answer="n\n")
    assert result.exit_code == 1
    assert "licence: Apache-2.0" in result.stderr
    assert "https://storage.openvinotoolkit.org/" in result.stderr
    assert "Download 2,564,055 bytes?" in result.stderr
    assert not added.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "not in the catalogue, which has ["),
        (["sface", "--yes"], "give --file face_recognition_sface_2021dec.onnx"),
        (["resnet29-celeba"], "it has no files to get"),
        (["retail-0095", "--file", __file__], "wanted a --file for each of .xml, .bin"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(added, words, message):
    result = get(*words)
    assert result.exit_code == 3
    assert message in result.stderr.splitlines()[-1]
    assert not added.exists()


def test_the_recipe_of_what_is_not_downloaded_is_printed(added):
    assert "\n  sameface train celeba-fit " in get("resnet29-celeba").stderr


def test_a_file_of_another_hash_is_refused(added, tmp_path):
    for kind in ("xml", "bin"):
        (tmp_path / f"mine.{kind}").write_bytes(b"other")
    result = get("retail-0095", "--file", tmp_path / "mine.xml", "--file", tmp_path / "mine.bin")
    assert result.exit_code == 3
    assert "is another file" in result.stderr
    assert not added.exists()


def test_a_missing_package_is_told_before_the_download(added, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = get("retail-0095", "--yes")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: converting a network needs onnx: pip install onnx"


@needs_ir
def test_files_that_are_there_already_become_weights(added, samples):
    result = get("retail-0095", "--file", IR[1], "--file", IR[0])
    assert result.exit_code == 0, result.stderr
    manifest = read_manifest(added / "retail-0095.toml")
    assert manifest.licence == "Apache-2.0"
    assert manifest.provenance == "not stated"
    assert manifest.source["publisher"].startswith("Intel")
    assert sorted(path.name for path in added.iterdir()) == ["retail-0095.onnx", "retail-0095.toml"]
    pair = [str(samples[name]) for name in ("barack-obama-1", "barack-obama-2")]
    verdict = CliRunner().invoke(main, ["verify", *pair, "--weights", "retail-0095", "--json"])
    assert json.loads(verdict.stdout)["same"] is True
    assert "there are weights of this name" in get("retail-0095", "--file", IR[0], "--file", IR[1]).stderr


# The conversion


def pattern(count: int, size: int) -> np.ndarray:
    """Return pictures that are the same everywhere."""
    place = np.arange(count * size * size * 3, dtype=np.int64)
    return ((place * place // 97 + 31 * place) % 256).astype(np.uint8).reshape(count, size, size, 3)


# The first numbers of the unit rows that OpenVINO 2026.4 gives for the pattern, in float32.
RECORDED = [
    [-0.019337, -0.000238, -0.084314, -0.110787, -0.131392, 0.057075, 0.090778, 0.044012],
    [0.051859, 0.014884, -0.049583, -0.129588, -0.10137, 0.042876, 0.037854, 0.000698],
]


@pytest.fixture(scope="module")
def converted() -> bytes:
    xml, weights = read_files(find_entry("retail-0095"), IR)
    return convert_ir(xml, weights, swap_channels=True)


def run(network: bytes, crops: np.ndarray) -> np.ndarray:
    planes = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32)
    return open_session(network, "converted", 1).run(None, {"x": planes})[0]


@needs_ir
def test_the_converted_network_gives_the_rows_that_openvino_gave(converted):
    rows = unit_rows(run(converted, pattern(2, 128)))
    assert rows.shape == (2, 256)
    assert np.abs(rows[:, :8] - RECORDED).max() < 5e-6


@needs_ir
def test_the_converted_network_gives_what_openvino_gives(converted):
    openvino = pytest.importorskip("openvino")
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    network = openvino.Core().read_model(IR[0])
    network.reshape([-1, 3, 128, 128])
    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    planes = np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2), np.float32)
    wanted = np.array(compiled([planes])[0]).reshape(3, -1)
    assert np.abs(run(converted, crops) - wanted).max() < 1e-4


@needs_ir
def test_the_conversion_writes_the_same_bytes_each_time(converted):
    xml, weights = (path.read_bytes() for path in IR)
    assert convert_ir(xml, weights, swap_channels=True) == converted


def write_ir(*, pooling: str = "floor", last: str = "Sigmoid") -> tuple[bytes, bytes]:
    """Write an IR of each operator: 3 channels of 4 pixels, doubled, mixed, weighted, pooled."""
    weights = {
        "2": np.full((1, 3, 1, 1), 2),
        "4": np.arange(9).reshape(3, 3, 1, 1) - 4,
        "6": np.array([0.5]),
        "8": np.array([1, 2, 3]).reshape(3, 1, 1, 1, 1),
    }
    window = 'strides="1, 1" pads_begin="0, 0" pads_end="0, 0" auto_pad="explicit"'
    pool = f'{window.replace("1, 1", "4, 4")} kernel="4, 4" exclude-pad="true" rounding_type="{pooling}"'
    kinds = {
        "1": ("Multiply", ""),
        "3": ("Convolution", f'{window} dilations="1, 1"'),
        "5": ("PReLU", ""),
        "7": ("GroupConvolution", f'{window} dilations="1, 1"'),
        "9": ("AvgPool", pool),
        "10": (last, ""),
        "11": ("Result", ""),
    }
    layers = ['<layer id="0" type="Parameter"><data shape="1,3,4,4" element_type="f32"/></layer>']
    blob, edges, before = b"", [], "0"
    for number, values in weights.items():
        data = values.astype(np.float16).tobytes()
        shape = ", ".join(map(str, values.shape))
        facts = f'element_type="f16" shape="{shape}" offset="{len(blob)}" size="{len(data)}"'
        layers.append(f'<layer id="{number}" type="Const"><data {facts}/></layer>')
        layers.append(f'<layer id="c{number}" type="Convert"><data destination_type="f32"/></layer>')
        edges += [(number, f"c{number}", 0), (f"c{number}", str(int(number) - 1), 1)]
        blob += data
    for number, (kind, facts) in kinds.items():
        layers.append(f'<layer id="{number}" type="{kind}"><data {facts}/></layer>')
        edges.append((before, number, 0))
        before = number
    lines = [f'<edge from-layer="{a}" to-layer="{b}" to-port="{port}"/>' for a, b, port in edges]
    xml = f"<net><layers>{''.join(layers)}</layers><edges>{''.join(lines)}</edges></net>"
    return xml.encode(), blob


@pytest.mark.parametrize("swap", [False, True])
def test_each_operator_is_converted(swap):
    crops = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    given = crops[..., ::-1] if swap else crops
    mixed = 2 * given @ (np.arange(9).reshape(3, 3) - 4).T
    means = (np.where(mixed < 0, 0.5 * mixed, mixed) * [1, 2, 3]).mean(axis=(1, 2))
    network = convert_ir(*write_ir(), swap_channels=swap)
    assert np.abs(run(network, crops) - 1 / (1 + np.exp(-means))).max() < 1e-5


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"no XML", "no IR that can be converted"),
        (b"<net/>", "no IR that can be converted"),
        (write_ir(last="Softmax")[0], "Softmax"),
        (write_ir(pooling="ceil")[0], "padding that is not known"),
    ],
)
def test_what_is_no_ir_or_has_other_operators_is_refused(xml, message):
    with pytest.raises(WeightsError, match=message):
        convert_ir(xml, write_ir()[1], swap_channels=False)
