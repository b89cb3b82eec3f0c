"""doctor --tune: what is fastest here, of what may be used."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
from click.testing import CliRunner

from sameface.cli import main
from sameface.cli.doctor import EmbedderTiming, core_counts, pick_fastest, time_embedders
from sameface.model import Model


def test_doctor_times_every_embedder_and_says_what_is_fastest(monkeypatch, tmp_path):
    monkeypatch.setenv("SAMEFACE_WEIGHTS_FOLDER", str(tmp_path))
    result = CliRunner().invoke(main, ["doctor", "--tune", "--json"])
    record = json.loads(result.stdout)
    for name in ("resnet29", "resnet29-int8"):
        cores = [each["threads"] for each in record["timings"] if each["weights"] == name]
        assert cores == core_counts(os.cpu_count() or 1)
    for each in record["fastest"].values():
        assert each in record["timings"]
        assert each["licence"] == "MIT"
    words = ["doctor", "--tune", "--weights", "resnet29"]
    shown = CliRunner().invoke(main, words).stdout
    assert "fastest for many faces: --weights resnet29" in shown
    if "resnet29-int8 --threads" in shown:
        assert "rows of resnet29-int8 and of resnet29 are never compared" in shown


def test_weights_that_cannot_be_opened_are_left_out_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SAMEFACE_WEIGHTS_FOLDER", str(tmp_path))
    monkeypatch.setattr("sameface.model.list_shipped", dict)
    (tmp_path / "bad.toml").write_text("")
    assert list(time_embedders()) == []
    assert "left out: weights 'bad'" in capsys.readouterr().err


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_cores_are_tried_by_doubling(cores, counts):
    assert core_counts(cores) == counts


def test_the_fastest_is_picked_under_the_licence_in_use():
    timings = [
        EmbedderTiming("ours", 1, 9.0, 5.0, "free"),
        EmbedderTiming("ours", 2, 6.0, 6.0, "free"),
        EmbedderTiming("other", 1, 1.0, 1.0, "research only"),
    ]
    used = dataclasses.replace(Model.load("resnet29").manifest, licence="free")
    assert [(each.threads, each.weights) for each in pick_fastest(timings, used).values()] == [
        (2, "ours"),
        (1, "ours"),
    ]
