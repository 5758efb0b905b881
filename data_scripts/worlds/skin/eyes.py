"""Eyeballs: pupil, iris with fibres and a dark rim, and a white that reddens and dims towards the corners."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.atlas import IRIS_RADIUS, Eyeballs
from data_scripts.worlds.skin.noise import Noise, octaves
from data_scripts.worlds.skin.places import step
from data_scripts.worlds.skin.sample import Skin

LIMBUS = 0.0007  # metres over which the iris turns into white
PUPIL = np.array((0.004, 0.004, 0.004), np.float32)
WHITE, YELLOWED = np.array((0.60, 0.575, 0.55), np.float32), np.array((0.54, 0.46, 0.35), np.float32)
VEIN = np.array((0.55, 0.16, 0.12), np.float32)
WET = 0.07  # roughness


def paint_eyes(skin: Skin, eyes: Eyeballs, noise: Noise) -> tuple[Float[ndarray, "e 3"], Float[ndarray, " e"]]:
    """Colour and roughness of the eyeballs' texels."""
    sine = np.hypot(eyes.direction[:, 0], eyes.direction[:, 1])
    distance = np.where(eyes.direction[:, 2] > 0, sine, 2.0) * np.float32(eyes.radius)  # from the gaze axis, metres
    color = _white(skin, eyes, noise)
    front = np.flatnonzero(distance < 1.3 * IRIS_RADIUS)
    r = (distance[front] / np.float32(IRIS_RADIUS)).astype(np.float32)
    texel = eyes.texel / IRIS_RADIUS
    edge = max(0.5 * LIMBUS / IRIS_RADIUS, 0.7 * texel)
    inside = step(r, 1 + edge, 1 - edge)[:, None]
    color[front] += inside * (_iris(skin, eyes.direction[front], r, texel, noise) - color[front])
    return color, np.full(len(color), WET, np.float32)


def _iris(skin: Skin, direction, r, texel: float, noise: Noise) -> Float[ndarray, "n 3"]:
    """r: distance from the centre, 1 at the iris's edge; `texel` in that unit."""
    spoke = direction[:, :2] / np.maximum(np.hypot(direction[:, 0], direction[:, 1])[:, None], 1e-6)
    at = np.concatenate([spoke, 0.16 * r[:, None]], axis=1).astype(np.float32)
    # Fibres run outwards: their noise changes little with r. One pattern does for both eyes of a person.
    fibres = octaves(noise, at, 0.10, skin.seed + 41, 3)
    crypts = noise(at * np.array([1, 1, 4], np.float32), 0.35, skin.seed + 42)
    pupil = np.float32(skin.pupil / IRIS_RADIUS)
    collar = step(r + 0.05 * fibres + 0.04 * crypts, pupil + 0.34, pupil + 0.16)[:, None]
    outer, inner = np.array(skin.iris_outer, np.float32), np.array(skin.iris_inner, np.float32)
    color = outer + collar * (inner - outer)
    color *= np.clip(1 + 0.28 * fibres + 0.15 * crypts, 0.35, 2.0)[:, None]
    color *= (1 - 0.65 * step(r, 0.80, 1.0))[:, None]  # the dark rim
    color *= (1 - 0.35 * step(r, pupil + 0.10, pupil))[:, None]
    soft = max(0.03, 0.7 * texel)  # no edge is sharper than the chart can show
    return color + step(r, pupil + soft, pupil - soft)[:, None] * (PUPIL - color)


def _white(skin: Skin, eyes: Eyeballs, noise: Noise) -> Float[ndarray, "e 3"]:
    sideways = np.abs(np.arctan2(eyes.direction[:, 0], np.maximum(eyes.direction[:, 2], 1e-3)))
    corner = step(sideways, 0.45, 1.05)
    color = np.tile(WHITE + np.float32(skin.sclera) * (YELLOWED - WHITE), (len(corner), 1))
    points = eyes.direction * np.float32(eyes.radius)
    # Veins are where a noise passes through 0, stretched from the corner towards the iris.
    squeezed = points * np.array([0.35, 1, 1], np.float32)
    ridge = np.exp(-((octaves(noise, squeezed, 0.0026, skin.seed + 43, 2) / 0.16) ** 2))
    patchy = np.clip(0.6 + 0.6 * noise(points, 0.005, skin.seed + 44), 0, 1)
    red = np.float32(skin.veins) * (0.12 * corner + (0.06 + 0.30 * corner) * ridge * patchy)
    color += red[:, None] * (VEIN - color)
    lidded = step(np.abs(eyes.direction[:, 1]), 0.20, 0.55)
    return color * (1 - 0.30 * corner)[:, None] * (1 - 0.25 * lidded)[:, None]
