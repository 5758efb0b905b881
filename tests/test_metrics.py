"""PSNR, SSIM and LPIPS against their definitions and against other implementations."""

import math

import numpy as np
import pytest
import torch

from sa0lib import metrics
from sa0lib.metrics import lpips, psnr, ssim
from sa0lib.paths import ASSETS
from sa0lib.torchvision_cpu import declare_torchvision_operators

needs_weights = pytest.mark.skipif(
    not (ASSETS / "lpips_alex.npz").is_file(), reason="run `python -m data_scripts.get_assets --only lpips`"
)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 64, 48, generator=generator)
    noise = 0.1 * torch.randn(2, 3, 64, 48, generator=generator)
    return image, (image + noise).clamp(0, 1)


def test_psnr_of_a_constant_error_is_known(pair):
    image = torch.full((1, 3, 8, 8), 0.5)
    assert psnr(image, image + 0.1).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr(image, image).item() == math.inf


def test_psnr_is_one_number_an_image(pair):
    image, other = pair
    both = psnr(image, other)
    assert both.shape == (2,)
    torch.testing.assert_close(both[1:], psnr(image[1:], other[1:]))


@pytest.mark.parametrize("shape", [(1, 3, 64, 48), (3, 1, 31, 40), (2, 3, 6, 7)])
def test_ssim_is_that_of_torchmetrics(shape):
    declare_torchvision_operators()
    from torchmetrics.functional.image import structural_similarity_index_measure

    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    expected = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), expected, atol=1e-9, rtol=0)


def with_gradient(a, b):
    """SSIM of a pair, and the gradient to the first of a sum with unequal weights."""
    a = a.clone().requires_grad_(True)
    score = ssim(a, b)
    weights = torch.arange(1, len(score) + 1).to(score)
    return score.detach().double(), torch.autograd.grad((score * weights).sum(), a)[0].double()


@pytest.mark.parametrize("shape", [(1, 3, 64, 48), (3, 1, 31, 40), (2, 3, 16, 16), (2, 2, 6, 7), (1, 1, 7, 100)])
def test_the_ssim_kernel_is_the_float64_formula_with_its_gradient(shape):
    generator = torch.Generator().manual_seed(3)
    a, b = torch.rand(2, *shape, generator=generator)
    (score, slope), (expected, expected_slope) = with_gradient(a, b), with_gradient(a.double(), b.double())
    assert (score - expected).abs().max() < 1e-6
    assert (slope - expected_slope).norm() < 3e-6 * expected_slope.norm()


def test_the_ssim_kernel_is_right_where_images_are_flat_or_equal():
    """There variances are zero but for rounding, 1e-8 of a flat 0.3 against the formula's constant of 9e-4."""
    generator = torch.Generator().manual_seed(4)
    flat, rough = torch.full((1, 1, 20, 20), 0.3), torch.rand(1, 1, 20, 20, generator=generator)
    for a, b in ((flat, rough), (rough, flat), (rough, rough), (flat, flat + 0.1)):
        (score, slope), (expected, expected_slope) = with_gradient(a, b), with_gradient(a.double(), b.double())
        assert (score - expected).abs().max() < 1e-4
        assert (slope - expected_slope).abs().max() < 1e-4 * max(1e-2, float(expected_slope.abs().max()))


def test_the_ssim_kernel_is_bit_equal_for_any_number_of_threads(pair):
    results, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(with_gradient(*pair))
    torch.set_num_threads(before)
    for score, slope in results[1:]:
        assert torch.equal(score, results[0][0]) and torch.equal(slope, results[0][1])


def test_ssim_in_inference_mode_leaves_nothing_behind_that_stops_gradients():
    a, b = torch.rand(2, 1, 3, 21, 23, generator=torch.Generator().manual_seed(5))  # a size that no other test keeps
    with torch.inference_mode():
        ssim(a, b)
    assert with_gradient(a, b)[1].abs().max() > 0


def test_ssim_gives_the_second_image_a_gradient_too(pair):
    image, other = pair
    other = other.clone().requires_grad_(True)
    ssim(image, other).sum().backward()
    first = image.clone().requires_grad_(True)
    ssim(first, other.detach()).sum().backward()
    assert other.grad.abs().max() > 0 and not torch.allclose(other.grad, first.grad)


