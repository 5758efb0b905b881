"""The Gaussian set: how it starts, what a rasterizer gets from it, and its PLY files."""

import dataclasses

import flame_toy
import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from sa0lib.binding import Frames, triangle_frames
from sa0lib.camera import Camera, intrinsics, look_at
from sa0lib.gaussians import C0, MAX_STRETCH, OPACITY, SPREAD, THICKNESS, Gaussians, load_ply
from sa0lib.rotation import quaternion_to_matrix
from sa0lib.uv import UVMap, build_uv_map

ATTRIBUTES = ("means", "quats", "log_scales", "opacity_logits", "color_logits", "face")


def sheet(across: tuple[float, float], up: tuple[float, float], cells: int = 6, size: int = 32):
    """A flat sheet in the plane z = 0 whose chart fills the square: u runs along `across`, v along `up` (m)."""
    lattice = torch.arange(cells + 1) / cells
    v, u = torch.meshgrid(lattice, lattice, indexing="ij")
    vt = torch.stack([u, v], -1).reshape(-1, 2).double()
    vertices = torch.cat([vt @ torch.tensor([across, up]).double(), torch.zeros(len(vt), 1).double()], 1)
    n = torch.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (x.reshape(-1) for x in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)])
    return build_uv_map(vt, faces, size), vertices, faces


@pytest.fixture(scope="module")
def egg() -> tuple[UVMap, torch.Tensor, torch.Tensor]:
    model = flame_toy.flame_model()
    uv_map = build_uv_map(*flame_toy.uv_chart(), 128)
    return uv_map, torch.tensor(model["v_template"]).float(), torch.tensor(model["f"])


def random_set(G: int = 50, F: int = 10, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    normal = [torch.randn(G, n, generator=generator) for n in (3, 4, 3, 3)]
    face = torch.randint(0, F, (G,), generator=generator)
    return Gaussians(normal[0], normal[1], normal[2], torch.randn(G, generator=generator), normal[3], face)


def frames_of(F: int = 10, B: int = 2, seed: int = 0) -> Frames:
    vertices = torch.randn(B, 3 * F, 3, generator=torch.Generator().manual_seed(seed))
    return triangle_frames(vertices, torch.arange(3 * F).reshape(F, 3))


# The start ---------------------------------------------------------------------------------------------------------


def test_every_texel_gets_one_gaussian_on_the_surface(egg):
    uv_map, vertices, faces = egg
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    assert len(gaussians) == len(uv_map) and torch.equal(gaussians.face, uv_map.face)
    means, *_ = gaussians.world(triangle_frames(vertices[None], faces))
    surface = (vertices[faces[uv_map.face]] * uv_map.bary[..., None]).sum(1)
    torch.testing.assert_close(means[0], surface, atol=1e-6, rtol=0)


def test_a_start_is_finite_and_its_axes_within_five_times_each_other(egg):
    uv_map, vertices, faces = egg
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    assert all(getattr(gaussians, name).isfinite().all() for name in ATTRIBUTES)
    spread = gaussians.log_scales.amax(1) - gaussians.log_scales.amin(1)
    assert spread.max().exp() <= MAX_STRETCH / THICKNESS + 1e-3
    assert (gaussians.log_scales.argmin(1) == 1).all()  # the normal is the thin axis


def test_extents_are_those_of_the_texel_in_the_triangles_axes():
    """A sheet of rectangles: one texel is 3 mm by 2 mm, the first edge runs along it."""
    uv_map, vertices, faces = sheet((0.003 * 32, 0.0), (0.0, 0.002 * 32))
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    _, quats, scales, *_ = gaussians.world(triangle_frames(vertices[None], faces))
    R = quaternion_to_matrix(quats[0])  # [G, 3, 3]
    deviation = (R * scales[0][:, None, :]).square().sum(-1).sqrt()  # along x, y and z
    first = torch.tensor([0.003, 0.002, THICKNESS * 0.002]).double() * SPREAD
    lower = gaussians.face < len(faces) // 2  # triangles with their first edge along x; the others' is the diagonal
    torch.testing.assert_close(deviation[lower], first.expand(int(lower.sum()), 3), rtol=1e-4, atol=0)


def transmittance(gaussians: Gaussians, vertices, faces, points: torch.Tensor) -> torch.Tensor:
    """What is left of the light behind, at points [P, 2] of a flat sheet seen straight on: no rasterizer involved."""
    means, quats, scales, opacities, _ = gaussians.world(triangle_frames(vertices[None], faces))
    R = quaternion_to_matrix(quats[0])
    covariance = (R * scales[0][:, None, :].square()) @ R.mT  # [G, 3, 3]
    offset = points[:, None] - means[0, :, :2]  # [P, G, 2]
    distance = torch.einsum("pgi,gij,pgj->pg", offset, torch.linalg.inv(covariance[:, :2, :2]), offset)
    return (1 - opacities * torch.exp(-0.5 * distance)).prod(1)


@pytest.mark.parametrize(
    ("across", "up"),
    [
        ((0.064, 0.0), (0.0, 0.064)),
        ((0.064, 0.0), (0.0, 0.03)),
        ((0.05, 0.05), (-0.03, 0.05)),
        ((0.064, 0.0), (0.04, 0.06)),
    ],
    ids=["square", "stretched", "turned", "sheared"],
)
def test_neighbouring_splats_close_the_surface(across, up):
    uv_map, vertices, faces = sheet(across, up)
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    uv = 0.2 + 0.6 * torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = uv @ torch.tensor([across, up]).double()
    assert transmittance(gaussians, vertices, faces, points).max() < 0.02


def test_less_overlap_would_leave_holes():
    uv_map, vertices, faces = sheet((0.064, 0.0), (0.0, 0.064))
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    gaussians.log_scales += np.log(0.4 / SPREAD)
    points = 0.02 + 0.02 * torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert transmittance(gaussians, vertices, faces, points).max() > 0.3


def test_a_seam_does_not_blow_up_the_texels_beside_it():
    """Two patches that touch in the chart and lie half a metre apart on the mesh."""
    vt = torch.tensor([[0, 0], [0.5, 0], [0.5, 1], [0, 1], [0.5, 0], [1, 0], [1, 1], [0.5, 1]]).double()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    vertices = torch.cat([vt * 0.1, torch.zeros(8, 1).double()], 1)
    vertices[4:] += 0.5
    gaussians = Gaussians.initial(build_uv_map(vt, faces, 16), vertices, faces, torch.rand(256, 3))
    _, _, scales, _, _ = gaussians.world(triangle_frames(vertices[None], faces))
    assert scales.max() < 0.1 / 16 * 1.5


def test_a_few_sparse_texels_do_not_become_giants():
    """The last column of the sheet is fifty times wider than the others: its splats stay near the common size."""
    uv_map, vertices, faces = sheet((0.032, 0.0), (0.0, 0.032), cells=8)
    usual = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    _, _, before, *_ = usual.world(triangle_frames(vertices[None], faces))
    vertices[vertices[:, 0] > 0.031, 0] += 0.2
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(uv_map), 3))
    _, _, after, *_ = gaussians.world(triangle_frames(vertices[None], faces))
    assert after.max() < 4.5 * before.max()
    assert (after[0, :, 0] > 2 * before[0, :, 0]).sum() > 50  # they do grow


