"""P people with K pictures: what each step sees."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.training.sampler import Stage, draw_batches, share


def owners(*counts: int) -> np.ndarray:
    """Return the person on each picture, for people with so many pictures."""
    return np.repeat(np.arange(len(counts)), counts)


STAGES = (Stage(0, 4, 3, 0.2),)


def take(owner, count, *, stages=STAGES, seed=0, start=0):
    return list(itertools.islice(draw_batches(owner, stages, seed=seed, start=start), count))


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("people", "pictures"), [(2, 2), (4, 3), (8, 6)])
def test_a_batch_has_p_people_with_k_pictures_of_each(people: int, pictures: int) -> None:
    owner = owners(*[6] * 40)
    for batch in take(owner, 50, stages=[Stage(0, people, pictures, 0.2)]):
        numbers, counts = np.unique(owner[batch], return_counts=True)
        assert len(numbers) == people
        assert (counts == pictures).all()


def test_every_picture_is_seen_equally_often_where_k_divides_the_folders() -> None:
    owner = owners(*[6] * 20)
    seen = np.bincount(np.concatenate(take(owner, 30)), minlength=120)  # 30 * 12 = 3 epochs of 120
    assert set(seen) == {3}


def test_a_folder_that_k_does_not_divide_repeats_just_enough_to_fill_the_last_group() -> None:
    owner = owners(*[7] * 12)  # 3 groups of 3 each: 9 places for 7 pictures
    seen = np.bincount(np.concatenate(take(owner, 9)), minlength=84)  # one epoch: 9 * 12 = 12 * 9
    assert set(seen) == {1, 2}
    assert (seen == 2).sum() == 12 * 2


def test_no_picture_is_twice_in_a_batch_even_where_two_epochs_meet() -> None:
    for counts in ([4] * 5, [3, 7, 5, 1, 1], [2, 2]):
        for batch in take(owners(*counts), 200, stages=[Stage(0, 4, 3, 0.2)]):
            assert len(np.unique(batch)) == len(batch)


def test_who_has_fewer_than_k_pictures_comes_with_all_of_them_once() -> None:
    owner = owners(2, *[3] * 20)
    batches = take(owner, 200)
    with_first = [batch for batch in batches if (owner[batch] == 0).any()]
    assert with_first
    assert all((owner[batch] == 0).sum() == 2 for batch in with_first)


def test_people_with_one_picture_are_seen_and_a_batch_then_holds_more_people_than_p() -> None:
    owner = owners(*[1] * 30, *[3] * 30)
    batches = take(owner, 40)
    assert set(range(30)) <= set(owner[np.concatenate(batches)])
    assert max(len(np.unique(owner[batch])) for batch in batches) > 4
    assert all(10 <= len(batch) <= 12 for batch in batches)  # a group of 3 finds no room in 2


def test_fewer_people_than_p_fill_the_batch_with_other_pictures_of_theirs() -> None:
    owner = owners(12, 12)
    batches = take(owner, 8)
    assert all(len(batch) == len(np.unique(batch)) == 12 for batch in batches)
    assert all(len(np.unique(owner[batch])) == 2 for batch in batches)


def test_a_batch_is_smaller_where_everybody_is_in_it_with_every_picture() -> None:
    assert [sorted(batch.tolist()) for batch in take(owners(3, 3), 4)] == [list(range(6))] * 4


def test_a_person_with_nearly_all_pictures_does_not_pile_up() -> None:
    owner = owners(3000, 3, 3)
    seen = np.bincount(np.concatenate(take(owner, 1000)), minlength=len(owner))
    assert seen[:3000].min() >= 1000 * 12 // 3006 - 1


def test_the_same_seed_gives_the_same_batches_and_another_seed_others() -> None:
    owner = owners(*range(1, 12))
    assert same(take(owner, 60), take(owner, 60))
    assert not same(take(owner, 60), take(owner, 60, seed=1))


def test_two_epochs_differ() -> None:
    owner = owners(*[6] * 20)
    batches = take(owner, 20)
    assert not same(batches[:10], batches[10:])


@pytest.mark.parametrize("start", [0, 1, 17, 59])
def test_a_run_that_starts_at_a_later_step_gets_the_batches_that_were_left(start: int) -> None:
    owner = owners(*range(1, 12))
    stages = [Stage(0, 4, 3, 0.2), Stage(20, 6, 3, 0.2), Stage(30, 2, 5, 0.3)]
    whole = take(owner, 60, stages=stages)
    assert same(whole[start:], take(owner, 60 - start, stages=stages, start=start))


def test_p_and_k_change_at_the_step_of_their_stage() -> None:
    owner = owners(*[10] * 30)
    batches = take(owner, 6, stages=[Stage(0, 4, 2, 0.2), Stage(3, 8, 2, 0.2), Stage(5, 8, 5, 0.2)])
    found = [np.unique(owner[batch], return_counts=True) for batch in batches]
    assert [(len(people), counts[0]) for people, counts in found] == [*[(4, 2)] * 3, *[(8, 2)] * 2, (8, 5)]


def test_the_parts_of_all_processes_are_the_batch_in_order() -> None:
    batch = take(owners(*[6] * 20), 1)[0]
    for world in (1, 2, 3, 5, 20):
        parts = [share(batch, rank, world) for rank in range(world)]
        assert np.array_equal(np.concatenate(parts), batch)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 15), min_size=1, max_size=12).filter(any),
    people=st.integers(2, 6),
    pictures=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_whatever_the_folders_batches_keep_their_size_and_everyone_is_seen(
    counts: list[int], people: int, pictures: int, seed: int
) -> None:
    owner = owners(*counts)
    groups = sum(-(-count // pictures) for count in counts)
    batches = take(owner, 2 * groups + 2, stages=[Stage(0, people, pictures, 0.2)], seed=seed)
    assert all(0 < len(batch) <= people * pictures for batch in batches)
    assert all(len(np.unique(batch)) == len(batch) for batch in batches)
    assert set(np.concatenate(batches).tolist()) == set(range(len(owner)))
