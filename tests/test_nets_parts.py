"""The generator's parts, each alone: backbone, DPT head, warp, StyleUNet, decoder."""

import numpy as np
import pytest
import torch
from torch.func import jacrev

from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.generator_losses import RESIDUALS
from sa0lib.head import WIDTHS, load_head, viewing_direction
from sa0lib.nets.decoder import ATTRIBUTES, Decoder, condition, harmonic
from sa0lib.nets.dpt import DPT
from sa0lib.nets.encoder import DINOV3, make_backbone
from sa0lib.nets.styleunet import ModulatedConv, Steer, StyleUNet, widths
from sa0lib.nets.warp import on_chart, project, texel_points, visible, warp
from sa0lib.rotation import axis_angle_to_matrix
from sa0lib.uv import UVMap, build_uv_map, rasterize_triangles

# --- backbone --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alexnet():
    return make_backbone("alexnet")


def test_a_backbone_gives_four_maps_from_fine_to_coarse(alexnet):
    features = alexnet(torch.rand(2, 3, 64, 96))
    assert tuple(m.shape[1] for m in features.maps) == alexnet.channels
    assert [m.shape[-1] for m in features.maps] == sorted((m.shape[-1] for m in features.maps), reverse=True)
    assert features.summary.shape == (2, alexnet.width)


def test_alexnet_computes_what_the_lpips_package_computes(alexnet):
    from sa0lib.metrics import lpips_network
    from sa0lib.paths import ASSETS

    x = torch.rand(1, 3, 64, 64)
    theirs = lpips_network("alex", ASSETS).net((x - alexnet.mean) / alexnet.std)
    for mine, other in zip(alexnet(x).maps, [theirs[0], theirs[1], theirs[2], theirs[4]], strict=True):
        torch.testing.assert_close(mine, other)


def test_a_backbone_stays_frozen_in_training(alexnet):
    alexnet.train()
    assert not alexnet.training and not any(p.requires_grad for p in alexnet.parameters())
    assert not alexnet(torch.rand(1, 3, 64, 64, requires_grad=True)).summary.requires_grad


def test_a_vision_transformer_has_one_token_for_16_pixels():
    torch.manual_seed(0)
    vit = make_backbone("dinov3_vits16")
    features = vit(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape) for m in features.maps] == [(1, 384, 4, 6)] * 4
    assert features.summary.shape == (1, 384)


def test_the_last_map_is_what_the_transformer_puts_out():
    """Taps are normalised like the output: the last of them is the output."""
    torch.manual_seed(0)
    vit, image = make_backbone("dinov3_vits16"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        tokens = vit.network((image - vit.mean) / vit.std).last_hidden_state[:, 5:]  # after CLS and four registers
    torch.testing.assert_close(vit(image).maps[-1], tokens.mT.unflatten(2, (4, 4)))


def test_tokens_keep_their_place():
    torch.manual_seed(0)
    vit = make_backbone("dinov3_vits16")
    image = torch.zeros(1, 3, 64, 64)
    image[..., 16:32, 32:48] = 1.0
    change = (vit(image).maps[0] - vit(torch.zeros(1, 3, 64, 64)).maps[0]).square().sum(1)[0]
    assert change.argmax() == 1 * 4 + 2


def test_weights_of_the_reader_are_loaded(tmp_path):
    torch.manual_seed(0)
    vit = make_backbone("dinov3_vits16")
    vit.network.save_pretrained(tmp_path)
    again = make_backbone("dinov3_vits16", tmp_path)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(x).summary, vit(x).summary)
    with pytest.raises(ValueError, match="not the weights of dinov3_vitb16"):
        make_backbone("dinov3_vitb16", tmp_path)


@pytest.mark.parametrize(
    "name, weights, error, words",
    [
        ("resnet50", None, ValueError, "backbone must be one of"),
        ("dinov3_vitx16", None, ValueError, "backbone must be one of"),
        ("vgg16", "nowhere.npz", FileNotFoundError, "nowhere.npz.*get_assets"),
        ("dinov3_vits16", "nowhere", FileNotFoundError, "nowhere"),
    ],
)
def test_a_backbone_that_cannot_be_made_is_refused(tmp_path, name, weights, error, words):
    with pytest.raises(error, match=words):
        make_backbone(name, weights and str(tmp_path / weights))


def test_damaged_or_foreign_weights_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **{"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)})
    (tmp_path / "b.npz").write_bytes(b"PK but no archive")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match=name):
            make_backbone("vgg16", tmp_path / name)


def test_pictures_that_do_not_divide_into_patches_are_refused(alexnet):
    with pytest.raises(ValueError, match="16 px: 518 x 512"):
        make_backbone("dinov3_vits16")(torch.rand(1, 3, 518, 512))
    with pytest.raises(ValueError, match="32 px"):
        alexnet(torch.rand(1, 3, 16, 64))


