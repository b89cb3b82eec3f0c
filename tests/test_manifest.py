"""What a manifest says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sameface.errors import WeightsError
from sameface.manifest import CropRule, read_manifest
from sameface.thresholds import Tail, Thresholds

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "src" / "sameface" / "weights"
SHIPPED = sorted(WEIGHTS.glob("*.toml"))


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


@pytest.mark.parametrize("name", ["mobilefacenet", "resnet29"])
def test_the_shipped_thresholds_stand_on_the_pairs_they_name(name):
    thresholds = read_manifest(WEIGHTS / f"{name}.toml").embedding.choose_thresholds("mixed")
    for far, pairs in zip(thresholds.far, thresholds.pairs, strict=True):
        assert pairs == int(far * thresholds.impostor_pairs)
    assert min(thresholds.pairs) >= 20


def broken(tmp_path: Path, old: str, new: str) -> Path:
    text = (WEIGHTS / "resnet29.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "embedder"', 'kind = "poem"', "kind must be 'embedder' or 'detector', got 'poem'"),
        ("dimension = 128", "", "no entry 'dimension'"),
        ("[[thresholds]]", "[[other]]", "no entry 'thresholds'"),
        ("scale = ", "scale = 'x' #", "could not convert"),
        ("name = ", "name = = ", "not TOML"),
        ('kind = "similarity"', 'kind = "similarity"\nturn = 1', "unexpected keyword"),
        ("impostor_pairs", "impostors", "no entry 'impostor_pairs'"),
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
    path.write_text((WEIGHTS / "centerface.toml").read_text().replace(old, old.partition(" ")[0] + " = 'high'"))
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


def test_a_manifest_holds_thresholds_for_several_populations(tmp_path):
    head = (WEIGHTS / "resnet29.toml").read_text("utf-8").partition("[[thresholds]]")[0]
    rows = """calibrated_on = "a test"
impostor_pairs = 100
rows = [{ far = 0.1, distance = 0.2, pairs = 10 }]
"""
    alike = """population = "alike"
templates = [[1, 1.0], [5, 0.9]]
tail = [{ far = 1e-6, distance = 0.08, low = 0.07, high = 0.09 }]
"""
    path = tmp_path / "two.toml"
    path.write_text(f"{head}[[thresholds]]\n{alike}{rows}[[thresholds]]\n{rows}", "utf-8")
    spec = read_manifest(path).embedding
    assert spec is not None
    assert spec.thresholds.population == "alike"
    assert spec.thresholds.tail == Tail((1e-6,), (0.08,), (0.07,), (0.09,))
    assert spec.thresholds.templates == ((1, 1.0), (5, 0.9))
    assert spec.choose_thresholds("alike") is spec.thresholds
    assert spec.choose_thresholds("mixed") == Thresholds((0.1,), (0.2,), (10,), 100, "a test")
    with pytest.raises(ValueError, match="one of alike, mixed, got 'own'"):
        spec.choose_thresholds("own")
