"""Agreement of groups of pictures with people: BCubed and pairwise measures, over thresholds, and the report.

Everything follows from how many pictures each group shares with each person: no table of all pairs is made.
Intervals come from drawing the people again; the groups stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sameface.arrays import Embeddings
from sameface.cluster import cluster_embeddings, cut_tree, link_rows
from sameface.evaluation.bootstrap import REPEATS, Estimate, estimate_all
from sameface.evaluation.charts import Chart, Line, Mark
from sameface.evaluation.protocols import PeopleSet
from sameface.evaluation.ranking import Labels
from sameface.evaluation.report import EvaluationReport, ReportTable, gap_table, with_interval
from sameface.evaluation.roc import Integers, Numbers

STEPS = 50  # thresholds of a sweep
NAMES = ("BCubed precision", "BCubed recall", "BCubed F", "pairwise precision", "pairwise recall", "pairwise F")
COLUMNS = ("threshold", "groups (people)", "BCubed precision", "recall", "F", "pairs: precision", "recall ", "F ")


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Agreement of groups and people; NaN where it is not defined."""

    precision: float  # how pure the groups are
    recall: float  # how whole the people are
    f: float  # the harmonic mean of both


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """Groups of pictures, measured against the people.

    BCubed is over the mean picture: the part of its group that shows its person, and the part of its person that
    is in its group (Bagga and Baldwin, 1998); the picture itself counts. Pairwise is over pairs: the part of
    those in one group that shows one person, and the part of those of one person that is in one group.
    """

    pictures: int
    people: int
    clusters: int
    singles: int  # groups of one picture
    bcubed: PrecisionRecall
    pairwise: PrecisionRecall  # NaN without such pairs


@dataclass(frozen=True, slots=True)
class ClusterPoint:
    """The groups at one threshold: the mean squared distance at and under which groups merge."""

    threshold: float
    result: ClusterResult


@dataclass(frozen=True, slots=True, eq=False)
class ContingencyTable:
    """The numbers of pictures that groups and people share, for each group and person that share any."""

    group: Integers  # (c,) the number of the group, rising
    person: Integers  # (c,) the number of the person
    shared: Integers  # (c,) pictures

    @property
    def people(self) -> int:
        """How many people there are."""
        return int(self.person.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True)
class ClusterEstimates:
    """The groups at one threshold, with the interval of every measure by its name."""

    point: ClusterPoint
    cells: ContingencyTable
    estimates: Mapping[str, Estimate]


def make_contingency(labels: Labels, people: Labels) -> ContingencyTable:
    """Return how many pictures groups and people share, from the group and the person of each picture."""
    if len(labels) != len(people):
        raise ValueError(f"labels and people must be equally many, got {len(labels)} and {len(people)}")
    _, groups = np.unique(np.asarray(labels), return_inverse=True)
    names, persons = np.unique(np.asarray(people), return_inverse=True)
    cells, shared = np.unique(groups * max(len(names), 1) + persons, return_counts=True)
    return ContingencyTable(*np.divmod(cells, max(len(names), 1)), shared)


def sum_bcubed(cells: ContingencyTable) -> Numbers:
    """Return sums over the pictures of each person, `(p, 3)`: of BCubed precision, of recall, and of 1."""
    purity = cells.shared / np.bincount(cells.group, cells.shared)[cells.group]
    wholeness = cells.shared / np.bincount(cells.person, cells.shared)[cells.person]
    columns = (cells.shared * purity, cells.shared * wholeness, cells.shared)
    return np.column_stack([np.bincount(cells.person, part, minlength=cells.people) for part in columns])


