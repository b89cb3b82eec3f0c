"""The command that names who is in pictures and videos: identify."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sameface.cli.answers import answer_record, describe, print_rule
from sameface.cli.options import every_option, far_option, gallery_option, json_option, recognizer_options
from sameface.cli.output import each, face_record, finish, list_pictures, open_source, print_json, print_table
from sameface.cli.unlock import key_options
from sameface.face import Face
from sameface.gallery import Gallery, Identification
from sameface.recognizer import Recognizer
from sameface.video.ffmpeg import import_av

ENDINGS = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv 3gp ogv"
VIDEOS = frozenset(f".{ending}" for ending in ENDINGS.split())


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "-k",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many nearest faces vote, in pictures; more than 1 means --rule rows.",
)
@click.option(
    "--rule",
    type=click.Choice(["template", "rows"]),
    help="Compare with one template per person, the mean of their faces (the default), or with every face.",
)
@click.option("--closed-set", is_flag=True, help="Everyone is enrolled for certain: name the nearest.")
@click.option(
    "--annotated",
    type=click.Path(dir_okay=False),
    help="Write the video with faces and names: a file ending in .mp4, .mov or .mkv.",
)
@every_option
@gallery_option
@key_options
@far_option
@json_option
@recognizer_options
def identify(*, recognizer: Recognizer, pictures: tuple[str, ...], gallery_path: str, **choices: Any) -> None:
    """Name every face in PICTURES (files, folders, or - for stdin), or reject it as a stranger.

    A file whose name ends as that of a video, such as .mp4, is one: everybody who comes into sight is named
    once, with the time. This needs sameface[video]. Pictures come before videos.

    --far is the part of the strangers that may be given a name, 0.01 by default; the threshold follows from
    it and from the size of the gallery. Where the calibration does not reach that far, the default holds a
    larger rate and says so, and a --far that was given is refused. The exit code is 1 if nobody at all was
    named.
    """
    given = list_pictures(pictures)
    videos = [path for path in given if Path(path).suffix.lower() in VIDEOS]
    if choices["annotated"] is not None and len(videos) != 1:
        raise click.UsageError("--annotated takes one video")
    if videos and choices["k"] > 1:
        raise click.UsageError("-k is for pictures: in a video the nearest template or face decides")
    if choices["k"] > 1 and choices["rule"] == "template":
        raise click.UsageError("-k over 1 needs --rule rows: each person has one template")
    if videos:
        import_av()  # a missing extra is told before the gallery is opened
        tell_videos = importlib.import_module("sameface.cli.video").tell_videos
    failures: list[str] = []
    with Gallery.open(gallery_path, recognizer, create=False, keys=choices["keys"]) as gallery:
        if gallery.thresholds != recognizer.thresholds:
            click.echo(f"thresholds of the gallery: {gallery.thresholds.calibrated_on}", err=True)
        stills = [path for path in given if path not in videos]
        named = tell_pictures(stills, recognizer, gallery, choices, failures)
        if videos:
            named += tell_videos(videos, recognizer, gallery, choices, failures)
    finish(failures, 0 if named else 1)


def tell_pictures(
    pictures: Sequence[str], recognizer: Recognizer, gallery: Gallery, choices: dict[str, Any], failures: list[str]
) -> int:
    """Tell who is in each picture, and return how many faces were named."""
    search = {name: choices[name] for name in ("k", "far", "closed_set", "rule")}
    table: list[tuple[object, ...]] = []
    given: list[Identification] = []
    named = 0

    def work(picture: str) -> list[tuple[Face, Identification]]:
        faces, rows = recognizer.embed(open_source(picture))
        return list(zip(faces, gallery.identify(rows, **search), strict=True))

    for picture, answers in each(pictures, work, failures):
        named += sum(answer.name is not None for _, answer in answers)
        if choices["as_json"]:
            records = [
                face_record(number, face) | answer_record(answer) for number, (face, answer) in enumerate(answers)
            ]
            print_json({"picture": picture, "faces": records})
        table += [(picture, number, *describe(answer)) for number, (_, answer) in enumerate(answers)]
        table += [] if answers else [(picture, "none", "", "", "")]
        given += [answer for _, answer in answers]
    if table and not choices["as_json"]:
        print_table(["picture", "face", "who", "distance", "note"], table)
        print_rule(given)
    return named
