"""Every conversion is checked by projecting known points through both conventions, written out independently."""

import math

import pytest
import torch

from sa0lib import camera as cam
from sa0lib.camera import Camera
from sa0lib.rotation import axis_angle_to_matrix


def double(values):
    return torch.tensor(values, dtype=torch.float64)


POINTS = double([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.12, 0.0], [0.03, -0.05, 0.09], [-0.08, 0.02, -0.04]])


@pytest.fixture
def camera():
    viewmat = cam.look_at(double([0.2, 0.1, 0.9]), double([0.0, 0.02, 0.0]), double([0.0, 1.0, 0.0]))
    K = double([[700.0, 0.0, 130.0], [0.0, 690.0, 97.0], [0.0, 0.0, 1.0]])
    return Camera(K, viewmat, 256, 192)


def test_left_of_the_subject_is_right_in_the_image_and_up_is_up():
    viewmat = cam.orbit(0.0, 0.0, 1.0, torch.zeros(3))
    frontal = Camera(cam.intrinsics(500.0, 200, 100), viewmat, 200, 100)
    xy, depth = frontal.project(torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0, 0, 0.1]]))
    expected = torch.tensor([[100.0, 50.0], [150.0, 50.0], [100.0, 0.0], [100.0, 50.0]])
    assert torch.allclose(xy, expected, atol=1e-4)
    assert torch.allclose(depth, torch.tensor([1.0, 1.0, 1.0, 0.9]))


def test_orbit_azimuth_goes_to_plus_x_and_elevation_to_plus_y():
    viewmat = cam.orbit(torch.tensor([0.3, 0.0]), torch.tensor([0.0, 0.2]), 2.0, torch.zeros(3))
    center = torch.stack([Camera(torch.eye(3), v, 1, 1).center for v in viewmat])
    expected = torch.tensor([[math.sin(0.3), 0, math.cos(0.3)], [0, math.sin(0.2), math.cos(0.2)]]) * 2
    assert torch.allclose(center, expected, atol=1e-6)


def test_center_and_direction_are_those_of_look_at(camera):
    assert torch.allclose(camera.center, double([0.2, 0.1, 0.9]))
    towards = double([0.0, 0.02, 0.0]) - double([0.2, 0.1, 0.9])
    assert torch.allclose(camera.direction, towards / towards.norm())


def test_look_at_is_a_rotation_with_determinant_plus_one(camera):
    R = camera.viewmat[:3, :3]
    assert (R @ R.T - torch.eye(3)).abs().max() < 1e-12 and abs(torch.linalg.det(R) - 1) < 1e-12


def test_look_at_refuses_up_along_the_view():
    with pytest.raises(ValueError, match="parallel"):
        cam.look_at(torch.tensor([0.0, 2.0, 0.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))


def test_resized_keeps_relative_positions(camera):
    xy, depth = camera.project(POINTS)
    xy_small, depth_small = camera.resized(64, 96).project(POINTS)
    assert torch.allclose(xy_small, xy * double([64 / 256, 96 / 192])) and torch.equal(depth, depth_small)


def test_opengl_c2w_projects_to_the_same_pixels(camera):
    c2w = cam.to_opengl_c2w(camera.viewmat)
    in_gl = (POINTS - c2w[:3, 3]) @ c2w[:3, :3]  # x right, y up, z backward
    u = 700 * in_gl[:, 0] / -in_gl[:, 2] + 130
    v = 97 - 690 * in_gl[:, 1] / -in_gl[:, 2]
    xy, depth = camera.project(POINTS)
    assert torch.allclose(torch.stack([u, v], -1), xy) and torch.allclose(-in_gl[:, 2], depth)


def test_opengl_round_trip(camera):
    assert torch.allclose(cam.from_opengl_c2w(cam.to_opengl_c2w(camera.viewmat)), camera.viewmat, atol=1e-14)


def test_opengl_identity_looks_along_minus_z():
    view = Camera(torch.eye(3), cam.from_opengl_c2w(torch.eye(4)), 1, 1)
    assert torch.equal(view.direction, torch.tensor([0.0, 0.0, -1.0]))


@pytest.mark.parametrize("diagonal", [(2.0, 2.0, 2.0), (-1.0, 1.0, 1.0)])
def test_scaled_or_mirrored_camera_matrices_are_refused(diagonal):
    c2w = torch.diag(torch.tensor([*diagonal, 1.0]))
    with pytest.raises(ValueError, match="rotation"):
        cam.from_opengl_c2w(c2w)


def test_pytorch3d_camera_projects_to_the_same_pixels():
    R = axis_angle_to_matrix(double([0.1, 3.0, -0.2]))
    T = double([0.02, -0.05, 1.1])
    focal, principal, width, height = (2.5, 2.4), (0.1, -0.2), 320, 200
    in_p3d = POINTS @ R + T  # row vectors, x left, y up
    ndc = in_p3d[:, :2] / in_p3d[:, 2:] * double(focal) + double(principal)
    half = min(width, height) / 2
    expected = double([width / 2, height / 2]) - ndc * half  # NDC axes point left and up
    xy, depth = cam.from_pytorch3d(R, T, focal, principal, width, height).project(POINTS)
    assert torch.allclose(xy, expected) and torch.allclose(depth, in_p3d[:, 2])


def test_pytorch3d_direction_is_the_third_column_of_its_matrix():
    R = axis_angle_to_matrix(double([0.1, 3.0, -0.2]))
    view = cam.from_pytorch3d(R, double([0.0, 0.0, 1.0]), (1.0, 1.0), (0.0, 0.0), 8, 8)
    assert torch.allclose(view.direction, R[:, 2])


@pytest.mark.parametrize("size", [512, 256])
def test_gagavatar_track_sees_a_mesh_in_metres_as_it_saw_it_times_five(size):
    R, T = axis_angle_to_matrix(double([0.05, 3.1, 0.02])), double([0.03, -0.1, 9.0])
    in_p3d = (5 * POINTS) @ R + T
    focal = 3072 * size / 512  # pixels
    expected = size / 2 - focal * in_p3d[:, :2] / in_p3d[:, 2:]
    view = cam.from_gagavatar_track(torch.cat([R, T[:, None]], 1), size)
    xy, depth = view.project(POINTS)
    assert torch.allclose(xy, expected) and torch.allclose(depth, in_p3d[:, 2] / 5)
    assert (view.width, view.height) == (size, size)


def test_gagavatar_track_refuses_another_shape():
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        cam.from_gagavatar_track(torch.eye(4))


@pytest.mark.parametrize(
    "field, arguments",
    [
        ("K", (torch.eye(4), torch.eye(4), 8, 8)),
        ("viewmat", (torch.eye(3), torch.eye(3), 8, 8)),
        ("width 0", (torch.eye(3), torch.eye(4), 0, 8)),
    ],
)
def test_a_malformed_camera_names_the_field(field, arguments):
    with pytest.raises(ValueError, match=field):
        Camera(*arguments)
