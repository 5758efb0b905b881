"""One head, one focal length and a pose per frame from the landmarks of a whole video (Gauss-Newton, batched).

All frames share the shape and the focal length, so the normal equations have an arrow shape: a block per frame and
one border. The blocks are eliminated first (Schur complement), the border solved, the blocks back-substituted.
Every prior is a Gaussian with the standard deviation named in `FitConfig`, every residual is in pixels of the
512 x 512 crop divided by its noise, and landmarks far off lose weight as under a Cauchy distribution.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import trange

from data_scripts.track.landmarks import IRIS, LIDS, PAIRS, WEIGHTS
from data_scripts.track.rig import Fit, LandmarkRig, project
from sa0lib.head import N_EXPR, N_SHAPE, Head

POSE = {"rotation": (0, 1, 2), "jaw": (0, 1, 2), "eyes": (0, 1, 3, 4)}  # entries that are free: eyes do not roll
LOCAL = N_EXPR + 13  # unknowns of a frame: expression, then POSE in order, then translation
EYES = ((N_EXPR + 6, N_EXPR + 8), (N_EXPR + 7, N_EXPR + 9))  # the same turn of the left and of the right eye


@dataclass(frozen=True)
class FitConfig:
    """Noise and priors of the fit."""

    iterations: int = 12  # Gauss-Newton steps on shape, focal length and poses together
    iterations_pose: int = 6  # further steps on the poses alone, all frames
    joint_frames: int = 100  # frames, evenly spread, that determine shape and focal length
    noise: float = 1.2  # px: a landmark
    pair_noise: float = 0.6  # px: the opening between two lid or lip landmarks
    shut: float = 6.0  # px: an eye open by less hides its iris
    outlier: float = 3.0  # in noises: where a landmark's weight has fallen to a half
    focal: float = 1.4  # prior focal length over the longer side of the picture (50 mm on 36 mm film)
    focal_spread: float = 0.1  # prior standard deviation of its logarithm
    shape: float = 1.2  # prior standard deviation of a shape code
    shape_codes: int = 150  # leading shape codes that are fitted: 478 points do not see the finer ones
    expr: float = 0.7  # of an expression code
    jaw: tuple[float, float, float] = (0.3, 0.04, 0.04)  # rad, opening, sideways and roll
    eyes: float = 0.3  # rad
    squint: float = 0.03  # rad, one eye against the other
    step_expr: float = 0.1  # standard deviation of a frame against the mean of its neighbours
    step_rotation: float = 0.0005  # rad
    step_jaw: float = 0.01  # rad
    step_eyes: float = 0.05  # rad
    step_translation: float = 0.0002  # m
    chunk: int = 64  # frames whose derivatives are held at once


class LandmarkFit:
    """Solver for one video.

    Args:
        landmarks: [N, 478, 2] px of the video.
        scale: [N], pixels of the 512 crop per pixel of the video.
        frames: [N], number of each frame in the video; smoothness acts between consecutive ones.
    """

    def __init__(
        self,
        head: Head,
        landmarks: Float[Tensor, "N 478 2"],
        scale: Float[Tensor, " N"],
        frames: Int[Tensor, " N"],
        width: int,
        height: int,
        config: FitConfig,
    ):
        self.rig, self.config = LandmarkRig(head), config
        self.target, self.scale = landmarks, scale
        self.size, self.center = (width, height), torch.tensor([width / 2, height / 2])
        self.focal_prior = torch.tensor(config.focal * max(width, height)).log()
        self.weight = WEIGHTS.repeat(len(landmarks), 1)  # [N, 478]
        upper, lower = landmarks[:, torch.tensor(LIDS).T].unbind(1)  # [N, 6, 2]
        opening = scale[:, None] * (upper - lower).norm(dim=-1).unflatten(1, (2, 3)).mean(-1)  # [N, 2] crop px
        self.weight[:, IRIS] *= ((opening - config.shut) / config.shut).clamp(0.02, 1).repeat_interleave(5, 1)
        self.next_to = (frames[1:] - frames[:-1] <= 2).float()  # [N-1]
        n = len(landmarks)
        self.log_focal = self.focal_prior.clone()
        self.outlier, self.smooth = config.outlier, 0.0  # `fit` changes both on the way
        self.shape = torch.zeros(1, N_SHAPE)
        self.expr, self.eyes = torch.zeros(n, N_EXPR), torch.zeros(n, 6)
        self.jaw = torch.zeros(n, 3)
        self.rotation, self.translation = self._first_pose()

    def _first_pose(self) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Roll, distance and position by the plane similarity that takes the template's front view to the points."""
        zero = torch.zeros(1, 6)
        model = self.rig.points(self.shape, self.expr[:1], zero[:, :3], zero[:, :3], zero, zero[:, :3])[0]
        a = torch.view_as_complex((model[:, :2] * torch.tensor([1.0, -1.0])).contiguous())  # [L]
        b = torch.view_as_complex(self.target.contiguous())  # [N, L]
        a_mean, b_mean = a.mean(), b.mean(1)
        similarity = ((b - b_mean[:, None]) * (a - a_mean).conj()).sum(1) / (a - a_mean).abs().square().sum()  # [N]
        rotation = torch.zeros(len(b), 3)
        rotation[:, 2] = -similarity.angle()
        depth = self.log_focal.exp() / similarity.abs()
        offset = (b_mean - torch.view_as_complex(self.center)) / similarity.abs()
        translation = torch.stack([offset.real, -offset.imag, -depth], 1)
        turned = self.rig.points(self.shape, self.expr, rotation, self.jaw, self.eyes, torch.zeros(len(b), 3))
        return rotation, translation - turned.mean(1)

    def residuals(self, part: Int[Tensor, " n"], border: bool):
        """(Residuals [n, R], weights [n, R], Jacobian [n, R, LOCAL] and, if asked for, the border's [n, R, S + 1])."""
        shaped = self.rig.shaped(self.shape, self.expr[part])
        pose = (self.rotation[part], self.jaw[part], self.eyes[part])

        def points(*pose):
            return self.rig.turn(*shaped, *pose)

        x = points(*pose) + self.translation[part, None]  # [n, L, 3]
        columns = [self.rig.code_directions(slice(N_SHAPE, N_SHAPE + N_EXPR), *pose)]  # [n, L, 3, 100]
        for k, free in enumerate(POSE.values()):
            for entry in free:
                tangent = tuple(torch.zeros_like(p) for p in pose)
                tangent[k][:, entry] = 1
                columns.append(torch.func.jvp(points, pose, tangent)[1][..., None])
        columns.append(torch.eye(3).expand(*x.shape[:2], 3, 3))

        xy = project(x, self.log_focal.exp(), *self.size)
        gain = self.scale[part, None] * self.log_focal.exp() / -x[..., 2]  # [n, L] crop px per metre
        drop = (xy - self.center) / self.log_focal.exp()  # [n, L, 2]: how far a step towards the camera moves a point
        flip = torch.tensor([[1.0], [-1.0]])

        def to_pixels(d):  # [n, L, 3, C] -> [n, L, 2, C]
            return gain[..., None, None] * (flip * d[..., :2, :] + drop[..., None] * d[..., 2:, :])

        J = to_pixels(torch.cat(columns, -1))  # [n, L, 2, LOCAL (+ S + 1)]
        if border:
            zoom = self.scale[part, None, None] * (xy - self.center)  # d pixels / d log focal
            shape = self.rig.code_directions(slice(0, self.config.shape_codes), *pose)  # [n, L, 3, S]
            J = torch.cat([J, to_pixels(shape), zoom[..., None]], -1)
        r = self.scale[part, None, None] * (xy - self.target[part])  # [n, L, 2] crop px
        return self._weigh(r, J, self.weight[part])

    def _weigh(self, r, J, weight):
        """Append the openings of lids and lips, divide by the noise, take weight from what fits badly."""
        config, (a, b) = self.config, PAIRS.T
        r = torch.cat([r / config.noise, (r[:, a] - r[:, b]) / config.pair_noise], 1)  # [n, L + pairs, 2]
        J = torch.cat([J / config.noise, (J[:, a] - J[:, b]) / config.pair_noise], 1)
        weight = torch.cat([weight, torch.ones(len(r), len(a))], 1)
        weight = weight / (1 + r.square().sum(-1) / self.outlier**2)
        return r.flatten(1), weight.repeat_interleave(2, 1), J.flatten(1, 2)

    def _priors(self, part: Int[Tensor, " n"]):
        """(Precision [n, LOCAL, LOCAL], gradient [n, LOCAL]) of the priors and of the smoothness in time."""
        config = self.config
        x = self._pack()  # [N, LOCAL]
        steady = torch.cat([
            torch.full((N_EXPR,), config.expr), torch.full((3,), torch.inf), torch.tensor(config.jaw),
            torch.full((4,), config.eyes), torch.full((3,), torch.inf),
        ]) ** -2  # fmt: skip
        step = torch.cat([
            torch.full((N_EXPR,), config.step_expr), torch.full((3,), config.step_rotation),
            torch.full((3,), config.step_jaw), torch.full((4,), config.step_eyes),
            torch.full((3,), config.step_translation),
        ]) ** -2  # fmt: skip
        next_to = self.next_to * self.smooth
        before = torch.cat([torch.zeros(1), next_to])  # [N]: has a frame just before, just after
        after = torch.cat([next_to, torch.zeros(1)])
        total = before + after
        mean = before[:, None] * x.roll(1, 0) + after[:, None] * x.roll(-1, 0)
        mean = torch.where(total[:, None] > 0, mean / total.clamp_min(1)[:, None], x)
        x, mean, total = x[part], mean[part], total[part]
        gradient = steady * x + step * (x - mean)
        squint = torch.zeros(LOCAL, LOCAL)
        for left, right in EYES:
            squint[left, left] = squint[right, right] = config.squint**-2
            squint[left, right] = squint[right, left] = -(config.squint**-2)
        precision = torch.diag_embed(steady + step * (total[:, None] > 0)) + squint
        return precision, gradient + x @ squint

    def _pack(self) -> Float[Tensor, "N LOCAL"]:
        return torch.cat([
            self.expr, *(getattr(self, name)[:, list(free)] for name, free in POSE.items()), self.translation
        ], 1)  # fmt: skip

    def _move(self, part: Int[Tensor, " n"], step: Float[Tensor, "n LOCAL"]) -> None:
        """Add a step to the unknowns of some frames."""
        step, column = step.float(), N_EXPR
        self.expr[part] += step[:, :N_EXPR]
        for name, free in POSE.items():
            for entry in free:
                getattr(self, name)[part, entry] += step[:, column]
                column += 1
        self.translation[part] += step[:, column:]

    def bridge(self, part: Int[Tensor, " n"]) -> None:
        """Start every frame between its neighbours in `part`, which are fitted already."""
        index = torch.arange(len(self.target))
        right = torch.searchsorted(part, index).clamp(1, len(part) - 1)
        low, high = part[right - 1], part[right]
        share = ((index - low) / (high - low)).clamp(0, 1)[:, None]
        for name in (*POSE, "expr", "translation"):
            value = getattr(self, name)
            value.copy_(torch.lerp(value[low], value[high], share))

    def joint_step(self, part: Int[Tensor, " n"]) -> None:
        """One Gauss-Newton step on shape, focal length and the frames of `part`.

        A landmark's error is mostly its place on the mesh, the same in every frame: n frames tell no more about the
        shape than one. So the priors of the border count n times.
        """
        config = self.config
        codes = self.shape[:, : config.shape_codes]  # [1, S], a view
        spread = torch.cat([torch.full(codes.shape[1:], config.shape), torch.tensor([config.focal_spread])])
        border = torch.cat([codes[0], (self.log_focal - self.focal_prior)[None]])
        precision = len(part) * spread.double() ** -2  # [S + 1]
        H, gradient = precision.diag(), precision * border
        eliminated = []
        for chunk in part.split(config.chunk):
            r, w, J = self.residuals(chunk, border=True)
            wJ = w[..., None] * J
            g = (r[:, None] @ wJ)[:, 0].double()  # [n, LOCAL + S + 1]
            steady, prior = self._priors(chunk)
            D = (J[..., :LOCAL].mT @ wJ[..., :LOCAL] + steady).double()  # [n, LOCAL, LOCAL]
            C = J[..., :LOCAL].mT @ wJ[..., LOCAL:]  # [n, LOCAL, S + 1]
            L = torch.linalg.cholesky(D)
            x = torch.cholesky_solve((g[:, :LOCAL] + prior)[..., None], L)[..., 0]  # [n, LOCAL]
            half = torch.linalg.solve_triangular(L.float(), C, upper=False)  # [n, LOCAL, S + 1]
            outer = J[..., LOCAL:].flatten(0, 1).T @ wJ[..., LOCAL:].flatten(0, 1)
            H += (outer - half.flatten(0, 1).T @ half.flatten(0, 1)).double()
            gradient += g[:, LOCAL:].sum(0) - torch.einsum("nlb,nl->b", C.double(), x)
            eliminated.append((chunk, L, C, x))
        step = -torch.linalg.solve(H, gradient)  # [S + 1]
        for chunk, L, C, x in eliminated:
            self._move(chunk, -x - torch.cholesky_solve((C.double() @ step)[..., None], L)[..., 0])
        codes += step[:-1].float()
        self.log_focal += step[-1].float()

    def pose_step(self, part: Int[Tensor, " n"]) -> None:
        """One Gauss-Newton step on the frames of `part`, shape and focal length held."""
        r, w, J = self.residuals(part, border=False)
        precision, prior = self._priors(part)
        D = (J.mT @ (w[..., None] * J) + precision).double()
        g = ((r * w)[:, None] @ J)[:, 0] + prior
        self._move(part, -torch.cholesky_solve(g.double()[..., None], torch.linalg.cholesky(D))[..., 0])


