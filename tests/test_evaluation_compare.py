"""Two models on the same pairs: which differences are real."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

from sameface.evaluation.compare import (
    SAME_PIPELINE,
    compare_numbers,
    compare_people,
    compare_reports,
    join_pairs,
    mcnemar,
)
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.pairs import evaluate_pairs, report_pairs, score_pairs
from sameface.evaluation.protocols import LabelledPair, assign_folds
from sameface.evaluation.report import EvaluationReport, report_record, write_json


def make_report(noise, *, seed=0, count=600, missing=(), folder="here"):
    """Pairs of 60 people whose distances have a little or a lot of noise."""
    rng = np.random.default_rng(0)
    pairs = []
    for number, (a, b) in enumerate(rng.integers(60, size=(count, 2))):
        same = number % 2 == 0
        people = (f"p{a}", f"p{a}" if same else f"p{(a + 1 + b % 59) % 60}")
        pairs.append(LabelledPair(f"{folder}/{number}a.png", f"{folder}/{number}b.png", same, people))
    distance = np.where([pair.same for pair in pairs], 0.8, 1.2) + rng.normal(0, 0.1, count)
    distance += np.random.default_rng(seed).normal(0, noise, count)
    distance[list(missing)] = np.nan
    listed = assign_folds(pairs)
    scores = score_pairs(listed, distance)
    result = evaluate_pairs(scores, repeats=2)
    facts = {"weights": f"noise {noise}", "signature": f"{noise} {seed}"}
    return report_pairs("pairs", facts, listed, scores=scores, result=result)


@pytest.fixture
def compare(tmp_path):
    def call(ours, theirs, **options):
        write_json(theirs, tmp_path / "other.json")
        return compare_reports(ours, tmp_path / "other.json", repeats=200, **options)

    return call


@pytest.mark.parametrize("counts", [(0, 0), (5, 0), (3, 9), (40, 41), (700, 800)])
def test_mcnemars_chance_is_scipys(counts):
    ours = np.array([True] * counts[0] + [False] * counts[1] + [True] * 20)
    theirs = np.array([False] * counts[0] + [True] * counts[1] + [True] * 20)
    expected = scipy.stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1
    assert mcnemar(ours, theirs) == pytest.approx(expected)


def test_a_model_is_not_better_than_itself(compare):
    report = make_report(0.1)
    found = compare(report, report)
    assert SAME_PIPELINE in found.warnings
    assert [one["gain"].value for one in found.data["differences"]] == [0, 0, 0, 0, 0]
    assert not any(one["real"] for one in found.data["differences"])


def test_a_much_noisier_model_is_really_worse(compare):
    found = compare(make_report(0), make_report(0.5))
    accuracy, area, error, *vals = found.data["differences"]
    assert SAME_PIPELINE not in found.warnings
    assert accuracy["p"] < 1e-6
    assert all(one["gain"].low > 0 and one["real"] for one in (accuracy, area, *vals))
    assert error["gain"].high < 0
    assert error["real"]


def test_noise_of_another_seed_is_no_real_difference(compare):
    found = compare(make_report(0.15, seed=1), make_report(0.15, seed=2))
    assert not found.data["differences"][0]["real"]


def test_the_difference_told_is_that_of_both(compare):
    for one in compare(make_report(0), make_report(0.3)).data["differences"]:
        assert one["gain"].value == pytest.approx(one["ours"] - one["theirs"])


def test_pairs_without_a_face_are_errors_of_the_model_that_finds_none(compare):
    accuracy = compare(make_report(0), make_report(0, missing=range(100))).data["differences"][0]
    assert accuracy["theirs"] < accuracy["ours"] - 0.1


def test_both_stand_in_the_first_table_and_in_the_plots(compare):
    found = compare(make_report(0), make_report(0.5))
    assert found.tables[0].title == "Compared with noise 0.5"
    assert "McNemar" in found.tables[0].rows[0][4]
    assert [line.name for line in found.charts[0].lines] == ["noise 0", "noise 0.5"]


def test_the_folder_of_the_pictures_does_not_matter(compare):
    found = compare(make_report(0), make_report(0, folder="/somewhere/else"))
    assert found.data["differences"][0]["gain"].value == 0


def test_pairs_of_one_list_only_are_left_out():
    ours = [["f/1", "f/2", True, "p", "p", 0.1, True], ["f/1", "f/3", False, "p", "q", 0.2, False]]
    theirs = [["f/1", "f/3", False, "p", "q", None, False], ["f/5", "f/6", True, "q", "q", 0.1, True]]
    twins = join_pairs(ours, theirs)
    assert twins.same.tolist() == [False]
    assert twins.distance[0].tolist() == [0.2]
    assert np.isnan(twins.distance[1]).all()
    assert join_pairs(ours[:1], theirs) is None


def test_another_kind_other_pairs_or_a_broken_file_cannot_be_compared(tmp_path):
    report = make_report(0, count=40)
    record = json.loads(json.dumps(report_record(report)))
    path = tmp_path / "other.json"
    broken = {
        "of 'holdout'": record | {"kind": "holdout"},
        "no pairs, people or measures": record | {"data": {"pairs": [["x", "y", True, "p", "p", 0.1, True]]}},
        r"not a whole report: pairs 0 is \[1, 2\]": record | {"data": {"pairs": [[1, 2]]}},
        "not a whole report: pairs 1 is None": record | {"data": {"pairs": [record["data"]["pairs"][0], None]}},
        "not a whole report: pairs are missing": record | {"data": {}},
        "not a whole report: data is missing": record | {"data": []},
        "not a whole report: facts is missing": record | {"facts": None},
    }
    for words, other in broken.items():
        path.write_text(json.dumps(other))
        with pytest.raises(ProtocolError, match=words):
            compare_reports(report, path)


@pytest.mark.parametrize("by_person", [None, {"VAL": [1, 2]}, {"VAL": {"p": [1]}}, {"VAL": {"p": ["1", 2]}}])
def test_counts_of_people_that_are_not_whole_are_refused(compare, by_person):
    report = EvaluationReport("holdout", {}, (), (), {"by_person": {"VAL": {"p": [1, 2]}}})
    with pytest.raises(ProtocolError, match="not a whole report: by_person"):
        compare(report, EvaluationReport("holdout", {}, (), (), {"by_person": by_person}))


def test_a_fault_of_ours_is_not_laid_to_the_other_report(compare):
    report = EvaluationReport("pairs", {}, (), (), {"pairs": [["a", "b", True, "p", "p"]]})
    other = EvaluationReport("pairs", {}, (), (), {"pairs": [["a", "b", True, "p", "p", 0.1, True]]})
    with pytest.raises(IndexError):
        compare(report, other)


def test_people_are_drawn_for_both_models_alike():
    rng = np.random.default_rng(0)
    own = {f"p{n}": [int(rng.integers(0, 10)), 10] for n in range(80)}
    worse = {person: [max(part - 1, 0), whole] for person, (part, whole) in own.items()}
    [one] = compare_people({"VAL": own}, {"VAL": worse}, repeats=300, seed=0)
    # VAL itself varies by 3 points from draw to draw, the difference hardly at all.
    assert 0.07 < one.gain.low < one.gain.value < one.gain.high < 0.11
    assert one.real
    assert compare_people({"VAL": own}, {}, repeats=2, seed=0) == []


def test_other_kinds_are_laid_side_by_side_without_a_test(compare):
    ours, theirs = {"a": {"f": 0.9, "n": 3}, "c": [0.5, 0.6]}, {"a": {"f": 0.8}, "c": [0.4, 0.6], "d": 1.0}
    found = list(compare_numbers(ours, theirs))
    assert [(one.name, one.ours, one.reference) for one in found] == [
        ("a f", 0.9, 0.8),
        ("c 1", 0.5, 0.4),
        ("c 2", 0.6, 0.6),
    ]
    first, second = ({"f": {"value": part, "low": 0.1, "high": 0.9}} for part in (0.5, 0.4))
    assert [(one.name, one.ours, one.reference) for one in compare_numbers(first, second)] == [("f", 0.5, 0.4)]
    report = EvaluationReport("clusters", {"weights": "x"}, (), (), {"f": 0.9})
    compared = compare(report, report)
    assert compared.tables[0].rows[0][1:] == ("0.9", "0.9", "+0", "not tested")
    assert compared.data["differences"][0]["real"] is None


def test_the_chance_of_a_split_of_a_hundred_thousand_pairs_is_scipys():
    ours = np.arange(100_000) % 100 < 49
    expected = scipy.stats.binomtest(49_000, 100_000).pvalue
    assert mcnemar(ours, ~ours) == pytest.approx(expected, rel=1e-6)
