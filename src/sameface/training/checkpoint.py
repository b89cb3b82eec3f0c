"""Save and restore a run, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sameface.atomic import replace_file
from sameface.errors import CheckpointError
from sameface.training.config import TrainConfig
from sameface.training.pictures import PictureSet

LAST, BEST, CONFIG = "last.pt", "best.pt", "config.json"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and text; the file that was there stays until the new one is complete.

    Raises:
        CheckpointError: It cannot be written; the old one is as it was.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with replace_file(path) as part:
            part.write_bytes(buffer.getbuffer())
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
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise whatever a damaged file makes them
        raise CheckpointError(str(path), "damaged, or not a checkpoint of sameface") from error
    if not isinstance(state, dict) or "network" not in state:
        raise CheckpointError(str(path), "not a checkpoint of sameface")
    return state


def open_run(folder: Path, config: TrainConfig, pictures: PictureSet) -> dict[str, Any] | None:
    """Return the checkpoint to go on from, None where the folder holds none; write the choices beside it.

    Raises:
        CheckpointError: The folder holds a run with other choices or other pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LAST
    if not path.exists():
        config.save(folder / CONFIG)
        return None
    state = load_checkpoint(path)
    differences = config.differences(json.loads(state["config"]))
    if state["pictures"] != fingerprint(pictures):
        differences.append("the pictures are not the same")
    if differences:
        told = "; ".join(differences)
        raise CheckpointError(str(path), f"another run: {told}: give the same options or another --output")
    config.save(folder / CONFIG)
    return state


def fingerprint(pictures: PictureSet, *more: object) -> str:
    """Return a hash of who is on how many pictures, and of more; not of where the folder lies."""
    told = json.dumps([pictures.people, pictures.counts.tolist(), *more])
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


def describe_run(config: TrainConfig, pictures: PictureSet) -> dict[str, Any]:
    """Return what a checkpoint tells of the run it belongs to."""
    return {
        "config": json.dumps(asdict(config)),
        "pictures": fingerprint(pictures),
        "people": len(pictures.people),
        "count": len(pictures),
    }