@pytest.mark.parametrize("texels", [[(5, 5)], [(5, 5), (5, 6)], [(5, 5), (6, 5)]])
def test_texels_without_neighbours_are_finite_and_no_larger_than_their_triangle(texels):
    row, col = torch.tensor(texels).T
    uv_map = UVMap(16, torch.zeros(len(row)).long(), torch.full((len(row), 3), 1 / 3), row, col)
    uv_map.bary[-1] = torch.tensor([0.4, 0.3, 0.3])
    vertices, faces = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0, 0.01, 0]]), torch.tensor([[0, 1, 2]])
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.rand(len(row), 3))
    assert gaussians.log_scales.isfinite().all() and (gaussians.log_scales < 0).all()


def test_a_triangle_without_area_gives_a_finite_start():
    uv_map = UVMap(4, torch.zeros(1).long(), torch.full((1, 3), 1 / 3), torch.tensor([1]), torch.tensor([1]))
    gaussians = Gaussians.initial(uv_map, torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(1, 3))
    assert all(getattr(gaussians, name).isfinite().all() for name in ATTRIBUTES)


def test_first_colours_and_opacity_are_the_given_ones():
    uv_map, vertices, faces = sheet((0.064, 0.0), (0.0, 0.064))
    colors = torch.rand(len(uv_map), 3)
    colors[0], colors[1] = 0.0, 1.0
    gaussians = Gaussians.initial(uv_map, vertices, faces, colors)
    assert gaussians.color_logits.isfinite().all()
    torch.testing.assert_close(gaussians.colors, colors, atol=0.5 / 255, rtol=0)
    torch.testing.assert_close(gaussians.opacities, torch.full((len(uv_map),), OPACITY).double())


