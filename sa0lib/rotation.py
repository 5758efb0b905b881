"""Rotations: quaternions (wxyz, Hamilton), 3x3 matrices, axis-angle vectors (radians) and the 6D form.

Matrices act on column vectors (x' = R x). Everything takes leading batch dimensions `...`, keeps the
dtype, and is differentiable with finite gradients everywhere, the identity included: optimisers start there.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def normalize(x: Float[Tensor, "... D"], eps: float = 1e-20) -> Float[Tensor, "... D"]:
    """x / sqrt(max(x.x, eps)) over the last dimension: the zero vector stays zero, with a finite gradient."""
    return x * (x * x).sum(-1, keepdim=True).clamp_min(eps).rsqrt()


def axis_angle_to_matrix(axis_angle: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """Rodrigues' formula, R = cos(t) I + sin(t)/t [v]x + (1 - cos(t))/t^2 v v^T with t = |v| in radians.

    Near t = 0 the three coefficients are Taylor series, so value and gradient are exact there.
    """
    t2 = (axis_angle * axis_angle).sum(-1)  # [...]
    small = t2 < 1e-4  # the series below is then exact to 1e-17
    t = torch.where(small, torch.ones_like(t2), t2).sqrt()  # the other branch must be finite for autograd
    cos = torch.where(small, 1 - t2 / 2 * (1 - t2 / 12 * (1 - t2 / 30)), t.cos())
    a = torch.where(small, 1 - t2 / 6 * (1 - t2 / 20 * (1 - t2 / 42)), t.sin() / t)
    half = (t / 2).sin() / t  # 1 - cos(t) = 2 sin(t/2)^2 without cancellation
    b = torch.where(small, (1 - t2 / 12 * (1 - t2 / 30 * (1 - t2 / 56))) / 2, 2 * half * half)
    x, y, z = axis_angle.unbind(-1)
    entries = [
        cos + b * x * x, b * x * y - a * z, b * x * z + a * y,
        b * x * y + a * z, cos + b * y * y, b * y * z - a * x,
        b * x * z - a * y, b * y * z + a * x, cos + b * z * z,
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 4"]:
    """Unit quaternion wxyz with w >= 0 of a rotation matrix.

    The entries of R give the outer product 4 q q^T; each of its rows is q times a factor, and the row with
    the largest diagonal entry is far from zero for every rotation (half turns too).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    outer = torch.stack(
        [
            1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01,
            m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20,
            m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m21 + m12,
            m10 - m01, m02 + m20, m21 + m12, 1 - m00 - m11 + m22,
        ],
        -1,
    ).unflatten(-1, (4, 4))  # fmt: skip  # [..., 4, 4]
    row = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)  # [...]
    q = outer.gather(-2, row[..., None, None].expand(*row.shape, 1, 4)).squeeze(-2)
    return normalize(torch.where(q[..., :1] < 0, -q, q))


def quaternion_to_matrix(quaternion: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Rotation matrix of a quaternion wxyz of any length (it is normalised here)."""
    w, x, y, z = normalize(quaternion).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def quaternion_multiply(a: Float[Tensor, "... 4"], b: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Hamilton product a b, so that R(a b) = R(a) R(b)."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    product = [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]
    return torch.stack(product, -1)


def matrix_to_axis_angle(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    """Axis-angle vector, angle in [0, pi] radians, through the quaternion: t = 2 atan2(|xyz|, w)."""
    q = matrix_to_quaternion(matrix)
    w, xyz = q[..., :1], q[..., 1:]
    s2 = (xyz * xyz).sum(-1, keepdim=True)  # sin(t/2)^2
    small = s2 < 1e-8
    s = torch.where(small, torch.ones_like(s2), s2).sqrt()  # the branch not taken must be finite for autograd
    near_one = torch.where(small, w, torch.ones_like(w))
    series = 2 / near_one * (1 - s2 / (3 * near_one * near_one))
    factor = torch.where(small, series, 2 * torch.atan2(s, w) / s)
    return xyz * factor


def rotation_6d_to_matrix(rotation_6d: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """Gram-Schmidt of two 3-vectors, which become the first two ROWS (PyTorch3D's order)."""
    first, second = rotation_6d[..., :3], rotation_6d[..., 3:]
    r0 = normalize(first)
    r1 = normalize(second - (r0 * second).sum(-1, keepdim=True) * r0)
    return torch.stack([r0, r1, torch.linalg.cross(r0, r1)], -2)


def matrix_to_rotation_6d(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 6"]:
    """The first two rows, one after the other: the inverse of `rotation_6d_to_matrix`."""
    return matrix[..., :2, :].flatten(-2)
