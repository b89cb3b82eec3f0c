"""The search in a large gallery: candidates by their codes, decided by their float32 rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from sameface.arrays import Embeddings, expect_shape
from sameface.compare import exact_distances
from sameface.gallery.codes import CodedProbes
from sameface.gallery.index import Snapshot
from sameface.gallery.indexfile import IndexFile
from sameface.gallery.scan import ScannedRows, Scanner
from sameface.gallery.search import PROBES, Candidates, Limits, SearchOptions, leave_out_unusable, scale_distances
from sameface.thresholds import Thresholds

SPARE = 4  # times as many faces as people are looked for, since one person may have several
MORE = 8  # times as many candidates, since their order is only about right
FACES = """SELECT faces.id, person_id, name, adapted, embedding FROM json_each(?) AS wanted
           CROSS JOIN faces ON faces.id = wanted.value CROSS JOIN people ON people.id = person_id
           ORDER BY faces.id"""
PEOPLE = "SELECT count(*) FROM (SELECT 1 FROM people LIMIT ?)"


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """Who is enrolled in a large gallery, read from the file as far as a search needs it.

    Attributes:
        gallery: Where their rows are.
        snapshot: Holds the gallery still, and gives the index as of that moment.
        scanner: Does the first pass.
        faces: How many faces are enrolled.
        own: The thresholds that the gallery keeps, or None.
        mixed: Those for rows that an adapter moved here, or None.
    """

    gallery: Snapshot
    snapshot: Callable[[], AbstractContextManager[IndexFile]]
    scanner: Scanner
    faces: int
    own: Thresholds | None
    mixed: Thresholds | None

    def search(self, probes: Embeddings, limits: Limits, options: SearchOptions) -> Iterator[Candidates]:
        """Yield the faces that can count for each probe, with their exact distances."""
        for start in range(0, len(probes), PROBES):
            with self.snapshot() as file:
                found = self._search(file, probes[start : start + PROBES], limits.factor, options)
            yield from found

    def _search(self, file: IndexFile, probes: Embeddings, factor: float, options: SearchOptions) -> list[Candidates]:
        """Return the faces near each probe: all those that are as near as `k` faces and the people wanted.

        Where the candidates leave it open who these are, they tell how far away these can be at most, and all
        faces that can be as near are looked at; or, if the candidates are of too few people, more of them.
        """
        expect_shape("rows", probes, ("n", file.header.width), np.float32)
        [(people,)] = self.gallery.read(PEOPLE, options.people + len(options.hidden))
        people = max(people - len(options.hidden), 0)
        tiles, found = file.tiles(), {}
        most, edges = MORE * max(options.k, SPARE * people), dict.fromkeys(range(len(probes)), np.inf)
        while edges:
            coded = CodedProbes.encode(probes[list(edges)], file.coder, file.header.errors)
            least = np.array([coded.score_within(n, edge) for n, edge in enumerate(edges.values())], np.int64)
            for number, candidates in zip(list(edges), self.scanner.scan(tiles, coded, least, most), strict=True):
                near = self._fetch(file, probes[number], candidates, factor).without(options.hidden)
                complete = candidates.complete * min(factor, 1)  # infinite if they are all there is
                edges[number] = near.edge(faces=options.k, people=people) / min(factor, 1)
                if np.isinf(complete) or near.settles(complete, faces=options.k, people=people):
                    found[number] = near
                    del edges[number]
            most *= SPARE
        return [found[number] for number in range(len(probes))]

    def _fetch(self, file: IndexFile, probe: Embeddings, candidates: ScannedRows, factor: float) -> Candidates:
        """Return the candidates as they stand in the gallery, in the order of enrolment."""
        numbers = file.numbers(candidates.places)
        found = self.gallery.read(FACES, json.dumps(numbers.tolist()))
        owners = np.array([owner for _, owner, *_ in found], np.int64)
        names = {owner: name for _, owner, name, *_ in found}
        faces, kept = [face for face, *_ in found], [embedding for *_, embedding in found]
        rows, owners = leave_out_unusable(self.gallery.stack_rows(faces, kept, file.header.width), owners)
        adapted = np.array([moved for *_, moved, _ in found], bool)
        return Candidates(scale_distances(exact_distances(probe, rows), adapted, factor), owners, names)