def test_the_rendered_start_has_no_holes(egg):
    from sa0lib.rasterize import rasterization

    uv_map, vertices, faces = egg
    gaussians = Gaussians.initial(uv_map, vertices, faces, torch.full((len(uv_map), 3), 0.5))
    means, quats, scales, opacities, colors = gaussians.world(triangle_frames(vertices[None], faces))
    view = look_at(torch.tensor([0.1, 0.05, 0.9]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    camera = Camera(intrinsics(400.0, 128, 128), view, 128, 128)
    image, alpha, _ = rasterization(means[0], quats[0], scales[0], opacities, colors, camera.viewmat[None],
                                    camera.K[None], 128, 128, backend="reference")  # fmt: skip
    rows, cols = torch.meshgrid(torch.arange(128) + 0.5 - 64, torch.arange(128) + 0.5 - 64, indexing="ij")
    inside = (rows / 48) ** 2 + (cols / 30) ** 2 < 1  # well within the egg's outline
    assert alpha[0, ..., 0][inside].min() > 0.98
    torch.testing.assert_close(image[0][inside], 0.5 * alpha[0][inside].expand(-1, 3), atol=1e-4, rtol=0)


# What a rasterizer gets ------------------------------------------------------------------------------------------


def test_world_applies_the_activations():
    gaussians, frames = random_set(), frames_of()
    means, quats, scales, opacities, colors = gaussians.world(frames)
    assert means.shape == (2, 50, 3) and quats.shape == (2, 50, 4) and scales.shape == (2, 50, 3)
    torch.testing.assert_close(scales[1], gaussians.log_scales.exp() * frames.scale[1, gaussians.face, None])
    torch.testing.assert_close(opacities, 1 / (1 + (-gaussians.opacity_logits).exp()))
    torch.testing.assert_close(colors, 1 / (1 + (-gaussians.color_logits).exp()))


def test_gradients_reach_every_attribute():
    gaussians = random_set()
    for name in ATTRIBUTES[:-1]:
        getattr(gaussians, name).requires_grad_()
    sum((x * torch.rand_like(x)).sum() for x in gaussians.world(frames_of())).backward()
    assert all(getattr(gaussians, name).grad.abs().sum() > 0 for name in ATTRIBUTES[:-1])


# PLY ---------------------------------------------------------------------------------------------------------------

LAYOUT = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
          "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]  # fmt: skip


def test_a_local_ply_comes_back_as_it_was(tmp_path):
    gaussians = random_set()
    gaussians.save_ply_local(tmp_path / "avatar.ply")
    found = load_ply(tmp_path / "avatar.ply")
    for name in ATTRIBUTES:
        torch.testing.assert_close(getattr(found, name), getattr(gaussians, name), atol=1e-5, rtol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["avatar.ply"]


def test_the_local_layout_is_that_of_3dgs_with_the_binding(tmp_path):
    gaussians = random_set()
    gaussians.save_ply_local(tmp_path / "avatar.ply")
    ply = PlyData.read(tmp_path / "avatar.ply")
    assert (ply.text, ply.byte_order) == (False, "<")
    assert [p.name for p in ply["vertex"].properties] == [*LAYOUT, "binding_0"]
    assert [p.val_dtype for p in ply["vertex"].properties] == ["f4"] * 17 + ["i4"]
    rows = ply["vertex"].data
    np.testing.assert_array_equal(rows["binding_0"], gaussians.face)
    np.testing.assert_array_equal(rows["scale_2"], gaussians.log_scales[:, 2])
    np.testing.assert_array_equal(rows["rot_0"], gaussians.quats[:, 0])
    np.testing.assert_array_equal(rows["opacity"], gaussians.opacity_logits)
    np.testing.assert_allclose(rows["f_dc_1"] * C0 + 0.5, gaussians.colors[:, 1], atol=1e-6)


def test_a_baked_ply_holds_the_world(tmp_path):
    gaussians, frames = random_set(), frames_of()
    gaussians.save_ply_world(tmp_path / "frame.ply", frames, 1)
    rows = PlyData.read(tmp_path / "frame.ply")["vertex"].data
    assert list(rows.dtype.names) == LAYOUT
    means, quats, scales, opacities, _ = gaussians.world(frames)
    np.testing.assert_array_equal(np.stack([rows[n] for n in "xyz"], 1), means[1])
    np.testing.assert_allclose(np.exp(np.stack([rows[f"scale_{k}"] for k in range(3)], 1)), scales[1], rtol=1e-5)
    np.testing.assert_array_equal(np.stack([rows[f"rot_{k}"] for k in range(4)], 1), quats[1])
    np.testing.assert_allclose(1 / (1 + np.exp(-rows["opacity"])), opacities, rtol=1e-5)


def test_a_set_on_a_collapsed_triangle_can_be_baked(tmp_path):
    gaussians = random_set(F=1)
    frames = triangle_frames(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]))
    gaussians.save_ply_world(tmp_path / "frame.ply", frames)
    assert (tmp_path / "frame.ply").exists()


def test_gaussian_avatars_float_binding_is_read(tmp_path):
    gaussians = random_set()
    gaussians.save_ply_local(tmp_path / "avatar.ply")
    rows = PlyData.read(tmp_path / "avatar.ply")["vertex"].data
    rows = rows.astype([(name, "f4") for name in rows.dtype.names])
    PlyData([PlyElement.describe(rows, "vertex")]).write(tmp_path / "theirs.ply")
    assert torch.equal(load_ply(tmp_path / "theirs.ply").face, gaussians.face)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ATTRIBUTES[:4])
