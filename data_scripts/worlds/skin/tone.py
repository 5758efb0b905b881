"""Colour of bare skin: light that comes back through melanin, haemoglobin and carotene, in linear RGB.

What comes back is SURFACE + DEEP exp(-(melanin e_m + blood e_b + carotene e_c)): the first term never meets a
pigment, which keeps the darkest skin from turning orange; absorption rises from red to blue for melanin and peaks in
green for blood.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.noise import Noise, cellular, gradient, octaves, speckles, waves
from data_scripts.worlds.skin.places import Places, step
from data_scripts.worlds.skin.relief import Relief
from data_scripts.worlds.skin.sample import RGB, Skin
from data_scripts.worlds.traits import Family


@dataclass(frozen=True)
class Palette:
    """How a family's skin turns pigment into colour, and the sizes of its blotches."""

    noise: Noise
    surface: RGB  # reflected before any pigment
    deep: RGB  # reflected by skin without pigment
    melanin: RGB  # absorption per unit
    blood: RGB
    carotene: RGB
    blotch: float  # metres
    layers: int  # octaves of the blotches


PALETTES: dict[Family, Palette] = {
    "a": Palette(gradient, (0.031, 0.021, 0.014), (0.74, 0.66, 0.52), (1.0, 1.40, 1.75), (0.16, 0.85, 0.62),
                 (0.02, 0.15, 0.9), blotch=0.016, layers=3),
    "b": Palette(cellular, (0.036, 0.024, 0.015), (0.76, 0.63, 0.46), (0.92, 1.32, 1.72), (0.10, 0.80, 0.66),
                 (0.02, 0.12, 0.9), blotch=0.011, layers=2),
    "c": Palette(waves, (0.028, 0.021, 0.016), (0.74, 0.65, 0.52), (1.05, 1.42, 1.66), (0.20, 0.86, 0.56),
                 (0.03, 0.18, 0.8), blotch=0.022, layers=2),
}  # fmt: skip
MOLE_RADIUS = (0.0006, 0.0016)  # metres


def paint_tone(skin: Skin, places: Places, relief: Relief) -> tuple[Float[ndarray, "S 3"], Float[ndarray, " S"]]:
    """Colour of the skin texels, cavities, lids and lips included, and the height that moles add, metres."""
    palette, points, blobs = PALETTES[skin.family], places.points, places.blobs
    bare = np.float32(1 - 0.8 * skin.makeup.foundation)  # how much of any unevenness make-up leaves

    def blotches(size: float, layers: int, seed: int) -> Float[ndarray, " S"]:
        return octaves(palette.noise, points, size, skin.seed + seed, layers)

    mottle = np.float32(skin.mottle) * bare
    sun = 0.5 * blobs["forehead"] + 0.6 * blobs["nose"] + 0.45 * blobs["cheek"] - 0.25 * places.neck
    melanin = np.float32(skin.melanin) * (1 + mottle * 0.045 * blotches(palette.blotch, palette.layers, 21))
    melanin += np.float32(0.06 + 0.35 * skin.melanin) * np.float32(skin.tan) * sun
    red = 0.40 * blobs["cheek"] + 0.45 * blobs["nose"] + 0.35 * blobs["nose_wing"] + 0.5 * places.ears
    red = red + 0.25 * blobs["chin"] + 0.12 * blobs["brow_ridge"]
    patchy = blotches(0.5 * palette.blotch, palette.layers, 22)
    blood = np.float32(skin.blood) * (1 + mottle * 0.13 * patchy)
    blood += np.float32(skin.flush) * (0.4 + 0.6 * bare) * red * np.clip(1 + 0.35 * mottle * patchy, 0.2, 2)

    _lids(skin, places, melanin, blood, bare)
    crease = relief.crease * (places.lip < 0)
    melanin += (0.05 + 0.18 * np.float32(skin.melanin)) * crease
    blood += 0.18 * crease
    melanin += bare * _spots(skin, places)
    moles, bump = _moles(skin, places)
    melanin += moles
    lip = _lips(skin, places, relief, melanin, blood)
    inside = np.maximum(places.mouth, 0.8 * places.socket)  # mucous membrane: much blood, little pigment
    melanin *= 1 - 0.75 * inside
    blood += (0.75 - 0.3 * lip) * inside
    color = reflect(palette, melanin, blood, skin.carotene * (1 - inside))
    depth = step(points[:, 2], 0.036, 0.010) * places.mouth
    return color * (1 - 0.55 * depth)[:, None], bump


def reflect(palette: Palette, melanin, blood, carotene) -> Float[ndarray, "S 3"]:
    """Linear RGB of skin with these optical depths, [S] each."""
    color = np.empty((len(melanin), 3), np.float32)
    for c in range(3):
        depth = np.float32(palette.melanin[c]) * melanin + np.float32(palette.blood[c]) * blood
        depth += np.float32(palette.carotene[c]) * carotene
        color[:, c] = np.float32(palette.surface[c]) + np.float32(palette.deep[c]) * np.exp(-depth)
    return color


