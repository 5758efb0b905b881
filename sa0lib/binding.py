"""Triangle frames, and the rigid binding that carries Gaussians with the mesh (Eq. 1, Eq. 8, App. A.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sa0lib.binding_cpu import Bind
from sa0lib.rotation import matrix_to_quaternion, normalize, quaternion_multiply


@dataclass
class Frames:
    """The local frame of every triangle, for a batch of poses."""

    center: Float[Tensor, "B F 3"]  # c_f, the centroid, metres
    R: Float[Tensor, "B F 3 3"]  # R_f, columns: first edge, normal, and their cross product
    quat: Float[Tensor, "B F 4"]  # R_f as a unit quaternion wxyz
    scale: Float[Tensor, "B F"]  # s_f, metres


def triangle_frames(vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]) -> Frames:
    """Eq. (8) and App. A.1's frame of each triangle; vertices in metres.

    a0 along the first edge, a1 the normal, a2 = a0 x a1, so that det R = +1. (The paper prints a1 x a0, which gives
    det -1: a reflection, and no quaternion.) s_f is the mean of the first edge and its altitude.

    A triangle without area, or with all corners in one place, has no frame: as the paper does, only the
    normalisation is made safe. Missing axes are then zero, `quat` is still a unit quaternion, s_f tends to half the
    first edge, and all values and gradients stay finite.
    """
    v0, v1, v2 = (vertices[:, faces[:, k]] for k in range(3))  # [B, F, 3]
    edge, other = v1 - v0, v2 - v0
    a0 = normalize(edge)
    a1 = normalize(torch.linalg.cross(a0, other))  # a0 is a unit vector: this length is the altitude, in metres
    a2 = torch.linalg.cross(a0, a1)
    altitude = (a2 * other).sum(-1).abs()  # [B, F]
    R = torch.stack([a0, a1, a2], -1)
    return Frames((v0 + v1 + v2) / 3, R, matrix_to_quaternion(R), 0.5 * (edge.norm(dim=-1) + altitude))


def local_from_barycentric(
    bary: Float[Tensor, "G 3"], face: Int[Tensor, " G"], vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "G 3"]:
    """The inverse of Eq. (1) for points on the mesh: x_local = R_f^T (x - c_f) / s_f, in units of s_f."""
    frames = triangle_frames(vertices[None], faces)
    offset = (vertices[faces[face]] * bary[..., None]).sum(1) - frames.center[0, face]  # [G, 3] metres
    rotated = (frames.R[0, face] * offset[..., None]).sum(-2)  # R^T offset
    return rotated / frames.scale[0, face, None].clamp_min(1e-10)


def bind(
    means: Float[Tensor, "G 3"],
    quats: Float[Tensor, "G 4"],
    scales: Float[Tensor, "G 3"],
    face: Int[Tensor, " G"],
    frames: Frames,
) -> tuple[Float[Tensor, "B G 3"], Float[Tensor, "B G 4"], Float[Tensor, "B G 3"]]:
    """Eq. (1): local means, quaternions (wxyz, any length) and scales, in units of s_f, to the world (metres).

    Raises ValueError for tensors of other shapes, and for a face that the frames have not.
    """
    G = len(means)
    if (means.shape, quats.shape, scales.shape, face.shape) != ((G, 3), (G, 4), (G, 3), (G,)):
        shapes = ", ".join(str(list(tensor.shape)) for tensor in (means, quats, scales, face))
        raise ValueError(f"means, quats, scales, face must be [G, 3], [G, 4], [G, 3], [G], not {shapes}")
    if face.dtype != torch.int64:
        raise ValueError(f"face must be torch.int64, not {face.dtype}")
    parts = frames.center, frames.R, frames.quat, frames.scale
    if means.device.type == "cpu" and not any(part.requires_grad for part in parts):
        if all(tensor.dtype == torch.float32 for tensor in (means, quats, scales, *parts)):
            return Bind.apply(means, quats, scales, face, *parts)
    s, R = frames.scale[:, face, None], frames.R[:, face]  # [B, G, 1], [B, G, 3, 3]
    x, y, z = means.unbind(-1)  # written out: a third faster than tens of thousands of 3x3 products
    rotated = torch.stack([R[..., i, 0] * x + R[..., i, 1] * y + R[..., i, 2] * z for i in range(3)], -1)
    world_quats = quaternion_multiply(frames.quat[:, face], normalize(quats).expand(len(s), -1, -1))
    return rotated * s + frames.center[:, face], world_quats, scales * s