def test_a_set_that_is_not_finite_is_not_written_and_its_attribute_named(tmp_path, name, bad):
    gaussians = random_set()
    gaussians.save_ply_local(tmp_path / "avatar.ply")
    before = (tmp_path / "avatar.ply").read_bytes()
    getattr(gaussians, name).view(-1)[7] = bad
    with pytest.raises(ValueError, match=f"avatar.ply not written: {name} of 1 Gaussians"):
        gaussians.save_ply_local(tmp_path / "avatar.ply")
    assert (tmp_path / "avatar.ply").read_bytes() == before


def test_a_colour_that_is_no_number_is_not_written(tmp_path):
    gaussians = random_set()
    gaussians.color_logits[3, 1] = float("nan")
    with pytest.raises(ValueError, match="color_logits of 1 Gaussians"):
        gaussians.save_ply_world(tmp_path / "avatar.ply", frames_of())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    gaussians = random_set()
    gaussians.save_ply_local(tmp_path / "avatar.ply")
    before = (tmp_path / "avatar.ply").read_bytes()

    def full_disk(self, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(PlyData, "write", full_disk)
    with pytest.raises(OSError, match="No space"):
        dataclasses.replace(gaussians, means=gaussians.means + 1).save_ply_local(tmp_path / "avatar.ply")
    assert (tmp_path / "avatar.ply").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["avatar.ply"]


def rewritten(tmp_path, **columns):
    """A PLY of a small set with columns replaced, added, or (None) left out."""
    random_set().save_ply_local(tmp_path / "avatar.ply")
    rows = PlyData.read(tmp_path / "avatar.ply", mmap=False)["vertex"].data
    data = {name: rows[name] for name in rows.dtype.names} | columns
    data = {name: np.asarray(value) for name, value in data.items() if value is not None}
    out = np.empty(len(rows), [(name, value.dtype) for name, value in data.items()])
    for name, value in data.items():
        out[name] = value
    PlyData([PlyElement.describe(out, "vertex")]).write(tmp_path / "other.ply")
    return tmp_path / "other.ply"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rot_3": None}, "no number 'rot_3'"),
        ({"binding_0": None}, "no binding_0"),
        ({"binding_0": np.full(50, -1, np.int32)}, "no triangle numbers"),
        ({"binding_0": np.full(50, 0.5, np.float32)}, "no triangle numbers"),
        ({"scale_1": np.full(50, np.nan, np.float32)}, "scale_1 holds NaN"),
        ({"f_rest_4": np.ones(50, np.float32)}, "view-dependent colour"),
    ],
)
def test_a_ply_that_is_no_local_set_is_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=f"other.ply: .*{message}"):
        load_ply(rewritten(tmp_path, **columns))


def test_zero_view_dependence_is_read(tmp_path):
    assert len(load_ply(rewritten(tmp_path, f_rest_0=np.zeros(50, np.float32)))) == 50


@pytest.mark.parametrize("keep", [0, 3, 200, 600, -1])
def test_a_truncated_ply_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "avatar.ply"
    random_set().save_ply_local(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="avatar.ply: damaged or no PLY"):
        load_ply(path)


@pytest.mark.parametrize(
    "data",
    [
        b"solid not a ply",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999999\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int binding_0\nend_header\n2 1 1\n",
        b"ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n",
    ],
)
def test_a_foreign_ply_is_one_clear_error(tmp_path, data):
    (tmp_path / "avatar.ply").write_bytes(data)
    with pytest.raises(ValueError, match="avatar.ply: "):
        load_ply(tmp_path / "avatar.ply")


def test_a_missing_ply_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="avatar.ply"):
        load_ply(tmp_path / "avatar.ply")
