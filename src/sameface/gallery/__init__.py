"""Who is enrolled, and who is this: people, their faces, and the search among them."""

from sameface.gallery.records import EnrolledFace, Forgotten, Identification, Match, Person, Pipeline
from sameface.gallery.sqlite import Gallery

__all__ = ["EnrolledFace", "Forgotten", "Gallery", "Identification", "Match", "Person", "Pipeline"]
