"""The head model: skinning against an independent implementation, FLAME with teeth, OpenHead's file."""

import json

import flame_toy
import numpy as np
import pytest
import smplx.lbs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa0lib.head import OPEN_HEAD, Head, load_flame, load_head
from sa0lib.paths import ASSETS
from sa0lib.teeth import COLUMNS, ROWS, teeth_faces, teeth_vertices

CODES = {"shape": 300, "expr": 100, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}


def open_head_arrays(V: int = 60, F: int = 90, seed: int = 0) -> dict[str, np.ndarray]:
    """A random model with exactly the arrays of open_head.npz."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        w = rng.random(shape)
        return (w / w.sum(-1, keepdims=True)).astype(np.float32)

    sizes = {"V": V, "F": F, "U": F, "T": V + 8, "R": 3}
    limits = {"f": V, "ft": V + 8, "lmk68_face": F, "lmk478_face": F, "region": 3}
    arrays = {}
    for key, (kind, shape) in OPEN_HEAD.items():
        shape = tuple(sizes.get(n, n) for n in shape)
        if kind == "f":
            arrays[key] = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        elif kind == "i" and key in limits:
            arrays[key] = rng.integers(0, limits[key], shape).astype(np.uint8 if key == "region" else np.int32)
        elif kind == "U" and shape:
            arrays[key] = np.array([f"{key}{n}" for n in range(shape[0])])
    arrays["meta"] = np.array(json.dumps({"licence": "none", "basis": f"seed{seed}"}))
    arrays["kintree_table"] = np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]])
    arrays |= {"weights": weights(V, 5), "J_regressor": weights(5, V)}
    arrays |= {"lmk68_bary": weights(68, 3), "lmk478_bary": weights(478, 3)}
    return arrays


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(open_head_arrays(), "OpenHead").double()


def random_codes(B: int, seed: int = 0, scale: float = 0.5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {k: scale * torch.randn(B, n, generator=generator, dtype=torch.float64) for k, n in CODES.items()}


def test_skinning_equals_smplx(head):
    codes = random_codes(4)
    pose = torch.cat([codes[k] for k in ("rotation", "neck", "jaw", "eyes")], 1)
    expected, _ = smplx.lbs.lbs(
        torch.cat([codes["shape"], codes["expr"]], 1), pose, head.v_template[None], head.shapedirs,
        head.posedirs.flatten(0, 1).T, head.J_regressor, torch.tensor([-1, 0, 1, 1, 1]), head.weights,
    )  # fmt: skip
    found = head(**codes)
    assert (found - expected - codes["translation"][:, None]).abs().max() < 1e-6  # smplx adds 1e-8 to every angle


def test_two_joints_by_hand(head):
    """Neck and jaw by 4x4 matrices, one vertex at a time, in float64."""
    codes = {"neck": torch.tensor([[0.0, 0.3, 0.0]], dtype=torch.float64)}
    codes["jaw"] = torch.tensor([[0.4, 0.0, 0.0]], dtype=torch.float64)

    def about(point, matrix):
        there, back, turn = np.eye(4), np.eye(4), np.eye(4)
        there[:3, 3], back[:3, 3], turn[:3, :3] = point, -point, matrix
        return there @ turn @ back

    c, s = np.cos(0.3), np.sin(0.3)
    neck = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(0.4), np.sin(0.4)
    jaw = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    J = (head.J_regressor @ head.v_template).numpy()
    feature = np.concatenate([(neck - np.eye(3)).ravel(), (jaw - np.eye(3)).ravel(), np.zeros(18)])
    motions = [np.eye(4), about(J[1], neck)]
    motions += [motions[1] @ about(J[2], jaw), motions[1], motions[1]]
    found = head(**codes)[0].numpy()
    for v in range(len(head.v_template)):
        point = np.append(head.v_template[v].numpy() + head.posedirs[v].numpy() @ feature, 1.0)
        blend = sum(head.weights[v, j].item() * motions[j] for j in range(5))
        np.testing.assert_allclose(found[v], (blend @ point)[:3], atol=1e-12)


def test_no_codes_give_the_template(head):
    torch.testing.assert_close(head()[0], head.v_template)


def test_codes_left_out_are_zero(head):
    codes = random_codes(2)
    some = {"expr": codes["expr"], "jaw": codes["jaw"]}
    zeros = {k: torch.zeros_like(v) for k, v in codes.items()}
    torch.testing.assert_close(head(**some), head(**(zeros | some)))


def test_a_batch_of_one_counts_for_all(head):
    codes = random_codes(3)
    codes["shape"], codes["neck"] = codes["shape"][:1], codes["neck"][:1]
    spread = {k: v.expand(3, -1) for k, v in codes.items()}
    torch.testing.assert_close(head(**codes), head(**spread))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_global_rotation_turns_the_whole_head_about_its_root(head, seed):
    codes = random_codes(1, seed)
    turned = head(**codes)
    still = head(**(codes | {"rotation": torch.zeros(1, 3).double(), "translation": torch.zeros(1, 3).double()}))
    root = head.J_regressor[0] @ (head.v_template + head.shapedirs @ torch.cat([codes["shape"], codes["expr"]], 1)[0])
    R = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3).double(), codes["rotation"].expand(3, 3)).T.mT)
    torch.testing.assert_close(turned[0], (still[0] - root) @ R.T + root + codes["translation"][0])


def test_gradients_of_every_code_are_right(head):
    codes = {k: v.requires_grad_() for k, v in random_codes(2).items()}

    def vertices(*values):
        return head(**dict(zip(codes, values, strict=True)))

    assert torch.autograd.gradcheck(vertices, tuple(codes.values()), fast_mode=True)


def test_gradients_at_rest_are_finite(head):
    codes = {k: torch.zeros(1, n, dtype=torch.float64, requires_grad=True) for k, n in CODES.items()}
    head(**codes).square().sum().backward()
    assert all(v.grad.isfinite().all() and v.grad.abs().sum() > 0 for v in codes.values())


def test_an_edited_template_moves_the_mesh(head):
    """Per-subject offsets are added to v_template by the caller: nothing may be cached from before."""
    edited = Head(open_head_arrays(), "OpenHead").double()
    edited.v_template += 0.01
    torch.testing.assert_close(edited(), head() + 0.01)


@pytest.mark.parametrize("name", CODES)
def test_codes_of_another_width_are_refused_by_name(head, name):
    with pytest.raises(ValueError, match=rf"{name} must be \[B, {CODES[name]}\], not \[2, 7\]"):
        head(**{name: torch.zeros(2, 7)})


def test_batches_that_do_not_fit_are_refused(head):
    with pytest.raises(ValueError, match="'jaw': 2"):
        head(expr=torch.zeros(3, 100).double(), jaw=torch.zeros(2, 3).double())


def test_landmarks_lie_where_the_embedding_says(head):
    vertices = head(**random_codes(2))
    for which in ("68", "478"):
        face, bary = getattr(head, f"lmk{which}_face"), getattr(head, f"lmk{which}_bary")
        expected = [sum(bary[i, k] * vertices[:, head.faces[face[i], k]] for k in range(3)) for i in range(len(face))]
        torch.testing.assert_close(head.landmarks(vertices, which), torch.stack(expected, 1))


def test_arkit_scores_are_mapped_linearly(head):
    scores = torch.rand(4, 52).double()
    codes = head.arkit(scores)
    assert {k: tuple(v.shape) for k, v in codes.items()} == {"expr": (4, 100), "jaw": (4, 3), "eyes": (4, 6)}
    torch.testing.assert_close(codes["jaw"][2], sum(scores[2, i] * head.arkit_to_jaw[i] for i in range(52)))
    assert len(head(**codes)) == 4


# FLAME -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    model = flame_toy.flame_model()
    flame_toy.write_flame(model, folder / "generic_model.pkl")
    flame_toy.write_template(model, folder / "head_template.obj", shuffle=True)
    np.save(folder / "landmark_embedding.npy", np.array(flame_toy.landmark_embedding(), dtype=object))
    return folder


@pytest.fixture(scope="module")
def flame(files) -> Head:
    return load_flame(files / "generic_model.pkl", files / "head_template.obj", files / "landmark_embedding.npy")


def test_flame_has_the_papers_counts(flame):
    assert (flame.v_template.shape, flame.faces.shape) == ((5143, 3), (10144, 3))
    assert (flame.vt.shape, flame.ft.shape) == ((5118, 2), (9976, 3))
    assert flame.source == "FLAME 2020"


def test_teeth_leave_the_rest_of_flame_as_it_was(flame):
    model = flame_toy.flame_model()
    for name, key in (("v_template", "v_template"), ("shapedirs", "shapedirs"), ("weights", "weights")):
        np.testing.assert_allclose(getattr(flame, name)[:5023].numpy(), model[key], atol=1e-7)
    np.testing.assert_array_equal(flame.faces[:9976].numpy(), model["f"])
    codes = {k: v.float() for k, v in random_codes(1, scale=0.1).items()}
    bare = Head(model | {"vt": flame.vt.numpy(), "ft": flame.ft.numpy()}, "FLAME 2020")
    torch.testing.assert_close(flame(**codes)[:, :5023], bare(**codes), atol=1e-6, rtol=0)


def teeth(flame: Head, vertices: torch.Tensor) -> dict[str, torch.Tensor]:
    rows = vertices[5023:].reshape(8, COLUMNS, 3)
    return dict(zip(ROWS, rows, strict=True))


def test_lower_teeth_follow_the_jaw_and_upper_teeth_do_not(flame):
    rest, opened = flame()[0], flame(jaw=torch.tensor([[0.3, 0.0, 0.0]]))[0]
    moved = {name: (teeth(flame, opened)[name] - row).norm(dim=-1).max() for name, row in teeth(flame, rest).items()}
    assert all((distance > 0.005) == name.startswith("lower") for name, distance in moved.items())
    assert max(distance for name, distance in moved.items() if name.startswith("upper")) < 1e-6


def test_expressions_do_not_bend_teeth_and_identity_moves_them_as_the_lips(flame):
    rest = flame()[0]
    smile = flame(expr=torch.ones(1, 100))[0]
    torch.testing.assert_close(smile[5023:], rest[5023:])
    other = flame(shape=torch.ones(1, 300))[0]
    upper, lower = flame_toy.UPPER_LIP[3], flame_toy.LOWER_LIP[3]
    lips = 0.5 * ((other - rest)[upper] + (other - rest)[lower])
    torch.testing.assert_close((other - rest)[5023 + 3], lips, atol=1e-6, rtol=1e-4)


def test_teeth_stand_behind_the_lips_and_do_not_touch_each_other(flame):
    rest = flame()[0]
    rows, lips = teeth(flame, rest), rest[list(flame_toy.UPPER_LIP)]
    assert all((row[:, 2] < lips[:, 2]).all() for row in rows.values())
    assert (rows["upper edge"][:, 1] > rows["lower edge"][:, 1]).all()
    assert (rows["upper root"][:, 1] > rows["upper edge"][:, 1]).all()
    assert (rows["lower root"][:, 1] < rows["lower edge"][:, 1]).all()
    assert (rows["upper edge back"][:, 2] < rows["upper edge"][:, 2]).all()


def test_teeth_are_symmetric_and_face_outwards(flame):
    rows = teeth(flame, flame()[0])
    for row in rows.values():
        torch.testing.assert_close(row, row.flip(0) * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-5, rtol=0)
    corners = flame.v_template[flame.faces[9976:]]  # [168, 3, 3]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for jaw in ("upper", "lower"):
        own = torch.tensor([name.startswith(jaw) for name in ROWS]).repeat_interleave(COLUMNS)
        mine = own[flame.faces[9976:, 0] - 5023]
        assert mine.sum() == 84
        columns = (flame.faces[9976:][mine] - 5023) % COLUMNS  # [84, 3]
        block = torch.stack([row for name, row in rows.items() if name.startswith(jaw)]).mean(0)  # [15, 3]
        outwards = corners[mine].mean(1) - block[columns].mean(1)  # from the middle of that part of the row
        assert ((normals[mine] * outwards).sum(-1) > 0).all()


def test_teeth_face_outwards_whichever_way_the_lip_line_runs():
    template = flame_toy.flame_model()["v_template"]
    mirrored = template * [-1, 1, 1]
    for v in (template, mirrored):
        corners = teeth_vertices(v)[teeth_faces(v)[:28]]  # the front of the upper row
        assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()


def test_flame_landmarks_come_from_the_readers_file(files, flame):
    fields = flame_toy.landmark_embedding()
    face, bary = fields["full_lmk_faces_idx"][0], fields["full_lmk_bary_coords"][0]
    expected = (flame.v_template[flame.faces[face]] * torch.tensor(bary)[..., None]).sum(1)
    torch.testing.assert_close(flame.landmarks(flame())[0], expected.float())
    without = load_flame(files / "generic_model.pkl", files / "head_template.obj")
    for which in ("68", "478"):
        with pytest.raises(ValueError, match=f"FLAME 2020 head has no {which}-point embedding"):
            without.landmarks(without(), which)


def test_flame_has_no_arkit_actions(flame):
    with pytest.raises(ValueError, match="FLAME 2020 has no ARKit"):
        flame.arkit(torch.zeros(1, 52))


def test_the_source_is_read_from_the_official_file_names_only(files, tmp_path):
    (tmp_path / "flame2023.pkl").symlink_to(files / "generic_model.pkl")
    (tmp_path / "flame.pkl").symlink_to(files / "generic_model.pkl")
    assert load_flame(tmp_path / "flame2023.pkl", files / "head_template.obj").source == "FLAME 2023"
    with pytest.raises(ValueError, match="flame.pkl: cannot tell which FLAME"):
        load_flame(tmp_path / "flame.pkl", files / "head_template.obj")
    assert load_flame(tmp_path / "flame.pkl", files / "head_template.obj", source="FLAME 2023 Open").source


def test_flame_2020_codes_are_refused_on_a_2023_basis(flame):
    other = Head(flame_toy.flame_model(1) | {"vt": flame.vt.numpy(), "ft": flame.ft.numpy()}, "FLAME 2023")
    flame.require_basis("FLAME 2020")
    flame.require_basis(flame.basis)
    with pytest.raises(ValueError, match="flame_param/00000.npz: made for 'FLAME 2020', but this head is 'FLAME 2023"):
        other.require_basis("FLAME 2020", "flame_param/00000.npz")
    with pytest.raises(ValueError, match="FLAME 2023 Open"):
        other.require_basis("FLAME 2023 Open")


def test_codes_of_another_build_of_the_same_head_are_refused(head):
    rebuilt = Head(open_head_arrays(seed=1), "OpenHead")
    assert head.basis.startswith("OpenHead ") and head.basis != rebuilt.basis
    with pytest.raises(ValueError, match=head.basis):
        rebuilt.require_basis(head.basis)


# OpenHead's file -------------------------------------------------------------------------------------------------


def test_a_saved_model_is_loaded_whole(tmp_path):
    arrays = open_head_arrays()
    np.savez(tmp_path / "open_head.npz", **arrays)
    head = load_head(tmp_path / "open_head.npz")
    np.testing.assert_array_equal(head.faces.numpy(), arrays["f"])
    np.testing.assert_array_equal(head.shapedirs.numpy(), arrays["shapedirs"])
    assert head.arkit_names == [str(name) for name in arrays["arkit_names"]]
    assert head.meta == {"licence": "none", "basis": "seed0"} and head.source == "OpenHead"
    assert head.region_names[int(head.region[5])] == arrays["region_names"][arrays["region"][5]]


def test_a_missing_open_head_says_how_to_build_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="open_head.npz.*build_open_head.py"):
        load_head(tmp_path / "open_head.npz")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_npz_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "open_head.npz"
    np.savez_compressed(path, **open_head_arrays())
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match="open_head.npz.*build it again"):
        load_head(path)


def test_a_damaged_byte_is_noticed_and_its_array_named(tmp_path):
    path = tmp_path / "open_head.npz"
    np.savez(path, **open_head_arrays())
    data = bytearray(path.read_bytes())
    data[data.index(b"shapedirs.npy") + 5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="shapedirs cannot be read.*CRC"):
        load_head(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v_template", np.zeros((60, 3), np.int32)),
        ("vertex_color", np.zeros((61, 3), np.float32)),
        ("shapedirs", np.zeros((60, 3, 150), np.float32)),
        ("posedirs", np.full((60, 3, 36), np.nan, np.float32)),
        ("f", np.full((90, 3), 60, np.int32)),
        ("ft", np.full((90, 3), -1, np.int32)),
        ("ft", np.zeros((91, 3), np.int32)),
        ("weights", np.full((60, 5), 0.3, np.float32)),
        ("lmk68_bary", np.zeros((68, 3), np.float32)),
        ("kintree_table", np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])),
        ("arkit_names", np.zeros(52, np.float32)),
        ("meta", None),
        ("region", np.array([object()] * 60)),
    ],
)
def test_a_foreign_array_is_refused_by_name(tmp_path, key, value):
    arrays = open_head_arrays() | {key: value}
    if value is None:
        del arrays[key]
    np.savez(tmp_path / "open_head.npz", **arrays)
    with pytest.raises(ValueError, match=rf"open_head.npz: {key} .*build it again"):
        load_head(tmp_path / "open_head.npz")


needs_open_head = pytest.mark.skipif(not (ASSETS / "open_head.npz").exists(), reason="open_head.npz is not built yet")


@needs_open_head
def test_the_real_open_head_opens_its_mouth_downwards():
    head = load_head()
    chin = head.landmarks(head())[0, 8]
    opened = head.landmarks(head(jaw=torch.tensor([[0.3, 0.0, 0.0]])))[0, 8]
    assert opened[1] < chin[1] - 0.01


@needs_open_head
def test_the_real_open_heads_subject_left_is_plus_x_and_its_face_looks_along_plus_z():
    points = load_head().landmarks(load_head()())[0]
    right_eye, left_eye, nose_tip = points[36:42].mean(0), points[42:48].mean(0), points[30]
    assert left_eye[0] - right_eye[0] > 0.04
    assert nose_tip[2] > left_eye[2] + 0.01
