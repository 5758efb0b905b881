"""Gradients: the reference against finite differences, the CPU backend against the float64 reference."""

import pytest
import torch
from raster_checks import assert_close, gradients, random_loss
from raster_scenes import INPUTS, Scene, head_scene, random_scene, threads, undecided_pixels

from sa0lib import camera as cam
from sa0lib.rasterize import rasterization

BACKENDS = ["cpu", "reference"]
SHAPE_ENTRIES = [(entry, ("means", "quats", "scales")) for entry in ("covars2d", "covars2d_blurred", "conics")]


# the reference


def test_reference_gradients_are_finite_differences():
    scene = random_scene(seed=3, count=5, channels=2, width=10, height=8)
    scene.scales = scene.scales * 0 + torch.tensor([0.1, 0.15, 0.2])
    scene.opacities = scene.opacities * 0.5 + 0.2
    far = undecided_pixels(scene, alpha_margin=0.02)[..., None]  # no decision may flip within the step
    assert far.float().mean() < 0.3

    def outputs(*leaves):
        image, alpha, meta = scene.render(leaves, backend="reference", render_mode="RGB+ED")
        seen = torch.where(far | (alpha < 0.01), 0, image)
        return seen, torch.where(far, 0, alpha), meta["covars2d"], meta["conics"], meta["means2d"], meta["depths"]

    with threads(1):
        assert torch.autograd.gradcheck(outputs, scene.leaves(torch.float64), eps=1e-7, atol=1e-5, rtol=1e-4)


# cpu against the reference


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 24, 32, 37])
def test_cpu_gradients_are_the_references_on_random_scenes(channels):
    scene = random_scene(seed=10 + channels, channels=channels, cameras=2)
    loss = random_loss(scene, channels)
    expected = gradients(scene, loss, "reference", torch.float64)
    assert_close(gradients(scene, loss, "cpu"), expected, 3e-5)


@pytest.mark.parametrize("spacing", [0.6, 1.0])
def test_cpu_gradients_are_the_references_on_a_head(spacing):
    scene = head_scene(size=128, spacing=spacing)
    loss = random_loss(scene, 3)
    expected = gradients(scene, loss, "reference", torch.float64)
    assert_close(gradients(scene, loss, "cpu"), expected, 1e-3)


@pytest.mark.parametrize("mode", ["D", "ED", "RGB+D", "RGB+ED"])
def test_cpu_gradients_are_the_references_through_depth(mode):
    scene = random_scene(seed=5)
    loss = random_loss(scene, 4 if "+" in mode else 1, least_alpha=0.05)
    names = INPUTS if "+" in mode else INPUTS[:4]
    expected = gradients(scene, loss, "reference", torch.float64, render_mode=mode)
    assert_close(gradients(scene, loss, "cpu", render_mode=mode), expected, 3e-4, names)


@pytest.mark.parametrize("entry, names", [("means2d", INPUTS[:1]), ("depths", INPUTS[:1]), *SHAPE_ENTRIES])
def test_entries_of_meta_carry_their_gradient(entry, names):
    scene, g = random_scene(seed=6), torch.Generator().manual_seed(2)
    weight = torch.randn(1, 200, 3, generator=g)

    def loss(image, alpha, meta):
        drawn = (meta["radii"] > 0).all(-1)
        value = meta[entry][drawn]  # [n, 2], [n] or [n, 3]
        return (value * weight[drawn][:, : value.shape[-1]] if value.dim() == 2 else value * weight[drawn][:, 0]).sum()

    expected = gradients(scene, loss, "reference", torch.float64)
    assert_close(gradients(scene, loss, "cpu"), expected, 1e-4, names)


