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
    """Every choice of one service. Bytes are of files, pixels of decoded pictures.

    Attributes:
        keys_required: Refuse requests without an API key.
        token: What a request without an API key must carry where none is required; None for nothing.
        hosts: The names that a request may call the service by; empty means any. It protects a service
            without keys against pages that point a name of theirs at this machine (DNS rebinding).
        cors_origins: Other origins whose pages may call the service, such as `https://intranet.example`.
        rate_per_minute: Requests that one key, or without keys one address, may make; None means any number.
        keep_crops: Store the face that was cut out with each enrolled face.
        min_quality: Refuse to enroll a face of less quality; 0 takes every face.
        batching: Embed the faces of several requests together; off only to measure what it gains.
        workers: Pictures that are decoded and searched at once; each takes about 20 bytes a pixel.
        queue: Pictures that may wait; over it the answer is 503.
        faces: Faces that may wait to be embedded; while there are more, no further picture is decoded.
        wait_seconds: How long a picture may wait for its turn, and a client for the body of its request.
        buffer_bytes: All bodies of requests together that are in memory; over it the answer is 503.
        answer_bytes: All large answers together that are not read yet; over it the answer is 503.
        picture_bytes: One picture.
        picture_pixels: Width times height of one picture.
        request_bytes: The body of a request that is no album.
        request_pictures: Pictures of one enrolment.
        album_bytes: The body of a request to sort an album.
        album_pictures: Pictures of one album.
        album_faces: Faces of one album; their distances take 4 bytes for each pair.
        jobs: Albums that may be under way or waiting.
        jobs_kept: Finished jobs whose results are kept.
        job_seconds: How long they are kept.
        audit_days: How long the audit log remembers.
        witness: A file or URL that keeps the last hash of the audit log; None for nobody.
        expire_days: After how many days a person who is enrolled is deleted, unless the request says when;
            None for never.
    """

    keys_required: bool = False
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = LOCAL_HOSTS
    cors_origins: tuple[str, ...] = ()
    rate_per_minute: int | None = None
    keep_crops: bool = False
    min_quality: float = 0
    batching: bool = True
    workers: int = field(default_factory=count_workers)
    queue: int = 128
    faces: int = 256
    wait_seconds: float = 30.0
    buffer_bytes: int = 512_000_000
    answer_bytes: int = 256_000_000
    picture_bytes: int = 20_000_000
    picture_pixels: int = 50_000_000
    request_bytes: int = 60_000_000
    request_pictures: int = 100
    album_bytes: int = 256_000_000
    album_pictures: int = 1000
    album_faces: int = 5000
    jobs: int = 4
    jobs_kept: int = 8
    job_seconds: float = 3600.0
    audit_days: int = 90
    witness: str | None = None
    expire_days: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "workers",
            "queue",
            "faces",
            "picture_bytes",
            "picture_pixels",
            "request_bytes",
            "jobs",
            "audit_days",
        ):
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
