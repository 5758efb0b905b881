"""Awkward scenes and pictures under numba's bounds check; `test_rasterize_bounds.py` runs this in its own process.

Wants NUMBA_BOUNDSCHECK=1 and a NUMBA_CACHE_DIR of its own: a cached kernel stays as it was compiled. Kernels are
compiled without threads here, because numba loses what is raised on other threads than the caller's.
"""

import numba
import numpy as np

compile_threaded = numba.njit
numba.njit = lambda *args, **options: compile_threaded(*args, **{**options, "parallel": False})

import torch  # noqa: E402
from numba import carray, prange  # noqa: E402
from raster_scenes import KINDS, Scene, mixed_scene  # noqa: E402

from sa0lib.binding import bind, triangle_frames  # noqa: E402
from sa0lib.lanes import kernel, stack_floats  # noqa: E402
from sa0lib.metrics import ssim  # noqa: E402

plain_empty, guarded = torch.empty, []
FENCE = 171.5


def fenced_empty(*shape, **options):
    """`torch.empty` with 16 marked numbers behind it: stores by an intrinsic are out of the bounds check's sight."""
    shape = torch.Size(shape[0] if isinstance(shape[0], (tuple, list)) else shape)
    if options:
        return plain_empty(shape, **options)
    memory = plain_empty(shape.numel() + 16)
    memory[-16:] = FENCE
    guarded.append(memory)
    return memory[:-16].view(shape)


@kernel(parallel=True, fastmath=True)
def write(array, place, workers):
    for worker in prange(workers):
        array[place + worker] = 0


@kernel(parallel=True, fastmath=True)
def read_stack(array, place, workers):
    for worker in prange(workers):
        row = carray(stack_floats(16), (16,))
        row[:] = 0
        array[worker] = row[place]


def torn_fence() -> bool:
    """Whether anything was written behind an array since the last call."""
    torn = any((memory[-16:] != FENCE).any() for memory in guarded)
    guarded.clear()
    return torn


def check_the_check():
    """Both kinds of memory are watched, on every worker, for signed and for unsigned indices."""
    array = np.zeros(3, np.float32)
    for function, inside, outside in ((write, 1, 2), (read_stack, 15, 16)):
        for integer in (np.int64, np.uint64):
            function(array, integer(inside), 2)
            try:
                function(array, integer(outside), 2)
            except IndexError:
                continue
            raise SystemExit(f"{function.__name__} went out of bounds unseen")
    tensor = fenced_empty(2, 3)
    write(np.lib.stride_tricks.as_strided(tensor.numpy(), (7,), (4,)), 6, 1)
    if not torn_fence():
        raise SystemExit("a fence does not stand right behind its array")


def overflowing(scene: Scene) -> Scene:
    """Means, scales, rotations and colours that float32 holds, but not their squares; K and opacities stay."""
    factor = torch.tensor([1e-30, 1e-15, 1e10, 1e19, 1e30, 3e38])
    rows = torch.arange(len(scene.means)) // 2 % 6
    for number, name in enumerate(("means", "quats", "scales", "colors")):
        values = getattr(scene, name)
        chosen = torch.arange(len(values)) % 4 == number
        setattr(scene, name, torch.where(chosen[:, None], values * factor[rows, None], values).clamp(-3e38, 3e38))
    return scene


def draw(scene: Scene, mode: str):
    """Forward and backward through image, alpha and covariances."""
    leaves = scene.leaves()
    image, alpha, meta = scene.render(leaves, render_mode=mode)
    (image.sum() + alpha.sum() + meta["covars2d"].sum()).backward()
    if not guarded:
        raise SystemExit("no array has a fence")
    if torn_fence():
        raise SystemExit("a kernel wrote behind the end of an array")


if __name__ == "__main__":
    check_the_check()
    torch.empty = fenced_empty
    torch.set_num_threads(3)
    every_kind = [(kind, 4) for kind in KINDS]
    for width, height in ((1, 1), (7, 130), (16, 32), (17, 33), (130, 7)):
        for channels in (1, 3, 5, 32):
            draw(mixed_scene(every_kind, 0, (width, height), channels, cameras=2), "RGB+ED")
        draw(overflowing(mixed_scene(every_kind, 1, (width, height), 3)), "RGB")
        draw(mixed_scene((), 0, (width, height)), "RGB")
        draw(mixed_scene([("ordinary", 1)], 0, (width, height)), "RGB")
        if min(width, height) > 5:
            images = torch.rand(2, 1, 3, height, width)
            ssim(images[0].requires_grad_(), images[1]).sum().backward()
    frames = triangle_frames(torch.rand(2, 6, 3), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    for count in (0, 1, 50):
        means, quats = torch.rand(count, 3).requires_grad_(), torch.rand(count, 4).requires_grad_()
        sum(out.sum() for out in bind(means, quats, torch.rand(count, 3), torch.arange(count) % 2, frames)).backward()
    print("all within bounds")
