"""Eyebrows and eyelashes: short strands placed by MediaPipe's points on the mean head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.hair.body import Skin, regions
from data_scripts.worlds.hair.roots import carry, locate, place, scatter
from sa0lib.head import Head

# MediaPipe's points on the left, from the nose outwards (brow) and from the inner corner outwards (lids).
BROW_UPPER, BROW_LOWER = (336, 296, 334, 293, 300), (285, 295, 282, 283, 276)
LID_UPPER = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LID_LOWER = (362, 382, 381, 380, 374, 373, 390, 249, 263)


@dataclass(frozen=True)
class Brows:
    thickness: float  # metres, full height where it is thickest
    arch: float  # metres by which the middle is lifted or (negative) lowered
    height: float  # metres by which the whole brow is moved
    length: float  # metres of one hair
    density: float  # 0 to 1, 1 without gaps
    tidy: float  # 0 bushy, 1 plucked


@dataclass(frozen=True)
class Lashes:
    upper: float  # metres of one lash
    lower: float  # metres of one on the lower lid
    curl: float  # 0 straight to 1 strongly upturned
    count: int  # on one upper lid


def mean_points(head: Head, numbers) -> Float[ndarray, "n 3"]:
    """MediaPipe points of the mean head."""
    return head.landmarks(head.v_template[None], "478")[0, list(numbers)].numpy()


def _along(head: Head):
    """Functions of |x| on the mean head: height of the brow's middle, and how far along it is, 0 to 1."""
    upper, lower = mean_points(head, BROW_UPPER), mean_points(head, BROW_LOWER)
    middle = 0.5 * (upper + lower) - [0, 0.001, 0]
    middle[0, 1] = 0.6 * middle[0, 1] + 0.4 * lower[0, 1] + 0.001  # the head of the brow lies low
    x, y = middle[:, 0], middle[:, 1]
    start, end = x[0] - 0.002, x[-1] + 0.001
    fit = np.polynomial.Polynomial.fit(x, y, 3)
    return fit, lambda at: (at - start) / (end - start)


def brow_density(brows: Brows, head: Head, points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """0 to 1 at points of the mean head, both sides."""
    height, share = _along(head)
    across = np.abs(points[:, 0])
    u = share(across)
    middle = height(across) + brows.height + brows.arch * np.exp(-(((u - 0.62) / 0.25) ** 2))
    half = 0.5 * brows.thickness * np.interp(u, [-0.05, 0.08, 0.35, 0.6, 1.02], [0.55, 0.95, 1.0, 0.8, 0.12])
    off = np.abs(points[:, 1] - middle) / half
    soft = 0.45 - 0.25 * brows.tidy
    dense = np.clip((1 + soft - off) / (2 * soft), 0, 1) * np.interp(u, [-0.04, 0.1, 0.85, 1.02], [0, 1, 1, 0])
    return brows.density * dense * (np.interp(u, [0, 0.2], [0.55, 1])) * (points[:, 2] > -0.02)


def grow_brows(brows: Brows, head: Head, vertices, skin: Skin, rng: np.random.Generator, strands: float):
    """Roots and samples [S, 6, 3] of both eyebrows."""
    allowed = np.nonzero(regions(head, "face"))[0]
    roots = scatter(head, vertices, lambda p: brow_density(brows, head, p), allowed, 0.85e6 * strands, rng)
    height, share = _along(head)
    x, y, _ = roots.template.T
    u, n = share(np.abs(x)), len(x)
    sign = np.sign(x)
    slope = height.deriv()(np.abs(x))
    outward = np.stack([sign, slope, -0.35 - 0.5 * u], 1)
    up = np.stack([0 * x, 1 + 0 * x, -0.15 + 0 * x], 1)
    # Upright at the nose, along the brow further out; the lower edge combed up and the upper one down to the ridge.
    above = (y - height(np.abs(x)) - brows.height) / brows.thickness
    angle = np.interp(u, [0, 0.12, 0.35, 1], [1.25, 0.95, 0.45, 0.02]) - 0.55 * above * (u > 0.15)
    angle = angle + (0.28 - 0.16 * brows.tidy) * rng.standard_normal(n)
    unit = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    on_mean = np.cos(angle)[:, None] * unit + np.sin(angle)[:, None] * up
    d = carry(head, vertices, roots.face, on_mean)
    d -= 0.97 * roots.normal * (d * roots.normal).sum(1, keepdims=True)
    long = brows.length * np.interp(u, [0, 0.25, 0.8, 1], [0.75, 1, 0.9, 0.65]) * rng.uniform(0.7, 1.1, n)
    s = np.linspace(0, 1, 6)[None, :, None]
    bend = (0.3 * rng.standard_normal(n) - 0.25 * np.sign(sign))[:, None]  # a little sideways, over its length
    side = np.cross(roots.normal, d)
    long = long[:, None, None]
    rise = 0.0009 * np.sin(np.pi * np.minimum(s, 0.8)) + 0.0002 * s
    samples = roots.point[:, None] + long * s * (d[:, None] + 0.2 * s * (bend * side)[:, None])
    return roots, (samples + rise * roots.normal[:, None]).astype(np.float32)


def grow_lashes(lashes: Lashes, head: Head, vertices, rng: np.random.Generator, strands: float):
    """Roots and samples [S, 6, 3] of the lashes on all four lids."""
    points, upper, u = [], [], []
    for numbers, share in ((LID_UPPER, 1.0), (LID_LOWER, 0.6)):
        margin = mean_points(head, numbers)
        for sign in (1, -1):
            n = max(round(share * lashes.count * strands), 6)
            at = (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n * 0.86 + 0.07  # none in the corners
            t = at * (len(margin) - 1)
            points.append(
                np.stack([np.interp(t, np.arange(len(margin)), margin[:, k]) for k in range(3)], 1) * [sign, 1, 1]
            )
            upper.append(np.full(n, share == 1.0))
            u.append(at)
    upper, u = np.concatenate(upper), np.concatenate(u)
    face, bary = locate(head, np.concatenate(points), np.nonzero(regions(head, "face"))[0])
    roots = place(head, vertices, face, bary, np.ones(len(face)))
    n = len(face)

    region = head.region.numpy()
    left = roots.template[:, 0] > 0
    eyes = [vertices[region == head.region_names.index(side)].mean(0) for side in ("eye_left", "eye_right")]
    out = roots.point - np.where(left[:, None], *eyes)
    out[:, 1] *= 0.3
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    sideways = np.where(left, 1.0, -1.0) * ((u - 0.45) * 0.7 + 0.12 * rng.standard_normal(n))  # a fan
    start = out + sideways[:, None] * [1, 0, 0] - np.where(upper, 0.15, 0.1)[:, None] * [0, 1, 0]
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    rise = np.where(upper, 0.3 + 0.7 * lashes.curl, -0.45)[:, None] * [0, 1, 0]
    s = np.linspace(0, 1, 6)[None, :, None]
    long = np.where(upper, lashes.upper, lashes.lower) * np.interp(u, [0, 0.35, 0.7, 1], [0.55, 0.95, 1.0, 0.3])
    long = (long * rng.uniform(0.75, 1.1, n))[:, None, None]
    samples = roots.point[:, None] + long * (s * start[:, None] + s**1.6 * rise[:, None])
    return roots, samples.astype(np.float32)
