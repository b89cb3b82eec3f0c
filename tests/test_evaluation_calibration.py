"""Thresholds and chances for one's own people, and how they are saved."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import sklearn.isotonic
import toy
from test_cli_evaluate import paint_people
from test_evaluation_holdout import all_pairs, draw_rows

from sameface.compare import Decision
from sameface.errors import WeightsError
from sameface.evaluation.calibration import (
    bin_distances,
    calibrate_threshold,
    check_reliability,
    estimate_fpir,
    fit_curve,
    measure_reliability,
    odds_interval,
    save_calibrated_weights,
    split_people,
    wilson,
)
from sameface.evaluation.errors import TooFewPairsError
from sameface.gallery import Gallery
from sameface.manifest import ProbabilityCurve, read_manifest
from sameface.model import DEFAULT_WEIGHTS, find_weights
from sameface.recognizer import Recognizer
from sameface.thresholds import GalleryThreshold, Thresholds

OWN = Thresholds((0.5, 0.005), (1.5, 0.3), (3000, 30), 6000, 'our "door"\n\u00e9\x7f')
CURVE = ProbabilityCurve.from_facts({"offset": 8, "slope": -40, "low": 0.05, "high": 0.35, "pairs": 1000})


@pytest.fixture(scope="module")
def people():
    return draw_rows([4] * 100, spread=0.8)


@pytest.fixture(scope="module")
def found(people):
    return calibrate_threshold(*people, far=1e-2, words="toy rows", repeats=100)


def test_the_threshold_accepts_the_rate_that_was_asked_for(people, found):
    distance, same = all_pairs(*people)
    accepted = (distance[~same] <= found.rate.threshold.value).sum()
    assert found.rate.accepted == pytest.approx(accepted, abs=1)
    assert found.rate.accepted == int(1e-2 * (~same).sum())
    assert found.impostors == (~same).sum()
    assert found.rate.threshold.low < found.rate.threshold.value < found.rate.threshold.high


def test_the_table_holds_only_rates_with_thirty_accepts_behind_them(found):
    assert min(found.thresholds.pairs) >= 29
    assert found.thresholds.far == (0.1, 0.03, 0.01, 0.003, 0.001)
    assert found.thresholds.at(1e-2) == pytest.approx(found.rate.threshold.value)
    assert found.thresholds.calibrated_on == "toy rows"


def test_a_rate_with_too_few_pairs_is_refused(people):
    with pytest.raises(TooFewPairsError, match=r"needs 300,000 pairs.*30 accepts.*79,200"):
        calibrate_threshold(*people, far=1e-4, words="", repeats=2)


def test_one_person_alone_cannot_be_calibrated():
    with pytest.raises(TooFewPairsError, match="there are 0"):
        calibrate_threshold(*draw_rows([20]), far=0.1, words="", repeats=2)


def test_strangers_alone_give_a_threshold_but_no_chances():
    found = calibrate_threshold(*draw_rows([1] * 60), far=0.1, words="", repeats=2)
    assert found.curve is None


@pytest.mark.parametrize(("accepted", "pairs"), [(0, 10), (30, 3000), (5, 5), (1, 1_000_000)])
def test_the_interval_of_the_rate_is_scipys(accepted, pairs):
    expected = scipy.stats.binomtest(accepted, pairs).proportion_ci(method="wilson")
    assert wilson(accepted, pairs) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_rate_in_a_gallery_is_that_of_any_of_its_comparisons_failing(found):
    far = found.rate.accepted / found.impostors
    assert estimate_fpir(found, 1).value == pytest.approx(far)
    assert estimate_fpir(found, 50).value == pytest.approx(1 - (1 - far) ** 50)


def test_the_chances_are_those_of_isotonic_regression(found, people):
    distance, same = all_pairs(*people)
    weight = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    isotonic = sklearn.isotonic.IsotonicRegression(increasing=False, out_of_bounds="clip")
    isotonic.fit(distance, same.astype(float), sample_weight=weight)
    places = np.quantile(distance[same], np.linspace(0.02, 0.98, 20))
    assert found.curve.chances(places) == pytest.approx(isotonic.predict(places), abs=0.1)


def test_where_hardly_any_pair_is_one_persons_the_chance_says_so():
    # Two in a thousand are one person's at 1.5, as where a few labels are wrong: a logistic curve said 0.16.
    counts = np.zeros((2, len(bin_distances())), np.int64)
    place = np.searchsorted(bin_distances(), [0.3, 0.6, 1.0, 1.5, 1.9])
    counts[0, place] = [60_000, 30_000, 9_000, 600, 400]
    counts[1, place] = [3, 300, 29_697, 300_000, 669_999_999 // 1000]
    chances = fit_curve(counts).chances(bin_distances()[place])
    own, others = counts[:, place] / counts.sum(axis=1, keepdims=True)
    assert chances == pytest.approx(own / (own + others), rel=0.2)


@pytest.mark.parametrize(("wrong", "stated"), [(0.001, 0.002), (0.02, 0.04)])
def test_a_small_chance_holds_for_other_people_too(wrong, stated):
    # Far apart, of the pairs of one person only those are left whose label is wrong: about twice their part.
    rows, person = draw_rows([20] * 600, spread=0.5, seed=5)
    rng = np.random.default_rng(4)
    moved = rng.random(len(rows)) < wrong
    person = np.where(moved, rng.permutation(person), person)
    order = np.argsort(person, kind="stable")
    rows, person = rows[order], person[order]
    fitted, held_out = (
        calibrate_threshold(rows[half], person[half] - person[half].min(), far=1e-2, words="toy rows", repeats=2)
        for half in (person < 300, person >= 300)
    )
    said = fitted.curve.chances(bin_distances())
    about = (said > stated / 2) & (said < stated * 2)
    own, others = held_out.counts[:, about].sum(axis=1) / held_out.counts.sum(axis=1)
    assert others > 0.3  # of the pairs of different people: not a corner of the curve
    assert stated / 2 < own / (own + others) < stated * 2.5


def test_kinds_that_do_not_overlap_still_give_finite_chances():
    counts = np.zeros((2, len(bin_distances())), np.int64)
    counts[0, np.searchsorted(bin_distances(), 0.1)] = 5
    counts[1, np.searchsorted(bin_distances(), 1.0)] = 50
    fitted = fit_curve(counts)
    near, far = fitted.chances(np.array([0.0, 4.0]))
    assert 0.5 < near < 1
    assert 0 < far < 0.5
    with pytest.raises(ValueError, match="both kinds"):
        fit_curve(counts * [[1], [0]])


def test_past_its_range_a_chance_stays_what_it_is_at_the_end():
    curve = ProbabilityCurve.from_facts({"offset": 4, "slope": -8, "low": 0.2, "high": 0.9, "pairs": 10})
    assert curve.chances(np.array([0.5])) == pytest.approx(0.5)
    assert (curve.chances(np.array([0.0, 4.0])) == curve.chances(np.array([0.2, 0.9]))).all()
    assert [curve.covers(distance) for distance in (0.1, 0.2, 0.9, 0.91)] == [False, True, True, False]


def test_reliability_is_the_part_of_one_person_among_pairs_of_like_chance():
    counts = np.zeros((2, len(bin_distances())), np.int64)
    place = np.searchsorted(bin_distances(), [0.2, 0.5, 0.8])
    counts[0, place], counts[1, place] = [60, 30, 10], [1, 3, 6]
    curve = ProbabilityCurve.from_facts({"offset": 4, "slope": -8, "low": 0, "high": 4, "pairs": 1})
    found = measure_reliability(counts, curve)
    assert [one.pairs for one in found] == [16, 33, 61]
    assert [one.true for one in found] == pytest.approx([0.1 / 0.7, 0.3 / 0.6, 0.6 / 0.7])
    assert [one.stated for one in found] == pytest.approx([0.083, 0.5, 0.917], abs=0.002)


def test_the_interval_of_a_part_holds_the_truth_in_95_of_100_draws():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        own, others = rng.binomial(400, 0.1), rng.binomial(9000, 0.02)
        low, high = odds_interval((int(own), int(others)), (400, 9000))
        held += low <= 0.1 / 0.12 <= high
    assert 930 <= held <= 970


def test_reliability_is_measured_on_other_people_than_it_was_fitted_to(people):
    rows, person = people
    first = split_people(person, seed=0)
    assert first.sum() == 50
    assert (first != split_people(person, seed=1)).any()
    halves = []
    for part in (first, ~first):
        chosen = part[person]
        halves.append((rows[chosen], (np.cumsum(part) - 1)[person[chosen]]))
    bins = check_reliability(halves)
    weight = np.array([one.pairs for one in bins])
    assert len(bins) == 10
    assert max(abs(one.stated - one.true) for one in bins) < 0.25
    assert weight.sum() == 2 * (200 * 199 // 2) / 2
    assert check_reliability([halves[0], draw_rows([1, 1])]) == ()


# Saving


def test_a_copy_of_the_weights_has_the_new_thresholds_and_all_else(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "door.onnx", OWN, CURVE)
    theirs, ours = (
        read_manifest(find_weights("resnet29").with_suffix(".toml")),
        read_manifest(tmp_path / "door.toml"),
    )
    assert ours.embedding.thresholds == OWN
    assert ours.embedding.curve == CURVE
    kept = {name: getattr(theirs.embedding, name) for name in ("thresholds", "others", "curve")}
    assert replace(ours, embedding=replace(ours.embedding, **kept)) == theirs
    assert ours.embedding.others == ()
    assert (tmp_path / "door.onnx").read_bytes() == find_weights("resnet29").read_bytes()


def test_saving_again_replaces_the_tables(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "a.onnx", OWN, CURVE)
    other = replace(OWN, distance=(1.0, 0.2))
    save_calibrated_weights(str(tmp_path / "a.onnx"), tmp_path / "b.onnx", other, None)
    found = read_manifest(tmp_path / "b.toml").embedding
    assert (found.thresholds, found.curve) == (other, None)
    assert list(tomllib.loads((tmp_path / "b.toml").read_text())).count("thresholds") == 1


def test_the_weights_own_manifest_is_not_overwritten(tmp_path):
    save_calibrated_weights("resnet29", tmp_path / "a.onnx", OWN, CURVE)
    before = (tmp_path / "a.toml").read_text()
    with pytest.raises(WeightsError, match="choose another file"):
        save_calibrated_weights(str(tmp_path / "a.onnx"), tmp_path / "a.onnx", OWN, None)
    assert (tmp_path / "a.toml").read_text() == before


def test_saved_weights_keep_the_signature_and_tell_a_probability(tmp_path, samples):
    save_calibrated_weights("resnet29", tmp_path / "door.onnx", OWN, CURVE)
    ours = Recognizer.load(tmp_path / "door.onnx")
    assert ours.signature == Recognizer.load("resnet29").signature
    pair = (samples["barack-obama-1"], samples["barack-obama-2"])
    decision = ours.verify(*pair, far=0.005)
    assert decision.threshold == 0.3
    odds = 40 * (decision.threshold - max(decision.distance, 0.05))
    assert decision.probability == pytest.approx(1 / (1 + np.exp(-odds)))


def test_a_decision_without_a_calibration_has_no_probability_and_no_range():
    plain = Decision(0.1, 0.2, 1e-3)
    assert (plain.probability, plain.in_range) == (None, False)


def test_a_decision_outside_the_range_takes_the_nearer_end_and_says_so():
    near, inside, far = (Decision(distance, 0.2, 1e-3, CURVE) for distance in (0.0, 0.2, 3.0))
    assert (near.in_range, inside.in_range, far.in_range) == (False, True, False)
    assert near.probability == Decision(0.05, 0.2, 1e-3, CURVE).probability
    assert inside.probability == pytest.approx(0.5)
    assert far.probability == Decision(0.35, 0.2, 1e-3, CURVE).probability


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.12, 0.3, 0.35, 1.0])
def test_a_probability_never_says_otherwise_than_the_decision(threshold):
    for distance in np.linspace(0, 0.5, 101):
        decision = Decision(float(distance), threshold, 1e-3, CURVE)
        assert decision.probability >= 0.5 if decision.same else decision.probability <= 0.5


def test_a_gallery_keeps_its_thresholds_and_uses_them(tmp_path, toy_recognizer):
    row = toy.row_of(toy.ORANGE)[None]  # 0.21 from red
    with Gallery.open(tmp_path / "g.db", toy_recognizer) as gallery:
        gallery.enroll("Red", [toy_recognizer.template(toy.paint(toy.RED))])
        assert gallery.thresholds == toy_recognizer.thresholds
        assert gallery.identify(row)[0].name is None
        gallery.keep_thresholds(OWN)
    with Gallery.open(tmp_path / "g.db", toy_recognizer) as gallery:
        assert gallery.thresholds == OWN
        [answer] = gallery.identify(row, far=0.005)
        assert (answer.name, answer.threshold) == ("Red", pytest.approx(0.3))
        gallery.keep_thresholds(None)
        assert gallery.thresholds == toy_recognizer.thresholds
        assert gallery.identify(row)[0].name is None


def test_thresholds_need_the_pipeline_they_were_made_with(tmp_path, toy_recognizer):
    with Gallery.open(tmp_path / "g.db", toy_recognizer):
        pass
    with Gallery.open(tmp_path / "g.db") as gallery:
        with pytest.raises(ValueError, match="without a pipeline"):
            gallery.keep_thresholds(OWN)
        with pytest.raises(ValueError, match="without a pipeline"):
            _ = gallery.thresholds


def test_calibrate_saves_into_a_gallery_and_identify_says_so(run, tmp_path):
    people = paint_people(tmp_path / "people")
    assert run("enroll", "Red", people / "red" / "red_0001.png").exit_code == 0
    saved = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "people.db")
    assert saved.exit_code == 0
    assert "people.db now has thresholds of its own" in saved.stderr
    result = run("identify", people / "red" / "red_0002.png", "--far", "0.25", "--json")
    assert "thresholds of the gallery: 20 pictures of 5 people in people" in result.stderr
    answer = json.loads(result.stdout)["faces"][0]
    with Gallery.open(tmp_path / "people.db", toy.make_recognizer()) as gallery:
        assert answer["threshold"] == pytest.approx(gallery.thresholds.at(0.25))


def test_calibrate_makes_no_new_gallery(run, tmp_path):
    people = paint_people(tmp_path / "people")
    result = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "typo.db")
    assert result.exit_code == 3
    assert not (tmp_path / "typo.db").exists()


def test_a_gallery_of_one_face_takes_the_very_rate_that_was_calibrated():
    for far in (0.25, 0.1, 1e-3, 7e-4):
        only = Thresholds((far,), (0.2,), (30,), 1000, "")
        assert only.at_gallery(1, far) == GalleryThreshold(0.2, far, far, extrapolated=False)


def test_calibrate_saves_a_copy_of_the_weights_with_its_thresholds(run, tmp_path):
    people = paint_people(tmp_path / "people")
    result = run("calibrate", people, "--far", "0.25", "--repeats", 2, "--save", "door.onnx")
    assert result.exit_code == 0
    assert "saved: door.onnx and door.toml" in result.stderr
    kept = read_manifest(tmp_path / "door.toml").embedding
    assert kept.thresholds.calibrated_on.startswith("20 pictures of 5 people in people")
    assert kept.thresholds.far[0] >= 0.25
    assert kept.curve is not None
    assert (tmp_path / "door.onnx").read_bytes() == find_weights(DEFAULT_WEIGHTS).read_bytes()
