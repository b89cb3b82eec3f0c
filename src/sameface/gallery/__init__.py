"""Who is enrolled, and who is this: people, their faces, and the search among them."""

from sameface.gallery.gallery import Gallery
from sameface.gallery.records import EnrolledFace, Forgotten, Identification, Match, Person, Pipeline

__all__ = ["EnrolledFace", "Forgotten", "Gallery", "Identification", "Match", "Person", "Pipeline"]
