"""Sec. 3.3 on a small real scene: OpenHead pictures at 64 px, so that every part of the loop runs."""

import math

import pytest
import torch

from sa0lib.avatar import PosedFrames, evaluate, first_colors, mean_scores, reference_frame, render
from sa0lib.binding import triangle_frames
from sa0lib.camera import Camera, look_at
from sa0lib.head import load_head
from sa0lib.mesh import render_mesh
from sa0lib.paths import ASSETS
from sa0lib.refine import RefineConfig, Refiner, refine
from sa0lib.uv import build_uv_map, rasterize_triangles

pytestmark = pytest.mark.skipif(not (ASSETS / "open_head.npz").exists(), reason="needs make assets")
SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def scene(head) -> PosedFrames:
    """Four poses of the mean head, drawn by the mesh renderer in the model's own painted colours."""
    rotation = torch.tensor([[0.0, y, 0.0] for y in (0.0, 0.3, -0.3, 0.15)])
    jaw = torch.tensor([[j, 0.0, 0.0] for j in (0.05, 0.02, 0.0015, 0.1)])
    vertices = head(rotation=rotation, jaw=jaw)
    center = vertices[0].mean(0)
    K = torch.tensor([[2.4 * SIZE, 0, SIZE / 2], [0, 2.4 * SIZE, SIZE / 2], [0, 0, 1]])
    viewmat = look_at(center + torch.tensor([0.0, 0.0, 0.8]), center, torch.tensor([0.0, 1.0, 0.0]))
    camera = Camera(K, viewmat, SIZE, SIZE)
    images, masks = [], []
    for v in vertices:
        image = render_mesh(v, head.faces, camera, head.vertex_color, background=(0, 0, 0), samples=1)
        hit, _, _ = rasterize_triangles(*camera.project(v), head.faces, SIZE, SIZE)
        images.append(torch.as_tensor(image).permute(2, 0, 1))
        masks.append((torch.as_tensor(hit) >= 0).to(torch.uint8)[None] * 255)
    boxes = torch.tensor([[12.0, 12.0, 52.0, 52.0]]).repeat(4, 1)
    return PosedFrames(torch.stack(images), torch.stack(masks), vertices, [camera] * 4, boxes, jaw, [0, 1, 2, 3])


def config(**changes) -> RefineConfig:
    return RefineConfig(**({"iterations": 40, "image_size": SIZE, "uv_size": 96, "scale_freeze": 10, "aspect_from": 10,
                            "checkpoint_every": 15} | changes))  # fmt: skip


def state(refiner: Refiner) -> dict[str, torch.Tensor]:
    names = ("means", "quats", "log_scales", "opacity_logits", "color_logits")
    return {name: getattr(refiner.gaussians, name).detach().clone() for name in names}


def test_reference_frame_is_the_most_closed_jaw():
    assert reference_frame(torch.tensor([[0.3, 0, 0], [0.0, 0.1, 0], [0.2, 0, 0]])) == 1


def test_reference_frame_ties_go_to_the_earliest():
    assert reference_frame(torch.tensor([[0.3, 0, 0], [0.1, 0, 0], [0.0, 0.1, 0]])) == 1


def test_a_jaw_below_the_noise_threshold_falls_back_to_the_lowest_decile():
    jaw = torch.linspace(0, 1, 100)[:, None] * torch.tensor([1.0, 0, 0])
    chosen = {reference_frame(jaw, seed=s) for s in range(30)}
    assert max(chosen) < 10 and len(chosen) > 3


def test_first_colors_are_those_of_the_picture(head, scene):
    uv_map = build_uv_map(head.vt, head.ft, 96)
    image = torch.stack([torch.full((SIZE, SIZE), c) for c in (0.2, 0.5, 0.8)])
    colors = first_colors(uv_map, scene.vertices[0], head.faces, scene.cameras[0], image, torch.ones(1, SIZE, SIZE))
    assert torch.allclose(colors, torch.tensor([0.2, 0.5, 0.8]).expand_as(colors), atol=1e-5)


