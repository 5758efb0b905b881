"""The samplers of App. A.2 follow their distributions.

Each comparison with a distribution is a chi-square test that a right sampler fails with a probability of 1e-4 (seeds
are fixed, so it does so always or never); about 15 of them run here.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from toy_collection import toy_clip

from sa0lib.datasets.samplers import (
    Recipe,
    SamplerConfig,
    dissimilarity,
    draw_frames,
    draw_recipe,
    phase_1,
    phase_2,
    source_probabilities,
    temperature,
)
from sa0lib.rotation import axis_angle_to_matrix, matrix_to_axis_angle

FALSE_ALARM = 1e-4
DRAWS = 3000
CONFIG = phase_1(1000)


def follows(values, probabilities: dict) -> bool:
    """Whether `values` were drawn with these probabilities, and never anything else."""
    counts, possible = Counter(values), {value: p for value, p in probabilities.items() if p > 0}
    assert counts.keys() <= possible.keys(), "drew what has probability zero"
    expected = np.array(list(possible.values())) * len(values)
    return chisquare([counts[value] for value in possible], expected).pvalue > FALSE_ALARM


def uniform(values) -> dict:
    values = list(values)
    return dict.fromkeys(values, 1 / len(values))


def draws(clip, recipe, count=DRAWS, config=CONFIG):
    rng = np.random.default_rng(7)
    return [draw_frames(clip, recipe, config, rng) for _ in range(count)]


def test_k_is_uniform_from_one_to_four():
    rng = np.random.default_rng(1)
    assert follows([draw_recipe(0, CONFIG, rng).k for _ in range(DRAWS)], uniform([1, 2, 3, 4]))


def test_phase_1_draws_frames_of_a_clip():
    rng = np.random.default_rng(2)
    assert {draw_recipe(0, CONFIG, rng).mode for _ in range(100)} == {"clip"}


def test_three_quarters_of_the_batches_of_phase_2_are_across_cameras():
    rng, config = np.random.default_rng(3), phase_2(10)
    modes = [draw_recipe(0, config, rng).mode for _ in range(DRAWS)]
    assert follows(modes, {"cross_camera": 0.75, "cross_time": 0.25})


def test_mode_and_k_are_independent():
    rng, config = np.random.default_rng(4), phase_2(10)
    recipes = [draw_recipe(0, config, rng) for _ in range(DRAWS)]
    shares = {"cross_camera": 0.75, "cross_time": 0.25}
    both = {(k, mode): share / 4 for k in (1, 2, 3, 4) for mode, share in shares.items()}
    assert follows([(recipe.k, recipe.mode) for recipe in recipes], both)


def test_the_temperature_falls_linearly_over_the_first_quarter_and_then_stays():
    values = [temperature(step, CONFIG) for step in (0, 125, 250, 251, 1000)]
    assert values == [2.0, 1.25, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("mode", ["clip", "cross_camera", "cross_time"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_sample_has_k_sources_and_never_its_target(mode, k):
    for target, sources in draws(toy_clip(6, 6), Recipe(k, mode, 0.5), 200):
        assert len(sources) == k and len({target, *sources}) == k + 1


def test_the_target_is_uniform():
    assert follows([target for target, _ in draws(toy_clip(8), Recipe(2, "clip", 0.5))], uniform(range(8)))


@pytest.mark.parametrize("tau", [2.0, 0.5])
def test_the_first_source_follows_the_softmax_of_dissimilarity(tau):
    clip = toy_clip(6)
    pairs = [(target, sources[0]) for target, sources in draws(clip, Recipe(3, "clip", tau), 6000)]
    expected = {}
    for target in range(6):
        pool = np.array([i for i in range(6) if i != target])
        d = dissimilarity(clip, target, pool, CONFIG).numpy()
        weights = np.exp(d / tau)
        expected |= {(target, i): w / weights.sum() / 6 for i, w in zip(pool.tolist(), weights, strict=True)}
    assert follows(pairs, expected)


def test_the_other_sources_are_uniform_among_those_left():
    clip = toy_clip(5)
    rows = [(target, *sources) for target, sources in draws(clip, Recipe(2, "clip", 0.5), 6000)]
    for (target, first), count in Counter(row[:2] for row in rows).most_common(2):
        rest = [row[2] for row in rows if row[:2] == (target, first)]
        assert count > 300 and follows(rest, uniform(set(range(5)) - {target, first}))


def test_heat_makes_the_first_source_uniform_and_cold_the_most_dissimilar():
    clip, pool = toy_clip(8), np.arange(1, 8)
    worst = int(dissimilarity(clip, 0, pool, CONFIG).argmax())
    hot, warm, cold = (source_probabilities(clip, 0, pool, Recipe(1, "clip", t), CONFIG) for t in (1e6, 2.0, 1e-3))
    assert np.allclose(hot, 1 / 7, atol=1e-5) and cold[worst] > 0.999
    assert 1 / 7 < warm[worst] < source_probabilities(clip, 0, pool, Recipe(1, "clip", 0.5), CONFIG)[worst]


def test_a_copy_of_the_target_is_the_least_likely_first_source():
    clip = toy_clip(6)
    for name in ("expr", "rotation", "neck"):
        clip.params[name][4] = clip.params[name][0]
    d = dissimilarity(clip, 0, np.arange(1, 6), CONFIG)
    assert d[3] == 0 and d.argmin() == 3 and d.max() <= 2


def turned(clip, rotations):
    """The same pictures, with the rotations of the head in the cameras and none in the pose."""
    viewmat = clip.viewmat.clone()
    viewmat[:, :3, :3] = viewmat[:, :3, :3] @ rotations
    zero = {name: torch.zeros_like(clip.params[name]) for name in ("rotation", "neck")}
    return replace(clip, viewmat=viewmat, params=clip.params | zero)


def test_head_rotation_in_the_pose_and_in_the_camera_give_the_same_dissimilarity():
    clip, pool = toy_clip(8), np.arange(1, 8)
    rotation, neck = (axis_angle_to_matrix(clip.params[name]) for name in ("rotation", "neck"))
    moved = turned(clip, rotation @ neck)
    assert torch.allclose(dissimilarity(moved, 0, pool, CONFIG), dissimilarity(clip, 0, pool, CONFIG), atol=1e-5)
    assert not torch.allclose(turned(clip, rotation).direction, clip.direction, atol=1e-2)


def test_turning_head_and_camera_together_changes_nothing():
    clip, pool = toy_clip(5), np.arange(1, 5)
    world = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 0.3]))
    viewmat = clip.viewmat.clone()
    viewmat[:, :3, :3] = viewmat[:, :3, :3] @ world.T
    rotation = matrix_to_axis_angle(world @ axis_angle_to_matrix(clip.params["rotation"]))
    moved = replace(clip, viewmat=viewmat, params=clip.params | {"rotation": rotation})
    assert torch.allclose(dissimilarity(moved, 0, pool, CONFIG), dissimilarity(clip, 0, pool, CONFIG), atol=1e-4)


@pytest.mark.parametrize("weights, names", [((1, 0), ("rotation", "neck")), ((0, 1), ("expr",))])
def test_each_weight_turns_its_own_term_on(weights, names):
    clip, pool = toy_clip(5), np.arange(1, 5)
    config = SamplerConfig(10, direction_weight=weights[0], expression_weight=weights[1])
    before = dissimilarity(clip, 0, pool, config)
    still = {name: torch.zeros_like(clip.params[name]) for name in names}
    after = dissimilarity(replace(clip, params=clip.params | still), 0, pool, config)
    assert before.max() == pytest.approx(1) and after.max() < 1e-3


def test_a_tracker_s_jitter_does_not_count_as_dissimilar():
    clip = toy_clip(6)
    for name in ("expr", "rotation", "neck"):
        clip.params[name] *= 1e-3
    p = source_probabilities(clip, 0, np.arange(1, 6), Recipe(1, "clip", 0.5), CONFIG)
    assert p.max() / p.min() < 1.1


def test_cross_camera_sources_are_other_cameras_at_the_same_instant():
    clip = toy_clip(4, 6)
    for target, sources in draws(clip, Recipe(4, "cross_camera", 0.5), 200):
        assert {int(clip.timestep[i]) for i in sources} == {int(clip.timestep[target])}
        assert len({int(clip.camera_index[i]) for i in (target, *sources)}) == 5


def test_cross_camera_targets_are_uniform_over_instants_and_cameras():
    rows = draws(toy_clip(4, 6), Recipe(2, "cross_camera", 0.5))
    assert follows([target for target, _ in rows], uniform(range(24)))


def test_cross_camera_skips_instants_that_too_few_cameras_saw():
    clip = toy_clip(3, 4)
    keep = torch.tensor([i for i in range(12) if i not in (5, 6)])  # instant 1 has two cameras left
    part = replace(
        clip,
        **{name: getattr(clip, name)[keep] for name in ("K", "viewmat", "size", "face_box", "timestep")},
        camera_index=clip.camera_index[keep],
        params={name: value[keep] for name, value in clip.params.items()},
    )
    assert {int(part.timestep[t]) for t, _ in draws(part, Recipe(2, "cross_camera", 0.5), 200)} == {0, 2}


def test_cross_time_with_one_source_is_the_same_camera_at_another_instant():
    clip = toy_clip(5, 3)
    rows = draws(clip, Recipe(1, "cross_time", 0.5))
    assert all(clip.camera_index[target] == clip.camera_index[sources[0]] for target, sources in rows)
    assert all(clip.timestep[target] != clip.timestep[sources[0]] for target, sources in rows)
    assert follows([target for target, _ in rows], uniform(range(15)))


def test_cross_time_with_more_sources_is_as_many_instants_from_any_camera():
    clip = toy_clip(5, 3)
    rows = draws(clip, Recipe(3, "cross_time", 0.5))
    for target, sources in rows:
        assert len({int(clip.timestep[i]) for i in (target, *sources)}) == 4
    assert follows([target for target, _ in rows], uniform(range(15)))
    assert follows([int(clip.camera_index[sources[2]]) for _, sources in rows], uniform(range(3)))


def test_the_same_seed_draws_the_same_frames():
    clip, recipe = toy_clip(6, 6), Recipe(3, "cross_time", 1.0)
    assert draws(clip, recipe, 20) == draws(clip, recipe, 20)


@pytest.mark.parametrize(
    "mode, clip, words",
    [
        ("clip", toy_clip(4), "4 frames, this draw needs 5"),
        ("cross_camera", toy_clip(9, 4), "4 cameras at one instant, this draw needs 5"),
        ("cross_time", toy_clip(4, 9), "4 instants, this draw needs 5"),
    ],
)
def test_a_clip_that_is_too_short_is_refused_by_what_it_lacks(mode, clip, words):
    with pytest.raises(ValueError, match=words):
        draw_frames(clip, Recipe(4, mode, 0.5), CONFIG, np.random.default_rng(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"max_sources": 0},
        {"cross_camera": 1.5},
        {"temperature_end": 0},
        {"anneal_share": 2},
        {"direction_weight": -1.0},
        {"expression_weight": float("nan")},
    ],
)
def test_a_configuration_out_of_range_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes)).removesuffix("_end")):
        SamplerConfig(**({"steps": 10} | changes))
