"""The loop: it learns, resumes exactly, keeps the best, stops when asked, and says what went wrong."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training_gradients import TINY
from training_world import small_config, write_people

from sameface.training.checkpoint import BEST, LAST, PREVIOUS, load_checkpoint, save_checkpoint
from sameface.training.config import TrainConfig
from sameface.training.dataset import open_pictures, split_people
from sameface.training.errors import CheckpointError, CollapseError, DivergedError, TrainingDataError
from sameface.training.losses import TripletStats
from sameface.training.monitor import CollapseMonitor
from sameface.training.networks.build import check_crops
from sameface.training.networks.tables import TABLES
from sameface.training.train import train
from sameface.training.validate import find_suspects, report_run, roc_of, val_at_far


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    """Train a network of a few thousand weights under the name of NNS2."""
    monkeypatch.setitem(TABLES, "nns2", TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("world") / "crops", [4] * 24)


@pytest.fixture
def data(folder):
    return split_people(open_pictures([folder]), 0.5)


def run(data, config, folder, **given):
    """Return the steps of a run, without the test before the first."""
    return [done for done in train(*data, config, folder, **given) if done.step]


def after(count):
    """Return a `stop` that says yes when it is asked for the last time of so many."""
    asked = itertools.count(1)
    return lambda: next(asked) >= count


def same_state(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


CHOICES = {"steps": 20, "validate_every": 5, "save_every": 50, "grow": "12:6x3", "chunk": 5}


@pytest.mark.parametrize(
    "choices",
    [
        {"rule": "semi-hard-random"},
        {"optimizer": "adagrad", "schedule": "step"},
        {"head": "cosface", "head_steps": 12, "rule": "distance-weighted"},
    ],
)
def test_ten_steps_and_ten_more_are_twenty_bit_for_bit(data, tmp_path, choices):
    config = small_config(**CHOICES, **choices)
    whole = run(data, config, tmp_path / "whole")
    first = run(data, config, tmp_path / "parts", stop=after(10))
    second = run(data, config, tmp_path / "parts")
    assert [len(first), len(second)] == [10, 10]
    assert [step.loss for step in whole] == [step.loss for step in first + second]
    states = [load_checkpoint(tmp_path / name / LAST) for name in ("whole", "parts")]
    assert same_state(*states)


def test_training_brings_one_person_together_and_people_apart(data, tmp_path):
    config = small_config(steps=100, people=6, pictures=4, validate_every=100, learning_rate=3e-3, augment=False)
    steps = run(data, config, tmp_path)
    assert steps[-1].stats.active_fraction < 0.6 * steps[0].stats.active_fraction
    gaps = [step.stats.negative - step.stats.positive for step in steps]
    assert np.mean(gaps[-10:]) > 1.5 * np.mean(gaps[:10])


def test_another_seed_is_another_run(data, tmp_path):
    first, same, other = (
        run(data, small_config(seed=seed), tmp_path / str(name))[-1].loss for name, seed in enumerate((1, 1, 2))
    )
    assert first == same != other


def test_bfloat16_computes_the_network_and_not_the_distances(data, tmp_path):
    exact, half = (
        run(data, small_config(steps=4, precision=precision), tmp_path / precision)
        for precision in ("float32", "bfloat16")
    )
    assert half[0].loss != exact[0].loss
    assert [step.loss for step in half] == pytest.approx([step.loss for step in exact], rel=0.05)
    kept = load_checkpoint(tmp_path / "bfloat16" / LAST)["network"].values()
    assert all(values.dtype == torch.float32 for values in kept if values.is_floating_point())


def test_the_best_network_by_val_is_kept(data, tmp_path):
    steps = list(train(*data, small_config(steps=12, validate_every=3, learning_rate=3e-3), tmp_path))
    tested = {step.step: step.val for step in steps if step.val is not None}
    assert list(tested) == [0, 3, 6, 9, 12]
    best = load_checkpoint(tmp_path / BEST)
    assert best["numbers"][:2] == [max(tested, key=tested.get), max(tested.values())]


def test_a_run_stops_after_its_minutes_and_goes_on(data, tmp_path):
    first = run(data, small_config(steps=6, minutes=1e-6), tmp_path)
    assert len(first) == 1
    assert first[0].val is not None
    assert [step.step for step in run(data, small_config(steps=6), tmp_path)] == [2, 3, 4, 5, 6]


def test_the_choices_stand_beside_the_checkpoint(data, tmp_path):
    config = small_config(margin=0.3)
    run(data, config, tmp_path)
    assert TrainConfig(**json.loads((tmp_path / "config.json").read_text())) == config


def test_a_teacher_is_imitated(data, tmp_path, monkeypatch):
    config = small_config(steps=25, teacher="resnet29", dimension=128, learning_rate=3e-3, people=2, augment=False)
    losses = [step.loss for step in run(data, config, tmp_path)]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])


def test_another_choice_or_other_pictures_are_told(data, tmp_path):
    run(data, small_config(), tmp_path)
    with pytest.raises(CheckpointError, match=r"margin was 0\.2 and is 0\.3"):
        run(data, small_config(margin=0.3), tmp_path)
    with pytest.raises(CheckpointError, match="pictures are not the same"):
        run((data[1], data[0]), small_config(), tmp_path)
    assert run(data, small_config(workers=0, save_every=3), tmp_path) == []


@pytest.mark.parametrize(
    ("counts", "choices", "reason"),
    [
        ([5], {}, "1 person"),
        ([3, 4], {"pictures": 5}, "nobody has more than 4"),
        ([3, 4], {"grow": "2:2x6"}, "nobody has more than 4"),
    ],
)
def test_pictures_that_allow_no_triplet_are_refused(tmp_path, counts, choices, reason):
    pictures = open_pictures([write_people(tmp_path / "crops", counts)])
    with pytest.raises(TrainingDataError, match=reason):
        run((pictures, pictures), small_config(**choices), tmp_path / "run")


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_pictures_that_prepare_did_not_cut_are_refused(data, tmp_path, kind):
    crops = write_people(tmp_path / "photographs", [4] * 6, rule=False)
    if kind == "tar":
        with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
            tar.add(crops, "")
        crops = tmp_path / "photographs.tar"
    raw = open_pictures([crops])
    for given in ((raw, raw.of_people([])), (data[0], raw)):
        with pytest.raises(TrainingDataError, match=rf"{crops.name}: no crops\.toml.*--as-is SIZE"):
            run(given, small_config(), tmp_path / "run")
    with pytest.raises(TrainingDataError, match="wants 50 x 50 pixels, got 48 x 48"):
        run((raw, raw.of_people([])), small_config(as_is=50), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(run((raw, raw.of_people([])), small_config(as_is=48), tmp_path / "run")) == 4


def test_crops_smaller_than_the_networks_input_are_refused(data, tmp_path):
    with pytest.raises(TrainingDataError, match=r"48 pixels are too small for nn4.*prepare --size 96`"):
        run(data, small_config(network="nn4"), tmp_path / "run")
    for size, refused in ((86, True), (87, False), (96, False)):
        crops = open_pictures([write_people(tmp_path / str(size), [2, 2], size=size)])
        with pytest.raises(TrainingDataError) if refused else contextlib.nullcontext():
            check_crops(crops, small_config(network="nn4"))
    check_crops(crops, small_config(network="nn4", view=0.95))
    check_crops(data[0], small_config(network="nn4", as_is=48))
    with pytest.raises(TrainingDataError, match="wants 96 x 96 pixels, got 48 x 48"):
        check_crops(data[0], small_config(network="nn4", as_is=96))
    with pytest.raises(TrainingDataError, match="prepare --size 120`"):
        check_crops(crops, small_config(network="nn4", view=0.8))


def test_too_few_people_to_test_on_are_told(data, tmp_path):
    one = data[1].of_people([0])
    with pytest.raises(TrainingDataError, match="too few"):
        run((data[0], one), small_config(validate_every=1), tmp_path)


def test_corrupt_pictures_are_told_and_passed_over(tmp_path):
    folder = write_people(tmp_path / "crops", [4] * 4)
    for path in folder.glob("*/0.png"):
        path.write_bytes(b"no picture")
    pictures = open_pictures([folder])
    steps = run((pictures, pictures.of_people([])), small_config(steps=6), tmp_path / "run")
    assert any("not a picture" in step.note for step in steps)
    assert all(np.isfinite(step.loss) for step in steps)


def test_a_loss_that_is_no_number_stops_the_run_with_its_batch_saved(data, tmp_path):
    with pytest.raises(DivergedError, match="lower --learning-rate") as caught:
        run(data, small_config(steps=50, learning_rate=1e30, warm_up=0), tmp_path)
    assert torch.load(caught.value.batch)["crops"].shape == (8, 24, 24, 3)


def test_a_run_that_ends_in_an_error_leaves_no_process_behind(data, tmp_path):
    config = small_config(steps=50, learning_rate=1e30, warm_up=0, workers=1)
    with pytest.raises(DivergedError) as _caught:
        run(data, config, tmp_path)
    # The traceback is still held here, as the command line does when it ends.
    assert multiprocessing.active_children() == []


def children_of(process):
    """Return the numbers of the processes that a process began."""
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def runs(process):
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return words[0] != "Z"


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_loaders_processes_end_with_a_run_that_is_killed(tmp_path, number):
    program, output = Path(sys.executable).with_name("sameface"), tmp_path / "run"
    folder = write_people(tmp_path / "crops", [4] * 8, size=160)
    # The network is slow and the crops are few: the workers wait for somebody to take what they have.
    words = ["--network", "nn3", "--workers", "2", "--people", "8", "--held-out", "0"]
    command = [program, "train", folder, "-o", output, *words]
    workers = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: len(list(output.glob("events*"))) == 1, 60)
            wait_until(lambda: len(children_of(process.pid)) >= 2, 60)
            time.sleep(2)
            workers = children_of(process.pid)
            process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
    try:
        wait_until(lambda: not any(map(runs, workers)), 10)
    finally:
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)


@pytest.fixture
def noise(tmp_path):
    """Pictures that nobody could sort: the hardest negatives pull them all together."""
    for person, picture in itertools.product(range(16), range(4)):
        path = tmp_path / "noise" / str(person) / f"{picture}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([person, picture]).integers(0, 256, (24, 24, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(path)
    pictures = open_pictures([tmp_path / "noise"])
    return pictures, pictures.of_people([])


ALARMED = {
    "people": 6,
    "pictures": 4,
    "steps": 100,
    "patience": 20,
    "norm": "response",
    "learning_rate": 0.01,
    "as_is": 24,
}


def test_the_hardest_negatives_from_the_start_collapse_and_semi_hard_ones_do_not(noise, tmp_path):
    with pytest.raises(CollapseError, match="hardest negatives") as caught:
        run(noise, small_config(**ALARMED, rule="hardest"), tmp_path / "hardest")
    assert caught.value.step < 60
    steps = run(noise, small_config(**ALARMED, rule="semi-hard"), tmp_path / "semi-hard")
    assert steps[-1].stats.spread > 0.5


def test_the_last_step_is_saved_even_if_it_looks_like_a_collapse(noise, tmp_path):
    config = small_config(**{**ALARMED, "steps": 30, "patience": 100}, rule="hardest")
    steps = run(noise, config, tmp_path)
    assert steps[-1].stats.spread < 0.05  # counted by the monitor, not yet an alarm
    assert load_checkpoint(tmp_path / LAST)["numbers"][0] == 30
    assert len(list(report_run(tmp_path, config, *noise))) == 1


def test_a_recovering_run_goes_back_with_a_lower_rate_until_it_gives_up(noise, tmp_path):
    notes = []
    config = small_config(**ALARMED, rule="hardest", on_collapse="recover", save_every=3)
    with pytest.raises(CollapseError):
        for step in train(*noise, config, tmp_path / "run"):
            notes += [step.note] if step.note else []
    parts = [note.rpartition("; ")[2] for note in notes]
    # No checkpoint was good: from the first step on the run looked like a collapse.
    assert parts == [f"back to step 0 with {part} of the rate" for part in (0.5, 0.25, 0.125)]


def stats(spread, active=1.0):
    return TripletStats(10, 10, 10, active, spread, spread, spread)


@pytest.mark.parametrize(
    ("losses", "spreads", "alarm"),
    [
        ([0.2] * 9, [0.01] * 9, True),  # all near each other, and so it stays
        ([0.2] * 9, [1.0] * 9, True),  # wide, but nothing gets better
        ([0.1] * 9, [1.0] * 9, False),
        ([0.1] * 9, [0.01 * 1.3**step for step in range(9)], False),  # near, but coming apart
        ([0.1] * 9, [0.01, 0.01, 0.5] * 3, False),  # never for long
    ],
)
def test_the_alarm_goes_off_only_when_nothing_gets_better_for_long(losses, spreads, alarm):
    monitor = CollapseMonitor(small_config(patience=4))
    causes = [
        monitor.update(step, loss, stats(spread))
        for step, (loss, spread) in enumerate(zip(losses, spreads, strict=True))
    ]
    assert any(causes) == alarm


def test_a_classifier_may_draw_all_faces_together_for_long_and_triplets_may_not():
    monitor = CollapseMonitor(small_config(patience=4, head="softmax", head_steps=9))
    assert not any(monitor.update(step, 9.0, stats(0.01)) for step in range(9))
    assert not any(monitor.update(step, 0.1, stats(0.01)) for step in range(9, 12))
    assert "mean squared distance" in monitor.update(12, 0.1, stats(0.01))


@pytest.mark.parametrize(
    ("choices", "cause"),
    [
        ({"rule": "hardest"}, "hardest negatives"),
        ({"otherwise": "hardest-below"}, "hardest negatives"),
        ({"learning_rate": 1.0}, "learning rate"),
        ({"warm_up": 0}, "warm-up"),
        ({"people": 2, "pictures": 2}, "batch of 2 x 2"),
        ({"people": 40}, "no option stands out"),
    ],
)
def test_the_alarm_names_the_cause_that_it_sees(choices, cause):
    monitor = CollapseMonitor(small_config(patience=1, **choices))
    assert cause in monitor.update(0, 0.2, stats(0.01))


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one_intact(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"network": {}, "x": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CheckpointError, match="the one before is intact"):
            save_checkpoint(path, {"network": {}, "x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path)["x"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.9999])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, place):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"network": {"a": torch.randn(1000)}})
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 16
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_a_run_with_a_damaged_checkpoint_resumes_from_the_one_before(data, tmp_path):
    config = small_config(steps=6, save_every=2)
    whole = run(data, config, tmp_path, stop=after(6))
    path = tmp_path / LAST
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    again = list(train(*data, config, tmp_path))
    assert "damaged" in again[0].note
    assert "previous.pt" in again[0].note
    assert [step.step for step in again[1:]] == [5, 6]
    assert [step.loss for step in again[1:]] == [step.loss for step in whole[4:]]
    assert load_checkpoint(tmp_path / PREVIOUS)["numbers"][0] == 4  # the damaged one did not take its place
    assert run(data, config, tmp_path) == []


def test_a_run_with_two_damaged_checkpoints_is_refused(data, tmp_path):
    config = small_config(save_every=2)
    run(data, config, tmp_path)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="begin anew"):
        run(data, config, tmp_path)


def test_other_pixels_in_files_of_the_same_names_are_other_pictures(tmp_path):
    crops = write_people(tmp_path / "crops", [4] * 6)
    pictures = open_pictures([crops])
    given = (pictures, pictures.of_people([]))
    run(given, small_config(), tmp_path / "run")
    shutil.copy(crops / "person-000" / "0.png", crops / "person-001" / "0.png")
    with pytest.raises(CheckpointError, match="pictures are not the same"):
        run(given, small_config(), tmp_path / "run")


def test_memory_that_runs_out_is_not_told_as_a_damaged_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.pt", {"network": {}})
    for fault in (MemoryError, TypeError):
        monkeypatch.setattr(torch, "load", raiser(fault))
        with pytest.raises(fault):
            load_checkpoint(tmp_path / "a.pt")


def raiser(fault):
    def fail(*_given, **_named):
        raise fault

    return fail


class Spring:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_checkpoint_never_runs_code(tmp_path):
    torch.save({"network": Spring(tmp_path / "sprung")}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Spring(tmp_path / "sprung")))
    for name in ("trap.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_missing_or_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "a.pt"
    if damage != "missing":
        torch.save({"other": 1} if damage == "other" else {"network": {}}, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        load_checkpoint(path)


def test_the_rate_rises_in_a_line_and_falls_as_the_schedule_says():
    rates = {
        name: [
            small_config(steps=110, warm_up=10, learning_rate=1.0, schedule=name).rate_at(step) for step in range(110)
        ]
        for name in ("constant", "cosine", "step")
    }
    for name, found in rates.items():
        np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, err_msg=name)
    assert set(rates["constant"][10:]) == {1.0}
    assert rates["cosine"][60] == pytest.approx(0.5)
    assert sorted(set(rates["step"][10:])) == [0.01, 0.1, 1.0]


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"people": 1}, "people must be 2 or more"),
        ({"pictures": 1}, "pictures must be 2 or more"),
        ({"rule": "soft"}, "rule must be one of"),
        ({"margin": 0}, "margin"),
        ({"network": "resnet29"}, "dimension must be resnet29's 128"),
        ({"grow": "5:3"}, "grow must be"),
        ({"grow": "5:1x4"}, "grow needs 2 people"),
        ({"grow": "5:3x2,4:3x3"}, "must rise"),
    ],
)
def test_an_impossible_choice_is_refused(choices, reason):
    with pytest.raises(ValueError, match=reason):
        small_config(**choices)


def test_a_run_leaves_an_event_with_each_number_under_its_name_for_each_step(data, tmp_path):
    steps = run(data, small_config(validate_every=4), tmp_path)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = EventAccumulator(str(path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (done.step, pytest.approx(done.loss)) for done in steps
    ]
    assert [event.step for event in events.Scalars("val_at_far_1e-2")] == [4]
    names = {"loss", "rate", "waiting", "pictures_per_second", "val_at_far_1e-2"}
    names |= {f"triplets/{each.name}" for each in dataclasses.fields(TripletStats)}
    assert set(events.Tags()["scalars"]) == names


def test_val_is_the_part_of_the_pairs_of_one_person_under_the_threshold():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3, 3]]
    roc = roc_of(rows, np.array([0, 0, 0, 1, 2, 2]))
    # Four pairs of one person, two of them at distance 0; no pair of different people is nearer than 2.
    assert val_at_far(roc, 0.1) == 0.5


def test_a_picture_in_the_wrong_folder_is_found(data):
    pictures = data[0].of_people([0, 1, 2])
    rows = np.eye(3, dtype=np.float32)[pictures.owner]
    rows[5] = rows[0]
    suspects = find_suspects(rows, np.arange(len(rows)), pictures)
    assert [suspect.picture for suspect in suspects] == [pictures.files[5].path]
    assert (suspects[0].person, suspects[0].name) == (pictures.people[1], pictures.people[0])


def test_the_end_of_a_run_tells_val_and_doubts(data, tmp_path):
    config = small_config(steps=3, validate_every=3)
    run(data, config, tmp_path)
    told = list(report_run(tmp_path, config, *data))
    assert "VAL" in told[0]
    assert (tmp_path / "label-noise.tsv").read_text().startswith("person\tpicture")
