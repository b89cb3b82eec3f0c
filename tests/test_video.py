"""Faces joined to tracks, and each track named: in the toy world, and with portraits that cross."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from video_world import paste, read_portrait, walk, write_clip

from sameface.arrays import Image
from sameface.face import Face
from sameface.gallery import Gallery, Identification, Match
from sameface.recognizer import Recognizer
from sameface.thresholds import Thresholds
from sameface.video import Frame, Timeline, Video, VideoSearch, Watcher, identify_video
from sameface.video.identify import judge_mean, widen
from sameface.video.tracker import BEST, PATIENCE, FaceView, OpenTrack, Tracker

Told = tuple[str | None, float, float]
EVERY = VideoSearch(every=0.1, far=0.1)  # every frame of the toy world's clips


@pytest.fixture
def gallery(toy_recognizer: Recognizer, tmp_path: Path) -> Iterator[Gallery]:
    """Rosa is red and Bo is blue."""
    with Gallery.open(tmp_path / "people.db", toy_recognizer) as gallery:
        gallery.enroll("Rosa", [toy_recognizer.template(toy.paint(toy.RED))])
        gallery.enroll("Bo", [toy_recognizer.template(toy.paint(toy.BLUE))])
        yield gallery


def told(timeline: Timeline) -> list[Told]:
    """Return name, beginning and end of each track."""
    return [(one.answer.name, round(one.start, 2), round(one.end, 2)) for one in timeline.tracks]


def make_view(colour: tuple[int, int, int], left: float, time: float = 0, quality: float = 1) -> FaceView:
    """Return a view of a face 40 pixels wide."""
    face = Face(np.array([left, 0, left + 40, 40], np.float32), np.zeros((5, 2), np.float32), 0.9)
    return FaceView(time, face, toy.row_of(colour), quality)


# Tracks


def follow(*frames: Iterable[FaceView], step: float = 0.2) -> list[list[tuple[float, float]]]:
    """Return time and left side of the views of each track."""
    tracker = Tracker(limit=0.2)
    ended = []
    for number, views in enumerate(frames):
        timed = [FaceView(number * step, view.face, view.row, view.quality) for view in views]
        ended += tracker.step(timed, number * step)
    tracks = sorted(ended + tracker.finish(), key=lambda track: track.number)
    lefts = [np.array(track.places).reshape(-1, 14)[:, 0].tolist() for track in tracks]
    return [list(zip(track.times, left, strict=True)) for track, left in zip(tracks, lefts, strict=True)]


def test_without_faces_there_are_no_tracks() -> None:
    assert follow() == follow([], []) == []


def test_a_face_that_moves_is_one_track() -> None:
    tracks = follow(*[[make_view(toy.RED, 10 * number)] for number in range(3)])
    assert tracks == [[(0, 0), (0.2, 10), (0.4, 20)]]


def test_another_person_in_the_same_place_is_another_track() -> None:
    tracks = follow([make_view(toy.RED, 0)], [make_view(toy.RED, 0)], [make_view(toy.BLUE, 0)])
    assert tracks == [[(0, 0), (0.2, 0)], [(0.4, 0)]]


def test_two_who_cross_stay_themselves() -> None:
    frames = [[make_view(toy.RED, 20 * n), make_view(toy.BLUE, 80 - 20 * n)] for n in range(5)]
    lefts = [[left for _, left in track] for track in follow(*frames)]
    assert lefts == [[0, 20, 40, 60, 80], [80, 60, 40, 20, 0]]


def test_of_two_who_look_the_same_each_stays_where_it_was() -> None:
    frames = [[make_view(toy.RED, 100), make_view(toy.RED, 0)], [make_view(toy.RED, 5), make_view(toy.RED, 95)]]
    assert [[left for _, left in track] for track in follow(*frames)] == [[100, 95], [0, 5]]


@pytest.mark.parametrize(("away", "tracks"), [(PATIENCE, 1), (PATIENCE + 0.2, 2)])
def test_who_is_away_for_too_long_comes_back_as_another_track(away: float, tracks: int) -> None:
    empty: list[list[FaceView]] = [[] for _ in range(round(away / 0.2) - 1)]
    assert len(follow([make_view(toy.RED, 0)], *empty, [make_view(toy.RED, 200)])) == tracks


def test_a_face_that_turns_little_by_little_is_one_track() -> None:
    colours = [(255, green, 0) for green in range(0, 256, 40)]
    assert toy.distance_of(colours[0], colours[-1]) > 0.2
    assert len(follow(*[[make_view(colour, 0)] for colour in colours])) == 1


def test_the_best_views_are_kept_for_the_mean() -> None:
    tracker = Tracker(limit=0.2)
    for number in range(BEST + 4):
        colour = toy.RED if number % 2 else toy.REDDISH
        tracker.step([make_view(colour, 0, number / 10, quality=number)], number / 10)
    [track] = tracker.finish()
    assert [view.quality for view in track.best] == list(range(BEST + 3, 3, -1))
    rows = np.array([toy.row_of(toy.RED), toy.row_of(toy.REDDISH)])
    np.testing.assert_allclose(track.mean, rows.mean(axis=0), atol=1e-6)


# Decisions


def make_answer(*distances: float, closed_set: bool = False) -> Identification:
    """Return what a gallery says of the mean of a track, with a threshold of 0.2."""
    votes = [int(closed_set or distance <= 0.2) if place == 0 else 0 for place, distance in enumerate(distances)]
    matches = [Match(f"person {n}", *pair) for n, pair in enumerate(zip(distances, votes, strict=True))]
    within = sum(distance <= 0.2 for distance in distances)
    return Identification(tuple(matches), 0.2, 0.01, ambiguous=within > 1, closed_set=closed_set)


def track_of(*rows: list[float]) -> OpenTrack:
    """Return a track of views with these embeddings."""
    face = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0)
    views = [FaceView(0.0, face, np.array(row, np.float32), 1.0) for row in rows]
    return OpenTrack(1, views[-1], views)


def thresholds_with(*templates: tuple[int, float]) -> Thresholds:
    return Thresholds((0.1, 0.01), (0.4, 0.2), (100, 10), 1000, "a test", templates=templates)


def test_the_mean_of_several_views_is_judged_by_their_factor() -> None:
    thresholds = thresholds_with((1, 1.0), (2, 0.8))
    one, two = track_of([1, 0]), track_of([1, 0], [0.6, 0.8])
    answer = make_answer(0.12, 0.18)
    assert judge_mean(answer, one, thresholds) == answer
    judged = judge_mean(answer, two, thresholds)
    assert [match.distance for match in judged.matches] == pytest.approx([0.15, 0.225])
    assert (judged.name, judged.ambiguous) == ("person 0", False)
    assert judge_mean(make_answer(0.18), two, thresholds).name is None


def test_without_factors_the_length_of_the_mean_says_how_far_it_is() -> None:
    track = track_of([1, 0], [0.6, 0.8])
    answer = make_answer(0.12, 0.18)
    assert judge_mean(answer, track, thresholds_with()) == widen(answer, float(np.linalg.norm(track.mean)))


@pytest.mark.parametrize("answer", [make_answer(0.1, 0.15, 0.3), make_answer(0.3), make_answer()])
def test_views_that_are_all_the_same_count_as_one(answer: Identification) -> None:
    assert widen(answer, 1) == answer


def test_views_that_differ_count_as_farther_from_everybody() -> None:
    answer = widen(make_answer(0.1, 0.19), 0.81)
    distances = [match.distance for match in answer.matches]
    assert distances == pytest.approx([2 - 0.9 * 1.9, 2 - 0.9 * 1.81])
    assert (answer.name, answer.ambiguous) == (None, False)
    answer = widen(make_answer(0.1, 0.19), 0.96)
    assert (answer.name, answer.ambiguous) == ("person 0", False)


def test_a_distance_on_the_threshold_is_the_person() -> None:
    assert widen(make_answer(0.2), 1).name == "person 0"
    assert widen(make_answer(0.2), 0.9999).name is None


def test_in_a_closed_set_the_nearest_is_named_however_the_views_differ() -> None:
    assert widen(make_answer(0.3, 0.4, closed_set=True), 0.8).name == "person 0"


# Timelines


def test_people_are_named_with_the_time_and_strangers_are_not(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    images = [*walk((toy.RED, 16, 100)), *walk((toy.RED, 100, 100), (toy.GREEN, 200, 220))]
    timeline = identify_video(write_clip(tmp_path / "a.mkv", images), toy_recognizer, gallery, EVERY)
    assert told(timeline) == [("Rosa", 0, 1.9), (None, 1, 1.9)]
    assert (timeline.frames, timeline.searched, timeline.every) == (20, 20, 0.1)
    assert (timeline.complete, timeline.damage, timeline.seconds) == (True, None, 1.9)
    rosa, stranger = timeline.tracks
    assert (rosa.nearest.name, rosa.nearest.distance) == ("Rosa", pytest.approx(0, abs=1e-6))
    assert stranger.nearest.distance == pytest.approx(2)
    assert (rosa.views, rosa.over, rosa.answer.ambiguous) == (BEST, True, False)
    np.testing.assert_allclose(rosa.boxes[0], [16, 16, 48, 48], atol=0.01)
    assert (rosa.landmarks.shape, rosa.times.shape) == ((20, 5, 2), (20,))


def test_a_track_ends_at_a_cut_to_another_person_in_the_same_place(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    images = [*walk((toy.RED, 50, 50), frames=5), *walk((toy.BLUE, 50, 50), frames=5)]
    timeline = identify_video(write_clip(tmp_path / "a.mkv", images), toy_recognizer, gallery, EVERY)
    assert told(timeline) == [("Rosa", 0, 0.4), ("Bo", 0.5, 0.9)]


def test_who_comes_back_is_told_again(toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path) -> None:
    images = [*walk((toy.RED, 50, 50), frames=3), *walk(frames=12), *walk((toy.RED, 90, 90), frames=3)]
    timeline = identify_video(write_clip(tmp_path / "a.mkv", images), toy_recognizer, gallery, EVERY)
    assert told(timeline) == [("Rosa", 0, 0.2), ("Rosa", 1.5, 1.7)]


def test_what_is_seen_once_is_no_track_unless_there_is_one_frame(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    images = [*walk(frames=3), *walk((toy.RED, 50, 50), frames=1), *walk(frames=3)]
    timeline = identify_video(write_clip(tmp_path / "a.mkv", images), toy_recognizer, gallery, EVERY)
    assert told(timeline) == []
    timeline = identify_video(write_clip(tmp_path / "b.mkv", images[3:4]), toy_recognizer, gallery, EVERY)
    assert told(timeline) == [("Rosa", 0, 0)]


def test_frames_are_searched_by_time_whatever_the_rate(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    times = [0, 0.03, 0.06, 0.5, 0.51, 0.52, 0.99, 1.4]
    images = walk((toy.RED, 50, 50), frames=len(times))
    path = write_clip(tmp_path / "a.mkv", images, times=times)
    timeline = identify_video(path, toy_recognizer, gallery, VideoSearch(every=0.25, far=0.1))
    assert timeline.tracks[0].times.tolist() == [0, 0.5, 0.99, 1.4]
    assert (timeline.frames, timeline.searched) == (8, 4)


def test_each_choice_of_the_search_changes_the_answer(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.ORANGE, 50, 50)))  # 0.21 from red
    found = [
        identify_video(path, toy_recognizer, gallery, search).tracks[0].answer
        for search in (EVERY, VideoSearch(far=0.01), VideoSearch(far=0.01, closed_set=True))
    ]
    assert [answer.name for answer in found] == ["Rosa", None, "Rosa"]
    with pytest.raises(ValueError, match="every must be over 0, got 0"):
        VideoSearch(every=0)


def test_an_empty_gallery_knows_nobody(toy_recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50)))
    with Gallery.open(tmp_path / "empty.db", toy_recognizer) as nobody:
        [track] = identify_video(path, toy_recognizer, nobody, EVERY).tracks
    assert (track.answer.name, track.nearest) == (None, None)


def test_a_search_that_is_ended_early_tells_what_it_found(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    def until_half_a_second(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.time > 0.5:
                return
            yield frame

    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 50, 50)))
    timeline = identify_video(path, toy_recognizer, gallery, EVERY, follow=until_half_a_second)
    assert told(timeline) == [("Rosa", 0, 0.5)]
    assert (timeline.complete, timeline.frames) == (False, 6)


# Cameras


def watch(
    recognizer: Recognizer, gallery: Gallery, path: Path, clock: Iterable[float]
) -> tuple[Watcher, list[tuple[str | None, bool]]]:
    """Return a watcher that has seen a clip, a frame at each time of the clock, and what it told."""
    times = iter([0.0, *clock])  # the first is when it begins
    watcher = Watcher(recognizer, gallery, EVERY, clock=lambda: next(times))
    with Video.open(path) as video:
        news = [track for frame in video for track in watcher.look_live(frame)]
    return watcher, [(track.answer.name, track.over) for track in [*news, *watcher.finish()]]


def test_a_camera_tells_who_comes_and_who_has_left(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    images = [*walk((toy.RED, 16, 16)), *walk((toy.BLUE, 90, 90), frames=20)]
    path = write_clip(tmp_path / "a.mkv", images)
    _, news = watch(toy_recognizer, gallery, path, np.arange(30) / 10)
    assert news == [("Rosa", False), ("Bo", False), ("Rosa", True), ("Bo", True)]


def test_a_camera_tells_when_better_views_change_the_name(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    colours = [(240, 200, 0)] * 2 + [(240, 160, 0)] * 2 + [toy.ORANGE] * 2 + [toy.REDDISH] * 2
    images = [image for colour in colours for image in walk((colour, 16, 16), frames=1)]
    path = write_clip(tmp_path / "a.mkv", images)
    _, news = watch(toy_recognizer, gallery, path, np.arange(30) / 10)
    assert news == [(None, False), ("Rosa", False), ("Rosa", True)]


def test_frames_that_come_late_are_not_searched(toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 16, 16)))
    late = [0, 0.1, 0.2, 0.95, 0.96, 0.97, 0.98, 0.99, 1, 1]  # something else took 0.6 seconds
    watcher, news = watch(toy_recognizer, gallery, path, late)
    assert (watcher.frames, watcher.searched) == (10, 4)
    assert news == [("Rosa", False), ("Rosa", True)]


def test_a_camera_whose_clock_is_slow_is_watched_on(
    toy_recognizer: Recognizer, gallery: Gallery, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mkv", walk((toy.RED, 16, 16), frames=300))
    watcher, _ = watch(toy_recognizer, gallery, path, np.arange(300) / 10 * 1.005)  # by 0.15 s at the end
    assert watcher.searched == 300


# With the shipped weights


@pytest.fixture(scope="module")
def portraits(samples: dict[str, Path]) -> dict[str, Image]:
    """The middle of each sample photograph."""
    return {name: read_portrait(path) for name, path in samples.items()}


@pytest.fixture
def known(recognizer: Recognizer, samples: dict[str, Path], tmp_path: Path) -> Iterator[Gallery]:
    """Two who are enrolled, one with two photographs that are in no clip."""
    with Gallery.open(tmp_path / "known.db", recognizer) as gallery:
        for name in ("barack-obama-1", "barack-obama-2"):
            gallery.enroll("Barack Obama", [recognizer.template(samples[name])])
        gallery.enroll("Joe Biden", [recognizer.template(samples["joe-biden"])])
        yield gallery


def film(path: Path, images: Iterable[Image]) -> Path:
    """Write an H.264 clip, as most videos are."""
    return write_clip(path, images, codec="libx264", pixels="yuv420p")


def test_two_people_who_cross_are_told_apart(
    recognizer: Recognizer, known: Gallery, portraits: dict[str, Image], tmp_path: Path
) -> None:
    images = [
        paste((portraits["joe-biden"], round(250 * part)), (portraits["barack-obama-3"], round(250 - 250 * part)))
        for part in np.linspace(0, 1, 30)
    ]
    timeline = identify_video(film(tmp_path / "a.mp4", images), recognizer, known)
    assert sorted(str(track.answer.name) for track in timeline.tracks) == ["Barack Obama", "Joe Biden"]
    for track in timeline.tracks:
        moved = track.boxes[-1, 0] - track.boxes[0, 0]
        assert moved > 200 if track.answer.name == "Joe Biden" else moved < -200
        assert (track.start, track.end) == (0, pytest.approx(2.8))


def test_cuts_a_stranger_and_a_return_are_told(
    recognizer: Recognizer, known: Gallery, portraits: dict[str, Image], tmp_path: Path
) -> None:
    order = ["barack-obama-3", "joe-biden", "eileen-collins", None, "barack-obama-3"]
    images = []
    for name in order:
        scene = paste() if name is None else paste((portraits[name], 130))
        images += [scene] * (14 if name is None else 8)
    timeline = identify_video(film(tmp_path / "a.mp4", images), recognizer, known)
    assert [track.answer.name for track in timeline.tracks] == ["Barack Obama", "Joe Biden", None, "Barack Obama"]
    starts = [track.start for track in timeline.tracks]
    np.testing.assert_allclose(starts, [0, 0.8, 1.6, 3.8], atol=0.05)
    for before, after in zip(timeline.tracks, timeline.tracks[1:], strict=False):
        assert before.end < after.start
