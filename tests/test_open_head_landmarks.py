"""Where MediaPipe's 478 points and the 68 iBUG points lie on OpenHead, as found by calibration on pictures."""

import hashlib
import json

import numpy as np
import pytest
import torch

from data_scripts.open_head.calibrate_landmarks import OUT, Solver, brow_weights, mirror_of_points
from data_scripts.track.landmarks import EYE_LEFT, EYE_RIGHT, IBUG, IRIS, LIDS, LIPS, LIPS_INNER, LIPS_OUTER
from sa0lib.head import Head, load_head
from sa0lib.paths import ASSETS


@pytest.fixture(scope="module")
def head() -> Head:
    if not (ASSETS / "open_head.npz").is_file():
        pytest.skip("OpenHead is not built: python -m data_scripts.build_open_head")
    return load_head()


@pytest.fixture(scope="module")
def points(head) -> np.ndarray:
    return head.landmarks(head.v_template[None], "478")[0].double().numpy()


def regions(head: Head, indices) -> np.ndarray:
    """The regions of the three corners under each point, [L, 3]."""
    return np.array(head.region_names)[head.region[head.faces[head.lmk478_face[list(indices)]]].numpy()]


def test_the_file_belongs_to_this_head_and_is_small(head):
    record = json.loads(OUT.read_text())
    faces = head.faces.numpy().astype(np.int32)
    assert record["faces_sha256"] == hashlib.sha256(faces.tobytes()).hexdigest()
    assert OUT.stat().st_size < 100_000
    assert record["lmk478_face"] == head.lmk478_face.tolist()
    np.testing.assert_allclose(record["lmk478_bary"], head.lmk478_bary, atol=1e-6)


def test_the_68_points_are_those_of_the_478_that_mean_the_same(head):
    assert torch.equal(head.lmk68_face, head.lmk478_face[IBUG])
    assert torch.equal(head.lmk68_bary, head.lmk478_bary[IBUG])


def test_weights_are_inside_their_triangles(head):
    assert head.lmk478_bary.min() >= -1e-5
    torch.testing.assert_close(head.lmk478_bary.sum(1), torch.ones(478), atol=1e-5, rtol=0)


def test_every_point_but_the_irises_is_on_the_outer_skin(head):
    skin = regions(head, range(468))
    assert np.isin(skin, ("face", "ears", "scalp", "neck")).all(1).all()


def test_the_irises_are_on_their_eyeballs_around_their_middles(head, points):
    for iris, region in ((IRIS[:5], "eye_right"), (IRIS[5:], "eye_left")):
        assert (regions(head, iris) == region).all()
        middle, rim = points[iris[0]], points[list(iris[1:])]
        radius = np.linalg.norm(rim - middle, axis=1)
        assert (radius > 0.004).all() and (radius < 0.009).all()  # an iris is some 12 mm across
        assert np.linalg.norm(rim.mean(0) - middle) < 0.003


def test_lids_lie_around_the_eyes_the_upper_above_the_lower(points):
    for eye, iris in ((EYE_RIGHT, 468), (EYE_LEFT, 473)):
        away = np.linalg.norm((points[list(eye)] - points[iris])[:, :2], axis=1)
        assert away.max() < 0.024
    for upper, lower in LIDS:
        assert points[upper, 1] - points[lower, 1] > 0.004


def test_the_lower_lip_goes_with_the_jaw_and_the_upper_does_not(head):
    jaw = torch.zeros(1, 3)
    jaw[0, 0] = 0.3
    moved = head.landmarks(head(jaw=jaw), "478") - head.landmarks(head(), "478")
    drop = -moved[0, :, 1]
    upper, lower = (drop[torch.tensor(side)] for side in zip(*LIPS, strict=True))
    middle = [k for k, (a, _) in enumerate(LIPS) if a in (13, 82, 312, 81, 311)]
    assert (lower[middle] > upper[middle] + 0.008).all()
    assert drop[17] > drop[0] + 0.008  # the outer middles of the lips
    assert drop[152] > 0.01 > drop[4].abs()  # the chin goes along, the nose stays


def test_lips_are_ordered_from_nose_to_chin(points):
    height = points[[2, 0, 13, 14, 17, 152], 1]
    assert (np.diff(height) <= 0.0005).all()
    ring = points[list(LIPS_OUTER)]
    inner = points[list(LIPS_INNER)]
    assert np.ptp(inner[:, 0]) < np.ptp(ring[:, 0]) and np.ptp(inner[:, 1]) < np.ptp(ring[:, 1])


def test_left_and_right_mirror_each_other(points):
    pairs = np.array([(33, 263), (133, 362), (61, 291), (234, 454), (107, 336), (98, 327), (149, 378), (468, 473)])
    np.testing.assert_allclose(points[pairs[:, 0]] * [-1, 1, 1], points[pairs[:, 1]], atol=5e-4)
    assert np.abs(points[[10, 168, 4, 2, 0, 13, 14, 17, 152], 0]).max() < 5e-4
    assert points[33, 0] < 0 < points[263, 0]  # the subject's right eye is on the -x side


def test_brows_are_above_the_eyes(points):
    brow = points[IBUG[17:27]]
    lid = points[[159, 386], 1].max()
    assert ((brow[:, 1] - lid) > 0.004).all() and ((brow[:, 1] - lid) < 0.04).all()


def test_a_brow_band_covers_its_points_only(head):
    weight = brow_weights(head, head.lmk478_face.numpy(), head.lmk478_bary.double().numpy())
    at = head.v_template.numpy()[weight > 0.5]
    assert len(at) > 8 and (at[:, 0] > 0).any() and (at[:, 0] < 0).any()
    assert at[:, 1].max() - at[:, 1].min() < 0.03


def test_mirrored_marks_pair_the_points():
    rng = np.random.default_rng(0)
    marks = rng.uniform(0, 512, (5, 478, 2))
    pairs = np.arange(478).reshape(-1, 2)[:, ::-1].ravel()
    noisy = marks[:, pairs] + rng.normal(0, 0.5, marks.shape)
    assert np.array_equal(mirror_of_points(marks, noisy), pairs)


def test_a_place_is_found_again_on_the_face_that_holds_it(head):
    solver = Solver(head)
    rng = np.random.default_rng(0)
    for row in rng.integers(0, 8000, 20):
        bary = rng.dirichlet(np.ones(3))
        face, found = solver.on_face(solver.faces[row], bary)
        point = bary @ solver.vertices[solver.faces[row]]
        np.testing.assert_allclose(found @ solver.vertices[solver.faces[face]], point, atol=1e-9)
