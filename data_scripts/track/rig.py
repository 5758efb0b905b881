"""A head reduced to its landmarks, for many frames at once; the codes and the focal length of a fitted video."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sa0lib.head import N_EXPR, N_SHAPE, Head
from sa0lib.rotation import axis_angle_to_matrix

LINEAR = 1 + N_SHAPE + N_EXPR  # template, shape and expression: the columns that the codes weigh
TURNING = (2, 3, 4)  # joints that turn against the skull: jaw, left eye, right eye (the neck stays at rest)


class LandmarkRig:
    """The landmarks of a head as a function of its codes, the neck at rest.

    A landmark is a fixed mix of three vertices, a vertex a mix of joint motions of a point that is linear in the
    codes, so with codes c = (1, shape, expr, pose feature) a landmark is

        x = R (B_0 c + sum_j R_j B_j c) + J c + translation,   j over jaw, left eye, right eye,

    which equals `Head.landmarks(Head.forward(...))` exactly and costs a few matrix products. Columns of B: template,
    300 shape, 100 expression, 36 pose corrective directions.
    """

    def __init__(self, head: Head, which: str = "478"):
        corner = head.faces[getattr(head, f"lmk{which}_face")]  # [L, 3]
        bary = getattr(head, f"lmk{which}_bary")  # [L, 3]
        columns = torch.cat([head.v_template[..., None], head.shapedirs, head.posedirs], -1)  # [V, 3, 437]
        joints = (head.J_regressor @ columns.flatten(1)).unflatten(1, (3, -1))  # [5, 3, 437]
        joints[..., LINEAR:] = 0  # joints are regressed before the correctives
        share = (bary[..., None] * head.weights[corner]).sum(1)  # [L, 5]
        point = torch.einsum("lk,lkj,lkxc->jlxc", bary, head.weights[corner], columns[corner])  # [5, L, 3, 437]
        turned = point - share.T[:, :, None, None] * joints[:, None]  # about each joint
        still = [j for j in range(5) if j not in TURNING]
        rest = torch.einsum("lj,jxc->lxc", share, joints) + turned[still].sum(0) - joints[0]  # [L, 3, 437]
        self.B = torch.stack([rest, *(turned[j] for j in TURNING)])  # [4, L, 3, 437]
        self.J = joints[0, :, :LINEAR]  # [3, 401]

    def points(
        self,
        shape: Float[Tensor, "_ 300"],
        expr: Float[Tensor, "N 100"],
        rotation: Float[Tensor, "N 3"],
        jaw: Float[Tensor, "N 3"],
        eyes: Float[Tensor, "N 6"],
        translation: Float[Tensor, "N 3"],
    ) -> Float[Tensor, "N L 3"]:
        """Landmarks in metres; shape has a row per frame, or one for all."""
        return self.turn(*self.shaped(shape, expr), rotation, jaw, eyes) + translation[:, None]

    def shaped(self, shape, expr) -> tuple[Float[Tensor, "N 4 L 3"], Float[Tensor, "N 3"]]:
        """What does not depend on the pose: (B c and J c) without the correctives."""
        codes = torch.cat([torch.ones_like(expr[:, :1]), shape.expand(len(expr), -1), expr], 1)  # [N, 401]
        return torch.einsum("klxc,nc->nklx", self.B[..., :LINEAR], codes), codes @ self.J.T

    def turn(self, parts, origin, rotation, jaw, eyes) -> Float[Tensor, "N L 3"]:
        """Correctives, jaw, eyes and head rotation applied to `shaped`."""
        Q = self._matrices(jaw, eyes)
        feature = (Q[:, 1:] - torch.eye(3).to(Q)).flatten(1)  # [N, 27]: jaw, left eye, right eye
        parts = parts + torch.einsum("klxc,nc->nklx", self.B[..., LINEAR + 9 :], feature)  # the neck's 9 are zero
        return (parts @ Q.mT).sum(1) @ axis_angle_to_matrix(rotation).mT + origin[:, None]

    def code_directions(self, columns: slice, rotation, jaw, eyes) -> Float[Tensor, "N L 3 C"]:
        """d points / d codes, exact: the landmarks are linear in them. `columns` of (shape, expr), 400 in all."""
        columns = slice(columns.start + 1, columns.stop + 1)
        turn = axis_angle_to_matrix(rotation)[:, None] @ self._matrices(jaw, eyes)  # [N, 4, 3, 3]
        return torch.einsum("nkxy,klyc->nlxc", turn, self.B[..., columns]) + self.J[:, columns]

    def _matrices(self, jaw, eyes) -> Float[Tensor, "N 4 3 3"]:
        turn = axis_angle_to_matrix(torch.stack([jaw, eyes[:, :3], eyes[:, 3:]], 1))  # [N, 3, 3, 3]
        return torch.cat([torch.eye(3).to(turn).expand(len(turn), 1, 3, 3), turn], 1)


@dataclass
class Fit:
    """A fitted video, in the axes of the head: the camera stands at the origin and looks along -z."""

    shape: Float[Tensor, "1 300"]
    expr: Float[Tensor, "N 100"]
    rotation: Float[Tensor, "N 3"]  # rad, as all poses
    jaw: Float[Tensor, "N 3"]
    eyes: Float[Tensor, "N 6"]
    translation: Float[Tensor, "N 3"]  # m
    focal: float  # px of the video

    def select(self, frames: Int[Tensor, " n"]) -> "Fit":
        """The same head in some of the frames."""
        names = ("expr", "rotation", "jaw", "eyes", "translation")
        return replace(self, **{name: getattr(self, name)[frames] for name in names})

    def params(self, i: int) -> dict[str, Tensor]:
        """Head.forward's keywords for frame i."""
        names = ("expr", "rotation", "jaw", "eyes", "translation")
        return {"shape": self.shape, "neck": torch.zeros(1, 3)} | {n: getattr(self, n)[i : i + 1] for n in names}

    def landmarks(self, rig: LandmarkRig, width: int, height: int) -> Float[Tensor, "N L 2"]:
        """Where the rig's landmarks are in the video, px."""
        x = rig.points(self.shape, self.expr, self.rotation, self.jaw, self.eyes, self.translation)
        return project(x, self.focal, width, height)


def project(points: Float[Tensor, "... 3"], focal: float | Tensor, width: int, height: int) -> Float[Tensor, "... 2"]:
    """Pixels of points seen along -z, with y up and the principal point in the middle."""
    xy = points[..., :2] * points.new_tensor([1.0, -1.0]) / -points[..., 2:]
    return focal * xy + points.new_tensor([width / 2, height / 2])
