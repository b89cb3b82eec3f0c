"""What is made of one picture, wherever that is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

from sameface.arrays import Crops, Embeddings
from sameface.errors import FaceError, ImageError, SamefaceError
from sameface.face import Face
from sameface.image import read_image
from sameface.recognizer import Choice, Recognizer


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The faces of one picture.

    Attributes:
        faces: The highest score first.
        rows: `(n, d) float32` their embeddings.
        crops: `(n, size, size, 3) uint8` RGB, or `(0, size, size, 3)` where crops were not asked for.
    """

    faces: tuple[Face, ...]
    rows: Embeddings
    crops: Crops


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a picture gave nothing.

    Attributes:
        code: The error's.
        reason: Its message, which names the picture.
    """

    code: str
    reason: str

    @classmethod
    def of(cls, error: SamefaceError) -> Self:
        """Return what an error says."""
        return cls(error.code, str(error))


Outcome: TypeAlias = Found | Failure


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """What to look for in pictures, and with what. It can be sent to another process.

    Attributes:
        recognizer: Does the work.
        face: The one face to take of a picture, as in `Recognizer.embed_face`; None takes every one.
        crops: Also give the faces that were cut out.
        min_quality: The `Quality.total` that the one face must have; 0 takes every face.
    """

    recognizer: Recognizer
    face: Choice | None = None
    crops: bool = False
    min_quality: float = 0

    @property
    def pipeline(self) -> str:
        """Everything that shapes what is found: results of two pipelines are never mixed."""
        detector = self.recognizer.detector
        choices = (detector.min_score, detector.min_size, detector.max_side, detector.any_rotation)
        own = (self.face, self.crops, self.min_quality)
        return "/".join(map(str, (self.recognizer.signature, *own, *choices)))

    def find(self, data: bytes, name: str) -> Outcome:
        """Return what is found in the bytes of a picture; `name` is what a message calls it."""
        try:
            return self._find(data, name)
        except ImageError as error:
            return Failure(error.code, f"cannot read {name}: {error.reason}")
        except FaceError as error:
            return Failure.of(error)

    def _find(self, data: bytes, name: str) -> Found:
        faces, crops = self.recognizer.cut_faces(
            read_image(data), face=self.face, name=name, min_quality=self.min_quality
        )
        rows = self.recognizer.embedder.embed(crops)
        return Found(tuple(faces), rows, crops if self.crops else crops[:0])
