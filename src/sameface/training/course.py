"""What stays the same during a run: pictures, choices, the device, and what the teachers say."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sameface.model import find_weights
from sameface.training.build import Pixels, begun_from, pixels_of
from sameface.training.checkpoint import content_hash, load_checkpoint, save_checkpoint
from sameface.training.config import TrainConfig
from sameface.training.errors import CheckpointError
from sameface.training.parallel import Peers, pick_device
from sameface.training.pictures import PictureSet
from sameface.training.teacher import Space, Told, teach
from sameface.training.tutor import Tutor

TAUGHT = "taught.pt"


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What stays the same during a run."""

    pictures: PictureSet
    held_out: PictureSet
    config: TrainConfig
    folder: Path
    device: torch.device
    peers: Peers
    pixels: Pixels
    content: str  # the `content_hash` of the pictures
    taught: Tensor | None = None
    tutor: Tutor | None = None


def make_course(pictures: PictureSet, held_out: PictureSet, config: TrainConfig, folder: Path, told: Told) -> Course:
    """Return what stays the same during a run."""
    device = pick_device(config.device)
    peers = Peers.join(device)
    pixels = pixels_of(config, pictures.rule)
    course = Course(pictures, held_out, config, folder, device, peers, pixels, content_hash(pictures))
    if not config.teachers():
        return course
    if config.teacher_sees == "changed":
        return replace(course, tutor=make_tutor(course, told))
    return replace(course, taught=recall_teachers(course, told))


def recall_teachers(course: Course, told: Told) -> Tensor:
    """Return what the teachers say of each picture, asked once for all runs that go on in the folder."""
    pictures, config, start = course.pictures, course.config, begun_from(course.config)
    made = recall(
        course.folder / TAUGHT, teachers_key(course), lambda: torch.from_numpy(teach(pictures, config, start, told))
    )
    return cast("Tensor", made)


def teachers_key(course: Course) -> str:
    """Return what decides the teachers' rows: the bytes of pictures and weights, and the choices."""
    config = course.config
    names = [name for name, _ in config.teachers()] + [begun_from(config)]
    hashes = [hashlib.sha256(find_weights(name).read_bytes()).hexdigest() for name in names if name]
    key = [course.content, hashes, config.teachers(), config.dimension, config.teacher_sees]
    return json.dumps(key)


def make_tutor(course: Course, told: Told) -> Tutor:
    """Return the teachers who see each step's crops, joined as when the run in the folder began."""
    pictures, config = course.pictures, course.config
    tutor = Tutor(pictures.rule, course.pixels, config, course.device)
    start = begun_from(config)
    tutor.space = Space.from_state(
        recall(course.folder / TAUGHT, teachers_key(course), lambda: tutor.fit(pictures, start, told).state())
    )
    return tutor


def recall(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """Return what a file keeps under this key; made, and kept there, where it does not or is damaged."""
    with contextlib.suppress(CheckpointError):
        state = load_checkpoint(path)
        if state["key"] == key:
            return state["network"]
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, {"key": key, "network": made})
    return made
