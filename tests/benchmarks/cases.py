"""Which cases the table is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sa0lib.avatar import PosedFrames
from sa0lib.rasterize import rasterization
from tests.benchmarks.scene import Scene, Subject, refiner_of
from tests.benchmarks.timing import Case
from tests.benchmarks.torch_tiles import rasterize_tiles


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    sizes: tuple[int, ...] = (256, 512)  # px of the main tables
    channels: tuple[int, ...] = (3, 32)
    counts: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000, 1_000_000)  # Gaussians, at the last of the sizes
    pixels: tuple[int, ...] = (128, 256, 512, 1024)  # px, both ways
    frames: int = 24  # training frames that the timed iterations draw from
    memory_iterations: int = 20  # refinement steps until the peak of the memory is read
    repetitions: int = 30
    seconds: float = 4.0  # a case, unless the least number of repetitions takes longer
    compile: bool = True  # also time the first call of a fresh installation


QUICK = Plan(sizes=(32, 48), counts=(1_000, 5_000), pixels=(32, 48), frames=2, memory_iterations=2, repetitions=2,
             compile=False)  # fmt: skip


def draw(backend: str, gaussians: tuple[Tensor, ...], scene: Scene) -> Tensor:
    """The picture [1, S, S, D] of these Gaussians through one of the backends."""
    camera = scene.camera
    views = camera.viewmat[None], camera.K[None], camera.width, camera.height
    if backend == "torch_tiles":
        return rasterize_tiles(*gaussians, camera.viewmat, camera.K, camera.width, camera.height)[0][None]
    if backend == "gsplat":
        import gsplat

        return gsplat.rasterization(*gaussians, *views, packed=False)[0]
    return rasterization(*gaussians, *views, backend=backend)[0]


def forward(backend: str, scene: Scene) -> Callable[[], Tensor]:
    """Project, sort, bin and draw; nothing is kept for a gradient."""

    def run() -> Tensor:
        with torch.no_grad():
            return draw(backend, scene.gaussians, scene)

    return run


def forward_backward(backend: str, scene: Scene) -> Callable[[], tuple[Tensor, ...]]:
    """Draw, then the gradients to means, quats, scales, opacities and colors of a fixed random pull on every pixel."""
    leaves = tuple(values.clone().requires_grad_() for values in scene.gaussians)
    generator = torch.Generator().manual_seed(0)
    pull = torch.randn(1, scene.camera.height, scene.camera.width, scene.channels, generator=generator)
    pull = pull.to(leaves[0].device)
    return lambda: torch.autograd.grad(draw(backend, leaves, scene), leaves, pull)


STAGES = {"forward": forward, "forward+backward": forward_backward}


def raster_cases(scene: Scene, backend: str, threads: int) -> list[Case]:
    """Both stages of one scene."""
    labels = scene.camera.width, scene.channels, len(scene), threads
    return [Case(scene.name, backend, stage, *labels, run=make(backend, scene)) for stage, make in STAGES.items()]


def iteration_case(subject: Subject, train: PosedFrames, threads: int) -> Case:
    """One whole `Refiner.step`."""
    refiner = refiner_of(subject, train)
    backend = "cuda" if train.vertices.is_cuda else "cpu"
    labels = train.images.shape[-1], 3, len(subject.gaussians), threads
    return Case("avatar", backend, "iteration", *labels, run=refiner.step)


def all_cases(plan: Plan, subject: Subject, avatar: Scene, threads: int) -> list[Case]:
    """Every case once, whichever tables it stands in. `threads` are the most; ours is timed on one, too."""
    cases = []
    fewer_and_all = sorted({1, threads})
    for size in plan.sizes:
        train = subject.frames(size, plan.frames)
        for count in fewer_and_all:
            cases.append(iteration_case(subject, train, count))
        for channels in plan.channels:
            scene = avatar.resized(size).with_channels(channels)
            for count in fewer_and_all:
                cases += raster_cases(scene, "cpu", count)
            cases += raster_cases(scene, "torch_tiles", threads)
            if channels == 3:
                cases += raster_cases(scene, "reference", threads)
    for size in sorted(set(plan.pixels) - set(plan.sizes)):
        cases += raster_cases(avatar.resized(size), "cpu", threads)
    for count in plan.counts:
        cases += raster_cases(avatar.resized(plan.sizes[-1]).resampled(count), "cpu", threads)
    return cases


def cuda_cases(plan: Plan, subject: Subject, avatar: Scene, threads: int) -> list[Case]:
    """gsplat through the library's binding and called directly, and the iteration of a subject loaded on CUDA."""
    cases, avatar = [], avatar.to("cuda")
    for size in plan.sizes:
        cases.append(iteration_case(subject, subject.frames(size, plan.frames), threads))
        for channels in plan.channels:
            scene = avatar.resized(size).with_channels(channels)
            for backend in ("cuda", "gsplat"):
                cases += raster_cases(scene, backend, threads)
    return cases
