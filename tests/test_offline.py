"""Nothing is asked of a network: the command line and the service work where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNSHARE = ["unshare", "--map-root-user", "--net"]

COMMANDS = """
import sys
from pathlib import Path
from sameface.cli import main

samples = Path(sys.argv[1])
a, b, stranger = (str(samples / f"{name}.jpg") for name in ("barack-obama-1", "barack-obama-2", "joe-biden"))
for words in (
    ["doctor"],
    ["weights"],
    ["detect", a],
    ["embed", a, "-o", "rows.npz"],
    ["verify", a, b],
    ["enroll", "Barack Obama", a],
    ["identify", b],
    ["people"],
    ["identify", stranger],
    ["rename", "Barack Obama", "Rosa"],
    ["forget", "Rosa", "--yes"],
    ["group", "rows.npz", "-o", "grouped.npz"],
    ["cluster", str(samples), "-o", "album"],
):
    try:
        main(words, standalone_mode=False)
    except SystemExit as end:
        assert end.code in (0, None, 1), (words, end.code)
    print("done:", words[0], flush=True)
"""

# A namespace has a loopback of its own, which is down at first.
SERVICE = """
import fcntl, socket, struct, subprocess, sys, time
import httpx

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
    fcntl.ioctl(loopback, 0x8914, struct.pack("16sH14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
assert [name for _, name in socket.if_nameindex()] == ["lo"]
command = [sys.argv[2], "serve", "--no-token", "--port", "8123", "--gallery", "people.db"]
address = "http://127.0.0.1:8123"
with subprocess.Popen(command) as service, httpx.Client(base_url=address, timeout=60) as client:
    try:
        for _ in range(600):
            try:
                client.get("/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        with open(sys.argv[1], "rb") as picture:
            faces = client.post("/v1/detect", files={"picture": picture}).json()["faces"]
        assert len(faces) == 1, faces
        assert client.get("/").status_code == 200
        print("done: serve", flush=True)
    finally:
        service.terminate()
"""


@pytest.fixture
def offline() -> list[str]:
    """What runs a command in a network namespace without interfaces."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, which makes network namespaces on Linux")
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"network namespaces are not allowed here: {probe.stderr.strip()}")
    return UNSHARE


def run_offline(offline: list[str], code: str, place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder, without a network."""
    command = [*offline, sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=600)


def test_there_is_no_network_in_the_namespace(offline, tmp_path):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    done = run_offline(offline, code, tmp_path)
    assert "Network is unreachable" in done.stderr


@pytest.mark.slow
def test_every_main_command_works_without_a_network(offline, tmp_path):
    done = run_offline(offline, COMMANDS, tmp_path, ROOT / "samples")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("done: ") == 13


@pytest.mark.slow
def test_the_service_works_without_a_network(offline, tmp_path):
    program = Path(sys.executable).with_name("sameface")
    done = run_offline(offline, SERVICE, tmp_path, ROOT / "samples" / "joe-biden.jpg", program)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done: serve" in done.stdout