def test_all_sizes_of_dinov3_have_their_published_number_of_parameters():
    """Their model card: 21, 86 and 300 million."""
    with torch.device("meta"):
        for size, millions in (("s", 21.6), ("b", 85.7), ("l", 303.1)):
            vit = make_backbone(f"dinov3_vit{size}16")
            assert sum(p.numel() for p in vit.network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert set(DINOV3) == {"s", "b", "l"}


# --- DPT -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "dinov3_vits16"])
def test_the_dense_map_has_the_size_asked_for_and_hears_every_level(name):
    torch.manual_seed(0)
    backbone = make_backbone(name)
    dpt = DPT(backbone, channels=8, out_channels=5)
    maps = backbone(torch.rand(1, 3, 64, 64)).maps
    dense = dpt(maps, (32, 32))
    assert dense.shape == (1, 5, 32, 32)
    for i in range(4):
        changed = tuple(m + (j == i) for j, m in enumerate(maps))
        assert (dpt(changed, (32, 32)) - dense).abs().max() > 1e-6


# --- warp ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def uv_map(head):
    return build_uv_map(head.vt, head.ft, 128)


def camera_at(azimuth: float, size: int = 128) -> Camera:
    return Camera(intrinsics(4.0 * size, size, size), orbit(azimuth, 0.05, 1.2, torch.tensor([0.0, 0, 0])), size, size)


def test_a_texel_reads_the_picture_where_its_point_is_seen(head, uv_map):
    """A picture whose two channels are its own pixel coordinates, read back."""
    camera = camera_at(0.3)
    points, _ = texel_points(uv_map, head(), head.faces)
    xy, depth = project(points, camera.viewmat[None], camera.K[None])
    expected, z = camera.project(points[0])
    torch.testing.assert_close(xy[0], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(depth[0], z)
    grid = torch.stack(torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="xy"))  # x, y
    read = warp(uv_map, grid[None], xy, (128, 128))[0, :, uv_map.row, uv_map.col].T
    inside = ((xy[0] > 1) & (xy[0] < 127)).all(-1)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(read[inside], xy[0][inside], rtol=0, atol=1e-3)


def test_a_map_of_another_resolution_is_read_at_the_same_place(head, uv_map):
    camera = camera_at(0.0)
    xy, _ = project(texel_points(uv_map, head(), head.faces)[0], camera.viewmat[None], camera.K[None])
    ramp = torch.linspace(0.5, 127.5, 128).expand(1, 1, 128, 128)
    half = torch.nn.functional.avg_pool2d(ramp, 2)
    fine, coarse = (warp(uv_map, m, xy, (128, 128))[0, 0, uv_map.row, uv_map.col] for m in (ramp, half))
    inside = ((xy[0] > 2) & (xy[0] < 126)).all(-1)
    torch.testing.assert_close(fine[inside], coarse[inside], rtol=0, atol=1e-3)


def test_outside_of_omega_and_of_the_picture_nothing_is_read(uv_map):
    xy = torch.full((1, len(uv_map), 2), -50.0)
    assert not warp(uv_map, torch.ones(1, 1, 8, 8), xy, (8, 8)).any()
    chart = on_chart(uv_map, torch.ones(1, 1, len(uv_map)))[0, 0]
    assert torch.equal(chart.bool(), uv_map.valid)


@pytest.mark.parametrize("azimuth", [-0.8, 0.0, 0.5])
@pytest.mark.parametrize("size", [64, 128, 512])
def test_what_is_seen_agrees_with_a_rendered_depth(head, uv_map, azimuth, size):
    """The rasterizer of triangles as judge. Cells are coarse, so what the camera grazes may count as unseen."""
    vertices, camera = head(), camera_at(azimuth, size)
    points, normals = texel_points(uv_map, vertices, head.faces)
    seen = visible(points, normals, camera.viewmat[None], camera.K[None], (size, size))[0]
    xy, depth = camera.project(vertices[0])
    _, _, image = rasterize_triangles(xy.numpy(), depth.numpy(), head.faces.numpy(), size, size)
    xy, depth = camera.project(points[0])
    column, row = xy.long().clamp(0, size - 1).T
    inside = ((xy >= 0) & (xy < size)).all(-1)
    open_sky = inside & (depth < torch.from_numpy(image)[row, column] + 0.004)
    facing = -(normals[0] * torch.nn.functional.normalize(points[0] - camera.center, dim=-1)).sum(-1)
    truth = open_sky & (facing > 0.1)
    assert (seen == truth).float().mean() > 0.9
    assert (seen == truth)[facing > 0.5].float().mean() > (0.93 if size == 64 else 0.97)
    assert (seen & ~truth).float().mean() < (0.06 if size == 64 else 0.025)


def test_neither_the_back_of_the_head_nor_a_closed_mouth_is_seen(head, uv_map):
    camera = camera_at(0.0)
    points, normals = texel_points(uv_map, head(), head.faces)
    seen = visible(points, normals, camera.viewmat[None], camera.K[None], (128, 128))[0]
    region = head.region[head.faces[uv_map.face, 0]]
    hidden = [head.region_names.index(name) for name in ("mouth", "teeth_upper", "teeth_lower", "tongue", "sockets")]
    assert not seen[normals[0, :, 2] < 0].any()
    assert seen[torch.isin(region, torch.tensor(hidden))].float().mean() < 0.02
    assert seen[(region == head.region_names.index("face")) & (normals[0, :, 2] > 0.7)].float().mean() > 0.97


def test_the_warp_is_differentiable_in_the_map(uv_map):
    small = UVMap(4, *(t[:9] for t in (uv_map.face, uv_map.bary)), torch.arange(9) // 4, torch.arange(9) % 4)
    xy = 8 * torch.rand(1, 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: warp(small, image, xy, (8, 8)), image)


# --- StyleUNet -------------------------------------------------------------------------------------------------


def test_modulation_is_a_kernel_of_its_own_for_each_sample():
    """Scaled input and output of one kernel, against the kernel that StyleGAN2's paper writes down."""
    torch.manual_seed(0)
    conv = ModulatedConv(4, 6, 5).double()
    x, style = torch.randn(2, 4, 7, 7).double(), torch.randn(2, 5).double()
    result = conv(x, style)
    for b in range(2):
        kernel = conv.weight * conv.style(style)[b, None, :, None, None]  # [6, 4, 3, 3]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = torch.nn.functional.conv2d(x[b : b + 1], kernel, padding=1)[0] + conv.bias
        torch.testing.assert_close(result[b], expected)


def test_sft_scales_and_shifts():
    steer = Steer(3, 4)
    for stack, value in ((steer.scale, 0.5), (steer.shift, -2.0)):
        torch.nn.init.zeros_(stack[-1].weight)
        torch.nn.init.constant_(stack[-1].bias, value)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(steer(x, torch.randn(1, 3, 5, 5)), (1 + np.tanh(0.5)) * x - 2)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return StyleUNet(channels=6, summary=10, out_channels=32, size=32, width=0.05, style=16)


def test_the_style_unet_hears_features_and_summary(unet):
    chart, summary = torch.randn(2, 6, 32, 32), torch.randn(2, 10)
    out = unet(chart, summary)
    assert out.shape == (2, 32, 32, 32)
    assert (unet(chart + 1, summary) - out).abs().max() > 1e-4
    assert (unet(chart, summary.flip(0)) - out).abs().max() > 1e-4
    torch.testing.assert_close(unet(chart, summary), out)  # no noise


def test_samples_of_a_batch_do_not_see_each_other(unet):
    chart, summary = torch.randn(3, 6, 32, 32), torch.randn(3, 10)
    torch.testing.assert_close(unet(chart, summary)[1:2], unet(chart[1:2], summary[1:2]), rtol=1e-4, atol=1e-5)


def test_every_parameter_of_the_style_unet_gets_a_gradient(unet):
    unet.zero_grad()
    unet(torch.randn(1, 6, 32, 32), torch.randn(1, 10)).square().sum().backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_widths_are_those_of_the_papers_size():
    assert [widths(n, 1.0) for n in (4, 8, 16, 32, 64, 128, 256)] == [512, 512, 512, 512, 256, 128, 64]


@pytest.mark.parametrize("size", [4, 48, 100])
def test_a_chart_that_cannot_be_halved_down_to_4_is_refused(size):
    with pytest.raises(ValueError, match=f"not {size}"):
        StyleUNet(3, 3, 3, size, 0.1, 8)


# --- decoder ---------------------------------------------------------------------------------------------------


def test_the_harmonic_embedding_by_hand():
    d = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    gamma = harmonic(d)[0]
    assert gamma.shape == (27,)
    assert gamma[:3].tolist() == d[0].tolist()
    for k in range(4):
        for axis in range(3):
            angle = 2**k * np.pi * d[0, axis].item()
            assert gamma[3 + 3 * k + axis].item() == pytest.approx(np.sin(angle), abs=1e-12)
            assert gamma[15 + 3 * k + axis].item() == pytest.approx(np.cos(angle), abs=1e-12)


def test_the_condition_has_112_numbers_and_no_shape():
    params = {name: torch.randn(2, width) for name, width in WIDTHS.items()}
    codes = condition(params)
    assert codes.shape == (2, 112)
    assert torch.equal(condition(params | {"shape": torch.randn(2, 300), "neck": torch.randn(2, 3)}), codes)
    for name, place in (("expr", slice(0, 100)), ("rotation", slice(100, 103)), ("jaw", slice(103, 106))):
        assert torch.equal(codes[:, place], params[name])


def test_a_turned_head_and_a_camera_on_its_other_side_are_one_direction():
    turn = torch.tensor([[0.1, 0.7, -0.2]])
    zero, camera = torch.zeros(1, 3), orbit(0.2, 0.1, 1.0, torch.zeros(3))[None]
    R = axis_angle_to_matrix(turn)
    moved = camera.clone()
    moved[:, :3, :3] = camera[:, :3, :3] @ R  # the camera that sees the still head as `camera` sees the turned one
    turned = viewing_direction({"rotation": turn, "neck": zero}, camera)
    torch.testing.assert_close(turned, viewing_direction({"rotation": zero, "neck": zero}, moved))
    torch.testing.assert_close(turned.norm(dim=-1), torch.ones(1))


def test_rolling_the_camera_changes_its_third_column_and_not_its_direction():
    """Why d is the third row of a matrix for column vectors, though the paper says column."""
    zero = {"rotation": torch.zeros(1, 3), "neck": torch.zeros(1, 3)}
    camera = orbit(0.5, 0.3, 1.0, torch.zeros(3))[None]
    roll = torch.eye(4)[None].clone()
    roll[:, :3, :3] = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.4]]))
    rolled = roll @ camera
    torch.testing.assert_close(viewing_direction(zero, rolled), viewing_direction(zero, camera))
    assert (rolled[:, :3, 2] - camera[:, :3, 2]).norm() > 0.1


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return Decoder(channels=8, hidden=12).double()


