"""The command that gives a person their data: export-person."""

from __future__ import annotations

from pathlib import Path

import click

from sameface.atomic import replace_file
from sameface.cli.keys import access_file, access_option, opened
from sameface.cli.options import gallery_option
from sameface.cli.output import count
from sameface.cli.unlock import key_options
from sameface.gallery import Gallery
from sameface.gallery.export import export_person as pack_person
from sameface.gallery.keys import Keys
from sameface.service.access import tell_person


@click.command()
@click.argument("name")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The ZIP file to write.")
@gallery_option
@access_option
@key_options
def export_person(*, name: str, output: str, gallery_path: str, access_path: str | None, keys: Keys) -> None:
    """Write everything that is held of the person NAME to a ZIP file, to give it to them.

    It holds JSON in plain terms, the faces that were kept as PNG, the embeddings as numbers, and what the
    audit log says of the person where there is one; nothing of anybody else. Only you may read the file.
    """
    with Gallery.open(gallery_path, keys=keys) as gallery:
        person = gallery.person(name)
        log = None
        if Path(access_file(gallery_path, access_path)).exists():
            with opened(gallery_path, access_path) as access:
                log = [tell_person(entry) for entry in access.entries_of((gallery.origin, person.number))]
        data = pack_person(gallery, person.number, log)
    with replace_file(Path(output), private=True) as part:
        part.write_bytes(data)
    click.echo(f"{person.name}: {count(person.faces, 'face')} in {output}, which only you may read")
