"""Who is enrolled, and who is this: people, their faces, and the search among them."""

from sameface.gallery.records import Forgotten, Identification, Match, Person, Pipeline
from sameface.gallery.sqlite import Gallery

__all__ = ["Forgotten", "Gallery", "Identification", "Match", "Person", "Pipeline"]