def inputs(seed: int, B: int = 2, N: int = 6):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, 8, N, N), (B, 27), (B, 112))
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def awake(decoder: Decoder) -> Decoder:
    """A copy whose residual head has learned something."""
    other = Decoder(8, 12).double()
    other.load_state_dict(decoder.state_dict())
    for layer in (other.residual.film[-1], *other.residual.read.values()):
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    return other


def test_a_new_residual_head_corrects_nothing(decoder):
    maps = decoder(*inputs(0))
    assert set(maps.deltas) == set(RESIDUALS) and "opacities" not in maps.deltas
    assert all(not delta.any() for delta in maps.deltas.values())
    assert {name: v.shape[1] for name, v in maps.attributes.items()} == ATTRIBUTES


def test_the_residual_head_does_not_see_the_viewing_direction(decoder):
    features, gamma, codes = inputs(1)
    learned = awake(decoder)
    deltas = jacrev(lambda g: learned(features, g, codes).deltas)(gamma)
    assert all(not J.any() for J in deltas.values())


def test_expression_moves_all_attributes_but_opacity(decoder):
    features, gamma, codes = inputs(2)
    other = awake(decoder)
    a, b = (other(features, gamma, c).attributes for c in (codes, codes + 1))
    assert {name for name in ATTRIBUTES if (a[name] - b[name]).abs().max() > 1e-9} == set(RESIDUALS)


