"""data_scripts.worlds.hair: strands that cover what they should, stay out of the skin and follow it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from data_scripts.worlds.hair import Hair, follow, grow, sample_hair, undercoat
from data_scripts.worlds.hair.beard import Beard
from data_scripts.worlds.hair.body import cover
from data_scripts.worlds.hair.scalp import around
from data_scripts.worlds.hair.styles import STYLES
from data_scripts.worlds.traits import Traits
from data_scripts.worlds.wear.torso import neck_loop
from sa0lib.head import load_head
from sa0lib.paths import ASSETS

pytestmark = pytest.mark.skipif(
    not (ASSETS / "open_head.npz").is_file(), reason="OpenHead is not built: python -m data_scripts.build_open_head"
)
FEW = 0.1  # of the strands are enough for a test
MAN = Traits(gender=1.0, age=30, muscle=0.5, weight=0.5, height=0.5, african=0.2, asian=0.2, caucasian=0.6)
WOMAN = replace(MAN, gender=0.0)


@pytest.fixture(scope="module")
def head():
    return load_head()


def person(head, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return head(shape=0.6 * torch.randn(1, 300, generator=generator))[0].numpy()


def hair_of(traits: Traits, style: str = "crop", beard: str = "none", seed: int = 0, family: str = "a") -> Hair:
    hair = sample_hair(np.random.default_rng(seed), traits, family)
    long = {"none": 0.0, "stubble": 0.0016, "full short": 0.013, "full long": 0.07}.get(beard, 0.012)
    return replace(
        hair,
        style=STYLES[style],
        beard=Beard(beard, long, 0.9, 0.0, 0.001),
        hairline=replace(hair.hairline, bald=0.0, temples=0.3),
    )


def strands_of(tufts, name: str) -> np.ndarray:
    return np.concatenate([tuft.points for tuft in tufts if tuft.name == name])


def curve(points: np.ndarray) -> np.ndarray:
    """Points [S, n, 3] on the uniform cubic B-splines, four to a segment, without each strand's first segment."""
    a, b, c, d = (points[:, k : points.shape[1] - 3 + k, None] for k in range(4))
    t = np.linspace(0, 1, 4, endpoint=False)[:, None]
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    on = sum(w * p for w, p in zip(weights, (a, b, c, d), strict=True)) / 6
    return on[:, 1:].reshape(len(points), -1, 3)


