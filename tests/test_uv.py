"""sa0lib.uv: texels to triangles, and the z-buffer behind the pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from sa0lib.uv import build_uv_map, rasterize_triangles


def disk_of_triangles(seed: int, n: int = 40, grid: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A triangulated patch in the unit square; with `grid`, its corners lie on texel centres."""
    points = np.random.default_rng(seed).uniform(0.05, 0.95, (n, 2))
    if grid:
        points = np.unique((np.floor(points * grid) + 0.5) / grid, axis=0)
    return points, Delaunay(points).simplices


def hits(xy: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """How often each pixel is drawn when every triangle is drawn on its own."""
    depth = np.ones(len(xy))
    return sum((rasterize_triangles(xy, depth, face[None], size, size)[0] >= 0).astype(int) for face in faces)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_pixel_is_covered_twice_even_when_corners_and_edges_lie_on_pixel_centres(seed):
    vt, ft = disk_of_triangles(seed, grid=16)
    assert hits(vt * 16, ft, 16).max() == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_triangles_that_fill_the_square_leave_no_hole_and_no_overlap(seed):
    inner, _ = disk_of_triangles(seed, grid=16)
    vt = np.concatenate([inner, [[0, 0], [1, 0], [1, 1], [0, 1]]])
    assert (hits(vt * 16, Delaunay(vt).simplices, 16) == 1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_winding_does_not_change_which_pixels_are_drawn(seed):
    vt, ft = disk_of_triangles(seed, grid=16)
    one = rasterize_triangles(vt * 16, np.ones(len(vt)), ft, 16, 16)[0]
    other = rasterize_triangles(vt * 16, np.ones(len(vt)), ft[:, ::-1], 16, 16)[0]
    assert np.array_equal(one, other)


def test_a_square_of_two_triangles_covers_exactly_its_pixels():
    xy = np.array([[2.5, 1.5], [6.5, 1.5], [6.5, 4.5], [2.5, 4.5]])  # every border lies on pixel centres
    assert hits(xy, np.array([[0, 1, 2], [0, 2, 3]]), 8).sum() == 4 * 3


def test_pixel_centres_are_at_one_half():
    xy = np.array([[3.4, 2.4], [3.6, 2.4], [3.5, 2.7]])  # a speck around (3.5, 2.5): row 2, column 3
    face, _, _ = rasterize_triangles(xy, np.ones(3), np.array([[0, 1, 2]]), 8, 8)
    assert np.argwhere(face == 0).tolist() == [[2, 3]]


def test_the_nearer_triangle_is_seen_in_either_order():
    xy = np.array([[0, 0], [8, 0], [0, 8], [0, 0], [8, 0], [0, 8]], float)
    depth = np.array([2.0, 2, 2, 1, 1, 1])
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    for order, nearer in ((faces, 1), (faces[::-1], 0)):
        face, _, z = rasterize_triangles(xy, depth, order, 8, 8)
        assert set(np.unique(face)) == {-1, nearer} and np.all(z[face >= 0] == 1.0)


def test_weights_rebuild_the_surface_point_under_perspective():
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 2], [1, 1, 5], (3, 3))  # camera axes
    K = np.array([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])
    xy = (points @ K.T)[:, :2] / points[:, 2:]
    face, bary, depth = rasterize_triangles(xy, points[:, 2], np.array([[0, 1, 2]]), 32, 32)
    row, col = np.nonzero(face >= 0)
    on_surface = bary[row, col] @ points  # [P, 3]
    seen = (on_surface @ K.T)[:, :2] / on_surface[:, 2:]
    assert len(row) > 20
    np.testing.assert_allclose(seen, np.stack([col + 0.5, row + 0.5], 1), atol=1e-10)
    np.testing.assert_allclose(depth[row, col], on_surface[:, 2], rtol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_a_triangle_reaching_behind_the_camera_is_not_drawn(bad):
    xy = np.array([[0, 0], [8, 0], [0, 8]], float)
    face, _, depth = rasterize_triangles(xy, np.array([1.0, 1.0, bad]), np.array([[0, 1, 2]]), 8, 8)
    assert (face == -1).all() and np.isinf(depth).all()


@pytest.mark.parametrize("corner", [[1e300, 1e300], [np.inf, 0.0], [np.nan, 0.0]])
def test_a_corner_at_infinity_does_no_harm(corner):
    xy = np.array([[0, 0], [8, 0], corner], float)
    face, bary, _ = rasterize_triangles(xy, np.ones(3), np.array([[0, 1, 2]]), 8, 8)
    assert np.isfinite(bary[face >= 0]).all()


def test_a_needle_without_area_is_not_drawn():
    xy = np.array([[0.5, 0.5], [6.5, 0.5], [3.5, 0.5]])
    assert (rasterize_triangles(xy, np.ones(3), np.array([[0, 1, 2]]), 8, 8)[0] == -1).all()


def test_texels_follow_the_uv_convention():
    vt, ft = disk_of_triangles(1)
    uv = build_uv_map(vt, ft, 64)
    corners = torch.from_numpy(vt[ft])[uv.face]  # [G, 3, 2]
    where = (uv.bary[:, :, None].double() * corners).sum(1)  # [G, 2]
    centre = torch.stack([(uv.col + 0.5) / 64, 1 - (uv.row + 0.5) / 64], 1)
    torch.testing.assert_close(where, centre.double(), atol=1e-6, rtol=0)


def test_texels_are_in_row_major_order_and_agree_with_the_mask():
    uv = build_uv_map(*disk_of_triangles(2), 32)
    flat = uv.row * 32 + uv.col
    assert (flat.diff() > 0).all() and torch.equal(uv.valid.flatten().nonzero().squeeze(1), flat)
    assert len(uv) == uv.valid.sum()


def test_the_valid_texels_have_the_area_of_the_chart():
    vt, ft = disk_of_triangles(3)
    a, b, c = vt[ft[:, 0]], vt[ft[:, 1]], vt[ft[:, 2]]
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2
    assert len(build_uv_map(vt, ft, 512)) / 512**2 == pytest.approx(area, rel=2e-3)


def test_scatter_puts_each_value_at_its_texel_and_passes_gradients_back():
    uv = build_uv_map(*disk_of_triangles(4), 16)
    values = torch.randn(len(uv), 2, requires_grad=True)
    image = uv.scatter(values)
    assert torch.equal(image[uv.row, uv.col], values) and (image[~uv.valid] == 0).all()
    image.square().sum().backward()
    torch.testing.assert_close(values.grad, 2 * values.detach())


def test_bad_charts_are_refused_by_name():
    square = np.array([[0, 0], [1, 0], [1, 1.0]])
    with pytest.raises(ValueError, match="unit square"):
        build_uv_map(square + 0.1, np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match="unit square"):
        build_uv_map(square * np.nan, np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match="there are only 3"):
        build_uv_map(square, np.array([[0, 1, 3]]))
    with pytest.raises(ValueError, match="no texel"):
        build_uv_map(square * 1e-4, np.array([[0, 1, 2]]))
