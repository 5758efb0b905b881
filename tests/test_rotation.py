"""Rotations against each other, against scipy, and at the places where formulas break: 0 and pi."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sa0lib import rotation

ANGLES = [0.0, 1e-12, 1e-6, 1e-3, 9.9e-3, 1.01e-2, 0.5, 2.0, math.pi - 1e-6, math.pi]
component = st.floats(-3.0, 3.0, allow_nan=False)
vector = st.tuples(component, component, component)
quaternion = st.tuples(component, component, component, component).filter(lambda q: np.linalg.norm(q) > 1e-3)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


@given(vector)
def test_axis_angle_to_matrix_agrees_with_scipy(v):
    expected = Rotation.from_rotvec(np.array(v)).as_matrix()
    assert np.abs(rotation.axis_angle_to_matrix(double(v)).numpy() - expected).max() < 1e-14


@pytest.mark.parametrize("angle", ANGLES)
def test_axis_angle_survives_the_round_trip_at_every_size(angle):
    v = double([0.6, -0.64, 0.48]) * angle
    back = rotation.matrix_to_axis_angle(rotation.axis_angle_to_matrix(v))
    assert (back - v).abs().max() < 1e-9


def test_axis_angle_series_and_closed_form_agree_in_float32():
    v = torch.tensor([0.6, -0.64, 0.48]) * torch.linspace(1e-4, 0.1, 200)[:, None]
    expected = rotation.axis_angle_to_matrix(v.double())
    assert (rotation.axis_angle_to_matrix(v).double() - expected).abs().max() < 2e-7


@pytest.mark.parametrize("angle", ANGLES[:8])
def test_axis_angle_gradient_is_right_near_zero_too(angle):
    v = (double([0.6, -0.64, 0.48]) * angle).requires_grad_()
    assert torch.autograd.gradcheck(rotation.axis_angle_to_matrix, v, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 1.0, 3.0])
def test_matrix_to_axis_angle_has_a_finite_gradient(angle):
    v = (double([0.6, -0.64, 0.48]) * angle).requires_grad_()
    rotation.matrix_to_axis_angle(rotation.axis_angle_to_matrix(v)).sum().backward()
    assert (v.grad - 1).abs().max() < 1e-6  # the round trip is the identity


@given(quaternion)
def test_quaternion_to_matrix_agrees_with_scipy(q):
    expected = Rotation.from_quat(np.array(q), scalar_first=True).as_matrix()
    assert np.abs(rotation.quaternion_to_matrix(double(q)).numpy() - expected).max() < 1e-13


@given(quaternion)
def test_matrix_to_quaternion_inverts_up_to_the_sign_that_makes_w_positive(q):
    q = rotation.normalize(double(q))
    back = rotation.matrix_to_quaternion(rotation.quaternion_to_matrix(q))
    assert back[0] >= 0
    assert torch.minimum((back - q).abs().max(), (back + q).abs().max()) < 1e-12


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0), (-0.6, 0.48, 0.64)])
def test_half_turns_have_a_quaternion(axis):
    a = double(axis)
    matrix = 2 * a[:, None] * a[None] - torch.eye(3, dtype=torch.float64)
    q = rotation.matrix_to_quaternion(matrix)
    assert (rotation.quaternion_to_matrix(q) - matrix).abs().max() < 1e-14


@given(quaternion, quaternion)
def test_quaternion_product_is_matrix_product(a, b):
    a, b = double(a), double(b)
    product = rotation.quaternion_to_matrix(rotation.quaternion_multiply(a, b))
    expected = rotation.quaternion_to_matrix(a) @ rotation.quaternion_to_matrix(b)
    assert (product - expected).abs().max() < 1e-12


def test_quaternion_length_does_not_matter_to_the_matrix():
    q = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = rotation.quaternion_to_matrix(q), rotation.quaternion_to_matrix(1000 * q)
    assert (a - b).abs().max() < 1e-14


def test_rotation_6d_round_trip_and_orthonormality():
    generator = torch.Generator().manual_seed(0)
    six = torch.randn(50, 6, dtype=torch.float64, generator=generator)
    R = rotation.rotation_6d_to_matrix(six)
    assert (R @ R.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-12
    assert (torch.linalg.det(R) - 1).abs().max() < 1e-12
    assert (rotation.rotation_6d_to_matrix(rotation.matrix_to_rotation_6d(R)) - R).abs().max() < 1e-12


def test_rotation_6d_reads_rows():
    R = rotation.axis_angle_to_matrix(double([0.3, -0.2, 0.9]))
    assert torch.equal(rotation.matrix_to_rotation_6d(R), torch.cat([R[0], R[1]]))


def test_normalize_of_zero_is_zero_with_a_finite_gradient():
    x = torch.zeros(3, requires_grad=True)
    rotation.normalize(x).sum().backward()
    assert torch.equal(rotation.normalize(x), torch.zeros(3)) and x.grad.isfinite().all()
