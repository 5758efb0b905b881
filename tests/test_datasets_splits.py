"""The split rules: who is held out, what drives whom."""

import numpy as np
import pytest
from scipy.stats import chisquare

from sa0lib.datasets.splits import HELD_OUT, cross_reenactment, held_out_identities, last_frames, self_reenactment

PEOPLE = [f"person{i}" for i in range(40)]


def test_the_last_350_frames_of_a_video_are_held_out():
    train, test = last_frames(1000)
    assert HELD_OUT == 350 and list(train) == list(range(650)) and list(test) == list(range(650, 1000))


@pytest.mark.parametrize("n_frames, held_out", [(2, 1), (300, 100), (351, 350)])
def test_train_and_test_cover_a_video_without_overlap(n_frames, held_out):
    train, test = last_frames(n_frames, held_out)
    assert [*train, *test] == list(range(n_frames)) and len(test) == held_out


@pytest.mark.parametrize("n_frames, held_out", [(350, 350), (100, 350), (10, 0), (10, -1)])
def test_a_video_too_short_to_hold_out_from_is_refused(n_frames, held_out):
    with pytest.raises(ValueError, match=f"held_out must be 1 to {n_frames - 1}"):
        last_frames(n_frames, held_out)


def test_in_self_reenactment_the_first_frame_is_the_source_of_all_others():
    source, targets = self_reenactment(50)
    assert source == 0 and list(targets) == list(range(1, 50))
    with pytest.raises(ValueError, match="2 frames, not 1"):
        self_reenactment(1)


def test_in_cross_reenactment_the_next_clip_drives_and_the_first_drives_the_last():
    assert cross_reenactment(["a", "b", "c", "d"]) == [(0, 1), (1, 2), (2, 3), (3, 0)]


def test_no_one_is_driven_by_the_same_person():
    identities = ["a", "a", "b", "b", "a"]
    pairs = cross_reenactment(identities)
    assert pairs == [(0, 2), (1, 2), (2, 4), (3, 4), (4, 2)]
    assert all(identities[source] != identities[driver] for source, driver in pairs)


def test_clips_of_one_person_cannot_cross_reenact():
    with pytest.raises(ValueError, match="two people"):
        cross_reenactment(["a", "a"])


def test_all_clips_of_a_held_out_person_are_held_out():
    clips = PEOPLE * 3 + PEOPLE[:7]
    held = held_out_identities(clips, 5)
    assert len(held) == 5 and held == held_out_identities(reversed(clips), 5) <= set(PEOPLE)


def test_everyone_is_held_out_equally_often():
    """Chi-square over 2000 seeds; a right rule fails with a probability of 1e-4 (the seeds are fixed)."""
    counts = dict.fromkeys(PEOPLE, 0)
    for seed in range(2000):
        for person in held_out_identities(PEOPLE, 4, seed):
            counts[person] += 1
    # four of forty without replacement: a person's count varies by 0.9 of what independent draws would give
    assert chisquare(np.array(list(counts.values()))).pvalue > 1e-4


def test_a_person_more_moves_at_most_one_other():
    before, after = held_out_identities(PEOPLE, 8), held_out_identities([*PEOPLE, "newcomer"], 8)
    assert len(before - after) <= 1


@pytest.mark.parametrize("count", [0, 40, 41])
def test_a_slice_that_holds_out_no_one_or_everyone_is_refused(count):
    with pytest.raises(ValueError, match="count must be 1 to 39"):
        held_out_identities(PEOPLE, count)
