"""Commands that move a gallery to other weights: gallery fit-adapter, gallery upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from sameface.adapter import Adapter, AdapterError, fit_adapter
from sameface.align import align_faces
from sameface.arrays import Embeddings
from sameface.cli.gallery_options import gallery_file_argument, key_options
from sameface.cli.measure import folder_argument
from sameface.cli.options import (
    cache_option,
    detector_parameters,
    existing_file,
    existing_folder,
    json_option,
    load_embedder,
    output_option,
    take_detector,
)
from sameface.cli.output import count, each, finish, print_json, print_table, progress
from sameface.evaluation.cache import EmbeddingCache
from sameface.evaluation.errors import TooFewPairsError
from sameface.evaluation.pictures import NO_FACE, EmbeddedPictures, PictureEmbedder, gather_people
from sameface.evaluation.pipelines import PipelineComparison, compare_pipelines, sample_people
from sameface.evaluation.protocols import read_people
from sameface.face import overlaps
from sameface.gallery.keys import Keys
from sameface.gallery.people import SAME_PLACE
from sameface.gallery.upgrade import PendingFace, Upgrade, UpgradeProgress, confirm_upgrade, discard_upgrade
from sameface.image import read_image
from sameface.picture_files import ImageSource, buffer_image, find_pictures, hash_image
from sameface.recognizer import Recognizer

HELD_OUT = 0.1  # of the people, to measure on
FAR = 1e-3  # of the table, as in the paper
HIDDEN = 2000
ENOUGH = 2000  # pairs: with fewer a linear map is better


@click.command("fit-adapter")
@folder_argument
@click.option("--from", "old", required=True, help="The weights that the gallery was made with.")
@click.option("--from-no-flip", is_flag=True, help="It was made with --no-flip.")
@click.option("--to", "new", required=True, help="The weights to go to.")
@click.option("--no-flip", is_flag=True, help="Go to embeddings without the mirror image.")
@output_option("An .npz file to write.")
@cache_option
@click.option(
    "--hidden",
    type=click.IntRange(min=0),
    help=f"Random ReLU features, 0 for a linear map; {HIDDEN}, or 0 under {ENOUGH} pictures.",
)
@click.option("--seed", default=0, help="Seed of the held-out people.")
@json_option
@detector_parameters
def fit_command(
    *,
    folder: Path,
    old: str,
    from_no_flip: bool,
    new: str,
    no_flip: bool,
    output: Path,
    cache: str,
    hidden: int | None,
    seed: int,
    as_json: bool,
    **detector: Any,
) -> None:
    """Fit a map from old embeddings to new ones, on the pictures of any people, one folder per person.

    A tenth of the people is held out. VAL at a false-accept rate of 0.001 is measured on them for the old
    weights, for the new ones, and for new probes against mapped old embeddings; the thresholds of this
    last pairing are stored in the file.
    """
    recognizers = load_recognizers([(old, from_no_flip), (new, no_flip)], detector)
    photos = read_people(folder)
    paths = [photo.path for photo in photos]
    with EmbeddingCache.open(cache) as kept:
        found = [EmbeddedPictures(list(PictureEmbedder(one, kept).embed_all(progress(paths)))) for one in recognizers]
    before, after = (gather_people(photos, one) for one in found)
    source, target = (recognizer.signature for recognizer in recognizers)
    if source == target:
        raise click.UsageError("--from and --to make the same embeddings: there is nothing to move")
    held = sample_people(before.person, part=HELD_OUT, seed=seed)
    if hidden is None:
        hidden = HIDDEN if (~held).sum() >= ENOUGH else 0
    adapter = fit_adapter(before.rows[~held], after.rows[~held], signatures=(source, target), hidden=hidden)
    old_rows, new_rows, person = before.rows[held], after.rows[held], before.person[held]
    tested = {
        "v1-v1": compare_pipelines(old_rows, old_rows, person),
        "v2-v2": compare_pipelines(new_rows, new_rows, person),
        "v2-v1": compare_pipelines(new_rows, adapter.move(old_rows), person),
    }
    words = f"{len(person):,} pictures of {len(np.unique(person)):,} people in {folder.name}"
    adapter.calibrated(tested["v2-v1"].thresholds(words)).save(output)
    print_fit(adapter, {name: val_or_none(pairing) for name, pairing in tested.items()}, words, as_json=as_json)
    click.echo(f"saved: {output}", err=True)
    finish([reason for reason in found[0].failures if not reason.endswith(NO_FACE)])


def load_recognizers(pipelines: Sequence[tuple[str, bool]], detector: dict[str, Any]) -> list[Recognizer]:
    """Return a recognizer for each pair of weights and no-flip, which share the detector of these options."""
    threads = detector["threads"]
    shared = take_detector(detector)
    return [
        Recognizer(shared, load_embedder(weights, flip=not no_flip, threads=threads)) for weights, no_flip in pipelines
    ]


def print_fit(adapter: Adapter, vals: dict[str, float | None], words: str, *, as_json: bool) -> None:
    if as_json:
        facts = {"source": adapter.source, "target": adapter.target, "pairs": adapter.pairs}
        print_json(facts | {"residual": adapter.residual, "measured_on": words, "far": FAR, "val": vals})
        return
    click.echo(f"fitted on {count(adapter.pairs, 'picture')}, mean residual {adapter.residual:.4f}")
    click.echo(f"measured on {words}")
    rows = [(name, "too few pairs" if val is None else f"{val:.2%}") for name, val in vals.items()]
    print_table(["pairing", f"VAL at FAR {FAR:g}"], rows)


def val_or_none(pairing: PipelineComparison) -> float | None:
    try:
        return pairing.val(FAR)
    except TooFewPairsError:
        return None


@click.command()
@gallery_file_argument
@click.option("--to", "new", help="The weights to go to.")
@click.option("--no-flip", is_flag=True, help="Go to embeddings without the mirror image.")
@click.option("--pictures", type=existing_folder, help="Where to look for the enrolled pictures, by content.")
@click.option("--adapter", "adapter_path", type=existing_file, help="Maps the other faces; from fit-adapter.")
@click.option("--confirm", is_flag=True, help="Put the upgrade into the gallery; this cannot be undone.")
@click.option("--drop-rest", is_flag=True, help="With --confirm: delete faces that could not be moved.")
@click.option("--discard", is_flag=True, help="Delete the unfinished upgrade.")
@json_option
@key_options
@detector_parameters
def upgrade(
    *,
    path: str,
    new: str | None,
    no_flip: bool,
    pictures: Path | None,
    adapter_path: Path | None,
    confirm: bool,
    drop_rest: bool,
    discard: bool,
    as_json: bool,
    keys: Keys,
    **detector: Any,
) -> None:
    """Move GALLERY to other weights: first into GALLERY.upgraded, and back with --confirm.

    Faces with a picture in --pictures are embedded again, the others are mapped by --adapter. The same command
    resumes an interrupted upgrade. Until --confirm the gallery stays as it is; GALLERY.upgraded can be tried
    as soon as no face is left.
    """
    if (new is not None) + confirm + discard != 1:
        raise click.UsageError("give one of --to, --confirm and --discard")
    if drop_rest and not confirm:
        raise click.UsageError("--drop-rest goes with --confirm")
    if discard:
        discard_upgrade(path)
        click.echo(f"discarded: {path} is as it was")
    elif confirm:
        done = confirm_upgrade(path, drop_rest=drop_rest)
        print_reached(done, "deleted" if drop_rest else "left", as_json=as_json)
        if done.warning is not None:
            click.echo(f"warning: {done.warning}", err=True)
    else:
        [recognizer] = load_recognizers([(str(new), no_flip)], detector)
        failures: list[str] = []
        with Upgrade.open(path, recognizer.signature, keys) as begun:
            adapter = None if adapter_path is None else load_adapter(adapter_path, begun)
            if pictures is not None:
                embed_again(begun, recognizer, pictures, failures)
            if adapter is not None and adapter.thresholds is not None:
                begun.adapt(adapter.move, adapter.thresholds)
            reached = begun.progress
        print_reached(reached, "left", as_json=as_json)
        if reached.left:
            click.echo("left: neither their pictures were found nor an adapter given that can move them", err=True)
        finish(failures, 1 if reached.left else 0)


def load_adapter(path: Path, begun: Upgrade) -> Adapter:
    """Return an adapter from the gallery's pipeline to the new one, with its thresholds."""
    adapter = Adapter.load(path)
    if (adapter.source, adapter.target) != (begun.source, begun.target):
        given = f"from {adapter.source} to {adapter.target}"
        raise AdapterError(str(path), f"it leads {given}, wanted from {begun.source} to {begun.target}")
    if adapter.thresholds is None:
        raise AdapterError(str(path), "it has no thresholds: make it with `sameface gallery fit-adapter`")
    return adapter


