"""Who is enrolled, and who is this: people, their faces, and the search among them."""

from sameface.gallery.gallery import Gallery
from sameface.gallery.records import EnrolledFace, Erasure, Identification, Match, Person, Pipeline, Receipt

__all__ = ["EnrolledFace", "Erasure", "Gallery", "Identification", "Match", "Person", "Pipeline", "Receipt"]
