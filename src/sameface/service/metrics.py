"""The metrics of the service, for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "sameface_requests",
            "Requests by what was asked and how it ended.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sameface_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge("sameface_pictures_accepted", "Pictures accepted and not done.", registry=self.registry)
        self.buffered = Gauge("sameface_buffered_bytes", "Bytes of bodies in memory.", registry=self.registry)
        self.answers = Gauge(
            "sameface_answer_bytes", "Bytes of large answers that are not read yet.", registry=self.registry
        )
        self.connections = Gauge("sameface_connections", "Open connections.", registry=self.registry)
        self.dropped = Counter(
            "sameface_connections_dropped",
            "Connections closed because there were too many, or the client read too slowly.",
            ("reason",),
            registry=self.registry,
        )
        self.batch = Histogram(
            "sameface_batch_faces", "Faces embedded together.", buckets=SIZES, registry=self.registry
        )
        self.faces = Counter("sameface_faces", "Faces that were embedded.", registry=self.registry)
        self.expiry_refused = Gauge(
            "sameface_expiry_refused",
            "People whose time is over, whom nobody deletes until `forget --expired --yes` confirms it.",
            registry=self.registry,
        )
        self.jobs = Gauge("sameface_jobs", "Jobs by state.", ("state",), registry=self.registry)

        self.witness_failing = Gauge(
            "sameface_witness_failing",
            "The witness did not take the last hash of the audit log.",
            registry=self.registry,
        )

    def write(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)
