"""Joints, skinning weights and pose correctives: root, neck, jaw and two eyes, as in FLAME."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from data_scripts.open_head.basis import mirror_map
from data_scripts.open_head.makehuman import HeadMesh, bones_under, load_rig_weights
from data_scripts.open_head.surface import Surface
from data_scripts.open_head.teeth import follow_guide

ROOT, NECK, JAW, EYE_L, EYE_R = range(5)
PARENTS = (-1, ROOT, NECK, NECK, NECK)


def rotation_matrix(axis_angle: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Rodrigues' formula, float64."""
    angle = np.linalg.norm(axis_angle)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = axis_angle / angle
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


@dataclass
class JawFit:
    """The hinge that the base mesh's jawOpen is a rotation about."""

    angle: float  # radians about +x at full opening
    pivot: Float[ndarray, "3"]  # metres, on the midline
    residual: float  # metres, mean distance of the lower teeth from the rotated ones


@dataclass
class Skeleton:
    """Joints, weights and pose correctives on the mean head."""

    jaw: JawFit
    joints: Float[ndarray, "5 3"]  # metres
    regressor: Float[ndarray, "5 V"]  # rows sum to one, few entries each
    weights: Float[ndarray, "V 5"]
    posedirs: Float[ndarray, "V 3 36"]
    regressor_error: dict[str, float]  # metres, mean over heads, of the regressed neck and jaw

    def set_jaw_corrective(self, displacement: Float[ndarray, "V 3"]) -> None:
        """Displacement before skinning at full opening; grows with the sine of the opening angle.

        In a rotation about x, R[2, 1] = sin and R[1, 2] = -sin: half of the corrective goes with each.
        """
        feature = 9 * (JAW - 1)
        self.posedirs[:, :, feature + 7] = displacement / (2 * np.sin(self.jaw.angle))
        self.posedirs[:, :, feature + 5] = -displacement / (2 * np.sin(self.jaw.angle))


def build_skeleton(
    mesh: HeadMesh, surface: Surface, heads: Float[ndarray, "B K 3"], jaw_open: Float[ndarray, "K 3"]
) -> Skeleton:
    """Joints, regressor and weights. heads: aligned sample heads, which the regressor has to follow."""
    V, skin_rows = len(surface.vertices), surface.parts["skin"]
    lower = surface.guides["teeth_lower"]
    jaw = fit_jaw_hinge(surface.guide[lower], jaw_open[lower])
    models = surface.vertices + surface.lift(heads - surface.guide)  # [B, V, 3]
    at = {name: heads[:, rows].mean(axis=1) for name, rows in mesh.helpers.items()}  # [B, 3] each

    # The jaw's hinge has no rig joint of its own: it is the mix of three of them that is right on the mean head.
    rig = ("joint-head", "joint-mouth", "joint-jaw")
    corners = np.stack([surface.guide[mesh.helpers[name]].mean(axis=0) for name in rig])
    mix = np.linalg.solve(np.vstack([corners[:, 1:].T, np.ones(3)]), np.append(jaw.pivot[1:], 1.0))
    hinge = sum(share * at[name] for share, name in zip(mix, rig, strict=True))
    neck = 0.5 * (at["joint-neck"] + at["joint-head"])

    regressor = np.zeros((5, V))
    border = neck_border(surface)
    regressor[ROOT, border] = 1.0 / len(border)
    for joint, part in ((EYE_L, "eye_left"), (EYE_R, "eye_right")):
        rows = surface.parts[part]
        regressor[joint, [rows.start, rows.stop - 1]] = 0.5  # the middle between the ball's two poles
    error = {}
    for joint, name, wanted in ((NECK, "neck", neck), (JAW, "jaw", hinge)):
        support = _around(surface.vertices[skin_rows], wanted.mean(axis=0), 160)
        row = joint_regressor_row(models, wanted, support)
        regressor[joint] = 0.5 * (row + row[mirror_map(surface.vertices)])  # the joints lie on the midline
        error[name] = float(np.linalg.norm(np.einsum("v,bvc->bc", regressor[joint], models) - wanted, axis=1).mean())

    weights = _skinning_weights(mesh, surface, jaw, jaw_open)
    return Skeleton(jaw, regressor @ surface.vertices, regressor, weights, np.zeros((V, 3, 36)), error)


