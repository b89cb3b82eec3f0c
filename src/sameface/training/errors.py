"""Errors of training; the whole tree is drawn in `sameface.errors`."""

from __future__ import annotations

from sameface.errors import TrainingError


class TrainingDataError(TrainingError):
    """A folder or tar file cannot be trained on."""

    code = "bad_data"
    message = "cannot train on {source}: {reason}"
    source: str
    reason: str


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or does not belong to this run."""

    code = "bad_checkpoint"
    message = "checkpoint {path!r}: {reason}"
    path: str
    reason: str


class CollapseError(TrainingError):
    """All embeddings fall together."""

    code = "collapse"
    message = "collapse at step {step}: {cause}"
    step: int
    cause: str


class DivergedError(TrainingError):
    """The loss is not a number any more."""

    code = "diverged"
    message = (
        "the loss is not a number at step {step}; the batch is saved in {batch!r}: "
        "go on from the last checkpoint with a lower --learning-rate"
    )
    step: int
    batch: str


class ExportError(TrainingError):
    """The exported file does not do what the network does."""

    code = "bad_export"
    message = "cannot export {path!r}: {reason}"
    path: str
    reason: str
