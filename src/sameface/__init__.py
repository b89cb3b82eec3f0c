"""sameface: find faces in pictures and recognise people by one embedding per face.

    picture -> faces -> crops -> embeddings -> decision | gallery | clusters

The names below are loaded when they are first used, so that `import sameface` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sameface.align import align_faces
    from sameface.cluster import cluster_embeddings, extend_clusters
    from sameface.compare import Decision, squared_distances
    from sameface.detect import Detector
    from sameface.embed import Embedder
    from sameface.errors import SamefaceError
    from sameface.face import Face, Template
    from sameface.gallery import Gallery, Identification, Match, Person, Receipt
    from sameface.image import read_image
    from sameface.manifest import CropRule, Manifest
    from sameface.many_pictures import FolderMatch, PictureEmbeddings, embed_many, find
    from sameface.model import Model
    from sameface.picture_files import find_pictures, hash_image
    from sameface.recognizer import FaceEmbedding, FacePair, Recognizer
    from sameface.thresholds import Thresholds
    from sameface.video import Timeline, Track, Video, VideoSearch, Watcher, annotate_video, identify_video

__version__ = "0.1.0"

__all__ = [
    "CropRule",
    "Decision",
    "Detector",
    "Embedder",
    "Face",
    "FaceEmbedding",
    "FacePair",
    "FolderMatch",
    "Gallery",
    "Identification",
    "Manifest",
    "Match",
    "Model",
    "Person",
    "PictureEmbeddings",
    "Receipt",
    "Recognizer",
    "SamefaceError",
    "Template",
    "Thresholds",
    "Timeline",
    "Track",
    "Video",
    "VideoSearch",
    "Watcher",
    "align_faces",
    "annotate_video",
    "cluster_embeddings",
    "embed_many",
    "extend_clusters",
    "find",
    "find_pictures",
    "hash_image",
    "identify_video",
    "read_image",
    "squared_distances",
]

HOMES = {
    "align": ("align_faces",),
    "cluster": ("cluster_embeddings", "extend_clusters"),
    "compare": ("Decision", "squared_distances"),
    "detect": ("Detector",),
    "embed": ("Embedder",),
    "errors": ("SamefaceError",),
    "face": ("Face", "Template"),
    "gallery": ("Gallery", "Identification", "Match", "Person", "Receipt"),
    "image": ("read_image",),
    "manifest": ("CropRule", "Manifest"),
    "many_pictures": ("FolderMatch", "PictureEmbeddings", "embed_many", "find"),
    "thresholds": ("Thresholds",),
    "model": ("Model",),
    "picture_files": ("find_pictures", "hash_image"),
    "recognizer": ("FaceEmbedding", "FacePair", "Recognizer"),
    "video": ("Timeline", "Track", "Video", "VideoSearch", "Watcher", "annotate_video", "identify_video"),
}


def __getattr__(name: str) -> object:
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sameface.{home}"), name)
    raise AttributeError(f"module 'sameface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
