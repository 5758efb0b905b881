"""The projection kernel of the CPU backend: 3D Gaussians to splats in one pass, their gradient in another.

Sigma_2D = J W R S S R^T W^T J^T is the paper's App. A.4 (standard 3DGS). With A, B the two rows of J W (3-vectors)
and R_k the columns of R, it is built from u_k = s_k A . R_k and v_k = s_k B . R_k: xx = u.u, xy = u.v, yy = v.v.
Then eps2d is added to xx and yy (the screen blur), and the inverse of the result is kept as L D L^T factors:
a (dx + k dy)^2 + q dy^2, with det = |u x v|^2 + eps2d (xx + yy) + eps2d^2, a sum of positive terms, so that thin
splats lose no digits. Positions on the screen and depths are computed in float64 and rounded once.
"""

import numpy as np
from numba import carray, njit, prange

from sa0lib.lanes import FLAGS, kernel, stack_floats

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
TINY = np.float32(1e-20)
LARGEST, SHARPEST = np.float32(1e30), np.float32(1e8)  # of determinants in px^4, of inverse variances in px^-2
WIDER = np.float32(1.0001)  # no pixel may be lost to rounding; the extra ones fail the alpha test


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def slope_limits(K, size):
    """Bounds of X / Z and Y / Z in the Jacobian: the image edges, moved out by 0.3 of half the field of view."""
    extra_x, extra_y = 0.15 * size[0] / K[0, 0], 0.15 * size[1] / K[1, 1]
    left, right = -K[0, 2] / K[0, 0] - extra_x, (size[0] - K[0, 2]) / K[0, 0] + extra_x
    return left, right, -K[1, 2] / K[1, 1] - extra_y, (size[1] - K[1, 2]) / K[1, 1] + extra_y


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def gather(means, quats, scales, start, stop, view, K, limits, planes, lanes):
    """Put Gaussians start : stop into one lane each; unused lanes keep what they hold.

    Rows of `lanes`: 0 1/Z; 1, 2 slopes X/Z, Y/Z clamped to `limits`; 3 to 6 quaternion; 7 to 9 scales; 10, 11 slopes;
    12 Z; 13 is one between the planes and zero elsewhere, where a point on the axis stands for the Gaussian; 14, 15
    centre in pixels.
    """
    for i in range(start, stop):
        j = i - start
        lanes[10, j], lanes[11, j], lanes[12, j] = means[i, 0], means[i, 1], means[i, 2]
        lanes[3, j], lanes[4, j], lanes[5, j], lanes[6, j] = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        lanes[7, j], lanes[8, j], lanes[9, j] = scales[i, 0], scales[i, 1], scales[i, 2]
    for j in range(16):
        x, y, z = np.float64(lanes[10, j]), np.float64(lanes[11, j]), np.float64(lanes[12, j])
        X = view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3]
        Y = view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3]
        Z = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3]
        front = (Z >= planes[0]) & (Z <= planes[1])
        rz = 1 / (Z if front else 1.0)
        slope_x, slope_y = X * rz if front else 0.0, Y * rz if front else 0.0
        lanes[0, j], lanes[10, j], lanes[11, j], lanes[12, j] = rz, slope_x, slope_y, Z
        lanes[1, j] = min(max(slope_x, limits[0]), limits[1])
        lanes[2, j] = min(max(slope_y, limits[2]), limits[3])
        lanes[13, j] = ONE if front else ZERO
        lanes[14, j], lanes[15, j] = K[0, 0] * slope_x + K[0, 2], K[1, 1] * slope_y + K[1, 2]


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def screen_axes(lanes, j, view, fx, fy):
    """A and B (the rows of J W), the columns of R, and the 3-vectors A R and B R (u and v before the scales)."""
    w, x, y, z = lanes[3, j], lanes[4, j], lanes[5, j], lanes[6, j]
    unit = ONE / np.sqrt(max(w * w + x * x + y * y + z * z, TINY))
    w, x, y, z = w * unit, x * unit, y * unit, z * unit
    R0 = (ONE - TWO * (y * y + z * z), TWO * (x * y + w * z), TWO * (x * z - w * y))
    R1 = (TWO * (x * y - w * z), ONE - TWO * (x * x + z * z), TWO * (y * z + w * x))
    R2 = (TWO * (x * z + w * y), TWO * (y * z - w * x), ONE - TWO * (x * x + y * y))
    ax, by, tx, ty = fx * lanes[0, j], fy * lanes[0, j], lanes[1, j], lanes[2, j]
    A = (ax * (view[0] - tx * view[6]), ax * (view[1] - tx * view[7]), ax * (view[2] - tx * view[8]))
    B = (by * (view[3] - ty * view[6]), by * (view[4] - ty * view[7]), by * (view[5] - ty * view[8]))
    AR = (dot(A, R0), dot(A, R1), dot(A, R2))
    BR = (dot(B, R0), dot(B, R1), dot(B, R2))
    return A, B, R0, R1, R2, AR, BR, (w, x, y, z), unit


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def invert_blurred(u, v, eps):
    """xx, xy, yy before the blur; a, k, q and the determinant after it."""
    xx, xy, yy = dot(u, u), dot(u, v), dot(v, v)
    n = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    det = dot(n, n) + eps * (xx + yy) + eps * eps
    q = ONE / (yy + eps)
    return xx, xy, yy, (yy + eps) / det, -xy * q, q, det


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def is_sound(a, q, det):
    """Whether float32 has room for the gradients of this splat: not if it is far too large, or (unblurred) too thin."""
    return (det < LARGEST) & (a < SHARPEST) & (q < SHARPEST)


