"""Beards: where the hair of a man's face grows, drawn on the mean head, and how it hangs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.path import Path
from numpy import ndarray

from data_scripts.worlds.hair.body import Skin, regions
from data_scripts.worlds.hair.growth import unit
from data_scripts.worlds.hair.roots import scatter
from data_scripts.worlds.hair.scalp import around, smooth
from sa0lib.head import Head

OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
STEPS = 12


@dataclass(frozen=True)
class Beard:
    name: Literal["none", "stubble", "moustache", "goatee", "full short", "full long"]  # where it grows
    length: float  # metres, at the chin
    density: float  # 0 to 1, 1 where its mask is full
    cheek: float  # metres by which the line on the cheeks is moved up
    curl: float  # metres, radius of its waves


def beard_density(beard: Beard, head: Head, points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """How dense a beard of this kind grows, 0 to 1, at points of the mean head."""
    if beard.name == "none":
        return np.zeros(len(points))
    x, y, z = points.T
    across = np.abs(x)
    lips = Path(head.landmarks(head.v_template[None], "478")[0, list(OUTER_LIPS), :2].numpy())
    on_lips = (
        lips.contains_points(points[:, :2], radius=0.0012) | lips.contains_points(points[:, :2], radius=-0.0012)
    ) & (z > 0.015)
    upper_lip = (
        smooth(z, 0.025, 0.035)
        * smooth(-across, -0.034, -0.029)
        * smooth(-y, 0.0305, 0.034)
        * smooth(y, -0.062, -0.057)
    )
    upper_lip *= 1 - 0.35 * smooth(-across, -0.004, -0.0015)  # sparser in the groove under the nose
    upper_lip *= smooth(-(y + 0.031 + 0.2 * across), 0.0, 0.003)
    moustache = upper_lip * (y > -0.0535 - 0.25 * np.maximum(across - 0.022, 0))
    under_lip = smooth(-y, 0.06, 0.068) * smooth(y, -0.112, -0.104)
    chin = under_lip * smooth(-across, -0.031, -0.024) * smooth(z, -0.02, 0.0)
    corners = (
        smooth(-np.abs(across - 0.03 - 0.1 * (-0.06 - y)), -0.0095, -0.002)
        * smooth(z, 0.02, 0.03)
        * smooth(-y, 0.047, 0.052)
        * smooth(y, -0.09, -0.08)
    )
    # The cheek's line falls from the sideburn to the corner of the mouth; the neck's runs under the jaw.
    line = np.interp(across, [0.02, 0.034, 0.05, 0.06, 0.07, 0.08], [-0.062, -0.05, -0.036, -0.022, 0.005, 0.03])
    cheek = smooth(line + beard.cheek - y, -0.001, 0.008)
    neckline = np.interp(z, [-0.045, -0.01, 0.03], [-0.062, -0.1, -0.112])
    jaw = smooth(y - neckline, 0.0, 0.008) * smooth(-around(points), -82, -77)
    sideburn = smooth(-np.abs(around(points) - 74), -8, -5) * smooth(-y, -0.02, -0.012)
    whole = np.maximum(jaw * cheek * (1 - smooth(-across, -0.028, -0.022) * (y > -0.064)), sideburn * jaw)
    kinds = {"moustache": (moustache,), "goatee": (moustache, chin, corners)}
    dense = np.max(kinds.get(beard.name, (moustache, chin, corners, whole)), axis=0)
    return beard.density * dense * ~on_lips


def grow_beard(beard: Beard, head: Head, vertices, skin: Skin, rng: np.random.Generator, strands: float):
    """Roots and samples [S, n, 3]."""
    allowed = np.nonzero(regions(head, "face", "neck"))[0]
    per_area, over_lip = (4.5e5, 0.2) if beard.name == "stubble" else (3.2e5, 1.0)

    def density(points):  # more over the lip, where hair is short but must cover
        lip = smooth(points[:, 1], -0.062, -0.058) * smooth(-np.abs(points[:, 0]), -0.036, -0.03)
        return beard_density(beard, head, points) * (1 + over_lip * lip * (points[:, 2] > 0.02))

    roots = scatter(head, vertices, density, allowed, per_area * strands, rng)
    x, y, z = roots.template.T
    n = len(x)
    across = np.abs(x)
    lip = (y > -0.056) & (across < 0.034) & (z > 0.02)
    chin = smooth(-y, 0.055, 0.085) * smooth(-across, -0.06, -0.02)
    long = beard.length * (0.3 + 0.7 * chin)
    long = np.where(lip, np.minimum(beard.length, 0.011), long)
    long = long * (0.4 + 0.6 * np.minimum(roots.density / beard.density, 1))
    long = (long * (1 - 0.35 * rng.beta(1.2, 2, n)) / STEPS).astype(np.float32)[:, None]
    sign = np.where(across > 0.001, np.sign(x), rng.choice([-1, 1], n))
    aim = np.stack([-0.25 * x / 0.06, -1 + 0 * x, 0.25 * smooth(z, -0.02, 0.03)], 1)
    aim[lip] = np.stack([sign * (0.35 + 18 * across), -0.8 + 0 * x, 0 * x], 1)[lip]
    aim = unit(unit(aim) + 0.3 * rng.standard_normal((n, 3))).astype(np.float32)
    d = unit(aim + 0.9 * roots.normal)
    path, p = [roots.point.astype(np.float32)], roots.point.astype(np.float32)
    for k in range(STEPS):
        p = p + long * d
        gap, normal = skin.distance(p, 0.006)
        keep = np.minimum(6e-4, 0.4 * long[:, 0] * (k + 1))
        p = p + (np.maximum(keep - gap, 0)[:, None] * normal).astype(np.float32)
        into = np.minimum((aim * normal).sum(1, keepdims=True), 0) * (gap < 0.004)[:, None]
        d = unit(d + np.minimum(long / 0.004, 0.5) * (unit(aim - into * normal) - d))
        path.append(p)
    turns = beard.length / 0.016 if beard.curl else 0
    m = int(np.clip(4 * turns, 4 if beard.name == "stubble" else 7, 16))
    samples = np.stack(path, 1)[:, np.rint(np.linspace(0, STEPS, m)).astype(int)]
    s = np.linspace(0, 1, m)[None, :, None]
    phase = 2 * np.pi * s * long[:, None] * STEPS / 0.016 + rng.uniform(0, 6, (n, 1, 1))
    wave = beard.curl * np.minimum(s * long[:, None] * STEPS / 0.008, 1)
    across_v = unit(np.cross(d, roots.normal))[:, None]
    samples = samples + wave * (np.sin(phase) * across_v + np.cos(phase) * np.cross(across_v, d[:, None]))
    return roots, samples.astype(np.float32)
