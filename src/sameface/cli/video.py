"""Videos and cameras: the command watch, and what identify tells of a video."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import click
import rich.progress
from rich.console import Console

from sameface.cli.answers import answer_record, describe, print_rule
from sameface.cli.options import every_option, far_option, gallery_option, json_option, recognizer_options
from sameface.cli.output import face_record, finish, print_json, print_table
from sameface.cli.unlock import key_options
from sameface.errors import VideoError
from sameface.gallery import Gallery
from sameface.gallery.keys import Keys
from sameface.recognizer import Recognizer
from sameface.video import Frame, Timeline, Track, Video, VideoSearch, Watcher, annotate_video, identify_video
from sameface.video.annotate import FORMATS, writable
from sameface.video.ffmpeg import import_av

COLUMNS = (
    "{task.description}",
    rich.progress.BarColumn(),
    "{task.completed:.0f} of {task.total:.0f} s",
    rich.progress.TimeRemainingColumn(),
)


def tell_videos(
    videos: Sequence[str], recognizer: Recognizer, gallery: Gallery, choices: dict[str, Any], failures: list[str]
) -> int:
    """Tell who is in each video, and return how many tracks were named.

    The first Ctrl-C ends the search, and what was found is told; then, or at the second one, the command
    ends.
    """
    output = choices["annotated"]
    if output is not None and not writable(Path(output)):
        raise click.UsageError(f"--annotated must end in {', '.join(FORMATS)}, got {output!r}")
    search = VideoSearch(**{name: choices[name] for name in ("every", "far", "closed_set", "rule")})
    named = 0
    for path in videos:
        try:
            timeline = search_video(path, recognizer, gallery, search)
        except VideoError as error:
            failures.append(str(error))
            continue
        tell_timeline(path, timeline, as_json=choices["as_json"])
        named += sum(track.answer.name is not None for track in timeline.tracks)
        if timeline.damage is not None:
            failures.append(f"the rest of {path!r}: {timeline.damage}")
        elif not timeline.complete:
            click.echo(f"{path}: this is until second {timeline.seconds:.1f}", err=True)
            raise KeyboardInterrupt
        if output is not None:
            draw_video(path, timeline, output)
    return named


def search_video(path: str, recognizer: Recognizer, gallery: Gallery, search: VideoSearch) -> Timeline:
    """Return who is in a video, until Ctrl-C; show who watches how far the work is."""
    with Video.open(path) as video, noting_interrupt() as interrupted:
        follow = partial(show_progress, "searching", video.seconds, stop=interrupted)
        return identify_video(video, recognizer, gallery, search, follow=follow)


def draw_video(path: str, timeline: Timeline, output: str) -> None:
    """Write the annotated video; show who watches how far the work is."""
    annotate_video(path, timeline, output, follow=partial(show_progress, "drawing", timeline.seconds))
    click.echo(f"written: {output}", err=True)


@contextmanager
def noting_interrupt() -> Iterator[Event]:
    """Give what tells that Ctrl-C was pressed; pressed once more it ends the command."""
    pressed = Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def show_progress(
    task: str, seconds: float | None, frames: Iterable[Frame], *, stop: Event | None = None
) -> Iterator[Frame]:
    """Hand on frames until `stop` is set; show on stderr how far they are, if a person is watching."""
    console = Console(stderr=True)
    hidden = not console.is_terminal or seconds is None
    with rich.progress.Progress(*COLUMNS, console=console, transient=True, disable=hidden) as bar:
        shown = bar.add_task(task, total=seconds)
        for frame in frames:
            if stop is not None and stop.is_set():
                return
            yield frame
            bar.update(shown, completed=frame.time)


def tell_timeline(path: str, timeline: Timeline, *, as_json: bool) -> None:
    """Print who is in a video."""
    if as_json:
        print_json(timeline_record(path, timeline))
        return
    rows = [
        (path, track.number, clock(track.start), clock(track.end), *describe(track.answer))
        for track in timeline.tracks
    ]
    print_table(
        ["video", "track", "from", "to", "who", "distance", "note"], rows or [(path, "none", "", "", "", "", "")]
    )
    print_rule(track.answer for track in timeline.tracks)


def clock(seconds: float) -> str:
    """Return minutes and seconds, as a player shows them."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def timeline_record(path: str, timeline: Timeline) -> dict[str, Any]:
    """Return who is in a video, as it is printed in JSON."""
    return {
        "video": path,
        "seconds": round(timeline.seconds, 3),
        "frames": timeline.frames,
        "searched": timeline.searched,
        "every": timeline.every,
        "complete": timeline.complete,
        "damage": timeline.damage,
        "tracks": [track_record(track) for track in timeline.tracks],
    }


def track_record(track: Track) -> dict[str, Any]:
    """Return a track, as it is printed in JSON; its distance is that of who is named, or else nearest."""
    face = face_record(track.number, track.best)
    return {
        "track": face.pop("number"),
        "from": round(track.start, 3),
        "to": round(track.end, 3),
        "distance": None if track.nearest is None else track.nearest.distance,
        **answer_record(track.answer),
        "frames": len(track.times),
        "views": track.views,
        "best": {"time": round(track.best_time, 3), **face},
    }


@click.command()
@click.option(
    "--camera", default=0, show_default=True, type=click.IntRange(min=0), help="Which camera of this machine."
)
@click.option("--stream", metavar="ADDRESS", help="Instead of a camera: rtsp://host/path, or a video file.")
@every_option
@gallery_option
@key_options
@far_option
@json_option
@recognizer_options
def watch(
    *,
    recognizer: Recognizer,
    gallery_path: str,
    keys: Keys,
    camera: int,
    stream: str | None,
    as_json: bool,
    **search: Any,
) -> None:
    """Tell who comes before a camera, and who leaves, until Ctrl-C.

    A line is printed when somebody comes into sight, when better views change the name, and when they have
    been out of sight for a second. The exit code is 1 if nobody at all was named.
    """
    import_av()
    named = False
    with (
        Gallery.open(gallery_path, recognizer, create=False, keys=keys) as gallery,
        open_live(camera, stream) as video,
        noting_interrupt() as interrupted,
    ):
        for news in watch_live(video, Watcher(recognizer, gallery, VideoSearch(**search)), interrupted):
            tell_news(news, as_json=as_json)
            named = named or news.answer.name is not None
    finish([], 0 if named else 1)


def open_live(camera: int, stream: str | None) -> Video:
    """Open what is to be watched."""
    return Video.open_camera(camera) if stream is None else Video.open_stream(stream)


def watch_live(video: Video, watcher: Watcher, stop: Event) -> Iterator[Track]:
    """Yield tracks that begin, change their name or end, until the video ends or `stop` is set."""
    for frame in video:
        if stop.is_set():
            break
        yield from watcher.look_live(frame)
    yield from watcher.finish()
    if video.damage is not None:
        raise VideoError(video.name, video.damage)


def tell_news(track: Track, *, as_json: bool) -> None:
    """Print that somebody has come or left, with the time of day."""
    now = datetime.now().astimezone()
    if as_json:
        print_json({"at": now.isoformat(timespec="milliseconds"), "over": track.over, **track_record(track)})
        return
    name, distance, note = describe(track.answer)
    seen = f"left after {timedelta(seconds=round(track.end - track.start))}" if track.over else "is here"
    told = ", ".join(part for part in (seen, f"distance {distance}" if distance else "", note) if part)
    click.echo(f"{now:%H:%M:%S}  track {track.number}: {name} {told}")