def test_a_reference_frame_with_an_empty_matte_is_refused(head, scene):
    uv_map = build_uv_map(head.vt, head.ft, 96)
    with pytest.raises(ValueError, match="sees no texel"):
        first_colors(uv_map, scene.vertices[0], head.faces, scene.cameras[0], torch.ones(3, SIZE, SIZE),
                     torch.zeros(1, SIZE, SIZE))  # fmt: skip


def test_refinement_improves_every_frame(head, scene):
    refiner = Refiner(head, scene, config(iterations=120))
    before = evaluate(refiner.gaussians, head, scene)
    refine(refiner, progress=False)
    after = evaluate(refiner.gaussians, head, scene)
    assert all(b["psnr"] > a["psnr"] + 1 for a, b in zip(before, after, strict=True))
    assert mean_scores(after)["lpips"] < mean_scores(before)["lpips"]


def test_binding_and_count_are_frozen(head, scene):
    refiner = Refiner(head, scene, config())
    face = refiner.gaussians.face.clone()
    refine(refiner, progress=False)
    assert torch.equal(refiner.gaussians.face, face)


def test_scales_do_not_move_during_the_warm_up_and_everything_else_does(head, scene):
    refiner = Refiner(head, scene, config())
    start = state(refiner)
    for _ in range(10):
        refiner.step()
    now = state(refiner)
    moved = {name: not torch.equal(now[name], start[name]) for name in now}
    assert moved == {name: name != "log_scales" for name in now}
    refiner.step()
    assert not torch.equal(state(refiner)["log_scales"], start["log_scales"])


def test_the_spread_bound_holds_after_every_step(head, scene):
    refiner = Refiner(head, scene, config(lr_log_scales=0.5, scale_freeze=0, log_spread_max=math.log(2)))
    for _ in range(5):
        refiner.step()
        spread = refiner.gaussians.log_scales.detach()
        assert float((spread.amax(-1) - spread.amin(-1)).max()) <= math.log(2) + 1e-5


def test_a_killed_run_continues_to_the_same_numbers(head, scene, tmp_path):
    whole = Refiner(head, scene, config())
    refine(whole, progress=False)
    killed = Refiner(head, scene, config())
    for _ in range(15):
        killed.step()
    killed.save(tmp_path / "checkpoint.pt")
    killed.step()  # lost work: the kill came after the checkpoint
    resumed = Refiner(head, scene, config())
    refine(resumed, tmp_path / "checkpoint.pt", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(state(whole).values(), state(resumed).values(), strict=True))


def test_a_damaged_checkpoint_is_refused_by_name(head, scene, tmp_path):
    refiner = Refiner(head, scene, config())
    path = tmp_path / "checkpoint.pt"
    refiner.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="checkpoint.pt: not a readable checkpoint"):
        refiner.load(path)


def test_a_checkpoint_of_another_configuration_is_refused_by_field(head, scene, tmp_path):
    Refiner(head, scene, config()).save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="seed = 0, this run has 1"):
        Refiner(head, scene, config(seed=1)).load(tmp_path / "checkpoint.pt")


def test_nan_in_parameters_stops_the_run_by_name(head, scene):
    refiner = Refiner(head, scene, config())
    refiner.gaussians.means.data[5, 1] = math.nan
    with pytest.raises(ValueError, match="means"):
        refiner.step()


def test_random_background_pulls_alpha_to_the_matte(head, scene):
    """App. A.4 (iii): with the splatter's own alpha on the rendered side, opacity outside the matte goes down."""
    refiner = Refiner(head, scene, config(iterations=150, scale_freeze=150, aspect_from=150))
    frames = triangle_frames(scene.vertices[:1], head.faces)
    outside = scene.masks[0] == 0
    _, alpha, _ = render(refiner.gaussians, frames, scene.cameras[0])
    spill = float(alpha.detach()[0][outside].sum())
    refine(refiner, progress=False)
    _, alpha, _ = render(refiner.gaussians, frames, scene.cameras[0])
    assert float(alpha.detach()[0][outside].sum()) < 0.8 * spill
