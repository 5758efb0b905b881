"""Eq. (3) and Eq. (9) to (11): what the Jacobian penalty estimates, how noisily, and what it does not see."""

import itertools

import pytest
import torch

from sa0lib import jacobian
from sa0lib.jacobian import (
    exact_energy,
    jacobian_penalty,
    pixel_sum_energy,
    random_signs,
    squared_projection,
    two_point_proxy,
)
from sa0lib.rotation import normalize, quaternion_to_matrix

D = 27


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


HEADS = [normal(D, 4, seed=s) / D**0.5 for s in (1, 2)]
FEATURES, WEIGHTS = normal(1, 4, 6, 5, seed=3), [normal(3, 4 + D, 3, 3, seed=s) / 20 for s in (1, 2)]
TURN = normal(D, 16, seed=1) / 5


def leaf(gamma: torch.Tensor) -> torch.Tensor:
    return gamma.clone().requires_grad_()


def two_heads(gamma: torch.Tensor, scale: float = 1.0) -> list[torch.Tensor]:
    """Two texels of two channels in each of two heads, curved in gamma: [B, D] -> twice [B, 2, 2]."""
    return [scale * torch.tanh(gamma @ w + i).unflatten(1, (2, 2)) for i, w in enumerate(HEADS, 1)]


def two_maps(gamma: torch.Tensor, features: torch.Tensor, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Two convolutional heads over features and gamma: [B, D] -> twice [B, 3, H, W]."""
    spread = gamma[:, :, None, None].expand(-1, -1, *features.shape[-2:])
    x = torch.cat([features.expand(len(gamma), -1, -1, -1), spread], 1)
    return [torch.tanh(torch.nn.functional.conv2d(x, w, padding=1)) for w in weights]


def maps_of_one_scene(gamma: torch.Tensor) -> list[torch.Tensor]:
    return two_maps(gamma, FEATURES, WEIGHTS)


def rows(function, gamma: torch.Tensor) -> list[torch.Tensor]:
    """The Jacobian of each head, [rows, D], by reverse mode: an independent way to it."""
    return [
        j.reshape(-1, gamma.shape[1]) for j in torch.autograd.functional.jacobian(lambda g: tuple(function(g)), gamma)
    ]


def off_diagonal(J: torch.Tensor) -> torch.Tensor:
    """Sum over i != j of (J J^T)_ij^2."""
    gram = J @ J.T
    return gram.square().sum() - gram.diagonal().square().sum()


def all_draws(monkeypatch, scale: float = 1.0) -> torch.Tensor:
    """`squared_projection` of `two_heads` for each of the 2^8 ways to choose all signs."""
    gamma, draws = leaf(normal(1, D)), []
    for signs in itertools.product((-1.0, 1.0), repeat=8):
        handed_out = iter(torch.tensor(signs, dtype=torch.float64).reshape(2, 1, 2, 2))
        monkeypatch.setattr(jacobian, "random_signs", lambda like, generator, it=handed_out: next(it))
        draws.append(squared_projection(two_heads(gamma, scale), gamma).detach())
        assert next(handed_out, None) is None, "one draw of signs for each head"
    return torch.cat(draws)


# --- the identity ------------------------------------------------------------------------------------------------


def test_signs_are_plus_or_minus_one_with_equal_chance_and_independent():
    signs = random_signs(torch.zeros(20_000, 3), seeded(0))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    products = torch.cat([signs, signs * signs.roll(1, 1), signs * signs.roll(1, 0)])  # of neighbours: also fair coins
    assert (products.mean(0).abs() < 5 / len(products) ** 0.5).all()


def test_the_exact_energy_is_the_sum_of_squares_of_the_jacobian():
    gamma = normal(1, D)
    expected = sum(J.square().sum() for J in rows(maps_of_one_scene, gamma))
    torch.testing.assert_close(exact_energy(maps_of_one_scene, gamma), expected[None])


def test_the_mean_over_all_sign_vectors_is_the_exact_energy(monkeypatch):
    torch.testing.assert_close(all_draws(monkeypatch).mean(), exact_energy(two_heads, normal(1, D))[0])


def test_the_variance_over_all_sign_vectors_is_twice_the_off_diagonal_of_the_gram_matrices(monkeypatch):
    expected = 2 * sum(off_diagonal(J) for J in rows(two_heads, normal(1, D)))
    torch.testing.assert_close(all_draws(monkeypatch).var(correction=0), expected)


def test_the_mean_of_many_draws_is_within_five_standard_errors():
    B = 4000
    gamma = leaf(normal(1, D).expand(B, -1))
    draws = squared_projection(maps_of_one_scene(gamma), gamma, generator=seeded(1)).detach()
    variance = 2 * sum(off_diagonal(J) for J in rows(maps_of_one_scene, normal(1, D)))
    error = draws.mean() - exact_energy(maps_of_one_scene, normal(1, D))[0]
    assert error.abs() < 5 * (variance / B).sqrt()
    assert abs(draws.var() / variance - 1) < 0.3


def test_heads_are_squared_before_they_are_added(monkeypatch):
    """With equal signs, one pass over f and -f together would see nothing."""
    monkeypatch.setattr(jacobian, "random_signs", lambda like, generator: torch.ones_like(like))
    gamma = leaf(normal(1, D))
    head = two_heads(gamma)[0]
    (slope,) = torch.autograd.grad(head.sum(), gamma, retain_graph=True)
    torch.testing.assert_close(squared_projection([head, -head], gamma), 2 * slope.square().sum(-1))


def test_one_pass_over_all_heads_varies_more_by_the_overlap_of_the_heads():
    one, other = rows(two_heads, normal(1, D))
    together, apart = 2 * off_diagonal(torch.cat([one, other])), 2 * (off_diagonal(one) + off_diagonal(other))
    torch.testing.assert_close(together - apart, 4 * (one @ other.T).square().sum())
    assert together > apart


def test_samples_of_a_batch_do_not_mix():
    gamma = leaf(normal(3, D))
    together = squared_projection(maps_of_one_scene(gamma), gamma, generator=seeded(4))
    generator = seeded(4)
    signs = [random_signs(torch.zeros(3, 3, 6, 5, dtype=torch.float64), generator) for _ in range(2)]
    for b in range(3):
        one = leaf(gamma[b : b + 1].detach())
        heads = maps_of_one_scene(one)
        slopes = [
            torch.autograd.grad((s[b] * f).sum(), one, retain_graph=True)[0] for s, f in zip(signs, heads, strict=True)
        ]
        torch.testing.assert_close(together[b], sum(slope.square().sum() for slope in slopes))
    torch.testing.assert_close(exact_energy(maps_of_one_scene, gamma)[1:2], exact_energy(maps_of_one_scene, gamma[1:2]))


def test_the_direction_itself_may_take_the_place_of_gamma():
    d = leaf(normalize(normal(1, 3)))
    torch.testing.assert_close(exact_energy(lambda d: [d.sin()[:, None]], d), d.cos().square().sum(-1))
    torch.testing.assert_close(squared_projection([d.sin()[:, None]], d), d.cos().square().sum(-1))  # J is diagonal


# --- how noisy ---------------------------------------------------------------------------------------------------


def relative_variance(J: torch.Tensor, B: int = 4000) -> float:
    """Of the library's draws, for the linear head with Jacobian J [P, 3, D]; B draws at once as a batch."""
    gamma = torch.zeros(B, D, dtype=torch.float64, requires_grad=True)
    draws = squared_projection([torch.einsum("bd,pcd->bpc", gamma, J)], gamma, generator=seeded(5)).detach()
    return float(draws.var() / draws.mean() ** 2)


@pytest.mark.parametrize("P", [30, 100, 300])
def test_with_independent_texels_the_relative_variance_stays_at_two_over_the_inputs(P):
    J = normal(P, 3, D)
    limits = 2 / D - 2 / (3 * P), 2 / D + 2 / (3 * P)  # the participation ratio of R normal rows is near D R / (R + D)
    assert limits[0] * 0.85 < relative_variance(J) < limits[1] * 1.15


@pytest.mark.parametrize("n", [2, 50])
@pytest.mark.parametrize("directions", [1, 4, 27])
def test_with_correlated_texels_the_relative_variance_is_two_over_the_directions(directions, n):
    """Blocks of n equal rows, one block for each of some orthogonal directions, dealt to texels of three channels."""
    J = torch.eye(D, dtype=torch.float64)[:directions].repeat(3 * n, 1).unflatten(0, (-1, 3))
    expected = 2 / directions * (1 - 1 / (3 * n))
    assert abs(relative_variance(J) / expected - 1) < 0.3


@pytest.mark.parametrize("seed", range(20))
def test_the_relative_variance_never_leaves_its_bounds(seed):
    """2 / D - 2 kappa <= relative variance <= 2, whatever the texels have to do with one another."""
    mixing = normal(60, 60, seed=seed) * (seed / 5) + torch.eye(60).double() * (20 - seed)
    J = mixing @ normal(60, D, seed=seed + 100) @ torch.diag(normal(D, seed=seed + 200).exp())
    energies = J.square().sum(1)
    kappa = energies.square().sum() / energies.sum() ** 2
    relative = 2 * off_diagonal(J) / energies.sum() ** 2
    assert 2 / D - 2 * kappa - 1e-12 <= relative <= 2
    draws = relative_variance(J.unflatten(0, (-1, 3)))
    assert abs(draws / float(relative) - 1) < 0.4


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0])
def test_the_jensen_gap_is_its_taylor_term_within_the_remainder(monkeypatch, scale):
    draws = all_draws(monkeypatch, scale)
    mu = draws.mean()
    gap = mu.log1p() - draws.log1p().mean()
    t = (draws - mu) / (1 + mu)
    remainder = t.pow(3).mean().abs() / 3 + (1 + mu) ** 4 * t.pow(4).mean() / 4
    assert gap > 0
    assert (gap - t.square().mean() / 2).abs() <= remainder
    assert scale > 0.1 or remainder < 0.2 * gap  # where the argument is small, the bound says something