def neck_border(surface: Surface) -> Int[ndarray, " n"]:
    """The loop of vertices at the cut through the neck: the only open edge of the skin."""
    skin_faces = surface.faces[(surface.faces < surface.parts["skin"].stop).all(axis=1)]
    edges = np.sort(skin_faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    return np.unique(edges[count == 1])


def _around(vertices: Float[ndarray, "N 3"], point: Float[ndarray, "3"], count: int) -> Int[ndarray, " n"]:
    """Mirror-symmetric set of the vertices that are closest to a point on the midline, width counting less."""
    distance = np.linalg.norm((vertices - point) * [0.3, 1, 1], axis=1)
    return np.nonzero(distance <= np.sort(distance)[count - 1] + 1e-9)[0]


def _skinning_weights(mesh: HeadMesh, surface: Surface, jaw: JawFit, jaw_open) -> Float[ndarray, "V 5"]:
    """Neck from the rig, jaw from the fit to jawOpen, eyes and lower teeth rigid, tongue with the jaw."""
    names, parents, rig = load_rig_weights(mesh)
    upper, middle = names.index("neck03"), names.index("neck02")
    neck = rig[:, bones_under(names, parents, "head")].sum(axis=1) + rig[:, upper] + 0.5 * rig[:, middle]
    V, n = len(surface.vertices), len(surface.kept)
    neck = np.concatenate([neck[surface.kept], np.ones(V - n)])
    share = np.zeros(V)
    share[:n] = jaw_weights(surface.guide[surface.kept], jaw_open[surface.kept], jaw)
    share[surface.parts["tongue"]] = 1
    share[surface.parts["teeth_lower"]] = 1
    share = np.minimum(share, neck)
    weights = np.zeros((V, 5))
    weights[:, ROOT], weights[:, NECK], weights[:, JAW] = np.maximum(1 - neck, 0), neck - share, share
    for joint, part in ((EYE_L, "eye_left"), (EYE_R, "eye_right")):
        weights[surface.parts[part]] = np.eye(5)[joint]
    return weights


def fit_jaw_hinge(points: Float[ndarray, "n 3"], displacement: Float[ndarray, "n 3"]) -> JawFit:
    """Rotation about an x-parallel axis that takes `points` to `points + displacement` best (2-D Procrustes)."""
    start, end = points[:, 1:], points[:, 1:] + displacement[:, 1:]  # [n, 2] y, z
    a, b = start - start.mean(axis=0), end - end.mean(axis=0)
    moment = a.T @ b
    angle = np.arctan2(moment[0, 1] - moment[1, 0], moment[0, 0] + moment[1, 1])
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pivot = np.linalg.solve(np.eye(2) - R, end.mean(axis=0) - R @ start.mean(axis=0))
    residual = np.linalg.norm((start - pivot) @ R.T + pivot - end, axis=1).mean()
    return JawFit(float(angle), np.array([0.0, *pivot]), float(residual))


def fit_yaw(points: Float[ndarray, "n 3"], displacement: Float[ndarray, "n 3"], pivot: Float[ndarray, "3"]) -> float:
    """Small rotation about the y-parallel axis through `pivot` that best explains a sideways displacement."""
    arm = points - pivot
    moving = np.stack([arm[:, 2], np.zeros(len(arm)), -arm[:, 0]], axis=1)  # d/d(yaw) of the rotated points
    return float((moving * displacement).sum() / (moving**2).sum())


def fit_gaze(eyeball: Float[ndarray, "n 3"], displacement: Float[ndarray, "n 3"]) -> Float[ndarray, "3"]:
    """Axis-angle that turns the pupil to where the action moves it, seen from the eyeball's centre.

    (The base mesh's actions shift the eyeball as well as turning it; a joint turns it about its centre only.)
    """
    centre = eyeball.mean(axis=0)
    radius = np.linalg.norm(eyeball - centre, axis=1).mean()
    pupil = centre + [[0, 0, radius]]
    direction = (pupil + follow_guide(pupil, eyeball, displacement) - centre)[0]
    axis = np.cross([0, 0, 1], direction)
    return axis / np.linalg.norm(axis) * np.arctan2(np.linalg.norm(axis), direction[2])


def jaw_weights(
    vertices: Float[ndarray, "V 3"], displacement: Float[ndarray, "V 3"], jaw: JawFit, ridge: float = 4e-3
) -> Float[ndarray, " V"]:
    """Share of the full jaw rotation that each vertex's jawOpen displacement is closest to, in [0, 1].

    ridge (metres) keeps vertices close to the hinge, which barely move whatever their weight, from taking wild ones.
    """
    full = (vertices - jaw.pivot) @ rotation_matrix(np.array([jaw.angle, 0, 0])).T + jaw.pivot - vertices
    return np.clip((full * displacement).sum(axis=1) / ((full**2).sum(axis=1) + ridge**2), 0, 1)


def joint_regressor_row(
    heads: Float[ndarray, "B V 3"], joint: Float[ndarray, "B 3"], support: Int[ndarray, " n"], ridge: float = 5e-4
) -> Float[ndarray, " V"]:
    """Weights on the `support` vertices, summing to one, whose mean follows `joint` over all heads.

    Least squares with a pull towards equal weights, min |A w - b|^2 / B + ridge^2 |w - 1/n|^2 subject to sum w = 1:
    a linear system by Lagrange's multiplier.
    """
    n = len(support)
    A = heads[:, support].transpose(0, 2, 1).reshape(-1, n)  # [3B, n]
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = A.T @ A / len(heads) + ridge**2 * np.eye(n)
    system[n, n] = 0
    right = np.append(A.T @ joint.reshape(-1) / len(heads) + ridge**2 / n, 1.0)
    row = np.zeros(heads.shape[1])
    row[support] = np.linalg.solve(system, right)[:n]
    return row


def skin(
    vertices: Float[ndarray, "V 3"],
    joints: Float[ndarray, "5 3"],
    weights: Float[ndarray, "V 5"],
    pose: Float[ndarray, "5 3"],
) -> tuple[Float[ndarray, "V 3"], Float[ndarray, "V 3 3"]]:
    """Linear blend skinning of one head and the linear part each vertex went through (float64 reference)."""
    linear, shift = [], []
    for joint, parent in enumerate(PARENTS):
        R = rotation_matrix(pose[joint])
        local = joints[joint] - R @ joints[joint]
        if parent >= 0:
            local = linear[parent] @ local + shift[parent]
            R = linear[parent] @ R
        linear.append(R)
        shift.append(local)
    A = np.einsum("vj,jab->vab", weights, np.stack(linear))  # [V, 3, 3]
    return np.einsum("vab,vb->va", A, vertices) + weights @ np.stack(shift), A


def pose_feature(pose: Float[ndarray, "5 3"]) -> Float[ndarray, "36"]:
    """FLAME's pose feature: R - I of the four joints after the root, row-major."""
    return np.concatenate([(rotation_matrix(p) - np.eye(3)).ravel() for p in pose[1:]])
