"""Procedural skins: reproducible, in range, following traits, and painted where the features are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from data_scripts.worlds.skin import paint, sample_skin
from data_scripts.worlds.skin.atlas import IRIS_RADIUS, make_atlas
from data_scripts.worlds.skin.noise import cellular, gradient, octaves, speckles, waves
from data_scripts.worlds.traits import Traits, sample_traits
from sa0lib.head import load_head

SIZE = 256
ADULT = Traits(gender=0.2, age=30, muscle=0.5, weight=0.5, height=0.5, african=0.3, asian=0.3, caucasian=0.4)
FAMILIES = ("a", "b", "c")


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def atlas(head):
    return make_atlas(head, SIZE)


def skin(seed=0, family="a", traits=ADULT, **changes):
    return replace(sample_skin(np.random.default_rng(seed), traits, family), **changes)


def bare(seed=0, family="a", **changes):
    """A skin without make-up."""
    drawn = skin(seed, family, **changes)
    return replace(drawn, makeup=replace(drawn.makeup, foundation=0.0, blush=0.0, shadow=0.0, liner=0.0, lipstick=0.0))


def sample(image, uv):
    """Bilinear lookup of an [N, N] image at [n, 2] texture coordinates, as a renderer does it."""
    n = len(image)
    return map_coordinates(image, [(1 - uv[:, 1]) * n - 0.5, uv[:, 0] * n - 0.5], order=1, mode="nearest")


def at_landmarks(head, image, numbers):
    """Colour [n, 3] at MediaPipe landmarks."""
    face, bary = head.lmk478_face[numbers], head.lmk478_bary[numbers]
    uv = (head.vt[head.ft[face]] * bary[..., None]).sum(1).numpy()
    return np.stack([sample(image[..., c], uv) for c in range(3)], axis=1)


def redness(color):
    return color[..., 0] / color[..., 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_gives_the_same_maps(atlas, family):
    one, two = paint(skin(3, family), atlas), paint(skin(3, family), atlas)
    for name in ("base_color", "roughness", "height"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


def test_another_seed_gives_another_skin(atlas):
    assert np.abs(paint(skin(3), atlas).base_color - paint(skin(4), atlas).base_color).mean() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_finite_float32_and_in_range(atlas, family):
    maps = paint(skin(5, family, wrinkles=1.0, moles=20, freckles=1.0, age_spots=1.0, stubble=1.0), atlas)
    for image, shape, low, high in (
        (maps.base_color, (SIZE, SIZE, 3), 0.0, 1.0),
        (maps.roughness, (SIZE, SIZE), 0.04, 1.0),
        (maps.height, (SIZE, SIZE), -0.004, 0.004),
    ):
        assert image.shape == shape and image.dtype == np.float32
        assert np.isfinite(image).all() and low <= image.min() and image.max() <= high


@pytest.mark.parametrize("family", FAMILIES)
def test_less_melanin_gives_lighter_skin(atlas, family):
    rows = atlas.skin.rows
    maps = [paint(bare(1, family, melanin=m), atlas) for m in (0.1, 0.6, 1.2, 2.2)]
    tones = [m.base_color[atlas.valid][rows].mean() for m in maps]
    assert all(light > 1.2 * dark for light, dark in zip(tones[:-1], tones[1:], strict=True))


def test_tone_follows_ancestry_with_spread():
    rng = np.random.default_rng(0)
    drawn = {}
    for name in ("african", "caucasian"):
        only = {other: float(other == name) for other in ("african", "asian", "caucasian")}
        drawn[name] = np.array([sample_skin(rng, replace(ADULT, **only), "a").melanin for _ in range(200)])
    assert drawn["african"].mean() > drawn["caucasian"].mean() + 0.8
    assert all(values.std() > 0.12 for values in drawn.values())


def test_tones_cover_the_human_range():
    rng = np.random.default_rng(0)
    tones = [sample_skin(rng, sample_traits(rng), "a").melanin for _ in range(300)]
    shares = np.histogram(tones, [0, 0.2, 0.5, 1.0, 1.6, 2.5])[0] / len(tones)
    assert shares.min() > 0.04


def test_lips_are_redder_than_the_skin_around_them(head, atlas):
    color = paint(bare(2, melanin=0.3, stubble=0.0), atlas).base_color
    lips = redness(at_landmarks(head, color, [72, 302, 11, 85, 315, 16]))
    around = redness(at_landmarks(head, color, [167, 393, 164, 182, 406, 18]))
    assert lips.min() > 1.15 * around.max()


def test_women_wear_lipstick_more_often_than_men():
    rng = np.random.default_rng(0)
    women, men = (
        np.mean([sample_skin(rng, replace(ADULT, gender=g), "a").makeup.lipstick > 0 for _ in range(100)])
        for g in (0, 1)
    )
    assert women > 0.2 and men == 0


def test_lipstick_stays_on_the_lips(atlas):
    worn = skin(2)
    plain = replace(worn, makeup=replace(worn.makeup, lipstick=0.0))
    painted = replace(worn, makeup=replace(worn.makeup, lipstick=1.0, lipstick_color=(0.4, 0.0, 0.0)))
    change = np.abs(paint(painted, atlas).base_color - paint(plain, atlas).base_color).max(-1)[atlas.valid]
    lip = np.full(len(change), -1.0)
    lip[atlas.skin.rows] = atlas.skin.lip
    assert change[lip < -0.001].max() == 0
    assert np.median(change[lip > 0.002]) > 0.02


def off_axis(head, atlas, name):
    """Texels on the front half of that eyeball, and how far [n, 2] metres they lie off its gaze axis."""
    ball = head.v_template.numpy()[(head.region == head.region_names.index(name)).numpy()]
    here = atlas.region == head.region_names.index(name)
    rows = np.flatnonzero(here & (atlas.position[:, 2] > ball[:, 2].mean()))
    return rows, atlas.position[rows, :2] - ball[0, :2]  # its first vertex is the front pole


@pytest.mark.parametrize("name", ["eye_left", "eye_right"])
def test_irises_are_round_centred_and_of_human_size(head, atlas, name):
    color = paint(skin(6, iris_outer=(0.0, 0.0, 0.5), iris_inner=(0.0, 0.0, 0.5)), atlas).base_color[atlas.valid]
    rows, offset = off_axis(head, atlas, name)
    reach = np.hypot(*offset.T)
    blue = color[rows, 2] > 2 * color[rows, 0]
    assert 0.0055 < IRIS_RADIUS < 0.0062
    assert reach[blue].max() < IRIS_RADIUS + 1.5 * atlas.eyes.texel
    assert blue[(reach > 0.6 * IRIS_RADIUS) & (reach < 0.8 * IRIS_RADIUS)].all()
    assert np.abs(offset[blue].mean(0)).max() < atlas.eyes.texel


def test_pupils_are_dark_and_whites_are_pale(head, atlas):
    color = paint(skin(6, veins=0.0), atlas).base_color[atlas.valid][atlas.eyes.rows]
    reach = atlas.eyes.radius * np.hypot(*atlas.eyes.direction[:, :2].T)
    front = atlas.eyes.direction[:, 2] > 0
    assert color[front & (reach < 0.5e-3)].max() < 0.03
    assert color[front & (reach > 0.0075) & (reach < 0.010)].min() > 0.2


@pytest.mark.parametrize("family", FAMILIES)
def test_age_adds_relief(atlas, family):
    young, old = (paint(bare(7, family, wrinkles=w), atlas).height[atlas.valid] for w in (0.05, 1.0))
    for name in ("forehead", "crow", "nasolabial"):
        rows = atlas.skin.rows[atlas.skin.folds[name].rows]
        spread = [np.ptp(np.percentile(height[rows], [1, 99])) for height in (young, old)]  # metres
        assert spread[1] > 2.5 * spread[0] and spread[1] > 1.8e-4


def test_older_people_have_more_wrinkles():
    rng = np.random.default_rng(0)
    young, old = (
        np.mean([sample_skin(rng, replace(ADULT, age=age), "a").wrinkles for _ in range(50)]) for age in (20, 75)
    )
    assert old > young + 0.5


def test_families_paint_the_same_person_differently(atlas):
    base = bare(8, melanin=0.5)
    color = {f: paint(replace(base, family=f), atlas).base_color[atlas.valid][atlas.skin.rows] for f in FAMILIES}
    for one, two in (("a", "b"), ("b", "c"), ("a", "c")):
        hue = [color[f] / color[f].sum(1, keepdims=True) for f in (one, two)]
        assert np.abs(hue[0].mean(0) - hue[1].mean(0)).max() > 0.005  # another palette
        pattern = [color[f][:, 1] - color[f][:, 1].mean() for f in (one, two)]
        assert np.corrcoef(*pattern)[0, 1] < 0.97  # and another pattern


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_of_every_chart_seam_have_one_colour(head, atlas, family):
    image = paint(skin(9, family), atlas).base_color
    faces, corners, vt = head.faces.numpy(), head.ft.numpy(), head.vt.numpy()
    edges = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    sides = np.concatenate([corners[:, [k, (k + 1) % 3]] for k in range(3)])
    flip = edges[:, 0] > edges[:, 1]
    edges[flip], sides[flip] = edges[flip, ::-1], sides[flip, ::-1]
    order = np.lexsort(edges.T)
    edges, sides = edges[order], sides[order]
    twin = (edges[1:] == edges[:-1]).all(1) & (sides[1:] != sides[:-1]).any(1)
    assert twin.sum() > 20
    one, two = (vt[s].mean(1) for s in (sides[:-1][twin], sides[1:][twin]))  # [n, 2] middle of each seam edge
    jump = np.stack([np.abs(sample(image[..., c], one) - sample(image[..., c], two)) for c in range(3)])
    assert np.median(jump) < 0.02 and np.percentile(jump, 95) < 0.12


def test_nothing_bleeds_in_from_beyond_a_chart_border(head, atlas):
    maps = paint(skin(9), atlas)
    white = atlas.image(np.ones(len(atlas.position), np.float32))
    assert white.min() == 1  # every texel shows some valid one
    border = np.argwhere(~atlas.valid & np.roll(atlas.valid, 1, 0))
    above = border - [1, 0]
    same = maps.base_color[tuple(border.T)] - maps.base_color[tuple(above.T)]
    assert np.median(np.abs(same)) < 0.01


def test_stubble_darkens_the_jaw_and_leaves_the_cheekbones(head, atlas):
    shaved, smooth = (
        paint(bare(10, melanin=0.2, stubble=s, hair_color=(0.01, 0.01, 0.01)), atlas).base_color for s in (1.0, 0.0)
    )
    ratio = (shaved / smooth).mean(-1)[..., None].repeat(3, -1)
    assert at_landmarks(head, ratio, [199, 164, 214, 434]).max() < 0.9
    assert at_landmarks(head, ratio, [50, 280, 9, 4]).min() > 0.99


def test_light_eyes_come_with_light_skin():
    rng = np.random.default_rng(0)
    dark = replace(ADULT, african=1.0, asian=0.0, caucasian=0.0)
    light = replace(ADULT, african=0.0, asian=0.0, caucasian=1.0)
    blue = [np.mean([sample_skin(rng, t, "a").iris_outer[2] > 0.12 for _ in range(150)]) for t in (dark, light)]
    assert blue[0] < 0.02 and blue[1] > 0.1


def test_larger_maps_show_the_same_person(head, atlas):
    person = bare(11, freckles=0.0, moles=4)
    small, large = paint(person, atlas), paint(person, make_atlas(head, 2 * SIZE))
    halved = large.base_color.reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3))
    rows = (slice(40, 216), slice(40, 216))
    assert np.abs(halved - small.base_color)[rows].mean() < 0.01


@pytest.mark.parametrize("noise", [gradient, cellular, waves])
def test_noise_has_mean_0_and_spread_1(noise):
    points = np.random.default_rng(0).uniform(-1, 1, (100_000, 3)).astype(np.float32)
    for values in (noise(points, 0.01, 5), octaves(noise, points, 0.02, 5, 3)):
        assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1


@pytest.mark.parametrize("noise", [gradient, cellular, waves])
def test_noise_is_continuous(noise):
    line = np.linspace(0, 0.2, 20_001)[:, None] * np.array([0.6, 0.64, 0.48])
    assert np.abs(np.diff(noise(line.astype(np.float32), 0.01, 5))).max() < 0.02


def test_speckles_are_spots_on_nothing():
    points = np.random.default_rng(0).uniform(-1, 1, (100_000, 3)).astype(np.float32)
    spots = speckles(points, 0.01, 1)
    assert spots.min() == 0 and 0.5 < spots.max() <= 1 and 0.5 < (spots == 0).mean() < 0.99


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="family"):
        sample_skin(np.random.default_rng(0), ADULT, "d")


def test_a_head_that_is_not_openhead_is_refused(head):
    flame = torch.nn.Module()
    flame.source = "FLAME 2020"
    with pytest.raises(ValueError, match="FLAME 2020"):
        make_atlas(flame, 64)
