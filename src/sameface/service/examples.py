"""An example of every answer, by the name of its record, for OpenAPI."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

PLACE: Example = {
    "box": [112.4, 80.1, 240.9, 251.7],
    "landmarks": [[150.2, 140.8], [205.5, 139.9], [178.3, 175.0], [155.1, 205.2], [201.7, 204.6]],
    "score": 0.9312,
}
ERROR: Example = {"code": "no_face", "message": "no face found in 'team.jpg'", "detail": {"name": "'team.jpg'"}}
EMBEDDED: Example = PLACE | {"embedding": [0.6, 0.0, 0.8]}
VERIFY: Example = {
    "same": True,
    "distance": 0.6214,
    "threshold": 1.1801,
    "far": 0.001,
    "rule": "pair",
    "population": "alike",
    "extrapolated": False,
    "probability": 0.97,
    "in_range": True,
    "a": PLACE,
    "b": PLACE,
    "live": None,
}
FRAME: Example = {
    "state": "running",
    "reason": None,
    "wanted": "left",
    "met": 1,
    "total": 7,
    "too_fast": False,
    "width": 640,
    "height": 480,
    "face": PLACE,
}
IDENTIFIED: Example = PLACE | {
    "person": 17,
    "name": "Rosa",
    "ambiguous": False,
    "threshold": 1.3684,
    "far": 0.01,
    "asked": 0.01,
    "rule": "template",
    "size": 42,
    "population": "alike",
    "extrapolated": False,
    "warning": None,
    "closed_set": False,
    "matches": [
        {"person": 17, "name": "Rosa", "distance": 0.5127, "votes": 1},
        {"person": 4, "name": "Gil", "distance": 1.42, "votes": 0},
    ],
    "live": None,
}
PERSON: Example = {"id": 17, "name": "Rosa", "faces": 3, "consent": "signed form, 2026-01-31", "expires": None}
RECEIPT: Example = {
    "number": 8,
    "time": "2026-01-31T09:15:02.117+00:00",
    "gallery": "5c2e9d0f4b7a68135c2e9d0f4b7a6813",
    "reason": "forget",
    "person": 17,
    "face": None,
    "into": None,
    "faces": 3,
    "crops": 3,
    "pictures": 2,
    "hash": "1c7e5a90d2b3486f1c7e5a90d2b3486f1c7e5a90d2b3486f1c7e5a90d2b3486f",
    "erasure": {
        "number": 9,
        "time": "2026-01-31T09:15:02.204+00:00",
        "places": {"table": True, "log": True},
        "hash": "e04b7719c8fa2d65e04b7719c8fa2d65e04b7719c8fa2d65e04b7719c8fa2d65",
    },
    "complete": True,
    "not_covered": ["backups and other copies of the gallery"],
}
ALBUM_FACE: Example = PLACE | {"picture": 0, "filename": "beach.jpg", "thumbnail": "data:image/jpeg;base64,/9j/4AAQ"}
ALBUM: Example = {
    "threshold": 1.0951,
    "far": 0.0003,
    "faces": [
        ALBUM_FACE,
        PLACE | {"picture": 3, "filename": "party.jpg", "thumbnail": "data:image/jpeg;base64,/9j/4AAQ"},
    ],
    "groups": [[0, 1]],
    "skipped": [],
}
RATES = [
    {"far": 0.01, "distance": 1.3684, "extrapolated": False},
    {"far": 0.001, "distance": 1.1801, "extrapolated": False},
]
MODEL: Example = {
    "signature": "0f3b6c1d2e4a5968",
    "detector": {"name": "centerface", "licence": "MIT"},
    "embedder": {"name": "mobilefacenet", "licence": "MIT"},
    "dimension": 128,
    "thresholds": RATES,
    "population": "alike",
    "populations": [{"population": "alike", "calibrated_on": "portraits of people alike", "thresholds": RATES}],
    "gallery": {"people": 42, "faces": 130},
    "limits": {"picture_bytes": 20_000_000, "picture_pixels": 50_000_000},
    "version": "0.1.0",
}
AUDIT: Example = {
    "entries": [
        {
            "id": 7,
            "time": "2026-01-31T09:15:02.117+00:00",
            "key": "reception",
            "action": "identify",
            "gallery": "5c2e9d0f4b7a68135c2e9d0f4b7a6813",
            "person": 17,
            "name": "Rosa",
            "detail": {"faces": 2, "named": 1},
            "hash": "9d2f6a7c1b3e58409d2f6a7c1b3e58409d2f6a7c1b3e58409d2f6a7c1b3e5840",
        }
    ],
    "next": 7,
}
EXAMPLES: dict[str, Example] = {
    "ErrorAnswer": {"error": ERROR},
    "FaceAnswer": PLACE,
    "DetectAnswer": {"width": 640, "height": 480, "faces": [PLACE]},
    "EmbeddedFace": EMBEDDED,
    "EmbedAnswer": {"signature": "0f3b6c1d2e4a5968", "dimension": 3, "faces": [EMBEDDED]},
    "VerifyAnswer": VERIFY,
    "ChallengeAnswer": {"id": "Z5dCwF5KiF3GNOl_q5ZcZw", "wanted": "straight", "met": 0, "total": 7, "seconds": 60.0},
    "FrameAnswer": FRAME,
    "IdentifiedFace": IDENTIFIED,
    "IdentifyAnswer": {"width": 640, "height": 480, "faces": [IDENTIFIED]},
    "PersonAnswer": PERSON,
    "PeopleAnswer": {"people": [PERSON], "next": "Rosa", "total": 42},
    "EnrollAnswer": {
        "person": PERSON,
        "enrolled": 3,
        "skipped": [{"picture": "team.jpg", "number": 2, "error": ERROR}],
    },
    "ReceiptAnswer": RECEIPT,
    "ReceiptsAnswer": {"receipts": [RECEIPT], "next": None},
    "FacesAnswer": {"faces": [{"id": 18, "box": PLACE["box"], "score": 0.9312, "crop": True}], "next": 18},
    "AlbumFaceAnswer": ALBUM_FACE,
    "JobAnswer": {
        "id": "Z5dCwF5KiF3GNOl_q5ZcZw",
        "state": "done",
        "done": 4,
        "total": 4,
        "error": None,
        "result": ALBUM,
    },
    "ModelAnswer": MODEL,
    "AuditAnswer": AUDIT,
    "HealthAnswer": {"status": "ok"},
}
