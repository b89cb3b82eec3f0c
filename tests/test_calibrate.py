"""The tool that calibrates the shipped embedders, and what the manifests hold of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sameface.model import Model

ROOT = Path(__file__).parent.parent

POPULATIONS = ["mobilefacenet", "resnet29", "resnet29-int8"]


@pytest.fixture
def tool(monkeypatch, load_tool):
    """`tools/calibrate.py` as a module; it imports from `tools` and `benchmarks`."""
    for folder in ("tools", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return load_tool("calibrate")


def population(tool, distances):
    """Pairs of people 2k and 2k + 1, each with one photograph."""
    people = np.arange(2 * len(distances)).reshape(-1, 2)
    return tool.Population(np.sort(distances).astype(np.float32), people, np.ones(people.size, int), "words")


def test_the_tail_of_a_known_distribution_is_found(tool):
    # The excess over a limit of 1 is exponential: each tenth of the rate takes 0.1 of the distance.
    rng = np.random.default_rng(0)
    excess = rng.exponential(0.1 / np.log(10), 20_000)
    tail = dict(zip(tool.TAIL_RATES, tool.fit_tail(excess, 1.0), strict=True))
    expected = {rate: 1 + 0.1 * np.log10(rate / tool.TAIL_FROM) for rate in (1e-6, 1e-7)}
    assert [tail[rate] for rate in expected] == pytest.approx([*expected.values()], abs=0.03)


def test_the_interval_of_the_tail_covers_its_value(tool, monkeypatch):
    monkeypatch.setattr(tool, "TAIL_FROM", 0.5)
    monkeypatch.setattr(tool, "DRAWS", 30)
    tail = tool.extrapolate(population(tool, 2 - np.random.default_rng(0).exponential(0.2, 400)))
    assert all(low <= distance <= high for distance, low, high in tail.values() if distance > 0)
    assert all(low >= 0 for _, low, _ in tail.values())


def test_people_with_one_family_name_may_be_one_person(tool):
    assert tool.share_name("Joseph_Blatter", "Sepp_Blatter")
    assert tool.share_name("Nan_Wang", "Wang_Nan")
    assert not tool.share_name("Andrew_Caldecott", "Andrew_Gilligan")


def test_at_each_rate_the_stricter_population_counts_as_far_as_either_is_counted(tool, monkeypatch):
    monkeypatch.setattr(tool, "FEWEST", 1)
    monkeypatch.setattr(tool, "RATES", (0.5, 0.1, 0.01))
    strict = population(tool, np.linspace(0.1, 1, 10))
    loose = population(tool, np.linspace(0.05, 2, 100))
    tails = [{rate: (0.01, 0.0, 0.02) for rate in tool.TAIL_RATES}]
    table = tool.make_table("alike", [strict, loose], tails)
    assert [row["distance"] for row in table["rows"]] == pytest.approx([0.5, 0.1, 0.05])
    assert [row["pairs"] for row in table["rows"]] == [5, 1, 1]
    assert table["impostor_pairs"] == 110
    assert [row["far"] for row in table["tail"]] == [1e-6]  # the next is not smaller


def test_a_mean_of_rows_is_compared_with_one_row_of_the_same_people(tool, monkeypatch):
    monkeypatch.setattr(tool, "TEMPLATE_COUNTS", (1, 4))
    monkeypatch.setattr(tool, "TEMPLATE_FAR", 0.01)
    rng = np.random.default_rng(0)
    centres = 2 + rng.standard_normal((40, 1, 16))  # a cone: means lie nearer to everybody
    rows = (centres + rng.standard_normal((40, 6, 16))).reshape(-1, 16).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    (one, same), (four, factor) = tool.measure_templates(rows, np.repeat(np.arange(40), 6))
    assert (one, same, four) == (1, 1.0, 4)
    assert 0.5 < factor < 1


@pytest.mark.parametrize("name", POPULATIONS)
def test_a_manifest_holds_two_populations_and_the_stricter_is_the_default(name):
    spec = Model.load(name).manifest.embedding
    alike, mixed = spec.thresholds, spec.choose_thresholds("mixed")
    assert alike.population == "alike"
    for table in (alike, mixed):
        assert min(table.pairs) >= 20
        assert table.smallest <= 1e-7
        tail = table.tail
        assert all(low <= at <= high for at, low, high in zip(tail.distance, tail.low, tail.high, strict=True))
    assert all(alike.at(far) <= mixed.at(far) for far in alike.rates[0] if far >= mixed.smallest)
    assert spec.curve is not None


@pytest.mark.parametrize("name", POPULATIONS)
def test_one_stranger_in_a_hundred_is_promised_to_a_hundred_thousand_people(name):
    thresholds = Model.load(name).manifest.embedding.thresholds
    found = thresholds.at_gallery(100_000, 0.01)
    assert found.extrapolated
    assert 0 < found.distance < thresholds.at_gallery(1_000, 0.01).distance