def fit(
    head: Head,
    landmarks: Float[Tensor, "N 478 2"],
    scale: Float[Tensor, " N"],
    frames: Int[Tensor, " N"],
    width: int,
    height: int,
    config: FitConfig = FitConfig(),  # noqa: B008 (frozen)
) -> Fit:
    """Fit a head to the landmarks of a video; arguments as `LandmarkFit`."""
    solver = LandmarkFit(head, landmarks, scale, frames, width, height, config)
    everything = torch.arange(len(landmarks))
    spread = torch.linspace(0, len(landmarks) - 1, min(config.joint_frames, len(landmarks))).round().long()
    for i in trange(config.iterations, desc="fit shape and focal length", unit="step"):
        solver.outlier = config.outlier * max(1.0, 16.0 * 0.5**i)  # from least squares to robust
        solver.joint_step(spread)
    solver.bridge(spread)
    solver.smooth = 1.0
    for _ in trange(config.iterations_pose, desc="fit every frame", unit="step"):
        for turn in (everything[::2], everything[1::2]):  # neighbours in turn: moved together they would swing
            for chunk in turn.split(config.chunk):
                solver.pose_step(chunk)
    return Fit(
        solver.shape, solver.expr, solver.rotation, solver.jaw, solver.eyes, solver.translation,
        float(solver.log_focal.exp()),
    )  # fmt: skip