def weigh_agreement(cells: ContingencyTable, sums: Numbers, draw: Integers) -> Numbers:
    """Return the measures of `NAMES`, `(6,)`, with each person as often as it was drawn; NaN where undefined.

    Each picture keeps its own BCubed precision and recall, from `sum_bcubed`; pairs count as in `pair_weights`.
    """
    pure, whole, pictures = (float(part) for part in draw @ sums)
    precision, recall = ratio(pure, pictures), ratio(whole, pictures)
    right = int((draw[cells.person] * (cells.shared * (cells.shared - 1) // 2)).sum())
    sizes = np.bincount(cells.person, cells.shared, minlength=cells.people)
    wanted = float((draw * (sizes * (sizes - 1) / 2)).sum())
    drawn = draw[cells.person] * cells.shared
    mixed = (np.bincount(cells.group, drawn) ** 2 - np.bincount(cells.group, drawn**2)).sum() / 2
    grouped = right + float(mixed)
    f = ratio(2 * precision * recall, precision + recall)
    pairwise = (ratio(right, grouped), ratio(right, wanted), ratio(2 * right, grouped + wanted))
    return np.array([precision, recall, f, *pairwise])


def ratio(part: float, whole: float) -> float:
    """Return a part of a whole; NaN if the whole is 0."""
    return part / whole if whole else float("nan")


def evaluate_clusters(labels: Labels, people: Labels) -> ClusterResult:
    """Measure groups against people, from the group and the person of each picture, `(n,)` both.

    Raises:
        ValueError: The two differ in length.
    """
    cells = make_contingency(labels, people)
    sizes = np.bincount(cells.group, cells.shared)
    values = weigh_agreement(cells, sum_bcubed(cells), np.ones(cells.people, np.int64)).tolist()
    return ClusterResult(
        pictures=len(labels),
        people=cells.people,
        clusters=len(sizes),
        singles=int((sizes == 1).sum()),
        bcubed=PrecisionRecall(*values[:3]),
        pairwise=PrecisionRecall(*values[3:]),
    )


def estimate_agreement(cells: ContingencyTable, *, repeats: int = REPEATS, seed: int = 0) -> dict[str, Estimate]:
    """Return every measure with its interval over people, by name."""
    sums = sum_bcubed(cells)

    def measure(draw: Integers) -> Numbers:
        return weigh_agreement(cells, sums, draw)

    found = estimate_all(measure, cells.people, repeats=repeats, rng=np.random.default_rng(seed))
    return dict(zip(NAMES, found, strict=True))


def estimate_clusters(people: PeopleSet, threshold: float, *, repeats: int, seed: int) -> ClusterEstimates:
    """Group the rows of people at one threshold, and measure the groups with their intervals."""
    labels = cluster_embeddings(people.rows, threshold=threshold)
    cells = make_contingency(labels, people.person)
    point = ClusterPoint(threshold, evaluate_clusters(labels, people.person))
    return ClusterEstimates(point, cells, estimate_agreement(cells, repeats=repeats, seed=seed))


def sweep_thresholds(
    rows: Embeddings,
    people: Labels,
    *,
    thresholds: Sequence[float] | None = None,
    cannot_link: Iterable[tuple[int, int]] = (),
) -> tuple[ClusterPoint, ...]:
    """Measure the groups at many thresholds; the rows are linked once.

    `rows` are unit rows, `(n, d) float32`; `people` the person of each, `(n,)`; `cannot_link` is as in
    `cluster_embeddings`. The default are 50 thresholds from 0 to the last merge, or to 4 if some rows never merge.

    Raises:
        ValueError: As `cluster_embeddings`; rows and people differ in number.
    """
    tree = link_rows(rows, cannot_link=cannot_link)
    if thresholds is None:
        thresholds = np.linspace(0, min(float(tree[:, 2].max(initial=0)), 4.0), STEPS).tolist()
    return tuple(
        ClusterPoint(float(threshold), evaluate_clusters(cut_tree(tree, threshold, len(rows)), people))
        for threshold in thresholds
    )


def best_point(points: Sequence[ClusterPoint]) -> ClusterPoint:
    """Return the point with the highest BCubed F, of equals the one with the lowest threshold."""
    return max(points, key=lambda point: (point.result.bcubed.f, -point.threshold))


def report_clusters(
    facts: Mapping[str, str],
    people: PeopleSet,
    chosen: ClusterEstimates,
    sweep: Sequence[ClusterPoint],
    *,
    slices: Mapping[str, ClusterEstimates],
) -> EvaluationReport:
    """Return the report on the groups at the threshold of `sameface cluster`, among all people and in each slice."""
    named = {"all": chosen} | dict(slices)
    results = [groups.point.result for groups in named.values()]
    rows = [
        ("groups (people)", *(f"{result.clusters:,} ({result.people:,})" for result in results)),
        ("groups of one picture", *(f"{result.singles:,}" for result in results)),
        *((name, *(with_interval(groups.estimates[name]) for groups in named.values())) for name in NAMES),
    ]
    best, sums = best_point(sweep), sum_bcubed(chosen.cells)
    tables = [
        ReportTable(f"Groups at {chosen.point.threshold:.4f}", ("", *named), tuple(rows)),
        ReportTable("The threshold with the best BCubed F here", COLUMNS, (point_row(best),)),
    ]
    if slices:
        tables.append(gap_table({name: groups.estimates for name, groups in slices.items()}))
    tables.append(ReportTable("Threshold sweep", COLUMNS, tuple(map(point_row, sweep))))
    data = {
        "chosen": point_data(chosen.point) | {"measures": dict(chosen.estimates)},
        "best": point_data(best),
        "sweep": [point_data(point) for point in sweep],
        "slices": {name: point_data(one.point) | {"measures": dict(one.estimates)} for name, one in slices.items()},
        "by_person": {
            name: {person: [float(row[place]), int(row[2])] for person, row in zip(people.names, sums, strict=True)}
            for place, name in enumerate(NAMES[:2])
        },
    }
    charts = sweep_charts(chosen.point, sweep)
    return EvaluationReport("clusters", facts, tuple(tables), charts, data, warnings=people.warnings)


def point_row(point: ClusterPoint) -> tuple[str, ...]:
    """Return the row of one threshold."""
    result = point.result
    values = [*asdict(result.bcubed).values(), *asdict(result.pairwise).values()]
    cells = ["not defined" if np.isnan(value) else f"{value:.4f}" for value in values]
    return (f"{point.threshold:.4f}", f"{result.clusters:,} ({result.people:,})", *cells)


def point_data(point: ClusterPoint) -> dict[str, Any]:
    """Return the numbers of one threshold."""
    result = point.result
    counts = {name: getattr(result, name) for name in ("clusters", "people", "pictures")}
    bcubed = {f"bcubed_{name}": value for name, value in asdict(result.bcubed).items()}
    pairwise = {f"pairwise_{name}": value for name, value in asdict(result.pairwise).items()}
    return {"threshold": point.threshold} | counts | bcubed | pairwise


def sweep_charts(chosen: ClusterPoint, sweep: Sequence[ClusterPoint]) -> tuple[Chart, ...]:
    """Return agreement and number of groups against the threshold."""
    threshold = np.array([point.threshold for point in sweep])
    agreements = {
        "BCubed precision": [point.result.bcubed.precision for point in sweep],
        "BCubed recall": [point.result.bcubed.recall for point in sweep],
        "BCubed F": [point.result.bcubed.f for point in sweep],
        "pairwise F": [point.result.pairwise.f for point in sweep],
    }
    lines = tuple(Line(name, threshold, np.array(values)) for name, values in agreements.items())
    counts = np.array([float(point.result.clusters) for point in sweep])
    people = np.full(len(sweep), float(chosen.result.people))
    label, marks = "threshold (mean squared distance)", (Mark("chosen", chosen.threshold),)
    caption = "Precision: how pure the groups are. Recall: how whole the people are."
    counted = (Line("groups", threshold, counts), Line("people", threshold, people))
    meet = "Where the two meet there are as many groups as people."
    return (
        Chart("Groups against people", label, "agreement", lines, caption, marks=marks),
        Chart("Number of groups", label, "groups", counted, meet, log_y=True, marks=marks),
    )