def test_a_head_is_a_convolution_of_features_and_direction_concatenated(decoder):
    """Written out as the paper says it, with the direction going on beyond the border."""
    features, gamma, _ = inputs(5)
    head = decoder.heads["means"]
    direction = gamma[..., None, None].expand(-1, -1, 8, 8)
    joined = torch.cat([torch.nn.functional.pad(features, (1, 1, 1, 1)), direction], 1)  # [2, 35, 8, 8]
    spread = head.lift.weight[..., None, None].expand(-1, -1, 3, 3) / 9
    kernel = torch.cat([head.first.weight, spread], 1)
    expected = torch.nn.functional.conv2d(joined, kernel, head.first.bias)
    torch.testing.assert_close(head(features, gamma), head.last(torch.nn.functional.silu(expected)))


def test_every_head_sees_the_viewing_direction(decoder):
    """Position and scale too: that is what the Jacobian penalty is for."""
    features, gamma, codes = inputs(3)
    a, b = (decoder(features, g, codes).attributes for g in (gamma, gamma + 1))
    assert all((a[name] - b[name]).abs().max() > 1e-9 for name in ATTRIBUTES)


def test_the_decoder_passes_gradcheck(decoder):
    other = awake(decoder)
    features, gamma, codes = (x.requires_grad_() for x in inputs(4, B=1, N=3))
    flat = lambda *x: torch.cat([v.flatten() for v in other(*x).attributes.values()])  # noqa: E731
    assert torch.autograd.gradcheck(flat, (features, gamma, codes))
