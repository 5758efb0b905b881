"""sa0lib.faces: faces are found where they are, and an embedding says who it is."""

import dlib
import numpy as np
import pytest
import torch

from sa0lib import faces
from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.head import load_head
from sa0lib.mesh import render_mesh
from sa0lib.paths import ASSETS

needs_networks = pytest.mark.skipif(
    not (ASSETS / "dlib_face_embedding.dat").is_file(), reason="run `python -m data_scripts.get_assets --only faces`"
)
SIZE = 128


@pytest.fixture(scope="module")
def head():
    return load_head()


def portrait(head, person: int, azimuth: float = 0.0, size: int = SIZE, jaw: float = 0.0):
    """(A picture of a generated person, the box around their true landmarks)."""
    rng = torch.Generator().manual_seed(person)
    colors = head.vertex_color * (0.55 + 0.45 * torch.rand(1, generator=rng))
    vertices = head(shape=torch.randn(1, 300, generator=rng), jaw=torch.tensor([[jaw, 0.0, 0.0]]))
    camera = Camera(intrinsics(2.6 * size, size, size), orbit(azimuth, 0.0, 0.9, torch.zeros(3)), size, size)
    xy, _ = camera.project(head.landmarks(vertices, "478")[0])
    picture = render_mesh(vertices[0], head.faces, camera, colors, background=(0.4, 0.45, 0.5))
    return picture, torch.cat([xy.amin(0), xy.amax(0)]).numpy()


def identity(head, person: int, **view):
    picture, _ = portrait(head, person, **view)
    return faces.embed(picture, faces.detect(picture)[0])


@pytest.mark.parametrize("size", [64, 128, 600])
def test_a_face_is_found_where_it_is_in_small_and_large_pictures(head, size):
    picture, box = portrait(head, 0, size=size)
    boxes = faces.detect_frontal(picture)
    assert boxes.shape == (1, 4)
    assert np.abs(boxes[0] - box).max() < 0.12 * size


def test_an_empty_picture_has_no_frontal_face():
    assert faces.detect_frontal(np.full((90, 120, 3), 128, np.uint8)).shape == (0, 4)


@needs_networks
def test_an_empty_picture_has_no_face():
    assert faces.detect(np.full((90, 120, 3), 128, np.uint8)).shape == (0, 4)


@needs_networks
def test_a_face_from_the_side_is_found_where_the_frontal_detector_sees_none(head):
    picture, box = portrait(head, 0, azimuth=1.4)
    assert len(faces.detect_frontal(picture)) == 0
    center = faces.detect(picture)[0].reshape(2, 2).mean(0)
    assert (center > box[:2]).all() and (center < box[2:]).all()


@needs_networks
def test_an_embedding_is_128_float32_numbers_and_the_same_each_time(head):
    first = identity(head, 0)
    assert first.shape == (128,) and first.dtype == np.float32
    assert (identity(head, 0) == first).all()


@needs_networks
def test_an_embedding_hardly_changes_when_the_picture_moves_by_a_pixel(head):
    picture, _ = portrait(head, 0)
    box = faces.detect(picture)[0]
    moved = np.roll(picture, (1, 1), (0, 1))
    assert faces.identity_distance(faces.embed(picture, box), faces.embed(moved, box + 1)) < 0.05
    assert faces.identity_distance(faces.embed(picture, box), faces.embed(moved, box)) < 0.1


@needs_networks
def test_one_person_in_two_views_is_closer_than_two_people_in_one(head):
    first, turned, other = identity(head, 0), identity(head, 0, azimuth=0.3, jaw=0.15), identity(head, 1)
    assert faces.identity_distance(first, turned) < 0.8 * faces.identity_distance(first, other)


@needs_networks
def test_csim_separates_two_people_where_the_plain_cosine_does_not(head):
    people = [identity(head, person) for person in range(4)]
    turned, center = identity(head, 0, azimuth=0.2), np.mean(people, 0)
    assert faces.csim(people[0], turned, center) - faces.csim(people[0], people[1], center) > 0.3
    assert faces.csim(people[0], people[1], 0 * center) > 0.8


def test_csim_is_the_cosine_about_the_center():
    center = np.full(128, 0.1)
    x, y = np.zeros(128), np.zeros(128)
    x[0], y[:2] = 2.0, 1.0
    assert faces.csim(center + x, center + x, center) == pytest.approx(1.0)
    assert faces.csim(center + x, center - x, center) == pytest.approx(-1.0)
    assert faces.csim(center + x, center + y, center) == pytest.approx(np.sqrt(0.5))
    assert faces.csim(np.stack([center + x, center + y]), center + x, center).shape == (2,)


def test_identity_distance_is_euclidean_over_the_last_axis():
    a, b = np.zeros((2, 1, 128)), np.zeros((3, 128))
    b[:, :2] = (3.0, 4.0)
    assert faces.identity_distance(a, b).tolist() == [[5.0] * 3] * 2


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(image):
    for function in (faces.detect_frontal, faces.detect, lambda picture: faces.embed(picture, (1, 1, 7, 7))):
        with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
            function(image)


@pytest.mark.parametrize("box", [(1, 2, 3), (5, 5, 5, 9), (9, 5, 1, 9), (0, 0, np.nan, 4), (0, 0, np.inf, 4)])
def test_what_is_no_box_is_refused(box):
    with pytest.raises(ValueError, match="a face box is x0 y0 x1 y1"):
        faces.embed(np.zeros((8, 8, 3), np.uint8), box)


def test_without_the_networks_the_command_that_obtains_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "ASSETS", tmp_path)
    with pytest.raises(FileNotFoundError, match="data_scripts.get_assets --only faces"):
        faces.embed(np.zeros((64, 64, 3), np.uint8), (8, 8, 56, 56))


def test_a_damaged_network_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "ASSETS", tmp_path)
    (tmp_path / "dlib_face_points.dat").write_bytes(b"no network")
    with pytest.raises(ValueError, match="dlib_face_points.dat is damaged"):
        faces.embed(np.zeros((64, 64, 3), np.uint8), (8, 8, 56, 56))


@needs_networks
def test_the_embedding_is_that_of_dlibs_own_face_chip(head):
    picture, _ = portrait(head, 2)
    box = faces.detect(picture)[0]
    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    points = dlib.shape_predictor(str(ASSETS / "dlib_face_points.dat"))(picture, dlib.rectangle(x0, y0, x1 - 1, y1 - 1))
    chip = dlib.get_face_chip(picture, points, 150, 0.25)
    model = dlib.face_recognition_model_v1(str(ASSETS / "dlib_face_embedding.dat"))
    assert np.allclose(faces.embed(picture, box), model.compute_face_descriptor(chip), atol=1e-5)