def test_the_jensen_gap_vanishes_with_the_square_of_the_argument(monkeypatch):
    gaps = []
    for scale in (0.02, 0.01):  # the argument goes with the square of the scale
        draws = all_draws(monkeypatch, scale)
        gaps.append(draws.mean().log1p() - draws.log1p().mean())
    assert abs(gaps[0] / gaps[1] - 16) < 0.5


# --- the penalty -------------------------------------------------------------------------------------------------


def test_the_penalty_is_the_mean_of_one_logarithm_a_sample():
    gamma = leaf(normal(3, D))
    draws = squared_projection(maps_of_one_scene(gamma), gamma, generator=seeded(6))
    penalty = jacobian_penalty(maps_of_one_scene(gamma), gamma, generator=seeded(6))
    torch.testing.assert_close(penalty, torch.log(1 + draws).mean())


@pytest.mark.parametrize("which", ["penalty", "exact", "pixel sum"])
def test_gradients_to_the_weights_are_right(which):
    gamma, features = leaf(normal(2, D)), normal(1, 4, 3, 3, seed=3)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)

    def value(*weights):
        if which == "exact":
            return exact_energy(lambda g: two_maps(g, features, weights), gamma.detach(), mask)
        heads = two_maps(gamma, features, weights)
        if which == "pixel sum":
            return pixel_sum_energy(heads, gamma, mask)
        return jacobian_penalty(heads, gamma, mask, seeded(7))

    assert torch.autograd.gradcheck(value, [leaf(w) for w in WEIGHTS], fast_mode=True)


