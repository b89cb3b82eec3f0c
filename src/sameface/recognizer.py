"""The main path: find and embed the faces of a picture, and compare two pictures."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameface.align import align_faces
from sameface.arrays import Crops, Embeddings, Image
from sameface.compare import Decision, squared_distances
from sameface.detect import Detector
from sameface.embed import Embedder
from sameface.errors import NoFaceError, NoSuchFaceError, SeveralFacesError
from sameface.face import Choice, Face, Template
from sameface.image import read_image
from sameface.model import DEFAULT_WEIGHTS, Model
from sameface.picture_files import ImageSource, buffer_image, hash_image, name_of
from sameface.quality import require_quality
from sameface.thresholds import Thresholds


@dataclass(frozen=True, slots=True, eq=False)
class FaceEmbedding:
    """A face and its embedding, a `(d,) float32` unit row."""

    face: Face
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FacePair:
    """A face of one picture, a face of another, and whether they are the same person's."""

    a: FaceEmbedding
    b: FaceEmbedding
    decision: Decision


class Recognizer:
    """A detector and an embedder that work together. Any number of threads may share it.

    Pictures are any source that `read_image` takes. `face` chooses one face of a picture: `"only"` requires a single
    face, `"largest"` takes the largest box, `"first"` the highest score; a number counts from 0 in the detector's
    order. Methods that take pictures raise `ImageError` if one cannot be read, and those that need one face
    `NoFaceError`, `SeveralFacesError` or `NoSuchFaceError`.

    Args:
        detector: Finds the faces.
        embedder: Maps their crops to embeddings.
        population: The people of the thresholds, such as `alike` or `mixed`; None takes the weights' default.

    Attributes:
        thresholds: The distance that means "same", by false-accept rate.

    Raises:
        ValueError: The weights have no thresholds for this population.
    """

    def __init__(self, detector: Detector, embedder: Embedder, population: str | None = None) -> None:
        self.detector = detector
        self.embedder = embedder
        spec = embedder.spec
        self.thresholds = spec.thresholds if population is None else spec.choose_thresholds(population)

    @classmethod
    def load(
        cls,
        weights: str | Path = DEFAULT_WEIGHTS,
        *,
        flip: bool = True,
        threads: int | None = None,
        population: str | None = None,
    ) -> Recognizer:
        """Open the shipped detector and an embedder.

        Args:
            weights: The embedder: a shipped name, or the path of an `.onnx` file with its manifest beside it.
            flip: Average each face with its mirror image.
            threads: Processor cores to use; None takes all.
            population: As in the constructor.

        Raises:
            WeightsError: A file is missing or does not match its manifest.
            ValueError: The weights have no thresholds for this population.
        """
        detector = Detector(Model.load("centerface", threads=threads))
        return cls(detector, Embedder(Model.load(weights, threads=threads), flip=flip), population)

    @property
    def signature(self) -> str:
        """The hash of everything that shapes an embedding; embeddings of two signatures are never compared.

        It covers the weights of detector and embedder, mean, scale, crop rule and the mirror image.
        """
        model = self.embedder.model.manifest
        facts = {
            "detector": self.detector.model.manifest.sha256,
            "embedder": model.sha256,
            "mean": model.mean,
            "scale": model.scale,
            "crop": asdict(self.embedder.spec.crop),
            "flip": self.embedder.flip,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def embed(self, image: ImageSource) -> tuple[list[Face], Embeddings]:
        """Return `n` faces of a picture, the highest score first, and their embeddings, `(n, d) float32` unit rows."""
        faces, crops = self.cut_faces(read_image(image))
        return faces, self.embedder.embed(crops)

    def faces(self, image: ImageSource) -> list[FaceEmbedding]:
        """Return every face of a picture together with its embedding, the highest score first."""
        found, rows = self.embed(image)
        return [FaceEmbedding(face, row) for face, row in zip(found, rows, strict=True)]

    def compare(self, a: ImageSource, b: ImageSource, *, far: float = 1e-3) -> list[FacePair]:
        """Decide as `verify` for every face of `a` with every face of `b`, those of `a` first."""
        pairs = itertools.product(self.faces(a), self.faces(b))
        return [FacePair(x, y, self.decide(np.stack([x.embedding, y.embedding]), far)) for x, y in pairs]

    def cut_faces(
        self, image: Image, *, face: Choice | None = None, name: str = "picture", min_quality: float = 0
    ) -> tuple[list[Face], Crops]:
        """Return the faces of a decoded picture and their crops for the embedder.

        Args:
            image: `(h, w, 3) uint8` RGB, upright.
            face: The one to take; None takes every one.
            name: The picture's name in messages.
            min_quality: The `Quality.total` that the one face must have; 0 takes every face.

        Returns:
            `n` faces, the highest score first, and `(n, size, size, 3) uint8` crops in the same order.
        """
        faces = self.detector.find(image)
        if face is not None:
            faces = [choose_face(faces, face, name)]
        crops = align_faces(image, faces, self.embedder.spec.crop)
        if face is not None and min_quality > 0:
            require_quality(faces[0], crops[0], min_quality, name)
        return faces, crops

    def embed_face(self, image: ImageSource, *, face: Choice = "only") -> tuple[Face, NDArray[np.float32]]:
        """Return one face of a picture with its embedding, a `(d,) float32` unit row."""
        chosen, crops = self._crop_face(image, face)
        return chosen, self.embedder.embed(crops)[0]

    def template(
        self, image: ImageSource, *, face: Choice = "only", keep_crop: bool = False, min_quality: float = 0
    ) -> Template:
        """Return one face of a picture, ready to be enrolled in a gallery.

        Args:
            image: The picture.
            face: The one to take.
            keep_crop: Keep the crop of the face too.
            min_quality: The `Quality.total` that the face must have, or `PoorFaceError`; 0 takes every face.
        """
        picture = buffer_image(image)
        chosen, crops = self._crop_face(picture, face, min_quality=min_quality)
        return Template(
            picture=hash_image(picture),
            box=chosen.box,
            score=chosen.score,
            embedding=self.embedder.embed(crops)[0],
            crop=crops[0] if keep_crop else None,
        )

    def verify(
        self, a: ImageSource, b: ImageSource, *, far: float = 1e-3, face: Choice | tuple[Choice, Choice] = "only"
    ) -> Decision:
        """Decide whether two pictures show the same person.

        Args:
            a: A picture.
            b: The other picture.
            far: The part of the pairs of different people that may be accepted.
            face: The one to take; a pair of choices is for `a` and `b`.

        Raises:
            ThresholdError: The calibration does not reach this `far`.
        """
        self.thresholds.at(far)  # before any work
        of_a, of_b = face if isinstance(face, tuple) else (face, face)
        rows = np.stack([self.embed_face(a, face=of_a)[1], self.embed_face(b, face=of_b)[1]])  # (2, d)
        return self.decide(rows, far)

    def decide(self, rows: Embeddings, far: float, thresholds: Thresholds | None = None) -> Decision:
        """Return whether two embeddings, `(2, d) float32`, are the same person's, as `verify` does.

        `thresholds` are those of a gallery; None takes the recognizer's.
        """
        known = self.thresholds if thresholds is None else thresholds
        return Decision(
            distance=float(squared_distances(rows[:1], rows[1:])[0, 0]),
            threshold=known.at(far),
            far=far,
            curve=self.embedder.spec.curve,
            population=known.population,
            extrapolated=known.is_extrapolated(far),
        )

    def _crop_face(self, image: ImageSource, choice: Choice, *, min_quality: float = 0) -> tuple[Face, Crops]:
        """Return the chosen face of a picture with its crop, `(1, size, size, 3)`."""
        name = name_of(image)
        [chosen], crops = self.cut_faces(read_image(image), face=choice, name=name, min_quality=min_quality)
        return chosen, crops


def choose_face(faces: list[Face], choice: Choice, name: str) -> Face:
    """Return the chosen face, or raise a `FaceError`; `name` is the picture's in messages."""
    if not faces:
        raise NoFaceError(name)
    if isinstance(choice, int):
        if not 0 <= choice < len(faces):
            raise NoSuchFaceError(name, choice, len(faces))
        return faces[choice]
    if choice == "largest":
        return max(faces, key=lambda face: face.area)
    if choice == "only" and len(faces) > 1:
        raise SeveralFacesError(name, faces)
    return faces[0]