@njit(forceinline=True, fastmath=FLAGS, error_model="numpy")
def single(view):
    """The rotation of a float64 view matrix, row by row, as nine float32."""
    a, b, c = np.float32(view[0, 0]), np.float32(view[0, 1]), np.float32(view[0, 2])
    d, e, f = np.float32(view[1, 0]), np.float32(view[1, 1]), np.float32(view[1, 2])
    return a, b, c, d, e, f, np.float32(view[2, 0]), np.float32(view[2, 1]), np.float32(view[2, 2])


@kernel(parallel=True, fastmath=FLAGS)
def project_kernel(
    means, quats, scales, log_reach, view, K, size, planes, eps, workers, means2d, depths, covars2d, factors, reach
):
    """One camera's centres (pixels), depths, covariances before the blur, factors after it, and half extents.

    log_reach [N] is 2 ln(255 opacity), size is width, height, planes near, far. The half extents are those of the
    alpha >= 1/255 ellipse; they are 0, and nothing is drawn, outside the planes or the image or below alpha 1/255.
    Outside the planes, or where a splat is not sound, nothing is drawn; the covariance is the unit circle there and
    takes no gradient.
    """
    count, limits, W = means.shape[0], slope_limits(K, size), single(view)
    fx, fy, width, height = np.float32(K[0, 0]), np.float32(K[1, 1]), np.float32(size[0]), np.float32(size[1])
    blocks = (count + 15) // 16
    for worker in prange(workers):
        lanes, out = carray(stack_floats(256), (16, 16)), carray(stack_floats(128), (8, 16))
        room = carray(stack_floats(16), (16,))
        lanes[:] = ONE
        for block in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            start, stop = block * 16, min(block * 16 + 16, count)
            gather(means, quats, scales, start, stop, view, K, limits, planes, lanes)
            for i in range(start, stop):
                room[i - start] = log_reach[i]
            for j in range(16):
                _, _, _, _, _, AR, BR, _, _ = screen_axes(lanes, j, W, fx, fy)
                s0, s1, s2 = lanes[7, j], lanes[8, j], lanes[9, j]
                u, v = (s0 * AR[0], s1 * AR[1], s2 * AR[2]), (s0 * BR[0], s1 * BR[1], s2 * BR[2])
                xx, xy, yy, a, k, q, det = invert_blurred(u, v, eps)
                sound = (lanes[13, j] > ZERO) & is_sound(a, q, det)
                out[0, j], out[1, j], out[2, j] = xx if sound else ONE, xy if sound else ZERO, yy if sound else ONE
                out[3, j], out[4, j], out[5, j] = a if sound else ONE, k if sound else ZERO, q if sound else ONE
                stretch = np.sqrt(max(room[j], ZERO)) * WIDER
                rx, ry = stretch * np.sqrt(xx + eps), stretch * np.sqrt(yy + eps)
                x, y = lanes[14, j], lanes[15, j]
                seen = sound & (x + rx > ZERO) & (x - rx < width) & (y + ry > ZERO) & (y - ry < height)
                out[6, j], out[7, j] = rx if seen else ZERO, ry if seen else ZERO
            for i in range(start, stop):
                j = i - start
                means2d[i, 0], means2d[i, 1], depths[i] = lanes[14, j], lanes[15, j], lanes[12, j]
                covars2d[i, 0], covars2d[i, 1], covars2d[i, 2] = out[0, j], out[1, j], out[2, j]
                factors[i, 0], factors[i, 1], factors[i, 2] = out[3, j], out[4, j], out[5, j]
                reach[i, 0], reach[i, 1] = out[6, j], out[7, j]