def test_descending_the_penalty_takes_view_dependence_away():
    weights = [leaf(w) for w in WEIGHTS]
    gamma, generator = leaf(normal(2, D)), seeded(8)
    before = exact_energy(lambda g: two_maps(g, FEATURES, weights), gamma.detach()).sum()
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        jacobian_penalty(two_maps(gamma, FEATURES, weights), gamma, generator=generator).backward()
        optimizer.step()
    assert exact_energy(lambda g: two_maps(g, FEATURES, weights), gamma.detach()).sum() < 0.05 * before


def test_texels_that_cancel_hide_from_the_pixel_sum_and_not_from_the_projection():
    """Half of the texels lean one way, half the other: the pixel sum is at its minimum, the energy is not."""
    lean = normal(3, D).requires_grad_()
    sign = torch.tensor([1.0, -1.0]).double().repeat(8)[None, :, None]
    gamma = leaf(normal(1, D))
    heads = [sign * (gamma @ lean.T)[:, None]]
    hidden = pixel_sum_energy(heads, gamma)
    assert hidden.abs().max() < 1e-20
    assert torch.autograd.grad(hidden.sum(), lean, retain_graph=True)[0].abs().max() < 1e-10
    seen = jacobian_penalty(heads, gamma, generator=seeded(9))
    assert torch.autograd.grad(seen, lean)[0].norm() > 0.01
    torch.testing.assert_close(
        exact_energy(lambda g: [sign * (g @ lean.T)[:, None]], gamma.detach()), 16 * lean.square().sum()[None]
    )


