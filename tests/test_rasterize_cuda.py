"""gsplat behind `rasterization`: pictures, gradients and meta are the float64 reference's. Needs a CUDA device."""

import subprocess
import sys

import pytest
import torch
from raster_checks import gradients, random_loss
from raster_scenes import INPUTS, KINDS, head_scene, mixed_scene, random_scene, undecided_pixels

from sa0lib.rasterize import rasterization

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="gsplat draws only on a CUDA device, and torch sees none"
)

IMAGE = 2e-3  # absolute
GRADIENT = 1e-2  # relative 2-norm
# gsplat projects in float32 and keeps the conic's three entries, which cancel in thin splats: wider margins than the
# CPU backend's. Depths come from another order of operations, so the last bits may put neighbours the other way round.
MARGINS = dict(alpha_margin=3e-3, light_margin=1e-2, depth_margin=1e-6)
SCENES = {
    "head": lambda: (head_scene(size=128, count=20_000), MARGINS),
    "deep overlap": lambda: (head_scene(size=128, spacing=1.0, count=20_000), MARGINS),
    "3 channels": lambda: (random_scene(seed=20, cameras=2), MARGINS),
    "5 channels": lambda: (random_scene(seed=21, channels=5), MARGINS),  # gsplat pads them to 8
    "32 channels": lambda: (random_scene(seed=22, channels=32, cameras=2), MARGINS),
    "one Gaussian": lambda: (mixed_scene([("ordinary", 1)]), MARGINS),
    "one pixel": lambda: (mixed_scene([("ordinary", 6)], size=(1, 1)), MARGINS),
    # one camera without rotation: depths are exact, and equal ones stay equal
    "awkward": lambda: (mixed_scene([(kind, 3) for kind in KINDS], size=(17, 33)), {**MARGINS, "depth_margin": None}),
}


@pytest.fixture(params=SCENES)
def scene_and_margins(request):
    return SCENES[request.param]()


def assert_picture(scene, margins, mode="RGB", backend="cuda"):
    """Image and alpha where rounding does not decide; the expected depth where something is there."""
    with torch.no_grad():
        image, alpha, _ = scene.render(scene.leaves(device="cuda"), backend=backend, render_mode=mode)
    expected, expected_alpha, _ = scene.reference(render_mode=mode)
    assert image.is_cuda and image.shape == expected.shape
    decided = ~undecided_pixels(scene, **margins)
    assert decided.float().mean() > 0.8
    assert (alpha.cpu() - expected_alpha)[decided].abs().max() <= IMAGE
    if mode.endswith("ED"):
        decided &= expected_alpha[..., 0] >= 0.05
    assert (image.cpu() - expected)[decided].abs().max() <= IMAGE


def assert_gradients(got: dict, expected: dict, names=INPUTS):
    for name in names:
        size = expected[name].norm()
        assert size > 0, name
        error = (got[name] - expected[name]).norm() / size
        assert error <= GRADIENT, f"{name}: {error:.2e}"


def test_the_picture_is_the_references(scene_and_margins):
    assert_picture(*scene_and_margins)


def test_gradients_are_the_references(scene_and_margins):
    scene, margins = scene_and_margins
    loss = random_loss(scene, scene.colors.shape[-1], **margins)
    expected = gradients(scene, loss, "reference", torch.float64)
    assert_gradients(gradients(scene, loss, "cuda", device="cuda"), expected)


@pytest.mark.parametrize("mode, channels", [("D", 3), ("ED", 3), ("RGB+D", 3), ("RGB+ED", 3), ("RGB+ED", 32)])
def test_depth_and_its_gradients_are_the_references(mode, channels):
    scene = random_scene(seed=23, channels=channels, cameras=2)
    assert_picture(scene, MARGINS, mode)
    loss = random_loss(scene, channels + 1 if "+" in mode else 1, least_alpha=0.05, **MARGINS)
    expected = gradients(scene, loss, "reference", torch.float64, render_mode=mode)
    got = gradients(scene, loss, "cuda", device="cuda", render_mode=mode)
    assert_gradients(got, expected, INPUTS if "+" in mode else INPUTS[:4])


