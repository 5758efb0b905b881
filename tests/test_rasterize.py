"""The picture, against closed forms, the float64 reference and gsplat's projection; backends; the kernel cache."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from raster_scenes import INPUTS, head_scene, random_scene, threads, undecided_pixels

import sa0lib
from sa0lib import camera as cam
from sa0lib.lanes import DIGEST, SOURCES
from sa0lib.rasterize import RENDER_MODES, rasterization
from sa0lib.rasterize.projection import project_kernel
from sa0lib.rasterize.tiles import depth_order

BACKENDS = ["cpu", "reference"]
WIDTH, HEIGHT = 24, 20


def draw(means, opacities, colors, scales=0.02, backend="cpu", **options):
    """Gaussians in the axes of one camera at the origin, looking along +z, that sees 24 x 20 pixels."""
    means = torch.as_tensor(means, dtype=torch.float32)
    n = len(means)
    return rasterization(
        means,
        torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(n, 4),
        torch.as_tensor(scales, dtype=torch.float32).expand(n, 3),
        torch.as_tensor(opacities, dtype=torch.float32).expand(n),
        torch.as_tensor(colors, dtype=torch.float32).expand(n, -1),
        torch.eye(4)[None],
        cam.intrinsics(40.0, WIDTH, HEIGHT)[None],
        WIDTH,
        HEIGHT,
        backend=backend,
        **options,
    )


# one splat


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gaussian_has_the_closed_form_with_pixel_centres_at_half(backend):
    image, alpha, _ = draw([[0.05, -0.1, 2.0]], 0.8, [[0.3, 0.6]], scales=0.1, backend=backend)
    x, y = 40 * 0.05 / 2 + WIDTH / 2, 40 * -0.1 / 2 + HEIGHT / 2
    rows, cols = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    dx, dy = cols + 0.5 - x, rows + 0.5 - y
    sx, sy = 0.05 / 2, -0.1 / 2  # slopes of the ray, which stretch a ball's image away from the centre
    spread = (40 * 0.1 / 2) ** 2  # square pixels
    a, b, c = spread * (1 + sx * sx) + 0.3, spread * sx * sy, spread * (1 + sy * sy) + 0.3
    sigma = (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / (2 * (a * c - b * b))
    expected = 0.8 * torch.exp(-sigma)
    expected = torch.where(expected >= 1 / 255, expected, 0)
    assert (alpha[0, ..., 0] - expected).abs().max() < 2e-6
    assert (image[0] - expected[..., None] * torch.tensor([0.3, 0.6])).abs().max() < 2e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_is_capped_at_0_999(backend):
    _, alpha, _ = draw([[0.0125, 0.0125, 1.0]], 1.0, [[1.0]], scales=0.1, backend=backend)
    assert alpha.max() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_splat_is_skipped_where_its_alpha_is_under_1_255(backend):
    _, alpha, _ = draw([[0.0, 0.0, 1.0]], 0.5, [[1.0]], scales=0.1, backend=backend)
    assert alpha[alpha > 0].min() >= 1 / 255 and (alpha == 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_opacity_under_1_255_draws_nothing(backend):
    _, alpha, meta = draw([[0.0, 0.0, 1.0]], 0.0039, [[1.0]], scales=0.1, backend=backend)
    assert alpha.max() == 0 and meta["radii"].max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_lies_between_the_planes_is_drawn(backend):
    for z, seen in ((-1.0, False), (0.0, False), (0.49, False), (0.5, True), (3.0, True), (3.01, False)):
        image, alpha, meta = draw([[0, 0, z]], 0.9, [[1.0]], backend=backend, near_plane=0.5, far_plane=3.0)
        assert (alpha.max() > 0) == seen and (meta["radii"].max() > 0) == seen
        assert all(
            value.isfinite().all() for value in (image, *meta.values(), meta["conics"], meta["covars2d_blurred"])
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_splat_larger_than_the_image_covers_every_pixel(backend):
    _, alpha, _ = draw([[0.0, 0.0, 1.0]], 0.7, [[1.0]], scales=100.0, backend=backend)
    assert (alpha - 0.7).abs().max() < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_splat_that_is_drawn_has_positive_radii_however_long_it_is(backend):
    _, alpha, meta = draw([[0.0, 0.0, 1.0]], 0.7, [[1.0]], torch.tensor([1e8, 1e-3, 1e-3]), backend=backend)
    assert alpha.max() > 0.1 and (meta["radii"] > 0).all()


def test_a_splat_too_large_for_float32_is_left_out():
    image, alpha, meta = draw([[0, 0, 1.0], [0, 0, 2.0]], 0.7, [[1.0]], scales=torch.tensor([[1e15], [0.1]]))
    assert alpha.isfinite().all() and meta["covars2d"].isfinite().all()
    assert (meta["radii"][0, :, 0] > 0).tolist() == [False, True]


# order and the end of a ray


def two_discs(z, backend):
    """The colour in the middle of a red and a green disc, alpha 0.6 each, at these depths."""
    image, _, _ = draw([[0.0125, 0.0125, z[0]], [0.0125, 0.0125, z[1]]], 0.6, torch.eye(2), 0.2, backend=backend)
    return image[0, HEIGHT // 2, WIDTH // 2].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearer_splat_is_in_front_whatever_its_index(backend):
    assert two_discs((1.0, 1.1), backend) == pytest.approx([0.6, 0.24], abs=5e-3)
    assert two_discs((1.1, 1.0), backend) == pytest.approx([0.24, 0.6], abs=5e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_depths_keep_the_order_of_their_indices(backend):
    n = 40
    means = torch.tensor([0.0125, 0.0125, 1.0]).expand(n, 3)
    image, _, _ = draw(means, 0.1, torch.eye(n), 0.2, backend=backend)
    weights = image[0, HEIGHT // 2, WIDTH // 2]
    assert (weights[1:] < weights[:-1]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_is_by_depth_along_the_axis_and_not_by_distance(backend):
    means = [[0.0, 0.0, 1.0], [0.28, 0.0, 0.99]]  # the second is nearer along z, farther from the camera
    image, _, _ = draw(means, 0.6, torch.eye(2), 2.0, backend=backend)
    assert image[0, HEIGHT // 2, WIDTH // 2, 1] > image[0, HEIGHT // 2, WIDTH // 2, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_depths_one_rounding_step_apart_are_in_order_where_projected_depths_tie(backend):
    near, far = torch.tensor(5.0), torch.nextafter(torch.tensor(5.0), torch.tensor(6.0))
    projected = [(100 - 0.01 * 100 / z) / (100 - 0.01) for z in (near, far)]  # graphics' depth buffer, planes 0.01, 100
    assert near < far and projected[0] == projected[1]
    assert two_discs((far, near), backend) == pytest.approx(two_discs((near, far), backend)[::-1], abs=1e-6)
    red, green = two_discs((far, near), backend)
    assert green > 2 * red


def test_depth_order_is_the_stable_sort_of_the_visible_down_to_the_last_bit():
    g = torch.Generator().manual_seed(0)
    step = torch.finfo(torch.float32).eps
    depths = torch.cat([1 + step * torch.randint(0, 500, (3000,), generator=g), torch.rand(3000, generator=g) * 1e6])
    reach = (torch.rand(6000, 1, generator=g) > 0.3).float().expand(6000, 2)
    order = depth_order(depths.numpy().view("uint32"), reach.numpy())
    expected = depths.argsort(stable=True)
    assert order.tolist() == expected[reach[expected, 0] > 0].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pixel_closes_before_the_splat_that_would_take_its_light_to_1e_4(backend):
    means = torch.tensor([0.0125, 0.0125, 1.0]) + torch.tensor([0.0, 0.0, 0.01]) * torch.arange(4)[:, None]
    image, alpha, _ = draw(means, 1.0, torch.eye(4), 5.0, backend=backend)
    middle = image[0, HEIGHT // 2, WIDTH // 2]  # 0.999 leaves 1e-3; the second would leave 1e-6
    assert middle.tolist() == pytest.approx([0.999, 0, 0, 0], abs=1e-6)
    assert alpha[0, HEIGHT // 2, WIDTH // 2, 0] == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_pixel_takes_no_fainter_splat_behind(backend):
    means = torch.tensor([0.0125, 0.0125, 1.0]) + torch.tensor([0.0, 0.0, 0.01]) * torch.arange(3)[:, None]
    image, _, _ = draw(means, [0.99, 0.999, 0.5], torch.eye(3), 5.0, backend=backend)
    assert image[0, HEIGHT // 2, WIDTH // 2].tolist() == pytest.approx([0.99, 0, 0], abs=1e-4)


# cpu against the reference


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 24, 32, 37])
def test_cpu_draws_the_reference_on_random_scenes(channels):
    scene = random_scene(seed=channels, channels=channels, cameras=2)
    image, alpha, _ = scene.render()
    expected, expected_alpha, _ = scene.reference()
    decided = ~undecided_pixels(scene)
    assert decided.float().mean() > 0.9
    assert (image - expected)[decided].abs().max() < 1e-5
    assert (alpha - expected_alpha)[decided].abs().max() < 1e-5


@pytest.mark.parametrize("spacing", [0.6, 1.0])
def test_cpu_draws_the_reference_on_a_head(spacing):
    scene = head_scene(size=128, spacing=spacing)
    image, alpha, _ = scene.render()
    with torch.no_grad():
        expected, expected_alpha, _ = scene.reference()
    decided = ~undecided_pixels(scene)
    assert 0.1 < alpha.mean() < 0.9 and decided.float().mean() > 0.95
    assert (image - expected)[decided].abs().max() < 1e-4
    assert (alpha - expected_alpha)[decided].abs().max() < 1e-4
    assert (image - expected).abs().mean() < 1e-5  # everywhere, jumps included


@pytest.mark.parametrize("mode", RENDER_MODES)
def test_render_modes_agree_with_the_reference(mode):
    scene = random_scene(seed=7)
    image, alpha, _ = scene.render(render_mode=mode)
    expected, _, _ = scene.reference(render_mode=mode)
    decided = ~undecided_pixels(scene) & (alpha[..., 0] > 0.01)
    assert image.shape[-1] == expected.shape[-1] == {"RGB": 3, "D": 1, "ED": 1}.get(mode, 4)
    assert (image - expected)[decided].abs().max() < 2e-4  # the expected depth divides by alpha


@pytest.mark.parametrize("backend", BACKENDS)
def test_expected_depth_of_one_disc_is_its_depth(backend):
    image, alpha, _ = draw([[0.0, 0.0, 1.25]], 0.5, [[1.0]], 0.2, backend=backend, render_mode="ED")
    assert (image[alpha > 0] - 1.25).abs().max() < 1e-5


@pytest.mark.parametrize("width, height", [(1, 1), (16, 16), (17, 15), (33, 64)])
def test_any_image_size_is_drawn_to_its_edges(width, height):
    scene = random_scene(seed=2, width=width, height=height)
    image, _, _ = scene.render()
    expected, _, _ = scene.reference()
    assert image.shape == (1, height, width, 3)
    assert (image - expected)[~undecided_pixels(scene)].abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_scene_is_its_background(backend):
    none = torch.zeros(0, 3)
    image, alpha, meta = draw(none, 1.0, torch.zeros(0, 2), backgrounds=torch.tensor([[0.2, 0.7]]), backend=backend)
    assert (image == torch.tensor([0.2, 0.7])).all() and alpha.max() == 0 and meta["radii"].shape == (1, 0, 2)


def test_two_cameras_are_two_calls():
    scene = random_scene(seed=5, cameras=2)
    image, alpha, meta = scene.render()
    for c in range(2):
        *gaussians, backgrounds = scene.leaves()
        camera = scene.cameras[c]
        one = rasterization(
            *gaussians, camera.viewmat[None], camera.K[None], 70, 50, backgrounds=backgrounds[c : c + 1]
        )
        assert torch.equal(image[c], one[0][0]) and torch.equal(alpha[c], one[1][0])
        assert torch.equal(meta["means2d"][c], one[2]["means2d"][0])


def test_images_are_bit_equal_for_any_number_of_threads():
    scene, images = head_scene(size=128, count=20_000), []
    for count in (1, 2, 3):
        with threads(count):
            images.append(scene.render()[0])
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


# projection


@pytest.mark.parametrize("backend, bound", [("reference", 1e-9), ("cpu", 1e-5)])
def test_projection_is_gsplats(backend, bound):
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    scene = random_scene(seed=1, count=2000, cameras=2)  # off-screen splats meet the clamp of the Jacobian
    leaves = scene.leaves(torch.float32 if backend == "cpu" else torch.float64)
    with threads(1):
        _, _, meta = scene.render(leaves, backend=backend)
    means, quats, scales = (leaf.detach().double() for leaf in leaves[:3])
    covars, _ = _quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    views = torch.stack([camera.viewmat for camera in scene.cameras]).double()
    Ks = torch.stack([camera.K for camera in scene.cameras]).double()
    radii, means2d, depths, conics, _ = _fully_fused_projection(means, covars, views, Ks, 70, 50)
    shown = (radii > 0).all(-1)
    assert shown.sum() > 100
    for name, expected in (("means2d", means2d), ("depths", depths), ("conics", conics)):
        error = (meta[name] - expected)[shown].abs() / expected[shown].abs().clamp_min(1)
        assert error.max() < bound, name
    a, b, c = meta["covars2d_blurred"].double()[shown].unbind(-1)
    identity = torch.stack(
        [a * conics[shown][:, 0] + b * conics[shown][:, 1], a * conics[shown][:, 1] + b * conics[shown][:, 2]]
    )
    assert (identity - torch.tensor([[1.0], [0.0]])).abs().max() < 1e-2 * max(bound, 1e-7) / 1e-5
    drawn = meta["radii"] > 0
    assert (meta["radii"][drawn] <= radii[drawn]).all()  # gsplat's reference ignores opacity in its extent


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_blur_is_all_that_lies_between_the_two_covariances(backend):
    _, _, meta = random_scene(seed=1).render(backend=backend, eps2d=0.5)
    assert (meta["covars2d_blurred"] - meta["covars2d"] - torch.tensor([0.5, 0.0, 0.5])).abs().max() < 1e-3


def test_inputs_need_not_be_contiguous():
    scene = random_scene(seed=4)
    scene.opacities, scene.backgrounds = scene.opacities[:1].expand(200), scene.backgrounds[:, :1].expand(1, 3)
    image, alpha, _ = scene.render()
    for name in ("means", "quats", "scales", "colors"):
        setattr(scene, name, getattr(scene, name).t().contiguous().t())
    strided = [getattr(scene, name).detach().requires_grad_() for name in INPUTS]
    assert not any(leaf.is_contiguous() for leaf in strided)
    again, alpha_again, _ = scene.render(strided)
    assert torch.equal(again, image) and torch.equal(alpha_again, alpha)
    packed = scene.leaves()
    for leaves in (strided, [leaf.contiguous() for leaf in packed]):
        scene.render(leaves)[0].square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(strided, packed, strict=True))


def test_meta_has_no_other_entries():
    _, _, meta = random_scene(seed=1).render()
    assert meta["conics"] is meta["conics"]  # made once
    with pytest.raises(KeyError, match="conic2d"):
        meta["conic2d"]


def test_quaternion_length_does_not_matter():
    scene = random_scene(seed=4)
    image, _, _ = scene.render()
    scene.quats = scene.quats * 8
    assert torch.allclose(scene.render()[0], image, atol=1e-6)


# backends


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_choosing_cuda_without_a_device_is_a_clear_error():
    with pytest.raises(RuntimeError, match='needs a CUDA device.*backend="cpu"'):
        draw([[0.0, 0.0, 1.0]], 0.5, [[1.0]], backend="cuda")


def test_gsplat_is_not_imported_for_the_other_backends():
    code = """
