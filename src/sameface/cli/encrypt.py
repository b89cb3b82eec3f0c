"""Commands on what protects a gallery: gallery new-key, encrypt, decrypt, rotate-key; and compact."""

from __future__ import annotations

from pathlib import Path

import click

from sameface.cli.options import gallery_argument, gallery_file_argument
from sameface.cli.output import count, warn
from sameface.cli.unlock import ENCRYPTION, encryption_option, find_key, key_path
from sameface.gallery import Gallery
from sameface.gallery.encryption import KeyChange, decrypt_gallery, encrypt_gallery, rotate_data_key, rotate_key
from sameface.gallery.keys import Key, KeyFile, KeySource, write_key


@click.command("new-key")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to make.")
def new_key(*, output: Path) -> None:
    """Make a key of 32 random bytes, in a new file that only you may read.

    Keep a copy of it where the gallery is not: without the key an encrypted gallery is lost.
    """
    key = Key.generate()
    write_key(output, key)
    click.echo(f"{output}: key {key.fingerprint}; keep a copy where the gallery is not")


@click.command()
@gallery_file_argument
@encryption_option
def encrypt(*, path: str, key_file: str | None) -> None:
    """Encrypt the embeddings and crops in the file GALLERY, with AES-256-GCM.

    No plain one stays in the file, its log or its index. Names, boxes, hashes of pictures and notes stay
    readable. An encrypted gallery is only written anew, as after a command that another program disturbed.
    """
    done = encrypt_gallery(path, need_key(key_file))
    tell(f"{path} is encrypted: {count(done.faces, 'face')} changed", done)


@click.command()
@gallery_file_argument
@encryption_option
def decrypt(*, path: str, key_file: str | None) -> None:
    """Take the encryption of the file GALLERY away."""
    done = decrypt_gallery(path, need_key(key_file))
    tell(f"{path} is not encrypted any more: {count(done.faces, 'face')} changed", done)


@click.command("rotate-key")
@gallery_file_argument
@encryption_option
@click.option("--new-key-file", type=key_path, help="The key that opens the gallery from now on.")
@click.option("--data-key", is_flag=True, help="Also encrypt every row anew with another data key.")
def rotate(*, path: str, key_file: str | None, new_key_file: str | None, data_key: bool) -> None:
    """Change the key of the encrypted file GALLERY while it is in use.

    Programs that have it open go on; put the new key where they look for it before they start anew. With
    --data-key the old data key is destroyed in the end; what is interrupted goes on when it is said again.
    """
    if new_key_file is None and not data_key:
        raise click.UsageError("give --new-key-file, --data-key or both")
    old = need_key(key_file)
    if data_key:
        done = rotate_data_key(path, old)
        tell(f"{count(done.faces, 'face')} encrypted anew, the old data key is destroyed", done)
    if new_key_file is not None:
        done = rotate_key(path, old, KeyFile(new_key_file))
        tell(f"{path} is opened by the key in {new_key_file} now", done)


@click.command()
@gallery_argument
def compact(*, path: str) -> None:
    """Write GALLERY, a file or an address, anew, so that no byte of what was deleted stays in it.

    After a deletion this is done at once in a small file. In one of over 16 MB the rows are deleted and
    overwritten, but copies that SQLite has made of them may stay in unused parts of its pages until this.
    """
    with Gallery.open(path, create=False) as opened:
        opened.compact()
    click.echo(f"{path} is compact: nothing of what was deleted is left in it")


def tell(words: str, done: KeyChange) -> None:
    """Print what was done, and on stderr what could not be cleaned up after it."""
    click.echo(words)
    warn(done.warning)


def need_key(path: str | None) -> KeySource:
    """Return where the encryption key is, or fail as wrong usage."""
    key = find_key(path, ENCRYPTION)
    if key is None:
        raise click.UsageError(f"give --key-file, {ENCRYPTION} or {ENCRYPTION}_COMMAND")
    return key
