"""Strands of hair: how a path becomes a B-spline that stays out of the skin, and how it follows a moving head."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from data_scripts.worlds.hair.body import Skin
from data_scripts.worlds.hair.roots import Roots
from data_scripts.worlds.wear.parts import kabsch, skull_motion
from data_scripts.worlds.wear.torso import neck_loop
from sa0lib.head import Head
from sa0lib.mesh import vertex_normals

CLEAR = 4e-4  # metres that a strand keeps from the skin once it has left its root
FREE_ABOVE = 0.05  # metres above the neck's lower end from which hair begins to move with the neck
TOO_DEEP = 4e-4  # metres: strands that no push gets out further than this are pulled out altogether


@dataclass
class Tuft:
    """Strands of one pigment: uniform cubic B-splines, whose first and last control points lie beyond the ends."""

    name: Literal["scalp", "brows", "lashes", "beard"]
    points: Float[ndarray, "S P 3"]  # control points, metres, on the neutral person
    radius: Float[ndarray, "S P"]  # metres
    face: Int[ndarray, " S"]  # triangle of the root in head.faces
    bary: Float[ndarray, "S 3"]  # the root's place in it
    eumelanin: float  # concentration, as Mitsuba's hair BSDF takes it
    pheomelanin: float  # concentration
    roughness: float  # of the hair BSDF, longitudinal and azimuthal
    rides: Literal["skull", "skin"]  # what carries the strands when the face moves


def arc(path: Float[ndarray, "S K 3"]) -> Float[ndarray, "S K"]:
    """Length of each path up to each of its points, metres."""
    steps = np.linalg.norm(np.diff(path, axis=1), axis=2)
    return np.concatenate([np.zeros((len(path), 1), path.dtype), np.cumsum(steps, 1)], 1)


def resample(path: Float[ndarray, "S K 3"], last: Float[ndarray, " S"], n: int) -> Float[ndarray, "S n 3"]:
    """n points from the root to step `last` (a fraction is fine) of each path, closer together near the root."""
    share = np.linspace(0, 1, n) ** 1.25
    at = np.asarray(last)[:, None] * share  # [S, n]
    below = np.floor(at).astype(int).clip(0, path.shape[1] - 2)
    part = (at - below)[..., None].astype(np.float32)
    row = np.arange(len(path))[:, None]
    return (1 - part) * path[row, below] + part * path[row, below + 1]


def cut(samples: Float[ndarray, "S n 3"], last: Float[ndarray, " S"]) -> Float[ndarray, "S n 3"]:
    """The strands as they are, but those that end before their last sample ended there, with as many samples."""
    n = samples.shape[1]
    return np.where((last < n - 1)[:, None, None], resample(samples, last, n), samples)


def through(samples: Float[ndarray, "S n 3"]) -> Float[ndarray, "S n+2 3"]:
    """Control points of the uniform cubic B-splines through the samples, straight at both ends."""
    n = samples.shape[1]
    passes = np.eye(n) * 4 / 6 + np.eye(n, k=1) / 6 + np.eye(n, k=-1) / 6  # a curve's point by its control points
    passes[[0, -1]] = np.eye(n)[[0, -1]]
    control = np.einsum("ij,sjc->sic", np.linalg.inv(passes).astype(np.float32), samples, optimize=True)
    first, last = 2 * control[:, :1] - control[:, 1:2], 2 * control[:, -1:] - control[:, -2:-1]
    return np.concatenate([first, control, last], 1)


def _between(samples: Float[ndarray, "S n 3"], t: float) -> Float[ndarray, "S n-1 3"]:
    """The curves through the samples a share t of the way from each to the next."""
    c = through(samples)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return sum(w / 6 * c[:, k : c.shape[1] - 3 + k] for k, w in enumerate(weights))


def _raise_curves(samples: Float[ndarray, "S n 3"], gap: Float[ndarray, "S n"], skin: Skin):
    """Samples [S, n, 3] moved so that the curves are out of the skin between them too; for which [S] that worked."""
    samples, good = samples.copy(), np.ones(len(samples), bool)
    check = np.arange(len(samples))
    for _ in range(2):
        middle = _between(samples[check], 0.5)
        signed, normal = skin.distance(middle.reshape(-1, 3), 0.005)
        lack = np.maximum(0.5 * gap[check, 1:] - signed.reshape(middle.shape[:2]), 0)
        low = (lack > 1e-4).any(1)
        check = check[low]
        move = np.minimum(lack, 2e-3)[..., None] * normal.reshape(middle.shape)  # further is through an ear
        samples[check, 1:] += move[low]
        samples[check, 1:-1] += move[low, 1:]
    for t in (0.25, 0.5, 0.75):  # a strand through an ear can have its samples on either side
        signed = skin.distance(_between(samples, t).reshape(-1, 3))[0]
        good &= signed.reshape(len(samples), -1).min(1) > -TOO_DEEP
    return samples, good


def finish(
    name: str,
    roots: Roots,
    samples: Float[ndarray, "S n 3"],
    skin: Skin,
    width: Float[ndarray, " S"] | float,
    taper: float,
    pigment: tuple[float, float, float],
    rides: str,
    clear: float = CLEAR,
) -> Tuft:
    """A tuft of strands through the samples, with every point pushed out of the skin.

    `width` is the radius at the root in metres, `taper` what is left of it at the tip; `pigment` eumelanin,
    pheomelanin, roughness. The few strands that cannot be got out are left out.
    """
    gap = np.minimum(clear, 0.3 * arc(samples)).astype(np.float32)
    gap[:, 0] = -np.inf  # the root stays where it is
    samples = skin.push_out(samples, gap)
    samples, good = _raise_curves(samples, gap, skin)
    roots, samples = roots[good], samples[good]
    points = through(samples)
    shape = np.interp(np.arange(points.shape[1]), [0, 0.5 * points.shape[1], points.shape[1] - 1], [1, 1, taper])
    radius = np.broadcast_to(np.asarray(width, np.float32), len(good))[good, None] * shape[None]
    # Mitsuba reads past its arrays where a ray meets the very end of the last curve of a shape: leave nothing to meet.
    radius = radius.copy()
    radius[-1:, -3:] = 0
    eumelanin, pheomelanin, roughness = (float(x) for x in pigment)
    return Tuft(
        name,
        points.astype(np.float32),
        radius.astype(np.float32),
        roots.face.astype(np.int64),
        roots.bary.astype(np.float32),
        eumelanin,
        pheomelanin,
        roughness,
        rides,
    )


def follow(
    tuft: Tuft, neutral: Float[ndarray, "V 3"], posed: Float[ndarray, "V 3"], head: Head
) -> Float[ndarray, "S P 3"]:
    """The control points of the tuft when the neutral person's vertices (metres) have become `posed`.

    Hair on the skull moves rigidly with it, and from below the jaw on ever more with the rest of the neck, as it
    would lie on the shoulders; hair in the skin moves with the frame at its root: point, smooth normal, first edge.
    """
    faces = head.faces.numpy()
    if tuft.rides == "skull":
        R, t = skull_motion(neutral, posed, head)
        with_skull = tuft.points @ R.as_matrix().T + t
        loop = neck_loop(head)
        R, t = kabsch(neutral[loop], posed[loop])
        low = neutral[loop, 1].mean()
        share = np.clip((low + FREE_ABOVE - tuft.points[..., 1:2]) / FREE_ABOVE, 0, 1)
        share = share * share * (3 - 2 * share)
        with_neck = tuft.points @ R.as_matrix().T + t
        return (with_skull + share * (with_neck - with_skull)).astype(np.float32)

    used, local = np.unique(faces[tuft.face], return_inverse=True)
    corners = local.reshape(-1, 3)
    mesh = faces[np.isin(faces, used).any(1)]

    def frame(vertices):
        normal = vertex_normals(vertices, mesh)[used][corners]  # [S, 3, 3]
        at = vertices[used][corners].astype(np.float64)
        weight = tuft.bary[..., None]
        normal = (normal * weight).sum(1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        edge = at[:, 1] - at[:, 0]
        side = np.cross(normal, edge)
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-20)
        return np.stack([np.cross(side, normal), normal, side], -1), (at * weight).sum(1)

    before, root = frame(neutral)
    after, moved = frame(posed)
    turn = after @ before.transpose(0, 2, 1)  # [S, 3, 3]
    return (np.einsum("sij,spj->spi", turn, tuft.points - root[:, None], optimize=True) + moved[:, None]).astype(
        np.float32
    )
