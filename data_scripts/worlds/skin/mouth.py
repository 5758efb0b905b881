"""Teeth, gums and tongue."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.atlas import Teeth
from data_scripts.worlds.skin.noise import Noise, octaves
from data_scripts.worlds.skin.places import step
from data_scripts.worlds.skin.sample import Skin

WHITE, YELLOW = np.array((0.70, 0.67, 0.60), np.float32), np.array((0.60, 0.49, 0.32), np.float32)
GAP = np.array((0.16, 0.10, 0.06), np.float32)
GUM, GUM_PIGMENT = np.array((0.46, 0.17, 0.15), np.float32), np.array((0.12, 0.05, 0.05), np.float32)
TONGUE, COATED = np.array((0.46, 0.17, 0.16), np.float32), np.array((0.52, 0.34, 0.31), np.float32)
ENAMEL_ROUGHNESS, GUM_ROUGHNESS, TONGUE_ROUGHNESS = 0.16, 0.28, 0.38
PAPILLAE = 1.2e-4  # metres


def paint_teeth(skin: Skin, teeth: Teeth, noise: Noise) -> tuple[Float[ndarray, "t 3"], Float[ndarray, " t"]]:
    """Colour and roughness of the texels of teeth and gums."""
    stain = np.clip(skin.teeth + 0.10 * octaves(noise, teeth.points, 0.006, skin.seed + 51, 2), 0, 1)[:, None]
    color = WHITE + stain * (YELLOW - WHITE)
    color += (0.75 * step(teeth.contact, 0.45, 1.0))[:, None] * (GAP - color)
    pigment = np.clip(0.28 * (skin.melanin - 0.7) + 0.3 * noise(teeth.points, 0.005, skin.seed + 52), 0, 0.7)
    pigment *= np.clip(skin.melanin, 0, 1)
    gum = GUM + pigment[:, None] * (GUM_PIGMENT - GUM)
    is_tooth = step(teeth.enamel, 0.35, 0.65)[:, None]
    color = gum + is_tooth * (color - gum)
    back = step(teeth.points[:, 2], 0.036, 0.016)  # molars see little light
    color *= (1 - 0.45 * back)[:, None]
    return color, GUM_ROUGHNESS + is_tooth[:, 0] * np.float32(ENAMEL_ROUGHNESS - GUM_ROUGHNESS)


def paint_tongue(
    skin: Skin, points: Float[ndarray, "n 3"], noise: Noise
) -> tuple[Float[ndarray, "n 3"], Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Colour, roughness and height, metres, of the tongue's texels at `points`."""
    grain = noise(points, 0.0011, skin.seed + 53)
    coat = np.clip(0.25 + 0.25 * octaves(noise, points, 0.008, skin.seed + 54, 2), 0, 0.8)
    coat *= step(np.abs(points[:, 0]), 0.016, 0.008)
    color = TONGUE + coat[:, None] * (COATED - TONGUE)
    color *= (1 + 0.08 * grain)[:, None]
    groove = np.exp(-((points[:, 0] / 0.0018) ** 2))
    color *= (1 - 0.2 * groove)[:, None] * (1 - 0.5 * step(points[:, 2], 0.022, -0.02))[:, None]
    height = np.float32(PAPILLAE) * grain - np.float32(8e-4) * groove
    return color, np.full(len(points), TONGUE_ROUGHNESS, np.float32), height
