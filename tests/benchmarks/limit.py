"""How far from the limit: the arithmetic that a picture cannot do without, and what this machine does at its best.

The count is of useful work alone: pairs of a pixel and a splat that change the picture, and for each what its formulas
take, written out below. Projection, sorting, binning, empty lanes and memory are not in it: they are the distance.
"""

import time

import numba
import numpy as np
import torch
from numba import carray, njit, prange
from torch import Tensor

from sa0lib.lanes import stack_floats
from sa0lib.rasterize.reference import ALPHA_MAX, ALPHA_MIN, CLOSED

# Floating point operations for one pixel and one splat; a multiplication with an addition is two, a comparison one.
ALPHA = {
    "dx, dy: pixel minus centre": 2,
    "u = dx + k dy": 2,
    "s = (a u^2 + q dy^2) / 2, its halves in a and q": 5,
    "exp(-s): a polynomial of degree 6 in s / 8, squared three times": 16,
    "alpha = opacity exp(-s)": 1,
    "alpha against 1/255 and 0.999": 2,
}
FORWARD = {
    **ALPHA,
    "weight = alpha T, then T - weight, against 1e-4": 3,
}
FORWARD_EACH_CHANNEL = {"colour + weight c": 2}
BACKWARD = {
    **ALPHA,
    "T of before from T of after: 1 - alpha, a division, a product": 3,
    "weight = alpha T": 1,
    "dL/dalpha = T (c . g) - behind / (1 - alpha), then times exp(-s)": 4,
    "behind + weight (c . g)": 2,
    "its products with u, u^2, dy, u dy, dy^2, and six sums": 11,
}
BACKWARD_EACH_CHANNEL = {"c . g": 2, "dL/dc + weight g": 2}


def operations(stage: str, channels: int) -> int:
    """Floating point operations of one useful evaluation."""
    count = sum(FORWARD.values()) + channels * sum(FORWARD_EACH_CHANNEL.values())
    if stage == "forward+backward":
        count += sum(BACKWARD.values()) + channels * sum(BACKWARD_EACH_CHANNEL.values())
    return count


def useful_evaluations(meta: dict[str, Tensor], opacities: Tensor, width: int, height: int) -> int:
    """Pairs of a pixel and a splat with alpha >= 1/255 that the pixel takes before it closes, of one camera.

    meta: as `rasterization` returns it, on the CPU; opacities [N].
    """
    names = ("means2d", "covars2d_blurred", "radii")
    means2d, covars, radii = (meta[name][0].detach().double().numpy() for name in names)
    order = meta["depths"][0].detach().float().argsort(stable=True).numpy()
    return int(_count(order, means2d, covars, radii, opacities.detach().double().numpy(), width, height))


@njit
def _count(order, means2d, covars, radii, opacities, width, height):
    light = np.ones((height, width))  # transmittance; zero once the pixel has closed
    taken = 0
    for i in order:
        (x, y), (xx, xy, yy), (rx, ry) = means2d[i], covars[i], radii[i]
        if rx <= 0:
            continue
        det = xx * yy - xy * xy
        for row in range(max(int(y - ry - 1), 0), min(int(y + ry + 1), height)):
            for col in range(max(int(x - rx - 1), 0), min(int(x + rx + 1), width)):
                dx, dy = col + 0.5 - x, row + 0.5 - y
                power = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (2 * det)
                alpha = min(opacities[i] * np.exp(-power), ALPHA_MAX)
                if light[row, col] > 0 and alpha >= ALPHA_MIN:
                    after = light[row, col] * (1 - alpha)
                    light[row, col] = after if after > CLOSED else 0
                    taken += after > CLOSED
    return taken


@njit(parallel=True, fastmath=True)
def _multiply_add(workers, rounds, out):
    """128 independent chains of x = x m + c a worker: they fill the vector registers of AVX2 and of AVX-512."""
    for worker in prange(workers):
        chains = carray(stack_floats(128), (128,))
        m, c = out[worker, 0], out[worker, 1]
        chains[:] = c
        for _ in range(rounds):
            for j in range(128):
                chains[j] = chains[j] * m + c
        out[worker, 2] = chains[:].sum()


def peak_flops(threads: int, rounds: int = 1_000_000, attempts: int = 100) -> float:
    """Float32 operations a second of this machine at its best: independent multiply-adds, or a matrix product."""
    out = np.full((threads, 16), 0.5, np.float32)
    matrix = torch.full((1024, 1024), 0.5)
    work = {
        lambda: _multiply_add(threads, rounds, out): threads * rounds * 128 * 2,
        lambda: matrix @ matrix: 2 * len(matrix) ** 3,
    }
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    best = 0.0
    for run, count in work.items():
        for _ in range(attempts):
            start = time.perf_counter()
            run()
            best = max(best, count / (time.perf_counter() - start))
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])
    return best
