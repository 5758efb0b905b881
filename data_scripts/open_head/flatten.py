"""Lay a disk-like triangle mesh flat on a given convex outline without ever turning a triangle over.

Two steps, both of which keep every triangle upright, so that no point of the plane is covered twice:

1. Tutte's embedding: every inner vertex sits at the mean of its neighbours.
2. Newton steps on the symmetric Dirichlet energy sum_t A_t (|J_t|^2 + |J_t^-1|^2), which is infinite for a
   triangle without area and smallest where the map is an isometry of the wanted triangle: the one in space,
   scaled to the size that it should have in the plane.

Tutte, "How to draw a graph" (1963); Smith and Schaefer, "Bijective parameterization with free boundaries" (2015).
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse.linalg import splu

STEPS = 100  # Newton steps at most; a head takes about 25
TOLERANCE = 1e-5  # stop when a step gains less than this part of the energy


def edges_of(faces: Int[ndarray, "F 3"]) -> Int[ndarray, "E 2"]:
    """Undirected edges, each once, the smaller vertex number first."""
    return np.unique(np.sort(_directed(faces), axis=1), axis=0)


def _directed(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def boundary_loop(faces: Int[ndarray, "F 3"]) -> Int[ndarray, " B"]:
    """The border of a disk, in the direction of its faces; empty for a closed surface.

    Raises ValueError for a surface that is neither a disk nor a sphere.
    """
    directed = _directed(faces)
    existing = set(map(tuple, directed.tolist()))
    following = {a: b for a, b in existing if (b, a) not in existing}
    loop = [min(following)] if following else []
    while loop and following[loop[-1]] != loop[0] and len(loop) < len(following):
        loop.append(following[loop[-1]])
    euler = len(np.unique(faces)) - (len(existing) + len(following)) // 2 + len(faces)
    if len(existing) != len(directed) or len(loop) != len(following) or euler != (1 if loop else 2):
        raise ValueError(
            f"{len(faces)} faces are neither a disk nor a sphere: Euler number {euler}, "
            f"{len(following)} border edges of which {len(loop)} are in the first loop"
        )
    return np.array(loop, dtype=np.int64)


def tutte(
    n: int, edges: Int[ndarray, "E 2"], border: Int[ndarray, " B"], uv_border: Float[ndarray, "B 2"]
) -> Float[ndarray, "n 2"]:
    """Every inner vertex at the mean of its neighbours, the border where it is put (a convex polygon)."""
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    adjacency = sp.coo_matrix((np.ones(len(i)), (i, j)), (n, n)).tocsr()
    laplacian = (sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
    inner = np.setdiff1d(np.arange(n), border)
    uv = np.zeros((n, 2))
    uv[border] = uv_border
    rows = laplacian[inner]
    uv[inner] = splu(rows[:, inner].tocsc()).solve(-rows[:, border] @ uv_border)
    return uv


class Flattening:
    """The symmetric Dirichlet energy of a triangulation's map to the plane, and its Newton step."""

    def __init__(self, vertices, faces, scale):
        """`vertices` [V, 3]; `scale` [F]: the wanted size of a triangle relative to its size in space."""
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        e1, e2 = b - a, c - a
        length = np.linalg.norm(e1, axis=1)
        along = (e1 * e2).sum(1) / length
        height = np.linalg.norm(np.cross(e1, e2), axis=1) / length
        # The wanted triangle in its own plane has the columns (length, 0) and (along, height).
        length, along, height = length * scale, along * scale, np.maximum(height, 1e-3 * length) * scale
        self.faces, self.n = faces, len(vertices)
        self.area = length * height / 2  # [F]
        inverse = np.zeros((len(faces), 2, 2))
        inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1] = 1 / length, -along / (length * height), 1 / height
        # J = [b - a, c - a] @ inverse is linear in the corners: J[r, s] = sum_k corner[k, r] * grad[k, s].
        self.grad = np.concatenate([-inverse.sum(1, keepdims=True), inverse], axis=1)  # [F, 3, 2]
        self.operator = np.einsum("fks,rq->frskq", self.grad, np.eye(2)).reshape(-1, 4, 6)  # J.flat = operator @ x
        self.columns = (2 * faces[:, :, None] + np.arange(2)).reshape(-1, 6)  # [F, 6] where a corner's u and v are

    def jacobians(self, uv):
        return np.einsum("fkr,fks->frs", uv[self.faces], self.grad)  # [F, 2, 2]

    def energy(self, uv) -> float:
        J = self.jacobians(uv)
        det = J[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * J[:, 1, 0]
        if not (det > 0).all():
            return np.inf
        return float((self.area * (J**2).sum((1, 2)) * (1 + det**-2)).sum())

    def derivatives(self, uv):
        """Gradient [2V] and a positive semidefinite Hessian [2V, 2V] of the energy."""
        J = self.jacobians(uv).reshape(-1, 4)
        cofactor = J[:, [3, 2, 1, 0]] * [1, -1, -1, 1]  # d det / dJ
        det = (J * cofactor).sum(1)[:, None] / 2
        square = (J**2).sum(1)[:, None]
        gradient = 2 * J * (1 + det**-2) - 2 * square * det**-3 * cofactor  # [F, 4]
        outer = J[:, :, None] * cofactor[:, None, :]
        det, square = det[:, :, None], square[:, :, None]
        swap = np.array([[0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0.0]])  # d2 det / dJ2
        hessian = (
            2 * (1 + det**-2) * np.eye(4)
            - 4 * det**-3 * (outer + outer.transpose(0, 2, 1))
            + 6 * square * det**-4 * cofactor[:, :, None] * cofactor[:, None, :]
            - 2 * square * det**-3 * swap
        )  # [F, 4, 4]
        values, vectors = np.linalg.eigh(hessian)
        hessian = (vectors * np.maximum(values, 0)[:, None, :]) @ vectors.transpose(0, 2, 1)
        weight = self.area[:, None, None]
        blocks = self.operator.transpose(0, 2, 1) @ (weight * hessian) @ self.operator  # [F, 6, 6]
        i = np.repeat(self.columns, 6, axis=1).ravel()
        j = np.tile(self.columns, (1, 6)).ravel()
        H = sp.coo_matrix((blocks.ravel(), (i, j)), (2 * self.n, 2 * self.n)).tocsc()
        g = np.einsum("fji,fj->fi", self.operator, weight[:, 0] * gradient)
        return np.bincount(self.columns.ravel(), g.ravel(), 2 * self.n), H

    def longest_step(self, uv, step) -> float:
        """The factor of `step` at which the first triangle loses its area, at most 1 / 0.9."""
        J, D = self.jacobians(uv), self.jacobians(step)
        a = D[:, 0, 0] * D[:, 1, 1] - D[:, 0, 1] * D[:, 1, 0]
        b = J[:, 0, 0] * D[:, 1, 1] + D[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * D[:, 1, 0] - D[:, 0, 1] * J[:, 1, 0]
        c = J[:, 0, 0] * J[:, 1, 1] - J[:, 0, 1] * J[:, 1, 0]
        root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            first = 2 * c / (-b + root)  # the stable form; the other root is later or negative for c > 0
        first = np.where((b * b - 4 * a * c >= 0) & (first > 0), first, np.inf)
        return min(first.min(), 1 / 0.9)

    def minimise(self, uv: Float[ndarray, "V 2"], unknowns: Float[sp.csc_matrix, "2V K"]) -> Float[ndarray, "V 2"]:
        """Projected Newton from a map without flips; uv moves along the columns of `unknowns` only."""
        energy = self.energy(uv)
        if not np.isfinite(energy):
            raise ValueError("the map to start from turns a triangle over: is the outline convex?")
        for _ in range(STEPS):
            gradient, H = self.derivatives(uv)
            reduced = (unknowns.T @ H @ unknowns).tocsc()
            reduced += sp.identity(reduced.shape[0]) * (1e-10 * reduced.diagonal().mean())
            g = unknowns.T @ gradient
            direction = -splu(reduced, permc_spec="MMD_AT_PLUS_A", options=dict(SymmetricMode=True)).solve(g)
            step = (unknowns @ direction).reshape(-1, 2)
            t = 0.9 * self.longest_step(uv, step)
            slope = float(g @ direction)
            while (new := self.energy(uv + t * step)) > energy + 1e-4 * t * slope:
                t /= 2
            uv, gain, energy = uv + t * step, energy - new, new
            if gain < TOLERANCE * energy:
                break
        return uv
