"""SSIM's two kernels: value and derivatives in one pass over the pixels, and the gradient in another.

A blur with the Gaussian window is a band matrix on each axis, reflection at the border folded into its first and last
rows (`metrics.blur_matrix`); the adjoint that the gradient needs is the transposed band. Each row of pixels is blurred
down its columns, 16 pixels at a time, and then along itself, so that no blurred image is ever stored.
"""

import numpy as np
import torch
from jaxtyping import Float
from numba import carray, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from sa0lib.lanes import FLAGS, kernel, kernel_threads, stack_floats, threads_for_kernels

f32, u64 = np.float32, np.uint64  # unsigned indices: negative ones, which Python counts from the end, cost a test
ZERO, ONE, TWO = f32(0), f32(1), f32(2)
TAPS, HALF = 11, 5  # of the window
EDGE = 16  # zeros on both sides of a row buffer


@kernel(parallel=True, fastmath=FLAGS)
def ssim_kernel(a, b, down, along, c1, c2, workers, totals, slopes):
    """totals [P, H]: the sums over each row of SSIM of the planes a, b [P, H, W], W a multiple of 16.

    down [H, 11], along [11, W]: the band of the blur matrix of each axis; c1, c2: SSIM's stabilisers.
    slopes [3, P, H, W]: derivatives of a pixel's SSIM by the blurred a, a^2 and a b; not filled if it has no planes.
    """
    planes, height, width = a.shape
    for worker in prange(workers):
        lanes = carray(stack_floats(80), (5, 16))
        rows = np.zeros((5, width + 2 * EDGE), np.float32)  # a, b, a^2, b^2, a b, blurred down the columns
        for n in range(worker * planes * height // workers, (worker + 1) * planes * height // workers):
            p, y = u64(n // height), u64(n % height)
            for x in range(u64(0), u64(width), u64(16)):
                lanes[:] = ZERO
                for d in range(TAPS):
                    source, w = u64(min(max(n % height + d - HALF, 0), height - 1)), down[y, d]
                    for j in range(16):
                        u, v = a[p, source, x + u64(j)], b[p, source, x + u64(j)]
                        wu, wv = w * u, w * v
                        lanes[0, j] += wu
                        lanes[1, j] += wv
                        lanes[2, j] += wu * u
                        lanes[3, j] += wv * v
                        lanes[4, j] += wu * v
                for q in range(5):
                    for j in range(16):
                        rows[q, x + u64(EDGE + j)] = lanes[q, j]
            total = ZERO
            for x in range(u64(0), u64(width), u64(16)):
                lanes[:] = ZERO
                for d in range(TAPS):
                    start = x + u64(EDGE + d - HALF)
                    for j in range(16):
                        w = along[d, x + u64(j)]
                        lanes[0, j] += w * rows[0, start + u64(j)]
                        lanes[1, j] += w * rows[1, start + u64(j)]
                        lanes[2, j] += w * rows[2, start + u64(j)]
                        lanes[3, j] += w * rows[3, start + u64(j)]
                        lanes[4, j] += w * rows[4, start + u64(j)]
                for j in range(16):
                    mean_a, mean_b = lanes[0, j], lanes[1, j]
                    variance_a = lanes[2, j] - mean_a * mean_a
                    variance = max(variance_a, ZERO) + max(lanes[3, j] - mean_b * mean_b, ZERO)
                    squares, product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
                    through, per = ONE / (squares + c1), ONE / (variance + c2)
                    luminance = (TWO * product + c1) * through
                    contrast = (TWO * (lanes[4, j] - product) + c2) * per
                    value = luminance * contrast if along[HALF, x + u64(j)] > ZERO else ZERO  # nothing beyond the image
                    total += value
                    by_square = -value * per if variance_a > ZERO else ZERO
                    by_product = TWO * luminance * per
                    by_luminance = TWO * (mean_b - luminance * mean_a) * through * contrast
                    lanes[0, j] = by_luminance - by_product * mean_b - TWO * by_square * mean_a
                    lanes[2, j] = by_square
                    lanes[4, j] = by_product
                if slopes.shape[1] > 0:
                    for q in range(3):
                        for j in range(16):
                            slopes[q, p, y, x + u64(j)] = lanes[2 * q, j]
            totals[p, y] = total


@kernel(parallel=True, fastmath=FLAGS)
def ssim_gradient(a, b, slopes, down, along, weights, workers, g_a):
    """g_a [P, H, W]: gradient of weights [P] . (SSIM summed over each plane), with the bands transposed."""
    planes, height, width = a.shape
    for worker in prange(workers):
        lanes = carray(stack_floats(48), (3, 16))
        rows = np.zeros((3, width + 2 * EDGE), np.float32)
        for n in range(worker * planes * height // workers, (worker + 1) * planes * height // workers):
            p, y = u64(n // height), u64(n % height)
            for x in range(u64(0), u64(width), u64(16)):
                lanes[:] = ZERO
                for d in range(TAPS):
                    source, w = u64(min(max(n % height + d - HALF, 0), height - 1)), down[y, d] * weights[p]
                    for j in range(16):
                        lanes[0, j] += w * slopes[0, p, source, x + u64(j)]
                        lanes[1, j] += w * slopes[1, p, source, x + u64(j)]
                        lanes[2, j] += w * slopes[2, p, source, x + u64(j)]
                for q in range(3):
                    for j in range(16):
                        rows[q, x + u64(EDGE + j)] = lanes[q, j]
            for x in range(u64(0), u64(width), u64(16)):
                lanes[:] = ZERO
                for d in range(TAPS):
                    start = x + u64(EDGE + d - HALF)
                    for j in range(16):
                        w = along[d, x + u64(j)]
                        lanes[0, j] += w * rows[0, start + u64(j)]
                        lanes[1, j] += w * rows[1, start + u64(j)]
                        lanes[2, j] += w * rows[2, start + u64(j)]
                for j in range(16):
                    g_a[p, y, x + u64(j)] = (
                        lanes[0, j] + TWO * a[p, y, x + u64(j)] * lanes[1, j] + b[p, y, x + u64(j)] * lanes[2, j]
                    )


def band(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n 11"]:
    """Entry [i, d] is matrix[i, i + d - 5], zero outside."""
    n = len(matrix)
    padded = torch.nn.functional.pad(matrix, (HALF, HALF))  # [n, n + 10]
    return padded.as_strided((n, TAPS), (n + 2 * HALF + 1, 1)).contiguous()


class SSIM(torch.autograd.Function):
    """Mean SSIM of each image of a float32 batch; the gradient goes to the first batch only."""

    @staticmethod
    @threads_for_kernels()
    def forward(ctx, image, target, rows, columns, c1, c2):
        B, C, H, W = image.shape
        beyond = -W % 16
        a, b = (
            torch.nn.functional.pad(t.detach().reshape(B * C, H, W), (0, beyond)).contiguous() for t in (image, target)
        )
        down, along = band(rows), torch.nn.functional.pad(band(columns).T, (0, beyond)).contiguous()
        totals = torch.empty(B * C, H)
        slopes = torch.empty(3, B * C if ctx.needs_input_grad[0] else 0, H, W + beyond)
        with kernel_threads(ssim_kernel) as workers:
            arrays = [t.numpy() for t in (a, b, down, along)]
            ssim_kernel(*arrays, np.float32(c1), np.float32(c2), workers, totals.numpy(), slopes.numpy())
        ctx.save_for_backward(a, b, slopes, rows, columns)
        return totals.reshape(B, C * H).double().sum(1).float() / (C * H * W)

    @staticmethod
    @once_differentiable
    @threads_for_kernels()
    def backward(ctx, g_mean):
        a, b, slopes, rows, columns = ctx.saved_tensors
        W, C = len(columns), len(a) // len(g_mean)
        down, along = band(rows.T), torch.nn.functional.pad(band(columns.T).T, (0, a.shape[2] - W)).contiguous()
        weights = (g_mean / (C * a.shape[1] * W)).repeat_interleave(C)
        g_a = torch.empty_like(a)
        with kernel_threads(ssim_gradient) as workers:
            arrays = [t.numpy() for t in (a, b, slopes, down, along, weights)]
            ssim_gradient(*arrays, workers, g_a.numpy())
        return g_a[..., :W].reshape(len(g_mean), C, a.shape[1], W), None, None, None, None, None
