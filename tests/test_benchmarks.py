"""The benchmarks measure what they say: the yardstick draws our picture, the counter counts, a run is well formed."""

import math

import pytest
import torch
from raster_scenes import INPUTS, random_scene, threads, undecided_pixels

from sa0lib.avatar import load_posed_frames
from sa0lib.datasets import Sequence
from sa0lib.head import load_head
from sa0lib.ledger import read_run
from sa0lib.paths import ASSETS, DATA
from sa0lib.rasterize import reference
from sa0lib.refine import initial_gaussians
from tests.benchmarks import run
from tests.benchmarks.limit import operations, useful_evaluations
from tests.benchmarks.scene import Scene
from tests.benchmarks.timing import Case, measure
from tests.benchmarks.torch_tiles import rasterize_tiles


def tiles_and_reference(scene, dtype=torch.float64):
    """Pictures (colour and alpha) and leaves of both, one black background."""
    results = []
    camera = scene.cameras[0]
    view, K, size = camera.viewmat.to(dtype), camera.K.to(dtype), (camera.width, camera.height)
    leaves = scene.leaves(dtype)
    results.append((torch.cat(rasterize_tiles(*leaves[:5], view, K, *size), -1), leaves))
    leaves = scene.leaves(dtype)
    image, alpha, _ = scene.render([*leaves[:5], torch.zeros_like(leaves[5])], backend="reference")
    results.append((torch.cat([image[0], alpha[0]], -1), leaves))
    return results


@pytest.mark.parametrize("size", [(70, 50), (16, 16), (5, 33)])
def test_torch_tiles_draw_the_reference(size):
    scene = random_scene(seed=1, count=300, channels=4, width=size[0], height=size[1])
    decided = ~undecided_pixels(scene)[0]
    with threads(1), torch.no_grad():
        (tiles, _), (expected, _) = tiles_and_reference(scene)
    assert tiles.shape == (size[1], size[0], 5)
    assert (tiles - expected)[decided].abs().max() < 1e-12
    assert expected.max() > 0.5


