"""Eq. (2) term by term: values worked out by numpy or by hand, gradients, what must not matter, and the sum."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sa0lib import generator_losses
from sa0lib.generator_losses import (
    PHASE_1,
    PHASE_2,
    RESIDUALS,
    GeneratorWeights,
    generator_loss,
    residual_shrinkage,
    uv_tv,
)
from sa0lib.head import load_head
from sa0lib.losses import MS_SIGMAS, box_l1, box_mask, l1, ms_ssim
from sa0lib.metrics import blur_matrix
from sa0lib.paths import ASSETS
from sa0lib.uv import build_uv_map, seam_pairs, texel_pairs

needs_weights = pytest.mark.skipif(
    not (ASSETS / "lpips_alex.npz").is_file(), reason="run `python -m data_scripts.get_assets --only lpips`"
)
needs_head = pytest.mark.skipif(not (ASSETS / "open_head.npz").exists(), reason="needs make assets")
EVERYWHERE = torch.ones(4, 4, dtype=torch.bool)
OFF = dict.fromkeys((field.name for field in dataclasses.fields(GeneratorWeights)), 0.0)


def pair(*shape: int, seed: int = 0, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture in [0, 1] with structure at every scale, and a noisy copy of it; float64."""
    rng = np.random.default_rng(seed)
    picture = sum(gaussian_filter(rng.normal(size=shape), (0, 0, s, s)) * s for s in (0.7, 2, 6))
    picture = 0.5 + 0.2 * picture / picture.std()
    other = picture + noise * rng.normal(size=shape)
    return torch.from_numpy(picture.clip(0, 1)), torch.from_numpy(other.clip(0, 1))


# --- L1 ---------------------------------------------------------------------------------------------------------------


def test_l1_adds_the_channels_and_averages_the_pixels():
    image = torch.zeros(1, 3, 2, 2)
    target = image.clone()
    target[0, :, 0, 1] = torch.tensor([0.5, -0.25, 0.25])
    assert l1(image, target).item() == pytest.approx(1.0 / 4)


