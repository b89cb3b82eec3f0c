"""Commands that name people in pictures, in videos and before a camera: identify, watch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import click
from rich.progress import BarColumn, TimeRemainingColumn

from sameface.album_folders import free_name
from sameface.arrays import Image
from sameface.cli.gallery_options import gallery_option, key_options
from sameface.cli.options import far_option, json_option, positive, recognizer_options
from sameface.cli.output import (
    each,
    face_record,
    finish,
    list_pictures,
    open_source,
    print_json,
    print_table,
    progress_bar,
)
from sameface.draw import blur_faces, draw_faces, save_picture
from sameface.draw import writable as is_picture_format
from sameface.errors import VideoError
from sameface.face import Face
from sameface.gallery import Gallery, Identification
from sameface.gallery.keys import Keys
from sameface.gallery.records import Rule, percent
from sameface.image import read_image
from sameface.recognizer import Recognizer
from sameface.video import Frame, Timeline, Track, Video, VideoSearch, Watcher, annotate_video, identify_video
from sameface.video.annotate import FORMATS, writable
from sameface.video.source import import_av

ENDINGS = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv 3gp ogv"
VIDEOS = frozenset(f".{ending}" for ending in ENDINGS.split())
RULE = ("threshold", "far", "asked", "rule", "size", "population", "extrapolated", "closed_set", "warning")

every_option = click.option(
    "--every",
    default=0.2,
    type=click.FloatRange(0, min_open=True),
    help="Seconds from one searched frame of a video to the next.",
)


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "-k", default=1, type=positive, help="Number of nearest faces that vote, in pictures; over 1 needs --rule rows."
)
@click.option(
    "--rule",
    type=click.Choice(["template", "rows"]),
    help="Compare with one template per person, the default, or with every face.",
)
@click.option("--closed-set", is_flag=True, help="Every face belongs to an enrolled person: name the nearest.")
@click.option(
    "--annotated",
    type=click.Path(path_type=Path),
    help="A file, or for several a folder, for copies with faces and names.",
)
@click.option(
    "--blur",
    multiple=True,
    metavar="everybody|unknown|NAME",
    help="With --annotated: blur these faces instead; repeatable.",
)
@every_option
@gallery_option
@key_options
@far_option
@json_option
@recognizer_options
def identify(
    *,
    recognizer: Recognizer,
    pictures: tuple[str, ...],
    gallery_path: str,
    keys: Keys,
    k: int,
    annotated: Path | None,
    blur: tuple[str, ...],
    every: float,
    far: float | None,
    closed_set: bool,
    rule: Rule | None,
    as_json: bool,
) -> None:
    """Name every face in PICTURES (files, folders, or - for stdin), or reject it as a stranger.

    A file with the ending of a video, such as .mp4, is searched as a video: each person is named once, with the
    time. This needs sameface[video]. Pictures come before videos.

    --far is the part of the strangers that may be given a name, 0.01 by default; the threshold follows from
    it and from the size of the gallery. Below the calibrated rates, the default falls back to a larger rate
    and says so, and a given --far is refused. The exit code is 1 if no face was named.

    --annotated writes what was found onto copies. With --blur the copies have unrecognisable faces instead: their
    pixels are replaced, and metadata, which may hold a small picture, is left out. A face that was not found is not
    blurred: look at each copy before you publish it.
    """
    given = list_pictures(pictures)
    videos = [path for path in given if Path(path).suffix.lower() in VIDEOS]
    outputs = {} if annotated is None else plan_outputs(given, annotated)
    check_options(rule, k, videos=bool(videos), blur=bool(blur), annotated=annotated is not None)
    failures: list[str] = []
    with Gallery.open(gallery_path, recognizer, create=False, keys=keys) as gallery:
        if gallery.thresholds != recognizer.thresholds:
            click.echo(f"thresholds of the gallery: {gallery.thresholds.calibrated_on}", err=True)

        for person in set(blur) - {"everybody", "unknown"}:
            gallery.person(person)  # a name that is misspelt would blur nobody
        hides = partial(is_blurred, blur)

        def name_faces(picture: str) -> list[tuple[Face, Identification]]:
            image = read_image(open_source(picture))
            faces, rows = recognizer.embed(image)
            answers = gallery.identify(rows, k=k, far=far, closed_set=closed_set, rule=rule)
            found = list(zip(faces, answers, strict=True))
            if picture in outputs:
                save_picture(annotate_picture(image, found, hides if blur else None), outputs[picture])
            return found

        stills = [path for path in given if path not in videos]
        named = print_pictures(each(stills, name_faces, failures), as_json=as_json)
        search = VideoSearch(every=every, far=far, closed_set=closed_set, rule=rule)
        for path in videos:
            try:
                timeline = search_video(path, recognizer, gallery, search)
            except VideoError as error:
                failures.append(str(error))
                continue
            named += print_timeline(path, timeline, as_json=as_json)
            if timeline.damage is not None:
                failures.append(f"the rest of {path!r}: {timeline.damage}")
            elif not timeline.complete:
                click.echo(f"{path}: this is until second {timeline.seconds:.1f}", err=True)
                raise KeyboardInterrupt
            if path in outputs:
                hidden = (lambda track: hides(track.answer)) if blur else None
                follow = partial(show_progress, "drawing", timeline.seconds)
                annotate_video(path, timeline, outputs[path], blur=hidden, follow=follow)
    if annotated is not None:
        click.echo(f"written: {annotated}", err=True)
    finish(failures, 0 if named else 1)


def check_options(rule: Rule | None, k: int, *, videos: bool, blur: bool, annotated: bool) -> None:
    """Refuse options that do not go together, and a missing extra, before the work begins."""
    if blur and not annotated:
        raise click.UsageError("--blur needs --annotated, the file to write")
    if videos and k > 1:
        raise click.UsageError("-k is for pictures: in a video the nearest template or face decides")
    if k > 1 and rule == "template":
        raise click.UsageError("-k over 1 needs --rule rows: each person has one template")
    if videos:
        import_av()


def plan_outputs(given: Sequence[str], annotated: Path) -> dict[str, Path]:
    """Return the file to write for each picture and video; several need a folder, which is made."""
    if len(given) == 1:
        is_video = Path(given[0]).suffix.lower() in VIDEOS
        if not (writable(annotated) if is_video else is_picture_format(annotated)):
            wanted = ", ".join(FORMATS) if is_video else ".png, .jpg or another picture format"
            raise click.UsageError(f"--annotated must end in {wanted}, got {str(annotated)!r}")
        return {given[0]: annotated}
    if annotated.suffix and not annotated.is_dir():
        raise click.UsageError(
            f"--annotated takes one video or picture, or a folder for several, got {str(annotated)!r}"
        )
    annotated.mkdir(exist_ok=True)
    taken: set[str] = set()
    outputs = {}
    for source in given:
        path = Path("stdin.png" if source == "-" else Path(source).name)
        if path.suffix.lower() in VIDEOS:
            path = path if writable(path) else path.with_suffix(".mp4")
        elif not is_picture_format(path):
            path = path.with_suffix(".png")
        outputs[source] = annotated / free_name(path.name, taken)
    return outputs


def is_blurred(blur: Collection[str], answer: Identification) -> bool:
    """Return whether a face is to be blurred: everybody, strangers, or people by name."""
    return "everybody" in blur or (answer.name or "unknown") in blur


def annotate_picture(
    image: Image, found: Sequence[tuple[Face, Identification]], hides: Callable[[Identification], bool] | None
) -> Image:
    """Return the picture with boxes and names drawn on it, or with faces blurred."""
    if hides is not None:
        return blur_faces(image, [face for face, answer in found if hides(answer)])
    labels = [answer.name or "unknown" for _, answer in found]
    known = [answer.name is not None for _, answer in found]
    return draw_faces(image, [face for face, _ in found], labels, known)


def print_pictures(found: Iterable[tuple[str, list[tuple[Face, Identification]]]], *, as_json: bool) -> int:
    """Print who is in each picture, and return how many faces were named."""
    rows: list[tuple[object, ...]] = []
    answers: list[Identification] = []
    for picture, faces in found:
        if as_json:
            records = [
                face_record(number, face) | answer_record(answer) for number, (face, answer) in enumerate(faces)
            ]
            print_json({"picture": picture, "faces": records})
        rows += [(picture, number, *answer_cells(answer)) for number, (_, answer) in enumerate(faces)]
        rows += [] if faces else [(picture, "none", "", "", "")]
        answers += [answer for _, answer in faces]
    if rows and not as_json:
        print_table(["picture", "face", "who", "distance", "note"], rows)
        print_rule(answers)
    return sum(answer.name is not None for answer in answers)


def answer_cells(answer: Identification) -> tuple[str, str, str]:
    """Return the cells of an answer: name, distance and a note."""
    if not answer.matches:
        return "unknown", "", "the gallery is empty"
    nearest, threshold = answer.matches[0], answer.threshold
    if answer.name is None:
        return "unknown", f"{nearest.distance:.4f}", f"nearest {nearest.name}, over {threshold:.4f}"
    distance = next(match.distance for match in answer.matches if match.name == answer.name)
    others = [m.name for m in answer.matches if m.distance <= threshold and m.name != answer.name]
    return answer.name, f"{distance:.4f}", f"ambiguous: also {', '.join(others)}" if answer.ambiguous else ""


def answer_record(answer: Identification) -> dict[str, Any]:
    matches = [
        {"person": match.number, "name": match.name, "distance": match.distance, "votes": match.votes}
        for match in answer.matches
    ]
    return {
        "person": None if answer.named is None else answer.named.number,
        "name": answer.name,
        "ambiguous": answer.ambiguous,
        **{name: getattr(answer, name) for name in RULE},
        "matches": matches,
    }


def print_rule(answers: Iterable[Identification]) -> None:
    """Print each rule, threshold and rate that decided answers once."""
    for text in dict.fromkeys(format_rule(answer) for answer in answers if answer.matches):
        click.echo(text)


def format_rule(answer: Identification) -> str:
    if answer.closed_set:
        return f"rule {answer.rule}, closed set: the nearest is named at any distance"
    text = (
        f"rule {answer.rule}, size {answer.size:,}: threshold {answer.threshold:.4f}, {percent(answer.far)} "
        f"of strangers named ({percent(answer.asked)} asked), population {answer.population}"
    )
    return text if answer.warning is None else f"{text}\nwarning: {answer.warning}"


def search_video(path: str, recognizer: Recognizer, gallery: Gallery, search: VideoSearch) -> Timeline:
    """Return who is in a video, up to the first Ctrl-C."""
    with Video.open(path) as video, catch_interrupt() as interrupted:
        follow = partial(show_progress, "searching", video.seconds, stop=interrupted)
        return identify_video(video, recognizer, gallery, search, follow=follow)


@contextmanager
def catch_interrupt() -> Iterator[Event]:
    """Give an event that the first Ctrl-C sets; the second one ends the command."""
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
    """Yield frames until `stop` is set, with a progress bar on a terminal."""
    columns = ("{task.description}", BarColumn(), "{task.completed:.0f} of {task.total:.0f} s", TimeRemainingColumn())
    with progress_bar(*columns, hidden=seconds is None) as bar:
        shown = bar.add_task(task, total=seconds)
        for frame in frames:
            if stop is not None and stop.is_set():
                return
            yield frame
            bar.update(shown, completed=frame.time)


def print_timeline(path: str, timeline: Timeline, *, as_json: bool) -> int:
    """Print who is in a video, and return how many tracks were named."""
    tracks = timeline.tracks
    if as_json:
        print_json(timeline_record(path, timeline))
    else:
        rows = [
            (path, track.number, clock(track.start), clock(track.end), *answer_cells(track.answer)) for track in tracks
        ]
        columns = ["video", "track", "from", "to", "who", "distance", "note"]
        print_table(columns, rows or [(path, "none", "", "", "", "", "")])
        print_rule(track.answer for track in tracks)
    return sum(track.answer.name is not None for track in tracks)


def clock(seconds: float) -> str:
    """Return minutes and seconds, as a player shows them."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def timeline_record(path: str, timeline: Timeline) -> dict[str, Any]:
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
    """Return a track for JSON; the distance is that of the named person, or of the nearest."""
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
@click.option("--camera", default=0, type=click.IntRange(min=0), help="Which camera of this machine.")
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
    every: float,
    far: float | None,
    as_json: bool,
) -> None:
    """Name the people before a camera, until Ctrl-C.

    A line is printed when a person comes into sight, when better views change the name, and when the person
    has been out of sight for a second. The exit code is 1 if no person was named.
    """
    import_av()
    named = False
    with (
        Gallery.open(gallery_path, recognizer, create=False, keys=keys) as gallery,
        Video.open_camera(camera) if stream is None else Video.open_stream(stream) as video,
        catch_interrupt() as interrupted,
    ):
        watcher = Watcher(recognizer, gallery, VideoSearch(every=every, far=far))
        for track in watch_live(video, watcher, interrupted):
            print_news(track, as_json=as_json)
            named = named or track.answer.name is not None
    finish([], 0 if named else 1)


def watch_live(video: Video, watcher: Watcher, stop: Event) -> Iterator[Track]:
    """Yield tracks that begin, change their name or end, until the video ends or `stop` is set."""
    for frame in video:
        if stop.is_set():
            break
        yield from watcher.look_live(frame)
    yield from watcher.finish()
    if video.damage is not None:
        raise VideoError(video.name, video.damage)


def print_news(track: Track, *, as_json: bool) -> None:
    """Print that somebody has come or left, with the time of day."""
    now = datetime.now().astimezone()
    if as_json:
        print_json({"at": now.isoformat(timespec="milliseconds"), "over": track.over, **track_record(track)})
        return
    name, distance, note = answer_cells(track.answer)
    seen = f"left after {timedelta(seconds=round(track.end - track.start))}" if track.over else "is here"
    text = ", ".join(part for part in (seen, f"distance {distance}" if distance else "", note) if part)
    click.echo(f"{now:%H:%M:%S}  track {track.number}: {name} {text}")