@pytest.mark.parametrize("entry", ["means2d", "depths", "conics", "covars2d", "covars2d_blurred"])
def test_entries_of_meta_and_their_gradients_are_the_references_where_drawn(entry):
    scene, g = random_scene(seed=24, cameras=2), torch.Generator().manual_seed(2)
    scene.scales = scene.scales.clamp_min(0.3 * scene.scales.amax(-1, keepdim=True))  # thin conics lose their digits
    weight = torch.randn(2, 200, 3, generator=g).double()
    with torch.no_grad():
        _, _, meta = scene.render(scene.leaves(device="cuda"), backend="cuda")
    _, _, expected = scene.reference()
    drawn = (meta["radii"] > 0).all(-1).cpu()  # [C, N]
    assert drawn.sum() > 50 and ((expected["radii"] > 0).all(-1) != drawn).sum() <= 2
    drawn &= (expected["radii"] > 0).all(-1)
    difference = (meta[entry].cpu() - expected[entry])[drawn]
    assert difference.norm() <= 1e-4 * expected[entry][drawn].norm()

    def loss(image, alpha, meta):
        value = meta[entry][drawn.to(image.device)]  # [n, 2], [n, 3] or [n]
        weights = weight.to(value)[drawn.to(image.device)]
        return (value * (weights[:, : value.shape[-1]] if value.dim() == 2 else weights[:, 0])).sum()

    names = ("means",) if entry in ("means2d", "depths") else ("means", "quats", "scales")
    assert_gradients(
        gradients(scene, loss, "cuda", device="cuda"), gradients(scene, loss, "reference", torch.float64), names
    )


def test_covariances_outside_the_planes_are_the_unit_circle_and_still():
    scene = mixed_scene([("ordinary", 2), ("behind", 2), ("before the near plane", 2), ("beyond the far plane", 2)])
    leaves = scene.leaves(device="cuda")
    _, _, meta = scene.render(leaves, backend="cuda")
    assert (meta["covars2d"][0, 2:].cpu() == torch.tensor([1.0, 0.0, 1.0])).all()
    meta["covars2d"].square().sum().backward()
    for leaf in leaves[:3]:
        assert leaf.grad.isfinite().all() and leaf.grad[:2].norm() > 0 and leaf.grad[2:].norm() == 0


def test_auto_takes_cuda_tensors_to_gsplat_and_adds_nothing_to_its_picture():
    import gsplat

    scene = random_scene(seed=25)
    leaves = scene.leaves(device="cuda")
    camera = scene.cameras[0].to("cuda")
    with torch.no_grad():
        image, alpha, meta = scene.render(leaves, backend="auto", render_mode="RGB+ED")
        *gaussians, backgrounds = leaves
        expected, expected_alpha, _ = gsplat.rasterization(
            *gaussians, camera.viewmat[None], camera.K[None], 70, 50,
            backgrounds=backgrounds, render_mode="RGB+ED", packed=False,
        )  # fmt: skip
    assert torch.equal(image, expected) and torch.equal(alpha, expected_alpha)
    assert "isect_offsets" in meta  # gsplat's own
    assert_picture(scene, MARGINS, backend="auto")


def test_equal_depths_keep_the_order_of_their_indices():
    scene = mixed_scene([("same but for colour", 6)], channels=6)
    scene.colors, scene.opacities = torch.eye(6), torch.full((6,), 0.5)
    image, alpha, _ = scene.render(scene.leaves(device="cuda"), backend="cuda")
    light = (image - (1 - alpha) * scene.backgrounds.cuda())[alpha[..., 0] > 0.5]  # [n, 6], of each splat
    assert len(light) > 0 and (light[:, 1:] < light[:, :-1]).all()


def test_an_empty_scene_is_its_background():
    code = """
import torch
from sa0lib.rasterize import rasterization
none, background = torch.zeros(0, 3, device="cuda"), torch.tensor([[0.2, 0.7]], device="cuda")
image, alpha, meta = rasterization(
    none, torch.zeros(0, 4, device="cuda"), none, none[:, 0], none[:, :2],
    torch.eye(4, device="cuda")[None], torch.eye(3, device="cuda")[None], 7, 5, backgrounds=background,
)
assert image.shape == (1, 5, 7, 2) and (image == background).all() and (alpha == 0).all()
assert meta["radii"].shape == (1, 0, 2) and meta["covars2d"].shape == (1, 0, 3)
"""  # gsplat alone divides by the number of Gaussians, which ends the process: so, in a process of its own
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scene_of_which_nothing_is_seen_is_its_background():
    scene = mixed_scene([("behind", 3), ("zero opacity", 2)])
    leaves = scene.leaves(device="cuda")
    image, alpha, _ = scene.render(leaves, backend="cuda")
    assert (image == leaves[5]).all() and (alpha == 0).all()
    image.sum().backward()
    assert all((leaf.grad == 0).all() for leaf in leaves[:5])


def test_cpu_tensors_are_refused_for_cuda_and_for_a_mixture():
    scene = mixed_scene()
    with pytest.raises(ValueError, match="needs CUDA tensors"):
        scene.render(backend="cuda")
    leaves = scene.leaves(device="cuda")
    with pytest.raises(ValueError, match="quats is on cpu, means on cuda"):
        rasterization(leaves[0], scene.quats, *leaves[2:5], torch.eye(4)[None].cuda(), torch.eye(3)[None].cuda(), 8, 8)
