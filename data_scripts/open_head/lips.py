"""Close the lips of neutral heads.

The lips of the base mesh are two rounded rolls; shape targets move them apart or into each other by up to some
millimetres. A neutral face has a closed mouth, so every head is corrected by half of the gap from either side: an
affine map, which leaves the principal directions linear.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.open_head.makehuman import MESH_GROUPS, HeadMesh, mask

STATIONS = 25  # places along the mouth where the gap is measured
REACH = 0.90  # of the lips' half width: further out the two rolls have merged
OVERLAP = 0.1e-3  # how far the lips press into each other, metres: no light comes through
SPREAD = 2.5e-3  # metres over which neighbouring gaps are averaged
FADE = 8e-3  # metres over which the correction fades into the face
RIDGE = 0.02  # of the averaging when it is undone at the stations; keeps the lip line smooth


@dataclass
class LipSeal:
    gap: Float[ndarray, "n K"]  # gap at each station as a weighted sum of vertex heights
    share: Float[ndarray, "K n"]  # how far each vertex moves down per metre of each gap

    def __call__(self, heads: Float[ndarray, "B K 3"]) -> Float[ndarray, "B K 3"]:
        """The heads with their lips closed."""
        closed = heads.copy()
        closed[:, :, 1] -= (heads[:, :, 1] @ self.gap.T + OVERLAP) @ self.share.T
        return closed


def fit_lip_seal(mesh: HeadMesh, head: Float[ndarray, "K 3"], jaw_open: Float[ndarray, "K 3"]) -> LipSeal:
    """Find where the two lips meet on the mean head. jaw_open: that action's displacement, which tells them apart."""
    skin_faces = mesh.faces[mesh.group == MESH_GROUPS.index("body")]
    zone = head[: mesh.n_head][mask(mesh, "lips") > 0.5]
    low, high = zone.min(axis=0) - [3e-3, 3e-3, 9e-3], zone.max(axis=0) + 3e-3  # the rolls' inner side, too
    near = ((head > low) & (head < high)).all(axis=1)
    faces = skin_faces[near[skin_faces].all(axis=1)]
    half = REACH * np.abs(zone[:, 0]).max()
    gap, upper, lower = np.zeros((STATIONS, len(head))), [], []
    for row, x in zip(gap, np.linspace(-half, half, STATIONS), strict=True):
        for sign, (weights, point) in zip((1.0, -1.0), _contact(head, faces, -jaw_open[:, 1], x), strict=True):
            for vertex, weight in weights:
                row[vertex] += sign * weight
            (upper if sign > 0 else lower).append(point)
    upper, lower = np.array(upper), np.array(lower)
    seam = 0.5 * (upper + lower)
    skin = np.unique(skin_faces)
    above = head[skin, 1] > np.interp(head[skin, 0], seam[:, 0], seam[:, 1])
    share = np.zeros((len(head), STATIONS))
    for side, crest, sign in ((skin[above], upper, 0.5), (skin[~above], lower, -0.5)):
        distance = np.linalg.norm(head[side, None] - crest[None], axis=2)  # [s, n]
        nearest = distance.min(axis=1, keepdims=True)
        kernel = np.exp((nearest**2 - distance**2) / SPREAD**2)
        fade = np.exp(-((nearest / FADE) ** 2)) * (nearest < 3 * FADE)
        share[side] = sign * fade * kernel / kernel.sum(axis=1, keepdims=True)
    smooth = gap @ share  # [n, n] how much of each gap a unit correction at every station closes
    undo = np.linalg.solve(smooth.T @ smooth + RIDGE * np.eye(STATIONS), smooth.T)
    return LipSeal(gap, share @ undo)


def _contact(head, faces, drop, x: float):
    """The points of the upper and of the lower lip that are closest, one above the other, in the plane at x.

    Each comes as ([(vertex, weight), ...], point); a face that the plane cuts gives one segment of the lips' outline.
    """
    side = head[faces, 0] < x
    faces = faces[side.any(axis=1) & ~side.all(axis=1)]
    segments = []
    for face in faces:
        ends = []
        for a, b in ((face[0], face[1]), (face[1], face[2]), (face[2], face[0])):
            if (head[a, 0] < x) != (head[b, 0] < x):
                t = (x - head[a, 0]) / (head[b, 0] - head[a, 0])
                ends.append(((a, b, t), (1 - t) * head[a] + t * head[b], (1 - t) * drop[a] + t * drop[b]))
        segments.append(ends)
    z = np.array([[end[1][2] for end in ends] for ends in segments])  # [s, 2]
    y = np.array([[end[1][1] for end in ends] for ends in segments])
    fall = np.array([[end[2] for end in ends] for ends in segments]).mean(axis=1)
    falls = fall > 0.5 * (fall.min() + fall.max())
    best = (np.inf, None)
    for at in np.arange(z.min(), z.max(), 0.2e-3):
        spans = (z.min(axis=1) <= at) & (at < z.max(axis=1))
        u = (at - z[:, 0]) / np.where(spans, z[:, 1] - z[:, 0], 1)
        height = (1 - u) * y[:, 0] + u * y[:, 1]
        roof, floor = np.flatnonzero(spans & ~falls), np.flatnonzero(spans & falls)
        if len(roof) and len(floor):
            i, j = roof[height[roof].argmin()], floor[height[floor].argmax()]
            if height[i] - height[j] < best[0]:
                best = (height[i] - height[j], ((i, u[i]), (j, u[j])))
    result = []
    for i, u in best[1]:
        weights, point = [], np.zeros(3)
        for (corner, position, _), share in zip(segments[i], (1 - u, u), strict=True):
            a, b, t = corner
            weights += [(a, share * (1 - t)), (b, share * t)]
            point += share * position
        result.append((weights, point))
    return result
