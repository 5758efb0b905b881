"""Eq. (1) as two kernels: one pass over the Gaussians instead of some forty operators, and one for the gradient."""

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from sa0lib.lanes import kernel, kernel_threads, threads_for_kernels

ZERO, ONE, TINY = np.float32(0), np.float32(1), np.float32(1e-20)  # TINY as in `rotation.normalize`


@njit(forceinline=True)
def multiply(a, b):
    """Hamilton product of two quaternions wxyz."""
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@njit(forceinline=True)
def inverse_length(quats, g):
    """1 / |q|, and whether |q| counts (a vanishing quaternion is only scaled)."""
    square = quats[g, 0] ** 2 + quats[g, 1] ** 2 + quats[g, 2] ** 2 + quats[g, 3] ** 2
    return ONE / np.sqrt(max(square, TINY)), square > TINY


@kernel(parallel=True)
def bind_kernel(means, quats, scales, face, center, R, turn, size, to_means, to_quats, to_scales):
    """to_* [B, G, 3 or 4]: means, quats, scales [G, 3 or 4] carried by frames [B, F] of centre, R, quaternion, size."""
    for g in prange(means.shape[0]):
        f, (n, _) = face[g], inverse_length(quats, g)
        q = quats[g, 0] * n, quats[g, 1] * n, quats[g, 2] * n, quats[g, 3] * n
        for b in range(center.shape[0]):
            s = size[b, f]
            for i in range(3):
                turned = R[b, f, i, 0] * means[g, 0] + R[b, f, i, 1] * means[g, 1] + R[b, f, i, 2] * means[g, 2]
                to_means[b, g, i], to_scales[b, g, i] = s * turned + center[b, f, i], s * scales[g, i]
            w, x, y, z = multiply((turn[b, f, 0], turn[b, f, 1], turn[b, f, 2], turn[b, f, 3]), q)
            to_quats[b, g, 0], to_quats[b, g, 1], to_quats[b, g, 2], to_quats[b, g, 3] = w, x, y, z


@kernel(parallel=True)
def bind_gradient(quats, face, R, turn, size, by_means, by_quats, by_scales, g_means, g_quats, g_scales):
    """Gradients to means, quats and scales, given those by the bound ones; the frames get none."""
    for g in prange(quats.shape[0]):
        f, (n, counts) = face[g], inverse_length(quats, g)
        w = x = y = z = ZERO
        for i in range(3):
            g_means[g, i] = g_scales[g, i] = ZERO
        for b in range(size.shape[0]):
            s = size[b, f]
            for i in range(3):
                back = R[b, f, 0, i] * by_means[b, g, 0] + R[b, f, 1, i] * by_means[b, g, 1]
                g_means[g, i] += s * (back + R[b, f, 2, i] * by_means[b, g, 2])
                g_scales[g, i] += s * by_scales[b, g, i]
            undo = turn[b, f, 0], -turn[b, f, 1], -turn[b, f, 2], -turn[b, f, 3]  # a unit quaternion's transpose
            pull = multiply(undo, (by_quats[b, g, 0], by_quats[b, g, 1], by_quats[b, g, 2], by_quats[b, g, 3]))
            w, x, y, z = w + pull[0], x + pull[1], y + pull[2], z + pull[3]
        along = n * n * (quats[g, 0] * w + quats[g, 1] * x + quats[g, 2] * y + quats[g, 3] * z) if counts else ZERO
        g_quats[g, 0], g_quats[g, 1] = n * (w - quats[g, 0] * along), n * (x - quats[g, 1] * along)
        g_quats[g, 2], g_quats[g, 3] = n * (y - quats[g, 2] * along), n * (z - quats[g, 3] * along)


class Bind(torch.autograd.Function):
    """`binding.bind` for float32 on the CPU and frames that want no gradient."""

    @staticmethod
    @threads_for_kernels()
    def forward(
        ctx,
        means: Float[Tensor, "G 3"],
        quats: Float[Tensor, "G 4"],
        scales: Float[Tensor, "G 3"],
        face: Tensor,
        center: Float[Tensor, "B F 3"],
        R: Float[Tensor, "B F 3 3"],
        turn: Float[Tensor, "B F 4"],
        size: Float[Tensor, "B F"],
    ):
        low, high = face.aminmax() if len(face) else (0, 0)
        if low < 0 or high >= max(size.shape[1], 1):
            raise ValueError(f"face names triangles {int(low)} to {int(high)}, the frames are of {size.shape[1]}")
        bound = tuple(torch.empty(len(center), *values.shape) for values in (means, quats, scales))
        ctx.save_for_backward(quats, face, R, turn, size)
        inputs = [t.detach().contiguous().numpy() for t in (means, quats, scales, face, center, R, turn, size)]
        with kernel_threads(bind_kernel):
            bind_kernel(*inputs, *(t.numpy() for t in bound))
        return bound

    @staticmethod
    @once_differentiable
    @threads_for_kernels()
    def backward(ctx, *by_bound):
        inputs = [t.contiguous().numpy() for t in (*ctx.saved_tensors, *by_bound)]
        gradients = [torch.empty(values.shape[1:]) for values in by_bound]
        with kernel_threads(bind_gradient):
            bind_gradient(*inputs, *(g.numpy() for g in gradients))
        return *gradients, None, None, None, None, None
