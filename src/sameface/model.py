"""A weights file: find it, check it against its manifest, open it with ONNX Runtime, run it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameface.errors import WeightsError
from sameface.manifest import CropRule, Manifest, read_manifest
from sameface.runtime import faults, onnxruntime

Tensor = NDArray[np.float32]

DEFAULT_WEIGHTS = "mobilefacenet"

# ONNX Runtime raises all of these on a network that it cannot open or run; they have no base class in common.
NETWORK_ERRORS = (
    *(MemoryError, RuntimeError, UnicodeDecodeError),
    *(faults.Fail, faults.InvalidArgument, faults.InvalidGraph, faults.InvalidProtobuf, faults.NotImplemented),
    faults.RuntimeException,
)


class Model:
    """An ONNX network that is ready to run. Any number of threads may share it.

    A loaded model can be pickled: the copy opens the same file again.
    """

    def __init__(self, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
        self.manifest = manifest
        self._session = session
        self._file: tuple[Path, int | None] | None = None
        self._input = session.get_inputs()[0].name

    @classmethod
    def load(cls, weights: str | Path, *, threads: int | None = None) -> Model:
        """Open weights and their manifest, the `.toml` of the same name.

        Args:
            weights: A shipped or added name such as `"resnet29"`, or the path of an `.onnx` file.
            threads: Processor cores to use; None takes all.

        Raises:
            WeightsError: The file or its manifest is missing, the file's SHA-256 is not the manifest's,
                ONNX Runtime cannot open it, or it takes no input.
        """
        path = find_weights(weights)
        manifest = read_manifest(path.with_suffix(".toml"))
        model = cls(manifest, open_session(read_checked(path, manifest), manifest.name, threads))
        model._file = (path.absolute(), threads)
        return model

    def __reduce__(self) -> tuple[Callable[[Path, int | None], Model], tuple[Path, int | None]]:
        if self._file is None:
            raise TypeError(f"weights {self.manifest.name!r} were not loaded from a file, so there is none to open")
        return reopen, self._file

    @property
    def providers(self) -> list[str]:
        """The execution providers of ONNX Runtime, the first choice first."""
        return list(self._session.get_providers())

    def run(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Return the outputs of the network.

        Args:
            pixels: `(n, h, w, 3) uint8` RGB; mean and scale are applied here.

        Raises:
            WeightsError: ONNX Runtime cannot run it on these pixels, or an output is no tensor.
        """
        planes = np.array(pixels.transpose(0, 3, 1, 2), np.float32, order="C")  # (n, 3, h, w)
        planes -= np.array(self.manifest.mean, np.float32)[:, None, None]
        planes *= np.float32(self.manifest.scale)
        try:
            outputs: list[Tensor] = self._session.run(None, {self._input: planes})
        except NETWORK_ERRORS as error:
            reason = f"ONNX Runtime cannot run it on an input of {planes.shape} ({error})"
            raise WeightsError(self.manifest.name, reason) from error
        if not all(isinstance(output, np.ndarray) for output in outputs):
            raise WeightsError(self.manifest.name, "it gives something else than tensors")
        return outputs


def reopen(path: Path, threads: int | None) -> Model:
    """Open a pickled model."""
    return Model.load(path, threads=threads)


def find_weights(weights: str | Path) -> Path:
    """Return the path of a weights file, given by its path or by a shipped or added name."""
    path = Path(weights)
    if path.suffix == ".onnx":
        return path
    known = list_weights()
    if str(weights) not in known:
        fault = "a folder (SAMEFACE_WEIGHTS_FOLDER names that of added weights)" if path.is_dir() else "unknown"
        reason = f"{fault}: give the path of an .onnx file, or one of {sorted(known)}"
        raise WeightsError(str(weights), reason)
    return known[str(weights)]


def rule_of_weights(weights: str) -> CropRule:
    """Return the crop rule of an embedder, or raise `WeightsError`."""
    manifest = read_manifest(find_weights(weights).with_suffix(".toml"))
    if manifest.embedding is None:
        raise WeightsError(manifest.name, "these are a detector's, wanted an embedder's")
    return manifest.embedding.crop


def list_weights() -> dict[str, Path]:
    """Return the shipped weights files, then the added ones, by name."""
    shipped = list_shipped()
    return shipped | list_added() | shipped


def list_shipped() -> dict[str, Path]:
    """Return the shipped weights files by name, in alphabetical order."""
    folder = Path(str(resources.files("sameface") / "weights"))
    names = sorted(file.stem for file in folder.glob("*.toml"))
    return {name: folder / f"{name}.onnx" for name in names}


def weights_folder() -> Path:
    """Return the folder of `sameface weights add`; it need not exist."""
    named = os.environ.get("SAMEFACE_WEIGHTS_FOLDER")
    return Path(named) if named else Path.home() / ".local" / "share" / "sameface" / "weights"


def list_added() -> dict[str, Path]:
    """Return the added weights files by name, in alphabetical order."""
    return {file.stem: file.with_suffix(".onnx") for file in sorted(weights_folder().glob("*.toml"))}


def read_checked(path: Path, manifest: Manifest) -> bytes:
    """Return the bytes of a weights file, checked against the SHA-256 of its manifest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(manifest.name, f"cannot read {str(path)!r}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise WeightsError(
            manifest.name,
            f"{str(path)!r} does not match its manifest (sha-256 {found[:12]}…, wanted "
            f"{manifest.sha256[:12]}…, {len(data):,} bytes): copy the file again",
        )
    return data


def open_session(data: bytes, name: str, threads: int | None) -> onnxruntime.InferenceSession:
    """Open a network with ONNX Runtime, on a GPU where its build has one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Two networks take turns: the threads of the idle one must not hold the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The SHA-256 does not cover weights in other files: point ONNX Runtime at an empty place.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        options.intra_op_num_threads = threads
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [provider for provider in wanted if provider in onnxruntime.get_available_providers()]
    fallback = int(len(providers) > 1)  # to the processor; with one provider only it would print a warning and retry
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=fallback)
    except NETWORK_ERRORS as error:
        raise WeightsError(name, f"not a network that ONNX Runtime can open ({error})") from error
    if not session.get_inputs():
        raise WeightsError(name, "a network without an input")
    return session