def test_l1_of_a_batch_is_the_mean_of_its_images():
    image, target = pair(3, 3, 5, 7)
    each = [l1(image[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(l1(image, target), torch.stack(each).mean())


# --- MS-SSIM ----------------------------------------------------------------------------------------------------------


def ms_ssim_by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    """Zhao et al. (2017) for one plane, written out with another library's filter."""
    product = np.ones_like(a)
    for sigma in (0.5, 1, 2, 4, 8):

        def mean(x, sigma=sigma):
            return gaussian_filter(x, sigma, mode="mirror", truncate=3.5)

        variance_a, variance_b = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
        covariance = mean(a * b) - mean(a) * mean(b)
        product *= np.maximum(0, (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2))
    luminance = (2 * mean(a) * mean(b) + 0.01**2) / (mean(a) ** 2 + mean(b) ** 2 + 0.01**2)
    return (luminance * product).mean()


@pytest.mark.parametrize(("shape", "noise"), [((2, 3, 64, 80), 0.1), ((1, 1, 29, 31), 0.3), ((1, 3, 64, 64), 0.02)])
def test_ms_ssim_is_the_written_out_formula(shape, noise):
    a, b = pair(*shape, noise=noise)
    expected = [np.mean([ms_ssim_by_scipy(*planes) for planes in zip(*images, strict=True)])
                for images in zip(a.numpy(), b.numpy(), strict=True)]  # fmt: skip
    np.testing.assert_allclose(ms_ssim(a, b).numpy(), expected, rtol=0, atol=1e-12)


def test_the_widest_window_of_ms_ssim_has_57_pixels_and_the_narrowest_5():
    widths = [int((blur_matrix(200, torch.float64, torch.device("cpu"), s)[100] > 0).sum()) for s in MS_SIGMAS]
    assert widths == [5, 9, 15, 29, 57]


def test_float32_ms_ssim_is_that_of_float64():
    a, b = pair(2, 3, 64, 64)
    torch.testing.assert_close(ms_ssim(a.float(), b.float()).double(), ms_ssim(a, b), rtol=0, atol=1e-5)


def test_autocast_does_not_touch_ms_ssim():
    a, b = (x.float() for x in pair(1, 3, 64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        under = ms_ssim(a, b)
    assert torch.equal(under, ms_ssim(a, b))


def test_half_precision_pictures_are_compared_in_float32():
    a, b = (x.bfloat16() for x in pair(1, 3, 64, 64))
    assert torch.equal(ms_ssim(a, b), ms_ssim(a.float(), b.float()))


def test_ms_ssim_is_one_for_equal_images_and_symmetric():
    a, b = pair(2, 3, 64, 64)
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ms_ssim(a, b), ms_ssim(b, a))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.01, 2.0))
def test_ms_ssim_lies_in_zero_to_one_and_falls_with_noise(seed, noise):
    a, b = pair(1, 1, 32, 32, seed=seed, noise=noise)
    _, worse = pair(1, 1, 32, 32, seed=seed, noise=3 * noise)
    assert 0 <= ms_ssim(a, worse).item() < ms_ssim(a, b).item() < 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(1, 3))
def test_turning_or_mirroring_both_images_does_not_change_ms_ssim(seed, turns):
    a, b = pair(1, 1, 30, 37, seed=seed)
    turned = ms_ssim(a.rot90(turns, (2, 3)).flip(3), b.rot90(turns, (2, 3)).flip(3))
    torch.testing.assert_close(turned, ms_ssim(a, b))


def test_flat_images_differ_in_luminance_alone():
    a = torch.full((1, 1, 64, 64), 0.4, dtype=torch.float64)
    expected = (2 * 0.4 * 0.5 + 1e-4) / (0.4**2 + 0.5**2 + 1e-4)
    assert ms_ssim(a, a + 0.1).item() == pytest.approx(expected, abs=1e-12)


def test_images_anticorrelated_at_an_even_number_of_scales_are_not_alike():
    """Fine structure reversed, coarse kept: at two scales the factor is negative, and their product positive."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    fine, coarse = 0.2 * torch.cos(torch.pi * (x + y)), 0.25 * torch.cos(2 * torch.pi * x / 40)
    a, b = (0.5 + coarse + sign * fine for sign in (1, -1))
    assert ms_ssim(a.double()[None, None], b.double()[None, None]).item() == 0.0


def test_ms_ssim_has_the_right_gradient_to_both_images():
    a, b = pair(1, 1, 29, 29)
    assert torch.autograd.gradcheck(ms_ssim, (a.requires_grad_(), b.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("other", ["negative", "noise", "flat", "equal"])
def test_the_gradient_of_ms_ssim_is_finite_everywhere(other):
    a, _ = (x.float() for x in pair(1, 3, 64, 64))
    b = {"negative": 1 - a, "noise": torch.rand_like(a), "flat": torch.zeros_like(a), "equal": a.clone()}[other]
    for image, target in ((a, b), (b, a), (b, b)):
        image = image.clone().requires_grad_()
        ms_ssim(image, target).sum().backward()
        assert image.grad.isfinite().all()


def test_ms_ssim_refuses_images_too_small_to_reflect():
    with pytest.raises(ValueError, match="at least 29 pixels"):
        ms_ssim(torch.rand(1, 3, 64, 28), torch.rand(1, 3, 64, 28))
    with pytest.raises(ValueError, match="of one shape"):
        ms_ssim(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64))


# --- the face box -----------------------------------------------------------------------------------------------------


def test_the_box_grows_about_its_centre():
    mask = box_mask(torch.tensor([[40.0, 30.0, 60.0, 70.0]]), 100, 100)[0]  # 20 x 40 becomes 33 x 66
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 82, 33, 65)
    assert mask.sum() == 66 * 33


def test_a_pixel_is_in_the_box_when_its_centre_is():
    mask = box_mask(torch.tensor([[1.5, 0.0, 3.5, 1.0]]), 2, 5, dilation=1.0)[0]
    assert mask.tolist() == [[False, True, True, False, False], [False] * 5]


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-9, 19), y=st.floats(-9, 19), w=st.floats(0.1, 20), h=st.floats(0.1, 20))
def test_box_l1_is_the_mean_over_the_pixels_listed_one_by_one(x, y, w, h):
    image, target = (t[:1] for t in pair(1, 3, 9, 11))
    inside = [(i, j) for i in range(9) for j in range(11)
              if x - 0.825 * w <= j + 0.5 < x + 0.825 * w and y - 0.825 * h <= i + 0.5 < y + 0.825 * h]  # fmt: skip
    errors = [float((image - target)[0, :, i, j].abs().sum()) for i, j in inside]
    box = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], dtype=torch.float64)
    edges = [abs(e - round(e - 0.5) - 0.5) for e in (x - 0.825 * w, x + 0.825 * w, y - 0.825 * h, y + 0.825 * h)]
    if min(edges) > 1e-9:  # otherwise rounding decides about a pixel on the edge
        assert box_l1(image, target, box).item() == pytest.approx(np.mean(errors) if errors else 0.0)


def test_a_box_over_everything_gives_plain_l1():
    image, target = pair(2, 3, 8, 6)
    torch.testing.assert_close(box_l1(image, target, torch.tensor([[0.0, 0.0, 6.0, 8.0]] * 2)), l1(image, target))


def test_each_image_of_a_batch_has_its_own_box():
    image, target = pair(2, 3, 20, 20)
    boxes = torch.tensor([[2.0, 2.0, 8.0, 6.0], [15.0, 10.0, 30.0, 30.0]])  # the second hangs over the border
    each = [box_l1(image[i : i + 1], target[i : i + 1], boxes[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(box_l1(image, target, boxes), (each[0] + each[1]) / 2)
    assert abs(each[0] - each[1]) > 1e-4


def test_a_box_at_the_border_is_cut_and_counts_only_what_is_left():
    image, target = torch.zeros(1, 3, 10, 10), torch.zeros(1, 3, 10, 10)
    target[0, 0, 0, 0] = 1.0
    box = torch.tensor([[-1.0, -1.0, 1.0, 1.0]])  # dilated to +-1.65: pixels 0 and 1 of both axes
    assert box_l1(image, target, box).item() == pytest.approx(1 / 4)


def test_what_lies_outside_the_box_has_no_gradient():
    image, target = pair(1, 3, 16, 16)
    box = torch.tensor([[4.0, 4.0, 10.0, 9.0]])
    box_l1(image.requires_grad_(), target, box).backward()
    assert torch.equal(image.grad.abs().amax(1) > 0, box_mask(box, 16, 16))


def test_a_box_that_misses_the_image_counts_as_nothing():
    image, target = pair(2, 3, 8, 8)
    image.requires_grad_()
    boxes = torch.tensor([[50.0, 50.0, 60.0, 60.0], [0.0, 0.0, 8.0, 8.0]])
    value = box_l1(image, target, boxes)
    value.backward()
    torch.testing.assert_close(value, l1(image[1:], target[1:]) / 2)
    assert image.grad.isfinite().all() and (image.grad[0] == 0).all()


# --- smoothness over the chart ----------------------------------------------------------------------------------------


def random_mask(seed: int, n: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, n)) < 0.6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_uv_tv_is_the_sum_over_pairs_listed_one_by_one(seed):
    rng, valid = np.random.default_rng(seed), random_mask(seed)
    valid[2, 2] = True
    values = rng.normal(size=(2, 3, 6, 6))
    total = 0.0
    for i, j in valid.nonzero().tolist():
        for k, m in ((i, j + 1), (i + 1, j)):
            if k < 6 and m < 6 and valid[k, m]:
                total += np.abs(values[:, :, k, m] - values[:, :, i, j]).sum() / 2
    assert uv_tv(torch.from_numpy(values), valid).item() == pytest.approx(total / int(valid.sum()))


def test_uv_tv_of_a_constant_is_zero():
    assert uv_tv(torch.full((2, 3, 4, 4), 7.0), EVERYWHERE) == 0


def test_uv_tv_of_a_linear_ramp_is_its_slope_at_every_pair():
    ramp = 0.5 * torch.arange(4.0).expand(1, 1, 4, 4) - 2.0 * torch.arange(4.0)[:, None]
    assert uv_tv(ramp, EVERYWHERE).item() == pytest.approx((12 * 0.5 + 12 * 2.0) / 16)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), wild=st.sampled_from([1e30, float("nan"), float("inf")]))
def test_what_masked_texels_hold_never_matters(seed, wild):
    valid = random_mask(seed)
    valid[0, 0] = True
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3, 6, 6)))
    results = []
    for filler in (0.0, wild):
        filled = values.masked_fill(~valid, filler).requires_grad_()
        loss = uv_tv(filled, valid) + residual_shrinkage({"colors": filled}, valid)
        loss.backward()
        results.append((loss.detach(), filled.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert (results[1][1][..., ~valid] == 0).all()


def test_uv_tv_has_the_right_gradient():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 6, 6))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: uv_tv(x, random_mask(1)), values)


def test_uv_tv_splits_into_chosen_pairs_and_the_rest():
    valid, values = random_mask(3), torch.rand(1, 3, 6, 6)
    pairs = texel_pairs(valid)
    some = tuple(both & (torch.rand(both.shape) < 0.3) for both in pairs)
    rest = tuple(both & ~chosen for both, chosen in zip(pairs, some, strict=True))
    torch.testing.assert_close(uv_tv(values, valid, some) + uv_tv(values, valid, rest), uv_tv(values, valid))


# --- seams ------------------------------------------------------------------------------------------------------------


def quads(*corners: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles u0 v0 u1 v1 of two triangles each, no corner shared: (vt, ft)."""
    vt = np.array([[p for u0, v0, u1, v1 in corners for p in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))]])[0]
    return vt, np.concatenate([4 * n + np.array([[0, 1, 2], [0, 2, 3]]) for n in range(len(corners))])


