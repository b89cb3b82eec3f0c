"""What sameface costs before it does anything: start, import, first answer, memory, disk.

    python benchmarks/startup.py

Every measurement is a fresh process. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from report import Target, print_table, print_targets

ROOT = Path(__file__).resolve().parents[1]
SAMEFACE = str(Path(sys.executable).with_name("sameface"))
SAMPLES = [str(ROOT / "samples" / f"barack-obama-{number}.jpg") for number in (1, 2)]
ROUNDS = 9
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import sameface'": [sys.executable, "-c", "import sameface"],
    "sameface --help": [SAMEFACE, "--help"],
    "sameface verify, two samples": [SAMEFACE, "verify", *SAMPLES],
}
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils")


def run_once(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in megabytes.

    A process inherits the peak of the one that started it, some 15 MB here: this file imports nothing large.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB on Linux
    return seconds, usage.ru_maxrss * unit / 1e6


def measure() -> dict[str, tuple[float, float]]:
    """Return the median seconds and megabytes of each command; the commands take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS + 1):
        for name, command in COMMANDS.items():
            found[name].append(run_once(command))
    pairs = {name: zip(*runs[1:], strict=True) for name, runs in found.items()}  # the first one warms the disk
    return {name: (median(seconds), median(memory)) for name, (seconds, memory) in pairs.items()}


def install_core(folder: Path) -> Path:
    """Install sameface without extras into a new virtual environment and return its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


def weigh(packages: Path) -> Counter[str]:
    """Return the megabytes on disk of every entry of site-packages, the installers left out.

    The libraries that a wheel brings along (`numpy.libs`) and its `.dist-info` count with the package.
    """
    sizes: Counter[str] = Counter()
    for path in packages.rglob("*"):
        name = path.relative_to(packages).parts[0].split("-")[0].removesuffix(".libs").lower()
        if path.is_file() and name not in INSTALLERS:
            sizes[name] += path.stat().st_blocks * 512
    return Counter({name: size / 1e6 for name, size in sizes.items()})


def main() -> int:
    """Print the tables."""
    found = measure()
    print_table(["process", "seconds"], [[name, f"{seconds:.3f}"] for name, (seconds, _) in found.items()])
    with tempfile.TemporaryDirectory() as folder:
        sizes = weigh(install_core(Path(folder) / "venv"))
    total = sum(sizes.values())
    rows = [*sizes.most_common(5), ("everything", total)]
    print_table(["installed, core only", "MB on disk"], [[name, f"{size:.1f}"] for name, size in rows])
    (empty, _), (imported, _), (helped, _), (verified, memory) = found.values()
    return print_targets(
        [
            Target("sameface --help", helped, 0.3, "s"),
            Target("import sameface, beyond an empty python", imported - empty, 0.15, "s"),
            Target("first verification", verified, 2, "s"),
            Target("its peak memory", memory, 400, "MB"),
            Target("core installation on disk", total, 300, "MB"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
