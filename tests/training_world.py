"""Crops of a toy world to train on: each person is a pattern of colours, each picture has its own noise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL.Image
import tomli_w
import torch

from sameface.training.config import TrainConfig
from sameface.training.dataset import RULE_FILE
from sameface.training.prepare import make_rule

torch.set_num_threads(1)


def make_crop(person: int, picture: int, size: int = 48) -> np.ndarray:
    rng = np.random.default_rng(person)
    pattern = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((size // 4, size // 4, 1)))
    noise = np.random.default_rng([person, picture]).normal(0, 12, pattern.shape)
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


def write_people(folder: Path, counts: list[int], *, first: int = 0, size: int = 48, rule: bool = True) -> Path:
    """Write a folder per person with so many pictures of each."""
    for number, count in enumerate(counts, start=first):
        place = folder / f"person-{number:03d}"
        place.mkdir(parents=True)
        for picture in range(count):
            PIL.Image.fromarray(make_crop(number, picture, size)).save(place / f"{picture}.png")
    if rule:
        (folder / RULE_FILE).write_text(tomli_w.dumps(asdict(make_rule("similarity", size))))
    return folder


def small_config(**choices: object) -> TrainConfig:
    """Return the choices of a run that takes seconds."""
    given: dict[str, object] = {
        "people": 4,
        "pictures": 2,
        "steps": 4,
        "warm_up": 2,
        "workers": 0,
        "dimension": 64,
        "device": "cpu",
        **choices,
    }
    return TrainConfig(**given)  # type: ignore[arg-type]
