"""sa0lib.mesh: pictures of a mesh."""

import numpy as np
import pytest
import torch

from sa0lib.camera import Camera
from sa0lib.mesh import overlay, render_mesh, vertex_normals


def ball(rings: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere, faces wound outwards."""
    t, p = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    vertices = np.stack([np.sin(t) * np.cos(p), np.cos(t), -np.sin(t) * np.sin(p)], -1).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(rings - 1), np.arange(2 * rings - 1), indexing="ij"))
    a = i * 2 * rings + j
    b = a + 2 * rings
    return vertices, np.concatenate([np.stack([a, b, b + 1], 1), np.stack([a, b + 1, a + 1], 1)])


def front_camera(size: int = 64, distance: float = 4.0, focal: float = 100.0) -> Camera:
    """Stands on +z, looks along -z, +y of the world up in the picture."""
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    viewmat[2, 3] = distance
    return Camera(K, viewmat, size, size)


def test_normals_of_a_ball_point_outwards():
    vertices, faces = ball(40)
    inner = np.abs(vertices[:, 1]) < 0.9  # the poles are seams of the parametrisation
    assert ((vertex_normals(vertices, faces) * vertices).sum(1)[inner] > 0.99).all()


def test_the_picture_shows_the_silhouette_that_geometry_predicts():
    image = render_mesh(*ball(60), front_camera(), background=(0, 0, 1))
    covered = 1 - ((image == (0, 0, 255)).all(-1)).mean()
    radius = 100.0 / np.sqrt(4.0**2 - 1)  # of a unit ball seen from distance 4, pixels
    assert covered == pytest.approx(np.pi * radius**2 / 64**2, rel=0.06)  # edge pixels count as covered


def test_up_is_up_and_x_runs_to_the_right():
    vertices, faces = ball()
    colors = np.stack([vertices[:, 0] > 0, vertices[:, 1] > 0, np.zeros(len(vertices))], 1)
    image = render_mesh(vertices, faces, front_camera(), colors)
    assert image[24, 32 + 8, 1] > 50 > image[40, 32 + 8, 1]  # green above
    assert image[32 - 8, 40, 0] > 50 > image[32 - 8, 24, 0]  # red on the right


def test_both_sides_of_a_surface_are_lit_alike():
    vertices, faces = ball()
    camera = front_camera()
    np.testing.assert_array_equal(render_mesh(vertices, faces, camera), render_mesh(vertices, faces[:, ::-1], camera))


def test_tensors_are_taken_as_well_as_arrays():
    vertices, faces = ball()
    np.testing.assert_array_equal(
        render_mesh(torch.from_numpy(vertices), torch.from_numpy(faces), front_camera()),
        render_mesh(vertices, faces, front_camera()),
    )


def test_an_overlay_leaves_the_photograph_alone_where_there_is_no_mesh():
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    out = overlay(photo, *ball(), front_camera())
    assert np.array_equal(out[:4], photo[:4]) and not np.array_equal(out[28:36], photo[28:36])


def test_an_opaque_overlay_is_the_picture_itself():
    vertices, faces = ball()
    camera = front_camera()
    out = overlay(np.full((64, 64, 3), 255, np.uint8), vertices, faces, camera, opacity=1.0)
    np.testing.assert_array_equal(out, render_mesh(vertices, faces, camera))


def test_overlay_refuses_a_picture_of_another_size():
    with pytest.raises(ValueError, match=r"\(32, 64, 3\)"):
        overlay(np.zeros((32, 64, 3), np.uint8), *ball(), front_camera())


def test_a_mesh_behind_the_camera_leaves_the_background():
    vertices, faces = ball()
    assert (render_mesh(vertices + [0, 0, 10], faces, front_camera()) == 255).all()


def test_light_from_the_left_brightens_the_left():
    image = render_mesh(*ball(), front_camera(), lights=(((-1.0, 0.0, -0.3), 0.8),)).astype(int)
    assert image[32, 32 - 15, 1] > image[32, 32 + 15, 1] + 40
