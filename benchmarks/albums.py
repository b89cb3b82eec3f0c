"""An album from photographs to names: how many naming actions it takes, and what corrections bring.

    python benchmarks/albums.py ../shared/data CACHE [--people 40] [--pictures 300]

DATA holds `lfw-view1.tar` and `group-photos.tar`. CACHE keeps the made-up album: portraits of the people of View 1 who
have the most, and the group photographs. The face in the middle of a portrait is the person; all others are
bystanders. Groups are named from the largest on, each by the person that most of its faces are, as an owner would
see; then the nearest suggestions are answered. A correction moves the face that is wrong, the most uncertain first.
"""

from __future__ import annotations

import argparse
import itertools
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from report import print_table
from sameface.albums import corrections
from sameface.albums.scan import MIN_QUALITY, scan_folder, update_groups
from sameface.albums.store import Store, StoredFace
from sameface.recognizer import Recognizer

LEAST = 3  # faces of a group that is shown
GOAL = 0.95  # of the faces that are to have their right name
CORRECTIONS = 20
SIDE = 250  # pixels of a photograph of LFW


def make_album(data: Path, folder: Path, people: int, pictures: int) -> None:
    """Write the photographs of the album, if they are not there."""
    if folder.exists():
        return
    with tarfile.open(data / "lfw-view1.tar") as tar:
        portraits: dict[str, list[tarfile.TarInfo]] = {}
        for member in tar.getmembers():
            if member.name.endswith(".jpg"):
                portraits.setdefault(Path(member.name).parent.name, []).append(member)
        chosen = sorted(portraits.items(), key=lambda item: (-len(item[1]), item[0]))[:people]
        share = -(-pictures // people)
        for name, members in chosen:
            for member in sorted(members, key=lambda each: each.name)[:share]:
                place = folder / name / Path(member.name).name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    with tarfile.open(data / "group-photos.tar") as tar:
        for member in tar.getmembers():
            if member.name.endswith(".jpg"):
                place = folder / "groups" / Path(member.name).name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]


def label_faces(store: Store) -> dict[int, str]:
    """Return the person of each face in the middle of a portrait, by its number."""
    nearest: dict[str, tuple[float, int]] = {}
    for face in store.faces():
        if face.files[0].startswith("groups/"):
            continue
        box = face.face.box
        away = float(np.hypot(*((box[:2] + box[2:]) / 2 - SIDE / 2)))
        nearest[face.files[0]] = min(nearest.get(face.files[0], (np.inf, 0)), (away, face.number))
    return {number: Path(file).parent.name for file, (_, number) in nearest.items()}


def count_right(store: Store, labels: dict[int, str]) -> tuple[int, int]:
    """Return how many labelled faces have their right name, and how many faces have a wrong one."""
    people = {face.number: face.person for face in store.faces()}
    right = sum(people[number] == name for number, name in labels.items())
    wrong = sum(person is not None and labels.get(number) != person for number, person in people.items())
    return right, wrong


def truth_of(members: list[StoredFace], labels: dict[int, str]) -> str:
    """Return what an owner calls a group: the person that most of its faces are."""
    return Counter(labels.get(face.number, "bystander") for face in members).most_common(1)[0][0]


def name_everyone(store: Store, labels: dict[int, str]) -> list[tuple[int, float]]:
    """Name groups until the goal is met; return the part that is right after each action."""
    progress: list[tuple[int, float]] = []
    actions = 0
    while count_right(store, labels)[0] < GOAL * len(labels):
        shown = [group for group in store.groups() if group.person is None and group.faces >= LEAST]
        named = {group.person for group in store.groups() if group.person}
        suggestions = [
            (each.distance, name, each.group.number)
            for name in named
            for each in corrections.suggest_groups(store, str(name), most=1)
        ]
        if shown:
            group, members = shown[0].number, store.faces("group_id = ?", shown[0].number)
            corrections.name_group(store, group, truth_of(members, labels))
        elif suggestions:
            _, name, group = min(suggestions)
            truth = truth_of(store.faces("group_id = ?", group), labels)
            if truth == name:
                corrections.name_group(store, group, str(name))
            else:
                corrections.reject_name(store, store.group(group).best, str(name))
        else:
            break
        actions += 1
        progress.append((actions, count_right(store, labels)[0] / len(labels)))
    return progress


def errors(store: Store, labels: dict[int, str]) -> int:
    """Return how many labelled faces lack their name, and others have one."""
    right, wrong = count_right(store, labels)
    return len(labels) - right + wrong


def correct(store: Store, labels: dict[int, str]) -> list[int]:
    """Correct the most uncertain wrong faces, one by one; return the number of errors before and after each."""
    found = [errors(store, labels)]
    for _ in range(CORRECTIONS):
        wrong = [
            face
            for face in store.faces()
            if (face.person or "") != labels.get(face.number, "") and (face.person or face.number in labels)
        ]
        if not wrong:
            break
        face = wrong[0]
        if face.number in labels:
            corrections.confirm_name(store, face.number, labels[face.number])
        else:
            corrections.reject_name(store, face.number, str(face.person))
        found.append(errors(store, labels))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=300)
    given = parser.parse_args()
    folder = given.cache / f"album-{given.people}-{given.pictures}"
    make_album(given.data, folder, given.people, given.pictures)
    state = given.cache / f"{folder.name}.sameface"
    recognizer = Recognizer.load()
    rows = []
    for floor in (0.0, 0.02, 0.05, MIN_QUALITY, 0.2, 0.3):
        with Store.open(state, folder) as store:
            start = time.perf_counter()
            report = scan_folder(store, recognizer)
            seconds = time.perf_counter() - start
            with store.change() as db:
                for table in ("history", "answers", "links", "groups", "people"):
                    db.execute(f"DELETE FROM {table}")
            update_groups(store, recognizer, min_quality=floor)
            labels = label_faces(store)
            shown = [group for group in store.groups() if group.faces >= LEAST]
            junk = sum(truth_of(store.faces("group_id = ?", group.number), labels) == "bystander" for group in shown)
            left_out = len(store.faces("group_id IS NULL"))
            groups = len(store.groups())
            progress = name_everyone(store, labels)
            right, wrong = count_right(store, labels)
            found = correct(store, labels)
            rows.append(
                (
                    floor,
                    len(store.faces()),
                    left_out,
                    groups,
                    len(shown),
                    junk,
                    len(progress),
                    f"{100 * right / len(labels):.1f}",
                    wrong,
                    found[0],
                    found[-1],
                    all(b <= a for a, b in itertools.pairwise(found)),
                )
            )
            print(f"{report.pictures} pictures, {report.searched} searched, {seconds:.1f} s", flush=True)
    print_table(
        (
            "least quality",
            "faces",
            "left out",
            "groups",
            "shown",
            "of bystanders",
            "actions",
            "right %",
            "wrong names",
            "errors",
            f"after {CORRECTIONS}",
            "never rises",
        ),
        [tuple(map(str, row)) for row in rows],
    )


if __name__ == "__main__":
    main()