def signed_distance(head, vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Metres outside (+) or inside (-) the nearest triangle of skin and eyeballs; exact within a few centimetres."""
    inner = [head.region_names.index(name) for name in ("sockets", "mouth", "tongue", "teeth_upper", "teeth_lower")]
    faces = head.faces.numpy()
    faces = faces[~np.isin(head.region.numpy()[faces], inner).any(1)]
    dense, owner = cover(vertices.astype(np.float64), faces)
    near = owner[cKDTree(dense).query(points, k=8)[1]]  # [N, 8] triangles
    a, b, c = (vertices[faces[near, k]].astype(np.float64) for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    p = points[:, None]
    closest = p - ((p - a) * normal).sum(-1, keepdims=True) * normal
    outside = np.zeros(near.shape, bool)
    edge_best, edge_point = np.full(near.shape, np.inf), np.zeros_like(closest)
    for start, end in ((a, b), (b, c), (c, a)):
        outside |= (np.cross(end - start, closest - start) * normal).sum(-1) < 0
        along = end - start
        t = ((p - start) * along).sum(-1, keepdims=True) / (along * along).sum(-1, keepdims=True)
        on_edge = start + np.clip(t, 0, 1) * along
        gap = np.linalg.norm(p - on_edge, axis=-1)
        edge_point = np.where((gap < edge_best)[..., None], on_edge, edge_point)
        edge_best = np.minimum(gap, edge_best)
    closest = np.where(outside[..., None], edge_point, closest)
    distance = np.linalg.norm(p - closest, axis=-1)
    row, best = np.arange(len(points)), distance.argmin(1)
    # Of triangles that share the closest point, the one the point lies above most squarely tells the side.
    tied = distance < distance.min(1, keepdims=True) + 1e-6
    height = np.where(tied, ((p - closest) * normal).sum(-1), 0)
    side = np.sign(height[row, np.abs(height).argmax(1)])
    # Under the cut of the neck there is no inside.
    loop = vertices[neck_loop(head)]
    tilt = np.linalg.lstsq(np.column_stack([loop[:, [0, 2]], np.ones(len(loop))]), loop[:, 1], rcond=None)[0]
    below = points[:, 1] < points[:, [0, 2]] @ tilt[:2] + tilt[2] + 0.003
    return np.where(below, 0.01, distance[row, best] * side)


def test_same_seed_same_strands(head):
    vertices = person(head, 1)
    one, two = (grow(hair_of(MAN, beard="goatee"), head, vertices, np.random.default_rng(5), FEW) for _ in range(2))
    assert [tuft.name for tuft in one] == [tuft.name for tuft in two]
    for a, b in zip(one, two, strict=True):
        assert a.points.tobytes() == b.points.tobytes() and a.radius.tobytes() == b.radius.tobytes()


def test_another_seed_gives_other_strands(head):
    vertices = person(head, 1)
    one, two = (strands_of(grow(hair_of(MAN), head, vertices, np.random.default_rng(k), FEW), "scalp") for k in (5, 6))
    assert one.shape != two.shape or np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize(
    ("style", "family"), [*((style, "b") for style in STYLES), ("long", "a"), ("curls", "a"), ("bun", "c")]
)
def test_no_strand_runs_under_the_skin(head, style, family):
    seed = list(STYLES).index(style)
    vertices = person(head, seed)
    beard = ("none", "full long", "full short", "moustache")[seed % 4]
    tufts = grow(hair_of(MAN, style, beard, seed, family), head, vertices, np.random.default_rng(seed), FEW)
    for tuft in tufts:
        on = curve(tuft.points)
        depth = -signed_distance(head, vertices, on.reshape(-1, 3))
        assert depth.max() < 1.5e-3 and (depth > 6e-4).mean() < 1e-3, tuft.name


def test_every_strand_starts_in_the_skin(head):
    vertices = person(head, 2)
    for tuft in grow(hair_of(MAN, beard="full short"), head, vertices, np.random.default_rng(0), FEW):
        root = (vertices[head.faces.numpy()[tuft.face]] * tuft.bary[..., None]).sum(1)
        start = (tuft.points[:, 0] + 4 * tuft.points[:, 1] + tuft.points[:, 2]) / 6
        assert np.linalg.norm(start - root, axis=1).max() < 1e-5


def roots_on_mean(head, tufts, name):
    at = [
        (head.v_template.numpy()[head.faces.numpy()[tuft.face]] * tuft.bary[..., None]).sum(1)
        for tuft in tufts
        if tuft.name == name
    ]
    return np.concatenate(at)


def test_scalp_hair_grows_neither_on_the_forehead_nor_on_the_ears(head):
    tufts = grow(hair_of(WOMAN, "long"), head, person(head, 3), np.random.default_rng(0), 0.5)
    at = roots_on_mean(head, tufts, "scalp")
    front = (around(at) < 35) & (at[:, 2] > -0.03)
    hairline = head.v_template.numpy()[head.region.numpy() == head.region_names.index("face"), 1].max()
    assert front.sum() > 20 and at[front, 1].min() > hairline - 0.02
    ears = head.region_names.index("ears")
    of_root = head.region.numpy()[head.faces.numpy()[np.concatenate([t.face for t in tufts if t.name == "scalp"])]]
    assert not (of_root == ears).any()


@pytest.mark.parametrize("family", ["a", "b"])
@pytest.mark.parametrize("style", ["bob", "long", "curls", "fringe bob"])
def test_no_hair_hangs_before_the_eyes(head, style, family):
    vertices = person(head, 4)
    hair = hair_of(WOMAN, style, family=family)
    if hair.style.fringe:
        hair = replace(hair, style=replace(hair.style, fringe=0.14))  # it would reach the mouth if it were not cut
    on = curve(strands_of(grow(hair, head, vertices, np.random.default_rng(0), 0.4), "scalp"))
    eyes = head.landmarks(torch.from_numpy(vertices)[None])[0, 36:48].numpy()
    before = (on[..., 2] > eyes[:, 2].min()) & (np.abs(on[..., 0]) < np.abs(eyes[:, 0]).max())
    level = (on[..., 1] > eyes[:, 1].min()) & (on[..., 1] < eyes[:, 1].max())
    assert not (before & level).any()


def test_brows_grow_along_the_brow_landmarks(head):
    vertices = person(head, 5)
    on = strands_of(grow(hair_of(MAN), head, vertices, np.random.default_rng(0), 1.0), "brows")[:, 1:-1]
    landmarks = head.landmarks(torch.from_numpy(vertices)[None])[0].numpy()
    marks = landmarks[17:27]
    for point in marks:
        assert np.linalg.norm(on - point, axis=2).min() < 0.008
    assert np.abs(np.median(on[..., 1]) - np.median(marks[:, 1])) < 0.007
    assert on[..., 1].min() > landmarks[36:48, 1].max()


def test_identical_vertices_leave_every_strand_where_it_is(head):
    vertices = person(head, 6)
    for tuft in grow(hair_of(MAN, "long", "full long"), head, vertices, np.random.default_rng(0), FEW):
        assert np.abs(follow(tuft, vertices, vertices, head) - tuft.points).max() < 2e-6


def test_a_rigid_motion_of_the_head_moves_every_strand_by_it(head):
    vertices = person(head, 7)
    turn = Rotation.from_rotvec([0.3, -0.8, 0.2]).as_matrix()
    moved = (vertices @ turn.T + [0.1, -0.2, 0.3]).astype(np.float32)
    for tuft in grow(hair_of(MAN, "long", "full long"), head, vertices, np.random.default_rng(0), FEW):
        expected = tuft.points @ turn.T + [0.1, -0.2, 0.3]
        assert np.abs(follow(tuft, vertices, moved, head) - expected).max() < 1e-5


def test_the_beard_goes_down_with_the_jaw_and_the_scalp_hair_does_not(head):
    scores = torch.zeros(1, 52)
    scores[0, head.arkit_names.index("jawOpen")] = 0.8
    neutral, posed = head()[0].numpy(), head(**head.arkit(scores))[0].numpy()
    for tuft in grow(hair_of(MAN, beard="goatee"), head, neutral, np.random.default_rng(0), FEW):
        drop = (tuft.points - follow(tuft, neutral, posed, head))[..., 1]
        if tuft.name == "beard":
            assert drop.max() > 0.01
        if tuft.name == "scalp":
            assert np.abs(drop).max() < 1e-3


def test_upper_lashes_go_down_when_the_eyes_close(head):
    scores = torch.zeros(1, 52)
    for side in ("Left", "Right"):
        scores[0, head.arkit_names.index(f"eyeBlink{side}")] = 1.0
    neutral, posed = head()[0].numpy(), head(**head.arkit(scores))[0].numpy()
    tufts = grow(hair_of(WOMAN), head, neutral, np.random.default_rng(0), 1.0)
    (lashes,) = (tuft for tuft in tufts if tuft.name == "lashes")
    upper = roots_on_mean(head, [lashes], "lashes")[:, 1] > 0.0175
    tips, after = lashes.points[upper, -2], follow(lashes, neutral, posed, head)[upper, -2]
    assert np.median(tips[:, 1] - after[:, 1]) > 0.005


@pytest.mark.parametrize("style", ["crop", "long", "afro"])
def test_fewer_strands_cover_the_same_width(head, style):
    vertices = person(head, 8)
    many, few = (grow(hair_of(MAN, style), head, vertices, np.random.default_rng(0), k) for k in (1.0, 0.3))
    width = [sum(tuft.radius[:, 0].sum() for tuft in tufts if tuft.name == "scalp") for tufts in (many, few)]
    count = [sum(len(tuft.points) for tuft in tufts if tuft.name == "scalp") for tufts in (many, few)]
    assert abs(width[1] / width[0] - 1) < 0.05
    assert abs(count[1] / count[0] - 0.3) < 0.02


def test_styles_differ_in_how_far_they_reach(head):
    vertices = person(head, 9)
    low, wide = {}, {}
    for style in ("buzz", "bob", "long", "afro"):
        points = strands_of(grow(hair_of(WOMAN, style), head, vertices, np.random.default_rng(0), FEW), "scalp")
        low[style], wide[style] = np.quantile(points[..., 1], 0.02), np.quantile(points[..., 1], 0.99)
    assert low["long"] < low["bob"] - 0.08 < low["buzz"] - 0.08
    assert wide["afro"] > wide["buzz"] + 0.02


def test_families_differ_in_their_strands(head):
    vertices = person(head, 9)
    points = []
    for family in "abc":
        hair = replace(hair_of(WOMAN, "shoulder"), manner=hair_of(WOMAN, family=family).manner)
        points.append(strands_of(grow(hair, head, vertices, np.random.default_rng(0), FEW), "scalp"))
    assert not any(a.shape == b.shape and np.allclose(a, b) for a, b in zip(points, points[1:], strict=False))


@pytest.mark.parametrize("beard", ["none", "stubble", "moustache", "goatee", "full short", "full long"])
def test_beards_only_where_asked(head, beard):
    tufts = grow(hair_of(MAN, beard=beard), head, person(head, 10), np.random.default_rng(0), FEW)
    names = {tuft.name for tuft in tufts}
    assert ("beard" in names) == (beard != "none")
    if beard == "moustache":
        assert roots_on_mean(head, tufts, "beard")[:, 1].min() > -0.065


def test_women_have_no_beards():
    drawn = [sample_hair(np.random.default_rng(k), WOMAN, "a") for k in range(40)]
    assert all(hair.beard.name == "none" for hair in drawn)


def test_hair_greys_with_age():
    share = [
        np.mean([sample_hair(np.random.default_rng(k), replace(MAN, age=age), "a").pigment.gray for k in range(60)])
        for age in (25, 50, 75)
    ]
    assert share[0] < 0.05 < share[1] < share[2]


def test_white_strands_are_a_tuft_of_their_own(head):
    hair = hair_of(MAN)
    hair = replace(hair, pigment=replace(hair.pigment, gray=0.5))
    tufts = [t for t in grow(hair, head, person(head, 1), np.random.default_rng(0), FEW) if t.name == "scalp"]
    assert len(tufts) == 2 and tufts[1].eumelanin < 0.1 < tufts[0].eumelanin
    assert abs(len(tufts[0].points) / len(tufts[1].points) - 1) < 0.2


def test_a_bare_scalp_has_no_scalp_tuft(head):
    tufts = grow(replace(hair_of(MAN), style=None), head, person(head, 1), np.random.default_rng(0), FEW)
    assert {tuft.name for tuft in tufts} == {"brows", "lashes"}


def test_undercoat_shades_the_scalp_and_not_the_cheek(head):
    shade, color = undercoat(hair_of(MAN), head, np.array([[0.0, 0.12, -0.06], [0.045, -0.01, 0.03]]))
    assert shade[0] > 0.5 and shade[1] == 0
    assert (color >= 0).all() and (color <= 1).all()


@pytest.mark.parametrize("strands", [0.0, -1.0, 5.0, float("nan")])
def test_an_impossible_number_of_strands_is_refused(head, strands):
    with pytest.raises(ValueError, match="strands"):
        grow(hair_of(MAN), head, person(head, 1), np.random.default_rng(0), strands)


def test_vertices_of_another_mesh_are_refused(head):
    with pytest.raises(ValueError, match="vertices"):
        grow(hair_of(MAN), head, np.zeros((10, 3), np.float32), np.random.default_rng(0))
