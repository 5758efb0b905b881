"""Relief of the skin: wrinkles and folds that deepen with age, creases of lips and lids, pores.

A wrinkle is a line of constant `across` in its Fold, shifted and broken up by noise. Depths are of the mean head.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.noise import Noise, octaves
from data_scripts.worlds.skin.places import Places
from data_scripts.worlds.skin.sample import Skin
from data_scripts.worlds.traits import Family

NOISE_STEP = 104_729  # seeds of the different patterns of one person
FEW = 5  # lines of one kind that are looked at one by one
NARROW = 0.0011  # metres: wider grooves get more light and so darken less


@dataclass(frozen=True)
class Kind:
    """One kind of wrinkle. Metres."""

    first: float  # `across` of the first line
    spacing: float
    count: int
    width: float
    depth: float  # at full strength
    always: float  # strength at any age; age brings the rest up to 1
    warp: float = 0.001  # how far lines wander
    bulge: float = 0.0  # height of the roll of skin beside the line
    side: float = 0.005  # where that roll lies: `across` from the line
    broken: float = 0.45  # how unevenly deep the lines are along their way, as a share


KINDS = {
    "forehead": Kind(0.003, 0.0075, 4, 0.0012, 3.4e-4, 0.05, warp=0.0011, bulge=2.2e-4, side=0.0037),
    "frown": Kind(0.001, 0.0, 1, 0.0014, 4.0e-4, 0.05, warp=0.0016, bulge=1.6e-4, side=-0.003),
    "bridge": Kind(-0.001, 0.0045, 2, 0.0009, 2.0e-4, 0.0),
    "crow": Kind(-0.0085, 0.0040, 5, 0.0008, 3.4e-4, 0.03, warp=0.0009),
    "under_eye": Kind(0.0055, 0.0042, 2, 0.0010, 2.6e-4, 0.20, warp=0.0009, bulge=6.0e-4, side=-0.003),
    "lid": Kind(0.0062, 0.0024, 2, 0.0006, 2.4e-4, 0.40, warp=0.0004),
    "nasolabial": Kind(0.0, 0.0, 1, 0.0024, 7.5e-4, 0.12, warp=0.0009, bulge=1.7e-3, side=0.0065, broken=0.1),
    "marionette": Kind(0.0, 0.0, 1, 0.0020, 4.0e-4, 0.03, warp=0.0009, bulge=5.0e-4, side=0.005, broken=0.15),
    "perioral": Kind(-0.021, 0.0042, 11, 0.0008, 1.6e-4, 0.0, warp=0.0012),
    "lip": Kind(-0.024, 0.0017, 29, 0.0005, 9.0e-5, 0.55, warp=0.0006),
    "neck": Kind(-0.008, 0.0130, 2, 0.0019, 4.0e-4, 0.12, warp=0.002),
}
# How a wrinkle falls off sideways (argument in widths): soft, sharp, broad.
PROFILES: dict[Family, Callable] = {
    "a": lambda t: np.exp(-(t**2)),
    "b": lambda t: np.exp(-1.3 * np.abs(t)),
    "c": lambda t: 1 / (1 + t**2) ** 2,
}


@dataclass(frozen=True)
class Relief:
    height: Float[ndarray, " S"]  # metres
    crease: Float[ndarray, " S"]  # 0..1, how deep in a wrinkle: what darkens and reddens it


def paint_relief(skin: Skin, places: Places, noise: Noise) -> Relief:
    """Wrinkles, pores and fine lines of the skin texels."""
    height, crease = (np.zeros(len(places.points), np.float32) for _ in range(2))
    rng = np.random.default_rng((skin.seed, 1))
    for number, (name, kind) in enumerate(KINDS.items()):
        fold = places.folds[name]
        strength = kind.always + (1 - kind.always) * skin.wrinkles**1.3
        strength *= np.exp(rng.uniform(-0.45, 0.35))
        shift = rng.uniform(-0.3, 0.3, kind.count) * kind.spacing
        amount = strength * (rng.beta(1.2, 1.0, kind.count) if kind.count > 2 else rng.uniform(0.7, 1.0, kind.count))
        points, seed = places.points[fold.rows], skin.seed + NOISE_STEP * number
        wander = np.float32(kind.warp) * noise(points, 0.016, seed)  # shared by neighbouring lines ...
        broken = fold.mask * np.clip(1 - 0.5 * kind.broken + kind.broken * noise(points, 0.013, seed + 1), 0.05, 1.3)
        deep, up = (np.zeros(len(points), np.float32) for _ in range(2))
        for n in range(kind.count):
            offset = fold.across + wander - np.float32(kind.first + n * kind.spacing + shift[n])
            share = np.float32(amount[n])
            if 1 < kind.count <= FEW:  # ... but each of a few long lines ends where it likes
                share = share * np.clip(0.7 + 0.5 * noise(points, 0.020, seed + 2 + n), 0, 1.2)
            groove = PROFILES[skin.family](offset / np.float32(kind.width))
            shoulder = np.exp(-((offset / np.float32(2.4 * kind.width)) ** 2))  # skin pushed up on either side
            deep += share * np.float32(min(1, NARROW / kind.width)) * groove
            up += share * np.float32(kind.depth) * (0.3 * shoulder - groove)
            if kind.bulge:
                roll = np.exp(-(((offset - np.float32(kind.side)) / np.float32(0.8 * kind.side)) ** 2))
                up += share * np.float32(kind.bulge) * roll
        height[fold.rows] += broken * up
        crease[fold.rows] = np.maximum(crease[fold.rows], broken * deep)
    return Relief(height + _grain(skin, places, noise), np.clip(crease, 0, 1))


def _grain(skin: Skin, places: Places, noise: Noise) -> Float[ndarray, " S"]:
    """Pores, coarsest on nose and cheeks, and the fine crumple of old skin."""
    blobs = places.blobs
    coarse = 0.35 + 0.65 * np.minimum(blobs["nose"] + blobs["cheek_front"] + blobs["forehead"] + blobs["chin"], 1)
    smooth = (1 - places.mouth) * (1 - 0.6 * (places.lip > 0))
    pores = np.clip(noise(places.points, 0.0007, skin.seed + 11), -2.2, 0.6)  # pits rather than bumps
    height = np.float32(skin.pores) * coarse * smooth * pores
    if skin.wrinkles > 0.15:
        crumple = -np.abs(octaves(noise, places.points, 0.0026, skin.seed + 12, 2))
        height += np.float32(7e-5 * skin.wrinkles) * (1 - blobs["nose"]) * smooth * crumple
    return height.astype(np.float32)
