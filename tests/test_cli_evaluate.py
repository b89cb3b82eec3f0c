"""The measuring commands in the toy world: colours are people."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
import toy

from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.pictures import EmbeddedPictures, PictureEmbedder, embed_video, pair_distances
from sameface.evaluation.protocols import LabelledPair

HUES = {"red": toy.RED, "green": toy.GREEN, "blue": toy.BLUE, "yellow": toy.YELLOW, "white": toy.WHITE}


def paint_people(folder: Path, pictures: int = 4) -> Path:
    """Write a folder per person, each picture a little other than the last."""
    for number, (name, colour) in enumerate(HUES.items()):
        for picture in range(pictures):
            shade = tuple(
                max(0, min(255, part - 12 * picture + 8 * (picture % 2) * n)) for n, part in enumerate(colour)
            )
            toy.save(folder / name / f"{name}_{picture + 1:04d}.png", shade, note=number * 100 + picture)
    return folder


@pytest.fixture
def people(tmp_path):
    return paint_people(tmp_path / "people")


@pytest.fixture
def listed(people, tmp_path):
    """Twelve pairs of one person and ten of different people."""
    rows = [f"{name}/{name}_0001.png,{name}/{name}_000{n}.png,1" for name in HUES for n in (2, 3)]
    names = list(HUES)
    rows += [f"{a}/{a}_0001.png,{b}/{b}_0002.png,0" for n, a in enumerate(names) for b in names[n + 1 :]]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["a,b,same", *rows]) + "\n")
    return path


def measure(run, *words):
    result = run("evaluate", *words, "--json", "--repeats", 20)
    return result, json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}


def test_pairs_of_colours_are_judged_without_an_error(run, listed, people):
    result, record = measure(run, "pairs", listed, "--pictures", people)
    assert result.exit_code == 0
    assert record["data"]["accuracy"] == 1
    assert record["data"]["measures"]["AUC"] == {"value": 1, "low": 1, "high": 1}
    assert record["data"]["not_supported"] == [0.01, 0.001, 0.0001, 1e-05, 1e-06]


def test_distances_are_those_of_the_colours(run, listed, people):
    _, record = measure(run, "pairs", listed, "--pictures", people)
    pair = next(pair for pair in record["data"]["pairs"] if "red_0001" in pair[0] and "green" in pair[1])
    assert pair[5] == pytest.approx(2, abs=0.02)


def test_a_second_run_computes_nothing_and_says_the_same(run, listed, people):
    first, once = measure(run, "pairs", listed, "--pictures", people)
    second, again = measure(run, "pairs", listed, "--pictures", people)
    assert "15 of 15 pictures embedded" in first.stderr
    assert "0 of 15 pictures embedded" in second.stderr
    assert once == again


def test_other_weights_compute_everything_again(run, listed, people):
    measure(run, "pairs", listed, "--pictures", people)
    other, _ = measure(run, "pairs", listed, "--pictures", people, "--weights", "other")
    assert "15 of 15 pictures embedded" in other.stderr


@pytest.mark.parametrize("choice", [("--face", "largest"), ("--min-size", "10"), ("--no-flip",)])
def test_other_choices_compute_everything_again(run, listed, people, choice):
    measure(run, "pairs", listed, "--pictures", people)
    other, _ = measure(run, "pairs", listed, "--pictures", people, *choice)
    assert "15 of 15 pictures embedded" in other.stderr


def test_a_renamed_picture_is_remembered_by_its_content(toy_recognizer, tmp_path):
    first = toy.save(tmp_path / "a.png", toy.RED)
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        embedder = PictureEmbedder(toy_recognizer, cache)
        [one] = embedder.embed_all([str(first)])
        [two] = embedder.embed_all([str(first.rename(tmp_path / "b.png"))])
    assert (one.computed, two.computed) == (True, False)
    assert (one.row == two.row).all()


def test_a_picture_without_a_face_is_counted_both_ways(run, listed, people):
    toy.save(people / "red" / "red_0002.png")
    result, record = measure(run, "pairs", listed, "--pictures", people)
    assert result.exit_code == 0
    assert "red_0002.png: no face found" in result.stderr
    assert record["data"]["failed"] == 1
    assert record["facts"]["failures to enrol"] == "1 of 15 (6.67 %)"
    assert record["data"]["measures"]["accuracy"]["value"] == 1
    of_all = record["data"]["measures"]["accuracy, pairs without a face counted as errors"]["value"]
    assert of_all == pytest.approx(19 / 20)


def test_a_missing_picture_is_named_and_ends_with_3(run, listed, people):
    (people / "red" / "red_0002.png").unlink()
    result, record = measure(run, "pairs", listed, "--pictures", people)
    assert result.exit_code == 3
    assert "red_0002.png: no such file" in result.stderr
    assert record["data"]["failed"] == 1


def test_a_bad_line_ends_with_3_and_its_number(run, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b,same\n1,2,perhaps\n")
    result = run("evaluate", "pairs", "bad.csv")
    assert result.exit_code == 3
    assert "line 2" in result.stderr


def test_two_pairs_are_two_folds_and_one_pair_is_refused(run, people, tmp_path):
    same, other = "red/red_0001.png,red/red_0002.png,1", "red/red_0001.png,blue/blue_0001.png,0"
    (people / "two.csv").write_text(f"a,b,same\n{same}\n{other}\n")
    _, record = measure(run, "pairs", people / "two.csv")
    assert [pairs for pairs, _, _ in record["data"]["folds"]] == [1, 1]
    (people / "one.csv").write_text(f"a,b,same\n{same}\n")
    refused = run("evaluate", "pairs", people / "one.csv")
    assert refused.exit_code == 3
    assert "it has one pair" in refused.stderr


def test_a_list_none_of_whose_pictures_is_there_has_no_measures(run, listed, tmp_path):
    result, record = measure(run, "pairs", listed, "--pictures", tmp_path)
    assert result.exit_code == 3
    assert (record["data"]["genuine"], record["data"]["impostors"], record["data"]["failed"]) == (0, 0, 20)
    assert record["data"]["accuracy"] is None
    assert record["data"]["measures"]["accuracy, pairs without a face counted as errors"]["value"] == 0
    assert "15 skipped" in result.stderr


def test_slices_come_from_a_column_or_from_a_table_of_people(run, listed, people, tmp_path):
    rows = listed.read_text().splitlines()
    with_camera = [f"{row},{'camera' if n == 0 else ('front', 'back')[n % 2]}" for n, row in enumerate(rows)]
    listed.write_text("\n".join(with_camera))
    _, record = measure(run, "pairs", listed, "--pictures", people, "--slice-by", "camera")
    assert sorted(record["data"]["slices"]) == ["back", "front"]
    groups = "\n".join(["person,age", *(f"{name},{'young' if name < 'h' else 'old'}" for name in HUES)])
    (tmp_path / "s.csv").write_text(groups)
    shown = run("evaluate", "pairs", listed, "--pictures", people, "--slice-by", "camera")
    assert "Largest gap between slices" in shown.stdout
    assert run("evaluate", "pairs", listed, "--slices", "s.csv").exit_code == 2


def test_the_cache_is_private_and_refuses_other_files(tmp_path):
    with EmbeddingCache.open(tmp_path / "c.db"):
        pass
    assert stat.S_IMODE((tmp_path / "c.db").stat().st_mode) == 0o600
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        assert cache.get("pipeline", "picture") is None
    (tmp_path / "text.db").write_text("not a database, and longer than its header " * 20)
    with pytest.raises(ProtocolError, match="not a cache"):
        EmbeddingCache.open(tmp_path / "text.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(ProtocolError, match="not a cache"):
        EmbeddingCache.open(tmp_path / "other.db")


def test_what_was_embedded_before_an_interruption_is_kept(toy_recognizer, tmp_path):
    paths = [str(toy.save(tmp_path / f"{n}.png", toy.RED, note=n)) for n in range(3)]

    def interrupted():
        yield from paths[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), EmbeddingCache.open(tmp_path / "c.db") as cache:
        list(PictureEmbedder(toy_recognizer, cache).embed_all(interrupted()))
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        again = list(PictureEmbedder(toy_recognizer, cache).embed_all(paths))
    assert [one.computed for one in again] == [False, False, True]


def test_the_central_face_and_the_largest_one_may_differ(toy_recognizer, tmp_path):
    import PIL.Image

    squares = [toy.Square(toy.RED, 80, 80, 24), toy.Square(toy.GREEN, 8, 8, 48)]
    PIL.Image.fromarray(toy.paint_squares(squares, 192, 192)).save(tmp_path / "two.png")
    rows = {}
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        for policy in ("central", "largest"):
            [one] = PictureEmbedder(toy_recognizer, cache, policy).embed_all([str(tmp_path / "two.png")])
            rows[policy] = one.row
    assert np.allclose(rows["central"], toy.row_of(toy.RED))
    assert np.allclose(rows["largest"], toy.row_of(toy.GREEN))


def test_no_picture_at_all_gives_an_empty_table():
    nothing = EmbeddedPictures([])
    assert nothing.rows.shape == (0, 0)
    assert nothing.found.shape == (0,)
    assert nothing.failures == []


def test_measuring_does_not_import_matplotlib():
    import subprocess
    import sys

    code = "import sameface.cli.evaluate, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_holdout_measures_all_pairs_of_a_folder(run, people):
    result, record = measure(run, "holdout", people)
    assert result.exit_code == 0
    assert (record["data"]["genuine"], record["data"]["impostors"]) == (5 * 6, 190 - 30)
    assert record["data"]["measures"]["VAL at FAR 0.1"]["value"] == 1
    assert "not supported: needs 1,000 pairs" in run("evaluate", "holdout", people, "--repeats", 2).stdout


def test_holdout_leaves_out_repeated_and_disputed_pictures(run, people):
    (people / "red" / "copy.png").write_bytes((people / "red" / "red_0001.png").read_bytes())
    (people / "green" / "wrong.png").write_bytes((people / "blue" / "blue_0001.png").read_bytes())
    _, record = measure(run, "holdout", people)
    assert record["data"]["impostors"] == (19 * 18) // 2 - (4 * 6 + 3)
    assert record["warnings"] == [
        "1 pictures are in their person's folder twice: counted once",
        "2 pictures stand under two people, one of the names is wrong: left out",
    ]


def test_holdout_by_slices(run, people, tmp_path):
    groups = "\n".join(
        ["person,kind", *(f"{name},{'pure' if name in 'red green blue' else 'mixed'}" for name in HUES)]
    )
    (tmp_path / "s.csv").write_text(groups)
    _, record = measure(run, "holdout", people, "--slices", "s.csv", "--slice-by", "kind")
    assert sorted(record["data"]["slices"]) == ["mixed", "pure"]
    assert run("evaluate", "holdout", people, "--slice-by", "kind").exit_code == 2


def test_slices_that_cannot_be_used_are_refused(run, people, listed, tmp_path):
    (tmp_path / "bad.csv").write_text("person,kind\nred\n")
    (tmp_path / "others.csv").write_text("person,kind\nnobody,old\n")
    early = run("evaluate", "holdout", people, "--slices", "bad.csv", "--slice-by", "kind")
    assert early.exit_code == 3
    assert "line 2" in early.stderr
    assert "embedded" not in early.stderr
    for words in (("holdout", people), ("pairs", listed, "--pictures", people)):
        refused = run("evaluate", *words, "--slices", "others.csv", "--slice-by", "kind")
        assert refused.exit_code == 3
        assert "it names nobody of the" in refused.stderr


def test_a_folder_without_any_face_is_refused(run, tmp_path):
    toy.save(tmp_path / "people" / "nobody" / "1.png")
    result = run("evaluate", "holdout", "people")
    assert result.exit_code == 3
    assert "no picture of the folder has a face" in result.stderr


def test_calibrate_finds_a_threshold_and_what_stands_behind_it(run, people):
    result = run("calibrate", people, "--far", "0.25", "--gallery-size", 10, "--repeats", 20, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["data"]["impostors"] == 160
    assert record["data"]["fpir"]["value"] > 0.25
    shown = run("calibrate", people, "--far", "0.25", "--gallery-size", 10, "--repeats", 20).stdout
    assert "Thresholds that can be saved" in shown


def test_calibrate_refuses_too_few_pairs(run, people):
    result = run("calibrate", people)
    assert result.exit_code == 3
    assert "needs 30,000 pairs of different people" in result.stderr


def test_identification_names_everyone_and_rejects_strangers(run, people):
    result, record = measure(run, "identification", people, "--size", 2, "--size", 3, "--draws", 3)
    assert result.exit_code == 0
    small, large = record["data"]["galleries"]
    assert (small["enrolled"], large["enrolled"]) == (2, 3)
    assert small["cmc"][0] == 1
    assert (small["known"], small["strangers"]) == (3 * 2 * 3, 3 * 3 * 4)
    assert [vote["k"] for vote in small["votes"]] == [1, 3, 5]
    tenth = large["votes"][0]["detections"][0]
    assert (tenth["fpir"], tenth["dir"]) == (0.1, None)  # eight strangers do not support a tenth


def test_identification_by_slices_and_beside_another_run(run, people, tmp_path):
    toy.save(tmp_path / "people" / "black" / "1.png", (80, 80, 90), note=7)
    toy.save(tmp_path / "people" / "black" / "2.png", (80, 80, 90), note=8)
    groups = "\n".join(["person,kind", *(f"{name},{'pure' if name < 'c' else 'mixed'}" for name in HUES)])
    (tmp_path / "s.csv").write_text(groups + "\nblack,pure\n")
    words = ("evaluate", "identification", people, "--size", 1, "--draws", 2, "--repeats", 2)
    shown = run(*words, "--slices", "s.csv", "--slice-by", "kind", "--json")
    assert shown.exit_code == 0
    assert sorted(json.loads(shown.stdout)["data"]["slices"]) == ["mixed", "pure"]
    (tmp_path / "one.json").write_text(shown.stdout)
    beside = run(*words, "--compare", "one.json").stdout
    assert "rank 1, 1 enrolled" in beside
    assert "no difference" in beside
    gaps = run(*words, "--slices", "s.csv", "--slice-by", "kind").stdout
    assert "Largest gap between slices" in gaps


def test_identification_chooses_sizes_that_leave_a_stranger(run, people):
    _, record = measure(run, "identification", people, "--draws", 1)
    assert [one["enrolled"] for one in record["data"]["galleries"]] == [4]
    too_many = run("evaluate", "identification", people, "--size", 5)
    assert too_many.exit_code == 3
    assert "4 people at most" in too_many.stderr


def test_clusters_of_colours_are_the_people(run, people):
    result, record = measure(run, "clusters", people, "--far", "0.001")
    assert result.exit_code == 0
    assert record["data"]["chosen"]["clusters"] == 5
    assert record["data"]["chosen"]["bcubed_f"] == 1
    assert record["data"]["best"]["bcubed_f"] == 1
    thresholds = [point["threshold"] for point in record["data"]["sweep"]]
    assert thresholds == sorted(thresholds)


def test_clusters_have_intervals_slices_and_a_paired_test(run, people, tmp_path, monkeypatch):
    groups = "\n".join(["person,kind", *(f"{name},{'pure' if name < 'h' else 'mixed'}" for name in HUES)])
    (tmp_path / "s.csv").write_text(groups)
    words = ("evaluate", "clusters", people, "--far", "0.001", "--repeats", 5)
    first = run(*words, "--slices", "s.csv", "--slice-by", "kind", "--json")
    data = json.loads(first.stdout)["data"]
    assert data["chosen"]["measures"]["BCubed F"] == {"value": 1, "low": 1, "high": 1}
    assert sorted(data["slices"]) == ["mixed", "pure"]
    assert data["by_person"]["BCubed recall"]["red"] == [4, 4]
    (tmp_path / "one.json").write_text(first.stdout)
    shown = run(*words, "--slices", "s.csv", "--slice-by", "kind", "--compare", "one.json").stdout
    assert "Largest gap between slices" in shown
    assert shown.count("no difference") == 2  # precision and recall are sums over people
    assert shown.count("not tested") == 4
    monkeypatch.setattr("sameface.cli.evaluate.MAX_ROWS", 19)
    refused = run(*words)
    assert refused.exit_code == 3
    assert "19 faces at most can be measured, it has 20" in refused.stderr


def test_a_sweep_finds_no_face_in_the_dark(run, people):
    result, record = measure(run, "sweep", people, "--only", "brightness", "--only", "bits", "--far", "0.1")
    assert result.exit_code == 0
    levels = {point["level"]: point for point in record["data"]["brightness"]["levels"]}
    assert levels[0.125]["failed"] == 20
    assert levels[0.125]["val_of_all"] is None
    assert levels[0.75]["failed"] == 0
    assert levels[0.75]["val"]["value"] == 1
    assert record["data"]["bits"]["levels"][-1]["val"]["value"] == 1


def test_a_second_sweep_computes_nothing(run, people):
    words = ("evaluate", "sweep", people, "--only", "jpeg", "--far", "0.1", "--repeats", 2)
    assert run(*words).stderr.count("20 of 20 pictures embedded") == 7
    again = run(*words).stderr
    assert again.count("0 of 20 pictures embedded") == 7
    assert again.count("20 of 20") == 0


def test_a_sweep_with_too_few_pairs_is_refused(run, people):
    result = run("evaluate", "sweep", people, "--only", "bits")
    assert result.exit_code == 3
    assert "needs 1,000 pairs" in result.stderr


@pytest.fixture
def videos(tmp_path):
    """Two videos each of two people; one frame of the first has no face."""
    for person, colour in (("red", toy.RED), ("green", toy.GREEN)):
        for number in range(2):
            for frame in range(1, 13):
                shade = tuple(max(0, part - 10 * number) for part in colour)
                toy.save(tmp_path / "frames" / person / str(number) / f"0.{frame}.png", shade, note=frame)
    toy.save(tmp_path / "frames" / "red" / "0" / "0.1.png")
    lines = ["split, first, second, same"]
    for split in (1, 2):
        lines += [f"{split}, red/0, red/1, 1", f"{split}, green/0, green/1, 1", f"{split}, red/0, green/1, 0"]
    (tmp_path / "splits.txt").write_text("\n".join(lines))
    return tmp_path


def test_videos_are_compared_by_the_mean_of_their_frames(run, videos):
    result, record = measure(run, "ytf", "splits.txt", "--videos", "frames")
    assert result.exit_code == 0
    assert record["data"]["accuracy"] == 1
    assert record["data"]["pairs"][2][5] == pytest.approx(2, abs=0.01)


def test_videos_have_slices_too(run, videos, tmp_path):
    (tmp_path / "s.csv").write_text("person,light\nred,day\ngreen,night\n")
    words = ("ytf", "splits.txt", "--videos", "frames", "--slice-by", "light")
    _, record = measure(run, *words, "--slices", "s.csv")
    assert sorted(record["data"]["slices"]) == ["day", "day × night", "night"]
    assert run("evaluate", *words).exit_code == 2  # the list itself has no columns


def test_a_video_without_a_face_is_a_failure(run, videos):
    for frame in (videos / "frames" / "red" / "1").iterdir():
        toy.save(frame)
    result, record = measure(run, "ytf", "splits.txt", "--videos", "frames")
    assert "1: no face found" in result.stderr
    assert record["data"]["failed"] == 2


def test_the_mean_of_two_videos_is_the_mean_over_all_pairs_of_their_first_frames(toy_recognizer, tmp_path):
    colours = [toy.RED, toy.REDDISH, toy.ORANGE, toy.GREEN]
    for number, colour in enumerate(colours):
        toy.save(tmp_path / "a" / f"{number + 8}.png", colour)  # 8, 9, 10, 11
        toy.save(tmp_path / "b" / f"{number}.png", colours[-number])
    with EmbeddingCache.open(tmp_path / "c.db") as cache:
        embedder = PictureEmbedder(toy_recognizer, cache)
        found = EmbeddedPictures([embed_video(embedder, str(tmp_path / name), frames=3) for name in "ab"])
    pair = LabelledPair(str(tmp_path / "a"), str(tmp_path / "b"), False, ("a", "b"))
    first, second = colours[:3], [colours[0], colours[3], colours[2]]
    mean = np.mean([toy.distance_of(a, b) for a in first for b in second])
    assert pair_distances([pair], found)[0] == pytest.approx(mean, abs=1e-5)


def test_a_report_is_one_page_with_its_numbers_beside_it(run, listed, people, tmp_path):
    words = ("evaluate", "pairs", listed, "--pictures", people, "--repeats", 2, "--report", "out.html")
    assert run(*words).exit_code == 0
    page = (tmp_path / "out.html").read_text()
    assert page.count("data:image/svg+xml") == 3
    assert "image/jpeg" not in page
    assert json.loads((tmp_path / "out.json").read_text())["kind"] == "pairs"
    again = run(*words[:-1], "two.html", "--compare", "out.json")
    assert "Compared with colours" in again.stdout


def test_a_report_that_could_not_be_written_is_refused_before_the_work(run, listed, people, tmp_path):
    (tmp_path / "out.json").write_text("{}")
    words = ("evaluate", "pairs", listed, "--pictures", people, "--report")
    for path, reason, more in (
        ("out.json", "ends in .html", ()),
        ("nowhere/out.html", "there is no folder 'nowhere'", ()),
        ("out.html", "would overwrite 'out.json'", ("--compare", "out.json")),
    ):
        refused = run(*words, path, *more)
        assert refused.exit_code == 2
        assert reason in refused.stderr
        assert "embedded" not in refused.stderr
    assert (tmp_path / "out.json").read_text() == "{}"


def test_faces_are_shown_only_when_asked_for(run, listed, people, tmp_path):
    toy.save(people / "red" / "red_0002.png", toy.GREEN, note=999)
    words = ("evaluate", "pairs", listed, "--pictures", people, "--repeats", 2)
    assert run(*words, "--show-faces").exit_code == 2
    assert run(*words, "--report", "out.html", "--show-faces").exit_code == 0
    assert (tmp_path / "out.html").read_text().count("image/jpeg") >= 2


def test_a_report_without_matplotlib_is_refused_before_the_work(run, listed, people, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("evaluate", "pairs", listed, "--pictures", people, "--report", "out.html")
    assert result.exit_code == 2
    assert "sameface[evaluate]" in result.stderr
