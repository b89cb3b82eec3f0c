"""Save and restore a run, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sameface.atomic import replace_file
from sameface.training.config import TrainConfig
from sameface.training.dataset import PictureSet
from sameface.training.errors import CheckpointError
from sameface.training.networks.build import build_network

LAST, PREVIOUS, BEST, CONFIG = "last.pt", "previous.pt", "best.pt", "config.json"
HASHED = b"sha256:"  # begins the comment of the zip file that a checkpoint is
COMMENT = len(HASHED) + 64
# Raised by torch.load for a damaged file; errors of ours are none of these.
DAMAGE = (EOFError, LookupError, OSError, RuntimeError, ValueError, pickle.UnpicklingError, struct.error)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """The network of a checkpoint, and the options of its run."""

    name: str
    network: nn.Module
    config: TrainConfig
    step: int


def load_trained(checkpoint: Path) -> TrainedNetwork:
    """Return the network of a checkpoint, ready to embed; the errors are those of `load_checkpoint`."""
    state = load_checkpoint(checkpoint)
    config = TrainConfig(**json.loads(state["config"]))
    network = build_network(config)
    network.load_state_dict(state["network"])
    return TrainedNetwork(checkpoint.stem, network.eval(), config, state["numbers"][0])


def save_checkpoint(path: Path, state: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors, numbers and text; an undamaged old file moves to `previous` once the new one is complete.

    Raises:
        CheckpointError: The file cannot be written; the old one is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with replace_file(path) as part:
            part.write_bytes(add_hash(buffer.getvalue()))
            if previous is not None and path.exists() and is_whole(path.read_bytes()):
                path.replace(previous)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); the one before is intact"
        raise CheckpointError(str(path), reason) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors, numbers and text are accepted, never code.

    Raises:
        CheckpointError: The file is missing or damaged, or holds anything else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(str(path), f"cannot be read ({error.strerror})") from error
    if not is_whole(data):
        raise CheckpointError(str(path), "damaged, or not a checkpoint of sameface: its hash is wrong")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise CheckpointError(str(path), "damaged, or not a checkpoint of sameface") from error
    if not isinstance(state, dict) or "network" not in state:
        raise CheckpointError(str(path), "not a checkpoint of sameface")
    return state


def add_hash(data: bytes) -> bytes:
    """Return a zip file with the SHA-256 of the bytes before its comment as the comment."""
    body = data[:-2] + COMMENT.to_bytes(2, "little")
    return body + HASHED + hashlib.sha256(body).hexdigest().encode()


def is_whole(data: bytes) -> bool:
    """Return whether a checkpoint's hash is right; early checkpoints have no comment and pass."""
    body, comment = data[:-COMMENT], data[-COMMENT:]
    return data.endswith(b"\0\0") or comment == HASHED + hashlib.sha256(body).hexdigest().encode()


def load_last(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the last checkpoint of a run, or with a warning the previous one if it is damaged."""
    try:
        return load_checkpoint(folder / LAST), ""
    except CheckpointError as error:
        try:
            state = load_checkpoint(folder / PREVIOUS)
        except CheckpointError as other:
            way = "give another --output to begin anew"
            raise CheckpointError(error.path, f"{error.reason}; {other}: {way}") from other
        return state, f"{error}; resuming from {str(folder / PREVIOUS)!r}"


def open_run(
    folder: Path, config: TrainConfig, pictures: PictureSet, content: str
) -> tuple[dict[str, Any], str] | None:
    """Write the options; return the checkpoint to resume from with a warning, None if the folder has none.

    Raises:
        CheckpointError: The folder holds a run with other options or pictures (whose `content_hash` is `content`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = None
    if (folder / LAST).exists() or (folder / PREVIOUS).exists():
        found = load_last(folder)
        state = found[0]
        differences = config.differences(json.loads(state["config"]))
        # Early checkpoints have a hash of the people and their numbers of pictures only.
        early = "content" not in state and state["pictures"] != hash_text([pictures.people, pictures.counts.tolist()])
        if early or state.get("content", content) != content:
            differences.append("the pictures are not the same")
        if differences:
            reason = f"another run: {'; '.join(differences)}: give the same options or another --output"
            raise CheckpointError(str(folder / LAST), reason)
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=1) + "\n", "utf-8")
    return found


def content_hash(pictures: PictureSet) -> str:
    """Return the SHA-256 of people, crop rule and the bytes of every picture; file names do not count."""
    rule = None if pictures.rule is None else asdict(pictures.rule)
    digests = [file.digest() for file in pictures.files]
    return hash_text([pictures.people, pictures.counts.tolist(), rule], *digests)


def hash_text(facts: list[Any], *more: bytes) -> str:
    """Return the SHA-256 of facts as JSON, followed by bytes."""
    text = json.dumps(facts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(b"".join([text, *more])).hexdigest()