def test_the_pixel_sum_is_the_square_of_the_summed_gradients():
    gamma = leaf(normal(1, D))
    expected = sum(J.sum(0).square().sum() for J in rows(maps_of_one_scene, gamma))
    torch.testing.assert_close(pixel_sum_energy(maps_of_one_scene(gamma), gamma), expected[None])


# --- what counts -------------------------------------------------------------------------------------------------


def test_texels_outside_the_mask_do_not_count():
    mask = torch.rand(6, 5, generator=seeded(0)) < 0.6
    gamma = leaf(normal(2, D))
    heads = maps_of_one_scene(gamma)
    louder = [torch.where(mask, head, 1e6 * head) for head in heads]
    measures = [
        lambda heads: squared_projection(heads, gamma, mask, seeded(1)),
        lambda heads: pixel_sum_energy(heads, gamma, mask),
        lambda heads: two_point_proxy(heads, [head + 1 for head in maps_of_one_scene(gamma)], mask),
    ]
    for measure in measures[:2]:
        torch.testing.assert_close(measure(louder), measure(heads))
        assert (measure(heads) != 0).all()
    torch.testing.assert_close(measures[2](heads), torch.full((2,), 2 * 3.0 * int(mask.sum())).double())
    chosen = exact_energy(lambda g: [head[..., mask] for head in maps_of_one_scene(g)], gamma.detach())
    torch.testing.assert_close(exact_energy(maps_of_one_scene, gamma.detach(), mask), chosen)


