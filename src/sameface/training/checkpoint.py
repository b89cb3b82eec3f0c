"""Save and restore a run, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sameface.atomic import replace_file
from sameface.training.config import TrainConfig
from sameface.training.errors import CheckpointError
from sameface.training.pictures import PictureSet

LAST, PREVIOUS, BEST, CONFIG = "last.pt", "previous.pt", "best.pt", "config.json"
HASHED = b"sha256:"  # begins the comment of the zip file that a checkpoint is
COMMENT = len(HASHED) + 64
# What torch.load raises for a file that is cut or is none; a fault of ours is none of these.
DAMAGE = (EOFError, LookupError, OSError, RuntimeError, ValueError, pickle.UnpicklingError, struct.error)


def save_checkpoint(path: Path, state: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors, numbers and text; the file that was there stays until the new one is complete.

    Args:
        path: Where to write.
        state: What to write.
        previous: Where to keep the file that was there, unless that is damaged.

    Raises:
        CheckpointError: It cannot be written; the old one is as it was.
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
    """Read a checkpoint. Nothing in it is ever run as code: only tensors, numbers and text are accepted.

    Raises:
        CheckpointError: It is missing or damaged, or holds anything else.
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
    """Return a zip file with the SHA-256 of all that is before its comment as that comment."""
    body = data[:-2] + COMMENT.to_bytes(2, "little")
    return body + HASHED + hashlib.sha256(body).hexdigest().encode()


def is_whole(data: bytes) -> bool:
    """Return whether a checkpoint's hash is that of its bytes; one without a comment, of before, has none."""
    body, comment = data[:-COMMENT], data[-COMMENT:]
    return data.endswith(b"\0\0") or comment == HASHED + hashlib.sha256(body).hexdigest().encode()


def load_last(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the last checkpoint of a run, or the one before where that is damaged, and what to tell of it.

    Raises:
        CheckpointError: Both are missing or damaged.
    """
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
    """Return the checkpoint to resume from and a warning or nothing; None where the folder holds none.

    Args:
        folder: Of the run; the choices are written there.
        config: Every choice.
        pictures: Whom to train on.
        content: Their `content_hash`.

    Raises:
        CheckpointError: The folder holds a run with other choices or other pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LAST
    if not path.exists() and not (folder / PREVIOUS).exists():
        config.save(folder / CONFIG)
        return None
    state, warning = load_last(folder)
    differences = config.differences(json.loads(state["config"]))
    if "content" not in state and state["pictures"] != names_hash(pictures):
        differences.append("the pictures are not the same")
    if state.get("content", content) != content:
        differences.append("the pictures are not the same")
    if differences:
        told = "; ".join(differences)
        raise CheckpointError(str(path), f"another run: {told}: give the same options or another --output")
    config.save(folder / CONFIG)
    return state, warning


def names_hash(pictures: PictureSet) -> str:
    """Return what checkpoints kept of their pictures before `content_hash`: who is on how many."""
    told = json.dumps([pictures.people, pictures.counts.tolist()])
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


def content_hash(pictures: PictureSet) -> str:
    """Return the SHA-256 of the people, the crop rule and the bytes of every picture; not of file names."""
    rule = None if pictures.rule is None else asdict(pictures.rule)
    told = json.dumps([pictures.people, pictures.counts.tolist(), rule])
    whole = hashlib.sha256(told.encode("utf-8", "surrogateescape"))
    for place in pictures.places:
        whole.update(place.digest())
    return whole.hexdigest()


def describe_run(config: TrainConfig, pictures: PictureSet, content: str) -> dict[str, Any]:
    """Return what a checkpoint tells of the run it belongs to."""
    return {
        "config": json.dumps(asdict(config)),
        "content": content,
        "people": len(pictures.people),
        "count": len(pictures),
    }