def test_torch_tiles_have_the_gradients_of_the_reference():
    scene = random_scene(seed=2, count=200, channels=3)
    decided = ~undecided_pixels(scene)[0]
    with threads(1):
        results = tiles_and_reference(scene)
        pull = torch.randn(results[0][0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for picture, _ in results:
            (picture * pull * decided[..., None]).sum().backward()
    for name, ours, expected in zip(INPUTS[:5], results[0][1], results[1][1], strict=False):
        assert torch.allclose(ours.grad, expected.grad, rtol=1e-9, atol=1e-9), name


def test_torch_tiles_take_a_scene_that_the_camera_does_not_see():
    scene = random_scene(count=3)
    camera = scene.cameras[0]
    behind = 100 * camera.viewmat[2, :3] * -1
    with torch.no_grad():
        image, alpha = rasterize_tiles(scene.means * 0 + behind, *scene.leaves()[1:5], camera.viewmat, camera.K, 20, 18)
    assert image.shape == (18, 20, 3) and image.abs().max() == 0 and alpha.max() == 0


def evaluations_by_brute_force(scene) -> int:
    """Every pixel against every Gaussian, without extents, tiles or an early end."""
    camera = scene.cameras[0]
    means, quats, scales, opacities = scene.leaves(torch.float64)[:4]
    view, K = camera.viewmat[None].double(), camera.K[None].double()
    p = reference.project(means, quats, scales, opacities, view, K, camera.width, camera.height, 0.01, 1e10, 0.3)
    order = p.depths[0].float().argsort(stable=True)
    order = order[(p.depths[0, order] >= 0.01)]
    rows, cols = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    pixels = torch.stack([cols, rows], -1).reshape(-1, 1, 2) + 0.5
    dx, dy = (pixels - p.means2d[0, order]).unbind(-1)  # [P, N]
    a, k, q = p.factors[0, order].unbind(-1)
    alpha = (opacities[order] * torch.exp(-(a * (dx + k * dy) ** 2 + q * dy**2) / 2)).clamp(max=0.999)
    shows = alpha >= 1 / 255
    after = torch.cumprod(torch.where(shows, 1 - alpha, 1), -1)
    return int((shows & (after > 1e-4)).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_useful_evaluations_are_those_of_a_dense_count(seed):
    scene = random_scene(seed=seed, count=400, width=40, height=30)
    scene.opacities = scene.opacities.sqrt()  # more of them strong, so that pixels close
    scene.backgrounds = torch.zeros(1, 3)
    _, alpha, meta = scene.reference()
    assert alpha.max() > 0.999
    assert useful_evaluations(meta, scene.opacities, 40, 30) == evaluations_by_brute_force(scene)


def test_more_channels_take_more_arithmetic_and_a_gradient_more_than_the_picture():
    assert operations("forward", 32) - operations("forward", 3) == 29 * 2
    assert operations("forward+backward", 3) > 2 * operations("forward", 3)


def test_copies_of_a_gaussian_have_its_covariance_together():
    source = random_scene(count=2)
    scene = Scene("avatar", tuple(leaf.detach() for leaf in source.leaves()[:5]), source.cameras[0])
    many = scene.resampled(200_000)
    means, quats, scales, _, colors = many.gaussians
    same = (colors == scene.gaussians[4][0]).all(-1)
    spread = torch.cov(means[same].T)
    R = reference.quaternion_to_matrix(torch.cat([quats[same][:1], scene.gaussians[1][:1]]))
    own, original = (
        r @ torch.diag(s**2) @ r.T for r, s in zip(R, (scales[same][0], scene.gaussians[2][0]), strict=True)
    )
    assert torch.allclose(own + spread, original, atol=0.02 * float(original.max()))


def test_fewer_gaussians_cover_the_same_area():
    source = random_scene(count=4000)
    scene = Scene("avatar", tuple(leaf.detach() for leaf in source.leaves()[:5]), source.cameras[0])
    few = scene.resampled(1000)
    area = lambda s: float(s.gaussians[2].square().sum())  # noqa: E731
    assert len(few) == 1000 and len(few.gaussians[0].unique(dim=0)) == 1000
    assert area(few) == pytest.approx(area(scene), rel=0.2)


def test_cases_take_turns():
    calls = []
    labels = ("avatar", "cpu", "forward", 8, 3, 1, 1)
    cases = [Case(*labels, run=lambda name=name: calls.append(name)) for name in "ab"]
    rows = measure(cases, repetitions=12, seconds=1e9)
    assert [row["repetitions"] for row in rows] == [12, 12]
    in_rounds = "".join(calls)[4:]  # after two warm-up runs of each
    assert in_rounds == ("aaa" + "bbb") * 6  # one unrecorded, two recorded
    assert all(row["min_ms"] <= row["median_ms"] <= row["max_ms"] for row in rows)


@pytest.mark.skipif(not ((ASSETS / "open_head.npz").exists() and (DATA / "clip").exists()), reason="needs make assets")
def test_a_quick_run_prints_its_tables_and_writes_a_well_formed_record(tmp_path, monkeypatch, capsys):
    head = load_head()
    train = load_posed_frames(head, Sequence(DATA / "clip", "train", 64), 1)
    initial_gaussians(head, train, 0, 64).save_ply_local(tmp_path / "avatar.ply")
    monkeypatch.setenv("SA0_PROFILE", "smoke")
    monkeypatch.setattr(run, "RUNS", tmp_path)
    run.main(["--quick", "--avatar", str(tmp_path / "avatar.ply"), "--record", "quick"])
    record = read_run("quick", tmp_path)

    labels = ("scene", "backend", "stage", "size", "channels", "gaussians", "threads")
    keys = [tuple(row[name] for name in labels) for row in record["timings"]]
    assert len(set(keys)) == len(keys)
    backends = {"cpu", "torch_tiles", "reference"} | ({"cuda", "gsplat"} if torch.cuda.is_available() else set())
    assert {row["backend"] for row in record["timings"]} == backends
    assert {row["stage"] for row in record["timings"]} == {"forward", "forward+backward", "iteration"}
    for row in record["timings"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"] and row["repetitions"] >= 2
    assert all(row["useful_evaluations"] > 0 and row["times_limit"] > 1 for row in record["limit"]["rows"])
    assert record["memory"]["peak_gib"] >= record["memory"]["loaded_gib"] > 0
    assert all(math.isfinite(row["minutes"]) for row in record["summary"]["refinement"])

    printed = capsys.readouterr().out
    for title in ("Backends", "Threads", "Gaussians", "Pixels", "Distance to the arithmetic limit", "peak memory"):
        assert title in printed
    assert "None" not in printed and "nan" not in printed


def test_a_missing_avatar_is_refused_with_the_command_that_makes_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main(["--avatar", str(tmp_path / "none.ply")])
    assert "none.ply is missing: python -m sa0lib.refine makes it" in capsys.readouterr().err
