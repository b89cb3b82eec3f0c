"""Every choice of one service."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sameface.gallery.expiry import MOST_DAYS

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def count_workers() -> int:
    """Return how many pictures to decode at once: one per core, four at most for the memory's sake."""
    return min(os.cpu_count() or 1, 4)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Every choice of one service. Bytes are of files, pixels of decoded pictures."""

    keys_required: bool = False  # refuse requests without an API key
    # What a request without an API key must carry where none is required; None for nothing.
    token: str | None = field(default=None, repr=False)
    # The names that a request may call the service by; empty means any. They protect a service without keys
    # against pages that point a name of theirs at this machine (DNS rebinding).
    hosts: tuple[str, ...] = LOCAL_HOSTS
    cors_origins: tuple[str, ...] = ()  # other origins whose pages may call, such as `https://intranet.example`
    rate_per_minute: int | None = None  # requests of one key, or without keys of one address; None means any number
    keep_crops: bool = False  # store the face that was cut out with each enrolled face
    min_quality: float = 0  # refuse to enroll a face of less quality; 0 takes every face
    batching: bool = True  # embed the faces of several requests together; off only to measure the gain
    workers: int = field(default_factory=count_workers)  # pictures decoded at once; each takes about 20 bytes a pixel
    queue: int = 128  # pictures that may wait; over it the answer is 503
    faces: int = 256  # faces that may wait to be embedded; while there are more, no further picture is decoded
    wait_seconds: float = 30.0  # how long a picture may wait for its turn, and a client for the body of its request
    buffer_bytes: int = 512_000_000  # all bodies of requests that are in memory; over it the answer is 503
    answer_bytes: int = 256_000_000  # all large answers that are not read yet; over it the answer is 503
    picture_bytes: int = 20_000_000
    picture_pixels: int = 50_000_000  # width times height
    request_bytes: int = 60_000_000  # the body of a request that is no album
    request_pictures: int = 100  # of one enrolment
    album_bytes: int = 256_000_000  # the body of a request to sort an album
    album_pictures: int = 1000
    album_faces: int = 5000  # their distances take 4 bytes for each pair
    jobs: int = 4  # albums that may be under way or waiting
    jobs_kept: int = 8  # finished jobs whose results are kept
    job_seconds: float = 3600.0  # and for how long
    audit_days: int = 90  # how long the audit log remembers
    witness: str | None = None  # a file or URL that keeps the last hash of the audit log
    # After how many days a new person is deleted, unless the request says when; None for never.
    expire_days: int | None = None

    def __post_init__(self) -> None:
        positive = "workers queue faces picture_bytes picture_pixels request_bytes jobs audit_days"
        for name in positive.split():
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.rate_per_minute is not None and self.rate_per_minute < 1:
            raise ValueError(f"rate_per_minute must be 1 or more, got {self.rate_per_minute}")
        if self.expire_days is not None and not 1 <= self.expire_days <= MOST_DAYS:
            raise ValueError(f"expire_days must be 1 to {MOST_DAYS}, got {self.expire_days}")
        if self.request_pictures > self.queue:
            raise ValueError(
                f"queue must hold the pictures of one request ({self.request_pictures}), got {self.queue}"
            )