def embed_again(begun: Upgrade, recognizer: Recognizer, folder: Path, failures: list[str]) -> None:
    pending = begun.pending()

    def work(path: Path) -> None:
        picture = buffer_image(path)
        faces = pending.pop(hash_image(picture), [])
        if faces:
            begun.put(*find_again(recognizer, picture, faces))

    for _ in each(list(find_pictures(folder)), work, failures):
        pass


def find_again(
    recognizer: Recognizer, picture: ImageSource, wanted: Sequence[PendingFace]
) -> tuple[list[PendingFace], Embeddings]:
    """Return the wanted faces that are at their place in a picture, and their embeddings."""
    image = read_image(picture)
    found = recognizer.detector.find(image)
    boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
    kept, chosen = [], []
    for face in wanted if found else ():
        near = overlaps(face.box, boxes)
        if near.max() > SAME_PLACE:
            kept.append(face)
            chosen.append(found[int(near.argmax())])
    embedder = recognizer.embedder
    return kept, embedder.embed(align_faces(image, chosen, embedder.spec.crop))


def print_reached(reached: UpgradeProgress, rest: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"embedded": reached.embedded, "adapted": reached.adapted, rest: reached.left})
    else:
        embedded = count(reached.embedded, "face")
        click.echo(f"{embedded} embedded anew, {reached.adapted} adapted, {reached.left} {rest}")