def test_ssim_is_one_for_equal_images_and_symmetric(pair):
    image, other = pair
    torch.testing.assert_close(ssim(image, image), torch.ones(2))
    torch.testing.assert_close(ssim(image, other), ssim(other, image))
    assert (ssim(image, other) < 0.99).all()


def test_ssim_has_the_right_gradient():
    generator = torch.Generator().manual_seed(2)
    a, b = torch.rand(2, 1, 1, 12, 12, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), a.requires_grad_(True))


@needs_weights
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_zero_for_equal_images_and_grows_with_noise(pair, net):
    image, other = pair
    torch.testing.assert_close(lpips(image, image, net=net), torch.zeros(2))
    far = (image + 3 * (other - image)).clamp(0, 1)
    assert (0 < lpips(image, other, net=net)).all()
    assert (lpips(image, other, net=net) < lpips(image, far, net=net)).all()


@needs_weights
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_heads_beside_the_backbone_are_those_of_the_official_package(net):
    model = metrics.lpips_network(net, ASSETS)
    with np.load(ASSETS / f"lpips_{net}.npz") as weights:
        for i in range(5):
            official = getattr(model, f"lin{i}").model[1].weight.numpy()
            np.testing.assert_array_equal(weights[f"lin{i}.weight"], official)


@needs_weights
def test_lpips_follows_its_definition_layer_by_layer(pair):
    """Scale the input, unit-normalise features over channels, weigh squared differences, average, add."""
    import torch.nn.functional as F

    def features(x):
        x = ((2 * x - 1) - shift) / scale
        for n, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            layer = (0, 3, 6, 8, 10)[n]
            x = F.max_pool2d(x, 3, 2) if n in (1, 2) else x
            x = F.relu(F.conv2d(x, w[f"features.{layer}.weight"], w[f"features.{layer}.bias"], stride, padding))
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    with np.load(ASSETS / "lpips_alex.npz") as f:
        w = {name: torch.from_numpy(f[name]) for name in f.files}
    image, other = pair
    layers = zip(features(image), features(other), range(5), strict=True)
    expected = sum(F.conv2d((a - b).square(), w[f"lin{i}.weight"]).mean((1, 2, 3)) for a, b, i in layers)
    torch.testing.assert_close(lpips(image, other), expected, rtol=1e-4, atol=1e-6)


@needs_weights
def test_lpips_lets_gradients_reach_the_image_and_not_the_network(pair):
    image, other = pair
    image.requires_grad_(True)
    lpips(image, other).sum().backward()
    assert image.grad.abs().max() > 0
    assert not any(p.requires_grad for p in metrics.lpips_network("alex", ASSETS).parameters())


def test_a_box_scores_only_what_is_inside(pair):
    image, other = pair
    box = torch.tensor([[4.0, 8.0, 44.0, 48.0], [-3.2, 20.0, 33.0, 99.0]])  # the second hangs over the border
    for metric in (psnr, ssim):
        whole = metric(image, other, box)
        torch.testing.assert_close(whole[:1], metric(image[:1, :, 8:48, 4:44], other[:1, :, 8:48, 4:44]))
        torch.testing.assert_close(whole[1:], metric(image[1:, :, 20:, :33], other[1:, :, 20:, :33]))


def test_shapes_that_do_not_fit_are_named(pair):
    image, other = pair
    with pytest.raises(ValueError, match="of one shape"):
        psnr(image, other[:, :, :-1])
    with pytest.raises(ValueError, match="one box"):
        ssim(image, other, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="0 x 0 pixels"):
        psnr(image, other, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="RGB"):
        lpips(image[:, :1], other[:, :1])


def test_missing_weights_say_how_to_get_them(pair, tmp_path):
    with pytest.raises(FileNotFoundError, match="get_assets --only lpips"):
        metrics.lpips_network("alex", tmp_path)


def test_damaged_weights_are_refused_by_name(tmp_path):
    (tmp_path / "lpips_alex.npz").write_bytes(b"PK not a zip archive")
    with pytest.raises(ValueError, match="lpips_alex.npz is damaged"):
        metrics.lpips_network("alex", tmp_path)
