"""The approximate search: candidates from an index of half-precision vectors, ranked by float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.postgres.connections import CANDIDATES, Connections
from sameface.gallery.postgres.rows import decode_row, encode_row
from sameface.gallery.postgres.schema import Connection
from sameface.gallery.search import Candidates, Limits, SearchOptions, leave_out_unusable
from sameface.thresholds import Thresholds

LARGEST = 16 * CANDIDATES  # faces of a search, where a few people have very many
INDEX = """CREATE INDEX IF NOT EXISTS faces_nearest ON faces
           USING hnsw ((embedding::halfvec({0})) halfvec_ip_ops)"""
NEAREST = """SELECT near.id, person_id, name, vector_send(embedding) FROM (
                 SELECT id, person_id, embedding FROM faces
                 ORDER BY embedding::halfvec({0}) <#> %s::halfvec({0}) LIMIT %s
             ) AS near JOIN people ON people.id = person_id ORDER BY near.id"""


@dataclass(frozen=True, slots=True, eq=False)
class PostgresIndex:
    """Who is enrolled, left in the database and searched with the index.

    Attributes:
        connections: To the gallery.
        faces: How many faces are enrolled.
        dimension: How wide their rows are.
        own: The thresholds that the gallery keeps, or None.
        mixed: None: there are no adapted rows.
    """

    connections: Connections
    faces: int
    dimension: int
    own: Thresholds | None
    mixed: Thresholds | None = None

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:  # noqa: ARG002
        """Yield the faces near each probe: so many that they hold `k` and those of `most` people.

        If they belong to too few people, four times as many are taken, up to `LARGEST`.
        """
        expect_shape("rows", probes, ("n", self.dimension), np.float32)
        for probe in probes:
            wanted = max(CANDIDATES, 4 * max(options.k, options.most))
            near = self._find(probe, wanted).without(options.hidden)
            while len(np.unique(near.owners)) < options.most and wanted < min(self.faces, LARGEST):
                wanted *= 4
                near = self._find(probe, wanted).without(options.hidden)
            yield near

    def _find(self, probe: Embeddings, wanted: int) -> Candidates:
        """Return the faces that the index gives, in the order of enrolment, with their exact distances."""
        query, values = NEAREST.format(self.dimension).encode(), (encode_row(probe), wanted)

        def ask(connection: Connection) -> list[tuple[int, int, str, bytes]]:
            return connection.execute(query, values, binary=True).fetchall()

        found = self.connections.run(ask)
        matrix = np.array([decode_row(sent) for *_, sent in found], np.float32).reshape(len(found), -1)
        matrix, owners = leave_out_unusable(matrix, np.array([owner for _, owner, _, _ in found], np.int64))
        names = {owner: name for _, owner, name, _ in found}
        return Candidates(exact_distances(probe, matrix), owners, names)