@kernel(parallel=True, fastmath=FLAGS)
def project_gradient(
    means, quats, scales, view, K, size, planes, eps, workers,
    g_means2d, g_depths, g_covars2d, g_factors, g_means, g_quats, g_scales,
):  # fmt: skip
    """Add one camera's gradients to g_means, g_quats, g_scales; culled Gaussians get none.

    g_depths and g_covars2d may be empty, for zero.
    """
    count, limits, W = means.shape[0], slope_limits(K, size), single(view)
    fx, fy = np.float32(K[0, 0]), np.float32(K[1, 1])
    blocks = (count + 15) // 16
    for worker in prange(workers):
        lanes, out = carray(stack_floats(256), (16, 16)), carray(stack_floats(176), (11, 16))
        g_in = carray(stack_floats(96), (6, 16))
        lanes[:] = ONE
        g_in[:] = ZERO
        for block in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            start, stop = block * 16, min(block * 16 + 16, count)
            gather(means, quats, scales, start, stop, view, K, limits, planes, lanes)
            for i in range(start, stop):
                for n in range(3):
                    g_in[3 + n, i - start] = g_factors[i, n]
                    if g_covars2d.shape[0] > 0:
                        g_in[n, i - start] = g_covars2d[i, n]
            for j in range(16):
                A, B, R0, R1, R2, AR, BR, quat, unit = screen_axes(lanes, j, W, fx, fy)
                s0, s1, s2 = lanes[7, j], lanes[8, j], lanes[9, j]
                u, v = (s0 * AR[0], s1 * AR[1], s2 * AR[2]), (s0 * BR[0], s1 * BR[1], s2 * BR[2])
                _, _, _, a, k, q, det = invert_blurred(u, v, eps)
                g_a, g_k, g_q = a * a * g_in[3, j], q * g_in[4, j], q * q * g_in[5, j]
                g_xx = g_in[0, j] - g_a
                g_xy = g_in[1, j] - TWO * k * g_a - g_k  # stands for both off-diagonal entries
                g_yy = g_in[2, j] - k * k * g_a - k * g_k - g_q
                xx2, yy2 = TWO * g_xx, TWO * g_yy
                g_u = (u[0] * xx2 + v[0] * g_xy, u[1] * xx2 + v[1] * g_xy, u[2] * xx2 + v[2] * g_xy)
                g_v = (v[0] * yy2 + u[0] * g_xy, v[1] * yy2 + u[1] * g_xy, v[2] * yy2 + u[2] * g_xy)
                out[0, j] = g_u[0] * AR[0] + g_v[0] * BR[0]
                out[1, j] = g_u[1] * AR[1] + g_v[1] * BR[1]
                out[2, j] = g_u[2] * AR[2] + g_v[2] * BR[2]
                h, m = (s0 * g_u[0], s1 * g_u[1], s2 * g_u[2]), (s0 * g_v[0], s1 * g_v[1], s2 * g_v[2])
                # dL/dR, column k: A h_k + B m_k
                G0 = (A[0] * h[0] + B[0] * m[0], A[1] * h[0] + B[1] * m[0], A[2] * h[0] + B[2] * m[0])
                G1 = (A[0] * h[1] + B[0] * m[1], A[1] * h[1] + B[1] * m[1], A[2] * h[1] + B[2] * m[1])
                G2 = (A[0] * h[2] + B[0] * m[2], A[1] * h[2] + B[1] * m[2], A[2] * h[2] + B[2] * m[2])
                w, x, y, z = quat
                t = (G1[2] - G2[1], G2[0] - G0[2], G0[1] - G1[0])
                d = G0[0] + G1[1] + G2[2]
                g_w = x * t[0] + y * t[1] + z * t[2]
                g_x = w * t[0] + TWO * x * (G0[0] - d) + y * (G1[0] + G0[1]) + z * (G2[0] + G0[2])
                g_y = w * t[1] + x * (G1[0] + G0[1]) + TWO * y * (G1[1] - d) + z * (G2[1] + G1[2])
                g_z = w * t[2] + x * (G2[0] + G0[2]) + y * (G2[1] + G1[2]) + TWO * z * (G2[2] - d)
                along = w * g_w + x * g_x + y * g_y + z * g_z
                out[3, j], out[4, j] = TWO * unit * (g_w - w * along), TWO * unit * (g_x - x * along)
                out[5, j], out[6, j] = TWO * unit * (g_y - y * along), TWO * unit * (g_z - z * along)
                g_A = (R0[0] * h[0] + R1[0] * h[1] + R2[0] * h[2], R0[1] * h[0] + R1[1] * h[1] + R2[1] * h[2],
                       R0[2] * h[0] + R1[2] * h[1] + R2[2] * h[2])  # fmt: skip
                g_B = (R0[0] * m[0] + R1[0] * m[1] + R2[0] * m[2], R0[1] * m[0] + R1[1] * m[1] + R2[1] * m[2],
                       R0[2] * m[0] + R1[2] * m[1] + R2[2] * m[2])  # fmt: skip
                out[7, j] = -fx * lanes[0, j] * dot(g_A, (W[6], W[7], W[8]))  # dL/d(clamped X/Z)
                out[8, j] = -fy * lanes[0, j] * dot(g_B, (W[6], W[7], W[8]))
                out[9, j] = dot(g_A, A) + dot(g_B, B)  # A and B are proportional to 1/Z: dL/d(1/Z) / Z
                out[10, j] = ONE if (lanes[13, j] > ZERO) & is_sound(a, q, det) else ZERO
            for i in range(start, stop):
                j = i - start
                if out[10, j] == ZERO:
                    continue
                rz, x, y = lanes[0, j], lanes[10, j], lanes[11, j]
                g_x, g_y = fx * g_means2d[i, 0], fy * g_means2d[i, 1]  # by X/Z, Y/Z
                g_x += out[7, j] if x == lanes[1, j] else ZERO  # not clamped
                g_y += out[8, j] if y == lanes[2, j] else ZERO
                g_X, g_Y, g_Z = g_x * rz, g_y * rz, -rz * (out[9, j] + x * g_x + y * g_y)
                if g_depths.shape[0] > 0:
                    g_Z += g_depths[i]
                for n in range(3):
                    g_means[i, n] += view[0, n] * g_X + view[1, n] * g_Y + view[2, n] * g_Z
                    g_scales[i, n] += out[n, j]
                for n in range(4):
                    g_quats[i, n] += out[3 + n, j]