def _lids(skin: Skin, places: Places, melanin, blood, bare) -> None:
    """Darker upper lids, circles under the eyes, pink rims. In place."""
    upper = step(places.lid, 0.012, 0.004) * step(places.lid_up, -0.001, 0.003)
    melanin += (0.05 + 0.10 * np.float32(skin.melanin)) * upper
    blood += 0.14 * upper
    under = places.blobs["under_eye"] * step(places.lid_up, 0.0, -0.004) * bare
    melanin += np.float32(skin.circles) * (0.07 + 0.20 * np.float32(skin.melanin)) * under
    blood += 0.22 * np.float32(skin.circles) * under
    rim = step(places.lid, 0.0016, 0.0004)
    melanin *= 1 - 0.3 * rim
    blood += 0.35 * rim + 0.25 * step(places.lid, 0.006, 0.001) * step(places.lid_out, 0.16, 0.0)


def _lips(skin: Skin, places: Places, relief: Relief, melanin, blood) -> Float[ndarray, " S"]:
    """Red of the lips, with a wandering border and darker creases. In place; returns how much each texel is lip."""
    near = np.flatnonzero(places.lip > -0.006)
    points, depth = places.points[near], places.lip[near]
    wander = np.float32(4e-4) * octaves(PALETTES[skin.family].noise, points, 0.003, skin.seed + 23, 2)
    lip = step(depth + wander, -0.0007, 0.0013)
    wet = step(np.abs(places.lip_up[near]), 0.004, 0.0)  # redder towards the line where they meet
    upper = step(places.lip_up[near], -0.001, 0.001)
    pigment = np.float32(skin.lip_pigment) * (0.9 + 0.25 * upper) - 0.25 * wet
    roll = np.exp(-(((depth + 0.0016) / 0.0011) ** 2)) * (1 - lip)  # the paler rim just outside
    melanin[near] *= 1 - lip * (1 - pigment) - 0.10 * roll
    melanin[near] += lip * (0.06 + 0.12 * relief.crease[near])
    red = np.float32(0.72 * skin.lip_blood) * (0.85 + 0.3 * wet + 0.2 * relief.crease[near])
    blood[near] += lip * red - 0.05 * roll
    everywhere = np.zeros(len(places.lip), np.float32)
    everywhere[near] = lip
    return everywhere


def _spots(skin: Skin, places: Places) -> Float[ndarray, " S"]:
    """Melanin of freckles, on nose and cheeks most, and of age spots."""
    total = np.zeros(len(places.lip), np.float32)
    outside = (places.lip < -0.001) & (places.lid > 0.003) & (places.mouth + places.socket == 0)
    if skin.freckles:
        b = places.blobs
        where = np.minimum(b["nose"] + b["cheek"] + b["cheek_front"] + 0.35 * b["forehead"] + 0.3 * b["chin"], 1)
        rows = np.flatnonzero(outside & (where > 0.03))
        for cell, weight in ((0.0024, 1.0), (0.0042, 0.8)):
            dot = speckles(places.points[rows], cell, skin.seed + round(1e4 * cell), reach=0.5)
            total[rows] += np.float32(0.45 * weight * skin.freckles) * where[rows] * step(dot, 0.1, 0.7)
    if skin.age_spots:
        sunned = np.minimum(places.blobs["forehead"] + places.blobs["cheek"] + 0.25, 1)
        rows = np.flatnonzero(outside & (places.ears < 0.5))
        dot = speckles(places.points[rows], 0.012, skin.seed + 24, reach=0.40)
        ragged = dot + 0.07 * PALETTES[skin.family].noise(places.points[rows], 0.0025, skin.seed + 25)
        total[rows] += np.float32(0.35 * skin.age_spots) * sunned[rows] * step(ragged, 0.10, 0.75)
    return total * np.float32(1 / (1 + 0.8 * skin.melanin))


def _moles(skin: Skin, places: Places) -> tuple[Float[ndarray, " S"], Float[ndarray, " S"]]:
    """Melanin and height, metres, of a few dark dots."""
    rng = np.random.default_rng((skin.seed, 2))
    melanin, height = (np.zeros(len(places.lip), np.float32) for _ in range(2))
    for centre in places.spots[rng.choice(len(places.spots), min(skin.moles, len(places.spots)), replace=False)]:
        radius = np.float32(rng.uniform(*MOLE_RADIUS) * rng.uniform(0.6, 1.0))
        dark, raised = np.float32(rng.uniform(0.5, 1.6)), np.float32(rng.choice([0.0, 0.35]) * radius)
        near = np.flatnonzero(np.abs(places.points[:, 1] - centre[1]) < 2 * radius)
        fall = np.exp(-((((places.points[near] - centre) ** 2).sum(1) / radius**2) ** 1.5))
        melanin[near] = np.maximum(melanin[near], dark * fall)
        height[near] = np.maximum(height[near], raised * fall)
    return melanin, height