def test_two_islands_side_by_side_meet_in_a_seam():
    vt, ft = quads((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    across, down = seam_pairs(build_uv_map(vt, ft, 8), vt, ft, ft)
    expected = torch.zeros(8, 7, dtype=torch.bool)
    expected[:, 3] = True
    assert torch.equal(across, expected) and not down.any()


def test_islands_above_each_other_meet_in_a_seam_too():
    vt, ft = quads((0.0, 0.0, 1.0, 0.51), (0.0, 0.52, 1.0, 1.0))
    across, down = seam_pairs(build_uv_map(vt, ft, 8), vt, ft, ft)
    assert down[3].all() and down.sum() == 8 and not across.any()


def test_islands_a_texel_apart_have_no_seam():
    vt, ft = quads((0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0))
    assert not any(pairs.any() for pairs in seam_pairs(build_uv_map(vt, ft, 8), vt, ft, ft))


def test_a_cut_in_the_chart_alone_is_no_seam():
    """The two halves of a mesh, unwrapped apart and laid back together: their triangles still meet at the edge."""
    vt, ft = quads((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    faces = np.where(ft == 4, 1, np.where(ft == 7, 2, ft))  # the left edge of the right half is the left half's right
    assert not any(pairs.any() for pairs in seam_pairs(build_uv_map(vt, ft, 8), vt, ft, faces))


def grid_chart(n: int, hole: tuple[int, int, int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """n x n small squares of two triangles; those of rows and columns r0 c0 r1 c1 (from below) are left out."""
    vt = np.stack(np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1)), -1).reshape(-1, 2)
    r, c = np.indices((n, n)).reshape(2, -1)
    if hole:
        keep = ~((r >= hole[0]) & (r < hole[2]) & (c >= hole[1]) & (c < hole[3]))
        r, c = r[keep], c[keep]
    a = r * (n + 1) + c
    return vt, np.concatenate([np.stack([a, a + 1, a + n + 2], 1), np.stack([a, a + n + 2, a + n + 1], 1)])


def test_texels_larger_than_triangles_are_neighbours_all_the_same():
    vt, ft = grid_chart(50)
    uv_map = build_uv_map(vt, ft, 7)
    corners = torch.from_numpy(ft)[uv_map.face].reshape(7, 7, 3)
    assert not (corners[:, :-1, :, None] == corners[:, 1:, None]).any()  # no two of them share a vertex
    assert not any(pairs.any() for pairs in seam_pairs(uv_map, vt, ft, ft))


def test_a_slit_separates_the_texels_on_both_sides_of_it():
    vt, ft = grid_chart(100, hole=(49, 20, 52, 80))  # v 0.49 to 0.52 between u 0.2 and 0.8
    across, down = seam_pairs(build_uv_map(vt, ft, 10), vt, ft, ft)
    assert down.nonzero().tolist() == [[4, j] for j in range(2, 8)] and not across.any()


@needs_head
@pytest.mark.parametrize("size", [32, 64])
def test_texels_of_two_islands_of_the_real_chart_are_seams_and_no_others(size):
    """OpenHead's islands have no slits, so labels spread along the edges of the chart say the same."""
    head = load_head()
    label = torch.arange(len(head.vt))
    while True:
        lowest = label[head.ft].amin(1)
        spread = label.scatter_reduce(0, head.ft.flatten(), lowest.repeat_interleave(3), "amin")
        if torch.equal(spread, label):
            break
        label = spread
    uv_map = build_uv_map(head.vt, head.ft, size)
    island = uv_map.scatter(label[head.ft[uv_map.face, 0]][:, None].double())[..., 0]
    across, down = texel_pairs(uv_map.valid)
    expected = across & (island.diff(dim=1) != 0), down & (island.diff(dim=0) != 0)
    found = seam_pairs(uv_map, head.vt, head.ft, head.faces)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@needs_head
def test_the_islands_of_open_head_are_far_enough_apart_to_have_no_seam_at_256_texels():
    head = load_head()
    uv_map = build_uv_map(head.vt, head.ft, 256)
    assert not any(pairs.any() for pairs in seam_pairs(uv_map, head.vt, head.ft, head.faces))


# --- residuals --------------------------------------------------------------------------------------------------------


def test_shrinkage_adds_attributes_and_channels_and_averages_texels_and_images():
    valid = torch.tensor([[True, False], [True, True]])
    deltas = {"means": torch.full((2, 3, 2, 2), 0.5), "quats": torch.full((2, 4, 2, 2), -0.25)}
    deltas["means"][1] = 0
    assert residual_shrinkage(deltas, valid).item() == pytest.approx(3 * 0.5 / 2 + 4 * 0.25)


def test_a_residual_head_that_starts_at_zero_feels_no_pull():
    delta = torch.zeros(1, 3, 4, 4, requires_grad=True)
    residual_shrinkage({"colors": delta}, EVERYWHERE).backward()
    assert (delta.grad == 0).all()


def test_opacity_has_no_residual():
    with pytest.raises(ValueError, match="not opacity"):
        residual_shrinkage({"opacity": torch.zeros(1, 1, 4, 4)}, EVERYWHERE)


# --- the sum ----------------------------------------------------------------------------------------------------------


def batch(size: int = 48, n: int = 8) -> dict:
    """What a trainer has at hand, with gradients wherever the generator has something to learn."""
    generator = torch.Generator().manual_seed(0)
    rendered, target = (x.float() for x in pair(2, 3, size, size))
    channels = {"positions": 3, "scales": 3, "means": 3, "quats": 4, "log_scales": 3, "colors": 3}
    maps = {name: torch.randn(2, c, n, n, generator=generator).requires_grad_() for name, c in channels.items()}
    return {
        "rendered": rendered.requires_grad_(),
        "target": target,
        "face_box": torch.tensor([[10.0, 10.0, 30.0, 30.0], [5.0, 8.0, 25.0, 40.0]]),
        "positions": maps["positions"],
        "log_scales": maps["scales"],
        "deltas": {name: maps[name] for name in RESIDUALS},
        "valid": random_mask(0, n),
        "jacobian": torch.tensor(2.5, requires_grad=True),
    }


@needs_weights
def test_the_total_is_the_weighted_sum_of_the_terms():
    weights = GeneratorWeights(0.3, 0.7, 1.1, 1.3, 0.17, 0.19, 0.23, 0.29)
    total, terms = generator_loss(**batch(), weights=weights)
    assert set(terms) == set(OFF)
    assert total.item() == pytest.approx(sum(getattr(weights, name) * float(v) for name, v in terms.items()))


@needs_weights
def test_each_term_is_its_function_of_its_own_inputs():
    given_, (_, terms) = batch(), generator_loss(**batch(), weights=PHASE_2)
    images = given_["rendered"], given_["target"]
    expected = {
        "l1": l1(*images),
        "ms_ssim": 1 - ms_ssim(*images).mean(),
        "lpips": generator_losses.lpips(*images, net="alex").mean(),
        "box": box_l1(*images, given_["face_box"]),
        "position_tv": uv_tv(given_["positions"], given_["valid"]),
        "scale_tv": uv_tv(given_["log_scales"], given_["valid"]),
        "jacobian": torch.tensor(2.5),
        "delta": residual_shrinkage(given_["deltas"], given_["valid"]),
    }
    torch.testing.assert_close(terms, {name: value.detach() for name, value in expected.items()})


def test_phase_1_does_not_shrink_residuals_and_phase_2_does():
    assert (PHASE_1.delta, PHASE_2.delta) == (0.0, 1e-2)
    assert dataclasses.replace(PHASE_1, delta=PHASE_2.delta) == PHASE_2 == GeneratorWeights()


FUNCTIONS = {"l1": "l1", "ms_ssim": "ms_ssim", "lpips": "lpips", "box": "box_l1", "delta": "residual_shrinkage"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_weight_of_zero_switches_its_term_off_unevaluated(name, monkeypatch):
    def stop(*args, **kwargs):
        raise AssertionError(f"{name} was evaluated")

    monkeypatch.setattr(generator_losses, FUNCTIONS[name], stop)
    weights = GeneratorWeights(**(OFF | dict.fromkeys(("position_tv", "scale_tv", "jacobian"), 1.0)))
    _, terms = generator_loss(**batch(), weights=weights)
    assert set(terms) == {"position_tv", "scale_tv", "jacobian"}
    with pytest.raises(AssertionError, match="was evaluated"):
        generator_loss(**batch(), weights=dataclasses.replace(weights, **{name: 1e-9}))


@pytest.mark.parametrize(
    ("name", "learner"),
    [("position_tv", "positions"), ("scale_tv", "log_scales"), ("jacobian", "jacobian"), ("l1", "rendered"),
     ("ms_ssim", "rendered"), ("box", "rendered")],
)  # fmt: skip
def test_a_term_alone_moves_what_it_is_about_and_nothing_else(name, learner):
    given_ = batch()
    learners = {key: value for key, value in given_.items() if isinstance(value, torch.Tensor) and value.requires_grad}
    generator_loss(**given_, weights=GeneratorWeights(**(OFF | {name: 2.0})))[0].backward()
    assert {key for key, value in learners.items() if value.grad is not None} == {learner}
    assert learners[learner].grad.abs().max() > 0


def test_without_a_jacobian_or_a_residual_head_their_terms_are_missing():
    weights = dataclasses.replace(PHASE_2, lpips=0.0)
    _, terms = generator_loss(**(batch() | {"jacobian": None, "deltas": {}}), weights=weights)
    assert set(terms) == {"l1", "ms_ssim", "box", "position_tv", "scale_tv"}


def test_no_term_at_all_is_zero():
    total, terms = generator_loss(**batch(), weights=GeneratorWeights(**OFF))
    assert total == 0 and terms == {}


def test_terms_are_values_to_log_and_keep_no_graph():
    _, terms = generator_loss(**batch(), weights=dataclasses.replace(PHASE_2, lpips=0.0))
    assert not any(value.requires_grad for value in terms.values())


@needs_weights
def test_under_autocast_all_terms_stay_in_float32():
    expected = generator_loss(**batch(), weights=PHASE_2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(generator_loss(**batch(), weights=PHASE_2), expected, rtol=1e-6, atol=0)


def test_the_whole_loss_has_the_right_gradient_in_float64():
    given_ = batch(size=29, n=3)
    weights = dataclasses.replace(PHASE_2, lpips=0.0)

    def total(rendered, positions, log_scales, color):
        changed = {"rendered": rendered, "positions": positions, "log_scales": log_scales, "deltas": {"colors": color}}
        return generator_loss(**(given_ | changed | {"target": given_["target"].double()}), weights=weights)[0]

    inputs = (given_["rendered"], given_["positions"], given_["log_scales"], given_["deltas"]["colors"])
    inputs = tuple(x.detach().double().requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rendered": torch.rand(2, 1, 48, 48)}, "rendered must be"),
        ({"target": torch.rand(2, 3, 48, 47)}, "target must be"),
        ({"face_box": torch.rand(4)}, "face_box must be"),
        ({"positions": torch.rand(2, 3, 8, 7)}, "positions must be"),
        ({"log_scales": torch.rand(1, 3, 8, 8)}, "log_scales must be"),
        ({"deltas": {"colors": torch.rand(2, 3, 8)}}, r"deltas\['colors'\] must be"),
        ({"deltas": {"opacity": torch.rand(2, 1, 8, 8)}}, "not opacity"),
        ({"valid": torch.ones(8, dtype=torch.bool)}, "valid must be"),
        ({"jacobian": torch.ones(2)}, "jacobian must be"),
    ],
)
def test_shapes_that_do_not_fit_are_named_whatever_the_weights(changed, message):
    with pytest.raises(ValueError, match=message):
        generator_loss(**(batch() | changed), weights=GeneratorWeights(**OFF))


def test_the_terms_refuse_shapes_that_would_broadcast():
    image = torch.rand(2, 3, 8, 8)
    for call in (
        lambda: l1(image, image[:1]),
        lambda: box_l1(image, image[:, :1], torch.rand(2, 4)),
        lambda: box_mask(torch.rand(2, 2), 8, 8),
        lambda: uv_tv(image, EVERYWHERE),
        lambda: residual_shrinkage({"colors": image}, EVERYWHERE),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()
