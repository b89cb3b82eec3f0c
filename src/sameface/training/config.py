"""The options of a training run, in one flat record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sameface.training.networks.tables import RESIDUALS, TABLES
from sameface.training.sampler import Stage

RATES = {"adagrad": 0.05, "adamw": 1e-3}  # the paper's, and one that suits small runs

STEPS_DOWN = ((0.6, 0.1), (0.85, 0.01))  # the schedule `step`: after this part of the run, this part of the rate

# Options that change how a run is executed and monitored, not what it computes.
RUNTIME_OPTIONS = frozenset(
    {"workers", "validate_every", "save_every", "on_collapse", "patience", "minutes", "device", "as_is"}
)


def choice(value: Any, text: str, *, among: tuple[str, ...] = (), least: int | None = None) -> Any:
    """Return a field with its default, the help text of its option and the allowed values or the smallest."""
    return field(default=value, metadata={"help": text, "among": among, "least": least})


@dataclass(frozen=True)
class TrainConfig:
    """The options of a training run. The command line has an option of the same name for each field."""

    network: str = choice("nns2", "what to train", among=(*TABLES, *RESIDUALS))
    dimension: int = choice(128, "width of an embedding, 64 to 512")
    norm: str = choice("batch", "normalisation", among=("batch", "response"))
    people: int = choice(32, "P, people in a batch", least=2)
    pictures: int = choice(4, "K, pictures of each", least=2)
    margin: float = choice(0.2, "by how much a negative must be farther (squared distance)")
    grow: str = choice("", "later stages, STEP:PxK or STEP:PxK:MARGIN, separated by commas")
    rule: str = choice(
        "semi-hard",
        "which negatives make a triplet",
        among=("semi-hard", "semi-hard-random", "semi-hard-all", "hardest", "batch-all", "distance-weighted"),
    )
    otherwise: str = choice(
        "skip", "a pair without a semi-hard negative", among=("skip", "nearest-below", "hardest-below")
    )
    head: str = choice("none", "begin as a classifier of the people", among=("none", "softmax", "cosface"))
    head_steps: int = choice(0, "for so many steps; then triplets", least=0)
    as_is: int = choice(0, "side in pixels of crops without crops.toml, or too small; 0 refuses such", least=0)
    view: float = choice(1.0, "the part of a crop's side that the network looks at, in the middle")
    start: str = choice("", "weights that a resnet begins with; the shipped resnet29 unless told")
    frozen: int = choice(0, "first blocks of a resnet that stay as they began; 0 trains all of it", least=0)
    teacher: str = choice("none", "imitate embedders: NAME or FILE.onnx, several as A,B:WEIGHT")
    teacher_sees: str = choice(
        "clean", "the picture as it is, once, or the changed copy of each step", among=("clean", "changed")
    )
    mixed: float = choice(0.0, "the part of a batch mixed with other faces of it; teacher-sees changed only")
    teacher_weight: float = choice(1.0, "1 imitates only, less mixes with triplets")
    optimizer: str = choice("adamw", "adagrad is the paper's", among=("adamw", "adagrad"))
    learning_rate: float = choice(0.0, "peak rate; 0 takes 0.05 with adagrad and 0.001 with adamw", least=0)
    weight_decay: float = choice(1e-4, "of adamw")
    schedule: str = choice("cosine", "how the rate falls", among=("constant", "cosine", "step"))
    warm_up: int = choice(50, "steps in which the rate rises", least=0)
    steps: int = choice(20_000, "steps of the whole run", least=1)
    minutes: float = choice(0.0, "stop, to be resumed, after so many; 0 for never", least=0)
    chunk: int = choice(0, "pictures that go through the network together; 0 for the whole batch", least=0)
    precision: str = choice(
        "auto",
        "auto is bfloat16 on a GPU and float32 elsewhere; newer processors are faster with bfloat16, too",
        among=("auto", "float32", "bfloat16"),
    )
    augment: bool = choice(True, "change the crops at random")  # noqa: FBT003, a field's default
    strength: float = choice(1.0, "how much of each change, 0 to 1; 0 leaves the mirror image")
    held_out: str = choice("0.05", "people to test on: a part of them, or a folder or tar file of others")
    validate_every: int = choice(500, "steps between two tests", least=1)
    save_every: int = choice(500, "steps between two checkpoints", least=1)
    on_collapse: str = choice("stop", "what the alarm does", among=("stop", "recover"))
    patience: int = choice(50, "steps before the alarm", least=1)
    workers: int = choice(2, "processes that decode pictures", least=0)
    device: str = choice("auto", "auto, cpu or cuda")
    seed: int = choice(0, "decides everything that is random")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, among, least = getattr(self, each.name), each.metadata["among"], each.metadata["least"]
            if among and value not in among:
                raise ValueError(f"{each.name} must be one of {among}, got {value!r}")
            if least is not None and value < least:
                raise ValueError(f"{each.name} must be {least} or more, got {value!r}")
        residual = self.network in RESIDUALS
        faults = {
            "margin must be over 0 and up to 4, view over 0 and up to 1": not (
                0 < self.margin <= 4 and 0 < self.view <= 1
            ),
            "teacher_weight and strength must be 0 to 1": not (
                0 <= self.teacher_weight <= 1 and 0 <= self.strength <= 1
            ),
            "mixed must be 0 to under 1, and 0 unless teacher_sees is changed": not 0 <= self.mixed < 1
            or (self.mixed and self.teacher_sees == "clean"),
            f"dimension must be resnet29's 128, got {self.dimension}": residual and self.dimension != 128,
            f"start must be left out unless the network is one of {tuple(RESIDUALS)}": self.start and not residual,
            f"frozen must be left out unless the network is one of {tuple(RESIDUALS)}": self.frozen and not residual,
        }
        for fault, found in faults.items():
            if found:
                raise ValueError(fault)
        self.stages()
        self.teachers()

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.learning_rate or RATES[self.optimizer]

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then the schedule."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        part = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        if self.schedule == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * min(part, 1)))
        if self.schedule == "step":
            return self.rate * min([factor for after, factor in STEPS_DOWN if part >= after], default=1.0)
        return self.rate

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of P, K and the margin."""
        stages = [Stage(0, self.people, self.pictures, self.margin)]
        for text in filter(None, self.grow.split(",")):
            stages.append(parse_stage(text, stages[-1].margin))
            if stages[-1].start <= stages[-2].start:
                raise ValueError(f"the steps of grow must rise, got {self.grow!r}")
        return tuple(stages)

    def teachers(self) -> tuple[tuple[str, float], ...]:
        """Return the weights and the factor of each teacher."""
        if self.teacher == "none":
            return ()
        found = []
        for text in self.teacher.split(","):
            name, colon, weight = text.rpartition(":")
            try:
                found.append((name, float(weight)) if colon else (text, 1.0))
            except ValueError as error:
                raise ValueError(f"teacher must be NAME or NAME:WEIGHT, got {text!r}") from error
        return tuple(found)

    def seed_of(self, step: int) -> int:
        """Return the random seed of a step."""
        return self.seed * 1_000_003 + step

    def uses_bfloat16(self, device: str) -> bool:
        """Return whether networks compute in bfloat16 on this device type."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device == "cuda")

    def stage(self, step: int) -> Stage:
        """Return the stage of a step."""
        return [stage for stage in self.stages() if stage.start <= step][-1]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Return in words how another run's options differ, but for `RUNTIME_OPTIONS`."""
        defaults = {each.name: each.default for each in fields(self)}  # of options added since
        return [
            f"{name} was {other.get(name, defaults[name])!r} and is {value!r}"
            for name, value in asdict(self).items()
            if name not in RUNTIME_OPTIONS and other.get(name, defaults[name]) != value
        ]


def parse_stage(text: str, margin: float) -> Stage:
    """Parse `STEP:PxK` or `STEP:PxK:MARGIN`."""
    parts = text.split(":")
    try:
        people, pictures = map(int, parts[1].split("x"))
        stage = Stage(int(parts[0]), people, pictures, float(parts[2]) if len(parts) > 2 else margin)
    except (IndexError, ValueError) as error:
        raise ValueError(f"grow must be STEP:PxK or STEP:PxK:MARGIN, got {text!r}") from error
    if stage.people < 2 or stage.pictures < 2:
        raise ValueError(f"grow needs 2 people and 2 pictures or more, got {text!r}")
    return stage
