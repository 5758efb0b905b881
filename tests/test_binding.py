"""Eq. (1) and Eq. (8): the frame is a rotation, the binding is rigid, and degenerate triangles stay finite."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa0lib.binding import Frames, bind, local_from_barycentric, triangle_frames
from sa0lib.rotation import axis_angle_to_matrix, normalize, quaternion_to_matrix

seeds = st.integers(0, 10**6)
FACES = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 4, 5], [0, 5, 6]])


def triangles(seed: int, B: int = 2, size: float = 0.003) -> torch.Tensor:
    """Seven vertices [B, 7, 3] about as far apart as those of a head mesh, float64."""
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(B, 7, 3, generator=generator, dtype=torch.float64) + 0.1


def gaussians(seed: int, G: int = 20):
    generator = torch.Generator().manual_seed(seed)
    means, scales = (torch.randn(G, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    quats = torch.randn(G, 4, generator=generator, dtype=torch.float64)
    return means, quats, scales.exp(), torch.randint(0, len(FACES), (G,), generator=generator)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_frame_has_determinant_plus_one(seed):
    R = triangle_frames(triangles(seed), FACES).R
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(2, 4).double())
    torch.testing.assert_close(R.mT @ R, torch.eye(3).double().expand(2, 4, 3, 3))


def test_frame_by_hand():
    """First edge along x, the triangle in the floor plane y = 0, seen counter-clockwise from above."""
    v = torch.tensor([[[0.0, 0, 0], [4, 0, 0], [1, 0, -2]]], dtype=torch.float64)
    frames = triangle_frames(v, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(frames.R[0, 0], torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).double())
    torch.testing.assert_close(frames.center[0, 0], torch.tensor([5 / 3, 0, -2 / 3]).double())
    torch.testing.assert_close(frames.scale[0, 0], torch.tensor((4 + 2) / 2).double())  # Eq. (8): edge and altitude


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_normal_axis_points_to_the_counter_clockwise_side(seed):
    v = triangles(seed)
    a, b, c = (v[:, FACES[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    assert ((triangle_frames(v, FACES).R[..., 1] * normal).sum(-1) > 0).all()


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_scale_is_the_mean_of_the_edge_and_its_altitude(seed):
    v = triangles(seed)
    a, b, c = (v[:, FACES[:, k]] for k in range(3))
    edge = (b - a).norm(dim=-1)
    altitude = torch.linalg.cross(b - a, c - a).norm(dim=-1) / edge  # twice the area over the base
    torch.testing.assert_close(triangle_frames(v, FACES).scale, (edge + altitude) / 2)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_quaternion_is_the_frames_rotation(seed):
    frames = triangle_frames(triangles(seed), FACES)
    torch.testing.assert_close(quaternion_to_matrix(frames.quat), frames.R)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_moving_the_mesh_rigidly_moves_the_gaussians_rigidly(seed):
    v, (means, quats, scales, face) = triangles(seed), gaussians(seed)
    generator = torch.Generator().manual_seed(seed)
    Q = axis_angle_to_matrix(2 * torch.randn(3, generator=generator, dtype=torch.float64))
    t = torch.randn(3, generator=generator, dtype=torch.float64)
    before = bind(means, quats, scales, face, triangle_frames(v, FACES))
    after = bind(means, quats, scales, face, triangle_frames(v @ Q.T + t, FACES))
    torch.testing.assert_close(after[0], before[0] @ Q.T + t)
    torch.testing.assert_close(quaternion_to_matrix(after[1]), Q @ quaternion_to_matrix(before[1]))
    torch.testing.assert_close(after[2], before[2])


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.1, 10))
def test_growing_the_mesh_grows_the_gaussians_with_it(seed, factor):
    v, (means, quats, scales, face) = triangles(seed), gaussians(seed)
    before = bind(means, quats, scales, face, triangle_frames(v, FACES))
    after = bind(means, quats, scales, face, triangle_frames(v * factor, FACES))
    torch.testing.assert_close(after[0], before[0] * factor)
    torch.testing.assert_close(after[1], before[1])
    torch.testing.assert_close(after[2], before[2] * factor)


def test_bind_is_equation_one_written_out():
    v, (means, quats, scales, face) = triangles(0), gaussians(0)
    frames = triangle_frames(v, FACES)
    world_means, world_quats, world_scales = bind(means, quats, scales, face, frames)
    for b in range(len(v)):
        for g in range(len(means)):
            f = face[g]
            R, s = frames.R[b, f], frames.scale[b, f]
            torch.testing.assert_close(world_means[b, g], R @ means[g] * s + frames.center[b, f])
            torch.testing.assert_close(quaternion_to_matrix(world_quats[b, g]), R @ quaternion_to_matrix(quats[g]))
            torch.testing.assert_close(world_scales[b, g], scales[g] * s)


def bound_with_gradients(seed, dtype, B=2):
    """What `bind` returns for these inputs, and the gradients of a random linear function of it."""
    frames, (*values, face) = triangle_frames(triangles(seed, B), FACES), gaussians(seed)
    frames = Frames(*(getattr(frames, field.name).to(dtype) for field in fields(frames)))
    leaves = [value.to(dtype).requires_grad_() for value in values]
    bound = bind(*leaves, face, frames)
    g = torch.Generator().manual_seed(seed)
    loss = sum((out * torch.randn(out.shape, generator=g, dtype=torch.float64).to(dtype)).sum() for out in bound)
    return [out.detach().double() for out in bound], [x.double() for x in torch.autograd.grad(loss, leaves)]


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 3))
def test_the_kernel_is_the_float64_equation_with_its_gradients(seed, B):
    (bound, slopes), (expected, expected_slopes) = (
        bound_with_gradients(seed, t, B) for t in (torch.float32, torch.float64)
    )
    for got, truth in zip(bound + slopes, expected + expected_slopes, strict=True):
        assert (got - truth).norm() < 2e-6 * truth.norm()


def test_the_kernel_keeps_a_vanishing_quaternion_finite():
    frames = triangle_frames(triangles(0).float(), FACES)
    quats = torch.zeros(2, 4, requires_grad=True)
    _, turned, _ = bind(torch.zeros(2, 3), quats, torch.ones(2, 3), torch.tensor([0, 1]), frames)
    turned.sum().backward()
    assert (turned == 0).all() and quats.grad.isfinite().all()


@pytest.mark.parametrize("outside", [-1, len(FACES)])
def test_a_triangle_that_is_not_there_is_an_error(outside):
    frames = triangle_frames(triangles(0).float(), FACES)
    with pytest.raises(ValueError, match=f"face names triangles .*{outside}.* frames are of 4"):
        bind(torch.zeros(2, 3), torch.ones(2, 4), torch.ones(2, 3), torch.tensor([2, outside]), frames)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "change",
    [
        dict(quats=torch.ones(1, 4)),
        dict(quats=torch.ones(2, 3)),
        dict(scales=torch.ones(2, 1)),
        dict(means=torch.ones(2, 4)),
        dict(face=torch.tensor([0])),
        dict(face=torch.tensor([0.0, 1.0])),
        dict(face=torch.tensor([True, False])),
    ],
)
def test_a_misshapen_gaussian_is_an_error(change, dtype):
    good = dict(means=torch.ones(2, 3), quats=torch.ones(2, 4), scales=torch.ones(2, 3), face=torch.tensor([0, 1]))
    frames = triangle_frames(triangles(0).to(dtype), FACES)
    inputs = {name: value.to(dtype) if name != "face" else value for name, value in (good | change).items()}
    with pytest.raises(ValueError, match="must be"):
        bind(**inputs, frames=frames)


def test_frames_that_want_a_gradient_get_one():
    vertices = triangles(0).float().requires_grad_(True)
    means, quats, scales, face = gaussians(0)
    bound = bind(means.float(), quats.float(), scales.float(), face, triangle_frames(vertices, FACES))
    sum(out.sum() for out in bound).backward()
    assert vertices.grad.abs().max() > 0


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_barycentric_point_goes_to_local_and_back(seed):
    v = triangles(seed, B=1)
    generator = torch.Generator().manual_seed(seed)
    bary = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    bary = bary / bary.sum(-1, keepdim=True)
    _, quats, scales, face = gaussians(seed)
    local = local_from_barycentric(bary, face, v[0], FACES)
    world, _, _ = bind(local, quats, scales, face, triangle_frames(v, FACES))
    torch.testing.assert_close(world[0], (v[0, FACES[face]] * bary[..., None]).sum(1))
    torch.testing.assert_close(local[:, 1], torch.zeros(20).double(), atol=1e-10, rtol=0)  # on the surface


def degenerate(kind: str) -> torch.Tensor:
    p = torch.tensor([0.03, -0.02, 0.05])
    e = torch.tensor([0.001, 0.002, -0.001])
    return {
        "zero area: corners in a line": torch.stack([p, p + e, p + 2 * e]),
        "zero area: third corner on the first": torch.stack([p, p + e, p]),
        "zero first edge": torch.stack([p, p, p + e]),
        "all corners in one place": torch.stack([p, p, p]),
        "needle": torch.stack([p, p + e, p + 0.5 * e + torch.tensor([1e-8, 0.0, 0.0])]),
        "tiny": torch.stack([p, p + 1e-9 * e, p + torch.tensor([0.0, 1e-12, 0.0])]),
    }[kind]


KINDS = ["zero area: corners in a line", "zero area: third corner on the first", "zero first edge",
         "all corners in one place", "needle", "tiny"]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_triangles_have_finite_values_and_gradients(kind, dtype):
    v = degenerate(kind).to(dtype)[None].requires_grad_()
    means, quats, scales = (torch.ones(1, n, dtype=dtype, requires_grad=True) for n in (3, 4, 3))
    frames = triangle_frames(v, torch.tensor([[0, 1, 2]]))
    outputs = bind(means, quats, scales, torch.tensor([0]), frames)
    assert all(x.isfinite().all() for x in (*outputs, frames.R, frames.quat, frames.scale))
    sum((x * torch.arange(1, x.shape[-1] + 1)).sum() for x in (*outputs, frames.R)).backward()
    assert all(x.grad.isfinite().all() for x in (v, means, quats, scales))


@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_triangles_still_have_a_unit_quaternion(kind):
    quat = triangle_frames(degenerate(kind)[None], torch.tensor([[0, 1, 2]])).quat
    torch.testing.assert_close(quat.norm(dim=-1), torch.ones(1, 1))


def test_the_scale_of_a_flat_triangle_is_half_its_first_edge():
    v = degenerate("zero area: third corner on the first")
    frames = triangle_frames(v[None], torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(frames.scale[0, 0], (v[1] - v[0]).norm() / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_points_of_degenerate_triangles_have_finite_local_places(kind):
    local = local_from_barycentric(
        torch.full((1, 3), 1 / 3), torch.tensor([0]), degenerate(kind), torch.tensor([[0, 1, 2]])
    )
    assert local.isfinite().all()


def test_gradients_of_the_binding_are_right():
    v, (means, quats, scales, face) = triangles(3, B=2, size=1.0), gaussians(3, G=5)
    inputs = [x.requires_grad_() for x in (v, means, quats, scales)]
    assert torch.autograd.gradcheck(
        lambda v, m, q, s: bind(m, q, s, face, triangle_frames(v, FACES)), inputs, fast_mode=True
    )


def test_local_quaternions_of_any_length_give_unit_world_quaternions():
    means, quats, scales, face = gaussians(0)
    frames = triangle_frames(triangles(0), FACES)
    _, short, _ = bind(means, quats, scales, face, frames)
    _, long, _ = bind(means, 1000 * normalize(quats), scales, face, frames)
    torch.testing.assert_close(short, long)
    torch.testing.assert_close(short.norm(dim=-1), torch.ones(2, len(face)).double())