def test_the_aspect_penalty_reaches_the_shape_through_covars2d():
    scene = random_scene(seed=8)

    def penalty(image, alpha, meta):
        """Eq. (4) with tau = 0.7: half the log ratio of the eigenvalues of xx, xy; xy, yy."""
        xx, xy, yy = meta["covars2d"].unbind(-1)
        mean, radius = (xx + yy) / 2, ((xx - yy) ** 2 / 4 + xy * xy + 1e-12).sqrt()
        return torch.relu(torch.log((mean + radius) / (mean - radius)) / 2 - 0.7).mean()

    expected = gradients(scene, penalty, "reference", torch.float64)
    assert_close(gradients(scene, penalty, "cpu"), expected, 2e-3, ("means", "quats", "scales"))


# traps


@pytest.mark.parametrize("backend", BACKENDS)
def test_deep_overlap_keeps_gradients_finite_and_right(backend):
    """Hundreds of layers: without the stop at 1e-4 the transmittance underflows and its rebuilding explodes."""
    g = torch.Generator().manual_seed(0)
    count = 400
    means = torch.cat([0.2 * torch.randn(count, 2, generator=g), 0.3 * torch.rand(count, 1, generator=g)], 1)
    camera = cam.Camera(cam.intrinsics(40.0, 32, 32), cam.orbit(0.0, 0.0, 1.5, torch.zeros(3)), 32, 32)
    scene = Scene(
        means=means,
        quats=torch.randn(count, 4, generator=g),
        scales=0.3 * torch.exp(0.3 * torch.randn(count, 3, generator=g)),
        opacities=torch.full((count,), 0.6),
        colors=torch.rand(count, 3, generator=g),
        backgrounds=torch.rand(1, 3, generator=g),
        cameras=[camera],
    )
    loss = random_loss(scene, 3)
    expected = gradients(scene, loss, "reference", torch.float64)
    got = gradients(scene, loss, backend)
    assert all(got[name].isfinite().all() and got[name].abs().max() < 1e6 for name in INPUTS)
    assert_close(got, expected, 1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_turning_a_tilted_splat_has_the_gradient_of_finite_differences(backend):
    """The off-diagonal of the conic stands for two entries: counting it once is 40 % off here."""
    camera = cam.Camera(cam.intrinsics(60.0, 40, 40), torch.eye(4), 40, 40)
    weights = torch.randn(40, 40, 1, generator=torch.Generator().manual_seed(0))

    def loss(angle, dtype, backend):
        angle = torch.as_tensor(angle, dtype=dtype)
        quat = torch.stack([(angle / 2).cos(), 0 * angle, 0 * angle, (angle / 2).sin()])
        gaussian = [[[0.02, 0.01, 1.0]], quat[None], [[0.2, 0.05, 0.05]], [0.9], [[1.0]]]
        gaussian = [torch.as_tensor(value, dtype=dtype) for value in gaussian]
        view, K = camera.viewmat[None].to(dtype), camera.K[None].to(dtype)
        image, _, _ = rasterization(*gaussian, view, K, 40, 40, backend=backend)
        return (torch.where(image > 0.02, image, 0)[0] * weights).sum()

    dtype = torch.float32 if backend == "cpu" else torch.float64
    angle = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    loss(angle, dtype, backend).backward()
    step = 1e-6
    ahead, behind = loss(0.5 + step, torch.float64, "reference"), loss(0.5 - step, torch.float64, "reference")
    assert float(angle.grad) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_capped_alpha_stops_the_gradient_to_shape_but_not_to_colour(backend):
    leaf = dict(
        means=torch.tensor([[0.0125, 0.0125, 1.0]]),
        quats=torch.tensor([[1.0, 0.1, 0.2, 0.3]]),
        scales=torch.full((1, 3), 30.0),
        opacities=torch.ones(1),
        colors=torch.ones(1, 3),
    )
    leaf = {name: value.requires_grad_() for name, value in leaf.items()}
    image, _, _ = rasterization(
        *leaf.values(), torch.eye(4)[None], cam.intrinsics(40.0, 4, 4)[None], 4, 4, backend=backend
    )
    image.sum().backward()
    assert all(leaf[name].grad.abs().max() == 0 for name in ("means", "quats", "scales", "opacities"))
    assert leaf["colors"].grad[0].tolist() == pytest.approx([16 * 0.999] * 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("opacity, slope", [(0.9985, 16.0), (0.9995, 0.0)])
def test_the_gradient_stops_at_the_alpha_at_which_the_picture_stops(backend, opacity, slope):
    opacities = torch.tensor([opacity], requires_grad=True)
    gaussian = torch.tensor([[0.0, 0.0, 1.0]]), torch.ones(1, 4), torch.full((1, 3), 100.0), opacities, torch.ones(1, 1)
    K = cam.intrinsics(40.0, 4, 4)[None]
    image, _, _ = rasterization(*gaussian, torch.eye(4)[None], K, 4, 4, backend=backend)
    image.sum().backward()
    assert float(image.detach().sum()) == pytest.approx(16 * min(opacity, 0.999), rel=1e-5)
    assert float(opacities.grad) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_colour_gradients_weigh_splats_as_the_picture_does(backend):
    """The picture is linear in its colours, so colours times gradients are the picture: caps and closed pixels too."""
    scene = random_scene(seed=11, count=600)
    scene.opacities = torch.where(torch.arange(600) % 3 == 0, 1.0, scene.opacities)  # capped
    leaves = scene.leaves()
    image, alpha, _ = scene.render(leaves, backend=backend)
    weights = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    (image * weights).sum().backward()
    rebuilt = sum((leaf.detach() * leaf.grad).sum() for leaf in leaves[4:])
    drawn = (image.detach() * weights).sum()
    assert (alpha > 0.9985).any() and float(rebuilt) == pytest.approx(float(drawn), rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_splats_of_equal_depth_keep_the_order_of_their_indices_in_the_gradient(backend):
    """Discs that differ in colour alone: each lets four tenths of the light through to the next."""
    means = torch.tensor([[0.0, 0.0, 2.0]]).expand(4, 3)
    colors = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gaussians = means, torch.ones(4, 4), torch.full((4, 3), 300.0), torch.full((4,), 0.6), colors
    K = cam.intrinsics(40.0, 4, 4)[None]
    image, _, _ = rasterization(*gaussians, torch.eye(4)[None], K, 4, 4, backend=backend)
    image.sum().backward()
    weights = [16 * 0.6 * 0.4**n for n in range(4)]
    assert colors.grad[:, 0].tolist() == pytest.approx(weights, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_culled_gaussians_get_zero_gradients(backend):
    means = torch.tensor([[0, 0, 1.0], [0, 0, 0.0], [0, 0, -1.0], [0, 0, 1e-9], [50.0, 0, 1], [0, 0, 1.5]])
    opacities = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.003])
    g = torch.Generator().manual_seed(0)
    quats, colors = torch.randn(6, 4, generator=g), torch.rand(6, 3, generator=g)
    leaves = [means, quats, torch.full((6, 3), 0.1), opacities, colors]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    image, alpha, _ = rasterization(
        *leaves, torch.eye(4)[None], cam.intrinsics(40.0, 20, 20)[None], 20, 20, backend=backend
    )
    (image.square().sum() + alpha.sum()).backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all() and leaf.grad[0].abs().max() > 0 and leaf.grad[1:].abs().max() == 0


def test_a_needle_a_thousand_times_longer_than_wide_keeps_its_gradient():
    camera = cam.Camera(cam.intrinsics(300.0, 256, 256), torch.eye(4), 256, 256)
    scene = Scene(
        means=torch.tensor([[0.01, 0.02, 1.0]]),
        quats=torch.tensor([[0.9, 0.05, 0.1, 0.4]]),
        scales=torch.tensor([[1.0, 0.001, 0.001]]),
        opacities=torch.tensor([0.8]),
        colors=torch.tensor([[0.2, 0.5, 0.9]]),
        backgrounds=torch.tensor([[0.1, 0.2, 0.3]]),
        cameras=[camera],
    )
    loss = random_loss(scene, 3)
    assert_close(gradients(scene, loss, "cpu"), gradients(scene, loss, "reference", torch.float64), 1e-3)


def test_gradients_are_bit_equal_for_any_number_of_threads():
    scene, results = head_scene(size=128, count=20_000), []
    for count in (1, 2, 3):
        leaves = scene.leaves()
        with threads(count):
            image, alpha, _ = scene.render(leaves)
            (image.square().sum() + alpha.sum()).backward()
        results.append([leaf.grad for leaf in leaves])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_gradient_of_a_transposed_or_expanded_image_is_the_same():
    scene = random_scene(seed=9)
    weights = torch.randn(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    a = gradients(scene, lambda image, *_: (image.permute(0, 3, 1, 2) * weights).sum(), "cpu")
    b = gradients(scene, lambda image, *_: (image * weights.permute(0, 2, 3, 1).contiguous()).sum(), "cpu")
    assert all(torch.equal(a[name], b[name]) for name in INPUTS)
    c = gradients(scene, lambda image, *_: image.sum(), "cpu")  # its gradient is one number, expanded
    d = gradients(scene, lambda image, *_: (image * torch.ones_like(image)).sum(), "cpu")
    assert all(torch.equal(c[name], d[name]) for name in INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_one_input_alone_gets_the_gradient_that_it_gets_among_all(name):
    scene, place = random_scene(seed=9, cameras=2), INPUTS.index(name)
    everything, alone = scene.leaves(), [leaf.detach() for leaf in scene.leaves()]
    alone[place].requires_grad_(True)
    for leaves in (everything, alone):
        image, alpha, _ = scene.render(leaves)
        (image.square().sum() + alpha.sum()).backward()
    assert torch.equal(alone[place].grad, everything[place].grad)


def test_a_kept_graph_gives_the_same_gradient_again():
    scene = random_scene(seed=9)
    leaves = scene.leaves()
    image, alpha, _ = scene.render(leaves)
    loss = image.square().sum() + alpha.sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, leaves), strict=True))


@pytest.mark.parametrize("scales", [(0.1, 0.0, 0.0), (0.0, 0.0, 0.0), (0.1, 1e-12, 1e-12), (0.1, 0.1, 0.0)])
def test_splats_without_extent_have_finite_gradients_without_a_blur_too(scales):
    scene = random_scene(seed=9)
    scene.scales = torch.tensor(scales).expand(200, 3)
    leaves = scene.leaves()
    image, alpha, meta = scene.render(leaves, eps2d=0.0)
    (image.sum() + alpha.sum() + meta["covars2d"].sum() + meta["conics"].sum()).backward()
    assert image.isfinite().all() and all(leaf.grad.isfinite().all() for leaf in leaves)


def test_a_nan_in_one_pixels_gradient_stays_in_its_tile():
    scene = random_scene(seed=9, channels=8)
    leaves = scene.leaves()
    image, _, meta = scene.render(leaves)
    g_image = torch.ones_like(image)
    g_image[0, 0, 63] = torch.nan
    (spoilt,) = torch.autograd.grad(image, leaves[4], g_image)
    x, reach = meta["means2d"][0, :, 0], meta["radii"][0, :, 0]
    far = (x + reach < 56 - 1) | (x - reach > 64 + 1)  # of the tile's columns
    assert spoilt.isnan().any() and spoilt[far].isfinite().all()


@pytest.mark.parametrize("changed", range(4))  # means, quats, scales, opacities
def test_changing_gaussians_in_place_before_backward_is_an_error(changed):
    scene = random_scene(seed=9)
    leaves = scene.leaves()
    image, _, _ = scene.render(leaves)
    with torch.no_grad():
        leaves[changed] *= 0.5
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        image.sum().backward()