def test_a_generator_decides_the_draw_and_leaves_the_global_one_alone():
    gamma = leaf(normal(2, D))
    heads = maps_of_one_scene(gamma)
    state = torch.get_rng_state()
    first, again, other = (squared_projection(heads, gamma, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_two_point_proxy_by_hand_and_near_the_differential():
    one = [torch.tensor([[[1.0, -2, 0]]]), torch.tensor([[[0.5, 0, 0]]])]
    assert two_point_proxy(one, [torch.zeros(1, 1, 3)] * 2).tolist() == [3.5]
    gamma, step = normal(1, D), 1e-6 * normal(1, D, seed=1)
    _, slopes = torch.func.jvp(maps_of_one_scene, (gamma,), (step,))
    proxy = two_point_proxy(maps_of_one_scene(gamma + step), maps_of_one_scene(gamma))
    torch.testing.assert_close(proxy, sum(s.abs().sum() for s in slopes)[None], rtol=1e-5, atol=0)


# --- rotations ---------------------------------------------------------------------------------------------------


def turning(gamma: torch.Tensor) -> torch.Tensor:
    """Quaternions of four texels that turn and grow with gamma: [B, D] -> [B, 4, 4]."""
    return (gamma @ TURN).unflatten(1, (4, 4)) + torch.tensor([2.0, 0, 0, 0])


def test_a_longer_quaternion_is_the_same_rotation_with_another_frobenius_energy():
    gamma = normal(1, D)
    raw, longer = (exact_energy(lambda g, k=k: [k * turning(g)], gamma) for k in (1, 3))
    torch.testing.assert_close(longer, 9 * raw)
    turned = [exact_energy(lambda g, k=k: [quaternion_to_matrix(k * turning(g)).flatten(2)], gamma) for k in (1, 3)]
    torch.testing.assert_close(turned[0], turned[1])


def test_four_times_the_energy_of_the_unit_quaternion_is_the_angular_energy():
    """A small rotation by w changes a matrix by |w|^2 * 2 in squared Frobenius norm, a unit quaternion by |w|^2 / 4."""
    gamma = normal(1, D)
    unit = exact_energy(lambda g: [normalize(turning(g))], gamma)
    matrix = exact_energy(lambda g: [quaternion_to_matrix(turning(g)).flatten(2)], gamma)
    torch.testing.assert_close(4 * unit, matrix / 2)


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [squared_projection, jacobian_penalty, pixel_sum_energy])
def test_what_cannot_be_differentiated_is_a_clear_error(measure):
    gamma = leaf(normal(2, D))
    heads = maps_of_one_scene(gamma)
    with pytest.raises(ValueError, match="requires_grad=False"):
        measure(heads, gamma.detach())
    with pytest.raises(ValueError, match="head 1 does not depend on gamma"):
        measure([heads[0], heads[1].detach()], gamma)
    with pytest.raises(ValueError, match="head 0 does not depend on gamma"):
        measure([torch.ones_like(heads[0], requires_grad=True)], gamma)
    with pytest.raises(ValueError, match="head 0 does not depend on gamma"):
        measure(maps_of_one_scene(gamma.detach().requires_grad_()), gamma.clone())
    assert (measure(heads, gamma) > 0).all()  # a failed call leaves the graph usable


@pytest.mark.parametrize(
    "change, complaint",
    [
        (dict(gamma=torch.ones(D)), r"gamma must be \[B, D\], not \[27\]"),
        (dict(gamma=torch.ones(2, D)), r"head 0 must be .*B = 2, not \[1, 3, 6, 5\]"),
        (dict(heads=torch.ones(1, 3, 6, 5)), "list or tuple"),
        (dict(heads=[]), "list or tuple"),
        (dict(heads=[torch.ones(1, 30)]), r"head 0 must be .* not \[1, 30\]"),
        (dict(mask=torch.ones(5, 6, dtype=torch.bool)), r"mask \[5, 6\] does not fit head 0"),
        (dict(heads=[torch.ones(1, 30, 3)], mask=torch.ones(30, 3, dtype=torch.bool)), "does not fit head 0"),
    ],
)
def test_what_does_not_fit_is_a_clear_error(change, complaint):
    arguments = dict(heads=[torch.ones(1, 3, 6, 5)], gamma=torch.ones(1, D), mask=None) | change
    heads, gamma, mask = (arguments[name] for name in ("heads", "gamma", "mask"))
    with pytest.raises(ValueError, match=complaint):
        squared_projection(heads, leaf(gamma), mask)
    with pytest.raises(ValueError, match=complaint):
        exact_energy(lambda g: heads, gamma, mask)


def test_two_points_of_different_shapes_are_an_error():
    with pytest.raises(ValueError, match="different shapes"):
        two_point_proxy([torch.ones(1, 3, 3)], [torch.ones(1, 4, 3)])
    with pytest.raises(ValueError, match="different shapes"):
        two_point_proxy([torch.ones(1, 3, 3)], [])
