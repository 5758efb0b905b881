"""Where hair leaves the skin: roots spread over a person by a mask drawn on the mean head."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from sa0lib.head import Head
from sa0lib.mesh import vertex_normals


@dataclass
class Roots:
    """Where strands leave the skin."""

    face: Int[ndarray, " S"]
    bary: Float[ndarray, "S 3"]
    template: Float[ndarray, "S 3"]  # metres on the mean head, where masks and styles are drawn
    point: Float[ndarray, "S 3"]  # metres on the person
    normal: Float[ndarray, "S 3"]  # unit, on the person, smooth
    density: Float[ndarray, " S"]  # of the mask, 0 to 1

    def __getitem__(self, index) -> "Roots":
        return Roots(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def place(head: Head, vertices: Float[ndarray, "V 3"], face, bary, density) -> Roots:
    """Roots at these places of the mesh."""
    faces = head.faces.numpy()
    corners, weight = faces[face], bary[..., None].astype(np.float32)
    normal = (vertex_normals(vertices, faces)[corners] * weight).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    on_mean = (head.v_template.numpy()[corners] * weight).sum(1)
    return Roots(face, bary, on_mean, (vertices[corners] * weight).sum(1), normal.astype(np.float32), density)


def scatter(
    head: Head,
    vertices: Float[ndarray, "V 3"],
    density: Callable[[Float[ndarray, "N 3"]], Float[ndarray, " N"]],
    allowed: ndarray,
    per_area: float,
    rng: np.random.Generator,
) -> Roots:
    """Roots spread evenly over the person's skin, `per_area` a square metre where the density is 1.

    `density` (0 to 1) is asked at points of the mean head; `allowed` lists the faces that may carry hair at all.
    """
    faces = head.faces.numpy()
    a, b, c = (vertices[faces[allowed, k]].astype(np.float64) for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    # Four candidates a root, evenly over the faces, then every fourth by density: even within a face as well.
    reached = np.cumsum(area * per_area * 4)
    ticks = np.arange(int(reached[-1])) + rng.uniform(size=int(reached[-1]))
    face = allowed[np.searchsorted(reached, ticks.clip(0, reached[-1] * (1 - 1e-12)))]
    # The plastic number's lattice fills the unit square evenly; folded over, it fills a triangle.
    lattice = (np.arange(1, len(face) + 1)[:, None] * [0.7548776662466927, 0.5698402909980532]) % 1
    lattice = np.where(lattice.sum(1, keepdims=True) > 1, 1 - lattice, lattice)
    bary = np.concatenate([1 - lattice.sum(1, keepdims=True), lattice], 1)
    at = (head.v_template.numpy()[faces[face]] * bary[..., None]).sum(1)
    dense = density(at)
    chosen = np.nonzero(np.diff(np.floor(np.cumsum(dense) / 4 + rng.uniform()), prepend=0) >= 1)[0]
    return place(head, vertices, face[chosen], bary[chosen], dense[chosen])


def locate(head: Head, points: Float[ndarray, "N 3"], allowed: ndarray) -> tuple[ndarray, ndarray]:
    """Face [N] and barycentric place [N, 3] on the mean head nearest to these points of it, among `allowed` faces."""
    corners = head.v_template.numpy()[head.faces.numpy()[allowed]].astype(np.float64)  # [A, 3, 3]
    near = cKDTree(corners.mean(1)).query(points, k=12)[1]  # [N, 12]
    a, b, c = (corners[near, k] for k in range(3))  # [N, 12, 3]
    edges = np.stack([b - a, c - a], -1)  # [N, 12, 3, 2]
    flat = np.linalg.pinv(edges) @ (points[:, None] - a)[..., None]  # in the triangle's plane
    bary = np.concatenate([1 - flat.sum(-2), flat[..., 0]], -1).clip(0)
    bary /= bary.sum(-1, keepdims=True)
    missed = np.linalg.norm((corners[near] * bary[..., None]).sum(2) - points[:, None], axis=2)
    row, best = np.arange(len(points)), missed.argmin(1)
    return allowed[near[row, best]], bary[row, best]


def carry(head: Head, vertices: Float[ndarray, "V 3"], face: Int[ndarray, " S"], vectors: Float[ndarray, "S 3"]):
    """Directions [S, 3] on the mean head's triangles as unit directions on the person's."""
    corners = head.faces.numpy()[face]

    def frame(points):
        a, b, c = (points[corners[:, k]].astype(np.float64) for k in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.sqrt(np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20))
        return np.stack([b - a, c - a, normal], -1)  # [S, 3, 3]

    there = frame(vertices) @ np.linalg.solve(frame(head.v_template.numpy()), vectors[..., None])
    there = there[..., 0]
    return (there / np.maximum(np.linalg.norm(there, axis=1, keepdims=True), 1e-20)).astype(np.float32)
