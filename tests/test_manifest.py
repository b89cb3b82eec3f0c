"""What a manifest says, and the thresholds in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sameface.errors import ThresholdError, WeightsError
from sameface.manifest import CropRule, Thresholds, read_manifest

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "src" / "sameface" / "weights"
SHIPPED = sorted(WEIGHTS.glob("*.toml"))
TABLE = Thresholds(
    far=(0.1, 0.01, 0.0001),
    distance=(0.4, 0.3, 0.1),
    pairs=(1_000, 100, 1),
    impostor_pairs=10_000,
    calibrated_on="a test",
)


@pytest.mark.parametrize(("far", "distance"), [(0.1, 0.4), (0.01, 0.3), (0.0001, 0.1)])
def test_a_calibrated_rate_has_its_own_distance(far, distance):
    assert TABLE.at(far) == pytest.approx(distance)


def test_between_two_rates_the_distance_follows_the_logarithm():
    assert TABLE.at(0.001) == pytest.approx(0.2)


@pytest.mark.parametrize("far", [0.11, 0.00009, 1e-12, 1.0])
def test_a_rate_outside_the_calibration_is_refused_with_its_ends(far):
    with pytest.raises(ThresholdError, match=r"0\.0001 to 0\.1") as caught:
        TABLE.at(far)
    assert (caught.value.asked, caught.value.smallest, caught.value.largest) == (far, 0.0001, 0.1)


@pytest.mark.parametrize("size", [1, 2, 10, 50])
def test_the_chance_over_a_whole_gallery_is_the_one_asked_for(size):
    threshold, far = TABLE.at_gallery(size, 0.05)
    one = next(rate / 1e6 for rate in range(1, 10**6) if 1 - (1 - rate / 1e6) ** size >= 0.05)
    assert far == 0.05
    assert threshold == pytest.approx(TABLE.at(one), abs=1e-3)


def test_a_gallery_of_nobody_counts_as_one_face():
    assert TABLE.at_gallery(0, 0.01) == TABLE.at_gallery(1, 0.01)


def test_one_percent_is_the_default_of_a_gallery():
    assert TABLE.at_gallery(20) == TABLE.at_gallery(20, 0.01)


def test_a_gallery_too_large_for_the_default_gets_the_strictest_threshold_and_its_true_rate():
    threshold, far = TABLE.at_gallery(1_000)
    assert threshold == pytest.approx(0.1)
    assert far == pytest.approx(1 - (1 - 0.0001) ** 1_000)


@pytest.mark.parametrize("size", [10**6, 10**9])
def test_a_gallery_of_millions_keeps_the_strictest_threshold(size):
    assert TABLE.at_gallery(size) == (0.1, 1.0)


def test_the_laxest_rate_of_a_gallery_has_the_laxest_threshold():
    _, largest = 0.4, 1 - (1 - 0.1) ** 7
    assert TABLE.at_gallery(7, largest)[0] == pytest.approx(0.4)


def test_a_rate_past_the_laxest_of_a_gallery_is_refused():
    with pytest.raises(ThresholdError, match="a gallery of 7 faces"):
        TABLE.at_gallery(7, 0.6)


def test_a_rate_that_a_large_gallery_cannot_hold_is_refused_with_the_smallest():
    with pytest.raises(ThresholdError, match=r"a gallery of 1000 faces and a rate of 0\.01") as caught:
        TABLE.at_gallery(1_000, 0.01)
    assert caught.value.smallest == pytest.approx(1 - (1 - 0.0001) ** 1_000)


@pytest.mark.parametrize(("size", "far"), [(0, 3e-4), (5000, 3e-4), (6000, 2.5e-4), (15_000, 1e-4)])
def test_the_faces_of_a_larger_album_must_be_nearer(size, far):
    assert TABLE.at_album(size) == pytest.approx(TABLE.at(far), abs=1e-9)


def test_past_the_calibration_the_distance_falls_on_as_before():
    assert TABLE.at_album(150_000) == pytest.approx(TABLE.at(1e-4) - (TABLE.at(1e-3) - TABLE.at(1e-4)))
    assert TABLE.at_album(10**12) == 0


def test_a_calibration_of_one_rate_has_one_distance_for_an_album_of_any_size():
    single = Thresholds((0.01,), (0.3,), (100,), 10_000, "a test")
    assert {single.at_album(size) for size in (1, 10**4, 10**9)} == {0.3}


def test_the_rate_asked_for_holds_for_an_album_of_any_size():
    assert TABLE.at_album(10**9, 1e-2) == TABLE.at(1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"far": ()}, "same length"),
        ({"pairs": (1,)}, "same length"),
        ({"far": (0.1, 0.2, 0.0001)}, "both fall"),
        ({"distance": (0.1, 0.2, 0.3)}, "both fall"),
        ({"far": (1.0, 0.01, 0.0001)}, "between 0 and 1"),
        ({"far": (0.1, 0.01, 0.0)}, "between 0 and 1"),
    ],
)
def test_an_impossible_table_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TABLE, **change)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kind": "box", "size": 0}, "size must be 1 or more"),
        ({"kind": "circle", "size": 9}, "'similarity' or 'box'"),
        ({"kind": "similarity", "size": 9}, "five|template points"),
        ({"kind": "box", "size": 9, "template": ((0.0, 0.0),) * 5}, "template points"),
    ],
)
def test_an_impossible_crop_rule_is_refused(facts, message):
    with pytest.raises(ValueError, match=message):
        CropRule(**facts)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_manifest_names_source_licence_and_training_data(path):
    manifest = read_manifest(path)
    assert manifest.name == path.stem
    assert manifest.licence
    assert manifest.training_data
    trained = {"checkpoint", "network", "steps"} <= manifest.source.keys()
    made = {"weights", "file_sha256"} <= manifest.source.keys()  # from others that ship
    assert trained or made or {"package", "file", "file_sha256"} <= manifest.source.keys()
    assert not trained or "research only" in manifest.licence
    assert path.with_suffix(".onnx").name in (ROOT / "NOTICE").read_text()


def test_the_shipped_thresholds_stand_on_the_pairs_they_name():
    thresholds = read_manifest(WEIGHTS / "resnet29.toml").embedding.thresholds
    for far, pairs in zip(thresholds.far, thresholds.pairs, strict=True):
        assert pairs == int(far * thresholds.impostor_pairs)
    assert min(thresholds.pairs) >= 29


def broken(tmp_path: Path, old: str, new: str) -> Path:
    text = (WEIGHTS / "resnet29.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "embedder"', 'kind = "poem"', "kind must be 'embedder' or 'detector', got 'poem'"),
        ("dimension = 128", "", "no entry 'dimension'"),
        ("[thresholds]", "[other]", "no entry 'thresholds'"),
        ("scale = ", "scale = 'x' #", "could not convert"),
        ("name = ", "name = = ", "not TOML"),
        ('kind = "similarity"', 'kind = "similarity"\nturn = 1', "unexpected keyword"),
        ("impostor_pairs", "impostors", "unexpected keyword"),
        ("[source]", "[[source]]", "has no attribute 'items'"),
        ("size = 150", "size = 150.5", "cannot be interpreted as an integer"),
        ("dimension = 128", "dimension = '128'", "cannot be interpreted as an integer"),
        ('kind = "similarity"', 'kind = "box"', "box needs 0 template points"),
        ("122.782,", "", "not enough values"),
        ("far = 0.1,", "far = 0.001,", "must both fall"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_says_what_and_where(tmp_path, old, new, message):
    with pytest.raises(WeightsError, match=message) as caught:
        read_manifest(broken(tmp_path, old, new))
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize("old", ["score = 0.5", "overlap = 0.3"])
def test_a_detectors_manifest_holds_numbers(tmp_path, old):
    path = tmp_path / "mine.toml"
    path.write_text(
        (WEIGHTS / "centerface.toml").read_text().replace(old, old.partition(" ")[0] + " = 'high'")
    )
    with pytest.raises(WeightsError, match="could not convert string to float: 'high'"):
        read_manifest(path)


def test_a_manifest_that_is_not_utf8_is_an_error(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(WeightsError, match=r"mine\.toml' is not TOML"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["name = " + "[" * 20_000, "a = " + "1" * 5_000, "x = " + "{a=" * 20_000])
def test_a_manifest_made_to_break_its_reader_is_an_error(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"mine\.toml' is not TOML"):
        read_manifest(path)


def test_a_missing_manifest_is_an_error_that_says_where_it_should_be(tmp_path):
    with pytest.raises(WeightsError, match=r"no manifest at .*gone\.toml"):
        read_manifest(tmp_path / "gone.toml")


def test_the_box_rule_needs_no_template(tmp_path):
    text = (WEIGHTS / "resnet29.toml").read_text()
    start, stop = text.index("[crop]"), text.index("[source]")
    path = tmp_path / "box.toml"
    path.write_text(text[:start] + '[crop]\nkind = "box"\nmargin = 0.2\n' + text[stop:])
    assert read_manifest(path).embedding.crop == CropRule("box", 150, margin=0.2)
