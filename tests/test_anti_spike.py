"""The aspect penalty of Eq. (4) and the clamps of App. A.4."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from sa0lib.anti_spike import aspect_loss, clamp_log_scales_, log_aspect_2d, max_aspect_ratio


def covariance_of_ellipse(long: float, short: float, angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    full = rotation @ torch.diag(torch.tensor([long**2, short**2], dtype=torch.float64)) @ rotation.T
    return torch.stack([full[0, 0], full[0, 1], full[1, 1]])


@given(st.floats(0.05, 50.0), st.floats(1.001, 500.0), st.floats(0, math.pi))
def test_log_aspect_is_the_log_ratio_of_the_axes_at_any_angle(short, ratio, angle):
    measured = log_aspect_2d(covariance_of_ellipse(short * ratio, short, angle))
    assert abs(float(measured) - math.log(ratio)) < 1e-5 * max(1.0, ratio**2 * 1e-4)


def test_log_aspect_agrees_with_eigenvalues():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(1000, 2, 2, generator=generator, dtype=torch.float64)
    full = half @ half.mT + 0.05 * torch.eye(2)
    low, high = torch.linalg.eigvalsh(full).unbind(-1)
    measured = log_aspect_2d(torch.stack([full[:, 0, 0], full[:, 0, 1], full[:, 1, 1]], -1))
    assert torch.allclose(measured, 0.5 * (high.log() - low.log()), atol=1e-5)


def test_aspect_gradient_is_finite_for_a_circle_and_for_an_edge_on_disc():
    covars = torch.tensor([[2.0, 0.0, 2.0], [4.0, 2.0, 1.0], [1e-3, 0.0, 0.0]], requires_grad=True)
    log_aspect_2d(covars).sum().backward()
    assert covars.grad.isfinite().all()


def test_aspect_loss_is_zero_inside_the_budget_and_pushes_outside_it():
    covars = torch.stack([covariance_of_ellipse(2, 1, 0.3), covariance_of_ellipse(8, 1, 0.3)]).requires_grad_()
    loss = aspect_loss(covars, torch.tensor([True, True]), tau=math.log(4))
    loss.backward()
    assert abs(float(loss.detach()) - 0.5 * math.log(2)) < 1e-6  # (0 + log 8 - log 4) / 2
    assert covars.grad[0].abs().max() == 0 and covars.grad[1].abs().max() > 0


def test_aspect_loss_leaves_invisible_gaussians_out_of_the_mean():
    covars = torch.stack([covariance_of_ellipse(8, 1, 0.3), covariance_of_ellipse(100, 1, 0.3)])
    loss = aspect_loss(covars, torch.tensor([True, False]), tau=0.0)
    assert abs(float(loss) - math.log(8)) < 1e-6


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.floats(0.1, 3.0))
def test_clamp_bounds_spread_and_range_together(log_scales, spread):
    clamped = clamp_log_scales_(torch.tensor([log_scales], dtype=torch.float64), -5.0, 1.0, spread)
    assert float(clamped.max() - clamped.min()) <= spread + 1e-9
    assert float(clamped.min()) >= -5.0 - 1e-9 and float(clamped.max()) <= 1.0 + 1e-9


def test_clamp_leaves_a_legal_gaussian_alone():
    legal = torch.tensor([[-2.0, -1.5, -1.0]], dtype=torch.float64)
    assert torch.allclose(clamp_log_scales_(legal.clone(), -5.0, 1.0, math.log(8)), legal)


def test_max_aspect_ratio_is_the_ratio_of_the_largest_to_the_smallest_axis():
    log_scales = torch.tensor([[2.0, 1.0, 1.0], [6.0, 2.0, 1.5]]).log()
    assert abs(max_aspect_ratio(log_scales) - 4.0) < 1e-5
