"""What lies over bare skin: the shadow of shaved hair, the tint under brows, and make-up."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.noise import Noise, speckles
from data_scripts.worlds.skin.places import Places, step
from data_scripts.worlds.skin.sample import Skin

HAIR_CELL = 0.0011  # metres between shaved hairs
ROOT_DEPTH = 0.55  # hair under the surface shows at most this much of its colour
BLUSH = np.array((0.50, 0.09, 0.10), np.float32)
LINER = np.array((0.010, 0.008, 0.008), np.float32)


def paint_hair_shadow(skin: Skin, places: Places, noise: Noise, color: Float[ndarray, "S 3"]) -> None:
    """Shaved beard, scalp and brow tint over `color`, in place."""
    patchy = np.clip(1 + 0.2 * noise(places.points, 0.014, skin.seed + 31), 0.4, 1.4)
    edge = places.hairline + np.float32(0.0025) * noise(places.points, 0.005, skin.seed + 32)
    scalp = np.float32(skin.scalp) * step(edge, -0.006, 0.013) * (1 - places.ears) * step(places.neck, 1.0, 0.5)
    beard = np.float32(skin.stubble) * places.beard * patchy * step(places.lip, 0.0, -0.003)
    amount = np.maximum(np.maximum(beard, scalp), np.float32(skin.brow) * places.brow)
    rows = np.flatnonzero(amount > 0.01)
    dots = step(speckles(places.points[rows], HAIR_CELL, skin.seed + 33, reach=0.6), 0.05, 0.5)
    share = np.float32(ROOT_DEPTH) * amount[rows] * (0.6 + 0.4 * dots)
    # Through the skin the hair looks a little bluish: a dark layer under a turbid one.
    root = 0.6 * np.array(skin.hair_color, np.float32) + 0.28 * color[rows] * np.array((0.80, 0.95, 1.05), np.float32)
    root = np.minimum(root, 0.85 * color[rows])  # grey roots do not brighten dark skin
    color[rows] += share[:, None] * (root - color[rows])


def paint_makeup(skin: Skin, places: Places, noise: Noise, color: Float[ndarray, "S 3"]) -> Float[ndarray, " S"]:
    """Blush, eye shadow, liner and lipstick over `color`, in place; returns how much each texel's shine changes."""
    worn = skin.makeup
    uneven = np.clip(0.9 + 0.12 * noise(places.points, 0.004, skin.seed + 34), 0.5, 1.1)
    shine = np.float32(0.10 * worn.foundation) * step(places.lip, 0.0, -0.002)  # roughness added by powder

    def lay(pigment, share):
        color[:] += (share * uneven)[:, None] * (np.asarray(pigment, np.float32) - color)

    if worn.blush:
        lay(BLUSH * (0.35 + color.mean()), 0.25 * np.float32(worn.blush) * places.blobs["cheek"])
    if worn.shadow:
        upper = step(places.lid_up, -0.0005, 0.002) * step(places.lid, 0.0130, 0.005) * (places.socket < 0.5)
        lay(worn.shadow_color, 0.6 * np.float32(worn.shadow) * upper * step(places.brow, 0.5, 0.1))
    if worn.liner:
        reach = 0.0008 + 0.0012 * np.clip(places.lid_out, 0, 1.1)  # thicker outwards
        line = step(places.lid / reach, 1.3, 0.7)
        side = step(places.lid_up, -0.001, 0.0008) + 0.35 * step(places.lid_up, 0.0008, -0.001)
        lay(LINER, np.float32(worn.liner) * line * side * (places.socket < 0.5))
    lip = step(places.lip, -0.0003, 0.0008) * (1 - places.mouth)
    if worn.lipstick:
        lay(worn.lipstick_color, 0.85 * np.float32(worn.lipstick) * lip)
    return shine - np.float32(0.16 * worn.gloss) * lip