import sys, torch
sys.modules["gsplat"] = None  # an import would fail
from sa0lib.rasterize import rasterization
g = torch.tensor([[0.0, 0, 1]]), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), torch.ones(1, 3)
rasterization(*g, torch.eye(4)[None], torch.eye(3)[None], 4, 4, backend="reference")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_kernels_are_kept_on_disk_and_compiling_them_is_announced(tmp_path):
    code = """
import numpy as np
from sa0lib.lanes import kernel_threads
from sa0lib.rasterize.tiles import bin_splats
with kernel_threads(bin_splats):
    bin_splats(np.zeros(0, np.int32), np.zeros((0, 16), np.float32), np.zeros((0, 2), np.int32), 0, 1, 1, 1)
print(sum(bin_splats.stats.cache_hits.values()))
"""
    run = lambda: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    first, second = run(), run()
    assert "compiling bin_splats" in first.stderr and first.stdout.strip() == "0"
    assert second.stderr == "" and second.stdout.strip() == "1"


def test_the_kernel_cache_is_named_after_every_kernel_source():
    package = Path(sa0lib.__file__).parent
    compiled = [path for path in package.rglob("*.py") if re.search(r"^@(kernel|njit)\(", path.read_text(), re.M)]
    assert sorted(compiled) == sorted(SOURCES)
    assert f"kernels-{DIGEST}" in project_kernel.stats.cache_path
